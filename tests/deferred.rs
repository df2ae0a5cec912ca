//! Freed folios that wait for their driver: kept, counted, taken once and in order, and given back when the driver is
//! done.
#![cfg(not(loom))]

use std::sync::atomic::{AtomicU64, Ordering::*};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use farpage::{
    Access, AllocError, DeferredFolio, DeviceConfig, DeviceOps, DrainError, Folio, FolioSplit, FreedFolio, Order,
    Pressure, RangeRequest, Space, UnregisterError,
};

fn order(order: u8) -> Order {
    Order::new(order).expect("at most 18")
}

fn space() -> Space {
    Space::builder().max_pages(1 << 20).cores(2).build().expect("address space")
}

#[test]
fn freed_folios_wait_in_order_and_are_taken_once() {
    let space = space();
    let device = space.register(DeviceConfig::new(1 << 13).deferred()).unwrap();
    let deferred = device.deferred_frees().unwrap();
    assert!(deferred.is_empty() && *deferred.device() == device);
    let mut expected = Vec::new();
    for (number, n) in [0, 3, 9, 0, 8, 12, 1, 9].into_iter().enumerate() {
        let folio = device.alloc(order(n)).unwrap();
        folio.set_private(number as u64);
        expected.push((folio.offset(), folio.order(), number as u64));
        let leaf = folio.into_leaf(Access::Write);
        drop(space.take(leaf).unwrap());
        // Ended for everybody but its driver.
        assert!(space.lookup(leaf).is_none() && space.page(leaf.offset().unwrap()).is_none());
    }
    let live = device.nr_live_pages();
    assert_eq!(live, expected.iter().map(|(_, order, _)| order.nr_pages()).sum::<u64>());
    space.validate().unwrap();
    let seen = |folio: &DeferredFolio<'_>| (folio.offset(), folio.order(), folio.private());
    // Three, of which one goes on while two are kept; then one more that is freed meanwhile comes last.
    let mut taken: Vec<DeferredFolio<'_>> = deferred.take_batch(3).collect();
    assert_eq!(taken.iter().map(seen).collect::<Vec<_>>(), expected[..3]);
    assert_eq!((device.nr_live_pages(), space.validate()), (live, Ok(())), "taken is not given back");
    let first = taken.remove(0);
    assert_eq!((first.freed().order(), first.nr_pages()), (expected[0].1, expected[0].1.nr_pages()));
    drop(first);
    assert_eq!(device.nr_live_pages(), live - expected[0].1.nr_pages());
    drop(device.alloc(order(2)).unwrap());
    let rest: Vec<DeferredFolio<'_>> = deferred.take_batch(usize::MAX).collect();
    assert_eq!(rest[..5].iter().map(seen).collect::<Vec<_>>(), expected[3..]);
    assert_eq!((rest.len(), rest[5].order()), (6, order(2)));
    assert!(deferred.is_empty() && deferred.take_batch(1).next().is_none());
    space.validate().unwrap();
    drop((taken, rest));
    assert_eq!((device.nr_live_pages(), space.validate()), (0, Ok(())));
    assert_eq!(device.alloc_range(RangeRequest::new(1 << 13)).unwrap().range(), device.range());
}

#[test]
fn what_the_iterator_does_not_get_to_stays() {
    let space = space();
    let device = space.register(DeviceConfig::new(512).deferred()).unwrap();
    let deferred = device.deferred_frees().unwrap();
    let mut folios = Vec::new();
    device.alloc_many(Order::ZERO, 10, &mut folios).unwrap();
    drop(folios);
    let mut batch = deferred.take_batch(8);
    drop(batch.next().unwrap());
    drop(batch);
    assert_eq!(deferred.take_batch(0).count(), 0);
    assert_eq!((device.nr_live_pages(), deferred.take_batch(100).count()), (9, 9));
}

#[test]
fn every_way_to_free_leads_to_the_driver() {
    let space = space();
    let device = space.register(DeviceConfig::new(1 << 12).deferred()).unwrap();
    let (deferred, mut cache) = (device.deferred_frees().unwrap(), device.cache());
    let count = |nr_pages: u64| {
        let mut nr = 0;
        assert_eq!(device.nr_live_pages(), nr_pages);
        for folio in deferred.take_batch(usize::MAX) {
            nr += folio.nr_pages();
        }
        assert_eq!((nr, device.nr_live_pages(), space.validate()), (nr_pages, 0, Ok(())));
    };
    let folio = cache.alloc(order(1)).unwrap();
    cache.put(folio);
    count(2);
    drop(device.alloc_range(RangeRequest::new(1 << 11).align(2)).unwrap());
    count(1 << 11);
    drop(device.alloc_range(RangeRequest::new(777)).unwrap());
    count(777);
    drop(device.alloc(order(9)).unwrap().split(order(0)).unwrap());
    count(512);
    // Parts that nobody needs wait as well.
    let folio = device.alloc(order(9)).unwrap();
    folio.give_up(0..500).unwrap();
    let kept: Vec<Folio<'_>> = folio.split(order(2)).unwrap().collect();
    assert_eq!((kept.len(), device.nr_given_up_pages()), (3, 0));
    drop(kept);
    count(512);
    // A range of which another has a part.
    let range = device.alloc_range(RangeRequest::new(96).align(64)).unwrap();
    let kept = range.page(64).unwrap().try_get().unwrap();
    drop(range);
    assert_eq!(deferred.take_batch(usize::MAX).map(|folio| folio.nr_pages()).sum::<u64>(), 64);
    drop(kept);
    count(32);
}

#[test]
fn a_device_waits_for_its_driver() {
    let space = space();
    let device = space.register(DeviceConfig::new(1024).deferred()).unwrap();
    let deferred = device.deferred_frees().unwrap();
    drop(device.alloc(order(9)).unwrap());
    let Err(UnregisterError::Busy { live_pages: 512, device }) = device.unregister() else { panic!("512 pages wait") };
    device.kill();
    let taken = deferred.take_batch(1).next().unwrap();
    assert_eq!(device.drain(Duration::ZERO), Err(DrainError::TimedOut { live_pages: 512 }));
    let waiter = device.clone();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(move || waiter.drain(Duration::from_secs(60)));
        drop(taken);
        assert_eq!(waiter.join().unwrap(), Ok(()));
    });
    device.unregister().unwrap();
    assert!(deferred.take_batch(1).next().is_none() && deferred.is_empty());
    // The next device there calls its driver again, or nobody.
    let device = space.register(DeviceConfig::new(1024)).unwrap();
    assert!(device.deferred_frees().is_none());
    drop(device.alloc(order(9)).unwrap());
    assert_eq!(device.nr_live_pages(), 0);
}

/// Counts what it is told.
#[derive(Default)]
struct Ops {
    splits: AtomicU64,
    pressures: AtomicU64,
}

impl DeviceOps for Ops {
    fn folio_free(&self, folio: FreedFolio) {
        panic!("{folio:?} waits for the driver");
    }

    fn folio_split(&self, _: FolioSplit<'_>) {
        self.splits.fetch_add(1, Relaxed);
    }

    fn pressure(&self, _: Pressure) -> bool {
        self.pressures.fetch_add(1, Relaxed);
        false
    }
}

#[test]
fn the_other_callbacks_are_called_all_the_same() {
    let space = space();
    let ops = Arc::new(Ops::default());
    let device = space.register(DeviceConfig::new(512).ops(Arc::clone(&ops)).deferred()).unwrap();
    drop(device.alloc(order(9)).unwrap().split(order(8)).unwrap());
    assert_eq!(ops.splits.load(Relaxed), 3);
    // What waits is not free.
    assert_eq!(device.alloc(order(0)), Err(AllocError::Exhausted { requested: 1, free: 0 }));
    assert_eq!(ops.pressures.load(Relaxed), 1);
    assert_eq!(device.deferred_frees().unwrap().take_batch(9).count(), 2);
    drop(device.alloc(order(9)).unwrap());
}

/// Many free, some take: every folio arrives once, and nothing is lost.
#[test]
fn many_free_and_some_take() {
    const ROUNDS: u64 = 4000;
    let space = space();
    let device = space.register(DeviceConfig::new(1 << 12).deferred()).unwrap();
    let (sum, freeing, start) = (AtomicU64::new(0), AtomicU64::new(3), Barrier::new(5));
    std::thread::scope(|scope| {
        for thread in 0..3u64 {
            let (device, start, freeing) = (&device, &start, &freeing);
            scope.spawn(move || {
                start.wait();
                for round in 0..ROUNDS {
                    let folio = loop {
                        match device.alloc(order([0, 0, 2, 9][round as usize % 4])) {
                            Ok(folio) => break folio,
                            Err(_) => std::thread::yield_now(),
                        }
                    };
                    folio.set_private(1 + thread * ROUNDS + round);
                    drop(folio);
                }
                freeing.fetch_sub(1, Release);
            });
        }
        for _ in 0..2 {
            let (device, start, freeing, sum) = (&device, &start, &freeing, &sum);
            scope.spawn(move || {
                let deferred = device.deferred_frees().unwrap();
                start.wait();
                loop {
                    let are_done = freeing.load(Acquire) == 0;
                    let taken: u64 = deferred.take_batch(16).map(|folio| folio.private()).sum();
                    sum.fetch_add(taken, Relaxed);
                    if taken == 0 && are_done {
                        break;
                    }
                    std::thread::yield_now();
                }
            });
        }
    });
    let all = 3 * ROUNDS;
    assert_eq!(sum.load(Relaxed), all * (all + 1) / 2, "each private word once");
    assert_eq!((device.nr_live_pages(), space.validate()), (0, Ok(())));
}
