//! Edge [last-put]: `Page::put` of each holder -> `Page::put` of the last: every holder's use of the folio.
//!
//! Shape: two or three holders put; a put against a `try_get`, and with a clone in between. Between the subtraction and the
//! store that ends the life, the folio is live, without a reference.
//! Cost: 4 to 253 executions unbounded; 10 to 301 at bound 2.
//! Teeth: fails with the Release of `put` made Relaxed, without the Acquire of the load after it, and when `try_get` takes a
//! reference of a count of 0.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use farpage::model::Page;
use farpage_loom_tests::{Witness, bounded, unbounded};
use loom::{sync::Arc, thread};

#[derive(Default)]
struct Folio {
    page: Option<Page>,
    witness: Witness,
    /// Not seen by loom, so that it orders nothing.
    frees: AtomicU32,
}

impl Folio {
    fn new(holders: u32) -> Arc<Folio> {
        let page = Page::new();
        page.init(0);
        (1..holders).for_each(|_| page.get());
        Arc::new(Folio { page: Some(page), ..Folio::default() })
    }

    fn page(&self) -> &Page {
        self.page.as_ref().unwrap()
    }

    fn put(&self) {
        if self.page().put() {
            self.witness.write(9);
            self.frees.fetch_add(1, Relaxed);
        }
    }

    fn use_and_put(&self) {
        assert_eq!(self.witness.read(), 0);
        self.put();
    }

    fn assert_freed_once(&self) {
        assert_eq!(self.frees.load(Relaxed), 1);
        let state = self.page().state();
        assert_eq!((state.live, state.refs, state.maps), (false, 0, 0));
    }
}

#[test]
fn the_last_of_two_frees_alone() {
    unbounded("last_put: two", || {
        let folio = Folio::new(2);
        let other = folio.clone();
        let other = thread::spawn(move || other.use_and_put());
        folio.use_and_put();
        other.join().unwrap();
        folio.assert_freed_once();
    });
}

#[test]
fn the_last_of_three_frees_alone() {
    unbounded("last_put: three", || {
        let folio = Folio::new(3);
        let others = [folio.clone(), folio.clone()].map(|folio| thread::spawn(move || folio.use_and_put()));
        folio.use_and_put();
        others.into_iter().for_each(|other| other.join().unwrap());
        folio.assert_freed_once();
    });
}

/// Either the reference is refused, or the folio stays until it is put.
#[test]
fn a_reference_that_was_got_holds_the_folio() {
    unbounded("last_put: try_get", || {
        let folio = Folio::new(1);
        let life = folio.page().state().generation;
        let other = folio.clone();
        let other = thread::spawn(move || {
            if other.page().try_get(life).is_some() {
                other.use_and_put();
            }
        });
        folio.use_and_put();
        other.join().unwrap();
        folio.assert_freed_once();
    });
}

/// The same with a holder that clones, so that the count goes up, down and to zero in any order.
#[test]
fn a_clone_keeps_the_folio_over_the_first_put() {
    bounded("last_put: clone", || {
        let folio = Folio::new(1);
        let life = folio.page().state().generation;
        let speculative = folio.clone();
        let speculative = thread::spawn(move || {
            if speculative.page().try_get(life).is_some() {
                speculative.use_and_put();
            }
        });
        folio.page().get();
        let clone = folio.clone();
        let clone = thread::spawn(move || clone.use_and_put());
        folio.use_and_put();
        clone.join().unwrap();
        speculative.join().unwrap();
        folio.assert_freed_once();
    });
}

/// One puts, while the other takes one more and puts both.
#[test]
fn a_put_beside_a_clone_and_its_puts() {
    bounded("last_put: put beside clone", || {
        let folio = Folio::new(2);
        let other = folio.clone();
        let other = thread::spawn(move || other.use_and_put());
        folio.page().get();
        folio.use_and_put();
        folio.use_and_put();
        other.join().unwrap();
        folio.assert_freed_once();
    });
}

/// For a moment the folio is live, without a reference.
#[test]
fn a_folio_without_references_is_not_got_again() {
    bounded("last_put: try_get of none", || {
        let folio = Folio::new(2);
        let life = folio.page().state().generation;
        let others = [folio.clone(), folio.clone()].map(|folio| thread::spawn(move || folio.use_and_put()));
        if folio.page().try_get(life).is_some() {
            folio.use_and_put();
        }
        others.into_iter().for_each(|other| other.join().unwrap());
        folio.assert_freed_once();
    });
}
