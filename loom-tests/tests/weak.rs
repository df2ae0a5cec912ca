//! Edges [init], [last-put] on the whole path: `WeakFolio::upgrade` against the last put, and against the next life at the
//! same place, of the same order or another.
//!
//! Shape: one upgrades; the other drops the only handle and allocates again. An upgrade leads to the life that it was made
//! for, with what belongs to it, or nowhere.
//! Cost: 43 to 77 executions at bound 2.
//! Teeth: fails when `try_get` does not compare generations, or takes a reference of a count of 0.

use farpage::{Access, DeviceConfig, Order};
use farpage_loom_tests::{Witness, bounded, with_space};
use loom::{sync::Arc, thread};

fn race(name: &str, order: u8, then: u8) {
    bounded(name, move || {
        with_space(4, |space| {
            let (order, then) = (Order::new(order).unwrap(), Order::new(then).unwrap());
            let device = space.register(DeviceConfig::new(4)).unwrap();
            let folio = device.alloc(order).unwrap();
            folio.set_private(1);
            let weak = folio.downgrade();
            // The driver's data of the page: 1 for the old life, 2 for the new.
            let data = Arc::new(Witness::new(1));
            let reader = data.clone();
            let reader = thread::spawn(move || {
                let Some(folio) = weak.upgrade() else { return };
                assert_eq!((folio.private(), folio.offset(), folio.order()), (1, weak.offset(), order));
                assert_eq!(reader.read(), 1);
            });
            drop(folio);
            match device.alloc(then) {
                Ok(folio) if folio.offset() == weak.offset() => {
                    data.write(2);
                    folio.set_private(2);
                    assert!(weak.upgrade().is_none() && folio.downgrade() != weak);
                    reader.join().unwrap();
                    assert_eq!((folio.refs(), folio.private()), (1, 2));
                }
                // The reader still holds the old life: the new one is elsewhere, or nowhere.
                _ => reader.join().unwrap(),
            }
            assert!(weak.upgrade().is_none());
            assert_eq!(device.nr_live_pages(), 0);
            space.validate().unwrap();
            drop(device);
        });
    });
}

#[test]
fn an_upgrade_of_a_page() {
    race("weak: order 0", 0, 0);
}

#[test]
fn an_upgrade_of_a_page_whose_block_is_one_folio_now() {
    race("weak: order 0, then 2", 0, 2);
}

#[test]
fn an_upgrade_of_a_block_in_which_pages_live_now() {
    race("weak: order 2, then 0", 2, 0);
}

/// One gives the last reference, a leaf's, back; the other makes a handle by way of the weak reference.
#[test]
fn an_upgrade_beside_the_last_unmap() {
    bounded("weak: unmap", || {
        with_space(4, |space| {
            let device = space.register(DeviceConfig::new(4)).unwrap();
            let leaf = device.alloc(Order::ZERO).unwrap().into_leaf(Access::Write);
            let weak = space.weak(leaf).unwrap();
            let reader = thread::spawn(move || weak.upgrade().map(|folio| folio.refs()));
            space.unmap(leaf).unwrap();
            assert!(matches!(reader.join().unwrap(), None | Some(1 | 2)));
            assert!(weak.upgrade().is_none() && space.weak(leaf).is_none());
            assert_eq!((device.nr_live_pages(), space.validate()), (0, Ok(())));
            drop(device);
        });
    });
}
