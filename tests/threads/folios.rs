//! Bursts on folios: owned once, shared through leaves, counted, and found when they are free.

use std::sync::atomic::{AtomicU64, Ordering::*};
use std::thread;

use farpage::{Access, AllocError, Folio, PageRef, SoftLeaf, Space, TakeError, WeakFolio};

use crate::owners::*;

/// Threads allocate and free runs of all orders, one by one and many at once, on a device that is nearly always full.
pub(crate) fn burst_of_owning(nr_threads: usize, seed: u64) {
    let (space, owners, config) = space_of(20 * 512 + 77);
    let device = space.register(config).expect("it fits");
    on_threads(nr_threads, seed, |_, mut rng| {
        let mut held: Vec<Folio<'_>> = Vec::new();
        for _ in 0..4000 {
            match below(&mut rng, 8) {
                0..=3 => match device.alloc(random_order(&mut rng)) {
                    Ok(folio) => {
                        owners.enter(&folio);
                        held.push(folio);
                    }
                    Err(AllocError::Exhausted { requested, free }) => assert!(free < requested),
                    Err(AllocError::Fragmented { requested, free, largest }) => {
                        assert!(free >= requested && largest < requested);
                    }
                    Err(error) => panic!("{error}"),
                },
                4 => {
                    let (order, n, before) = (random_order(&mut rng), below(&mut rng, 20), held.len());
                    match device.alloc_many(order, n, &mut held) {
                        Ok(()) => assert_eq!(held.len(), before + n),
                        Err(_) => assert_eq!(held.len(), before, "all or nothing"),
                    }
                    held[before..].iter().for_each(|folio| owners.enter(folio));
                }
                5..=6 if !held.is_empty() => {
                    let folio = held.swap_remove(below(&mut rng, held.len()));
                    owners.check(&folio);
                }
                7 if below(&mut rng, 40) == 0 => held.clear(),
                _ => {}
            }
        }
    });
    assert_all_came_back(&space, device, &owners);
}

/// Threads share folios through a table of leaf words: put in and taken out by exchange, looked up by whoever likes.
/// The table is relaxed: the library's own edges must order what is behind the leaves.
pub(crate) fn burst_of_sharing(nr_threads: usize, seed: u64) {
    let (space, owners, config) = space_of(8 * 512);
    let device = space.register(config).expect("it fits");
    let table: Vec<AtomicU64> = (0..48).map(|_| AtomicU64::new(SoftLeaf::NONE.bits())).collect();
    // Whoever took a leaf out of the table has its reference.
    let put = |bits: u64| {
        if bits != SoftLeaf::NONE.bits() {
            let folio = space.take(SoftLeaf::from_bits(bits)).expect("a leaf's reference is there once");
            owners.check(&folio);
        }
    };
    on_threads(nr_threads, seed, |_, mut rng| {
        for _ in 0..8000 {
            let slot = &table[below(&mut rng, table.len())];
            match below(&mut rng, 8) {
                0 => put(slot.swap(SoftLeaf::NONE.bits(), Relaxed)),
                1..=2 => {
                    if let Ok(folio) = device.alloc(random_order(&mut rng)) {
                        owners.enter(&folio);
                        if below(&mut rng, 4) == 0 {
                            let second = folio.clone().into_leaf(Access::Read);
                            put(table[below(&mut rng, table.len())].swap(second.bits(), Relaxed));
                        }
                        put(slot.swap(folio.into_leaf(Access::Write).bits(), Relaxed));
                    }
                }
                3..=6 => {
                    let leaf = SoftLeaf::from_bits(slot.load(Relaxed));
                    if let Some(folio) = space.lookup(leaf).and_then(PageRef::try_get) {
                        // The reference is on the folio that the leaf named, whatever the leaf's slot holds by now.
                        assert_eq!(Some(folio.offset()), leaf.offset());
                        owners.check(&folio);
                        if slot.load(Relaxed) == leaf.bits() && below(&mut rng, 4) == 0 {
                            let again = folio.clone().into_leaf(Access::Read);
                            put(table[below(&mut rng, table.len())].swap(again.bits(), Relaxed));
                        }
                    }
                }
                _ => {
                    let leaves: Vec<SoftLeaf> =
                        table.iter().map(|slot| SoftLeaf::from_bits(slot.load(Relaxed))).collect();
                    let mut pages = vec![None; leaves.len()];
                    space.lookup_many(&leaves, &mut pages);
                    for (leaf, page) in leaves.iter().zip(&pages) {
                        if let Some(folio) = page.and_then(PageRef::try_get) {
                            assert_eq!(Some(folio.offset()), leaf.offset());
                            owners.check(&folio);
                        }
                    }
                }
            }
        }
    });
    table.iter().for_each(|slot| put(slot.swap(0, Relaxed)));
    assert_all_came_back(&space, device, &owners);
}

/// All threads take and put references of the same few folios in every way that there is.
pub(crate) fn burst_of_references(nr_threads: usize, seed: u64) {
    let (space, owners, config) = space_of(4 * 512);
    let device = space.register(config).expect("it fits");
    let folios: Vec<Folio<'_>> = [0, 4, 9].map(|n| device.alloc(order(n)).expect("room")).into();
    folios.iter().for_each(|folio| owners.enter(folio));
    let leaves: Vec<SoftLeaf> = folios.iter().map(|folio| folio.clone().into_leaf(Access::Read)).collect();
    on_threads(nr_threads, seed, |_, mut rng| {
        for _ in 0..5000 {
            let i = below(&mut rng, folios.len());
            let page = space.lookup(leaves[i]).expect("the leaf keeps the folio");
            let folio = match below(&mut rng, 3) {
                0 => folios[i].clone(),
                1 => page.try_get().expect("the count is not 0"),
                _ => folios[i].try_clone().expect("there is room for one more"),
            };
            if below(&mut rng, 2) == 0 {
                // Each leaf owns a reference of its own, so a take of any of them finds one.
                drop(space.take(folio.into_leaf(Access::Write)).expect("a share is always there"));
            }
        }
    });
    for (folio, leaf) in folios.iter().zip(&leaves) {
        assert_eq!((folio.refs(), folio.maps()), (2, 1), "references are conserved");
        drop(space.take(*leaf).expect("it is mapped"));
    }
    drop(folios);
    assert_all_came_back(&space, device, &owners);
}

/// Gives a leaf's reference back, however often its folio is frozen meanwhile.
fn unmap(space: &Space, leaf: SoftLeaf) {
    loop {
        match space.unmap(leaf) {
            Ok(()) => return,
            Err(TakeError::Frozen { .. }) => thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Threads lock, freeze, map page by page, wait for and find again the folios that they share through a table of leaves.
///
/// For each page there are two words, which are equal unless somebody is between them. Only who has the lock of the folio
/// there, or has it frozen and is its only holder, goes there. All accesses are relaxed: the library's own edges must order
/// them, from lock to lock, into and out of the frozen state, and from one life to the next.
pub(crate) fn burst_of_locks(nr_threads: usize, seed: u64) {
    let (space, owners, config) = space_of(4 * 512);
    let device = space.register(config).expect("it fits");
    let table: Vec<AtomicU64> = (0..24).map(|_| AtomicU64::new(SoftLeaf::NONE.bits())).collect();
    let words: Vec<[AtomicU64; 2]> = (0..space.max_pages()).map(|_| Default::default()).collect();
    let (worked, froze) = (AtomicU64::new(0), AtomicU64::new(0));
    let work = |folio: &Folio<'_>, number: usize| {
        let [first, second] = &words[folio.offset().get() as usize];
        let (a, b) = (first.load(Relaxed), second.load(Relaxed));
        assert_eq!(a, b, "somebody else is at {folio:?}");
        first.store(a + 1, Relaxed);
        if a % 16 == number as u64 {
            thread::yield_now();
        }
        second.store(b + 1, Relaxed);
        worked.fetch_add(1, Relaxed);
    };
    let put = |bits: u64| {
        if bits != SoftLeaf::NONE.bits() {
            unmap(&space, SoftLeaf::from_bits(bits));
        }
    };
    on_threads(nr_threads, seed, |number, mut rng| {
        let mut weak: Vec<(WeakFolio<'_>, u64)> = Vec::new();
        for _ in 0..6000 {
            let slot = &table[below(&mut rng, table.len())];
            let leaf = SoftLeaf::from_bits(slot.load(Relaxed));
            let got = space.lookup(leaf).and_then(PageRef::try_get);
            match (below(&mut rng, 12), got) {
                (0, _) => put(slot.swap(SoftLeaf::NONE.bits(), Relaxed)),
                (1..=2, _) => {
                    let Ok(folio) = device.alloc(random_order(&mut rng)) else { continue };
                    owners.enter(&folio);
                    assert!(!folio.is_locked());
                    weak.push((folio.downgrade(), folio.private()));
                    if weak.len() > 64 {
                        weak.swap_remove(below(&mut rng, 64));
                    }
                    for _ in 0..1 + below(&mut rng, 3) {
                        let index = below(&mut rng, folio.nr_pages() as usize) as u64;
                        let leaf = folio.map_page(index, Access::Write).expect("room, and a page");
                        put(table[below(&mut rng, table.len())].swap(leaf.bits(), Relaxed));
                    }
                }
                (3..=5, Some(folio)) => {
                    let guard = folio.lock();
                    work(&guard, number);
                    owners.check(&guard);
                }
                (6, Some(folio)) => match folio.try_lock_owned() {
                    Ok(locked) => {
                        work(&locked, number);
                        let again = locked.map(Access::Read).expect("room for one more");
                        put(slot.swap(again.bits(), Relaxed));
                        drop(locked.unlock());
                    }
                    Err(folio) => owners.check(&folio),
                },
                (7, Some(folio)) => {
                    drop(folio);
                    assert!(space.wait_unlocked(leaf, LONG), "everybody unlocks");
                }
                (8..=9, Some(folio)) => {
                    let (maps, page) = (folio.maps(), space.lookup(leaf));
                    let Ok(frozen) = folio.try_freeze(1 + maps) else { continue };
                    assert!(page.is_none_or(|page| page.try_get().is_none()), "it is frozen");
                    // Otherwise a leaf's reference has become a handle's between the look and the freezing. (That handle may have
                    // mapped the folio and be gone by now, so there may be other maps than were looked at; from here on they stay.)
                    if frozen.extra_refs(1) == 0 {
                        assert!(!frozen.is_locked(), "nobody else has a handle");
                        let counts = (frozen.refs(), frozen.maps());
                        assert_eq!(counts.0, 1 + counts.1);
                        work(&frozen, number);
                        assert_eq!((frozen.refs(), frozen.maps(), frozen.extra_refs(1)), (counts.0, counts.1, 0));
                        froze.fetch_add(1, Relaxed);
                    }
                    if below(&mut rng, 2) == 0 {
                        owners.check(&frozen.unfreeze());
                    }
                }
                (10, _) if !weak.is_empty() => {
                    let (weak, ticket) = weak[below(&mut rng, weak.len())];
                    if let Some(folio) = weak.upgrade() {
                        assert_eq!((folio.private(), folio.offset()), (ticket, weak.offset()));
                        owners.check(&folio);
                    }
                }
                (_, Some(folio)) => {
                    let leaf = folio.map(Access::Read).expect("room for one more");
                    match space.take(leaf) {
                        Ok(taken) => assert!(taken == folio),
                        Err(TakeError::Frozen { .. }) => {
                            drop(folio);
                            unmap(&space, leaf);
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
                _ => {}
            }
        }
    });
    table.iter().for_each(|slot| put(slot.swap(0, Relaxed)));
    assert!(worked.into_inner() > froze.into_inner());
    assert_all_came_back(&space, device, &owners);
}

/// Each thread keeps to its share of the device, so an allocation never fails: not when the pages are there, but
/// moved while they were looked for, nor when another thread's were given back a moment ago.
pub(crate) fn burst_of_fair_shares(nr_threads: usize, seed: u64) {
    // Shares of one folio make the most of every race; large ones spread over many blocks.
    let small = [(order(0), 1, 20_000), (order(6), 1, 20_000), (order(9), 1, 5000), (order(0), 3, 10_000)];
    let large = [(order(0), 700, 1500), (order(3), 90, 1500), (order(6), 13, 1500), (order(10), 1, 1500)];
    for (folio_order, share, nr_rounds) in small.into_iter().chain(large) {
        let (space, owners, config) = space_of(folio_order.nr_pages() * share * nr_threads as u64);
        let device = space.register(config).expect("it fits");
        on_threads(nr_threads, seed, |_, mut rng| {
            let mut held = Vec::new();
            for _ in 0..nr_rounds {
                if held.len() as u64 == share || (!held.is_empty() && below(&mut rng, 8) == 0) {
                    drop::<Folio<'_>>(held.swap_remove(below(&mut rng, held.len())));
                }
                let folio = device.alloc(folio_order).expect("a share is always there");
                owners.enter(&folio);
                held.push(folio);
            }
        });
        assert_all_came_back(&space, device, &owners);
    }
}
