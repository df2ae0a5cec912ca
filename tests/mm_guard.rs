//! Places that refuse every access: guards and broken pages, among all that an address space does to its leaves.

mod mm_support;

use std::sync::atomic::Ordering::Relaxed;

use farpage::{
    Access, FaultError, LeafKind, MigrateBatch, MigrateRequest, Owner, PteMarker, RangeEntry, RangeEntryKind,
    RangeError, RangeFault,
};
use mm_support::{Gpu, HUGE, Kind, PAGE, World, anon, assert_bytes, at, pattern, range, read, world, write};

const BASE: u64 = 0x5600_0020_0000;

fn kind(space: &farpage::AddressSpace<'_>, address: u64) -> LeafKind {
    space.snapshot(at(address)).kind
}

fn unserved(address: u64, kind: LeafKind) -> FaultError {
    FaultError::Unserved { address: at(address), kind }
}

#[test]
fn a_guard_refuses_until_it_is_removed() {
    world(|w| {
        let (space, all) = (w.space(), range(BASE, 8 * PAGE));
        space.map(anon(BASE, 8 * PAGE)).unwrap();
        write(&space, BASE, &pattern(8 * PAGE, 1));
        space.install_guard(range(BASE + 2 * PAGE, 2 * PAGE)).unwrap();
        assert_eq!(w.host_used(), 6, "the pages there are free");
        for access in [Access::Read, Access::Write] {
            let refused = unserved(BASE + 3 * PAGE, LeafKind::Marker);
            assert_eq!(space.fault(at(BASE + 3 * PAGE), access), Err(refused));
        }
        assert_eq!(space.leaf(at(BASE + 2 * PAGE)).0.marker_flags(), Some(PteMarker::GUARD));
        w.check();
        // What drops pages leaves guards; what frees lazily passes over them.
        space.advise_dont_need(all).unwrap();
        assert_eq!((w.host_used(), kind(&space, BASE + 2 * PAGE)), (0, LeafKind::Marker));
        write(&space, BASE, &pattern(2 * PAGE, 2));
        space.advise_free(all).unwrap();
        assert_eq!(space.reclaim(all).unwrap(), 2);
        assert_eq!(space.remove_guard(all).unwrap(), 2);
        assert_eq!(space.remove_guard(all).unwrap(), 0);
        assert_bytes(&read(&space, BASE + 2 * PAGE, PAGE), &[0; PAGE as usize]);
        // It ends with its mapping, and its table with it.
        let tables = space.nr_tables();
        space.install_guard(all).unwrap();
        space.unmap(all).unwrap();
        assert!(space.nr_tables() < tables);
        space.map(anon(BASE, PAGE)).unwrap();
        write(&space, BASE, &[1]);
    });
}

#[test]
fn a_guard_goes_with_forks_and_moves() {
    world(|w| {
        let (space, there) = (w.space(), BASE + 64 * PAGE);
        space.map(anon(BASE, 4 * PAGE)).unwrap();
        write(&space, BASE, &pattern(4 * PAGE, 3));
        space.install_guard(range(BASE + PAGE, PAGE)).unwrap();
        let child = space.fork().unwrap();
        assert_eq!(child.fault(at(BASE + PAGE), Access::Read), Err(unserved(BASE + PAGE, LeafKind::Marker)));
        space.remap(range(BASE, 4 * PAGE), at(there), false).unwrap();
        assert_eq!(space.fault(at(there + PAGE), Access::Write), Err(unserved(there + PAGE, LeafKind::Marker)));
        assert_bytes(
            &read(&space, there + 2 * PAGE, PAGE),
            &pattern(4 * PAGE, 3)[2 * PAGE as usize..3 * PAGE as usize],
        );
        w.check();
        child.remove_guard(range(BASE, 4 * PAGE)).unwrap();
        write(&child, BASE + PAGE, &[9]);
        assert_eq!(kind(&space, there + PAGE), LeafKind::Marker, "each has its own");
    });
}

fn a_device_sees_no_page_at_a_guard<'s>(w: &World<'s>, gpu: &Gpu<'s>) {
    let (space, all) = (w.space(), range(BASE, 4 * PAGE));
    space.map(anon(BASE, 4 * PAGE)).unwrap();
    write(&space, BASE, &pattern(4 * PAGE, 4));
    assert_eq!(gpu.migrate_in(&space, all).unwrap(), 4);
    space.install_guard(range(BASE + PAGE, PAGE)).unwrap();
    assert_eq!(gpu.vram.freed_folios.load(Relaxed), 1, "the device has its page back");
    // Not collected, whichever way, though holes are.
    let mut batch = MigrateBatch::new();
    let request = MigrateRequest::new(all).device_private(gpu.device.owner()).system(true);
    let migration = space.migrate(&mut batch, request).unwrap();
    assert!(!migration.src(1).is_migrate(), "{:?}", migration.src(1));
    drop(migration);
    // Looked at it is a hole; asked for it is refused, and what comes before it is answered.
    let mut entries = [RangeEntry::HOLE; 4];
    space.range_fault(&RangeFault::new(all).owner(gpu.device.owner()), &mut entries).unwrap();
    assert_eq!(entries[1].kind(), RangeEntryKind::Hole);
    let asked = RangeFault::new(all).owner(gpu.device.owner()).request(Access::Read);
    let refused = RangeError::Fault(unserved(BASE + PAGE, LeafKind::Marker));
    assert_eq!(space.range_fault(&asked, &mut entries), Err(refused));
    assert_bytes(&read(&space, BASE, PAGE), &pattern(4 * PAGE, 4)[..PAGE as usize]);
}

#[test]
fn a_device_sees_no_page_at_a_guard_private() {
    world(|w| a_device_sees_no_page_at_a_guard(w, &Gpu::new(w, Kind::Private, 1)));
}

#[test]
fn a_device_sees_no_page_at_a_guard_visible() {
    world(|w| a_device_sees_no_page_at_a_guard(w, &Gpu::new(w, Kind::Visible, 1)));
}

#[test]
fn a_guard_takes_huge_pages_apart() {
    world(|w| {
        let (gpu, space) = (Gpu::new(w, Kind::Private, 1), w.space());
        space.map(anon(BASE, 2 * HUGE).huge(true)).unwrap();
        write(&space, BASE, &pattern(2 * HUGE, 5));
        assert_eq!(gpu.migrate_in(&space, range(BASE, 2 * HUGE)).unwrap(), 1024);
        // Half of the first, none of the second.
        space.install_guard(range(BASE, HUGE / 2)).unwrap();
        assert_eq!(gpu.vram.freed_folios.load(Relaxed), 0, "half of the folio is mapped");
        assert_bytes(&read(&space, BASE + HUGE, PAGE), &pattern(2 * HUGE, 5)[HUGE as usize..][..PAGE as usize]);
        assert_eq!(kind(&space, BASE), LeafKind::Marker);
        assert_bytes(
            &read(&space, BASE + HUGE / 2, HUGE / 2),
            &pattern(2 * HUGE, 5)[HUGE as usize / 2..][..HUGE as usize / 2],
        );
        w.check();
        space.install_guard(range(BASE, 2 * HUGE)).unwrap();
        assert_eq!(w.host_used(), 0);
        assert_eq!(space.remove_guard(range(BASE, 2 * HUGE)).unwrap(), 1024);
        assert_eq!(gpu.device.nr_live_pages(), 0);
    });
}

#[test]
fn a_broken_page_is_never_used_again() {
    world(|w| {
        let (space, all) = (w.space(), range(BASE, 3 * PAGE));
        space.map(anon(BASE, 3 * PAGE)).unwrap();
        write(&space, BASE, &pattern(3 * PAGE, 6));
        let (leaf, _) = space.leaf(at(BASE + PAGE));
        let pfn = leaf.pfn().unwrap();
        let child = space.fork().unwrap();
        space.poison(at(BASE + PAGE)).unwrap();
        assert_eq!(space.leaf(at(BASE + PAGE)).0.kind(), LeafKind::HwPoison);
        assert_eq!(space.leaf(at(BASE + PAGE)).0.pfn(), Some(pfn));
        assert_eq!(space.fault(at(BASE + PAGE), Access::Read), Err(unserved(BASE + PAGE, LeafKind::HwPoison)));
        assert_bytes(&read(&child, BASE + PAGE, PAGE), &pattern(3 * PAGE, 6)[PAGE as usize..2 * PAGE as usize]);
        // A snapshot tells, and refuses if it is asked for.
        let mut entries = [RangeEntry::HOLE; 3];
        space.range_fault(&RangeFault::new(all).owner(Owner::new(1)), &mut entries).unwrap();
        assert_eq!(entries[1].kind(), RangeEntryKind::Error);
        let asked = RangeFault::new(all).owner(Owner::new(1)).request(Access::Write);
        let refused = RangeError::Fault(unserved(BASE + PAGE, LeafKind::HwPoison));
        assert_eq!(space.range_fault(&asked, &mut entries), Err(refused));
        let grandchild = space.fork().unwrap();
        assert_eq!(grandchild.leaf(at(BASE + PAGE)).0.kind(), LeafKind::HwPoison);
        drop(child);
        w.check();
        // Dropped, the place has a new page; the broken one stays out.
        space.advise_dont_need(all).unwrap();
        write(&space, BASE + PAGE, &[1]);
        assert_ne!(space.leaf(at(BASE + PAGE)).0.pfn(), Some(pfn));
        drop(grandchild);
        space.unmap(all).unwrap();
        assert_eq!(w.host_used(), 1);
        w.broken_pages.fetch_add(1, Relaxed);
    });
}

#[test]
fn where_no_host_page_was_a_marker_stands() {
    world(|w| {
        let (gpu, space) = (Gpu::new(w, Kind::Private, 1), w.space());
        space.map(anon(BASE, 2 * PAGE)).unwrap();
        write(&space, BASE, &pattern(PAGE, 7));
        assert_eq!(gpu.migrate_in(&space, range(BASE, PAGE)).unwrap(), 1);
        for page in 0..2 {
            space.poison(at(BASE + page * PAGE)).unwrap();
            assert_eq!(space.leaf(at(BASE + page * PAGE)).0.marker_flags(), Some(PteMarker::POISONED));
            let refused = unserved(BASE + page * PAGE, LeafKind::Marker);
            assert_eq!(space.fault(at(BASE + page * PAGE), Access::Read), Err(refused));
        }
        assert_eq!((gpu.device.nr_live_pages(), gpu.vram.freed_folios.load(Relaxed)), (0, 1));
        assert_eq!(space.remove_guard(range(BASE, 2 * PAGE)).unwrap(), 0, "they are no guards");
    });
}
