//! What the selftests leave out: a transaction misused or dropped, exhaustion, order mixing, a neighbour of odd size, counts at their
//! limit, faults while a device goes.

mod mm_support;

use std::thread;
use std::time::Duration;

use farpage::{
    DestinationError, DeviceConfig, LeafKind, MigrateBatch, MigrateEntry, MigrateRequest, Order, Owner, SetupError,
    VmaError,
};
use mm_support::{
    Gpu, HUGE, Kind, Mirror, PAGE, anon, anon_huge, assert_bytes, at, pattern, range, read, world, write,
};

const BASE: u64 = 0x5500_0020_0000;

/// What a driver may get wrong in a transaction is refused, and the transaction ends as it should.
#[test]
fn a_migration_refuses_what_cannot_be() {
    world(|w| {
        let gpu = Gpu::new(w, Kind::Private, 1);
        let (space, all) = (w.space(), range(BASE, 4 * PAGE));
        space.map(anon(BASE, 4 * PAGE)).unwrap();
        write(&space, BASE, &pattern(4 * PAGE, 6));
        gpu.migrate_in(&space, range(BASE, PAGE)).unwrap();
        let mut batch = MigrateBatch::new();
        let request = MigrateRequest::new(all).system(true).device_private(Owner::new(1));
        let mut migration = space.migrate(&mut batch, request).unwrap();
        assert_eq!((migration.nr_slots(), migration.nr_collected()), (4, 4));
        let fresh = || gpu.device.alloc(Order::ZERO).unwrap();
        assert_eq!(migration.set_dst(4, fresh()), Err(DestinationError::OutOfRange { index: 4, nr_slots: 4 }));
        let large = gpu.device.alloc(Order::HUGE).unwrap();
        assert_eq!(migration.set_dst(1, large), Err(DestinationError::WrongOrder { order: 9 }));
        let used = fresh();
        assert_eq!(migration.set_dst(1, used.clone()), Err(DestinationError::NotFresh { refs: 2 }));
        // The same page as source and destination, which breaks the reference check in Linux.
        let source = migration.src_folio(0).unwrap().clone();
        assert!(matches!(migration.set_dst(0, source), Err(DestinationError::NotFresh { .. })));
        migration.set_dst(1, used).unwrap();
        assert_eq!(migration.pages(), 1);
        assert_eq!(migration.set_dst(2, fresh()), Err(DestinationError::Late));
        assert_eq!(migration.pages(), 0, "once");
        let flags: Vec<_> = (0..4).map(|slot| migration.src(slot).is_migrate()).collect();
        assert_eq!(flags, [false, true, false, false]);
        assert_eq!(migration.src(9), MigrateEntry::EMPTY);
        drop(migration); // finalizes
        assert_eq!(gpu.has(&space, all), [true, true, false, false]);
        w.check();
        let outside = space.migrate(&mut batch, MigrateRequest::new(range(BASE, 5 * PAGE)).system(true)).err();
        assert_eq!(outside, Some(SetupError::NotMapped { address: at(BASE + 4 * PAGE) }));
    });
}

/// A transaction that ends before `pages`, at any point, moves nothing.
#[test]
fn a_migration_that_is_dropped_moves_nothing() {
    world(|w| {
        let gpu = Gpu::new(w, Kind::Private, 1);
        for huge in [false, true] {
            let (space, all) = (w.space(), range(BASE, HUGE));
            space.map(anon(BASE, HUGE).huge(huge)).unwrap();
            write(&space, BASE, &pattern(HUGE, 7));
            let child = space.fork().unwrap();
            let before = space.snapshot(at(BASE + PAGE));
            let mut batch = MigrateBatch::new();
            let request = MigrateRequest::new(all).system(true).compound(true);
            let mut migration = space.migrate(&mut batch, request).unwrap();
            assert!(matches!(child.leaf(at(BASE)).0.kind(), LeafKind::Migration(_)), "the other mapping, too");
            if huge {
                migration.set_dst(3, gpu.device.alloc(Order::ZERO).unwrap()).unwrap(); // takes it apart
            }
            drop(migration);
            assert_eq!((space.snapshot(at(BASE + PAGE)), gpu.live()), (before, 0));
            w.check();
            // Some of a huge one, page by page: the others stay where they were, in both address spaces.
            if huge {
                let mut migration = space.migrate(&mut batch, request).unwrap();
                let folio = gpu.device.alloc(Order::ZERO).unwrap();
                let target = migration.src(0).for_page(9).unwrap().target().unwrap().pfn().unwrap();
                let mut bytes = vec![0; PAGE as usize];
                w.machine.memory().read(target, 0, &mut bytes);
                gpu.vram.write(folio.offset().get(), &bytes);
                migration.set_dst(9, folio).unwrap();
                assert_eq!(migration.pages(), 1);
                migration.finalize();
                assert_eq!(gpu.has(&child, all).iter().filter(|has| **has).count(), 1);
                w.check();
            }
            assert_bytes(&read(&child, BASE, HUGE), &pattern(HUGE, 7));
            assert_bytes(&read(&space, BASE, HUGE), &pattern(HUGE, 7));
        }
    });
}

/// Exhaustion, and order mixing: a device that is full of single pages, then of large ones, then of both.
#[test]
fn a_full_device_takes_what_fits() {
    world(|w| {
        let gpu = Gpu::new(w, Kind::Private, 1);
        let pages = mm_support::GPU_PAGES;
        let mut hog = Vec::new();
        gpu.device.alloc_many(Order::ZERO, pages as usize - 600, &mut hog).unwrap();
        let (space, all) = (w.space(), range(BASE, 2 * HUGE));
        space.map(anon_huge(BASE, 2 * HUGE)).unwrap();
        write(&space, BASE, &pattern(2 * HUGE, 9));
        // One fits whole or in pieces; of the other, 88 pages.
        assert_eq!(gpu.migrate_in(&space, all).unwrap(), 600);
        assert_eq!(gpu.device.nr_free_pages(), 0);
        w.check();
        assert_bytes(&read(&space, BASE, 2 * HUGE), &pattern(2 * HUGE, 9));
        assert_eq!(gpu.device.nr_free_pages(), 600);
    });
}

/// A neighbour of odd size does not shift a device off its alignment: order 9 is possible in it from its first page on.
#[test]
fn a_misaligned_neighbour_shifts_nothing() {
    world(|w| {
        let _odd = w.device_pages.register(DeviceConfig::new(777)).unwrap();
        let gpu = Gpu::new(w, Kind::Private, 1);
        assert_eq!(gpu.device.range().start().get() % 512, 0);
        let (space, all) = (w.space(), range(BASE, HUGE));
        space.map(anon_huge(BASE, HUGE)).unwrap();
        write(&space, BASE, &pattern(HUGE, 10));
        assert_eq!(gpu.migrate_in(&space, all).unwrap(), 512);
        assert_eq!(space.snapshot(at(BASE)).map_order, Order::HUGE);
        assert_eq!(gpu.evict(), 512, "found by its own offsets");
    });
}

/// A folio with as many references as it can count: a fork is refused, and nothing has changed.
#[test]
fn a_count_at_its_limit_is_an_error() {
    world(|w| {
        let gpu = Gpu::new(w, Kind::Private, 1);
        let (space, all) = (w.space(), range(BASE, HUGE));
        space.map(anon_huge(BASE, HUGE)).unwrap();
        write(&space, BASE, &pattern(HUGE, 11));
        gpu.migrate_in(&space, all).unwrap();
        let folio = w.device_pages.lookup(space.leaf(at(BASE)).0).unwrap().try_get().unwrap();
        let mut handles = Vec::new();
        while let Ok(handle) = folio.try_clone() {
            handles.push(handle);
        }
        assert!(matches!(space.fork().err(), Some(VmaError::TooManyRefs { .. })));
        assert!(matches!(space.unmap(range(BASE, PAGE)), Err(VmaError::TooManyRefs { .. })));
        assert_eq!(space.snapshot(at(BASE)).map_order, Order::HUGE, "it was not taken apart");
        handles.truncate(handles.len() - 100);
        assert!(matches!(space.unmap(range(BASE, PAGE)), Err(VmaError::TooManyRefs { .. })), "not for 511 more");
        drop(handles);
        drop(folio);
        w.check();
        space.unmap(range(BASE, PAGE)).unwrap();
        assert_bytes(&read(&space, BASE + PAGE, HUGE - PAGE), &pattern(HUGE, 11)[PAGE as usize..]);
    });
}

/// Leaves are read and faulted while their device goes: bytes or an error, never somebody else's page.
#[test]
fn a_device_goes_while_its_pages_are_faulted() {
    for time in 0..5u32 {
        world(|w| {
            let gpu = Gpu::new(w, Kind::Private, 1);
            let (space, all) = (w.space(), range(BASE, 256 * PAGE));
            space.map(anon(BASE, 256 * PAGE)).unwrap();
            write(&space, BASE, &pattern(256 * PAGE, time));
            gpu.migrate_in(&space, all).unwrap();
            let mirror = Mirror::new(&gpu, &space, all);
            thread::scope(|scope| {
                scope.spawn(|| assert_bytes(&read(&space, BASE, 256 * PAGE), &pattern(256 * PAGE, time)));
                scope.spawn(|| assert_bytes(&mirror.read(all).unwrap(), &pattern(256 * PAGE, time)));
                gpu.device.kill();
                while gpu.live() > 0 {
                    gpu.evict();
                    thread::yield_now();
                }
                gpu.device.drain(Duration::from_secs(30)).unwrap();
            });
            w.machine.detach(&gpu.device);
            drop(mirror);
            gpu.device.clone().unregister().unwrap();
            assert_bytes(&read(&space, BASE, 256 * PAGE), &pattern(256 * PAGE, time));
        });
    }
}

/// What is said of a range in words names every kind.
#[test]
fn a_dump_is_readable() {
    world(|w| {
        let gpu = Gpu::new(w, Kind::Private, 1);
        let space = w.space();
        space.map(anon_huge(BASE, HUGE + 4 * PAGE)).unwrap();
        write(&space, BASE, &pattern(HUGE + PAGE, 12));
        gpu.migrate_in(&space, range(BASE, HUGE)).unwrap();
        read(&space, BASE + HUGE + 2 * PAGE, 1);
        let text = space.dump(range(BASE, 2 * HUGE)).to_string();
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].contains("512 pages") && lines[0].contains("DevicePrivate(Write)"), "{text}");
        assert!(lines[0].contains("order 9") && lines[0].contains("refs 1 maps 1"), "{text}");
        assert!(lines[1].contains("Present(Write)"), "{text}");
        assert!(lines.iter().any(|line| line.contains("zero page")), "{text}");
        assert!(lines.last().unwrap().contains("508 pages  not mapped"), "{text}");
    });
}
