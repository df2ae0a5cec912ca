//! What a cache promises on its own, one promise a test: it allocates and frees as its device does, keeps what is freed
//! within bounds, and gives everything back.
//!
//! Caches of several threads are in `threads`, random sequences in `oracle`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use farpage::{AllocError, Device, DeviceConfig, DeviceOps, FreedFolio, Order, RangeRequest, Space};

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
fn a_cache_serves_what_was_put_last() {
    let space = space(2048);
    let device = device_of(&space, 2048);
    let mut cache = device.cache();
    let folio = cache.alloc(Order::ZERO).unwrap();
    let offset = folio.offset();
    cache.put(folio);
    assert!(device.nr_cached_pages() > 0);
    assert_eq!((device.nr_live_pages(), device.nr_free_pages()), (0, 2048), "pages in caches are free");
    assert_eq!(cache.alloc(Order::ZERO).unwrap().offset(), offset);
}

#[test]
fn a_cache_that_is_drained_or_dropped_keeps_nothing() {
    let space = space(2048);
    let device = device_of(&space, 2048);
    let mut cache = device.cache();
    for again in [true, false] {
        let folio = cache.alloc(Order::ZERO).unwrap();
        cache.put(folio);
        assert!(device.nr_cached_pages() > 0);
        if again {
            cache.drain();
            assert_eq!((device.nr_cached_pages(), space.validate()), (0, Ok(())));
        }
    }
    drop(cache);
    assert_eq!((device.nr_cached_pages(), space.validate()), (0, Ok(())));
}

#[test]
fn a_reference_that_is_not_the_last_leaves_the_folio_alone() {
    let space = space(2048);
    let log = Recorder::default();
    let device = space.register(DeviceConfig::new(2048).ops(log.clone())).unwrap();
    let mut cache = device.cache();
    let folio = cache.alloc(Order::ZERO).unwrap();
    folio.set_private(7);
    cache.put(folio.clone());
    assert_eq!((folio.refs(), device.nr_live_pages(), log.0.lock().unwrap().len()), (1, 1, 0));
    let offset = folio.offset();
    cache.put(folio);
    let told: Vec<_> = log.0.lock().unwrap().iter().map(|freed| (freed.offset(), freed.private())).collect();
    assert_eq!((told, device.nr_live_pages()), (vec![(offset, 7)], 0));
}

#[test]
fn a_folio_of_another_device_goes_its_own_way() {
    let spaces = [space(4096), space(4096)];
    let device = device_of(&spaces[0], 2048);
    let others = [device_of(&spaces[0], 2048), device_of(&spaces[1], 2048)];
    assert_eq!(device.range(), others[1].range(), "another space has the same offsets");
    let mut cache = device.cache();
    for other in others {
        cache.put(other.alloc(Order::ZERO).unwrap());
        cache.drain();
        assert_eq!((device.nr_cached_pages(), other.nr_live_pages()), (0, 0));
        assert_eq!(other.alloc_range(RangeRequest::new(2048)).unwrap().range(), other.range());
    }
    assert_eq!([spaces[0].validate(), spaces[1].validate()], [Ok(()), Ok(())]);
}

#[test]
fn no_more_is_kept_than_the_percentage_and_nothing_of_small_devices() {
    for percent in [0, 1, 2, 10, 50, 99, 100, 255] {
        for nr_pages in [1, 31, 512, 1000, 5000, 40_000] {
            let space = Space::builder().max_pages(nr_pages).cores(2).cache_percent(percent).build().unwrap();
            let device = device_of(&space, nr_pages);
            let limit = space.report().devices[0].cache_limit;
            assert!(limit <= nr_pages * u64::from(percent.min(100)) / 100, "{limit} of {nr_pages}, {percent} %");
            let mut caches: Vec<_> = (0..12).map(|_| device.cache()).collect();
            for order in (0..9).filter_map(Order::new).filter(|order| order.nr_pages() <= nr_pages) {
                let mut folios = Vec::new();
                let n = (nr_pages / order.nr_pages()).min(2000);
                device.alloc_many(order, n as usize, &mut folios).unwrap();
                for (n, folio) in folios.into_iter().enumerate() {
                    caches[n % 12].put(folio);
                    assert!(device.nr_cached_pages() <= limit);
                }
            }
            assert_eq!(space.report().cached_pages, device.nr_cached_pages());
            assert_eq!(space.validate(), Ok(()));
        }
    }
}

#[test]
fn a_cache_of_a_killed_device_refuses_and_takes_back() {
    let space = space(2048);
    let device = device_of(&space, 2048);
    let mut cache = device.cache();
    let folios: Vec<_> = (0..8).map(|_| cache.alloc(Order::ZERO).unwrap()).collect();
    device.kill();
    assert_eq!(cache.alloc(Order::ZERO).err(), Some(AllocError::Dying));
    assert_eq!(cache.alloc_many(Order::ZERO, 2, &mut Vec::new()).err(), Some(AllocError::Dying));
    folios.into_iter().for_each(|folio| cache.put(folio));
    assert_eq!(device.drain(Duration::ZERO), Ok(()), "what caches keep is not in use");
    assert_eq!(space.validate(), Ok(()));
    device.unregister().expect("a live cache holds no device up");
    cache.drain();
    assert_eq!(cache.alloc(Order::ZERO).err(), Some(AllocError::Dying));
    assert_eq!((cache.device().nr_cached_pages(), space.validate()), (0, Ok(())));
}

#[test]
fn what_lies_in_caches_is_had_by_whoever_needs_it() {
    let space = space(64 * 512);
    let device = device_of(&space, 64 * 512);
    let mut caches: Vec<_> = (0..8).map(|_| device.cache()).collect();
    let fill = |caches: &mut [farpage::Cache<'_>]| {
        for cache in caches {
            for order in (0..9).filter_map(Order::new) {
                let mut folios = Vec::new();
                cache.alloc_many(order, 4, &mut folios).unwrap();
                folios.into_iter().for_each(|folio| cache.put(folio));
            }
        }
        assert!(device.nr_cached_pages() > 8 * 256, "{}", device.nr_cached_pages());
    };
    fill(&mut caches);
    let all = device.alloc_range(RangeRequest::new(64 * 512)).expect("one run of all pages");
    assert_eq!(caches[3].alloc(Order::ZERO).err(), Some(AllocError::Exhausted { requested: 1, free: 0 }));
    drop(all);
    fill(&mut caches);
    let mut folios = Vec::new();
    device.alloc_many(Order::HUGE, 64, &mut folios).expect("every block");
    folios.clear();
    fill(&mut caches);
    caches[5].alloc_many(Order::ZERO, 64 * 512, &mut folios).expect("every page");
    folios.pop();
    assert!(device.alloc(Order::ZERO).is_ok());
    assert_eq!(space.validate(), Ok(()));
}
