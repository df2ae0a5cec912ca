//! What a device promises, one promise a test: allocation and its refusals, folios and their counts, callbacks, and the
//! way out by kill, drain and unregister.
//!
//! Races are in `threads`, random sequences in `oracle`.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use farpage::{
    Access, AllocError, Device, DeviceConfig, DeviceOps, DrainError, Folio, FreedFolio, Order, Owner, Space,
    TooManyRefs, UnregisterError,
};

fn space(max_pages: u64) -> Space {
    Space::builder().max_pages(max_pages).build().expect("address space")
}

fn device_of(space: &Space, nr_pages: u64) -> Device<'_> {
    space.register(DeviceConfig::new(nr_pages)).expect("it fits")
}

fn order(order: u8) -> Order {
    Order::new(order).expect("at most 18")
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
fn a_folio_of_every_order_is_naturally_aligned_and_all_its_own() {
    let space = space(1 << 20);
    let device = device_of(&space, 1 << 20);
    for n in 0..=18 {
        let folio = device.alloc(order(n)).unwrap();
        assert_eq!((folio.order(), folio.nr_pages(), folio.offset().get() % (1 << n)), (order(n), 1 << n, 0));
        assert_eq!((folio.refs(), folio.maps(), folio.private()), (1, 0, 0));
        assert_eq!(device.nr_live_pages(), 1 << n);
        assert_eq!(folio.device(), device);
    }
    assert_eq!(device.nr_free_pages(), 1 << 20);
}

#[test]
fn a_full_device_is_exhausted_with_the_numbers() {
    let space = space(1024);
    let device = device_of(&space, 1000);
    let mut folios = Vec::new();
    device.alloc_many(Order::ZERO, 997, &mut folios).unwrap();
    assert_eq!(device.alloc(order(2)).err(), Some(AllocError::Exhausted { requested: 4, free: 3 }));
    device.alloc_many(Order::ZERO, 3, &mut folios).unwrap();
    assert_eq!(device.alloc(Order::ZERO).err(), Some(AllocError::Exhausted { requested: 1, free: 0 }));
    folios.pop();
    assert!(device.alloc(Order::ZERO).is_ok(), "a put helps");
}

#[test]
fn free_pages_in_too_short_runs_are_fragmented_with_the_numbers() {
    let space = space(4 * 512);
    let device = device_of(&space, 4 * 512);
    let mut folios = Vec::new();
    device.alloc_many(Order::ZERO, 4 * 512, &mut folios).unwrap();
    // Every eighth page stays.
    folios.retain(|folio| folio.offset().get() % 8 == 0);
    let free = 4 * 512 - 4 * 64;
    for n in 3..=10 {
        let (requested, largest) = (1 << n, 4);
        let refusal = AllocError::Fragmented { requested, free, largest };
        assert_eq!(device.alloc(order(n)).err(), Some(refusal), "order {n}");
    }
    assert_eq!(device.alloc(order(11)).err(), Some(AllocError::Exhausted { requested: 2048, free }));
    assert_eq!(device.alloc(order(2)).unwrap().offset().get() % 8, 4);
}

#[test]
fn what_the_device_could_never_serve_is_too_large() {
    let space = space(1 << 18);
    let device = device_of(&space, 1000);
    assert_eq!(device.alloc(order(10)).err(), Some(AllocError::TooLarge));
    assert_eq!(device.alloc(Order::MAX).err(), Some(AllocError::TooLarge));
    assert_eq!(device.alloc_many(order(10), 1, &mut Vec::new()).err(), Some(AllocError::TooLarge));
    let exhausted = |requested| Some(AllocError::Exhausted { requested, free: 1000 });
    assert_eq!(device.alloc_many(Order::ZERO, 1001, &mut Vec::new()).err(), exhausted(1001));
    assert_eq!(device.alloc_many(Order::ZERO, usize::MAX, &mut Vec::new()).err(), exhausted(u64::MAX));
    device.kill();
    assert_eq!(device.alloc_many(Order::ZERO, 1001, &mut Vec::new()).err(), Some(AllocError::Dying));
}

#[test]
fn alloc_many_gives_all_or_nothing() {
    let space = space(2048);
    let log = Recorder::default();
    let device = space.register(DeviceConfig::new(2048).ops(log.clone())).unwrap();
    let mut folios = vec![device.alloc(Order::ZERO).unwrap()];
    let refused = device.alloc_many(order(9), 4, &mut folios);
    assert_eq!(refused, Err(AllocError::Exhausted { requested: 2048, free: 2047 }));
    let refused = device.alloc_many(Order::ZERO, 2048, &mut folios);
    assert_eq!(refused, Err(AllocError::Exhausted { requested: 2048, free: 2047 }));
    assert_eq!((folios.len(), device.nr_live_pages()), (1, 1));
    assert!(log.0.lock().unwrap().is_empty(), "no callback for what was never given out");
    device.alloc_many(order(3), 0, &mut folios).unwrap();
    device.alloc_many(order(3), 255, &mut folios).unwrap();
    assert_eq!((folios.len(), device.nr_live_pages()), (256, 1 + 255 * 8));
    assert_eq!(space.validate(), Ok(()));
}

#[test]
fn the_last_put_frees_once_and_tells_the_driver() {
    let space = space(2048);
    let log = Recorder::default();
    let device = space.register(DeviceConfig::new(2048).ops(log.clone())).unwrap();
    for n in [0, 5, 9, 10] {
        let folio = device.alloc(order(n)).unwrap();
        folio.set_private(0xf00 + u64::from(n));
        let (offset, clone) = (folio.offset(), folio.clone());
        let leaf = clone.clone().into_leaf(Access::Write);
        assert_eq!((folio.refs(), folio.maps()), (3, 1));
        drop(folio);
        drop(clone);
        assert!(log.0.lock().unwrap().is_empty(), "the leaf owns a reference");
        drop(space.take(leaf).unwrap());
        let freed = log.0.lock().unwrap().pop().expect("the last put");
        assert_eq!((freed.offset(), freed.order(), freed.private()), (offset, order(n), 0xf00 + u64::from(n)));
        assert!(log.0.lock().unwrap().is_empty() && device.nr_live_pages() == 0);
    }
}

#[test]
fn nothing_of_the_last_owner_shows_through() {
    let space = space(512);
    let device = device_of(&space, 1);
    for _ in 0..10 {
        let folio = device.alloc(Order::ZERO).unwrap();
        assert_eq!((folio.private(), folio.refs(), folio.maps()), (0, 1, 0));
        folio.set_private(u64::MAX);
        let clone = folio.clone();
        drop(space.take(folio.into_leaf(Access::Read)).unwrap());
        assert_eq!(clone.private(), u64::MAX);
    }
}

#[test]
fn callbacks_may_be_shared_or_boxed() {
    let space = space(2048);
    let log = Recorder::default();
    let configs = [
        DeviceConfig::new(1).ops(Arc::new(log.clone())),
        DeviceConfig::new(1).ops(Box::new(log.clone())),
        DeviceConfig::new(1).ops(Arc::new(log.clone()) as Arc<dyn DeviceOps>),
        DeviceConfig::new(1).ops(Box::new(log.clone()) as Box<dyn DeviceOps>),
    ];
    for config in configs {
        drop(space.register(config).unwrap().alloc(Order::ZERO).unwrap());
    }
    assert_eq!(log.0.lock().unwrap().len(), 4);
}

#[test]
fn a_page_is_free_when_its_callback_has_returned_and_not_before() {
    struct Checks(std::sync::OnceLock<Device<'static>>);
    impl DeviceOps for Checks {
        fn folio_free(&self, folio: FreedFolio) {
            let device = self.0.get().unwrap();
            assert_eq!(device.nr_live_pages(), folio.order().nr_pages());
            assert_eq!(device.alloc(folio.order()).err(), Some(AllocError::Exhausted { requested: 1, free: 0 }));
        }
    }
    let space: &'static Space = Box::leak(Box::new(space(512)));
    let ops = Arc::new(Checks(std::sync::OnceLock::new()));
    let device = space.register(DeviceConfig::new(1).ops(Arc::clone(&ops))).unwrap();
    ops.0.set(device.clone()).unwrap();
    drop(device.alloc(Order::ZERO).unwrap());
    assert!(device.alloc(Order::ZERO).map(std::mem::forget).is_ok());
}

#[test]
fn a_panic_in_the_callback_comes_out_and_the_pages_go_back() {
    struct Panics;
    impl DeviceOps for Panics {
        fn folio_free(&self, _: FreedFolio) {
            resume_unwind(Box::new("the driver's"));
        }
    }
    let space = space(2048);
    let device = space.register(DeviceConfig::new(2048).ops(Panics)).unwrap();
    for n in [0, 3, 9, 11] {
        let folio = device.alloc(order(n)).unwrap();
        let panic = catch_unwind(AssertUnwindSafe(|| drop(folio))).unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&"the driver's"));
        assert_eq!((device.nr_live_pages(), space.validate()), (0, Ok(())));
    }
    device.unregister().unwrap();
}

#[test]
fn a_folio_counts_to_its_limit_and_no_further() {
    const LIMIT: u32 = (1 << 19) - 1;
    let space = space(512);
    let device = device_of(&space, 1);
    let folio = device.alloc(Order::ZERO).unwrap();
    let clones: Vec<Folio<'_>> = (1..LIMIT).map(|_| folio.try_clone().unwrap()).collect();
    assert_eq!(folio.refs(), LIMIT);
    assert_eq!(folio.try_clone().err(), Some(TooManyRefs { limit: LIMIT }));
    assert!(space.page(folio.offset()).unwrap().try_get().is_none(), "no room for one more");
    assert!(catch_unwind(AssertUnwindSafe(|| drop(folio.clone()))).is_err());
    assert_eq!(folio.refs(), LIMIT, "a refusal changes nothing");
    drop(clones);
    assert_eq!((folio.refs(), space.validate()), (1, Ok(())));
}

#[test]
fn a_killed_device_refuses_and_what_lives_goes_on_living() {
    let space = space(512);
    let device = device_of(&space, 512);
    let leaf = device.alloc(Order::ZERO).unwrap().into_leaf(Access::Write);
    device.kill();
    device.kill();
    assert_eq!(device.alloc(Order::ZERO).err(), Some(AllocError::Dying));
    assert_eq!(device.alloc_many(Order::ZERO, 1, &mut Vec::new()), Err(AllocError::Dying));
    let clone = space.lookup(leaf).unwrap().try_get().unwrap().clone();
    assert_eq!(clone.refs(), 2);
    drop(space.take(leaf).unwrap());
    assert_eq!((clone.refs(), device.nr_live_pages()), (1, 1));
}

#[test]
fn draining_a_device_that_is_alive_is_refused() {
    let space = space(512);
    let device = device_of(&space, 512);
    let _folio = device.alloc(order(3)).unwrap();
    assert_eq!(device.drain(Duration::MAX), Err(DrainError::Alive { live_pages: 8 }));
}

#[test]
fn draining_times_out_with_the_pages_in_use() {
    let space = space(512);
    let device = device_of(&space, 512);
    let folio = device.alloc(order(3)).unwrap();
    device.kill();
    let start = Instant::now();
    assert_eq!(device.drain(Duration::from_millis(20)), Err(DrainError::TimedOut { live_pages: 8 }));
    assert!(start.elapsed() >= Duration::from_millis(20));
    drop(folio);
    assert_eq!(device.drain(Duration::ZERO), Ok(()));
}

#[test]
fn the_last_put_wakes_whoever_drains() {
    struct Slow;
    impl DeviceOps for Slow {
        fn folio_free(&self, _: FreedFolio) {
            thread::sleep(Duration::from_millis(20));
        }
    }
    let space = space(512);
    let device = space.register(DeviceConfig::new(512).ops(Slow)).unwrap();
    let folios = [device.alloc(Order::ZERO).unwrap(), device.alloc(order(4)).unwrap()];
    device.kill();
    let start = Instant::now();
    thread::scope(|scope| {
        let drained = scope.spawn(|| device.drain(Duration::from_secs(60)).map(|()| start.elapsed()));
        thread::sleep(Duration::from_millis(20));
        drop(folios);
        let took = drained.join().unwrap().unwrap();
        assert!(took >= Duration::from_millis(60), "drained in {took:?}, before the last callback had returned");
        assert!(took < Duration::from_secs(20));
    });
    device.unregister().unwrap();
}

#[test]
fn a_busy_device_is_given_back_and_is_as_alive_as_before() {
    let space = space(512);
    let device = device_of(&space, 512);
    let leaf = device.alloc(order(2)).unwrap().into_leaf(Access::Read);
    let Err(UnregisterError::Busy { live_pages: 4, device }) = device.unregister() else {
        panic!("4 pages are in use")
    };
    drop(device.alloc(Order::ZERO).expect("it is alive"));
    device.kill();
    let Err(UnregisterError::Busy { live_pages: 4, device }) = device.unregister() else {
        panic!("4 pages are in use")
    };
    drop(space.take(leaf).unwrap());
    device.unregister().unwrap();
}

#[test]
fn a_device_goes_once() {
    let space = space(512);
    let device = space.register(DeviceConfig::new(512).name("vram0").owner(Owner::new(3))).unwrap();
    let (second, third) = (device.clone(), device.clone());
    device.unregister().unwrap();
    assert!(matches!(second.unregister(), Err(UnregisterError::Gone)));
    // What is left still says what it was, and refuses the rest.
    assert_eq!((third.name(), third.owner(), third.range().nr_pages()), ("vram0", Owner::new(3), 512));
    assert_eq!(third.alloc(Order::ZERO).err(), Some(AllocError::Dying));
    assert_eq!((third.drain(Duration::ZERO), third.nr_live_pages()), (Ok(()), 0));
    let next = device_of(&space, 512);
    assert_eq!(next.range(), third.range());
    assert!(next != third);
    drop(next.alloc(Order::ZERO).unwrap());
    assert!(matches!(third.unregister(), Err(UnregisterError::Gone)), "and not the next device");
}

#[test]
fn the_callbacks_of_devices_that_stay_go_with_the_space() {
    let ops = Arc::new(Recorder::default());
    let space = space(2048);
    for nr_pages in [1, 512, 700] {
        space.register(DeviceConfig::new(nr_pages).ops(Arc::clone(&ops))).unwrap();
    }
    assert_eq!(Arc::strong_count(&ops), 4);
    drop(space);
    assert_eq!(Arc::strong_count(&ops), 1);
}

#[test]
fn errors_say_their_numbers() {
    let exhausted = AllocError::Exhausted { requested: 512, free: 77 }.to_string();
    assert!(exhausted.contains("512") && exhausted.contains("77"), "{exhausted}");
    let fragmented = AllocError::Fragmented { requested: 512, free: 1077, largest: 256 }.to_string();
    assert!(["512", "1077", "256"].iter().all(|number| fragmented.contains(number)), "{fragmented}");
    let space = space(512);
    let device = space.register(DeviceConfig::new(9).name("vram7")).unwrap();
    let _folio = device.alloc(order(3)).unwrap();
    let busy = device.unregister().unwrap_err().to_string();
    assert!(busy.contains("vram7") && busy.contains('8'), "{busy}");
}
