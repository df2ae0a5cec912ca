//! The bugs that Linux had in this code, each as the scenario that showed it.
//!
//! | bug | test |
//! |---|---|
//! | stale metadata on reuse at another order | `reuse_at_another_order_shows_nothing_of_the_last` |
//! | lock and page-table leak in the huge insert | `a_huge_hole_that_is_filled_meanwhile_is_not_filled_again` |
//! | wrong flush when a huge zero PMD is replaced | `who_mirrors_a_zero_page_is_told_that_it_is_replaced` |
//! | private PMD unlocked, or not looked at again, in the rmap walk | `a_walk_over_huge_leaves_is_right_while_they_are_taken_apart` |
//! | flag overwritten in pvmw | the same: each mapping found has its own leaf, address and page |
//! | `MADV_FREE` walks a private PMD | `advice_leaves_huge_leaves_of_a_device_whole`; of a part: `mm_advice.rs` |
//! | `MADV_COLD`, `MADV_PAGEOUT`, mempolicy walk a private PMD | the same: `advise_free` and `reclaim` are the walks that there are |
//! | uffd-wp lost on a PMD's downgrade | `the_write_protect_mark_survives_splits_and_downgrades` |
//! | leaks on early return in `test_hmm` | `a_refused_destination_is_given_back`, `a_driver_that_fails_loses_nothing` |
//! | freed with the wrong function | `each_page_is_given_back_to_whom_it_came_from` |
//! | a dead mm used | `an_interval_outlives_its_address_space` |
//! | pageblocks initialised in the first block only | `the_last_block_of_a_device_serves_as_the_first_does` |
//! | exclusive entry not counted as a mapping | `an_exclusive_entry_counts_as_a_mapping` |
//! | NULL node | `a_device_of_no_node_serves`: a device names none |
//! | section `usage` used after it was freed | `memremap_bugs.rs`: `freed_before_it_was_erased` |
//! | device pages left behind after the file is closed | `teardown_frees_pages_of_every_kind`, `hmm_scenarios`: `migrate_release` |
//! | migrate livelock; try a lock or wait for it on a fault | `mm_threads.rs`: `a_fault_sleeps_while_the_folio_is_locked`, `two_migrations_of_the_same_pages_do_not_wait_for_each_other` |

mod mm_support;
#[path = "mm_regressions/owners.rs"]
mod owners;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use farpage::{
    Access, DeviceConfig, DeviceDriver, DeviceFault, DriverError, FaultError, InvalidationKind, MigrateBatch,
    MigrateRequest, Order, Owner, Protection, RangeEntry, RangeError, RangeFault, Target,
};
use mm_support::{
    EFAULT, Gpu, HUGE, Kind, Mirror, PAGE, anon, anon_huge, assert_bytes, at, pattern, range, read, world, write,
};

const BASE: u64 = 0x5500_0020_0000;

/// "reinitialize large zone device private folios": what a page was before, at another order, must not show through.
#[test]
fn reuse_at_another_order_shows_nothing_of_the_last() {
    world(|w| {
        let gpu = Gpu::new(w, Kind::Private, 1);
        for time in 0..6u32 {
            let huge = time % 2 == 0;
            let (space, all) = (w.space(), range(BASE, HUGE));
            space.map(anon(BASE, HUGE).huge(huge)).unwrap();
            write(&space, BASE, &pattern(HUGE, time));
            assert_eq!(gpu.migrate_in(&space, all).unwrap(), 512);
            for page in [0, 1, 255, 511] {
                let snapshot = space.snapshot(at(BASE + page * PAGE));
                let order = if huge { Order::HUGE } else { Order::ZERO };
                assert_eq!((snapshot.folio_order, snapshot.is_locked), (order, false), "time {time}, page {page}");
                let leaf = w.device_pages.lookup(space.leaf(at(BASE)).0).unwrap();
                assert_eq!(leaf.private(), if huge { 512 } else { 1 });
            }
            w.check();
            assert_bytes(&read(&space, BASE, HUGE), &pattern(HUGE, time));
        }
    });
}

/// Table and lock leaks on early returns of the huge insert: the loser of a race leaves nothing behind.
#[test]
fn a_huge_hole_that_is_filled_meanwhile_is_not_filled_again() {
    world(|w| {
        let gpu = Gpu::new(w, Kind::Private, 1);
        let (space, all) = (w.space(), range(BASE, HUGE));
        space.map(anon(BASE, HUGE)).unwrap();
        let idle = space.nr_tables().0;
        let mut batch = MigrateBatch::new();
        let request = MigrateRequest::new(all).system(true).compound(true);
        let mut migration = space.migrate(&mut batch, request).unwrap();
        assert!(migration.src(0).is_hole() && migration.src(0).is_compound() && migration.src(1).is_empty());
        migration.set_dst(0, gpu.device.alloc(Order::HUGE).unwrap()).unwrap();
        write(&space, BASE + 3 * PAGE, &[7; 8]); // a CPU is faster
        assert_eq!(migration.pages(), 0);
        assert!(!migration.src(0).is_migrate(), "the loser is told");
        migration.finalize();
        assert_eq!((gpu.live(), w.host_used()), (0, 1));
        assert_bytes(&read(&space, BASE + 3 * PAGE, 8), &[7; 8]);
        // And a single hole.
        let mut migration = space.migrate(&mut batch, MigrateRequest::new(all).system(true)).unwrap();
        migration.set_dst(5, gpu.device.alloc(Order::ZERO).unwrap()).unwrap();
        write(&space, BASE + 5 * PAGE, &[8; 8]);
        assert_eq!(migration.pages(), 0);
        drop(migration);
        assert_bytes(&read(&space, BASE + 5 * PAGE, 8), &[8; 8]);
        assert_eq!(gpu.live(), 0);
        // No table is left of either: those above the page stay, the one with its leaf goes with it.
        let (now, made) = space.nr_tables();
        space.unmap(all).unwrap();
        assert_eq!(space.nr_tables().0, now - 1);
        assert!(now <= idle + 3, "{now} tables, {idle} before");
        space.map(anon_huge(BASE, HUGE)).unwrap();
        assert_eq!(gpu.migrate_in(&space, all).unwrap(), 512);
        assert_eq!(space.nr_tables(), (now - 1, made), "a huge leaf needs no table of its own");
    });
}

/// A private huge leaf was given out by the rmap walk without its lock, or not looked at again.
#[test]
fn a_walk_over_huge_leaves_is_right_while_they_are_taken_apart() {
    world(|w| {
        let gpu = Gpu::new(w, Kind::Private, 1);
        let (space, all) = (w.space(), range(BASE, HUGE));
        space.map(anon_huge(BASE, HUGE)).unwrap();
        write(&space, BASE, &pattern(HUGE, 1));
        gpu.migrate_in(&space, all).unwrap();
        let folio = w.device_pages.lookup(space.leaf(at(BASE)).0).unwrap().try_get().unwrap();
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Relaxed) {
                    let found = w.machine.mappings(&folio);
                    for mapping in &found {
                        assert_eq!(mapping.address.get(), BASE + mapping.index * PAGE);
                        assert_eq!(mapping.leaf.offset().unwrap().get(), folio.offset().get() + mapping.index);
                    }
                    // One leaf in the parent, or its pages; and what the child has left.
                    assert!(found.len() <= 2 * 512);
                }
            });
            for _ in 0..20 {
                let child = space.fork().unwrap();
                child.unmap(range(BASE, HUGE / 2)).unwrap();
                drop(child);
            }
            space.unmap(range(BASE, PAGE)).unwrap();
            over.store(true, Relaxed);
        });
        assert_eq!(w.machine.mappings(&folio).len(), 511);
        assert_eq!(folio.maps(), 511);
    });
}

/// uffd-wp was lost when a huge leaf was taken apart, and by a downgrade.
#[test]
fn the_write_protect_mark_survives_splits_and_downgrades() {
    world(|w| {
        let gpu = Gpu::new(w, Kind::Private, 1);
        let (space, all) = (w.space(), range(BASE, HUGE));
        space.map(anon_huge(BASE, HUGE)).unwrap();
        write(&space, BASE, &pattern(HUGE, 2));
        space.write_protect(all, true).unwrap();
        gpu.migrate_in(&space, all).unwrap();
        space.protect(range(BASE, PAGE), Protection::Read).unwrap();
        let marked = |space: &farpage::AddressSpace<'_>| {
            (0..512).all(|page| space.leaf(at(BASE + page * PAGE)).0.is_write_protect())
        };
        assert!(marked(&space), "split by mprotect");
        let child = space.fork().unwrap();
        assert!(marked(&child) && marked(&space), "downgraded by fork");
        assert_eq!(gpu.evict(), 512);
        assert!(marked(&child) && marked(&space), "home, in both");
    });
}

/// An exclusive entry was not counted as a mapping, so walks went wrong.
#[test]
fn an_exclusive_entry_counts_as_a_mapping() {
    world(|w| {
        let space = w.space();
        space.map(anon(BASE, PAGE)).unwrap();
        let page = space.make_exclusive(at(BASE), Owner::new(1)).unwrap();
        let pfn = page.pfn();
        drop(page);
        let snapshot = space.snapshot(at(BASE));
        assert_eq!((snapshot.target, snapshot.refs, snapshot.maps), (Some(Target::Host(pfn)), 1, 1));
        w.check();
        let pin = space.pin(at(BASE), Access::Write).unwrap(); // takes it back
        assert_eq!((pin.pfn(), w.machine.mappings(&pin).len()), (pfn, 1));
        drop(pin);
        drop(space.make_exclusive(at(BASE), Owner::new(1)).unwrap());
        space.unmap(range(BASE, PAGE)).unwrap();
        assert_eq!(w.host_used(), 0, "an exclusive page is unmapped like any other");
    });
}

/// "device pages left behind after file close": teardown frees what is on devices, on its way home or large.
#[test]
fn teardown_frees_pages_of_every_kind() {
    world(|w| {
        let gpu = Gpu::new(w, Kind::Private, 1);
        let space = w.space();
        space.map(anon_huge(BASE, 3 * HUGE)).unwrap();
        write(&space, BASE, &pattern(3 * HUGE, 3));
        gpu.migrate_in(&space, range(BASE, 2 * HUGE)).unwrap();
        gpu.migrate_out(&space, range(BASE + HUGE / 2, PAGE)).unwrap();
        drop(space.make_exclusive(at(BASE + 2 * HUGE), Owner::new(1)).unwrap());
        drop(space);
        assert_eq!((gpu.live(), gpu.freed(), w.host_used()), (0, 1024, 0));
    });
}

/// A callback that panics unwinds through the teardown, and the rest is freed all the same.
#[test]
fn a_panicking_callback_leaves_nothing_behind() {
    struct Panics(AtomicBool);
    impl farpage::DeviceOps for Panics {
        fn folio_free(&self, _: farpage::FreedFolio) {
            assert!(self.0.swap(true, Relaxed), "the first one panics");
        }
    }
    world(|w| {
        let ops = Arc::new(Panics(AtomicBool::new(false)));
        let device = w.device_pages.register(DeviceConfig::new(64).ops(ops)).unwrap();
        let (space, all) = (w.space(), range(BASE, 32 * PAGE));
        space.map(anon(BASE, 32 * PAGE)).unwrap();
        let mut batch = MigrateBatch::new();
        let mut migration = space.migrate(&mut batch, MigrateRequest::new(all).system(true)).unwrap();
        for slot in 0..32 {
            migration.set_dst(slot, device.alloc(Order::ZERO).unwrap()).unwrap();
        }
        assert_eq!(migration.pages(), 32);
        migration.finalize();
        let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| space.unmap(all)));
        assert!(unwound.is_err());
        assert_eq!(device.nr_live_pages(), 0);
        let _ = space.unmap(all);
        w.check();
    });
}

/// The SIGBUS case: a driver that fails is an error for who faulted; the page is where it was, and comes home later.
#[test]
fn a_driver_that_fails_loses_nothing() {
    world(|w| {
        let gpu = Gpu::new(w, Kind::Private, 1);
        let (space, all) = (w.space(), range(BASE, 4 * PAGE));
        space.map(anon(BASE, 4 * PAGE)).unwrap();
        write(&space, BASE, &pattern(4 * PAGE, 4));
        gpu.migrate_in(&space, all).unwrap();
        gpu.vram.fail_faults.store(true, Relaxed);
        let error = space.read(at(BASE + PAGE), &mut [0; 8]).unwrap_err();
        assert_eq!(error.fault, FaultError::Device { address: at(BASE + PAGE), error: EFAULT });
        assert!(gpu.has_all(&space, all));
        assert!(!space.snapshot(at(BASE + PAGE)).is_locked);
        // No memory at home, either.
        gpu.vram.fail_faults.store(false, Relaxed);
        let mut hog = Vec::new();
        while w.ram().alloc_many(Order::ZERO, 1, &mut hog).is_ok() {}
        let error = space.read(at(BASE), &mut [0; 8]).unwrap_err();
        assert!(matches!(error.fault, FaultError::Device { error: DriverError { code: -12 }, .. }), "{error}");
        drop(hog);
        w.check();
        assert_bytes(&read(&space, BASE, 4 * PAGE), &pattern(4 * PAGE, 4));
        // And no driver at all.
        gpu.migrate_in(&space, all).unwrap();
        w.machine.detach(&gpu.device);
        let error = space.read(at(BASE), &mut [0; 8]).unwrap_err();
        assert_eq!(error.fault, FaultError::NoDriver { address: at(BASE) });
    });
}

/// A driver that says it has moved the page, and has not: an error after a while, and no endless loop.
#[test]
fn a_driver_that_does_nothing_is_found_out() {
    struct Idle;
    impl<'s> DeviceDriver<'s> for Idle {
        fn migrate_to_ram(&self, _: &DeviceFault<'_, 's>) -> Result<(), DriverError> {
            Ok(())
        }
    }
    world(|w| {
        let gpu = Gpu::new(w, Kind::Private, 1);
        let space = w.space();
        space.map(anon(BASE, PAGE)).unwrap();
        write(&space, BASE, &pattern(PAGE, 5));
        gpu.migrate_in(&space, range(BASE, PAGE)).unwrap();
        w.machine.attach(&gpu.device, Arc::new(Idle));
        assert!(matches!(space.fault(at(BASE), Access::Read), Err(FaultError::NotMoved { .. })));
        assert_eq!(gpu.evict(), 1);
        assert_bytes(&read(&space, BASE, PAGE), &pattern(PAGE, 5));
    });
}

/// Own migrations are not told to an interval of the same owner; all else is.
#[test]
fn a_device_ignores_its_own_migrations() {
    world(|w| {
        struct Counts(std::sync::Mutex<Vec<InvalidationKind>>);
        impl farpage::IntervalOps for Counts {
            fn invalidate(&self, invalidation: &farpage::Invalidation) {
                self.0.lock().unwrap().push(invalidation.kind);
            }
        }
        let gpu = Gpu::new(w, Kind::Private, 1);
        let (space, all) = (w.space(), range(BASE, 4 * PAGE));
        space.map(anon(BASE, 4 * PAGE)).unwrap();
        write(&space, BASE, &pattern(4 * PAGE, 8));
        let counts = Arc::new(Counts(std::sync::Mutex::default()));
        let ops: Arc<dyn farpage::IntervalOps> = Arc::clone(&counts) as _;
        let interval = space.subscribe(all, Some(Owner::new(1)), ops);
        let sequence = interval.read_begin(Duration::ZERO).unwrap();
        gpu.migrate_in(&space, all).unwrap();
        assert!(counts.0.lock().unwrap().is_empty() && !interval.read_retry(sequence));
        gpu.evict();
        space.protect(range(BASE, PAGE), Protection::Read).unwrap();
        space.unmap(range(BASE + PAGE, PAGE)).unwrap();
        let told = counts.0.lock().unwrap().clone();
        assert!(told.contains(&InvalidationKind::Migrate), "an eviction is on nobody's behalf");
        assert_eq!(told[told.len() - 2..], [InvalidationKind::Protect, InvalidationKind::Unmap]);
        assert!(interval.read_retry(sequence));
        let mut entries = [RangeEntry::HOLE];
        let stale = RangeFault::new(range(BASE, PAGE)).under(&interval, sequence);
        assert_eq!(space.range_fault(&stale, &mut entries), Err(RangeError::Busy));
        drop(interval);
        let before = counts.0.lock().unwrap().len();
        space.unmap(all).unwrap();
        assert_eq!(counts.0.lock().unwrap().len(), before, "nobody listens any more");
    });
}

/// Wrong cache flush when a huge zero PMD was replaced: whoever mirrors the zero page, or knows of the hole, is told.
#[test]
fn who_mirrors_a_zero_page_is_told_that_it_is_replaced() {
    world(|w| {
        let (gpu, other) = (Gpu::new(w, Kind::Private, 1), Gpu::new(w, Kind::Private, 2));
        for (huge, touched) in [(false, false), (false, true), (true, false), (true, true)] {
            let (space, all) = (w.space(), range(BASE, HUGE));
            space.map(anon(BASE, HUGE).huge(huge)).unwrap();
            if touched {
                read(&space, BASE, HUGE);
                assert!(space.snapshot(at(BASE)).is_zero);
            }
            let mirror = Mirror::new(&other, &space, all);
            assert_eq!(mirror.ask(all, None).unwrap()[9].target().is_some(), touched);
            assert_eq!(gpu.migrate_in(&space, all).unwrap(), 512);
            let told = mirror.told.invalidations.lock().unwrap().clone();
            assert!(told.iter().any(|told| told.kind == InvalidationKind::Migrate && told.range == all), "{told:?}");
            assert_eq!(mirror.ask(all, None).unwrap(), [RangeEntry::HOLE; 512], "another owner's is not told");
            mirror.read(all).unwrap();
            w.check();
        }
    });
}

/// `MADV_FREE` took a private PMD for a table. A leaf of the device stays as it is, whatever part of it is meant.
#[test]
fn advice_leaves_huge_leaves_of_a_device_whole() {
    world(|w| {
        let gpu = Gpu::new(w, Kind::Private, 1);
        let space = w.space();
        space.map(anon_huge(BASE, 2 * HUGE)).unwrap();
        write(&space, BASE, &pattern(2 * HUGE, 5));
        assert_eq!(gpu.migrate_in(&space, range(BASE, HUGE)).unwrap(), 512);
        let before = space.snapshot(at(BASE));
        space.advise_free(range(BASE, 2 * HUGE)).unwrap();
        assert_eq!(space.reclaim(range(BASE, 2 * HUGE)).unwrap(), 512, "the host's alone");
        assert_eq!((space.snapshot(at(BASE)), gpu.live(), w.host_used()), (before, 512, 0));
        w.check();
        assert_bytes(&read(&space, BASE, HUGE), &pattern(HUGE, 5));
    });
}
