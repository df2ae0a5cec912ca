//! Bursts on devices that come and go, and on one that must not go.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use farpage::{Access, AllocError, Device, DeviceConfig, Order, SoftLeaf, Space, UnregisterError};

use crate::owners::*;
use crate::rng::Rng;

/// A device is killed, drained and unregistered under load, and another registered at the same offsets, again and
/// again; leaves of those before are looked up all the time, and never name a folio of a later one.
pub(crate) fn burst_of_devices(nr_threads: usize, seed: u64) {
    const NR_PAGES: u64 = 2 * 512 + 100;
    let space = Space::builder().max_pages(NR_PAGES).cores(4).cache_percent(100).build().expect("address space");
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
pub(crate) fn burst_of_early_unregistering(nr_threads: usize, seed: u64) {
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

/// Whoever goes on asking a dying device for pages is refused, and does not keep it from going.
pub(crate) fn burst_of_late_comers(nr_threads: usize, seed: u64) {
    let (space, _, _) = space_of(512);
    let now: Mutex<Option<Device<'_>>> = Mutex::default();
    let lock = || now.lock().expect("nobody panics with it");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            // Far more threads than cores: most of them stand still in the middle of something.
            on_threads(4 * nr_threads, seed, |_, _| {
                while !done.load(Acquire) {
                    let device = lock().clone();
                    device.iter().for_each(|device| assert!((0..1000).all(|_| device.alloc(Order::ZERO).is_err())));
                }
            });
        });
        let gone = catch_unwind(AssertUnwindSafe(|| {
            for _ in 0..300 {
                let device = space.register(DeviceConfig::new(512)).expect("the last one went");
                device.kill();
                assert_eq!(device.drain(LONG), Ok(()), "nobody has a page");
                *lock() = Some(device.clone());
                thread::sleep(Duration::from_micros(100));
                device.unregister().expect("it is drained");
            }
        }));
        done.store(true, Release);
        gone.unwrap_or_else(|panic| resume_unwind(panic));
    });
}
