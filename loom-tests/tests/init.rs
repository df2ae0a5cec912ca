//! Edge [init]: `Page::init` -> `Page::state`, `Page::try_get`: the fields of a new life, and whatever its first owner
//! did before.
//!
//! Shape: one initialises (the last also puts), one looks or tries to get.
//! Cost: 11, 11 and 248 executions, unbounded.
//! Teeth: fails with the Release of `init` or the Acquire of `state` or `try_get` made Relaxed, and when `try_get` does
//! not compare the generation.

use farpage::model::Page;
use farpage_loom_tests::{Witness, unbounded};
use loom::{sync::Arc, thread};

/// A page after its first life, in which its private word was 7, and the generation that its next one will have.
fn page_about_to_live_again() -> (Page, u64) {
    let (page, twin) = (Page::new(), Page::new());
    for page in [&page, &twin] {
        page.init(0);
        page.set_private(7);
        assert!(page.put());
    }
    (page, twin.init(1).generation)
}

#[test]
fn whoever_sees_the_new_life_sees_its_fields() {
    unbounded("init: state", || {
        let (page, life) = page_about_to_live_again();
        let shared = Arc::new((page, Witness::new(0)));
        let owner = shared.clone();
        let owner = thread::spawn(move || {
            let (page, witness) = &*owner;
            witness.write(1);
            page.init(1);
        });
        let (page, witness) = &*shared;
        let state = page.state();
        if state.live {
            assert_eq!((state.generation, state.order, state.refs, state.maps), (life, 1, 1, 0));
            assert_eq!((page.private(), witness.read()), (0, 1));
        }
        owner.join().unwrap();
    });
}

/// The reader has the bits of the life to come, as from a leaf that travelled ahead of the data.
#[test]
fn a_speculative_try_get_sees_the_new_lifes_fields() {
    unbounded("init: try_get", || {
        let (page, life) = page_about_to_live_again();
        let shared = Arc::new((page, Witness::new(0)));
        let owner = shared.clone();
        let owner = thread::spawn(move || {
            let (page, witness) = &*owner;
            witness.write(1);
            page.init(1);
        });
        let (page, witness) = &*shared;
        if let Some(state) = page.try_get(life) {
            assert_eq!((state.generation, state.order, state.refs), (life, 1, 2));
            assert_eq!((page.private(), witness.read()), (0, 1));
            assert!(!page.put());
        }
        owner.join().unwrap();
        assert_eq!(page.state().refs, 1);
    });
}

/// The last put, and another life at the same place, while a reader still has the name of the old one.
#[test]
fn a_reader_with_the_old_generation_never_gets_the_new_life() {
    unbounded("init: old generation", || {
        let page = Arc::new(Page::new());
        let old = page.init(0);
        let owner = page.clone();
        let owner = thread::spawn(move || {
            if owner.put() {
                owner.init(1);
            }
        });
        if let Some(state) = page.try_get(old.generation) {
            assert_eq!((state.generation, state.order), (old.generation, 0));
            if page.put() {
                page.init(1);
            }
        }
        owner.join().unwrap();
        let state = page.state();
        assert_ne!(state.generation, old.generation);
        assert_eq!((state.live, state.order, state.refs), (true, 1, 1));
    });
}
