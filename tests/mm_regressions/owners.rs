//! Bugs of who has what, and for how long: pages given back, address spaces that end, devices of every block.

use std::sync::Arc;
use std::time::Duration;

use farpage::{DeviceConfig, IntervalOps, InvalidationKind, MigrateBatch, MigrateRequest, Order};

use crate::BASE;
use crate::mm_support::{
    Gpu, HUGE, Kind, PAGE, Told, anon, anon_huge, assert_bytes, at, pattern, range, read, world, write,
};

/// Early returns leaked: a destination that is refused is given back at once, and so is one that is not used.
#[test]
fn a_refused_destination_is_given_back() {
    world(|w| {
        let gpu = Gpu::new(w, Kind::Private, 1);
        let (space, all) = (w.space(), range(BASE, 4 * PAGE));
        space.map(anon(BASE, 4 * PAGE)).unwrap();
        write(&space, BASE, &pattern(4 * PAGE, 6));
        let mut batch = MigrateBatch::new();
        let mut migration = space.migrate(&mut batch, MigrateRequest::new(all).system(true)).unwrap();
        migration.set_dst(1, gpu.device.alloc(Order::HUGE).unwrap()).unwrap_err();
        migration.set_dst(9, gpu.device.alloc(Order::ZERO).unwrap()).unwrap_err();
        assert_eq!((gpu.live(), gpu.calls()), (0, (0, 2, 513)));
        migration.set_dst(0, gpu.device.alloc(Order::ZERO).unwrap()).unwrap();
        migration.set_dst(0, w.machine.alloc_frame(Order::ZERO).unwrap()).unwrap();
        assert_eq!((gpu.live(), w.host_used()), (0, 5), "the second replaces the first");
        drop(migration);
        assert_eq!((gpu.calls(), w.host_used()), ((0, 3, 514), 4));
        w.check();
        assert_bytes(&read(&space, BASE, 4 * PAGE), &pattern(4 * PAGE, 6));
    });
}

/// Pages were freed with the wrong function: each goes back to the device that it is of, once.
#[test]
fn each_page_is_given_back_to_whom_it_came_from() {
    world(|w| {
        let gpus = [Gpu::new(w, Kind::Private, 1), Gpu::new(w, Kind::Visible, 2), Gpu::new(w, Kind::Private, 3)];
        let space = w.space();
        space.map(anon(BASE, 16 * PAGE)).unwrap();
        write(&space, BASE, &pattern(16 * PAGE, 7));
        for (index, gpu) in gpus.iter().enumerate() {
            assert_eq!(
                gpu.migrate_in(&space, range(BASE + index as u64 * 4 * PAGE, (index as u64 + 1) * PAGE)).unwrap(),
                index as u64 + 1
            );
        }
        assert_eq!(w.host_used(), 16 - 6);
        w.check();
        space.unmap(range(BASE, 16 * PAGE)).unwrap();
        let freed = gpus.each_ref().map(|gpu| (gpu.calls(), gpu.live()));
        assert_eq!(freed, [((0, 1, 1), 0), ((0, 2, 2), 0), ((0, 3, 3), 0)]);
        assert_eq!(w.host_used(), 0);
    });
}

/// A dead mm was used: an interval that outlives its address space was told of the end, and can be asked and dropped.
#[test]
fn an_interval_outlives_its_address_space() {
    world(|w| {
        let gpu = Gpu::new(w, Kind::Private, 1);
        let (space, all) = (w.space(), range(BASE, 4 * PAGE));
        space.map(anon(BASE, 4 * PAGE)).unwrap();
        write(&space, BASE, &pattern(4 * PAGE, 8));
        gpu.migrate_in(&space, range(BASE, 2 * PAGE)).unwrap();
        let told = Arc::new(Told::default());
        let interval = space.subscribe(all, None, Arc::clone(&told) as Arc<dyn IntervalOps>);
        let sequence = interval.read_begin(Duration::ZERO).unwrap();
        drop(space);
        let heard = told.invalidations.lock().unwrap().clone();
        assert_eq!(heard.iter().map(|told| told.kind).collect::<Vec<_>>(), [InvalidationKind::Release]);
        assert!(interval.read_retry(sequence), "nothing that was mirrored is true");
        assert!(interval.read_begin(Duration::ZERO).is_some(), "the end has ended");
        assert_eq!((gpu.live(), w.host_used(), interval.range()), (0, 0, all));
        w.check();
        // Another address space at the same addresses is none of its business.
        let next = w.space();
        next.map(anon(BASE, 4 * PAGE)).unwrap();
        write(&next, BASE, &[1]);
        drop((next, interval));
        assert_eq!(told.invalidations.lock().unwrap().len(), 1);
    });
}

/// Only the first pageblock was initialised: every block of a device, to its last page, takes pages of both orders.
#[test]
fn the_last_block_of_a_device_serves_as_the_first_does() {
    world(|w| {
        let gpu = Gpu::of_pages(w, Kind::Private, 1, 6 * 512);
        for huge in [true, false] {
            let (space, all) = (w.space(), range(BASE, 6 * HUGE));
            space.map(anon(BASE, 6 * HUGE).huge(huge)).unwrap();
            write(&space, BASE, &pattern(6 * HUGE, 9));
            assert_eq!(gpu.migrate_in(&space, all).unwrap(), 6 * 512);
            assert!(gpu.device.nr_free_pages() == 0 && gpu.has_all(&space, all));
            let order = if huge { Order::HUGE } else { Order::ZERO };
            for page in (0..6 * 512).step_by(511) {
                assert_eq!(space.snapshot(at(BASE + page * PAGE)).folio_order, order);
            }
            w.check();
            assert_bytes(&read(&space, BASE, 6 * HUGE), &pattern(6 * HUGE, 9));
        }
    });
}

/// A NULL node was followed: a device that names no node, no callbacks and no driver serves all the same.
#[test]
fn a_device_of_no_node_serves() {
    world(|w| {
        let device = w.device_pages.register(DeviceConfig::new(512)).unwrap();
        let (space, all) = (w.space(), range(BASE, HUGE));
        space.map(anon_huge(BASE, HUGE)).unwrap();
        let mut batch = MigrateBatch::new();
        let request = MigrateRequest::new(all).system(true).compound(true);
        let mut migration = space.migrate(&mut batch, request).unwrap();
        migration.set_dst(0, device.alloc(Order::HUGE).unwrap()).unwrap();
        assert_eq!(migration.pages(), 512);
        migration.finalize();
        w.check();
        assert_eq!(device.nr_live_pages(), 512);
        space.unmap(all).unwrap();
        assert_eq!(device.nr_live_pages(), 0);
    });
}
