//! Edge [close], on the whole path: `Device::evict` and the end of its ticket against who gets, puts, allocates and divides.
//! What is handed out by `commit` is nobody else's, with all that was done to it before; no allocation that begins after a
//! closure gets a page in it, from the map or a stash; and when the ticket has ended, everything can be had again.
//!
//! Shape: one closes the first of two blocks of four pages; one works there.
//! Cost: see each model.
//! Teeth: fails when a claim does not see the mark, in either look or for a whole block; when bits are not passed; when a
//! page that is put stays in a stash, or a block that is put or divided is not closed again; and when one that was closed
//! again too late is not opened.

use std::sync::Arc;

use farpage::{Access, Device, DeviceConfig, EvictTicket, Folio, Offset, OffsetRange, Order, RangeRequest, Space};
use farpage_loom_tests::{Owned, bounded, bounded_less, with_space};
use loom::thread;

fn order(order: u8) -> Order {
    Order::new(order).unwrap()
}

/// A device of two blocks.
fn device(space: &Space) -> Device<'_> {
    space.register(DeviceConfig::new(8)).unwrap()
}

/// The first block.
fn close<'s>(device: &Device<'s>) -> EvictTicket<'s> {
    device.evict(OffsetRange::new(Offset::new(0).unwrap(), 4).unwrap()).unwrap()
}

fn is_closed(folio: &Folio<'_>) -> bool {
    folio.offset().get() < 4
}

/// Ends the ticket, and owns what comes of it for a while. Whether there was anything.
fn commit(ticket: EvictTicket<'_>, owned: &Owned) -> bool {
    let ranges = ticket.commit().unwrap();
    for range in &ranges {
        assert_eq!((range.offset().get(), range.nr_pages()), (0, 4));
        owned.begin(0, 4);
        owned.end(0, 4);
    }
    !ranges.is_empty()
}

/// Nothing lives, and both blocks can be had.
fn check_all_is_there(space: &Space, device: &Device<'_>) {
    assert_eq!(device.nr_live_pages(), 0);
    space.validate().unwrap();
    let both = device.alloc(order(3)).expect("both blocks are open");
    drop(both);
}

#[test]
fn an_evicted_block_is_nobody_elses_whoever_gets_its_folio() {
    bounded("evict: get", || {
        with_space(8, |space| {
            let (device, owned) = (device(space), Arc::new(Owned::new(8)));
            let folio = device.alloc(order(1)).unwrap();
            owned.begin(0, 2);
            let leaf = folio.into_leaf(Access::Write);
            let reader = thread::spawn(move || {
                // Without a lock: it may find the folio, and keep it a while.
                let got = space.lookup(leaf).and_then(|page| page.try_get());
                got.is_some()
            });
            let mut ticket = close(&device);
            let evicted = ticket.evict(0, |locked| {
                space.unmap(leaf).unwrap();
                // The driver's work is done; the pages are used no more.
                owned.end(0, 2);
                drop(locked);
            });
            assert_eq!((evicted.nr_handed, evicted.rounds), (1, 1));
            let was_free = commit(ticket, &owned);
            let was_got = reader.join().unwrap();
            assert!(was_free || was_got, "nobody was in the way");
            check_all_is_there(space, &device);
        });
    });
}

/// One allocates a folio of `n` while the block is closed: it has the page before, which is seen and left alone, or gets
/// another.
fn alloc(name: &str, n: u8) {
    bounded_less(1, name, move || {
        with_space(8, |space| {
            let (device, owned) = (device(space), Arc::new(Owned::new(8)));
            // So that the block serves its order already.
            drop(device.alloc(order(n)).unwrap());
            let (other, others) = (device.clone(), owned.clone());
            let closer = thread::spawn(move || {
                let ticket = close(&other);
                let was_evicted = ticket.busy().count() == 0;
                let ranges = ticket.commit().unwrap();
                ranges.iter().for_each(|range| others.begin(range.offset().get(), range.nr_pages()));
                (was_evicted, ranges)
            });
            let folio = device.alloc(order(n)).unwrap();
            owned.begin(folio.offset().get(), folio.nr_pages());
            let (was_evicted, ranges) = closer.join().unwrap();
            assert!(!was_evicted || !is_closed(&folio), "evicted, and {folio:?} lives");
            owned.end(folio.offset().get(), folio.nr_pages());
            ranges.iter().for_each(|range| owned.end(range.offset().get(), range.nr_pages()));
            drop((folio, ranges));
            check_all_is_there(space, &device);
        });
    });
}

#[test]
fn an_allocation_is_seen_or_goes_elsewhere() {
    alloc("evict: alloc 1", 1);
}

/// The same for a whole block, which was one before.
#[test]
fn an_allocation_of_a_block_is_seen_or_goes_elsewhere() {
    alloc("evict: alloc 2", 2);
}

/// All that can be had while the first block is closed lies in the other, and is all of that.
fn check_only_the_open_block_is_there(device: &Device<'_>, n: u8) {
    let folios: Vec<_> = core::iter::from_fn(|| device.alloc(order(n)).ok()).collect();
    assert_eq!(folios.len(), 4 >> n);
    assert!(!folios.iter().any(is_closed), "{folios:?} afterwards");
}

/// A folio of `put` there is put: what comes of it is not allocated again while the block is closed, as folios of `n`, by who closed
/// it or by who put it.
fn put(less: usize, name: &str, put: u8, n: u8) {
    bounded_less(less, name, move || {
        with_space(8, |space| {
            let device = device(space);
            let folio = device.alloc(order(put)).unwrap();
            assert!(is_closed(&folio));
            let worker = thread::spawn(move || drop(folio));
            let ticket = close(&device);
            let first = device.alloc(order(n)).unwrap();
            assert!(!is_closed(&first), "{first:?} by who closed it");
            drop(first);
            worker.join().unwrap();
            check_only_the_open_block_is_there(&device, n);
            assert_eq!(ticket.busy().count(), 0);
            space.validate().unwrap();
            drop(ticket);
            check_all_is_there(space, &device);
        });
    });
}

#[test]
fn a_page_that_is_put_is_not_allocated_again() {
    put(0, "evict: put 0", 0, 0);
}

#[test]
fn a_block_that_is_put_is_not_allocated_again() {
    put(0, "evict: put 2", 2, 2);
}

/// The block that is put falls to small folios.
#[test]
fn a_block_that_is_put_does_not_serve_pages() {
    put(0, "evict: put 2, alloc 0", 2, 0);
}

/// The same for a range, which looks for room in its own way.
#[test]
fn a_block_that_is_put_serves_no_range() {
    bounded("evict: put 2, alloc_range 3", || {
        with_space(8, |space| {
            let device = device(space);
            // Memory for all records, of which a model's sections have two.
            drop((0..8).map(|_| device.alloc(Order::ZERO).unwrap()).collect::<Vec<_>>());
            let folio = device.alloc(order(2)).unwrap();
            assert!(is_closed(&folio));
            let worker = thread::spawn(move || drop(folio));
            let ticket = close(&device);
            let range = device.alloc_range(RangeRequest::new(3)).unwrap();
            assert!(range.offset().get() >= 4, "{range:?}");
            drop(range);
            worker.join().unwrap();
            assert_eq!(ticket.busy().count(), 0);
            drop(ticket);
            check_all_is_there(space, &device);
        });
    });
}

/// The one who puts a page into a cache allocates again from it, and knows of the closure as soon as it is told.
#[test]
fn a_cache_does_not_give_back_what_was_put_there() {
    bounded("evict: put and alloc", || {
        with_space(8, |space| {
            let device = device(space);
            let mut cache = device.cache();
            let folio = cache.alloc(Order::ZERO).unwrap();
            assert!(is_closed(&folio));
            cache.drain();
            let told = Arc::new(loom::sync::atomic::AtomicBool::new(false));
            let is_told = told.clone();
            let worker = thread::spawn(move || {
                cache.put(folio);
                // Acquire: of the closure, if it has begun.
                if is_told.load(loom::sync::atomic::Ordering::Acquire) {
                    let folio = cache.alloc(Order::ZERO).unwrap();
                    assert!(!is_closed(&folio), "{folio:?}");
                }
            });
            let ticket = close(&device);
            told.store(true, loom::sync::atomic::Ordering::Release);
            worker.join().unwrap();
            assert_eq!(ticket.busy().count(), 0);
            drop(ticket);
            check_all_is_there(space, &device);
        });
    });
}

/// The block falls to small folios while it is closed.
#[test]
fn a_block_that_is_divided_is_closed_all_the_same() {
    bounded("evict: split", || {
        with_space(8, |space| {
            let device = device(space);
            let folio = device.alloc(order(2)).unwrap();
            let worker = thread::spawn(move || drop(folio.split(order(1)).unwrap()));
            let ticket = close(&device);
            let first = device.alloc(order(1)).unwrap();
            assert!(!is_closed(&first), "{first:?}");
            drop(first);
            worker.join().unwrap();
            space.validate().unwrap();
            assert_eq!(ticket.busy().count(), 0);
            drop(ticket);
            check_all_is_there(space, &device);
        });
    });
}

/// A block is put while the closure ends: it does not stay closed.
#[test]
fn an_end_opens_what_is_put_meanwhile() {
    bounded("evict: end", || {
        with_space(8, |space| {
            let device = device(space);
            let folio = device.alloc(order(2)).unwrap();
            let ticket = close(&device);
            let worker = thread::spawn(move || drop(folio));
            drop(ticket);
            worker.join().unwrap();
            check_all_is_there(space, &device);
        });
    });
}

/// Of two that overlap one is refused, or comes after the other.
#[test]
fn of_two_closures_of_one_block_one_is_refused() {
    bounded("evict: two", || {
        with_space(8, |space| {
            let device = device(space);
            let other = device.clone();
            let worker = thread::spawn(move || other.evict(other.range()).map(drop).is_ok());
            let mine = device.evict(device.range()).map(drop).is_ok();
            assert!(worker.join().unwrap() | mine);
            check_all_is_there(space, &device);
        });
    });
}
