//! The driver's callbacks: when each is called, what it may do (anything), and what holds when it panics.
#![cfg(not(loom))]

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::sync::{Arc, Mutex, OnceLock};

use farpage::{
    Access, AllocError, Device, DeviceConfig, DeviceOps, Folio, FolioSplit, FreedFolio, Order, Pressure, RangeHandle,
    RangeRequest, Space, UnregisterError,
};

fn order(order: u8) -> Order {
    Order::new(order).expect("at most 18")
}

/// A callback lives as long as its device, so what it uses is not borrowed from a test.
fn space() -> &'static Space {
    Box::leak(Box::new(Space::builder().max_pages(1 << 20).cores(2).build().expect("address space")))
}

/// All that a callback could want to do to the space that it is called from.
struct Busybody {
    space: &'static Space,
    device: OnceLock<Device<'static>>,
    /// Devices to unregister, folios to put.
    others: Mutex<Vec<Device<'static>>>,
    folios: Mutex<Vec<Folio<'static>>>,
    lock_of_the_driver: Mutex<()>,
    calls: [AtomicU64; 3],
}

impl Busybody {
    fn register(space: &'static Space, nr_pages: u64) -> (Arc<Busybody>, Device<'static>) {
        let ops = Arc::new(Busybody {
            space,
            device: OnceLock::new(),
            others: Mutex::default(),
            folios: Mutex::default(),
            lock_of_the_driver: Mutex::default(),
            calls: Default::default(),
        });
        let device = space.register(DeviceConfig::new(nr_pages).ops(Arc::clone(&ops))).unwrap();
        ops.device.set(device.clone()).unwrap();
        (ops, device)
    }

    fn calls(&self) -> [u64; 3] {
        [0, 1, 2].map(|i| self.calls[i].load(Relaxed))
    }

    /// Does everything once; not what would call the same callback without end.
    fn do_everything(&self, callback: usize) {
        if self.calls[callback].fetch_add(1, Relaxed) > 0 {
            return;
        }
        let device = self.device.get().unwrap();
        let _guard = self.lock_of_the_driver.try_lock();
        // The last handle of another folio, which calls `folio_free` in here.
        let other = self.folios.lock().unwrap().pop();
        drop(other);
        // Another device goes, and another comes.
        let other = self.others.lock().unwrap().pop();
        if let Some(other) = other {
            other.unregister().unwrap();
        }
        let new = self.space.register(DeviceConfig::new(700)).unwrap();
        let folio = new.alloc(order(5)).unwrap();
        folio.give_up(0..3).unwrap();
        drop(folio.split(order(1)).unwrap());
        new.unregister().unwrap();
        // This device, in all ways; perhaps it is full.
        if let Ok(folio) = device.alloc(order(3)) {
            drop(folio.split_around(5, order(0)).unwrap());
        }
        let mut many = Vec::new();
        let _ = device.alloc_many(order(0), 5, &mut many);
        let _ = device.alloc_range(RangeRequest::new(77)).map(drop);
        let mut cache = device.cache();
        if let Ok(folio) = cache.alloc(order(0)) {
            let leaf = folio.into_leaf(Access::Write);
            assert!(self.space.lookup(leaf).is_some());
            cache.put(self.space.take(leaf).unwrap());
        }
        assert!(self.space.report().devices.len() > 1 || device.nr_live_pages() > 0);
    }
}

impl DeviceOps for Busybody {
    fn folio_free(&self, _: FreedFolio) {
        self.do_everything(0);
    }

    fn folio_split(&self, _: FolioSplit<'_>) {
        self.do_everything(1);
    }

    fn pressure(&self, _: Pressure) -> bool {
        self.do_everything(2);
        true
    }
}

#[test]
fn each_callback_may_do_anything() {
    let space = space();
    let (ops, device) = Busybody::register(space, 1 << 12);
    let another = |nr_pages| {
        let other = space.register(DeviceConfig::new(nr_pages)).unwrap();
        ops.folios.lock().unwrap().push(other.alloc(order(2)).unwrap());
        ops.folios.lock().unwrap().push(device.alloc(order(4)).unwrap());
        ops.others.lock().unwrap().push(space.register(DeviceConfig::new(64)).unwrap());
        other
    };
    let others = [another(512), another(600), another(1 << 12)];
    drop(device.alloc(order(6)).unwrap());
    let [freed, split, pressure] = ops.calls();
    assert!(freed > 1 && split > 1 && pressure == 0);
    let parts: Vec<Folio<'_>> = device.alloc(order(10)).unwrap().split(order(9)).unwrap().collect();
    assert_eq!((parts.len(), ops.calls()[1] - split), (2, 3));
    // Until the device is full.
    let mut all = parts;
    while let Ok(folio) = device.alloc(order(0)) {
        all.push(folio);
    }
    assert!(ops.calls()[2] > 0);
    all.clear();
    let put = std::mem::take(&mut *ops.folios.lock().unwrap());
    drop(put);
    assert_eq!((device.nr_live_pages(), space.validate()), (0, Ok(())));
    others.into_iter().for_each(|other| other.unregister().unwrap());
}

/// What a driver does under pressure, what it answers, and what it was told.
struct UnderPressure {
    on: Box<dyn Fn() -> bool + Send + Sync>,
    told: Mutex<Vec<Pressure>>,
}

impl UnderPressure {
    fn new(on: impl Fn() -> bool + Send + Sync + 'static) -> Arc<UnderPressure> {
        Arc::new(UnderPressure { on: Box::new(on), told: Mutex::default() })
    }

    fn take(&self) -> Vec<(Option<u8>, u64, u64)> {
        let told = std::mem::take(&mut *self.told.lock().unwrap());
        told.into_iter().map(|told| (told.order().map(Order::get), told.nr_pages(), told.free_pages())).collect()
    }
}

impl DeviceOps for UnderPressure {
    fn pressure(&self, pressure: Pressure) -> bool {
        self.told.lock().unwrap().push(pressure);
        (self.on)()
    }
}

/// Each way to allocate tells its driver once, with the numbers, before it fails.
#[test]
fn an_allocation_that_fails_has_asked_once() {
    let space = space();
    let ops = UnderPressure::new(|| true);
    let device = space.register(DeviceConfig::new(1024).ops(Arc::clone(&ops))).unwrap();
    let low = device.alloc_range(RangeRequest::new(600).bottom_up()).unwrap();
    let (mut cache, mut folios) = (device.cache(), Vec::new());
    assert_eq!(ops.take(), []);
    // Nothing came of it, so the second try fails, and does not ask again.
    assert_eq!(device.alloc(order(9)), Err(AllocError::Exhausted { requested: 512, free: 424 }));
    assert_eq!(ops.take(), [(Some(9), 512, 424)]);
    let high = device.alloc_range(RangeRequest::new(8).at(farpage::Offset::new(1000).unwrap())).unwrap();
    drop(high);
    let middle = device.alloc_range(RangeRequest::new(1).at(farpage::Offset::new(800).unwrap())).unwrap();
    let error = cache.alloc(order(8)).unwrap_err();
    assert!(matches!(error, AllocError::Fragmented { requested: 256, free: 423, .. }), "{error}");
    assert_eq!(ops.take(), [(Some(8), 256, 423)]);
    drop(middle);
    assert_eq!(device.alloc_many(order(0), 425, &mut folios), Err(AllocError::Exhausted { requested: 425, free: 424 }));
    assert_eq!(ops.take(), [(Some(0), 425, 424)]);
    assert!(cache.alloc_many(order(3), 54, &mut folios).is_err());
    assert_eq!(ops.take(), [(Some(3), 432, 424)]);
    let error = device.alloc_range(RangeRequest::new(500)).unwrap_err();
    assert_eq!(error, AllocError::Exhausted { requested: 500, free: 424 });
    assert_eq!(ops.take(), [(None, 500, 424)]);
    // A short range tries to be a folio first, and asks once all the same.
    device.alloc_many(order(0), 424, &mut folios).unwrap();
    assert_eq!(device.alloc_range(RangeRequest::new(4)).unwrap_err(), AllocError::Exhausted { requested: 4, free: 0 });
    assert_eq!(ops.take(), [(None, 4, 0)]);
    // No room can be made for these.
    assert_eq!(device.alloc(order(11)), Err(AllocError::TooLarge));
    assert!(device.alloc_many(order(0), 2000, &mut folios).is_err());
    assert!(device.alloc_range(RangeRequest::new(0)).is_err());
    device.kill();
    assert_eq!(device.alloc(order(0)), Err(AllocError::Dying));
    assert_eq!(ops.take(), []);
    assert_eq!(folios.len(), 424);
    drop((low, folios));
    assert_eq!((device.nr_live_pages(), space.validate()), (0, Ok(())));
}

#[test]
fn what_the_driver_frees_under_pressure_is_allocated() {
    let space = space();
    let cached: Arc<Mutex<Vec<Folio<'static>>>> = Arc::default();
    let from = Arc::clone(&cached);
    let ops = UnderPressure::new(move || {
        let evicted = std::mem::take(&mut *from.lock().unwrap());
        !evicted.is_empty()
    });
    let device = space.register(DeviceConfig::new(1024).ops(Arc::clone(&ops))).unwrap();
    let mut many = Vec::new();
    let fill = || {
        let mut folios = Vec::new();
        device.alloc_many(order(0), 1024, &mut folios).unwrap();
        cached.lock().unwrap().extend(folios);
    };
    fill();
    let folio = device.alloc(order(0)).expect("room was made");
    assert_eq!(ops.take(), [(Some(0), 1, 0)]);
    drop(folio);
    fill();
    let folio = device.alloc(order(10)).expect("room was made");
    drop(folio);
    fill();
    device.alloc_many(order(9), 2, &mut many).expect("room was made");
    many.clear();
    fill();
    let range = device.alloc_range(RangeRequest::new(1000).top_down()).expect("room was made");
    drop(range);
    fill();
    let mut cache = device.cache();
    let folio = cache.alloc(order(4)).expect("room was made");
    cache.put(folio);
    assert_eq!(ops.take().len(), 4);
    drop(cache);
    // The driver has nothing to give, and says so.
    let all = device.alloc_range(RangeRequest::new(1024)).unwrap();
    assert_eq!(device.alloc(order(0)), Err(AllocError::Exhausted { requested: 1, free: 0 }));
    assert_eq!(ops.take(), [(Some(0), 1, 0)]);
    drop(all);
    assert_eq!((device.nr_live_pages(), space.validate()), (0, Ok(())));
}

/// An allocation under pressure fails plainly, on this device and on any other; on another thread it asks.
#[test]
fn nobody_is_asked_from_within() {
    let space = space();
    let (full, inner): (Arc<OnceLock<Device<'_>>>, Arc<OnceLock<Device<'_>>>) = Default::default();
    let (a, b) = (Arc::clone(&full), Arc::clone(&inner));
    let inner_ops = UnderPressure::new(|| true);
    let ops = UnderPressure::new(move || {
        let none = AllocError::Exhausted { requested: 1, free: 0 };
        assert_eq!(a.get().unwrap().alloc(order(0)), Err(none));
        assert_eq!(b.get().unwrap().alloc(order(0)), Err(none));
        let other = b.get().unwrap().clone();
        std::thread::spawn(move || assert_eq!(other.alloc(order(0)), Err(none))).join().unwrap();
        false
    });
    let device = space.register(DeviceConfig::new(1).ops(Arc::clone(&ops))).unwrap();
    let other = space.register(DeviceConfig::new(1).ops(Arc::clone(&inner_ops))).unwrap();
    let pages = [&device, &other].map(|device| device.alloc(order(0)).unwrap());
    full.set(device.clone()).unwrap();
    inner.set(other.clone()).unwrap();
    assert!(device.alloc(order(0)).is_err());
    assert_eq!((ops.take().len(), inner_ops.take().len()), (1, 1), "once each, the other by the other thread");
    // Afterwards this thread asks again.
    assert!(other.alloc(order(0)).is_err());
    assert_eq!(inner_ops.take().len(), 1);
    drop(pages);
}

/// The device cannot go while its callback runs, which goes with it; it can be killed.
#[test]
fn a_device_may_be_killed_under_pressure_and_goes_afterwards() {
    let space = space();
    let kept: Arc<Mutex<Vec<Folio<'_>>>> = Arc::default();
    let own: Arc<Mutex<Option<Device<'_>>>> = Arc::default();
    let (folios, device) = (Arc::clone(&kept), Arc::clone(&own));
    let ops = UnderPressure::new(move || {
        let evicted = std::mem::take(&mut *folios.lock().unwrap());
        drop(evicted);
        let device = device.lock().unwrap().take().unwrap();
        device.kill();
        let Err(UnregisterError::Busy { live_pages, .. }) = device.unregister() else { panic!("it went") };
        assert_eq!(live_pages, 1);
        true
    });
    let device = space.register(DeviceConfig::new(512).ops(ops)).unwrap();
    kept.lock().unwrap().push(device.alloc(order(9)).unwrap());
    *own.lock().unwrap() = Some(device.clone());
    assert_eq!(device.alloc(order(0)), Err(AllocError::Dying));
    device.unregister().unwrap();
    assert_eq!((space.report().registered_pages, space.validate()), (0, Ok(())));
}

/// Panics in the callbacks that are switched on, with a number of its own each time.
#[derive(Default)]
struct Panicking {
    calls: AtomicU64,
    freed: AtomicU64,
    in_free: AtomicBool,
    in_split: AtomicBool,
    in_pressure: AtomicBool,
}

impl Panicking {
    fn panic_if(&self, is_on: &AtomicBool) {
        if is_on.load(Relaxed) {
            panic_any(self.calls.fetch_add(1, Relaxed));
        }
    }
}

impl DeviceOps for Panicking {
    fn folio_free(&self, _: FreedFolio) {
        self.freed.fetch_add(1, Relaxed);
        self.panic_if(&self.in_free);
    }

    fn folio_split(&self, _: FolioSplit<'_>) {
        self.panic_if(&self.in_split);
    }

    fn pressure(&self, _: Pressure) -> bool {
        self.panic_if(&self.in_pressure);
        false
    }
}

/// The number that `call` panics with.
fn panic_of<T>(call: impl FnOnce() -> T) -> u64 {
    let Err(panic) = catch_unwind(AssertUnwindSafe(call)) else { panic!("the callback's panic comes out") };
    *panic.downcast_ref().expect("a callback's panic, and no other")
}

/// The panics of a test that means them are not worth a report each.
fn quietly(test: impl FnOnce()) {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload().downcast_ref::<u64>().is_none() {
            hook(info);
        }
    }));
    test();
    let _ = std::panic::take_hook();
}

#[test]
fn a_panic_comes_out_and_loses_nothing() {
    quietly(|| {
        let space = space();
        let ops = Arc::new(Panicking::default());
        let device = space.register(DeviceConfig::new(1 << 12).ops(Arc::clone(&ops))).unwrap();
        let is_as_new = || {
            assert_eq!((device.nr_live_pages(), device.nr_given_up_pages(), space.validate()), (0, 0, Ok(())));
        };
        for in_free in [false, true] {
            // Of a split: all are told (5 parts and the end, or 11), then all parts end; the first panic comes out.
            ops.in_split.store(true, Relaxed);
            ops.in_free.store(in_free, Relaxed);
            let folio = device.alloc(order(9)).unwrap();
            let parts = if in_free { 4 } else { 0 };
            let (calls, freed) = (ops.calls.load(Relaxed), ops.freed.load(Relaxed));
            assert_eq!(panic_of(|| folio.split(order(7))), calls);
            assert_eq!((ops.calls.load(Relaxed), ops.freed.load(Relaxed)), (calls + 5 + parts, freed + 4));
            is_as_new();
            let folio = device.alloc(order(10)).unwrap();
            let parts = if in_free { 11 } else { 0 };
            let (calls, freed) = (ops.calls.load(Relaxed), ops.freed.load(Relaxed));
            folio.give_up(0..512).unwrap();
            assert_eq!(panic_of(|| folio.split_around(600, order(0))), calls);
            assert_eq!((ops.calls.load(Relaxed), ops.freed.load(Relaxed)), (calls + 12 + parts, freed + 11));
            is_as_new();
            let range: RangeHandle<'_> = device.alloc_range(RangeRequest::new(512).align(512)).unwrap();
            let parts = if in_free { 2 } else { 0 };
            let (calls, freed) = (ops.calls.load(Relaxed), ops.freed.load(Relaxed));
            assert_eq!(panic_of(|| range.split_at(256)), calls);
            assert_eq!((ops.calls.load(Relaxed), ops.freed.load(Relaxed)), (calls + 3 + parts, freed + 2));
            is_as_new();
        }
        // Of the parts that a split frees at once: the others end as well, since nobody can be given them.
        ops.in_split.store(false, Relaxed);
        let folio = device.alloc(order(9)).unwrap();
        folio.give_up(0..100).unwrap();
        let (calls, freed) = (ops.calls.load(Relaxed), ops.freed.load(Relaxed));
        assert_eq!(panic_of(|| folio.split(order(0))), calls);
        assert_eq!(ops.freed.load(Relaxed), freed + 512, "each once");
        is_as_new();
        // Of parts that are dropped together.
        let (freed, parts) = (ops.freed.load(Relaxed), device.alloc(order(9)).unwrap().split(order(5)).unwrap());
        panic_of(|| drop(parts));
        assert_eq!(ops.freed.load(Relaxed), freed + 16);
        is_as_new();
        ops.in_free.store(false, Relaxed);
        // Of an allocation: nothing is held, and the next one is as any.
        let all = device.alloc(order(12)).unwrap();
        ops.in_pressure.store(true, Relaxed);
        let (mut folios, mut cache) = (Vec::new(), device.cache());
        for _ in 0..2 {
            let calls = ops.calls.load(Relaxed);
            assert_eq!(panic_of(|| device.alloc(order(0))), calls);
            assert_eq!(panic_of(|| device.alloc_many(order(0), 3, &mut folios)), calls + 1);
            assert_eq!(panic_of(|| device.alloc_range(RangeRequest::new(5))), calls + 2);
            assert_eq!(panic_of(|| cache.alloc(order(9))), calls + 3);
        }
        assert_eq!((folios.len(), device.nr_live_pages(), space.validate()), (0, 1 << 12, Ok(())));
        drop(all);
        is_as_new();
        drop(cache);
        device.unregister().unwrap();
    });
}

/// Callbacks behind `Arc` and `Box` are the same callbacks.
#[test]
fn shared_and_boxed_callbacks_are_called() {
    let space = space();
    let ops = Arc::new(Panicking::default());
    ops.in_split.store(true, Relaxed);
    ops.in_pressure.store(true, Relaxed);
    let boxed: Box<dyn DeviceOps> = Box::new(Arc::clone(&ops));
    let device = space.register(DeviceConfig::new(2).ops(boxed)).unwrap();
    quietly(|| {
        let folio = device.alloc(order(1)).unwrap();
        panic_of(|| device.alloc(order(0)));
        panic_of(|| folio.split(order(0)));
    });
    assert_eq!((ops.calls.load(Relaxed), ops.freed.load(Relaxed)), (1 + 3, 2));
}
