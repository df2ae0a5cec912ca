//! Edges [init], [last-put], [claim], [map] on the whole path: a lookup with a stale leaf against the end of its folio
//! and the next life at the same offset.
//!
//! Shape: one looks up and tries to get; one takes, drops and allocates again, of the same order or another.
//! Cost: 290 to 606 executions at bound 2.
//! Teeth: failed where leaves named a generation that two records of one offset could share.

use farpage::{Access, DeviceConfig, Order, TakeError};
use farpage_loom_tests::{Witness, bounded, with_space};
use loom::{sync::Arc, thread};

fn race(name: &str, order: u8, then: u8) {
    bounded(name, move || {
        with_space(4, |space| {
            let (order, then) = (Order::new(order).unwrap(), Order::new(then).unwrap());
            let device = space.register(DeviceConfig::new(4)).unwrap();
            let folio = device.alloc(order).unwrap();
            folio.set_private(1);
            let offset = folio.offset();
            let leaf = folio.into_leaf(Access::Write);
            // The driver's data of the page: 1 for the old life, 2 for the new.
            let data = Arc::new(Witness::new(1));
            let reader = data.clone();
            let reader = thread::spawn(move || {
                let Some(folio) = space.lookup(leaf).and_then(|page| page.try_get()) else { return };
                // A reference of the old life holds its data and its metadata.
                assert_eq!((folio.private(), folio.offset(), folio.order()), (1, offset, order));
                assert_eq!(reader.read(), 1);
            });
            drop(space.take(leaf).expect("taken once"));
            match device.alloc(then) {
                Ok(folio) if folio.offset() == offset => {
                    // Ours alone, until the leaf of it is shown to somebody.
                    data.write(2);
                    assert_eq!((folio.private(), folio.refs(), folio.maps()), (0, 1, 0));
                    folio.set_private(2);
                    assert_eq!(space.lookup(leaf), None);
                    assert_eq!(space.take(leaf).err(), Some(TakeError::Stale { offset: offset.get() }));
                    reader.join().unwrap();
                }
                // The reader still holds the old life: the new one is elsewhere, or nowhere.
                Ok(folio) => {
                    assert!(order != Order::HUGE && then != Order::HUGE);
                    drop(folio);
                    reader.join().unwrap();
                }
                Err(_) => reader.join().unwrap(),
            }
            assert_eq!(device.nr_live_pages(), 0);
            space.validate().unwrap();
            drop(device);
        });
    });
}

#[test]
fn a_stale_leaf_of_a_page() {
    race("lookup_race: order 0", 0, 0);
}

#[test]
fn a_stale_leaf_of_a_page_whose_block_is_one_folio_now() {
    race("lookup_race: order 0, then 2", 0, 2);
}

#[test]
fn a_stale_leaf_of_a_block_in_which_pages_live_now() {
    race("lookup_race: order 2, then 0", 2, 0);
}

/// The head by its tail, and the other way round, while the block changes its class.
#[test]
fn a_stale_leaf_of_a_large_folio() {
    race("lookup_race: order 2", 2, 2);
}

/// No race: a page's leaf goes stale, and the page is a tail of a folio whose head has come to the same generation.
#[test]
fn a_stale_leaf_of_a_page_that_is_a_tail_now() {
    bounded("lookup_race: tail", || {
        with_space(4, |space| {
            let device = space.register(DeviceConfig::new(4)).unwrap();
            let head = device.alloc(Order::ZERO).unwrap();
            drop(device.alloc(Order::ZERO).unwrap());
            let tail = device.alloc(Order::ZERO).unwrap();
            assert_eq!((head.offset().get(), tail.offset().get()), (0, 1));
            let leaf = tail.into_leaf(Access::Write);
            drop((head, space.take(leaf)));
            let folio = device.alloc(Order::new(1).unwrap()).unwrap();
            assert_eq!(folio.offset().get(), 0);
            assert_eq!(space.lookup(leaf), None);
            drop((folio, device));
        });
    });
}
