//! What a holder does to a live folio, one promise a test: leaves of its pages, the pin check, the limit of its
//! counts, and freezing.
//!
//! Its lock is in `folio_lock`; races are in `threads`, and as models in `loom-tests`.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};
use std::sync::{Arc, Barrier};
use std::thread;

use farpage::{
    Access, Device, DeviceConfig, DeviceOps, Folio, FreedFolio, LeafKind, MapError, Order, PageRef, RangeRequest,
    SoftLeaf, Space, TakeError, TooManyRefs,
};

/// Orders with records among the pages and among the blocks, and with direct leaves and others.
const ORDERS: [u8; 7] = [0, 1, 7, 8, 9, 11, 18];
const MAX_REFS: u32 = (1 << 19) - 1;

fn space() -> Space {
    Space::builder().max_pages(1 << 19).build().expect("address space")
}

fn device(space: &Space) -> Device<'_> {
    space.register(DeviceConfig::new(1 << 19)).expect("it fits")
}

fn order(order: u8) -> Order {
    Order::new(order).expect("at most 18")
}

/// All is free, and recounts.
fn assert_all_free(space: &Space, device: &Device<'_>) {
    assert_eq!((device.nr_live_pages(), space.validate()), (0, Ok(())));
}

#[test]
fn each_page_of_a_folio_has_leaves_that_own_references() {
    let space = space();
    let device = device(&space);
    for n in ORDERS {
        let folio = device.alloc(order(n)).unwrap();
        let nr_pages = folio.nr_pages();
        let indices = [0, 1, nr_pages / 2, nr_pages - 1].map(|index| index.min(nr_pages - 1));
        let leaves = indices.map(|index| (index, folio.map_page(index, Access::Write).unwrap()));
        assert_eq!((folio.refs(), folio.maps(), folio.extra_refs(1)), (5, 4, 0));
        for (index, leaf) in leaves {
            let page = space.lookup(leaf).unwrap();
            assert_eq!((page.index(), page.folio_offset(), page.order()), (index, folio.offset(), order(n)));
            assert_eq!(leaf.kind(), LeafKind::DevicePrivate(Access::Write));
            assert_eq!(space.weak(leaf), Some(folio.downgrade()));
            let protected = leaf.with_access(Access::Read);
            assert_eq!(space.lookup(protected).map(PageRef::index), Some(index));
        }
        assert_eq!(folio.map_page(0, Access::Read).unwrap(), folio.map(Access::Read).unwrap());
        for index in [nr_pages, nr_pages + 1, u64::MAX] {
            assert_eq!(folio.map_page(index, Access::Read), Err(MapError::OutOfRange { index, nr_pages }));
        }
        assert_eq!((folio.refs(), folio.maps()), (7, 6), "a refused map counts nothing");
        // A taken tail is a handle on the folio; a dropped one is the last but for the maps.
        let taken = space.take(leaves[3].1).unwrap();
        assert!(taken == folio);
        drop((folio, taken));
        for leaf in [leaves[0].1, leaves[0].1, leaves[0].1, leaves[1].1] {
            assert_eq!(space.unmap(leaf), Ok(()));
        }
        assert_eq!(space.lookup(leaves[2].1).map(|page| (page.refs(), page.private())), Some((1, 0)));
        assert_eq!(space.unmap(leaves[2].1), Ok(()), "the last frees it");
        let offset = leaves[2].1.offset().unwrap().get();
        assert_eq!(space.unmap(leaves[2].1), Err(TakeError::Stale { offset }));
        assert_eq!(device.nr_live_pages(), 0);
    }
    assert_all_free(&space, &device);
}

#[test]
fn an_unmap_frees_once_and_tells_the_driver() {
    #[derive(Default)]
    struct Frees(AtomicU32, AtomicU64);
    impl DeviceOps for Frees {
        fn folio_free(&self, folio: FreedFolio) {
            self.0.fetch_add(1, Relaxed);
            self.1.store(folio.private(), Relaxed);
        }
    }
    let (space, frees) = (space(), Arc::new(Frees::default()));
    let device = space.register(DeviceConfig::new(4096).ops(Arc::clone(&frees))).unwrap();
    for n in [0, 3, 9] {
        let folio = device.alloc(order(n)).unwrap();
        folio.set_private(100 + u64::from(n));
        let (leaf, copy) = (folio.map(Access::Read).unwrap(), folio.map(Access::Write).unwrap());
        drop(folio);
        space.unmap(leaf).unwrap();
        let before = frees.0.load(Relaxed);
        space.unmap(copy).unwrap();
        assert_eq!((frees.0.load(Relaxed), frees.1.load(Relaxed)), (before + 1, 100 + u64::from(n)));
        for leaf in [leaf, copy] {
            assert_eq!(space.unmap(leaf), Err(TakeError::Stale { offset: leaf.offset().unwrap().get() }));
        }
    }
    assert_all_free(&space, &device);
}

#[test]
fn what_owns_no_reference_is_not_unmapped() {
    let space = space();
    let device = device(&space);
    let folio = device.alloc(Order::ZERO).unwrap();
    let leaf = folio.map(Access::Read).unwrap();
    space.unmap(leaf).unwrap();
    let offset = folio.offset().get();
    assert_eq!(space.unmap(leaf), Err(TakeError::NotMapped { offset, refs: 1 }));
    assert_eq!(space.unmap(SoftLeaf::NONE), Err(TakeError::WrongKind { kind: LeafKind::None }));
    let beyond = SoftLeaf::from_bits(leaf.bits() | 1 << 39);
    assert_eq!(
        space.unmap(beyond),
        Err(TakeError::OutOfRange { offset: offset | 1 << 39, max_pages: space.max_pages() })
    );
    assert_eq!((folio.refs(), folio.maps()), (1, 0));
}

#[test]
fn the_pin_check_knows_maps_and_known_references() {
    let space = space();
    let device = device(&space);
    let folio = device.alloc(order(3)).unwrap();
    assert_eq!([0, 1, 2].map(|known| folio.extra_refs(known)), [1, 0, 0]);
    let leaves: Vec<_> = (0..8).map(|index| folio.map_page(index, Access::Read).unwrap()).collect();
    assert_eq!((folio.refs(), folio.extra_refs(1)), (9, 0));
    let pin = space.lookup(leaves[4]).unwrap().try_get().unwrap();
    assert_eq!((folio.extra_refs(1), folio.extra_refs(2), folio.extra_refs(u32::MAX)), (1, 0, 0));
    drop(pin);
    assert_eq!(folio.extra_refs(1), 0);
    leaves.into_iter().for_each(|leaf| space.unmap(leaf).unwrap());
}

#[test]
fn both_counts_stop_at_the_limit_with_an_error() {
    let space = space();
    let device = device(&space);
    for n in [0, 9] {
        let folio = device.alloc(order(n)).unwrap();
        folio.set_private(5);
        let leaf = folio.map(Access::Write).unwrap();
        for _ in 2..MAX_REFS {
            assert_eq!(folio.map(Access::Write), Ok(leaf));
        }
        assert_eq!((folio.refs(), folio.maps()), (MAX_REFS, MAX_REFS - 1));
        let full = TooManyRefs { limit: MAX_REFS };
        assert_eq!((folio.map(Access::Read), folio.try_clone().err()), (Err(full), Some(full)));
        assert_eq!(folio.map_page(0, Access::Read), Err(MapError::TooManyRefs { limit: MAX_REFS }));
        assert!(space.lookup(leaf).unwrap().try_get().is_none() && folio.downgrade().upgrade().is_none());
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| folio.clone().refs())).unwrap_err();
        assert!(panic.downcast_ref::<String>().unwrap().contains("524287"));
        // The last reference becomes a leaf's as well: every one of them is mapped.
        let (at, order_of) = (folio.offset(), folio.order());
        assert_eq!(folio.into_leaf(Access::Write), leaf);
        let page = space.lookup(leaf).unwrap();
        assert_eq!((page.offset(), page.order(), page.private(), page.refs()), (at, order_of, 5, MAX_REFS));
        for _ in 1..MAX_REFS {
            space.unmap(leaf).unwrap();
        }
        assert_eq!(page.refs(), 1);
        space.unmap(leaf).unwrap();
        assert_eq!(space.unmap(leaf), Err(TakeError::Stale { offset: at.get() }));
    }
    assert_all_free(&space, &device);
}

/// As many threads as there is room for, and more, all at the limit at once: in every way that adds a reference.
#[test]
fn many_threads_at_the_limit_never_pass_it() {
    let space = space();
    let device = device(&space);
    let folio = device.alloc(Order::ZERO).unwrap();
    let leaf = folio.map(Access::Read).unwrap();
    const ROOM: u32 = 20;
    for _ in 2..MAX_REFS - ROOM {
        folio.map(Access::Read).unwrap();
    }
    // Its panics are expected, by the hundred.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.to_string().contains("the most that it can count") {
            hook(info);
        }
    }));
    let (nr_threads, got) = (8, AtomicU32::new(0));
    let start = Barrier::new(nr_threads);
    let handles: Vec<Vec<Folio<'_>>> = thread::scope(|scope| {
        let work = |thread: usize| {
            let (folio, space, got, start) = (&folio, &space, &got, &start);
            scope.spawn(move || {
                let mut handles = Vec::new();
                start.wait();
                for round in 0..500 {
                    let handle = match (thread + round) % 4 {
                        0 => folio.try_clone().ok(),
                        1 => space.lookup(leaf).unwrap().try_get(),
                        2 => folio.map(Access::Write).ok().map(|leaf| space.take(leaf).unwrap()),
                        _ => std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| folio.clone())).ok(),
                    };
                    let n = handle.iter().count() as u32;
                    assert!(got.fetch_add(n, Relaxed) + n <= ROOM, "more references than a folio can count");
                    handles.extend(handle);
                    if round % 16 == 15 {
                        // Before they are put: nobody may count one that has gone as one that is there.
                        got.fetch_sub(handles.len() as u32, Relaxed);
                        handles.clear();
                    }
                }
                handles
            })
        };
        let threads: Vec<_> = (0..nr_threads).map(work).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let held: u32 = handles.iter().map(|handles| handles.len() as u32).sum();
    assert_eq!((folio.refs(), folio.maps()), (MAX_REFS - ROOM + held, MAX_REFS - ROOM - 1));
    drop(handles);
    for _ in 1..MAX_REFS - ROOM {
        space.unmap(leaf).unwrap();
    }
    assert_eq!((folio.refs(), folio.maps()), (1, 0));
}

#[test]
fn who_has_no_handle_gets_none_of_a_frozen_folio() {
    let space = space();
    let device = device(&space);
    for n in ORDERS {
        let folio = device.alloc(order(n)).unwrap();
        folio.set_private(9);
        let leaves = [0, folio.nr_pages() - 1].map(|index| folio.map_page(index, Access::Read).unwrap());
        let weak = folio.downgrade();
        let frozen = folio.try_freeze(3).unwrap();
        for leaf in leaves {
            let page = space.lookup(leaf).expect("a lookup finds it");
            assert_eq!((page.order(), page.private()), (order(n), 9));
            assert!(page.try_get().is_none() && weak.upgrade().is_none());
            let refused = TakeError::Frozen { offset: leaf.offset().unwrap().get() };
            assert_eq!((space.take(leaf).err(), space.unmap(leaf).err()), (Some(refused), Some(refused)));
            assert_eq!(space.weak(leaf), Some(weak));
        }
        assert_eq!((frozen.refs(), frozen.maps(), frozen.private()), (3, 2, 9), "nothing has changed");
        assert_eq!(space.validate(), Ok(()));
        frozen.set_private(10);
        let folio = frozen.unfreeze();
        let other = weak.upgrade().expect("it is not frozen any more");
        assert_eq!((other.private(), folio.refs()), (10, 4));
        drop(other);
        leaves.into_iter().for_each(|leaf| space.unmap(leaf).unwrap());
        assert_eq!((folio.refs(), folio.maps()), (1, 0));
        drop(folio.try_freeze(1).unwrap());
        assert!(weak.upgrade().is_none(), "a frozen folio that is dropped is freed");
    }
    assert_all_free(&space, &device);
}

#[test]
fn a_folio_with_other_references_than_expected_is_not_frozen() {
    let space = space();
    let device = device(&space);
    let folio = device.alloc(order(4)).unwrap();
    let (leaf, other) = (folio.map(Access::Write).unwrap(), folio.clone());
    for expected in [0, 1, 3, 5, 1 << 20 | 4, u32::MAX] {
        let error = folio.clone().try_freeze(expected).unwrap_err();
        assert_eq!((error.expected_refs, error.refs, error.maps, error.is_frozen), (expected, 4, 1, false));
        assert!(error.to_string().contains("4 references, 1 of them"), "{error}");
        assert!(error.into_folio() == folio);
    }
    let frozen = folio.try_freeze(3).unwrap();
    let error = other.try_freeze(3).unwrap_err();
    assert!(error.is_frozen && error.to_string().contains("frozen"));
    drop(error.into_folio());
    let folio = frozen.unfreeze();
    assert_eq!((folio.refs(), folio.maps()), (2, 1));
    space.unmap(leaf).unwrap();
}

#[test]
fn what_other_handles_do_to_a_frozen_folio_is_counted() {
    let space = space();
    let device = device(&space);
    let folio = device.alloc(Order::HUGE).unwrap();
    let (first, second) = (folio.clone(), folio.clone());
    let frozen = folio.try_freeze(3).unwrap();
    drop(first);
    assert_eq!(frozen.refs(), 2, "a put is counted");
    let third = second.clone();
    let leaf = second.map(Access::Read).unwrap();
    drop(second.try_clone().unwrap());
    let again = third.into_leaf(Access::Read);
    assert_eq!((frozen.refs(), frozen.maps(), frozen.extra_refs(1)), (4, 2, 1));
    drop(second);
    let folio = frozen.unfreeze();
    assert_eq!((folio.refs(), folio.maps()), (3, 2));
    space.unmap(leaf).unwrap();
    drop(space.take(again).unwrap());
    assert_eq!((folio.refs(), folio.maps()), (1, 0));
    drop(folio);
    assert_all_free(&space, &device);
}

#[test]
fn a_range_is_not_divided_where_its_folio_is_shared_or_frozen() {
    let space = space();
    let device = device(&space);
    let range = device.alloc_range(RangeRequest::new(512)).unwrap();
    let frozen = range.page(0).unwrap().try_get().unwrap().try_freeze(2).unwrap();
    let error = range.split_at(100).unwrap_err();
    let farpage::SplitRangeError::Busy { extra_refs, maps, range, .. } = error else { panic!("{error}") };
    assert_eq!((extra_refs, maps), (1, 0));
    drop(frozen);
    let (low, high) = range.split_at(100).unwrap();
    assert_eq!((low.nr_pages(), high.nr_pages()), (100, 412));
    assert_eq!(space.validate(), Ok(()));
    drop((low, high));
    assert_all_free(&space, &device);
}

#[test]
fn handles_of_every_kind_cross_threads() {
    fn sent<T: Send>(value: T) -> T {
        value
    }
    fn shared<T: Send + Sync>(value: &T) -> &T {
        value
    }
    let space = space();
    let device = device(&space);
    let folio = sent(device.alloc(Order::ZERO).unwrap());
    let offset = folio.offset();
    let locked = sent(folio.lock_owned());
    let weak = sent(locked.downgrade());
    let folio = thread::scope(|scope| scope.spawn(move || locked.unlock()).join().unwrap());
    thread::scope(|scope| scope.spawn(|| drop(shared(&folio).lock())).join().unwrap());
    let frozen = folio.try_freeze(1).unwrap();
    thread::scope(|scope| scope.spawn(move || shared(&frozen).offset()).join().unwrap());
    assert!(weak.upgrade().is_none());
    assert_eq!(weak.offset(), offset);
}
