//! Edge [map]: `Page::map` -> `Page::unmap`, i.e. `Folio::into_leaf` -> `Space::take`: what the handle's holder did,
//! however the leaf word travelled.
//!
//! Through a relaxed table, a leaf may arrive before the count that it stands for: then it is refused as not mapped, and
//! nothing is lost. A table that stores with Release and loads with Acquire (or a lock) excludes that.
//!
//! Shape: one maps and stores the leaf, one loads and unmaps it; two unmap one leaf, or two; two map at the limit.
//! Cost: 6 to 321 executions, unbounded; the whole path 436 at bound 2.
//! Teeth: fails with the Release of `map` or of `get_mapped`, or the Acquire of `unmap`, or either of `unmap_and_put` taken
//! away, when maps are not counted, and when `get_mapped` adds first and undoes it. The Release of `unmap` has none:
//! exchanges continue the release of `map`, and a put releases on its own.

use farpage::model::{MAX_REFS, Page, Waits};
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

/// Two leaves are unmapped, each by one exchange for both counts; the last sees the other's use, and the handle's.
#[test]
fn the_last_of_two_unmaps_frees_alone() {
    unbounded("map: two unmaps", || {
        let waits = Box::into_raw(Box::new(Waits::new()));
        // SAFETY: Freed below, behind the folio.
        let folio = unsafe { &*waits }.folio(0, 1);
        let life = folio.state().generation;
        let shared = Arc::new((folio, Witness::new(0)));
        let other = shared.clone();
        let unmap = move |(folio, witness): &(farpage::model::Folio<'_>, Witness)| {
            assert_eq!(witness.read(), 0);
            let last = folio.unmap_and_put(life).expect("it is mapped");
            if last {
                witness.write(1);
            }
            last
        };
        assert!(shared.0.get_mapped() && shared.0.get_mapped());
        let other = thread::spawn(move || unmap(&other));
        assert!(!shared.0.put());
        let here = unmap(&shared);
        assert!(here != other.join().unwrap(), "one of them is the last");
        let now = shared.0.state();
        assert_eq!((now.live, now.refs, now.maps), (false, 0, 0));
        drop(shared);
        // SAFETY: From a box; the folio that borrowed it is gone.
        drop(unsafe { Box::from_raw(waits) });
    });
}

/// What was done before a leaf was made by `get_mapped`, and whoever takes it: through a relaxed table.
#[test]
fn a_leaf_of_its_own_reference_brings_the_handles_work_with_it() {
    unbounded("map: get_mapped", || {
        let page = Page::new();
        let life = page.init(0).generation;
        let shared = Arc::new((page, Witness::new(0)));
        let other = shared.clone();
        let other = thread::spawn(move || {
            let (page, witness) = &*other;
            witness.write(1);
            assert!(page.get_mapped());
        });
        let (page, witness) = &*shared;
        if page.unmap(life).is_ok() {
            assert_eq!(witness.read(), 1);
            assert!(!page.put());
        }
        other.join().unwrap();
    });
}

/// Room for one more reference: of two who map one is refused, and leaves no map behind for a leaf that was taken before.
#[test]
fn a_map_that_is_refused_is_never_there() {
    unbounded("map: the limit", || {
        let page = Page::new();
        let life = page.init(0).generation;
        (1..MAX_REFS).for_each(|_| page.get());
        let page = Arc::new(page);
        let (mapper, taker) = (page.clone(), page.clone());
        let mapper = thread::spawn(move || assert!(!mapper.get_mapped(), "there is no room"));
        let taker = thread::spawn(move || assert!(taker.unmap(life).is_err(), "no leaf owns a reference"));
        mapper.join().unwrap();
        taker.join().unwrap();
        let now = page.state();
        assert_eq!((now.refs, now.maps, now.frozen), (MAX_REFS, 0, false));
    });
}

#[test]
fn of_two_maps_with_room_for_one_one_is_refused() {
    unbounded("map: room for one", || {
        let page = Page::new();
        page.init(0);
        (2..MAX_REFS).for_each(|_| page.get());
        let page = Arc::new(page);
        let other = page.clone();
        let other = thread::spawn(move || other.get_mapped());
        let here = page.get_mapped();
        assert!(here != other.join().unwrap());
        let now = page.state();
        assert_eq!((now.refs, now.maps, now.frozen), (MAX_REFS, 1, false));
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
