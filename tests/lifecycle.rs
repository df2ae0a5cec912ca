//! Devices that come and go: what keeps their callbacks, what a kill stops, and who is found at an offset.
//!
//! What a device promises while it is there is in `device`; the bugs of others that must not be ours are in `memremap_bugs`;
//! devices that come and go under load are in `threads`.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};
use std::sync::{Arc, Barrier, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use farpage::{
    Access, AllocError, Device, DeviceConfig, DeviceOps, FreedFolio, Offset, Order, Owner, RangeRequest, RegisterError,
    Space, UnregisterError,
};

const LONG: Duration = Duration::from_secs(60);

fn space(max_pages: u64) -> Space {
    Space::builder().max_pages(max_pages).build().expect("address space")
}

/// A space for callbacks that keep a handle in it.
fn static_space(max_pages: u64) -> &'static Space {
    /// So that it is not taken for lost.
    static KEPT: Mutex<Vec<&Space>> = Mutex::new(Vec::new());
    let space: &'static Space = Box::leak(Box::new(space(max_pages)));
    KEPT.lock().expect("nobody panics with it").push(space);
    space
}

fn device_of(space: &Space, nr_pages: u64) -> Device<'_> {
    space.register(DeviceConfig::new(nr_pages)).expect("it fits")
}

fn offset(page: u64) -> Offset {
    Offset::new(page).expect("below 2^40")
}

/// Callbacks that count their drops, and do more if they are told to.
#[derive(Default)]
struct Ops {
    drops: Arc<AtomicU32>,
    when_freed: Option<Box<dyn Fn(FreedFolio) + Send + Sync>>,
    when_dropped: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Ops {
    /// And the count of their drops.
    fn counted() -> (Ops, Arc<AtomicU32>) {
        let ops = Ops::default();
        let drops = Arc::clone(&ops.drops);
        (ops, drops)
    }
}

impl DeviceOps for Ops {
    fn folio_free(&self, folio: FreedFolio) {
        assert_eq!(self.drops.load(Relaxed), 0, "called when they had been dropped");
        self.when_freed.iter().for_each(|when| when(folio));
    }
}

impl Drop for Ops {
    fn drop(&mut self) {
        self.drops.fetch_add(1, Relaxed);
        self.when_dropped.take().into_iter().for_each(|when| when());
    }
}

// What keeps the callbacks.

#[test]
fn the_callbacks_are_dropped_when_unregister_returns_whatever_handles_are_left() {
    let space = space(512);
    let (ops, drops) = Ops::counted();
    let device = space.register(DeviceConfig::new(512).ops(ops)).unwrap();
    let (clone, mut cache) = (device.clone(), device.cache());
    drop(cache.alloc(Order::ZERO).unwrap());
    assert_eq!(drops.load(Relaxed), 0);
    device.unregister().unwrap();
    assert_eq!(drops.load(Relaxed), 1);
    assert_eq!(cache.alloc(Order::ZERO).err(), Some(AllocError::Dying));
    assert!(matches!(clone.clone().unregister(), Err(UnregisterError::Gone)));
    drop((clone, cache));
    drop(space);
    assert_eq!(drops.load(Relaxed), 1, "and never again");
}

#[test]
fn callbacks_with_a_handle_on_their_own_device_go_all_the_same() {
    let space = static_space(512);
    let (mut ops, drops) = Ops::counted();
    let own: Arc<OnceLock<Device<'static>>> = Arc::default();
    let inside = Arc::clone(&own);
    ops.when_freed = Some(Box::new(move |folio| assert!(inside.get().unwrap().range().contains(folio.offset()))));
    let device = space.register(DeviceConfig::new(512).ops(ops)).unwrap();
    own.set(device.clone()).unwrap();
    drop(own);
    drop(device.alloc(Order::ZERO).unwrap());
    device.unregister().unwrap();
    assert_eq!(drops.load(Relaxed), 1);
}

#[test]
fn a_callback_that_is_running_keeps_the_device_and_its_callbacks() {
    let space = space(512);
    let (mut ops, drops) = Ops::counted();
    let (entered, may_return) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let (there, back) = (Arc::clone(&entered), Arc::clone(&may_return));
    ops.when_freed = Some(Box::new(move |_| _ = (there.wait(), back.wait())));
    let device = space.register(DeviceConfig::new(512).ops(ops)).unwrap();
    let folio = device.alloc(Order::new(2).unwrap()).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| drop(folio));
        entered.wait();
        let busy = device.clone().unregister();
        assert!(matches!(busy, Err(UnregisterError::Busy { live_pages: 4, .. })), "{busy:?}");
        device.kill();
        let busy = device.clone().unregister();
        assert!(matches!(busy, Err(UnregisterError::Busy { live_pages: 4, .. })), "{busy:?}");
        assert_eq!(drops.load(Relaxed), 0);
        may_return.wait();
        device.drain(LONG).unwrap();
        device.unregister().unwrap();
        assert_eq!(drops.load(Relaxed), 1);
    });
}

#[test]
fn a_callback_that_unregisters_its_device_is_told_that_it_is_busy() {
    let space = static_space(512);
    let (mut ops, drops) = Ops::counted();
    let own: Arc<OnceLock<Device<'static>>> = Arc::default();
    let inside = Arc::clone(&own);
    ops.when_freed = Some(Box::new(move |_| {
        let busy = inside.get().unwrap().clone().unregister();
        assert!(matches!(busy, Err(UnregisterError::Busy { live_pages: 1, .. })), "{busy:?}");
    }));
    let device = space.register(DeviceConfig::new(512).ops(ops)).unwrap();
    own.set(device.clone()).unwrap();
    drop(device.alloc(Order::ZERO).unwrap());
    device.unregister().unwrap();
    assert_eq!(drops.load(Relaxed), 1);
}

#[test]
fn of_many_who_unregister_one_does_and_the_callbacks_go_once() {
    for _ in 0..200 {
        let space = space(512);
        let (ops, drops) = Ops::counted();
        let device = space.register(DeviceConfig::new(512).ops(ops)).unwrap();
        let (start, done) = (Barrier::new(4), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                let device = device.clone();
                let (start, done, drops) = (&start, &done, &drops);
                scope.spawn(move || {
                    start.wait();
                    match device.unregister() {
                        Ok(()) => {
                            done.fetch_add(1, Relaxed);
                            assert_eq!(drops.load(Relaxed), 1);
                        }
                        Err(UnregisterError::Gone) => {}
                        Err(error) => panic!("{error}"),
                    }
                });
            }
        });
        assert_eq!((done.into_inner(), drops.load(Relaxed)), (1, 1));
        assert_eq!(device_of(&space, 512).range().start().get(), 0, "the offsets were given back once");
        assert!(space.register(DeviceConfig::new(1)).is_err());
    }
}

#[test]
fn a_panic_in_the_drop_of_callbacks_comes_out_of_unregister_and_the_device_has_gone() {
    let space = space(512);
    let (mut ops, drops) = Ops::counted();
    ops.when_dropped = Some(Box::new(|| resume_unwind(Box::new("the driver's"))));
    let device = space.register(DeviceConfig::new(512).ops(ops)).unwrap();
    let clone = device.clone();
    let panic = catch_unwind(AssertUnwindSafe(|| drop(device.unregister()))).unwrap_err();
    assert_eq!((panic.downcast_ref(), drops.load(Relaxed)), (Some(&"the driver's"), 1));
    assert!(matches!(clone.unregister(), Err(UnregisterError::Gone)));
    assert_eq!(space.devices().count(), 0);
    let next = device_of(&space, 512);
    drop(next.alloc(Order::HUGE).unwrap());
    assert_eq!(space.validate(), Ok(()));
}

#[test]
fn a_panic_in_the_drop_of_callbacks_with_the_space_keeps_none_of_the_others() {
    let space = space(2048);
    let drops = [(); 4].map(|()| {
        let (mut ops, drops) = Ops::counted();
        ops.when_dropped = Some(Box::new(|| resume_unwind(Box::new("the driver's"))));
        space.register(DeviceConfig::new(512).ops(ops)).unwrap();
        drops
    });
    let panic = catch_unwind(AssertUnwindSafe(|| drop(space))).unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"the driver's"));
    assert!(drops.iter().all(|drops| drops.load(Relaxed) == 1));
}

#[test]
fn callbacks_may_use_the_space_in_their_drop() {
    let space = static_space(1024);
    let use_it = |name: &'static str| {
        move || {
            assert_eq!(space.devices().count(), 1, "{name}");
            let device = space.register(DeviceConfig::new(300).name(name)).expect("no lock is held, and there is room");
            drop(device.alloc(Order::ZERO).unwrap());
            device.unregister().unwrap();
        }
    };
    let (mut ops, drops) = Ops::counted();
    let stays = device_of(space, 512);
    ops.when_dropped = Some(Box::new(use_it("unregistered")));
    space.register(DeviceConfig::new(512).ops(ops)).unwrap().unregister().unwrap();
    assert_eq!(drops.load(Relaxed), 1);
    for nr_pages in [0, 513, u64::MAX] {
        let (mut ops, drops) = Ops::counted();
        ops.when_dropped = Some(Box::new(use_it("refused")));
        let refused = space.register(DeviceConfig::new(nr_pages).ops(ops)).err();
        let expected = match nr_pages {
            0 => RegisterError::ZeroPages,
            requested => RegisterError::NoSpace { requested, free: 512, largest: 512 },
        };
        assert_eq!((refused, drops.load(Relaxed)), (Some(expected), 1));
    }
    stays.unregister().unwrap();
}

// What a kill stops.

#[test]
fn a_kill_stops_every_thread_its_caches_and_its_ranges_at_once() {
    for round in 0..20 {
        let space = Space::builder().max_pages(1 << 14).cores(4).cache_percent(100).build().unwrap();
        let device = device_of(&space, 1 << 14);
        let (killed, allocated) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            for number in 0..8 {
                let (device, killed, allocated) = (&device, &killed, &allocated);
                scope.spawn(move || {
                    let (mut cache, mut many) = (device.cache(), Vec::new());
                    loop {
                        let after_kill = killed.load(Acquire);
                        let kept = match number % 4 {
                            0 => device.alloc(Order::ZERO).map(drop),
                            // From the stash, but for the first time.
                            1 => cache.alloc(Order::ZERO).map(|folio| cache.put(folio)),
                            2 => device.alloc_many(Order::ZERO, 5, &mut many).map(|()| many.clear()),
                            _ => device.alloc_range(RangeRequest::new(40)).map(drop),
                        };
                        match kept {
                            Ok(()) => assert!(!after_kill, "thread {number} allocated after the kill"),
                            Err(AllocError::Dying) => break,
                            Err(error) => panic!("{error}"),
                        }
                        allocated.fetch_add(1, Relaxed);
                    }
                    // Not even what it has for itself.
                    assert_eq!(cache.alloc(Order::ZERO).err(), Some(AllocError::Dying));
                    assert_eq!(cache.alloc_many(Order::ZERO, 1, &mut many).err(), Some(AllocError::Dying));
                });
            }
            while allocated.load(Relaxed) < 100 * (round + 1) {
                thread::yield_now();
            }
            device.kill();
            killed.store(true, Release);
            device.drain(LONG).unwrap();
            assert_eq!(device.nr_live_pages(), 0);
        });
        device.unregister().unwrap();
        assert_eq!(space.validate(), Ok(()));
    }
}

// Who is found.

#[test]
fn every_offset_leads_to_its_device_whether_or_not_anything_was_allocated() {
    let space = space(1 << 20);
    let sizes = [1, 700, 512, 1 << 18, (1 << 18) + 5, 3000];
    let devices: Vec<_> = sizes.iter().map(|&nr_pages| device_of(&space, nr_pages)).collect();
    let folio = devices[1].alloc(Order::ZERO).unwrap();
    for device in &devices {
        let (start, end) = (device.range().start().get(), device.range().start().get() + device.range().nr_pages());
        for page in [start, (start + end) / 2, end - 1] {
            assert_eq!(space.device_at(offset(page)).as_ref(), Some(device), "page {page:#x}");
        }
        if end % 512 != 0 {
            assert_eq!(space.device_at(offset(end)), None, "the rest of the last block is nobody's");
        }
    }
    assert_eq!(space.device_at(offset((1 << 20) - 1)), None);
    assert_eq!(space.device_at(offset((1 << 40) - 1)), None, "beyond the space");

    let mut by_offset = devices.clone();
    by_offset.sort_by_key(|device| device.range().start());
    assert_eq!(space.devices().collect::<Vec<_>>(), by_offset);

    let (first, of_folio) = (devices[0].clone(), devices[1].clone());
    drop(devices);
    first.kill();
    assert_eq!(space.device_at(first.range().start()), Some(first.clone()), "killed, and still there");
    first.clone().unregister().unwrap();
    assert_eq!(space.device_at(first.range().start()), None);
    assert_eq!(space.devices().count(), 5);
    let next = device_of(&space, 9);
    assert_eq!(space.device_at(first.range().start()), Some(next), "its offsets are another's");
    assert_eq!(folio.device(), of_folio);
}

#[test]
fn a_page_leads_to_the_device_of_its_own_life_and_to_no_other() {
    let space = space(512);
    let device = space.register(DeviceConfig::new(512).name("first").owner(Owner::new(1))).unwrap();
    for order in [Order::ZERO, Order::new(3).unwrap(), Order::HUGE] {
        let folio = device.alloc(order).unwrap();
        let tail = offset(folio.offset().get() + folio.nr_pages() - 1);
        let (page, refs) = (space.page(tail).unwrap(), folio.refs());
        assert_eq!((page.device(), folio.refs()), (device.clone(), refs));
        drop(folio);
        assert_eq!((page.device().name(), page.device().range().nr_pages()), ("", 0), "it has been freed");
    }
    let folio = device.alloc(Order::HUGE).unwrap();
    let page = space.page(folio.offset()).unwrap();
    drop(folio);
    device.clone().unregister().unwrap();
    assert_eq!(page.device().name(), "");
    let second = space.register(DeviceConfig::new(512).name("second")).unwrap();
    let folio = second.alloc(Order::HUGE).unwrap();
    assert_eq!(folio.offset(), page.folio_offset(), "at the same place");
    assert_eq!(page.device().name(), "", "and still not the first page's device");
    assert_eq!(page.device().alloc(Order::ZERO).err(), Some(AllocError::TooLarge), "which has no pages");
    assert_eq!(page.try_get(), None);
}

#[test]
fn a_leaf_of_a_device_that_went_is_stale_in_every_later_one() {
    let space = space(512);
    let mut leaves = Vec::new();
    for round in 0..1000u32 {
        let device = device_of(&space, 512);
        let folio = device.alloc(Order::new((round % 10) as u8).unwrap()).unwrap();
        for &old in &leaves {
            assert_eq!(space.lookup(old), None);
            assert!(space.take(old).is_err());
        }
        let leaf = folio.into_leaf(Access::Write);
        assert_eq!(space.lookup(leaf).unwrap().device(), device);
        drop(space.take(leaf).unwrap());
        leaves.push(leaf);
        device.unregister().unwrap();
    }
}
