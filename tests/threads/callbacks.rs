//! Bursts on callbacks that allocate, free and panic.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::sync::{Arc, Mutex, OnceLock};

use farpage::{Device, DeviceConfig, DeviceOps, Folio, FreedFolio, Space};

use crate::owners::*;

/// A driver whose callback allocates from the same device and frees other folios of it.
pub(crate) struct Reentrant {
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

pub(crate) fn burst_of_reentrance(nr_threads: usize, seed: u64) {
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
pub(crate) struct Panicking(AtomicU64);

impl DeviceOps for Panicking {
    fn folio_free(&self, folio: FreedFolio) {
        self.0.fetch_add(1, Relaxed);
        // As a panic, without the report of one.
        resume_unwind(Box::new(folio.private()));
    }
}

pub(crate) fn burst_of_panics(nr_threads: usize, seed: u64) {
    let space = Space::builder().max_pages(2048).cores(2).cache_percent(100).build().expect("address space");
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
