//! Bursts on caches: sent from thread to thread, more of them than have room, more threads than have a stash, and caches
//! of devices that went.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use farpage::{AllocError, Cache, Device, DeviceConfig, Folio, Order, Space, UnregisterError};

use crate::owners::*;

/// Caches go from thread to thread; some are dropped on the way, and new ones made. Folios are put into whichever cache
/// is at hand, or dropped. Each thread keeps to its share of pages, so none of them is ever told that pages ran out.
pub(crate) fn burst_of_travelling_caches(nr_threads: usize, seed: u64) {
    const SHARE: u64 = 1200;
    let (space, owners, config) = space_of(SHARE * nr_threads as u64);
    let device = space.register(config).expect("it fits");
    // More than have room of their own.
    let idle: Mutex<Vec<Cache<'_>>> = Mutex::new((0..20).map(|_| device.cache()).collect());
    on_threads(nr_threads, seed, |_, mut rng| {
        let mut shelf = Shelf { share: SHARE, pages: 0, folios: Vec::new() };
        for _ in 0..1000 {
            let mut cache = match below(&mut rng, 12) {
                0..=1 => device.cache(),
                _ => match idle.lock().expect("nobody panics with it").pop() {
                    Some(cache) => cache,
                    None => continue,
                },
            };
            for _ in 0..40 {
                match below(&mut rng, 16) {
                    0..=6 => shelf.fill(&owners, order(below(&mut rng, 10) as u8), |order| cache.alloc(order)),
                    7 => shelf.fill(&owners, order(below(&mut rng, 10) as u8), |order| device.alloc(order)),
                    8 => shelf.fill_many(&owners, &mut cache, order(below(&mut rng, 3) as u8), below(&mut rng, 20)),
                    9..=14 => shelf.take(below(&mut rng, 1000)).into_iter().for_each(|folio| cache.put(folio)),
                    _ => drop(shelf.take(below(&mut rng, 1000))),
                }
            }
            match below(&mut rng, 12) {
                0 => drop(cache),
                1 => cache.drain(),
                _ => idle.lock().expect("nobody panics with it").push(cache),
            }
        }
    });
    assert_eq!(space.validate(), Ok(()));
    let mut idle = idle.into_inner().expect("nobody panics with it");
    // Half of them are still there when the device is looked through.
    idle.truncate(idle.len() / 2);
    assert_all_came_back(&space, device, &owners);
}

/// The folios of a thread that keeps to its share.
struct Shelf<'s> {
    share: u64,
    pages: u64,
    folios: Vec<Folio<'s>>,
}

impl<'s> Shelf<'s> {
    /// One more, unless it would be more than the share. There are pages enough, if perhaps not in one run.
    fn fill(&mut self, owners: &Owners, order: Order, alloc: impl FnOnce(Order) -> Result<Folio<'s>, AllocError>) {
        if self.pages + order.nr_pages() > self.share {
            return;
        }
        match alloc(order) {
            Ok(folio) => {
                owners.enter(&folio);
                self.pages += folio.nr_pages();
                self.folios.push(folio);
            }
            Err(AllocError::Fragmented { requested, free, largest }) => {
                assert!(order != Order::ZERO && requested == order.nr_pages(), "one page is always a run");
                assert!(free >= requested && largest < requested);
            }
            Err(error) => panic!("{error}, and a share is always there"),
        }
    }

    fn fill_many(&mut self, owners: &Owners, cache: &mut Cache<'s>, order: Order, n: usize) {
        let (requested, before) = (order.nr_pages() * n as u64, self.folios.len());
        if self.pages + requested > self.share {
            return;
        }
        match cache.alloc_many(order, n, &mut self.folios) {
            Ok(()) => self.pages += requested,
            Err(AllocError::Fragmented { .. }) => assert_ne!(order, Order::ZERO, "one page is always a run"),
            Err(error) => panic!("{error}, and a share is always there"),
        }
        self.folios[before..].iter().for_each(|folio| owners.enter(folio));
    }

    fn take(&mut self, number: usize) -> Option<Folio<'s>> {
        let i = number.checked_rem(self.folios.len())?;
        let folio = self.folios.swap_remove(i);
        self.pages -= folio.nr_pages();
        Some(folio)
    }
}

/// Every thread keeps to its share of orders 0 to 10, with a cache or without, on a device that has just as many pages:
/// "exhausted" is never said, and a single page is always had.
pub(crate) fn burst_of_mixed_shares(nr_threads: usize, seed: u64) {
    const SHARE: u64 = 1536;
    let (space, owners, config) = space_of(SHARE * nr_threads as u64);
    let device = space.register(config).expect("it fits");
    on_threads(nr_threads, seed, |number, mut rng| {
        let mut shelf = Shelf { share: SHARE, pages: 0, folios: Vec::new() };
        let mut cache = (number % 2 == 0).then(|| device.cache());
        for round in 0..10_000 {
            let folio_order = order(if round % 2 == 0 { 0 } else { below(&mut rng, 11) as u8 });
            // Not only near the end of the share: the last page counts most.
            while shelf.pages + folio_order.nr_pages() > SHARE || below(&mut rng, 100) == 0 {
                match (&mut cache, shelf.take(below(&mut rng, 1000))) {
                    (_, None) => break,
                    (Some(cache), Some(folio)) => cache.put(folio),
                    (None, Some(folio)) => drop(folio),
                }
            }
            match &mut cache {
                Some(cache) => shelf.fill(&owners, folio_order, |order| cache.alloc(order)),
                None => shelf.fill(&owners, folio_order, |order| device.alloc(order)),
            }
            if folio_order == Order::ZERO && shelf.pages < SHARE && round % 16 == 0 {
                let rest = (SHARE - shelf.pages).min(100);
                (0..rest).for_each(|_| shelf.fill(&owners, Order::ZERO, |order| device.alloc(order)));
            }
        }
    });
    assert_all_came_back(&space, device, &owners);
}

/// Many more threads than have a place of their own at the device: all of them work, and no page is lost.
pub(crate) fn burst_of_a_crowd(nr_threads: usize, seed: u64) {
    let nr_threads = 50 * nr_threads;
    let space = Space::builder().max_pages(40 * nr_threads as u64).cores(1).cache_percent(100).build();
    let space = space.expect("address space");
    let owners = Owners::new(space.max_pages());
    let nr_pages = 20 * nr_threads as u64;
    let device = space.register(DeviceConfig::new(nr_pages).ops(Arc::clone(&owners))).expect("it fits");
    on_threads(nr_threads, seed, |number, mut rng| {
        let mut shelf = Shelf { share: 20, pages: 0, folios: Vec::new() };
        let mut cache = (number % 3 == 0).then(|| device.cache());
        for _ in 0..500 {
            let folio_order = order([0, 0, 0, 1, 2][below(&mut rng, 5)]);
            match &mut cache {
                Some(cache) => shelf.fill(&owners, folio_order, |order| cache.alloc(order)),
                None => shelf.fill(&owners, folio_order, |order| device.alloc(order)),
            }
            if shelf.pages > 16 || below(&mut rng, 4) == 0 {
                match (&mut cache, shelf.take(below(&mut rng, 1000))) {
                    (Some(cache), Some(folio)) => cache.put(folio),
                    (_, folio) => drop(folio),
                }
            }
        }
    });
    assert_all_came_back(&space, device, &owners);
}

/// Devices come and go at the same place under threads that keep caches of those that went, and put folios of the one
/// that is there into any of them.
pub(crate) fn burst_of_outlived_devices(nr_threads: usize, seed: u64) {
    const NR_PAGES: u64 = 8 * 512;
    let (space, owners, _) = space_of(NR_PAGES);
    let space = &space;
    let register = || space.register(DeviceConfig::new(NR_PAGES).ops(Arc::clone(&owners)));
    let now: Mutex<Device<'_>> = Mutex::new(register().expect("it fits"));
    let done = AtomicBool::new(false);
    let served = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            on_threads(nr_threads, seed, |_, mut rng| {
                let mut caches: Vec<Cache<'_>> = Vec::new();
                while !done.load(Acquire) {
                    let device = now.lock().expect("nobody panics with it").clone();
                    caches.push(device.cache());
                    if caches.len() > 6 {
                        caches.swap_remove(below(&mut rng, 6));
                    }
                    for _ in 0..60 {
                        let i = below(&mut rng, caches.len());
                        let folio_order = order(below(&mut rng, 7) as u8);
                        let folio = match caches[i].alloc(folio_order) {
                            Ok(folio) => folio,
                            Err(AllocError::Dying) => continue,
                            Err(error) => panic!("{error}, on a device that is nearly empty"),
                        };
                        owners.enter(&folio);
                        served.fetch_add(1, Relaxed);
                        let j = below(&mut rng, caches.len());
                        match below(&mut rng, 8) {
                            0 => drop(folio),
                            1 => caches[j].drain(),
                            _ => caches[j].put(folio),
                        }
                    }
                }
            });
        });
        for round in 0..24 {
            let mut device = now.lock().expect("nobody panics with it").clone();
            let enough = served.load(Relaxed) + 200;
            while served.load(Relaxed) < enough {
                thread::yield_now();
            }
            if round % 4 == 0 {
                match device.unregister() {
                    Ok(()) => {
                        *now.lock().expect("nobody panics with it") = register().expect("the last one went");
                        continue;
                    }
                    Err(UnregisterError::Busy { device: back, .. }) => device = back,
                    Err(error) => panic!("{error}"),
                }
            }
            device.kill();
            assert_eq!(device.drain(LONG), Ok(()), "whoever has pages puts them");
            device.unregister().expect("it is drained");
            *now.lock().expect("nobody panics with it") = register().expect("the last one went");
        }
        done.store(true, Release);
    });
    let device = now.into_inner().expect("nobody panics with it");
    assert_all_came_back(space, device, &owners);
}

/// Half of the threads allocate and the others free, each with a cache or without. As many pages are under way as the
/// device has, so each must come back to be had again.
pub(crate) fn burst_of_one_way_traffic(nr_threads: usize, seed: u64) {
    const NR_PAGES: u64 = 2 * 512;
    let (space, owners, config) = space_of(NR_PAGES);
    let device = space.register(config).expect("it fits");
    let nr_pairs = nr_threads.div_ceil(2);
    let share = NR_PAGES / nr_pairs as u64;
    thread::scope(|scope| {
        for pair in 0..nr_pairs {
            let (sender, receiver) = mpsc::channel::<Folio<'_>>();
            let under_way = Arc::new(AtomicU64::new(0));
            let (arrived, device, owners) = (Arc::clone(&under_way), device.clone(), &owners);
            let mut theirs = (pair % 2 == 0).then(|| device.cache());
            scope.spawn(move || {
                for folio in receiver {
                    owners.check(&folio);
                    match &mut theirs {
                        Some(cache) => cache.put(folio),
                        None => drop(folio),
                    }
                    arrived.fetch_sub(1, Release);
                }
            });
            let mut cache = (seed % 2 == 0).then(|| device.cache());
            scope.spawn(move || {
                for _ in 0..40_000 {
                    while under_way.load(Acquire) == share {
                        thread::yield_now();
                    }
                    under_way.fetch_add(1, Relaxed);
                    let folio = match &mut cache {
                        Some(cache) => cache.alloc(Order::ZERO),
                        None => device.alloc(Order::ZERO),
                    };
                    let folio = folio.expect("a share is always there");
                    owners.enter(&folio);
                    sender.send(folio).expect("somebody receives");
                }
            });
        }
    });
    assert_all_came_back(&space, device, &owners);
}

/// Some threads ask for many pages at once, of which one is always missing; the others always get theirs.
pub(crate) fn burst_of_failing_batches(nr_threads: usize, seed: u64) {
    const NR_PAGES: u64 = 4 * 512;
    let (space, owners, config) = space_of(NR_PAGES);
    let device = space.register(config).expect("it fits");
    let missing = device.alloc(Order::ZERO).expect("room");
    owners.enter(&missing);
    let refusals = AtomicU64::new(0);
    on_threads(nr_threads, seed, |number, mut rng| {
        let mut cache = (number % 4 < 2).then(|| device.cache());
        while refusals.load(Relaxed) < 1000 {
            if number % 2 == 0 {
                let folio = match &mut cache {
                    Some(cache) => cache.alloc(Order::ZERO),
                    None => device.alloc(Order::ZERO),
                };
                let folio = folio.expect("all pages but one are there, if somebody else did not grab them in vain");
                owners.enter(&folio);
                match &mut cache {
                    Some(cache) if below(&mut rng, 4) > 0 => cache.put(folio),
                    _ => drop(folio),
                }
                continue;
            }
            let folio_order = order(below(&mut rng, 4) as u8);
            let (n, mut folios) = ((NR_PAGES / folio_order.nr_pages()) as usize, Vec::new());
            let refused = match &mut cache {
                Some(cache) => cache.alloc_many(folio_order, n, &mut folios),
                None => device.alloc_many(folio_order, n, &mut folios),
            };
            let Err(AllocError::Exhausted { requested, free }) = refused else {
                panic!("{refused:?}: a page is missing")
            };
            assert!(requested == NR_PAGES && free < NR_PAGES && folios.is_empty());
            refusals.fetch_add(1, Relaxed);
        }
    });
    drop(missing);
    assert_all_came_back(&space, device, &owners);
}
