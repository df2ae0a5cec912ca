//! Real threads, 2 to 8, on one space: each offset is owned once, each folio is freed once, stale leaves stay stale,
//! a page that is free is found, and everything recounts at the end.
//!
//! What one thread sees is compared with a model in `oracle`; which orderings these protocols need is shown by the loom
//! models. Each scenario is a burst with a fixed seed, short by default; the ignored soak repeats them all, with other
//! seeds and numbers of threads, for `FARPAGE_SOAK_SECONDS` seconds.

#[path = "support/rng.rs"]
mod rng;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::sync::{Arc, Barrier, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use farpage::{
    Access, AllocError, Device, DeviceConfig, DeviceOps, Folio, FreedFolio, Offset, Order, PageRef, SoftLeaf, Space,
    UnregisterError,
};
use rng::Rng;

const LONG: Duration = Duration::from_secs(60);

/// Who owns each page of a space, by a ticket that is no other folio's. Claimed after an allocation, cleared by the
/// driver's callback: a page that is handed out twice, or freed twice, is met with the wrong ticket in it.
struct Owners {
    pages: Vec<AtomicU64>,
    tickets: AtomicU64,
    freed: AtomicU64,
}

impl Owners {
    fn new(max_pages: u64) -> Arc<Owners> {
        let pages = (0..max_pages).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Owners { pages, tickets: AtomicU64::new(0), freed: AtomicU64::new(0) })
    }

    fn pages_of(&self, head: Offset, order: Order) -> &[AtomicU64] {
        &self.pages[head.get() as usize..][..order.nr_pages() as usize]
    }

    /// Enters a new folio, and leaves the ticket in its private word.
    fn enter(&self, folio: &Folio<'_>) {
        assert_eq!((folio.private(), folio.refs(), folio.maps()), (0, 1, 0), "a folio is born anew");
        assert_eq!(folio.offset().get() % folio.nr_pages(), 0);
        let ticket = 1 + self.tickets.fetch_add(1, Relaxed);
        for page in self.pages_of(folio.offset(), folio.order()) {
            assert_eq!(page.swap(ticket, Relaxed), 0, "{folio:?} was handed out while somebody had it");
        }
        folio.set_private(ticket);
    }

    /// What is true of a folio as long as anybody has a reference.
    fn check(&self, folio: &Folio<'_>) {
        let ticket = folio.private();
        assert_ne!(ticket, 0);
        for page in self.pages_of(folio.offset(), folio.order()) {
            assert_eq!(page.load(Relaxed), ticket, "{folio:?} is held, and not its own");
        }
    }

    /// All folios that were entered have been freed.
    fn assert_empty(&self) {
        assert_eq!(self.freed.load(Relaxed), self.tickets.load(Relaxed), "folio_free runs once for each folio");
        assert!(self.pages.iter().all(|page| page.load(Relaxed) == 0));
    }
}

impl DeviceOps for Owners {
    fn folio_free(&self, folio: FreedFolio) {
        assert_ne!(folio.private(), 0);
        for page in self.pages_of(folio.offset(), folio.order()) {
            assert_eq!(page.swap(0, Relaxed), folio.private(), "{folio:?} was freed, and is not its own");
        }
        self.freed.fetch_add(1, Relaxed);
    }
}

/// A space of `nr_pages` pages, for one device of as many that reports to `Owners`.
fn space_of(nr_pages: u64) -> (Space, Arc<Owners>, DeviceConfig) {
    let space = Space::builder().max_pages(nr_pages).cores(4).build().expect("address space");
    let owners = Owners::new(space.max_pages());
    let config = DeviceConfig::new(nr_pages).ops(Arc::clone(&owners));
    (space, owners, config)
}

/// Runs `work` on `nr_threads` threads that start together; their seeds and numbers are their own.
fn on_threads(nr_threads: usize, seed: u64, work: impl Fn(usize, Rng) + Sync) {
    let start = Barrier::new(nr_threads);
    thread::scope(|scope| {
        for number in 0..nr_threads {
            let (start, work) = (&start, &work);
            scope.spawn(move || {
                start.wait();
                work(number, Rng::seeded(seed << 8 | number as u64));
            });
        }
    });
}

/// A random number below `end`, which is not 0.
fn below(rng: &mut Rng, end: usize) -> usize {
    (rng.number() >> 16) as usize % end
}

fn order(order: u8) -> Order {
    Order::new(order).expect("at most 18")
}

/// Mostly small, up to 2^11 pages.
fn random_order(rng: &mut Rng) -> Order {
    order(match below(rng, 16) {
        0..=7 => 0,
        8..=12 => 1 + below(rng, 4) as u8,
        13..=14 => 5 + below(rng, 4) as u8,
        _ => 9 + below(rng, 3) as u8,
    })
}

/// Nothing is out: all is free, recounts, and the device goes.
fn assert_all_came_back(space: &Space, device: Device<'_>, owners: &Owners) {
    owners.assert_empty();
    assert_eq!(device.nr_live_pages(), 0);
    assert_eq!(space.validate(), Ok(()));
    device.unregister().expect("nothing of it is in use");
    assert_eq!(space.validate(), Ok(()));
}

/// Threads allocate and free runs of all orders, one by one and many at once, on a device that is nearly always full.
fn burst_of_owning(nr_threads: usize, seed: u64) {
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
fn burst_of_sharing(nr_threads: usize, seed: u64) {
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
fn burst_of_references(nr_threads: usize, seed: u64) {
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

/// Each thread keeps to its share of the device, so an allocation never fails: not when the pages are there, but
/// moved while they were looked for, nor when another thread's were given back a moment ago.
fn burst_of_fair_shares(nr_threads: usize, seed: u64) {
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

/// A driver whose callback allocates from the same device and frees other folios of it.
struct Reentrant {
    owners: Arc<Owners>,
    device: OnceLock<Device<'static>>,
    stash: Mutex<Vec<Folio<'static>>>,
    calls: AtomicU64,
}

impl DeviceOps for Reentrant {
    fn folio_free(&self, folio: FreedFolio) {
        self.owners.folio_free(folio);
        let call = self.calls.fetch_add(1, Relaxed);
        let device = self.device.get().expect("set before the first folio");
        if call % 3 == 0 {
            if let Ok(folio) = device.alloc(folio.order()) {
                self.owners.enter(&folio);
                self.stash.lock().expect("nobody panics with it").push(folio);
            }
        }
        let old = if call % 2 == 0 { self.stash.lock().expect("nobody panics with it").pop() } else { None };
        // Not under our own lock: the callback runs again for this one.
        drop(old);
    }
}

fn burst_of_reentrance(nr_threads: usize, seed: u64) {
    // A callback lives as long as its device, so what it uses is not borrowed from here.
    let space: &'static Space = Box::leak(Box::new(space_of(3 * 512).0));
    let owners = Owners::new(space.max_pages());
    let ops = Arc::new(Reentrant {
        owners: Arc::clone(&owners),
        device: OnceLock::new(),
        stash: Mutex::new(Vec::new()),
        calls: AtomicU64::new(0),
    });
    let device = space.register(DeviceConfig::new(3 * 512).ops(Arc::clone(&ops))).expect("it fits");
    ops.device.set(device.clone()).expect("set once");
    on_threads(nr_threads, seed, |_, mut rng| {
        let mut held = Vec::new();
        for _ in 0..3000 {
            if let Ok(folio) = device.alloc(order(below(&mut rng, 4) as u8)) {
                owners.enter(&folio);
                held.push(folio);
            }
            if held.len() > 20 {
                drop(held.swap_remove(below(&mut rng, held.len())));
            }
        }
    });
    // What the callbacks keep comes back once they are refused new pages.
    device.kill();
    loop {
        let folio = ops.stash.lock().expect("nobody panics with it").pop();
        let Some(folio) = folio else { break };
        drop(folio);
    }
    assert!(ops.calls.load(Relaxed) > 1000);
    assert_eq!(device.drain(LONG), Ok(()));
    assert_all_came_back(space, device, &owners);
}

/// A driver whose callback panics every time.
struct Panicking(AtomicU64);

impl DeviceOps for Panicking {
    fn folio_free(&self, folio: FreedFolio) {
        self.0.fetch_add(1, Relaxed);
        // As a panic, without the report of one.
        resume_unwind(Box::new(folio.private()));
    }
}

fn burst_of_panics(nr_threads: usize, seed: u64) {
    let space = Space::builder().max_pages(2048).build().expect("address space");
    let ops = Arc::new(Panicking(AtomicU64::new(0)));
    let device = space.register(DeviceConfig::new(2048).ops(Arc::clone(&ops))).expect("it fits");
    let allocated = AtomicU64::new(0);
    on_threads(nr_threads, seed, |_, mut rng| {
        for _ in 0..1500 {
            let Ok(folio) = device.alloc(random_order(&mut rng)) else { continue };
            let ticket = allocated.fetch_add(1, Relaxed);
            folio.set_private(ticket);
            let panic = catch_unwind(AssertUnwindSafe(|| drop(folio))).expect_err("the callback's panic comes out");
            assert_eq!(panic.downcast_ref(), Some(&ticket), "at whoever dropped the last reference");
        }
    });
    assert_eq!(ops.0.load(Relaxed), allocated.load(Relaxed));
    assert_eq!((device.nr_live_pages(), space.validate()), (0, Ok(())), "the pages were given back all the same");
    device.kill();
    assert_eq!(device.drain(LONG), Ok(()), "a panic does not hold a device up");
    device.unregister().expect("drained");
}

/// A device is killed, drained and unregistered under load, and another registered at the same offsets, again and
/// again; leaves of those before are looked up all the time, and never name a folio of a later one.
fn burst_of_devices(nr_threads: usize, seed: u64) {
    const NR_PAGES: u64 = 2 * 512 + 100;
    let space = Space::builder().max_pages(NR_PAGES).cores(4).build().expect("address space");
    let owners = Owners::new(space.max_pages());
    // The leaves of the last few devices: few enough allocations ago that no generation has come round.
    let old_leaves: Mutex<Vec<SoftLeaf>> = Mutex::default();
    let old_leaf = |rng: &mut Rng| {
        let leaves = old_leaves.lock().expect("nobody panics with it");
        (!leaves.is_empty()).then(|| leaves[below(rng, leaves.len())])
    };
    for round in 0..40 {
        let device = space.register(DeviceConfig::new(NR_PAGES).ops(Arc::clone(&owners))).expect("the last one went");
        assert_eq!(device.range().start().get(), 0, "at the same offsets");
        let (killed, leaves) = (AtomicBool::new(false), Mutex::new(Vec::new()));
        thread::scope(|scope| {
            for number in 0..nr_threads {
                let (device, space, owners, killed, leaves, old_leaf) =
                    (device.clone(), &space, &owners, &killed, &leaves, &old_leaf);
                let mut rng = Rng::seeded(seed << 16 | round << 8 | number as u64);
                scope.spawn(move || {
                    let mut mine = Vec::new();
                    // Fewer than 2^15 allocations in as many rounds as a leaf is kept.
                    for _ in 0..400 {
                        let after_kill = killed.load(Acquire);
                        match device.alloc(random_order(&mut rng)) {
                            Ok(folio) => {
                                assert!(!after_kill, "an allocation that began after the kill");
                                owners.enter(&folio);
                                mine.push(folio.into_leaf(Access::Write));
                            }
                            Err(AllocError::Dying) => break,
                            Err(AllocError::TooLarge) => {}
                            Err(_) => assert!(!after_kill, "an allocation that looked for room after the kill"),
                        }
                        if let Some(old) = old_leaf(&mut rng) {
                            assert_eq!(space.lookup(old), None, "{old:?} is a leaf of a device that went");
                            assert!(space.take(old).is_err());
                        }
                        if mine.len() > 8 {
                            let leaf = mine.swap_remove(below(&mut rng, mine.len()));
                            drop(space.take(leaf).expect("it is mapped"));
                            assert_eq!(space.lookup(leaf), None);
                        }
                    }
                    leaves.lock().expect("nobody panics with it").extend(mine.iter().copied());
                    // Another thread is in `drain` by now, or will be.
                    mine.iter().for_each(|leaf| drop(space.take(*leaf).expect("it is mapped")));
                });
            }
            let mut device = device.clone();
            if round % 4 != 0 {
                thread::sleep(Duration::from_micros(100 * (round % 7)));
            }
            if round % 3 == 0 {
                match device.unregister() {
                    // Before the first allocation.
                    Ok(()) => return,
                    Err(UnregisterError::Busy { live_pages, device: back }) => {
                        assert!(live_pages > 0);
                        device = back;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            device.kill();
            killed.store(true, Release);
            assert_eq!(device.drain(LONG), Ok(()), "whoever has pages puts them");
            assert_eq!(device.alloc(Order::ZERO).err(), Some(AllocError::Dying));
            device.unregister().expect("it is drained");
        });
        assert!(matches!(device.unregister(), Err(UnregisterError::Gone)));
        owners.assert_empty();
        assert_eq!(space.validate(), Ok(()));
        let mut old_leaves = old_leaves.lock().expect("nobody panics with it");
        old_leaves.extend(leaves.into_inner().expect("nobody panics with it"));
        let forget = old_leaves.len().saturating_sub(64);
        old_leaves.drain(..forget);
    }
    assert!(!old_leaves.into_inner().expect("nobody panics with it").is_empty());
}

/// Some threads allocate pages and others free them, so that one is in use at every moment, while one more tries to
/// unregister the device: it never succeeds, and nobody is told that the device is dying.
fn burst_of_early_unregistering(nr_threads: usize, seed: u64) {
    // A count in many parts takes long to read, and pages come and go meanwhile.
    let space = Space::builder().max_pages(512).cores(2000).build().expect("address space");
    let owners = Owners::new(512);
    let device = space.register(DeviceConfig::new(512).ops(Arc::clone(&owners))).expect("it fits");
    let first = device.alloc(Order::ZERO).expect("room");
    owners.enter(&first);
    let in_use = Mutex::new(VecDeque::from([first]));
    let lock = || in_use.lock().expect("nobody panics with it");
    // One end of the queue is worked on by every second thread; at least one page stays in it.
    let allocating = AtomicU64::new(nr_threads.div_ceil(2) as u64);
    thread::scope(|scope| {
        scope.spawn(|| {
            while allocating.load(Acquire) > 0 {
                match device.clone().unregister() {
                    Err(UnregisterError::Busy { live_pages: _, device: back }) => assert!(back == device),
                    answer => panic!("{answer:?}, and a page was in use all the time"),
                }
            }
        });
        on_threads(nr_threads, seed, |number, _| {
            if number % 2 == 0 {
                let allocated = catch_unwind(AssertUnwindSafe(|| {
                    for _ in 0..10_000 {
                        while lock().len() > 100 {
                            thread::yield_now();
                        }
                        let next = device.alloc(Order::ZERO).expect("the device is alive, and has room");
                        owners.enter(&next);
                        lock().push_back(next);
                    }
                }));
                allocating.fetch_sub(1, Release);
                allocated.unwrap_or_else(|panic| resume_unwind(panic));
            }
            while allocating.load(Acquire) > 0 {
                let mut in_use = lock();
                let last = if in_use.len() > 1 { in_use.pop_front() } else { None };
                drop(in_use);
                drop(last);
            }
        });
    });
    drop(in_use);
    assert_all_came_back(&space, device, &owners);
}

#[test]
fn each_offset_is_owned_once() {
    for (seed, nr_threads) in [2, 3, 4, 8].into_iter().enumerate() {
        burst_of_owning(nr_threads, seed as u64);
    }
}

#[test]
fn a_leaf_shares_its_folio_and_gives_its_reference_back_once() {
    for (seed, nr_threads) in [2, 3, 4, 8].into_iter().enumerate() {
        burst_of_sharing(nr_threads, seed as u64);
    }
}

#[test]
fn references_are_conserved() {
    for (seed, nr_threads) in [2, 4, 8].into_iter().enumerate() {
        burst_of_references(nr_threads, seed as u64);
    }
}

#[test]
fn a_share_is_always_there() {
    for (seed, nr_threads) in [2, 4, 8].into_iter().enumerate() {
        burst_of_fair_shares(nr_threads, seed as u64);
    }
}

#[test]
fn a_callback_allocates_and_frees() {
    for (seed, nr_threads) in [2, 4].into_iter().enumerate() {
        burst_of_reentrance(nr_threads, seed as u64);
    }
}

#[test]
fn a_panic_in_a_callback_loses_no_page() {
    for (seed, nr_threads) in [2, 4].into_iter().enumerate() {
        burst_of_panics(nr_threads, seed as u64);
    }
}

#[test]
fn a_leaf_never_names_a_folio_of_a_later_device() {
    for (seed, nr_threads) in [2, 4, 8].into_iter().enumerate() {
        burst_of_devices(nr_threads, seed as u64);
    }
}

#[test]
fn an_unregistration_that_is_refused_turns_nobody_away() {
    for (seed, nr_threads) in [2, 4].into_iter().enumerate() {
        burst_of_early_unregistering(nr_threads, seed as u64);
    }
}

#[test]
#[ignore = "a soak: runs for FARPAGE_SOAK_SECONDS seconds, 60 by default"]
fn all_of_it_for_long() {
    let seconds = std::env::var("FARPAGE_SOAK_SECONDS").map_or(60, |text| text.parse().expect("a number of seconds"));
    let bursts = [
        burst_of_owning,
        burst_of_sharing,
        burst_of_references,
        burst_of_fair_shares,
        burst_of_reentrance,
        burst_of_panics,
        burst_of_devices,
        burst_of_early_unregistering,
    ];
    let start = Instant::now();
    let mut seed = 1000;
    while start.elapsed() < Duration::from_secs(seconds) {
        let nr_threads = 2 + seed as usize % 7;
        bursts.iter().for_each(|burst| burst(nr_threads, seed));
        seed += 1;
    }
    println!("{} rounds", seed - 1000);
}
