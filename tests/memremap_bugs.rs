//! The bugs of the first implementations elsewhere that must not be ours, each named after what went wrong there: those of
//! `mm/memremap.c`, and of the series that takes device-private pages out of the physical address space.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};
use std::thread;
use std::time::Duration;

use farpage::{
    Access, AllocError, Device, DeviceConfig, DeviceOps, Offset, Order, Owner, RangeRequest, Space, UnregisterError,
};

fn space(max_pages: u64) -> Space {
    Space::builder().max_pages(max_pages).build().expect("address space")
}

fn device_of(space: &Space, nr_pages: u64) -> Device<'_> {
    space.register(DeviceConfig::new(nr_pages)).expect("it fits")
}

fn offset(page: u64) -> Offset {
    Offset::new(page).expect("below 2^40")
}

/// Callbacks that count their drops.
struct Counted(Arc<AtomicU32>);

impl DeviceOps for Counted {}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// The pgmap was in the tree before its range, its count and its pages were there.
#[test]
fn published_before_it_was_initialised() {
    let space = space(1 << 12);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for number in 0..3 {
            let (space, done) = (&space, &done);
            scope.spawn(move || {
                while !done.load(Acquire) {
                    let found =
                        if number == 0 { space.devices().next() } else { space.device_at(offset(number * 600)) };
                    let Some(device) = found else { continue };
                    assert_eq!((device.name(), device.range().nr_pages()), ("whole", 2000));
                    assert_eq!(device.owner(), Owner::new(17));
                    // It counts and allocates, if it has not gone by now.
                    match device.alloc(Order::ZERO) {
                        Ok(folio) => assert!(device.range().contains(folio.offset())),
                        Err(error) => assert_eq!(error, AllocError::Dying),
                    }
                }
            });
        }
        for _ in 0..3000 {
            let drops = Arc::new(AtomicU32::new(0));
            let config = DeviceConfig::new(2000).name("whole").owner(Owner::new(17)).ops(Counted(Arc::clone(&drops)));
            let mut device = space.register(config).expect("the last one went");
            device.kill();
            device.drain(Duration::from_secs(60)).unwrap();
            while let Err(error) = device.unregister() {
                let UnregisterError::Busy { device: back, .. } = error else { panic!("{error}") };
                device = back;
            }
            assert_eq!(drops.load(Relaxed), 1);
        }
        done.store(true, Release);
    });
    assert_eq!(space.validate(), Ok(()));
}

/// Metadata was freed, and only then the entry erased, with no grace period: a late lookup read freed memory. (What frees too
/// early is seen by an address sanitizer, and by the model `devices`.)
#[test]
fn freed_before_it_was_erased() {
    let space = space(1024);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Acquire) {
                    // Handles that outlive their device, and pages that outlive their folio.
                    let handles: Vec<_> = (0..4).filter_map(|_| space.device_at(offset(600))).collect();
                    let page = space.page(offset(0));
                    thread::yield_now();
                    for device in handles {
                        assert!(device.range().contains(offset(600)) && device.name() == "late");
                        assert!(device.nr_live_pages() <= 1024);
                    }
                    page.into_iter().for_each(|page| assert!(["", "late"].contains(&page.device().name())));
                }
            });
        }
        for _ in 0..3000 {
            let device = space.register(DeviceConfig::new(1024).name("late")).expect("the last one went");
            let folio = device.alloc(Order::HUGE).unwrap();
            drop(folio);
            device.unregister().expect("nobody else allocates");
        }
        done.store(true, Release);
    });
}

/// No alignment was asked for: an odd-sized neighbour shifted every later pgmap off natural alignment.
#[test]
fn an_odd_sized_neighbour_shifted_the_next() {
    const GIB: u64 = 1 << 18;
    let space = space(1 << 26);
    // Odd sizes from a page to several gibibytes, side by side.
    let size = |i: u64| 1 + (i * i * 7919 + i * 104_729) % (1 << (i % 21)) + if i % 8 == 7 { GIB } else { 0 };
    let devices: Vec<_> = (0..64).map(|i| device_of(&space, size(i))).collect();
    assert!(devices.iter().filter(|device| device.range().nr_pages() % 2 == 1).count() > 16, "odd ones among them");
    let mut by_offset: Vec<_> = devices.iter().map(|device| device.range()).collect();
    by_offset.sort_by_key(|range| range.start());
    for pair in by_offset.windows(2) {
        assert!(pair[0].start().get() + pair[0].nr_pages() <= pair[1].start().get(), "{pair:?} overlap");
    }
    let mut nr_large = 0;
    for device in &devices {
        let nr_pages = device.range().nr_pages();
        for order in [Order::HUGE, Order::MAX] {
            if order.nr_pages() > nr_pages {
                assert_eq!(device.alloc(order).err(), Some(AllocError::TooLarge));
                continue;
            }
            nr_large += 1;
            // As many as fit, each at a multiple of its size.
            let folios: Vec<_> = (0..nr_pages / order.nr_pages()).map(|_| device.alloc(order).unwrap()).collect();
            assert!(folios.iter().all(|folio| folio.offset().get() % order.nr_pages() == 0));
            assert!(matches!(device.alloc(order), Err(AllocError::Exhausted { .. })), "{device:?}");
        }
    }
    assert!(nr_large >= 32, "{nr_large} devices were large enough");
    assert_eq!(space.validate(), Ok(()));
}

/// One array for all of a device's metadata, of at most `INT_MAX` bytes: no device of 128 GiB or more.
#[test]
fn no_device_beyond_128_gib() {
    let space = Space::new().unwrap();
    for gib in [127, 128, 192, 1024, 16 << 10] {
        let device = device_of(&space, gib << 18);
        let last = device.alloc_range(RangeRequest::new(1).top_down()).err();
        assert_eq!(last, None, "{gib} GiB");
        let end = device.range().start().get() + device.range().nr_pages();
        let page = device.alloc_range(RangeRequest::new(512).at(offset(end - 512))).unwrap();
        assert_eq!(space.device_at(page.offset()), Some(device.clone()));
        assert_eq!(device.alloc(Order::MAX).unwrap().offset().get() % (1 << 18), 0);
        drop(page);
        device.unregister().unwrap();
    }
}

/// An allocation after the kill was a warning, and counted all the same.
#[test]
fn an_allocation_on_a_dying_device_was_only_a_warning() {
    let space = space(512);
    let device = device_of(&space, 512);
    device.kill();
    assert_eq!(device.alloc(Order::ZERO).err(), Some(AllocError::Dying));
    assert_eq!(device.nr_live_pages(), 0);
    device.drain(Duration::ZERO).unwrap();
    device.unregister().unwrap();
}

/// Devices of 256 MiB, as drivers register them, made the tree deep; and each had to be found by its own range.
#[test]
fn many_small_chunks_made_the_lookup_deep() {
    let space = Space::new().unwrap();
    let chunks: Vec<_> = (0..320).map(|_| device_of(&space, 1 << 16)).collect();
    for (at, chunk) in chunks.iter().enumerate() {
        assert_eq!(chunk.range().start().get(), (at as u64) << 16, "without holes between them");
        let folio = chunk.alloc(Order::ZERO).unwrap();
        let leaf = folio.into_leaf(Access::Read);
        assert_eq!(space.lookup(leaf).unwrap().device(), *chunk);
        drop(space.take(leaf).unwrap());
    }
    assert_eq!(space.devices().count(), 320);
}
