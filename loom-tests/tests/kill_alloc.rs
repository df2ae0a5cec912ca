//! Edges [drain], [claim], [init] on the whole path: `Device::kill`, `drain` and `unregister` against `Device::alloc`
//! and the end of a folio.
//!
//! Cost: 26 to 338 executions at bound 2.
//! Teeth: fails when pages are counted out before they are given back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use core::time::Duration;

use farpage::{AllocError, DeviceConfig, DeviceOps, FreedFolio, Order};
use farpage_loom_tests::{Witness, bounded, with_space};
use loom::thread;

/// Counts its calls where loom does not see it, and reads what the driver would take away after a drain.
struct Driver {
    freed: AtomicU32,
    memory: Witness,
}

struct Ops(Arc<Driver>);

impl DeviceOps for Ops {
    fn folio_free(&self, folio: FreedFolio) {
        assert_eq!((folio.private(), self.0.memory.read()), (7, 1));
        self.0.freed.fetch_add(1, Relaxed);
    }
}

fn driver() -> Arc<Driver> {
    Arc::new(Driver { freed: AtomicU32::new(0), memory: Witness::new(1) })
}

const FOREVER: Duration = Duration::MAX;

#[test]
fn an_allocation_is_refused_or_waited_for() {
    bounded("kill_alloc: alloc", || {
        with_space(4, |space| {
            let driver = driver();
            let device = space.register(DeviceConfig::new(4).ops(Ops(driver.clone()))).unwrap();
            let user = device.clone();
            let user = thread::spawn(move || match user.alloc(Order::ZERO) {
                Ok(folio) => {
                    folio.set_private(7);
                    1
                }
                Err(AllocError::Dying) => 0,
                Err(error) => panic!("{error}"),
            });
            device.kill();
            assert_eq!(device.alloc(Order::ZERO).unwrap_err(), AllocError::Dying);
            device.drain(FOREVER).unwrap();
            // The driver takes its memory away.
            driver.memory.write(0);
            assert_eq!(driver.freed.load(Relaxed), user.join().unwrap());
            space.validate().unwrap();
            device.unregister().unwrap();
            space.validate().unwrap();
        });
    });
}

/// The same where the page is at hand: freed by this cache, it is still taken in the map, and needs no search.
#[test]
fn what_a_cache_keeps_is_refused_or_waited_for() {
    bounded("kill_alloc: cache", || {
        with_space(4, |space| {
            let driver = driver();
            let device = space.register(DeviceConfig::new(4).ops(Ops(driver.clone()))).unwrap();
            let mut cache = device.cache();
            let folio = cache.alloc(Order::ZERO).unwrap();
            folio.set_private(7);
            cache.put(folio);
            let user = thread::spawn(move || {
                let allocated = match cache.alloc(Order::ZERO) {
                    Ok(folio) => {
                        folio.set_private(7);
                        cache.put(folio);
                        1
                    }
                    Err(AllocError::Dying) => 0,
                    Err(error) => panic!("{error}"),
                };
                assert!(allocated == 1 || cache.alloc(Order::ZERO).is_err(), "once refused, always refused");
                (allocated, cache)
            });
            device.kill();
            device.drain(FOREVER).unwrap();
            driver.memory.write(0);
            let (allocated, mut cache) = user.join().unwrap();
            assert_eq!(driver.freed.load(Relaxed), 1 + allocated);
            assert_eq!(cache.alloc(Order::ZERO).unwrap_err(), AllocError::Dying);
            drop(cache);
            device.unregister().unwrap();
            space.validate().unwrap();
        });
    });
}

/// Once drained, always drained: an allocation that is being refused does not keep the device.
#[test]
fn a_drained_device_can_be_unregistered() {
    bounded("kill_alloc: drained", || {
        with_space(4, |space| {
            let device = space.register(DeviceConfig::new(4)).unwrap();
            let user = device.clone();
            let user = thread::spawn(move || drop(user.alloc(Order::ZERO)));
            device.kill();
            device.drain(FOREVER).unwrap();
            // With the registration's references gone, whichever thread drops its handle last takes the device apart.
            device.unregister().unwrap();
            user.join().unwrap();
            space.validate().unwrap();
        });
    });
}

/// Unregistering while the last folio goes: either it has gone, callback and all, or the device stays.
#[test]
fn a_device_goes_after_its_last_folio() {
    bounded("kill_alloc: unregister", || {
        with_space(4, |space| {
            let driver = driver();
            let device = space.register(DeviceConfig::new(4).ops(Ops(driver.clone()))).unwrap();
            let folio = device.alloc(Order::ZERO).unwrap();
            folio.set_private(7);
            let user = thread::spawn(move || drop(folio));
            let gone = device.unregister().is_ok();
            if gone {
                driver.memory.write(0);
            }
            user.join().unwrap();
            assert_eq!(driver.freed.load(Relaxed), 1);
            assert_eq!(space.register(DeviceConfig::new(4)).is_ok(), gone);
            space.validate().unwrap();
        });
    });
}
