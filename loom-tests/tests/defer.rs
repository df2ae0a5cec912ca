//! Edge [defer]: `Queue::push` (the end of a folio of a deferring device) -> `DeferredFrees::take_batch`.
//!
//! Shape: one or two free; one takes, reads what they wrote, and gives the pages back; then the device goes.
//! Cost: 7, 7 and 337 executions at bound 2; 9, 9 and 1,977 at bound 3.
//! Teeth: fails when the push does not release, when the take does not acquire, and when the push overwrites another's.

use farpage::{DeviceConfig, Order};
use farpage_loom_tests::{Witness, bounded, with_space};
use loom::{sync::Arc, thread};

/// The data of each page: written by its holder, read by the driver.
type Data = Arc<[Witness; 4]>;

fn data() -> Data {
    Arc::new(core::array::from_fn(|_| Witness::new(0)))
}

#[test]
fn the_driver_sees_the_last_use_of_what_it_takes() {
    bounded("defer: one frees", || {
        with_space(4, |space| {
            let device = space.register(DeviceConfig::new(4).deferred()).unwrap();
            let (folio, data) = (device.alloc(Order::ZERO).unwrap(), data());
            let user = data.clone();
            let other = thread::spawn(move || {
                let at = folio.offset().get();
                user[at as usize].write(5);
                folio.set_private(5);
                drop(folio);
            });
            let deferred = device.deferred_frees().unwrap();
            let mut taken = 0;
            for folio in deferred.take_batch(2) {
                assert_eq!((data[folio.offset().get() as usize].read(), folio.private()), (5, 5));
                taken += 1;
            }
            other.join().unwrap();
            assert_eq!(taken + deferred.take_batch(2).count(), 1);
            assert_eq!(device.nr_live_pages(), 0);
            space.validate().unwrap();
            drop(deferred);
            device.unregister().unwrap();
        });
    });
}

#[test]
fn each_of_two_frees_is_taken_once() {
    bounded("defer: two free", || {
        with_space(4, |space| {
            let device = space.register(DeviceConfig::new(4).deferred()).unwrap();
            let data = data();
            let free = |value: u64| {
                let (folio, user) = (device.alloc(Order::ZERO).unwrap(), data.clone());
                move || {
                    user[folio.offset().get() as usize].write(value);
                    folio.set_private(value);
                    drop(folio);
                }
            };
            let (first, second) = (free(1), free(2));
            let (first, second) = (thread::spawn(first), thread::spawn(second));
            let deferred = device.deferred_frees().unwrap();
            let take = || -> u64 {
                let read = |folio: farpage::DeferredFolio<'_>| data[folio.offset().get() as usize].read();
                deferred.take_batch(4).map(read).sum()
            };
            let early = take();
            first.join().unwrap();
            second.join().unwrap();
            assert_eq!(early + take(), 3);
            assert_eq!(device.nr_live_pages(), 0);
            space.validate().unwrap();
            drop(device.alloc(Order::HUGE).unwrap());
            drop((deferred, free));
            drop(device);
        });
    });
}

/// Whoever frees the last folio touches nothing of the device after its driver has it: the device may go meanwhile.
#[test]
fn a_device_goes_behind_the_last_free() {
    bounded("defer: unregister", || {
        with_space(4, |space| {
            let device = space.register(DeviceConfig::new(4).deferred()).unwrap();
            let folio = device.alloc(Order::ZERO).unwrap();
            let other = thread::spawn(move || drop(folio));
            let deferred = device.deferred_frees().unwrap();
            let was_taken = deferred.take_batch(1).count() == 1;
            drop(deferred);
            assert_eq!(device.unregister().is_ok(), was_taken);
            other.join().unwrap();
            space.validate().unwrap();
        });
    });
}
