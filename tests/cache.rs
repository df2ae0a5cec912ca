//! What a cache promises on its own, one promise a test: it allocates and frees as its device does, keeps what is freed
//! within bounds, and gives everything back.
//!
//! Caches of several threads are in `threads`, random sequences in `oracle`.

use std::sync::{Arc, Mutex};

use farpage::{Device, DeviceConfig, DeviceOps, FreedFolio, Order, Space};

/// A space whose devices may keep all their free pages in caches.
fn space(max_pages: u64) -> Space {
    Space::builder().max_pages(max_pages).cores(2).cache_percent(100).build().expect("address space")
}

fn device_of(space: &Space, nr_pages: u64) -> Device<'_> {
    space.register(DeviceConfig::new(nr_pages)).expect("it fits")
}

/// A driver that writes down what it is told.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<FreedFolio>>>);

impl DeviceOps for Recorder {
    fn folio_free(&self, folio: FreedFolio) {
        self.0.lock().unwrap().push(folio);
    }
}

#[test]
fn a_cache_of_a_device_that_went_keeps_nothing_of_the_next_one() {
    let space = space(2048);
    let (first_log, second_log) = (Recorder::default(), Recorder::default());
    let first = space.register(DeviceConfig::new(2048).ops(first_log.clone())).unwrap();
    let mut cache = first.cache();
    first.unregister().unwrap();
    let second = space.register(DeviceConfig::new(2048).ops(second_log.clone())).unwrap();
    let folio = second.alloc(Order::ZERO).unwrap();
    cache.put(folio);
    assert_eq!(space.validate(), Ok(()));
    assert_eq!(
        (first_log.0.lock().unwrap().len(), second_log.0.lock().unwrap().len()),
        (0, 1),
        "its own driver is told"
    );
    assert_eq!((second.nr_live_pages(), space.validate()), (0, Ok(())));
    drop(cache);
    let mut all = Vec::new();
    second.alloc_many(Order::ZERO, 2048, &mut all).expect("no page is lost");
}

#[test]
fn a_cache_serves_and_keeps() {
    let space = space(2048);
    let device = device_of(&space, 2048);
    let mut cache = device.cache();
    let folio = cache.alloc(Order::ZERO).unwrap();
    cache.put(folio);
    assert_eq!((device.nr_cached_pages(), device.nr_live_pages()), (1, 0));
}
