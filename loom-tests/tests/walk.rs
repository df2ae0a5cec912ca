//! Edges [init], [class], [claim], [last-put] on the whole path: `Device::live_folios` against put, alloc and division. What
//! lives during the whole walk is met once, whatever becomes of its neighbours and of the class of its block; what is met is
//! held, and whole.
//!
//! Shape: one walks; one frees, allocates or divides.
//! Cost: 30 to 24,862 executions (13 s) at bound 2, 62 to 201,949 (2 minutes) at bound 3. A block that is divided gets one
//! preemption less than the others: 9,704 at bound 1, 73,464 (1 minute) at bound 2.
//! Teeth: fails when a walk goes further than a page past one that it has not got, or than a block past a large folio; takes
//! a folio of another order for the one that it looks for; or does not look whose its folios are.

use farpage::{Device, DeviceConfig, Folio, Offset, Order, RangeRequest, Space};
use farpage_loom_tests::{bounded, bounded_less, with_space};
use loom::thread;

fn order(order: u8) -> Order {
    Order::new(order).unwrap()
}

/// Walks, and holds what is met: it does not overlap, and is what its record says.
fn walk<'s>(device: &Device<'s>) -> Vec<Folio<'s>> {
    let folios: Vec<_> = device.live_folios().collect();
    let mut end = 0;
    for folio in &folios {
        assert!(folio.offset().get() >= end, "{folios:?} overlap");
        end = folio.offset().get() + folio.nr_pages();
        assert_eq!(folio.offset().get() % folio.nr_pages(), 0);
        assert!(folio.refs() > 0 && end <= device.range().nr_pages());
    }
    folios
}

fn times_met(folios: &[Folio<'_>], head: u64, order: u8) -> usize {
    folios.iter().filter(|folio| (folio.offset().get(), folio.order().get()) == (head, order)).count()
}

/// A device of all pages, and folios of these orders in it.
fn filled<'s>(space: &'s Space, orders: &[u8]) -> (Device<'s>, Vec<Folio<'s>>) {
    let device = space.register(DeviceConfig::new(space.max_pages())).unwrap();
    let folios = orders.iter().map(|&n| device.alloc(order(n)).unwrap()).collect();
    (device, folios)
}

/// One stays; its neighbour below is freed, and an order that makes their block mixed, or another block's, comes.
fn put_and_alloc(name: &str, goes: u8, stays: u8, comes: u8) {
    bounded(name, move || {
        with_space(8, |space| {
            let (device, mut folios) = filled(space, &[goes, stays]);
            let (stays, goes) = (folios.pop().unwrap(), folios.pop().unwrap());
            assert!(goes.offset() < stays.offset());
            let other = device.clone();
            let worker = thread::spawn(move || {
                drop(goes);
                drop(other.alloc(order(comes)));
            });
            let met = walk(&device);
            assert_eq!(times_met(&met, stays.offset().get(), stays.order().get()), 1, "{met:?}");
            drop(met);
            worker.join().unwrap();
            assert_eq!(walk(&device).len(), 1);
            drop(stays);
            assert_eq!(device.nr_live_pages(), 0);
            space.validate().unwrap();
        });
    });
}

#[test]
fn a_page_beside_one_that_comes_again() {
    put_and_alloc("walk: 0 beside 0 for 0", 0, 0, 0);
}

#[test]
fn a_page_whose_block_becomes_mixed() {
    put_and_alloc("walk: 0 beside 1 for 0", 0, 0, 1);
}

#[test]
fn a_page_beside_a_block_that_becomes_small() {
    put_and_alloc("walk: 0 beside 0 for 2", 2, 0, 0);
}

#[test]
fn a_block_beside_a_page_that_goes() {
    put_and_alloc("walk: 2 beside 2 for 0", 0, 2, 2);
}

/// Two blocks were one folio, and readers of the first still believe so when it becomes a folio of its own. The second is
/// one already, and stays.
#[test]
fn a_block_that_was_the_second_half_of_a_folio() {
    bounded("walk: 2 behind 2 for 3", || {
        with_space(8, |space| {
            let (device, both) = filled(space, &[3]);
            drop(both);
            let second = RangeRequest::new(4).at(Offset::new(4).unwrap());
            let stays = device.alloc_range(second).unwrap();
            let other = device.clone();
            let worker = thread::spawn(move || other.alloc(order(2)).unwrap());
            let met = walk(&device);
            assert_eq!(times_met(&met, 4, 2), 1, "{met:?}");
            drop((met, worker.join().unwrap(), stays));
            assert_eq!(device.nr_live_pages(), 0);
            space.validate().unwrap();
        });
    });
}

/// The device goes, and another has its number and its offsets: nothing of that one is met by the first one's walk.
#[test]
fn a_walk_of_a_device_that_goes() {
    bounded("walk: another device", || {
        with_space(4, |space| {
            let (device, folios) = filled(space, &[0]);
            drop(folios);
            let worker = device.clone();
            let worker = thread::spawn(move || {
                // Not while the walk has a folio of it.
                worker.unregister().ok()?;
                let next = space.register(DeviceConfig::new(4)).unwrap();
                Some(next.alloc(Order::ZERO).unwrap())
            });
            assert_eq!(device.live_folios().count(), 0);
            drop((worker.join().unwrap(), device));
            space.validate().unwrap();
        });
    });
}

/// A folio is divided before the walk, after it, or in its middle: then some of the parts are met, or none.
fn divide(less: usize, name: &str, nr_pages: u64, at: u64) {
    bounded_less(less, name, move || {
        with_space(8, |space| {
            let device = space.register(DeviceConfig::new(8)).unwrap();
            let whole = device.alloc_range(RangeRequest::new(nr_pages)).unwrap();
            assert_eq!(whole.folios().count(), 1);
            let stays = if nr_pages < 8 { Some(device.alloc(Order::ZERO).unwrap()) } else { None };
            let worker = thread::spawn(move || match whole.split_at(at) {
                Ok(parts) => drop(parts),
                // The walk has a reference.
                Err(error) => drop(error),
            });
            let met = walk(&device);
            if let Some(stays) = &stays {
                assert_eq!(times_met(&met, stays.offset().get(), 0), 1, "{met:?}");
            }
            drop(met);
            worker.join().unwrap();
            drop(stays);
            assert_eq!((device.live_folios().count(), device.nr_live_pages()), (0, 0));
            space.validate().unwrap();
        });
    });
}

#[test]
fn two_pages_that_are_divided() {
    divide(0, "walk: order 1 divided", 2, 1);
}

#[test]
fn a_block_that_is_divided() {
    divide(1, "walk: order 2 divided", 4, 1);
}

#[test]
fn two_blocks_that_are_divided() {
    divide(0, "walk: order 3 divided", 8, 4);
}
