//! What a program says of memory, pins of it, and looks at it: parts of pages on devices, pages that the host can map, and tables
//! that are left empty.

mod mm_support;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Barrier};

use farpage::{
    Access, Backing, DeviceDriver, DeviceFault, DriverError, FaultError, IntervalOps, Invalidation, InvalidationKind,
    LeafKind, MachineViolation, Mapping, MigrateBatch, MigrateRequest, Object, Order, Owner,
};
use mm_support::{EFAULT, ENOMEM, Gpu, HUGE, Kind, PAGE, World, anon, anon_huge, assert_bytes, at, pattern, range};
use mm_support::{read, world, write};

const BASE: u64 = 0x4000_0000;

#[test]
fn advice_passes_over_a_large_page_on_a_device_that_it_cuts() {
    world(|w| {
        let gpu = Gpu::new(w, Kind::Private, 1);
        let space = w.space();
        space.map(anon_huge(BASE, HUGE)).unwrap();
        write(&space, BASE, &pattern(HUGE, 3));
        assert_eq!(gpu.migrate_in(&space, range(BASE, HUGE)).unwrap(), 512);
        let before = space.snapshot(at(BASE));
        for part in [range(BASE, 4 * PAGE), range(BASE + 7 * PAGE, 9 * PAGE), range(BASE + HUGE - PAGE, PAGE)] {
            space.advise_free(part).unwrap();
            assert_eq!(space.reclaim(part).unwrap(), 0);
            assert_eq!(space.snapshot(at(BASE)), before, "neither split nor freed");
        }
        w.check();
        assert_bytes(&read(&space, BASE, HUGE), &pattern(HUGE, 3));
        assert_eq!((gpu.freed(), gpu.faults()), (512, 1));
    });
}

#[test]
fn advice_concerns_host_memory_only() {
    world(|w| {
        let gpu = Gpu::new(w, Kind::Visible, 1);
        let (space, all) = (w.space(), range(BASE, 4 * PAGE));
        space.map(anon(BASE, 4 * PAGE)).unwrap();
        write(&space, BASE, &pattern(4 * PAGE, 5));
        assert_eq!(gpu.migrate_in(&space, range(BASE, 2 * PAGE)).unwrap(), 2);
        space.advise_free(all).unwrap();
        assert_eq!(space.reclaim(all).unwrap(), 2, "the two of the machine's own memory");
        w.check();
        assert_bytes(&read(&space, BASE, 2 * PAGE), &pattern(4 * PAGE, 5)[..2 * PAGE as usize]);
        assert_bytes(&read(&space, BASE + 2 * PAGE, 2 * PAGE), &vec![0; 2 * PAGE as usize]);
        assert_eq!((gpu.live(), gpu.freed()), (2, 0));
    });
}

#[test]
fn what_empties_a_table_takes_it_out() {
    world(|w| {
        let space = w.space();
        let tables = || space.nr_tables().0;
        space.map(anon(BASE, 4 * HUGE)).unwrap();
        let single = |run: u64| BASE + run * HUGE;
        let idle = tables();
        // Reclaim.
        write(&space, single(0), &pattern(2 * PAGE, 1));
        let with_one = tables();
        assert!(with_one > idle);
        let part = range(single(0), 2 * PAGE);
        space.advise_free(part).unwrap();
        assert_eq!(space.reclaim(part).unwrap(), 2);
        let empty = tables();
        assert_eq!(empty, with_one - 1);
        // All mappings of a folio.
        write(&space, single(1), &pattern(PAGE, 2));
        let pin = space.pin(at(single(1)), Access::Read).unwrap();
        assert_eq!(w.machine.unmap_all(&pin), 1);
        drop(pin);
        assert_eq!(tables(), empty);
        // A move, of a part that lies across two tables in the target.
        write(&space, single(2), &pattern(PAGE, 3));
        let target = BASE + 32 * HUGE - 2 * PAGE;
        space.remap(range(single(2), 4 * PAGE), at(target), false).unwrap();
        assert_eq!(tables(), empty + 1, "none for the half without a page");
        assert_bytes(&read(&space, target, PAGE), &pattern(PAGE, 3));
        space.unmap(range(target, 4 * PAGE)).unwrap();
        assert_eq!(tables(), empty);
        w.check();
    });
}

#[test]
fn a_long_pin_is_of_the_machines_own_memory() {
    world(|w| {
        for kind in [Kind::Private, Kind::Visible] {
            let gpu = Gpu::new(w, kind, 1);
            let (space, all) = (w.space(), range(BASE, 4 * PAGE));
            space.map(anon(BASE, 4 * PAGE)).unwrap();
            write(&space, BASE, &pattern(4 * PAGE, 6));
            assert_eq!(gpu.migrate_in(&space, all).unwrap(), 4);
            // Fast: nothing is moved for it.
            let fast = space.try_pin(at(BASE), Access::Write);
            assert_eq!(fast.is_some(), kind == Kind::Visible);
            assert_eq!((gpu.live(), gpu.faults()), (4, 0));
            if let Some(fast) = &fast {
                // Who pins it where it is is in the way of whoever wants it elsewhere.
                let refused = space.pin_long_term(at(BASE), Access::Write).unwrap_err();
                assert!(matches!(refused, FaultError::NotMoved { address, .. } if address == at(BASE)), "{refused}");
                assert_eq!(fast.refs(), 2);
            }
            drop(fast);
            let pins: Vec<_> =
                (0..3).map(|page| space.pin_long_term(all.page(page).unwrap(), Access::Write).unwrap()).collect();
            for (page, pin) in pins.iter().enumerate() {
                let mut bytes = vec![0; PAGE as usize];
                w.machine.memory().read(pin.pfn(), 0, &mut bytes);
                assert_bytes(&bytes, &pattern(4 * PAGE, 6)[page * PAGE as usize..][..PAGE as usize]);
                assert_eq!((pin.refs(), pin.maps()), (2, 1));
            }
            assert_eq!((gpu.live(), gpu.freed(), w.host_used()), (1, 3, 3), "{kind:?}");
            assert_eq!(gpu.migrate_in(&space, range(BASE, 3 * PAGE)).unwrap(), 0, "pinned pages stay");
            w.check();
            drop(pins);
            assert_eq!(gpu.migrate_in(&space, range(BASE, 3 * PAGE)).unwrap(), 3);
            assert_bytes(&read(&space, BASE, 4 * PAGE), &pattern(4 * PAGE, 6));
            drop(space);
            gpu.device.clone().unregister().unwrap();
        }
    });
}

/// Counts what it is told of clearing soft-dirty marks.
#[derive(Default)]
struct Cleared(AtomicU64);

impl IntervalOps for Cleared {
    fn invalidate(&self, invalidation: &Invalidation) {
        if invalidation.kind == InvalidationKind::SoftDirty {
            self.0.fetch_add(1, Relaxed);
        }
    }
}

#[test]
fn who_mirrors_pages_is_told_that_their_marks_are_cleared() {
    world(|w| {
        let space = w.space();
        space.map(anon(BASE, 2 * PAGE)).unwrap();
        write(&space, BASE, &pattern(PAGE, 1));
        assert!(space.leaf(at(BASE)).0.is_soft_dirty());
        let cleared = Arc::new(Cleared::default());
        let interval = space.subscribe(range(BASE, PAGE), None, Arc::clone(&cleared) as Arc<dyn IntervalOps>);
        space.clear_soft_dirty(range(BASE, 2 * PAGE)).unwrap();
        assert_eq!(cleared.0.load(Relaxed), 1);
        assert!(!space.leaf(at(BASE)).0.is_soft_dirty());
        write(&space, BASE, &pattern(PAGE, 2));
        assert!(space.leaf(at(BASE)).0.is_soft_dirty());
        drop(interval);
        w.check();
    });
}

#[test]
fn a_look_at_a_page_pins_nothing() {
    world(|w| {
        let gpu = Gpu::new(w, Kind::Private, 1);
        let (space, all) = (w.space(), range(BASE, 8 * PAGE));
        space.map(anon(BASE, 8 * PAGE)).unwrap();
        write(&space, BASE, &pattern(8 * PAGE, 7));
        let (ended, begins) = (AtomicU64::new(0), Barrier::new(2));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                begins.wait();
                for look in 0u64.. {
                    let seen = space.snapshot(at(BASE + look % 8 * PAGE));
                    assert!(seen.maps <= seen.refs, "both of one moment: {seen:?}");
                    if ended.load(Relaxed) != 0 {
                        break;
                    }
                }
            });
            begins.wait();
            for round in 0..200 {
                assert_eq!(gpu.migrate_in(&space, all).unwrap(), 8, "round {round}");
                assert_eq!(gpu.migrate_out(&space, all).unwrap(), 8, "round {round}");
            }
            ended.store(1, Relaxed);
        });
        w.check();
        assert_bytes(&read(&space, BASE, 8 * PAGE), &pattern(8 * PAGE, 7));
    });
}

#[test]
fn a_child_has_the_marks_of_shared_pages() {
    world(|w| {
        let (space, object) = (w.space(), Object::new(&w.machine));
        let mapping = Mapping::new(range(BASE, 3 * PAGE)).backing(Backing::Shared(object.clone()), 0);
        space.map(mapping).unwrap();
        write(&space, BASE, &pattern(3 * PAGE, 8));
        space.write_protect(range(BASE + PAGE, PAGE), true).unwrap();
        let child = space.fork().unwrap();
        assert_eq!(child.leaf(at(BASE)).0.kind(), LeafKind::None, "found when it is needed");
        assert!(child.leaf(at(BASE + PAGE)).0.is_write_protect());
        let refused = child.write(at(BASE + PAGE), &[1]).unwrap_err();
        assert!(matches!(refused.fault, FaultError::WriteProtected { .. }), "{refused:?}");
        child.write_protect(range(BASE + PAGE, PAGE), false).unwrap();
        write(&child, BASE, &pattern(3 * PAGE, 9));
        assert_bytes(&read(&space, BASE, 3 * PAGE), &pattern(3 * PAGE, 9));
        w.check();
    });
}

/// Brings a whole run home for one fault.
struct Around {
    gpu: Arc<mm_support::Vram>,
    owner: Owner,
    nr_pages: u64,
}

impl<'s> DeviceDriver<'s> for Around {
    fn migrate_to_ram(&self, fault: &DeviceFault<'_, 's>) -> Result<(), DriverError> {
        self.gpu.faults.fetch_add(1, Relaxed);
        let mut batch = MigrateBatch::new();
        let request = MigrateRequest::new(fault.around(self.nr_pages)).device_private(self.owner);
        let mut migration = fault.migrate(&mut batch, request).map_err(|_| EFAULT)?;
        for slot in 0..migration.nr_slots() {
            let src = migration.src(slot);
            let Some(page) = src.target().and_then(|target| target.offset()).filter(|_| src.is_migrate()) else {
                continue;
            };
            let frame = migration.machine().alloc_frame(Order::ZERO).map_err(|_| ENOMEM)?;
            migration.machine().memory().write(frame.pfn(), 0, &self.gpu.read(page.get()));
            migration.set_dst(slot, frame).map_err(|_| EFAULT)?;
        }
        migration.pages();
        Ok(())
    }
}

fn faults_of_reading(w: &World<'_>, nr_pages: u64, huge: bool, cut: u64) -> u64 {
    let gpu = Gpu::new(w, Kind::Private, 7);
    let driver = Around { gpu: Arc::clone(&gpu.vram), owner: gpu.device.owner(), nr_pages };
    w.machine.attach(&gpu.device, Arc::new(driver));
    let space = w.space();
    space.map(if huge { anon_huge(BASE, HUGE) } else { anon(BASE, HUGE) }).unwrap();
    write(&space, BASE, &pattern(HUGE, 11));
    assert_eq!(gpu.migrate_in(&space, range(BASE, HUGE)).unwrap(), 512);
    if cut > 0 {
        space.unmap(range(BASE, cut * PAGE)).unwrap();
    }
    let seen = read(&space, BASE + cut * PAGE, HUGE - cut * PAGE);
    assert_bytes(&seen, &pattern(HUGE, 11)[(cut * PAGE) as usize..]);
    assert_eq!((gpu.live(), gpu.freed(), w.host_used()), (0, 512, 512 - cut));
    w.check();
    let faults = gpu.faults();
    drop(space);
    gpu.device.clone().unregister().unwrap();
    faults
}

#[test]
fn a_driver_may_bring_the_neighbours_home() {
    world(|w| {
        assert_eq!(faults_of_reading(w, 1, false, 0), 512);
        assert_eq!(faults_of_reading(w, 16, false, 0), 32);
        // A part of a large folio, whose pages are all under the fault's lock; and no further than the mapping.
        assert_eq!(faults_of_reading(w, 16, true, 3), 32);
        assert_eq!(faults_of_reading(w, 512, true, 100), 1);
        // Rounded up to 8.
        assert_eq!(faults_of_reading(w, 5, false, 0), 64);
    });
}

#[test]
fn a_map_that_no_leaf_has_is_found() {
    world(|w| {
        let gpu = Gpu::new(w, Kind::Private, 1);
        let folio = gpu.device.alloc(Order::ZERO).unwrap();
        let leaf = folio.map(Access::Read).unwrap();
        let found = w.machine.validate().unwrap_err();
        assert!(matches!(found, MachineViolation::Maps { maps: 1, leaves: 0, .. }), "{found}");
        w.device_pages.unmap(leaf).unwrap();
        w.machine.validate().unwrap();
    });
}
