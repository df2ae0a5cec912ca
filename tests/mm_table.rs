//! What an address space does to its leaves: map, unmap, protect, fork, remap, advise; every byte where it belongs, and every
//! count as it must be.

#[path = "mm_table/device.rs"]
mod device;
#[path = "mm_table/marks.rs"]
mod marks;
#[path = "mm_table/mirror.rs"]
mod mirror;
mod mm_support;
#[path = "mm_table/moving.rs"]
mod moving;

use farpage::{
    Access, AccessError, Address, Backing, FaultError, LeafKind, Object, Offset, Order, Protection, Target, VmaError,
};
use mm_support::{
    Gpu, HUGE, Kind, Mirror, PAGE, anon, anon_huge, assert_bytes, at, pattern, range, read, world, write,
};

const BASE: u64 = 0x7f00_0020_0000;

#[test]
fn memory_reads_zero_and_then_what_was_written() {
    world(|w| {
        let space = w.space();
        space.map(anon(BASE, 16 * PAGE)).unwrap();
        assert_bytes(&read(&space, BASE, 16 * PAGE), &vec![0; 16 * PAGE as usize]);
        assert_eq!(w.host_used(), 0, "zero pages are shared");
        let data = pattern(3 * PAGE, 1);
        write(&space, BASE + PAGE - 100, &data);
        assert_bytes(&read(&space, BASE + PAGE - 100, 3 * PAGE), &data);
        assert_eq!(w.host_used(), 4);
        assert_bytes(&read(&space, BASE, PAGE - 100), &vec![0; PAGE as usize - 100]);
        w.check();
        space.unmap(range(BASE, 16 * PAGE)).unwrap();
        assert_eq!(w.host_used(), 0);
        let error = space.read(at(BASE), &mut [0]).unwrap_err();
        assert_eq!(error, AccessError { done: 0, fault: FaultError::NotMapped { address: at(BASE) } });
    });
}

#[test]
fn tables_come_with_pages_and_go_with_them() {
    world(|w| {
        let space = w.space();
        let (root, _) = space.nr_tables();
        space.map(anon(BASE, 64 * HUGE)).unwrap();
        assert_eq!(space.nr_tables().0, root, "a mapping alone needs no table");
        for run in 0..64 {
            write(&space, BASE + run * HUGE, &[1]);
        }
        let (full, made) = space.nr_tables();
        assert_eq!(full, root + 2 + 64, "one for each 2 MiB, and two above");
        space.unmap(range(BASE, 64 * HUGE)).unwrap();
        assert_eq!(space.nr_tables().0, root + 2);
        space.map(anon(BASE + HUGE * 100, HUGE * 64)).unwrap();
        for run in 0..64 {
            write(&space, BASE + (100 + run) * HUGE, &[1]);
        }
        assert_eq!(space.nr_tables(), (full, made), "the same tables serve again");
    });
}

#[test]
fn what_overlaps_or_is_not_there_is_refused_and_changes_nothing() {
    world(|w| {
        let space = w.space();
        space.map(anon(BASE, 4 * PAGE)).unwrap();
        write(&space, BASE, &pattern(4 * PAGE, 2));
        assert_eq!(space.map(anon(BASE + PAGE, PAGE)), Err(VmaError::Overlap { address: at(BASE + PAGE) }));
        let hole = VmaError::NotMapped { address: at(BASE + 4 * PAGE) };
        assert_eq!(space.protect(range(BASE, 5 * PAGE), Protection::Read), Err(hole));
        assert_eq!(space.advise_dont_need(range(BASE, 5 * PAGE)), Err(hole));
        assert_eq!(space.remap(range(BASE, 5 * PAGE), at(BASE + HUGE), false), Err(hole));
        let overlap = space.remap(range(BASE, 4 * PAGE), at(BASE + PAGE), false);
        assert_eq!(overlap, Err(VmaError::Overlap { address: at(BASE + PAGE) }));
        assert_bytes(&read(&space, BASE, 4 * PAGE), &pattern(4 * PAGE, 2));
        space.unmap(range(BASE + HUGE, HUGE)).unwrap(); // nothing there: as munmap
    });
}

#[test]
fn protection_is_kept_and_can_be_given_back() {
    world(|w| {
        let space = w.space();
        space.map(anon(BASE, 8 * PAGE)).unwrap();
        write(&space, BASE, &pattern(8 * PAGE, 3));
        space.protect(range(BASE + 2 * PAGE, 2 * PAGE), Protection::Read).unwrap();
        space.protect(range(BASE + 4 * PAGE, PAGE), Protection::None).unwrap();
        let protected = |page: u64| FaultError::Protected { address: at(BASE + page * PAGE) };
        assert_eq!(space.write(at(BASE), &vec![9; 8 * PAGE as usize]).unwrap_err().fault, protected(2));
        assert_eq!(space.read(at(BASE + 3 * PAGE), &mut vec![0; 2 * PAGE as usize]).unwrap_err().fault, protected(4));
        let mut want = pattern(8 * PAGE, 3);
        want[..2 * PAGE as usize].fill(9);
        space.protect(range(BASE, 8 * PAGE), Protection::ReadWrite).unwrap();
        assert_bytes(&read(&space, BASE, 8 * PAGE), &want);
        write(&space, BASE + 2 * PAGE, &[7; 100]);
        assert_eq!(w.host_used(), 8, "pages that nobody else has are written where they are");
    });
}

#[test]
fn a_fork_shares_until_one_side_writes() {
    world(|w| {
        let space = w.space();
        space.map(anon(BASE, 8 * PAGE)).unwrap();
        write(&space, BASE, &pattern(6 * PAGE, 4));
        let child = space.fork().unwrap();
        assert_eq!(w.host_used(), 6);
        let snapshot = child.snapshot(at(BASE));
        assert_eq!((snapshot.refs, snapshot.maps, snapshot.kind), (2, 2, LeafKind::Present(Access::Read)));
        w.check();
        write(&child, BASE, &[1; 10]);
        write(&space, BASE + PAGE, &[2; 10]);
        assert_eq!(w.host_used(), 8);
        let (mut of_child, mut of_parent) = (pattern(6 * PAGE, 4), pattern(6 * PAGE, 4));
        of_child[..10].fill(1);
        of_parent[PAGE as usize..PAGE as usize + 10].fill(2);
        assert_bytes(&read(&child, BASE, 6 * PAGE), &of_child);
        assert_bytes(&read(&space, BASE, 6 * PAGE), &of_parent);
        w.check();
        drop(space);
        assert_eq!(w.host_used(), 6);
        write(&child, BASE + 5 * PAGE, &[3]);
        assert_eq!(w.host_used(), 6, "the last one writes in place");
    });
}

#[test]
fn a_fork_of_a_fork_shares_a_huge_page() {
    world(|w| {
        let space = w.space();
        space.map(anon_huge(BASE, 2 * HUGE)).unwrap();
        write(&space, BASE, &pattern(HUGE, 5));
        assert_eq!(space.snapshot(at(BASE)).map_order, Order::HUGE);
        let child = space.fork().unwrap();
        let grandchild = child.fork().unwrap();
        assert_eq!(grandchild.snapshot(at(BASE)).maps, 3);
        write(&child, BASE + 7 * PAGE, &[1; 8]);
        let snapshot = child.snapshot(at(BASE));
        assert_eq!((snapshot.map_order, snapshot.folio_order), (Order::ZERO, Order::HUGE));
        assert_eq!(snapshot.maps, 2 + 511);
        w.check();
        assert_bytes(&read(&grandchild, BASE, HUGE), &pattern(HUGE, 5));
        let mut want = pattern(HUGE, 5);
        want[7 * PAGE as usize..7 * PAGE as usize + 8].fill(1);
        assert_bytes(&read(&child, BASE, HUGE), &want);
        drop((space, grandchild));
        write(&child, BASE + 8 * PAGE, &[1; 8]);
        w.check();
    });
}

#[test]
fn half_a_huge_page_is_unmapped() {
    for kind in [None, Some(Kind::Private), Some(Kind::Visible)] {
        world(|w| {
            let gpu = Gpu::new(w, kind.unwrap_or(Kind::Private), 1);
            let space = w.space();
            space.map(anon_huge(BASE, HUGE)).unwrap();
            write(&space, BASE, &pattern(HUGE, 6));
            if kind.is_some() {
                assert_eq!(gpu.migrate_in(&space, range(BASE, HUGE)).unwrap(), 512);
                assert!(gpu.has_all(&space, range(BASE, HUGE)));
                assert_eq!((gpu.live(), w.host_used()), (512, 0));
            }
            space.unmap(range(BASE, HUGE / 2)).unwrap();
            let snapshot = space.snapshot(at(BASE + HUGE / 2));
            assert_eq!((snapshot.maps, snapshot.folio_order), (256, Order::HUGE), "the folio stays whole");
            if kind.is_some() {
                assert_eq!((gpu.live(), gpu.freed()), (512, 0));
            }
            w.check();
            assert_bytes(&read(&space, BASE + HUGE / 2, HUGE / 2), &pattern(HUGE, 6)[HUGE as usize / 2..]);
            if kind == Some(Kind::Private) {
                assert_eq!((gpu.faults(), gpu.live(), gpu.freed()), (256, 0, 512));
            }
            w.check();
        });
    }
}

#[test]
fn a_remap_moves_leaves_and_not_pages() {
    // Where to, in pages from the old place: alike, one page off, and over an edge of tables.
    for (huge, on_device, shift) in [false, true]
        .iter()
        .flat_map(|h| [false, true].map(|d| (*h, d)))
        .flat_map(|(h, d)| [2048, 2049, 3071].map(|shift| (h, d, shift)))
    {
        for keep in [false, true] {
            world(|w| {
                let gpu = Gpu::new(w, Kind::Private, 1);
                let space = w.space();
                space.map(anon(BASE, HUGE * 2).huge(huge)).unwrap();
                let data = pattern(2 * HUGE, shift as u32);
                write(&space, BASE, &data);
                if on_device {
                    assert_eq!(gpu.migrate_in(&space, range(BASE, 2 * HUGE)).unwrap(), 1024);
                }
                let before: Vec<_> = (0..1024).map(|page| space.snapshot(at(BASE + page * PAGE)).target).collect();
                let to = BASE + shift * PAGE;
                space.remap(range(BASE, 2 * HUGE), at(to), keep).unwrap();
                let after: Vec<_> = (0..1024).map(|page| space.snapshot(at(to + page * PAGE)).target).collect();
                assert_eq!(before, after);
                let is_huge = space.snapshot(at(to)).map_order == Order::HUGE;
                assert_eq!(is_huge, huge && shift == 2048);
                w.check();
                if keep {
                    assert_bytes(&read(&space, BASE, 2 * HUGE), &vec![0; 2 * HUGE as usize]);
                } else {
                    assert!(space.read(at(BASE), &mut [0]).is_err());
                }
                assert_bytes(&read(&space, to, 2 * HUGE), &data);
                if on_device {
                    assert_eq!(gpu.live(), 0, "home, wherever it is mapped now");
                }
                w.check();
            });
        }
    }
}

#[test]
fn an_object_is_shared_and_a_private_copy_is_not() {
    world(|w| {
        let object = Object::new(&w.machine);
        object.write(PAGE, &pattern(4 * PAGE, 7)).unwrap();
        let (one, two) = (w.space(), w.space());
        let shared = |start: u64| anon(start, 4 * PAGE).backing(Backing::Shared(object.clone()), 1);
        one.map(shared(BASE)).unwrap();
        two.map(shared(BASE + HUGE)).unwrap();
        two.map(anon(BASE, 4 * PAGE).backing(Backing::FilePrivate(object.clone()), 1)).unwrap();
        assert_bytes(&read(&two, BASE, 4 * PAGE), &pattern(4 * PAGE, 7));
        write(&one, BASE, &[1; 8]);
        assert_bytes(&read(&two, BASE + HUGE, 8), &[1; 8]);
        assert_bytes(&read(&two, BASE, 8), &[1; 8]);
        write(&two, BASE, &[2; 8]);
        assert_bytes(&read(&one, BASE, 8), &[1; 8]);
        assert_bytes(&read(&two, BASE, 8), &[2; 8]);
        let child = two.fork().unwrap();
        write(&child, BASE + HUGE, &[3; 8]);
        assert_bytes(&read(&one, BASE, 8), &[3; 8]);
        w.check();
    });
}

#[test]
fn marks_ride_along_wherever_the_page_goes() {
    for huge in [false, true] {
        world(|w| {
            let gpu = Gpu::new(w, Kind::Private, 1);
            let space = w.space();
            let all = range(BASE, HUGE);
            space.map(anon(BASE, HUGE).huge(huge)).unwrap();
            write(&space, BASE, &pattern(HUGE, 8));
            assert!(space.leaf(at(BASE)).0.is_soft_dirty());
            space.clear_soft_dirty(all).unwrap();
            space.write_protect(all, true).unwrap();
            let marks = |address: Address| {
                let leaf = space.leaf(address).0;
                (leaf.is_soft_dirty(), leaf.is_write_protect())
            };
            gpu.migrate_in(&space, all).unwrap();
            assert_eq!(marks(at(BASE)), (false, true), "to the device");
            space.unmap(range(BASE, PAGE)).unwrap();
            assert_eq!(marks(at(BASE + PAGE)), (false, true), "taken apart");
            space.remap(range(BASE + PAGE, HUGE - PAGE), at(BASE + 4 * HUGE), false).unwrap();
            let moved = BASE + 4 * HUGE;
            assert_eq!(marks(at(moved)), (false, true), "moved");
            let child = space.fork().unwrap();
            assert!(child.leaf(at(moved)).0.is_write_protect(), "copied");
            drop(child);
            read(&space, moved, 1);
            assert_eq!(marks(at(moved)), (false, true), "home");
            let protected = FaultError::WriteProtected { address: at(moved) };
            assert_eq!(space.write(at(moved), &[1]).unwrap_err().fault, protected);
            space.write_protect(range(moved, PAGE), false).unwrap();
            write(&space, moved, &[1]);
            assert_eq!(marks(at(moved)), (true, false));
            assert_eq!(marks(at(moved + PAGE)), (false, true));
        });
    }
}

#[test]
fn freed_pages_are_dropped_unless_they_are_written_again() {
    world(|w| {
        let gpu = Gpu::new(w, Kind::Private, 1);
        let space = w.space();
        let all = range(BASE, 8 * PAGE);
        space.map(anon(BASE, 8 * PAGE)).unwrap();
        write(&space, BASE, &pattern(8 * PAGE, 9));
        gpu.migrate_in(&space, range(BASE, 2 * PAGE)).unwrap();
        space.advise_free(all).unwrap();
        write(&space, BASE + 4 * PAGE, &[5; 4]);
        assert_eq!(space.reclaim(all).unwrap(), 5, "not those on the device, not the one written");
        let mut want = pattern(8 * PAGE, 9);
        want[2 * PAGE as usize..4 * PAGE as usize].fill(0);
        want[5 * PAGE as usize..].fill(0);
        want[4 * PAGE as usize..4 * PAGE as usize + 4].fill(5);
        assert_bytes(&read(&space, BASE, 8 * PAGE), &want);
        // What came home from a device may have been written there.
        assert_eq!(space.reclaim(range(BASE, 2 * PAGE)).unwrap(), 0);
        // Also when it was given up before it went.
        for kind in [Kind::Private, Kind::Visible] {
            let gpu = Gpu::new(w, kind, 3);
            let page = range(BASE, PAGE);
            space.advise_free(page).unwrap();
            gpu.migrate_in(&space, page).unwrap();
            let mirror = Mirror::new(&gpu, &space, page);
            mirror.write(page, &pattern(PAGE, 10)).unwrap();
            drop(mirror);
            gpu.migrate_out(&space, page).unwrap();
            assert_eq!(space.reclaim(page).unwrap(), 0, "{kind:?}");
            assert_bytes(&read(&space, BASE, PAGE), &pattern(PAGE, 10));
        }
        // And when a device writes it where it is.
        let page = range(BASE, PAGE);
        space.advise_free(page).unwrap();
        let mirror = Mirror::new(&gpu, &space, page);
        mirror.write(page, &pattern(PAGE, 11)).unwrap();
        assert_eq!(space.reclaim(page).unwrap(), 0);
        assert_bytes(&read(&space, BASE, PAGE), &pattern(PAGE, 11));
        space.write_protect(page, true).unwrap();
        let refused = FaultError::WriteProtected { address: at(BASE) };
        assert_eq!(mirror.write(page, &pattern(PAGE, 12)), Err(refused.into()));
        assert_eq!(mirror.ask(page, None).unwrap()[0].access(), Some(Access::Read));
        space.write_protect(page, false).unwrap();
        let object = Object::new(&w.machine);
        space.map(anon(BASE + HUGE, PAGE).backing(Backing::Shared(object), 0)).unwrap();
        let wrong = space.advise_free(range(BASE + HUGE, PAGE));
        assert_eq!(wrong, Err(VmaError::WrongBacking { address: at(BASE + HUGE) }));
    });
}

#[test]
fn a_fault_without_memory_is_an_error_and_loses_nothing() {
    world(|w| {
        let space = w.space();
        space.map(anon(BASE, 4 * PAGE)).unwrap();
        write(&space, BASE, &pattern(2 * PAGE, 10));
        let child = space.fork().unwrap();
        let mut hog = Vec::new();
        while w.ram().alloc_many(Order::ZERO, 1, &mut hog).is_ok() {}
        assert!(matches!(space.write(at(BASE), &[1]).unwrap_err().fault, FaultError::HostMemory(_)));
        assert!(matches!(space.write(at(BASE + 2 * PAGE), &[1]).unwrap_err().fault, FaultError::HostMemory(_)));
        drop(hog);
        assert_bytes(&read(&child, BASE, 2 * PAGE), &pattern(2 * PAGE, 10));
        assert_bytes(&read(&space, BASE, 2 * PAGE), &pattern(2 * PAGE, 10));
    });
}

#[test]
fn a_walk_finds_every_mapping_of_a_folio_and_no_other() {
    world(|w| {
        let gpu = Gpu::new(w, Kind::Private, 1);
        let space = w.space();
        space.map(anon(BASE, 4 * PAGE)).unwrap();
        write(&space, BASE, &pattern(4 * PAGE, 11));
        gpu.migrate_in(&space, range(BASE, PAGE)).unwrap();
        space.remap(range(BASE, 4 * PAGE), at(BASE + 5 * HUGE + PAGE), false).unwrap();
        let child = space.fork().unwrap();
        child.remap(range(BASE + 5 * HUGE + PAGE, PAGE), at(BASE + 9 * PAGE), false).unwrap();
        let leaf = space.leaf(at(BASE + 5 * HUGE + PAGE)).0;
        let folio = w.device_pages.lookup(leaf).unwrap().try_get().unwrap();
        let mut found: Vec<_> = w.machine.mappings(&folio).iter().map(|m| (m.space, m.address.get())).collect();
        found.sort_unstable();
        assert_eq!(found, [(space.id(), BASE + 5 * HUGE + PAGE), (child.id(), BASE + 9 * PAGE)]);
        // A leaf of a host page with the same number is none of the folio's.
        let host = farpage::SoftLeaf::present(farpage::Pfn::new(folio.offset().get()).unwrap(), Access::Read);
        assert_eq!((w.machine.maps_page_of(host, &folio), w.machine.maps_page_of(leaf, &folio)), (None, Some(0)));
        assert_eq!(leaf.target(), Some(Target::Device(Offset::new(folio.offset().get()).unwrap())));
        assert_eq!(w.machine.write_protect_all(&folio), 0, "a fork left nothing to write");
        assert_eq!(w.machine.unmap_all(&folio), 2);
        assert_eq!((folio.maps(), folio.refs()), (0, 1));
        w.check();
        assert_bytes(&read(&child, BASE + 9 * PAGE, PAGE), &vec![0; PAGE as usize]);
    });
}
