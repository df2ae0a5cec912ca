//! Bursts on callbacks that allocate, free, split and panic, and that make room under pressure.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use farpage::{Cache, Device, DeviceConfig, DeviceOps, Folio, FolioSplit, FreedFolio, Pressure, RangeRequest, Space};

use crate::owners::*;

/// A driver whose callback allocates from the same device, splits, and frees other folios of it: by its thread, and
/// through a cache of the driver's own.
pub(crate) struct Reentrant {
    owners: Arc<Owners>,
    device: OnceLock<Device<'static>>,
    cache: OnceLock<Mutex<Cache<'static>>>,
    kept: Mutex<Vec<Folio<'static>>>,
    calls: AtomicU64,
}

impl Reentrant {
    fn kept(&self) -> MutexGuard<'_, Vec<Folio<'static>>> {
        self.kept.lock().expect("nobody panics with it")
    }
}

impl DeviceOps for Reentrant {
    fn folio_free(&self, folio: FreedFolio) {
        self.owners.folio_free(folio);
        let call = self.calls.fetch_add(1, Relaxed);
        // The callback runs again for what is put through the cache; then, or when another thread has it, without.
        let mut cache = self.cache.get().and_then(|cache| cache.try_lock().ok());
        if call % 3 == 0 {
            let folio = match &mut cache {
                Some(cache) => cache.alloc(folio.order()),
                None => self.device.get().expect("set before the first folio").alloc(folio.order()),
            };
            if let Ok(folio) = folio {
                self.owners.enter(&folio);
                match folio.split(order(0)) {
                    Ok(mut parts) if call % 9 == 0 => self.kept().extend(parts.next()),
                    Ok(parts) => drop(parts),
                    Err(error) => self.kept().push(error.into_folio()),
                }
            }
        }
        let old = if call % 2 == 0 { self.kept().pop() } else { None };
        // Not under the lock on what is kept: the callback runs again for this one.
        match (&mut cache, old) {
            (Some(cache), Some(old)) if call % 4 == 0 => cache.put(old),
            (_, old) => drop(old),
        }
    }

    fn folio_split(&self, split: FolioSplit<'_>) {
        self.owners.folio_split(split);
        if split.is_end() && self.calls.load(Relaxed) % 2 == 0 {
            let old = self.kept().pop();
            drop(old);
        }
    }
}

pub(crate) fn burst_of_reentrance(nr_threads: usize, seed: u64) {
    const NR_PAGES: u64 = 6 * 512;
    // A callback lives as long as its device, so what it uses is not borrowed from here.
    let space: &'static Space = Box::leak(Box::new(space_of(NR_PAGES).0));
    let owners = Owners::new(space.max_pages());
    let ops = Arc::new(Reentrant {
        owners: Arc::clone(&owners),
        device: OnceLock::new(),
        cache: OnceLock::new(),
        kept: Mutex::new(Vec::new()),
        calls: AtomicU64::new(0),
    });
    let device = space.register(DeviceConfig::new(NR_PAGES).ops(Arc::clone(&ops))).expect("it fits");
    ops.device.set(device.clone()).expect("set once");
    if seed % 2 == 0 {
        ops.cache.set(Mutex::new(device.cache())).expect("set once");
    }
    on_threads(nr_threads, seed, |number, mut rng| {
        let (mut held, mut cache) = (Vec::new(), (number % 2 == 0).then(|| device.cache()));
        for _ in 0..3000 {
            let folio_order = order(below(&mut rng, 4) as u8);
            let folio = match &mut cache {
                Some(cache) => cache.alloc(folio_order),
                None => device.alloc(folio_order),
            };
            if let Ok(folio) = folio {
                owners.enter(&folio);
                held.push(folio);
            }
            if held.len() > 20 {
                let folio = held.swap_remove(below(&mut rng, held.len()));
                match &mut cache {
                    Some(cache) => cache.put(folio),
                    None => drop(folio),
                }
            }
            if below(&mut rng, 16) == 0 {
                // Several folios that end in one call, and the callback of each.
                if let Ok(range) = device.alloc_range(RangeRequest::new(1 + below(&mut rng, 60) as u64)) {
                    owners.enter_range(&range);
                }
            }
        }
    });
    // What the callbacks keep comes back once they are refused new pages.
    device.kill();
    loop {
        let folio = ops.kept().pop();
        let Some(folio) = folio else { break };
        drop(folio);
    }
    assert!(ops.calls.load(Relaxed) > 1000);
    assert_eq!(device.drain(LONG), Ok(()));
    assert_all_came_back(space, device, &owners);
}

/// A driver whose callback panics every time.
pub(crate) struct Panicking(AtomicU64);

impl DeviceOps for Panicking {
    fn folio_free(&self, folio: FreedFolio) {
        self.0.fetch_add(1, Relaxed);
        // As a panic, without the report of one.
        resume_unwind(Box::new(folio.private()));
    }
}

/// The panic of the callback of whatever `put` frees: the private word of its folio.
fn panic_of(put: impl FnOnce()) -> u64 {
    let panic = catch_unwind(AssertUnwindSafe(put)).expect_err("the callback's panic comes out");
    *panic.downcast_ref().expect("a private word")
}

pub(crate) fn burst_of_panics(nr_threads: usize, seed: u64) {
    const NR_PAGES: u64 = 8 * 512;
    let space = Space::builder().max_pages(NR_PAGES).cores(2).cache_percent(100).build().expect("address space");
    let ops = Arc::new(Panicking(AtomicU64::new(0)));
    let device = space.register(DeviceConfig::new(NR_PAGES).ops(Arc::clone(&ops))).expect("it fits");
    let allocated = AtomicU64::new(0);
    let mark = |folio: &Folio<'_>| {
        let ticket = allocated.fetch_add(1, Relaxed);
        folio.set_private(ticket);
        ticket
    };
    on_threads(nr_threads, seed, |_, mut rng| {
        let mut cache = device.cache();
        for _ in 0..1500 {
            match below(&mut rng, 4) {
                0 => {
                    let Ok(folio) = device.alloc(random_order(&mut rng)) else { continue };
                    let ticket = mark(&folio);
                    assert_eq!(panic_of(|| drop(folio)), ticket, "at whoever dropped the last reference");
                }
                1 => {
                    let Ok(folio) = cache.alloc(random_order(&mut rng)) else { continue };
                    let ticket = mark(&folio);
                    assert_eq!(panic_of(|| cache.put(folio)), ticket, "at whoever put the last reference");
                }
                2 => {
                    let Ok(folio) = device.alloc(order(1 + below(&mut rng, 10) as u8)) else { continue };
                    let (ticket, part) = (mark(&folio), order(below(&mut rng, usize::from(folio.order().get())) as u8));
                    let parts = folio.split(part).expect("nobody else has it");
                    allocated.fetch_add(parts.len() as u64 - 1, Relaxed);
                    assert_eq!(panic_of(|| drop(parts)), ticket, "the first of them, and the others ran all the same");
                }
                _ => {
                    let Ok(range) = device.alloc_range(RangeRequest::new(1 + below(&mut rng, 700) as u64)) else {
                        continue;
                    };
                    let marked = range.folios().map(|page| mark(&page.try_get().expect("it is held")));
                    let first = marked.min().expect("at least one folio");
                    assert_eq!(panic_of(|| drop(range)), first, "the first of them, and the others ran all the same");
                }
            }
        }
    });
    assert_eq!(ops.0.load(Relaxed), allocated.load(Relaxed));
    assert_eq!((device.nr_live_pages(), space.validate()), (0, Ok(())), "the pages were given back all the same");
    let mut all = Vec::new();
    device.alloc_many(order(0), NR_PAGES as usize, &mut all).expect("each of them");
    all.into_iter().for_each(|folio| assert_eq!(panic_of(|| drop(folio)), 0));
    device.kill();
    assert_eq!(device.drain(LONG), Ok(()), "a panic does not hold a device up");
    device.unregister().expect("drained");
}

thread_local! {
    static PRESSURES: Cell<u64> = const { Cell::new(0) };
}

/// A driver that keeps folios for later, and lets them go when there is no room.
#[derive(Default)]
pub(crate) struct Caching {
    owners: OnceLock<Arc<Owners>>,
    kept: Mutex<Vec<Folio<'static>>>,
}

impl DeviceOps for Caching {
    fn folio_free(&self, folio: FreedFolio) {
        self.owners.get().expect("set before the first folio").folio_free(folio);
    }

    fn pressure(&self, pressure: Pressure) -> bool {
        assert!(pressure.nr_pages() > 0);
        PRESSURES.set(PRESSURES.get() + 1);
        let kept = std::mem::take(&mut *self.kept.lock().expect("nobody panics with it"));
        !kept.is_empty()
    }
}

/// Threads allocate, and leave what they have with a driver that frees it only under pressure.
pub(crate) fn burst_of_pressure(nr_threads: usize, seed: u64) {
    const NR_PAGES: u64 = 2 * 512;
    let space: &'static Space = Box::leak(Box::new(space_of(NR_PAGES).0));
    let (owners, ops) = (Owners::new(space.max_pages()), Arc::new(Caching::default()));
    assert!(ops.owners.set(Arc::clone(&owners)).is_ok());
    let device = space.register(DeviceConfig::new(NR_PAGES).ops(Arc::clone(&ops))).expect("it fits");
    let (made, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    on_threads(nr_threads, seed, |number, mut rng| {
        let mut cache = (number % 2 == 0).then(|| device.cache());
        for _ in 0..3000 {
            let (wanted, before) = (random_order(&mut rng).min(order(9)), PRESSURES.get());
            let folio = match &mut cache {
                Some(cache) => cache.alloc(wanted),
                None => device.alloc(wanted),
            };
            let asked = PRESSURES.get() - before;
            match folio {
                Ok(folio) => {
                    assert!(asked <= 1);
                    made.fetch_add(asked, Relaxed);
                    owners.enter(&folio);
                    ops.kept.lock().expect("nobody panics with it").push(folio);
                }
                Err(_) => {
                    assert_eq!(asked, 1, "once before it fails");
                    refused.fetch_add(1, Relaxed);
                }
            }
        }
    });
    // What is made room for, another may take first; mostly it is not so.
    assert!(made.load(Relaxed) > 10, "{made:?} had room made, {refused:?} not");
    let kept = std::mem::take(&mut *ops.kept.lock().expect("nobody panics with it"));
    drop(kept);
    assert_all_came_back(space, device, &owners);
}
