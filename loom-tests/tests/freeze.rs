//! Edge [freeze]: `Page::unfreeze` -> `Page::try_get`, `unmap`: what was done to a folio while it was frozen. In the other
//! direction, [last-put]: `Page::put` -> `Page::try_freeze`.
//!
//! Shape: one freezes, works alone and unfreezes; another gets and puts, puts a handle of its own, takes or unmaps a leaf, or
//! freezes as well. Counts are conserved, and the folio is freed once.
//! Cost: 44 to 646 executions, unbounded.
//! Teeth: fails with the Release of `unfreeze` or the Acquire of `try_freeze` taken away, of a `take` too, when a frozen
//! folio can be got, taken or unmapped, when it can be frozen twice, and with a store for the exchange.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use farpage::model::Page;
use farpage_loom_tests::{Witness, unbounded};
use loom::{sync::Arc, thread};

struct Shared {
    page: Page,
    witness: Witness,
    /// Not seen by loom, so that it orders nothing.
    frees: AtomicU32,
}

impl Shared {
    fn new(refs: u32) -> Arc<Shared> {
        let page = Page::new();
        page.init(0);
        (1..refs).for_each(|_| page.get());
        Arc::new(Shared { page, witness: Witness::new(0), frees: AtomicU32::new(0) })
    }

    /// Whatever the holder did, it has done.
    fn use_and_put(&self) {
        self.witness.read();
        if self.page.put() {
            self.witness.write(9);
            self.frees.fetch_add(1, Relaxed);
        }
    }

    /// Nobody else has a reference that could be used.
    fn work_alone_and_unfreeze(&self) {
        self.witness.write(self.witness.read() + 1);
        self.page.unfreeze();
    }

    fn assert_freed_once(&self) {
        let life = self.page.state();
        assert_eq!((self.frees.load(Relaxed), life.live, life.refs, life.maps, life.frozen), (1, false, 0, 0, false));
    }
}

fn spawn<T: 'static>(shared: &Arc<Shared>, work: impl FnOnce(&Shared) -> T + 'static) -> thread::JoinHandle<T> {
    let shared = shared.clone();
    thread::spawn(move || work(&shared))
}

#[test]
fn nobody_gets_a_frozen_folio() {
    unbounded("freeze: try_get", || {
        let shared = Shared::new(1);
        let life = shared.page.state().generation;
        let other = spawn(&shared, move |shared| {
            if shared.page.try_get(life).is_some() {
                shared.use_and_put();
            }
        });
        match shared.page.try_freeze(1) {
            Ok(before) => {
                assert_eq!((before.refs, before.frozen), (1, false));
                shared.work_alone_and_unfreeze();
            }
            Err(now) => assert_eq!((now.refs, now.frozen), (2, false)),
        }
        shared.use_and_put();
        other.join().unwrap();
        shared.assert_freed_once();
    });
}

/// The other's handle is expected: its put is counted on, before, while or after the folio is frozen.
#[test]
fn a_put_of_a_frozen_folio_is_counted() {
    unbounded("freeze: put", || {
        let shared = Shared::new(2);
        let other = spawn(&shared, Shared::use_and_put);
        match shared.page.try_freeze(2) {
            Ok(before) => {
                assert_eq!(before.refs, 2);
                let now = shared.page.state();
                assert!(now.frozen && now.live && (1..=2).contains(&now.refs), "{now:?}");
                shared.page.unfreeze();
            }
            Err(now) => {
                assert_eq!((now.refs, now.frozen), (1, false));
                assert!(shared.page.try_freeze(1).is_ok(), "it was the last other reference");
                shared.work_alone_and_unfreeze();
            }
        }
        shared.use_and_put();
        other.join().unwrap();
        shared.assert_freed_once();
    });
}

/// The other clones its handle and puts both.
#[test]
fn a_clone_of_a_frozen_folio_is_counted() {
    unbounded("freeze: clone", || {
        let shared = Shared::new(2);
        let other = spawn(&shared, |shared| {
            shared.page.get();
            shared.use_and_put();
            shared.use_and_put();
        });
        for expected in [3, 2, 1] {
            if shared.page.try_freeze(expected).is_ok() {
                if expected == 1 {
                    shared.work_alone_and_unfreeze();
                } else {
                    shared.page.unfreeze();
                }
                break;
            }
        }
        shared.use_and_put();
        other.join().unwrap();
        shared.assert_freed_once();
    });
}

/// A leaf's reference becomes a handle before the folio is frozen, which the maps then tell, or not at all.
#[test]
fn a_leaf_of_a_frozen_folio_is_not_taken() {
    unbounded("freeze: take", || {
        let shared = Shared::new(1);
        let life = shared.page.state().generation;
        assert!(shared.page.get_mapped());
        let other = spawn(&shared, move |shared| {
            let taken = shared.page.unmap(life);
            match taken {
                Ok(_) => shared.use_and_put(),
                Err(now) => assert!(now.frozen && now.maps == 1, "{now:?}"),
            }
            taken.is_ok()
        });
        if let Ok(before) = shared.page.try_freeze(2) {
            // All other references are of leaves, and stay so; or somebody has made a handle of one.
            if before.maps == 1 {
                shared.work_alone_and_unfreeze();
            } else {
                shared.page.unfreeze();
            }
        }
        let taken = other.join().unwrap();
        if !taken {
            assert!(shared.page.unmap(life).is_ok(), "it is still there");
            shared.use_and_put();
        }
        shared.use_and_put();
        shared.assert_freed_once();
    });
}

#[test]
fn a_leaf_of_a_frozen_folio_is_not_unmapped() {
    unbounded("freeze: unmap", || {
        // Of a table of its own, as `unmap_and_put` may have to wake somebody.
        let waits = Box::into_raw(Box::new(farpage::model::Waits::new()));
        // SAFETY: Freed below, behind the folio.
        let folio = Arc::new(unsafe { &*waits }.folio(0, 1));
        let witness = Arc::new(Witness::new(0));
        let life = folio.state().generation;
        assert!(folio.get_mapped());
        let (leaf, seen) = (folio.clone(), witness.clone());
        let other = thread::spawn(move || {
            seen.read();
            match leaf.unmap_and_put(life) {
                Ok(last) => assert!(!last),
                Err(now) => assert!(now.frozen && now.maps == 1, "{now:?}"),
            }
        });
        let froze = match folio.try_freeze(2) {
            Ok(before) => {
                assert_eq!((before.refs, before.maps), (2, 1));
                let now = folio.state();
                assert_eq!((now.refs, now.maps, now.frozen), (2, 1, true), "nothing changes while it is frozen");
                folio.unfreeze();
                true
            }
            Err(now) => {
                assert_eq!((now.refs, now.maps), (1, 0));
                assert!(folio.try_freeze(1).is_ok());
                // The leaf's holder has done what it did before it unmapped.
                witness.write(1);
                folio.unfreeze();
                false
            }
        };
        other.join().unwrap();
        let now = folio.state();
        assert_eq!(now.refs - 1, now.maps);
        assert!(froze || now.maps == 0);
        if now.maps == 1 {
            assert_eq!(folio.unmap_and_put(life), Ok(false));
        }
        assert!(folio.put());
        drop(folio);
        // SAFETY: From a box; the folio that borrowed it is gone.
        drop(unsafe { Box::from_raw(waits) });
    });
}

#[test]
fn of_two_who_freeze_one_works() {
    unbounded("freeze: two", || {
        let shared = Shared::new(2);
        let freeze = |shared: &Shared| {
            if shared.page.try_freeze(2).is_ok() {
                shared.work_alone_and_unfreeze();
            }
            shared.page.put()
        };
        let other = spawn(&shared, freeze);
        let last = freeze(&shared);
        assert!(last != other.join().unwrap());
        assert!((1..=2).contains(&shared.witness.read()), "somebody was the first");
    });
}
