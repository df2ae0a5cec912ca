//! Edge [map]: `Page::map` -> `Page::unmap`, i.e. `Folio::into_leaf` -> `Space::take`: what the handle's holder did,
//! however the leaf word travelled.
//!
//! Through a relaxed table, a leaf may arrive before the count that it stands for: then it is refused as not mapped, and
//! nothing is lost. A table that stores with Release and loads with Acquire (or a lock) excludes that.
//!
//! Shape: one maps and stores the leaf, one loads and unmaps it; two unmap one leaf, or two.
//! Cost: 10, 6, 412 and 1,525 executions, unbounded; the whole path 396 at bound 2.
//! Teeth: fails with the Release of `map` or the Acquire of `unmap` taken away, and when maps are not counted. The Release
//! of `unmap` has none: exchanges continue the release of `map`, and a put releases on its own.

use farpage::model::Page;
use farpage::{Access, DeviceConfig, Order, SoftLeaf, TakeError};
use farpage_loom_tests::{Witness, bounded, unbounded, with_space};
use loom::sync::atomic::{
    AtomicU64, Ordering,
    Ordering::{Acquire, Relaxed, Release},
};
use loom::{sync::Arc, thread};

/// One thread uses a folio and makes a leaf of it, the other takes the leaf when it sees it.
fn leaf_through_a_table(stored: Ordering, loaded: Ordering) {
    let page = Page::new();
    let life = page.init(0).generation;
    let shared = Arc::new((page, Witness::new(0), AtomicU64::new(0)));
    let other = shared.clone();
    let other = thread::spawn(move || {
        let (page, witness, table) = &*other;
        witness.write(1);
        page.set_private(5);
        page.map();
        table.store(life, stored);
    });
    let take = |life| {
        let (page, witness, _) = &*shared;
        let taken = page.unmap(life).is_ok();
        if taken {
            assert_eq!((witness.read(), page.private()), (1, 5));
            assert!(page.put());
            witness.write(2);
        }
        taken
    };
    let leaf = shared.2.load(loaded);
    let taken = leaf != 0 && take(leaf);
    // A leaf that travels faster than the count it stands for may be refused, but is not lost.
    assert!(taken || leaf == 0 || loaded == Relaxed, "a leaf that was seen in order is taken");
    other.join().unwrap();
    assert!(taken || take(life));
}

/// The table is relaxed: only the page's own word can order the two holders.
#[test]
fn a_taken_leaf_brings_the_handles_work_with_it() {
    unbounded("map: relaxed table", || leaf_through_a_table(Relaxed, Relaxed));
}

#[test]
fn a_leaf_from_an_ordered_table_is_never_refused() {
    unbounded("map: ordered table", || leaf_through_a_table(Release, Acquire));
}

#[test]
fn of_two_takes_of_copies_one_wins() {
    unbounded("map: two takes", || {
        let page = Page::new();
        let life = page.init(0).generation;
        page.map();
        let shared = Arc::new((page, Witness::new(0)));
        let take = move |shared: &(Page, Witness)| {
            let (page, witness) = shared;
            let won = page.unmap(life).is_ok();
            if won {
                witness.write(1);
                assert!(page.put(), "the only reference");
            }
            won
        };
        let other = shared.clone();
        let other = thread::spawn(move || take(&other));
        let here = take(&shared);
        assert!(here != other.join().unwrap());
        assert!(!shared.0.state().live);
    });
}

/// Two leaves of one folio: each taker gets a reference of its own, and the last to put sees the other's use.
#[test]
fn two_leaves_are_two_references() {
    unbounded("map: two leaves", || {
        let page = Page::new();
        let life = page.init(0).generation;
        page.get();
        page.map();
        page.map();
        let shared = Arc::new((page, Witness::new(0)));
        let take = move |shared: &(Page, Witness)| {
            let (page, witness) = shared;
            assert!(page.unmap(life).is_ok());
            witness.read();
            let last = page.put();
            if last {
                witness.write(1);
            }
            last
        };
        let other = shared.clone();
        let other = thread::spawn(move || take(&other));
        let here = take(&shared);
        assert!(here != other.join().unwrap());
    });
}

/// The same edge on the whole path, with a copy of the leaf left in the table.
#[test]
fn a_leaf_is_taken_once_on_the_whole_path() {
    bounded("map: whole path", || {
        with_space(4, |space| {
            let device = space.register(DeviceConfig::new(4)).unwrap();
            let folio = device.alloc(Order::ZERO).unwrap();
            let shared = Arc::new((AtomicU64::new(0), Witness::new(0)));
            let other = shared.clone();
            let taker = thread::spawn(move || {
                let leaf = SoftLeaf::from_bits(other.0.load(Relaxed));
                if leaf == SoftLeaf::NONE {
                    return false;
                }
                match space.take(leaf) {
                    Ok(folio) => {
                        assert_eq!((folio.private(), other.1.read()), (5, 1));
                        true
                    }
                    Err(TakeError::Stale { .. } | TakeError::NotMapped { .. }) => false,
                    Err(error) => panic!("{error}"),
                }
            });
            folio.set_private(5);
            shared.1.write(1);
            let leaf = folio.into_leaf(Access::Write);
            shared.0.store(leaf.bits(), Relaxed);
            let here = space.take(leaf).is_ok();
            assert!(here != taker.join().unwrap());
            assert_eq!(device.nr_live_pages(), 0);
            space.validate().unwrap();
            drop(device);
        });
    });
}
