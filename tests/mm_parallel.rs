//! One large migration in parts, on several threads: data, counts and `validate()` as of one thread's.

mod mm_support;

use std::sync::Mutex;
use std::thread;

use farpage::{Access, Machine, MigrateBatch, MigrateRequest, Migration, Order, SetupError};
use mm_support::{Gpu, HUGE, Kind, PAGE, World, anon, anon_huge, assert_bytes, at, pattern, range, read, world, write};

const BASE: u64 = 0x5500_0020_0000;

/// What a driver does with a part on the way to the device: single pages, or 512 at once.
fn to_device<'s>(gpu: &Gpu<'s>, machine: &Machine<'s>, migration: &mut Migration<'_, 's>) {
    let mut slot = 0;
    while slot < migration.nr_slots() {
        let src = migration.src(slot);
        let (order, pages) = if src.is_compound() { (Order::HUGE, 512) } else { (Order::ZERO, 1) };
        if src.is_migrate() {
            let folio = gpu.device.alloc(order).unwrap();
            for page in 0..pages {
                if let Some(pfn) = src.target().and_then(|target| target.checked_add(page)?.pfn()) {
                    let mut bytes = vec![0; PAGE as usize];
                    machine.memory().read(pfn, 0, &mut bytes);
                    gpu.vram.write(folio.offset().get() + page, &bytes);
                }
            }
            migration.set_dst(slot, folio).unwrap();
        }
        slot += pages as usize;
    }
}

/// Moves a range to the device with `nr_threads` threads that take the parts in turns; how many pages.
fn in_threads<'s>(w: &World<'s>, gpu: &Gpu<'s>, parts: &farpage::MigrateParts<'_, 's>, nr_threads: usize) -> u64 {
    let left = Mutex::new(parts.ranges());
    let work = || {
        let (mut batch, mut moved) = (MigrateBatch::new(), 0);
        loop {
            let Some(part) = left.lock().unwrap().next() else { return moved };
            let mut migration = parts.migrate(&mut batch, part).unwrap();
            to_device(gpu, &w.machine, &mut migration);
            moved += migration.pages();
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..nr_threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

#[test]
fn parts_are_the_range_cut_at_tables() {
    world(|w| {
        let space = w.space();
        space.map(anon(BASE - 8 * PAGE, 4 * HUGE)).unwrap();
        for (start, nr, wanted) in [
            (0, 8 + 512 + 1, vec![8, 512, 1]),
            (8, 1024, vec![512, 512]),
            (8, 1, vec![1]),
            (0, 8, vec![8]),
            (7, 2, vec![1, 1]),
        ] {
            let all = range(BASE - 8 * PAGE + start * PAGE, nr * PAGE);
            let parts = space.migrate_parts(MigrateRequest::new(all).system(true)).unwrap();
            let ranges: Vec<_> = parts.ranges().collect();
            assert_eq!((parts.nr_parts(), ranges.len()), (wanted.len(), wanted.len()));
            assert_eq!(ranges.iter().map(|part| part.nr_pages()).collect::<Vec<_>>(), wanted);
            assert_eq!(ranges[0].start(), all.start());
            assert!(ranges.windows(2).all(|two| two[0].start().get() + two[0].nr_bytes() == two[1].start().get()));
        }
    });
}

#[test]
fn refusals_are_those_of_one_migration() {
    world(|w| {
        let (space, all) = (w.space(), range(BASE, 2 * HUGE));
        let request = |range| MigrateRequest::new(range).system(true);
        let refused = SetupError::NotMapped { address: at(BASE) };
        assert_eq!(space.migrate_parts(request(all)).unwrap_err(), refused);
        space.map(anon(BASE, HUGE)).unwrap();
        let refused = SetupError::NotMapped { address: at(BASE + HUGE) };
        assert_eq!(space.migrate_parts(request(all)).unwrap_err(), refused);
        let parts = space.migrate_parts(request(range(BASE, HUGE))).unwrap();
        let mut batch = MigrateBatch::new();
        assert_eq!(parts.migrate(&mut batch, range(BASE + HUGE, PAGE)).unwrap_err(), refused);
        let refused = SetupError::NotMapped { address: at(BASE - PAGE) };
        assert_eq!(parts.migrate(&mut batch, range(BASE - PAGE, 2 * PAGE)).unwrap_err(), refused);
    });
}

#[test]
fn threads_move_what_one_would() {
    world(|w| {
        let gpu = Gpu::new(w, Kind::Private, 1);
        let (space, all) = (w.space(), range(BASE, 4 * HUGE));
        space.map(anon_huge(BASE, 2 * HUGE)).unwrap(); // two huge leaves
        space.map(anon(BASE + 2 * HUGE, 2 * HUGE)).unwrap();
        // Two mappings are not one.
        assert!(space.migrate_parts(MigrateRequest::new(all).system(true)).is_err());
        write(&space, BASE, &pattern(3 * HUGE, 1)); // the last run are holes
        let pinned = space.pin(at(BASE + 2 * HUGE + 7 * PAGE), Access::Read).unwrap();
        let mut moved = 0;
        for half in [range(BASE, 2 * HUGE), range(BASE + 2 * HUGE, 2 * HUGE)] {
            let request = MigrateRequest::new(half).system(true).compound(true).owner(gpu.device.owner());
            let parts = space.migrate_parts(request).unwrap();
            moved += in_threads(w, &gpu, &parts, 4);
        }
        assert_eq!(moved, 4 * 512 - 1, "all but what is pinned");
        assert_eq!((gpu.live(), w.host_used()), (2047, 1));
        assert!(space.leaf(at(BASE)).1 && !space.leaf(at(BASE + 2 * HUGE)).1, "huge leaves moved whole");
        w.check();
        drop(pinned);
        let mut want = pattern(3 * HUGE, 1);
        want.resize(4 * HUGE as usize, 0);
        assert_bytes(&read(&space, BASE, 4 * HUGE), &want);
        assert_eq!((gpu.live(), gpu.freed()), (0, 2047));
    });
}

#[test]
fn the_same_parts_at_once_move_each_page_once() {
    world(|w| {
        let gpu = Gpu::new(w, Kind::Private, 1);
        let (space, all) = (w.space(), range(BASE, 4 * HUGE));
        space.map(anon(BASE, 4 * HUGE)).unwrap();
        for time in 0..8 {
            write(&space, BASE, &pattern(4 * HUGE, time));
            let request = MigrateRequest::new(all).system(true).owner(gpu.device.owner());
            let parts = space.migrate_parts(request).unwrap();
            let work = || in_threads(w, &gpu, &parts, 2);
            let moved: u64 = thread::scope(|scope| {
                let threads = [scope.spawn(work), scope.spawn(work)];
                threads.into_iter().map(|thread| thread.join().unwrap()).sum()
            });
            assert_eq!(moved, gpu.live(), "no page moves twice, and none is lost");
            drop(parts);
            w.check();
            assert_bytes(&read(&space, BASE, 4 * HUGE), &pattern(4 * HUGE, time));
        }
        assert_eq!(gpu.live(), 0);
    });
}

#[test]
fn faults_of_other_threads_go_on_beside_parts() {
    world(|w| {
        let gpu = Gpu::new(w, Kind::Private, 1);
        let (space, all) = (w.space(), range(BASE, 4 * HUGE));
        space.map(anon(BASE, 4 * HUGE)).unwrap();
        write(&space, BASE, &pattern(4 * HUGE, 1));
        for _ in 0..4 {
            let (parts_done, reader) = thread::scope(|scope| {
                let reader = scope.spawn(|| read(&space, BASE, 4 * HUGE));
                let request = MigrateRequest::new(all).system(true).owner(gpu.device.owner());
                let parts = space.migrate_parts(request).unwrap();
                let moved = in_threads(w, &gpu, &parts, 2);
                drop(parts);
                (moved, reader.join().unwrap())
            });
            assert!(parts_done <= 2048);
            assert_bytes(&reader, &pattern(4 * HUGE, 1));
            w.check();
        }
        assert_bytes(&read(&space, BASE, 4 * HUGE), &pattern(4 * HUGE, 1));
        assert_eq!((gpu.live(), w.host_used()), (0, 2048));
    });
}

#[cfg(feature = "rayon")]
mod rayon_pool {
    use std::collections::HashSet;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Barrier;

    use super::*;

    fn pool(nr_threads: usize) -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(nr_threads).build().unwrap()
    }

    #[test]
    fn a_pool_moves_all_parts_beside_each_other() {
        world(|w| {
            let gpu = Gpu::new(w, Kind::Private, 1);
            let (space, all) = (w.space(), range(BASE, 4 * HUGE));
            space.map(anon(BASE, 4 * HUGE)).unwrap();
            write(&space, BASE, &pattern(4 * HUGE, 2));
            let request = MigrateRequest::new(all).system(true).owner(gpu.device.owner());
            let parts = space.migrate_parts(request).unwrap();
            let (threads, all_here) = (Mutex::new(HashSet::new()), Barrier::new(4));
            let moved = pool(4).install(|| {
                parts.run(|migration| {
                    threads.lock().unwrap().insert(thread::current().id());
                    all_here.wait(); // nobody goes on until all four parts have begun
                    to_device(&gpu, &w.machine, migration);
                })
            });
            assert_eq!((moved, gpu.live(), w.host_used()), (2048, 2048, 0));
            assert_eq!(threads.lock().unwrap().len(), 4);
            drop(parts);
            w.check();
            assert_bytes(&read(&space, BASE, 4 * HUGE), &pattern(4 * HUGE, 2));
        });
    }

    #[test]
    fn a_panic_in_one_part_loses_nothing() {
        world(|w| {
            let gpu = Gpu::new(w, Kind::Private, 1);
            let (space, all) = (w.space(), range(BASE, 4 * HUGE));
            space.map(anon(BASE, 4 * HUGE)).unwrap();
            write(&space, BASE, &pattern(4 * HUGE, 3));
            let request = MigrateRequest::new(all).system(true).owner(gpu.device.owner());
            let parts = space.migrate_parts(request).unwrap();
            let unlucky = |migration: &mut Migration<'_, '_>| migration.address(0) == Some(at(BASE + HUGE));
            let run = || {
                parts.run(|migration| {
                    assert!(!unlucky(migration), "the driver's fault");
                    to_device(&gpu, &w.machine, migration);
                })
            };
            catch_unwind(AssertUnwindSafe(|| pool(2).install(run))).unwrap_err();
            drop(parts);
            w.check();
            assert!(gpu.live() <= 3 * 512 && w.host_used() >= 512);
            assert_bytes(&read(&space, BASE, 4 * HUGE), &pattern(4 * HUGE, 3));
        });
    }
}
