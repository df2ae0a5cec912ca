//! The lock of a folio, one promise a test: who has it, who sleeps for it, and who waits without a reference.
//!
//! Races are in `threads`, and as models in `loom-tests`.

use std::sync::atomic::{AtomicU64, Ordering::*};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use farpage::{Access, Device, DeviceConfig, Folio, Order, RangeRequest, SoftLeaf, Space};

/// Orders with records among the pages and among the blocks, and with direct leaves and others.
const ORDERS: [u8; 7] = [0, 1, 7, 8, 9, 11, 18];
const LONG: Duration = Duration::from_secs(60);

fn space() -> Space {
    Space::builder().max_pages(1 << 19).build().expect("address space")
}

fn device(space: &Space) -> Device<'_> {
    space.register(DeviceConfig::new(1 << 19)).expect("it fits")
}

fn order(order: u8) -> Order {
    Order::new(order).expect("at most 18")
}

/// All is free, and recounts.
fn assert_all_free(space: &Space, device: &Device<'_>) {
    assert_eq!((device.nr_live_pages(), space.validate()), (0, Ok(())));
}

#[test]
fn of_all_handles_one_has_the_lock() {
    let (space, mut parts) = (space(), Vec::new());
    let device = device(&space);
    for n in ORDERS {
        let folio = device.alloc(order(n)).unwrap();
        let (other, beside) = (folio.clone(), device.alloc(Order::ZERO).unwrap());
        let guard = folio.try_lock().unwrap();
        assert!(folio.is_locked() && other.is_locked() && !beside.is_locked());
        assert!(other.try_lock().is_none());
        let other = other.try_lock_owned().unwrap_err();
        assert_eq!(guard.offset(), folio.offset());
        assert_eq!((folio.refs(), folio.maps(), space.validate()), (2, 0, Ok(())), "a lock is no reference");
        drop(guard);
        let locked = other.lock_owned();
        assert!(folio.try_lock().is_none());
        assert_eq!(locked.refs(), 2);
        drop(locked);
        assert_eq!((folio.is_locked(), folio.refs()), (false, 1), "unlocked and put");
        let unlocked = folio.try_lock_owned().unwrap().unlock();
        assert!(!unlocked.is_locked() && unlocked.lock().try_lock().is_none());
        parts.push(unlocked);
    }
    drop(parts);
    assert_all_free(&space, &device);
}

#[test]
fn a_lock_changes_nothing_for_references_and_leaves() {
    let space = space();
    let device = device(&space);
    for n in ORDERS {
        let folio = device.alloc(order(n)).unwrap();
        folio.set_private(7);
        let leaf = folio.map(Access::Write).unwrap();
        let guard = folio.lock();
        let page = space.lookup(leaf).expect("a lookup knows no lock");
        assert_eq!((page.offset(), page.order(), page.private()), (folio.offset(), order(n), 7));
        assert_eq!(page.try_get().map(|folio| folio.is_locked()), Some(true));
        assert_eq!(space.take(leaf).unwrap().into_leaf(Access::Write), leaf);
        space.unmap(leaf).unwrap();
        assert_eq!((guard.refs(), guard.maps(), guard.is_locked()), (1, 0, true));
        drop(guard);
    }
    assert_all_free(&space, &device);
}

#[test]
fn the_next_life_begins_unlocked_whatever_was_forgotten() {
    let space = space();
    let device = device(&space);
    for n in ORDERS {
        let folio = device.alloc(order(n)).unwrap();
        let at = folio.offset();
        std::mem::forget(folio.lock());
        assert!(folio.is_locked());
        drop(folio);
        let next = device.alloc(order(n)).unwrap();
        assert_eq!((next.offset(), next.is_locked()), (at, false));
        assert!(next.try_lock().is_some());
    }
    assert_all_free(&space, &device);
}

#[test]
fn who_locks_sees_what_was_done_under_the_lock() {
    let space = space();
    let device = device(&space);
    let folio = device.alloc(Order::HUGE).unwrap();
    // Two words that only the lock keeps together, and with relaxed accesses only.
    let words = [AtomicU64::new(0), AtomicU64::new(0)];
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for round in 0..2000 {
                    let guard = folio.lock();
                    let [a, b] = [0, 1].map(|at| words[at].load(Relaxed));
                    assert_eq!(a, b, "nobody is between two words");
                    words[0].store(a + 1, Relaxed);
                    if round % 64 == 0 {
                        thread::yield_now();
                    }
                    words[1].store(b + 1, Relaxed);
                    drop(guard);
                }
            });
        }
    });
    assert_eq!(words.map(AtomicU64::into_inner), [16_000, 16_000]);
    assert!(!folio.is_locked());
}

#[test]
fn whoever_sleeps_for_a_lock_is_woken() {
    let space = space();
    let device = device(&space);
    let folio = device.alloc(Order::ZERO).unwrap();
    for _ in 0..20 {
        let (sender, woken) = mpsc::channel();
        thread::scope(|scope| {
            let guard = folio.lock();
            for _ in 0..3 {
                let (sender, folio) = (sender.clone(), folio.clone());
                scope.spawn(move || sender.send(folio.lock_owned().unlock().refs()).unwrap());
            }
            assert!(woken.recv_timeout(Duration::from_millis(2)).is_err(), "they wait");
            drop(guard);
            (0..3).for_each(|_| assert!(woken.recv_timeout(LONG).is_ok()));
        });
        assert!(!folio.is_locked());
    }
}

#[test]
fn a_wait_without_a_reference_ends_with_the_lock() {
    let space = space();
    let device = device(&space);
    for n in ORDERS {
        let folio = device.alloc(order(n)).unwrap();
        let leaf = folio.map(Access::Read).unwrap();
        let tail = folio.map_page(folio.nr_pages() - 1, Access::Read).unwrap();
        assert!(space.wait_unlocked(leaf, Duration::ZERO) && space.wait_unlocked(tail, Duration::ZERO));
        let page = space.lookup(tail).unwrap();
        let guard = folio.lock();
        let start = Instant::now();
        assert!(!space.wait_unlocked(leaf, Duration::from_millis(3)));
        assert!(start.elapsed() >= Duration::from_millis(3) && !page.wait_unlocked(Duration::ZERO));
        thread::scope(|scope| {
            let waiters = [
                scope.spawn(|| space.wait_unlocked(leaf, LONG)),
                scope.spawn(|| space.wait_unlocked(tail, Duration::MAX)),
                scope.spawn(|| page.wait_unlocked(LONG)),
            ];
            thread::sleep(Duration::from_millis(2));
            assert_eq!(folio.refs(), 3, "they have no references");
            drop(guard);
            waiters.into_iter().for_each(|waiter| assert!(waiter.join().unwrap()));
        });
        space.unmap(leaf).unwrap();
        space.unmap(tail).unwrap();
    }
    assert!(space.wait_unlocked(SoftLeaf::NONE, Duration::ZERO), "it names nothing to wait for");
    assert!(space.wait_unlocked(SoftLeaf::from_bits(u64::MAX), Duration::ZERO));
}

/// A guard was forgotten: its folio is freed locked. Whichever way its life ends, who waits is woken, also when the next
/// owner has locked the page by then.
#[test]
fn a_wait_without_a_reference_ends_with_the_life() {
    fn forget<'s>(folio: Folio<'s>) -> Folio<'s> {
        std::mem::forget(folio.lock());
        folio
    }
    let space = space();
    let device = device(&space);
    type End<'s> = fn(&'s Space, Folio<'s>, Device<'s>);
    let ends: [(&str, End<'_>); 5] = [
        ("put", |_, folio, _| drop(folio)),
        ("unmap", |space, folio, _| space.unmap(folio.into_leaf(Access::Read)).unwrap()),
        ("unfreeze and put", |_, folio, _| drop(folio.try_freeze(1).unwrap())),
        ("two puts", |_, folio, _| drop([folio.clone(), folio])),
        ("cache", |_, folio, device| device.cache().put(folio)),
    ];
    for (n, (name, end)) in ORDERS.into_iter().flat_map(|n| ends.map(|end| (n, end))) {
        let folio = forget(device.alloc(order(n)).unwrap());
        let page = space.page(folio.offset()).unwrap();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| page.wait_unlocked(LONG));
            thread::sleep(Duration::from_millis(1));
            end(&space, folio, device.clone());
            let next = device.alloc(order(n)).unwrap();
            let guard = next.lock();
            assert!(waiter.join().unwrap(), "{name}, order {n}");
            assert!(page.wait_unlocked(Duration::ZERO), "another life");
            drop(guard);
        });
    }
    // In a range: put with the others, or divided.
    for divides in [false, true] {
        let range = device.alloc_range(RangeRequest::new(48)).unwrap();
        let page = range.page(5).unwrap();
        drop(forget(page.try_get().unwrap()));
        thread::scope(|scope| {
            let waiter = scope.spawn(|| page.wait_unlocked(LONG));
            thread::sleep(Duration::from_millis(1));
            if divides {
                let (low, high) = range.split_at(5).unwrap();
                assert!(waiter.join().unwrap());
                assert!(!low.page(0).unwrap().try_get().unwrap().is_locked());
                drop((low, high));
            } else {
                drop(range);
                assert!(waiter.join().unwrap());
            }
        });
    }
    assert_all_free(&space, &device);
}

#[test]
fn a_locked_folio_is_frozen_by_another_handle() {
    let space = space();
    let device = device(&space);
    let locked = device.alloc(Order::ZERO).unwrap().lock_owned();
    let leaf = locked.map(Access::Write).unwrap();
    let frozen = locked.clone().try_freeze(3).unwrap();
    assert!(frozen.is_locked() && frozen.try_lock().is_none());
    assert!(!space.wait_unlocked(leaf, Duration::from_millis(1)), "who is refused can wait for the lock");
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            while space.unmap(leaf).is_err() {
                assert!(space.wait_unlocked(leaf, LONG));
            }
        });
        drop(frozen.unfreeze());
        drop(locked);
        waiter.join().unwrap();
    });
    assert_all_free(&space, &device);
}
