//! What a thread keeps for itself, when the thread has ended, stands still, or is in the middle of a callback: it is
//! there for whoever needs it, without waiting.
//!
//! A program of its own: with fewer threads than have a stash, so that each is sure to have one. Bursts of many threads
//! are in `threads`.

#[path = "threads/owners.rs"]
#[allow(dead_code, reason = "shared with `threads`, which needs more of it")]
mod owners;
#[path = "support/rng.rs"]
mod rng;

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;

use farpage::{AllocError, Device, DeviceConfig, DeviceOps, Folio, FreedFolio, Order, RangeRequest, Space};

use owners::*;

/// Enough for runs of every order below 9 in each stash.
const NR_PAGES: u64 = 64 * 512;

/// Fills the stash of the thread that calls: runs of all orders that are kept.
fn fill_stash(device: &Device<'_>, owners: &Owners) {
    for n in 0..9 {
        let mut folios = Vec::new();
        device.alloc_many(order(n), 100 >> n.min(5), &mut folios).expect("room");
        folios.iter().for_each(|folio| owners.enter(folio));
    }
    assert!(device.nr_cached_pages() >= 500, "{} pages in caches", device.nr_cached_pages());
}

fn space() -> (Space, Arc<Owners>, DeviceConfig) {
    let space = Space::builder().max_pages(NR_PAGES).cores(16).cache_percent(100).build().expect("address space");
    let owners = Owners::new(NR_PAGES);
    let config = DeviceConfig::new(NR_PAGES).ops(Arc::clone(&owners));
    (space, owners, config)
}

fn exhausted(requested: u64) -> Option<AllocError> {
    Some(AllocError::Exhausted { requested, free: 0 })
}

#[test]
fn what_a_thread_leaves_behind_is_found() {
    let (space, owners, config) = space();
    let device = space.register(config).expect("it fits");
    for _ in 0..3 {
        thread::scope(|scope| scope.spawn(|| fill_stash(&device, &owners)).join().expect("no panic"));
        assert_all_can_be_had(&device, &owners);
        // Each of these may be the one that goes on with what the last one left.
        for n in 0..9 {
            thread::scope(|scope| scope.spawn(|| fill_stash(&device, &owners)).join().expect("no panic"));
            let left = device.nr_cached_pages();
            let work = || owners.enter(&device.alloc(order(n)).expect("room"));
            thread::scope(|scope| scope.spawn(work).join().expect("no panic"));
            assert!(left > 0 && device.nr_live_pages() == 0);
            assert_eq!(space.validate(), Ok(()));
        }
    }
    assert_all_came_back(&space, device, &owners);
}

#[test]
fn threads_that_stand_still_keep_nothing_from_the_others() {
    let (space, owners, config) = space();
    let device = space.register(config).expect("it fits");
    let (filled, done) = (Barrier::new(4), Barrier::new(4));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut cache = device.cache();
                let folio = cache.alloc(Order::ZERO).expect("room");
                owners.enter(&folio);
                cache.put(folio);
                fill_stash(&device, &owners);
                filled.wait();
                done.wait();
            });
        }
        filled.wait();
        assert!(device.nr_cached_pages() > 1500);
        let mut all: Vec<Folio<'_>> = promptly(|| std::iter::from_fn(|| device.alloc(Order::ZERO).ok()).collect());
        assert_eq!(all.len() as u64, NR_PAGES, "down to the last page");
        assert_eq!((device.alloc(Order::ZERO).err(), device.nr_cached_pages()), (exhausted(1), 0));
        all.iter().for_each(|folio| owners.enter(folio));
        all.clear();
        promptly(|| assert_all_can_be_had(&device, &owners));
        done.wait();
    });
    assert_all_came_back(&space, device, &owners);
}

#[test]
fn the_last_page_comes_from_a_stash_in_whatever_shape() {
    let (space, owners, config) = space();
    let device = space.register(config).expect("it fits");
    let mut held = Vec::new();
    for n in 0..9 {
        let mut kept = vec![device.alloc(order(n)).expect("room")];
        device.alloc_many(Order::ZERO, (NR_PAGES - (1 << n)) as usize, &mut held).expect("room");
        kept.iter().chain(&held).for_each(|folio| owners.enter(folio));
        let last = kept.pop().expect("one");
        thread::scope(|scope| scope.spawn(|| drop(last)).join().expect("no panic"));
        assert_eq!((device.nr_cached_pages(), device.nr_free_pages()), (1 << n, 1 << n), "it is in a stash");
        // Asked for as it is, as a range, as parts of it, and too much of it.
        owners.enter(&device.alloc(order(n)).expect("it is there"));
        owners.enter_range(&device.alloc_range(RangeRequest::new(1 << n)).expect("it is there"));
        let parts: Vec<Folio<'_>> = (0..1 << n).map(|_| device.alloc(Order::ZERO).expect("it is there")).collect();
        parts.iter().for_each(|folio| owners.enter(folio));
        assert_eq!(device.alloc(order(n)).err(), exhausted(1 << n));
        drop(parts);
        let more = device.alloc_many(Order::ZERO, (1 << n) + 1, &mut kept);
        assert_eq!(more, Err(AllocError::Exhausted { requested: (1 << n) + 1, free: 1 << n }));
        assert_eq!(space.validate(), Ok(()));
        held.clear();
    }
    assert_all_came_back(&space, device, &owners);
}

/// A driver whose callback waits for folios of private word 1.
struct Blocking {
    arrived: mpsc::SyncSender<()>,
    may_go: AtomicBool,
}

impl DeviceOps for Blocking {
    fn folio_free(&self, folio: FreedFolio) {
        if folio.private() == 1 {
            self.arrived.send(()).expect("somebody waits");
            while !self.may_go.load(Acquire) {
                thread::yield_now();
            }
        }
    }
}

#[test]
fn a_callback_that_blocks_holds_up_its_own_page_alone() {
    let (sender, arrived) = mpsc::sync_channel(1);
    let ops = Arc::new(Blocking { arrived: sender, may_go: AtomicBool::new(false) });
    let (space, _, config) = space();
    let device = space.register(config.ops(Arc::clone(&ops))).expect("it fits");
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut cache = device.cache();
            let folios: Vec<Folio<'_>> = (0..40).map(|_| cache.alloc(Order::ZERO).expect("room")).collect();
            folios.into_iter().for_each(|folio| cache.put(folio));
            for n in [0, 0, 0, 1, 2, 3, 4] {
                drop(device.alloc(order(n)).expect("room"));
            }
            let folio = cache.alloc(Order::ZERO).expect("room");
            folio.set_private(1);
            cache.put(folio);
        });
        arrived.recv().expect("the callback runs");
        assert!(device.nr_cached_pages() > 30);
        assert_eq!((device.nr_live_pages(), device.nr_free_pages()), (1, NR_PAGES - 1), "its page is in use");
        let mut all = Vec::new();
        for _ in 0..3 {
            promptly(|| device.alloc_many(Order::ZERO, NR_PAGES as usize - 1, &mut all)).expect("all but that one");
            assert_eq!(promptly(|| device.alloc(Order::ZERO)).err(), exhausted(1));
            let more = promptly(|| device.alloc_range(RangeRequest::new(2).top_down()).map(|_| ()));
            assert_eq!(more, Err(AllocError::Exhausted { requested: 2, free: 0 }));
            all.clear();
        }
        assert!(promptly(|| device.clone().unregister()).is_err(), "a page is in use");
        ops.may_go.store(true, Release);
    });
    assert_eq!((device.nr_live_pages(), space.validate()), (0, Ok(())));
    let mut all = Vec::new();
    device.alloc_many(Order::ZERO, NR_PAGES as usize, &mut all).expect("that one too");
    drop(all);
    device.unregister().expect("nothing of it is in use");
}

thread_local! {
    static EARLY: RefCell<Option<Folio<'static>>> = const { RefCell::new(None) };
    static LATE: RefCell<Option<Folio<'static>>> = const { RefCell::new(None) };
}

#[test]
fn a_folio_that_goes_with_its_thread_comes_back() {
    let (space, owners, config) = space();
    let space: &'static Space = Box::leak(Box::new(space));
    let device = space.register(config).expect("it fits");
    for n in (0..9).chain([9, 10]) {
        let (theirs, owners) = (device.clone(), Arc::clone(&owners));
        let work = move || {
            // One is torn down before whatever the library has for this thread, and one after it.
            EARLY.set(None);
            let folios = [(); 2].map(|()| theirs.alloc(order(n)).expect("room"));
            folios.iter().for_each(|folio| owners.enter(folio));
            let [first, second] = folios;
            EARLY.set(Some(first));
            LATE.set(Some(second));
        };
        thread::spawn(work).join().expect("no panic");
        assert_eq!((device.nr_live_pages(), space.validate()), (0, Ok(())));
    }
    assert_all_came_back(space, device, &owners);
}

#[test]
fn pages_in_stashes_hold_no_device_up() {
    let (space, owners, config) = space();
    let mut device = space.register(config).expect("it fits");
    for round in 0..4 {
        let (filled, done) = (Barrier::new(3), Barrier::new(3));
        thread::scope(|scope| {
            for _ in 0..2 {
                let device = device.clone();
                let (filled, done, owners) = (&filled, &done, &owners);
                scope.spawn(move || {
                    let mut cache = device.cache();
                    let mut folios = Vec::new();
                    cache.alloc_many(order(round), 20, &mut folios).expect("room");
                    folios.iter().for_each(|folio| owners.enter(folio));
                    folios.into_iter().for_each(|folio| cache.put(folio));
                    fill_stash(&device, owners);
                    filled.wait();
                    done.wait();
                    assert_eq!(cache.alloc(order(round)).err(), Some(AllocError::Dying));
                    assert_eq!(device.alloc(order(round)).err(), Some(AllocError::Dying));
                    cache.drain();
                });
            }
            filled.wait();
            if round % 2 == 0 {
                device.kill();
                assert_eq!(promptly(|| device.drain(LONG)), Ok(()));
            }
            promptly(|| device.clone().unregister()).expect("no page is in use");
            assert_eq!((device.nr_cached_pages(), space.validate()), (0, Ok(())));
            // While the others still have their caches of the last one.
            let next = space.register(DeviceConfig::new(NR_PAGES).ops(Arc::clone(&owners))).expect("the last one went");
            assert_eq!(next.range(), device.range());
            assert_all_can_be_had(&next, &owners);
            device = next;
            done.wait();
        });
        assert_eq!(space.validate(), Ok(()));
        assert_all_can_be_had(&device, &owners);
    }
    assert_all_came_back(&space, device, &owners);
}
