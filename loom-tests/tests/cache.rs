//! Edges [verify], [steal], [drain] on the whole path: a `Cache`, whose seat keeps pages, beside `Device::alloc`, which has
//! none here, and beside the end of the device.
//!
//! A device of 4 pages, of which a cache keeps one.
//!
//! Shape: one puts into the cache, takes from it or drops it; another allocates what must be there, or unregisters.
//! Cost: 22 to 3,492 executions at bound 2, 39 to 96,136 (17 s) at bound 3. Where two want one page 11,653 at bound 1, which
//! is all it gets: 1,230,925 (3 minutes) at bound 2.
//! Teeth: fails when the stashes of a device that goes are not emptied.

use farpage::{Device, DeviceConfig, Folio, Order, Space};
use farpage_loom_tests::{bounded, bounded_by, with_space};
use loom::thread;

/// A device of which `nr` pages are in use.
fn device(space: &'static Space, nr: usize) -> (Device<'static>, Vec<Folio<'static>>) {
    let device = space.register(DeviceConfig::new(4)).unwrap();
    let folios = (0..nr).map(|_| device.alloc(Order::ZERO).unwrap()).collect();
    (device, folios)
}

/// The last free page moves from the map into the cache.
#[test]
fn a_page_that_is_put_into_a_cache_is_found() {
    bounded("cache: put", || {
        with_space(4, |space| {
            let (device, folios) = device(space, 2);
            let (mut cache, beside) = (device.cache(), device.clone());
            // From here, so that the seat is there before the other thread comes to it: loom does not see how it is made.
            let folio = cache.alloc(Order::ZERO).unwrap();
            let other = thread::spawn(move || {
                cache.put(folio);
                // Fails if the other one was there first.
                (beside.alloc(Order::ZERO).ok(), cache)
            });
            let here = device.alloc(Order::ZERO).expect("a page was free all the time");
            let (there, cache) = other.join().unwrap();
            space.validate().unwrap();
            drop((here, there, cache, folios));
            assert_eq!((device.nr_live_pages(), device.nr_cached_pages()), (0, 0));
            space.validate().unwrap();
            drop(device);
        });
    });
}

/// The only free page is in the cache, whose owner takes it and puts it back.
#[test]
fn a_page_in_a_cache_goes_to_its_owner_or_to_who_needs_it() {
    bounded_by(1, "cache: alloc", || {
        with_space(4, |space| {
            let (device, mut folios) = device(space, 4);
            let mut cache = device.cache();
            cache.put(folios.pop().unwrap());
            let other = thread::spawn(move || (cache.alloc(Order::ZERO).ok(), cache));
            let here = device.alloc(Order::ZERO).ok();
            let (there, cache) = other.join().unwrap();
            assert!(here.is_some() != there.is_some(), "one page for two");
            space.validate().unwrap();
            drop((here, there, cache, folios));
            space.validate().unwrap();
            drop(device);
        });
    });
}

#[test]
fn what_a_dropped_cache_kept_is_found() {
    bounded("cache: drop", || {
        with_space(4, |space| {
            let (device, mut folios) = device(space, 4);
            let mut cache = device.cache();
            cache.put(folios.pop().unwrap());
            let other = thread::spawn(move || drop(cache));
            let here = device.alloc(Order::ZERO).expect("a page was free all the time");
            other.join().unwrap();
            space.validate().unwrap();
            drop((here, folios));
            assert_eq!((device.nr_live_pages(), device.nr_cached_pages()), (0, 0));
            drop(device);
        });
    });
}

/// The last page goes into the cache while the device is unregistered: it goes with it, or the device stays.
#[test]
fn a_device_goes_with_what_its_caches_keep() {
    bounded("cache: unregister", || {
        with_space(4, |space| {
            let (device, _) = device(space, 0);
            let (mut cache, handle) = (device.cache(), device.clone());
            // From here: as above.
            let folio = cache.alloc(Order::ZERO).unwrap();
            let other = thread::spawn(move || {
                cache.put(folio);
                cache
            });
            let gone = device.unregister().is_ok();
            let cache = other.join().unwrap();
            assert_eq!(handle.nr_live_pages(), 0);
            space.validate().unwrap();
            assert_eq!(space.register(DeviceConfig::new(4)).is_ok(), gone);
            drop((cache, handle));
            space.validate().unwrap();
        });
    });
}
