//! 21 to 23: what a device is told of a range.

use farpage::{Access, Backing, LeafKind, Order, Protection, RangeEntry, RangeEntryKind, RangeError, Target};

use crate::mm_support::{
    Gpu, HUGE, Kind, Mirror, PAGE, World, anon, anon_huge, at, pattern, range, read, world, write,
};

const BASE: u64 = 0x5500_0020_0000;

scenario!(mixedmap, |w, gpu| {
    let (space, all) = (w.space(), range(BASE, 2 * PAGE));
    space.map(anon(BASE, 2 * PAGE).protection(Protection::Read).backing(Backing::Special, 0)).unwrap();
    let frame = w.machine.alloc_frame(Order::ZERO).unwrap();
    let pfn = frame.pfn();
    space.insert_frame(at(BASE), frame).unwrap();
    let mirror = Mirror::new(gpu, &space, all);
    let seen = mirror.ask(all, None).unwrap();
    assert_eq!(seen, [RangeEntry::host(pfn, Access::Read), RangeEntry::HOLE]);
    assert!(mirror.ask(all, Some(Access::Read)).is_err(), "nobody puts the second page in");
    assert_eq!(w.machine.alloc_frame(Order::ZERO).map(|frame| frame.maps()), Ok(0));
    assert_eq!(gpu.calls(), (0, 0, 0));
});

scenario!(snapshot, |w, gpu| {
    let other = Gpu::new(w, gpu.kind, 2);
    let (space, all) = (w.space(), range(BASE, 7 * PAGE));
    let page = |page: u64| range(BASE + page * PAGE, PAGE);
    space.map(anon(BASE, 7 * PAGE)).unwrap();
    space.protect(page(0), Protection::None).unwrap();
    // 1: nothing.
    read(&space, BASE + 2 * PAGE, 1); // 2: zero
    (3..7).for_each(|page| write(&space, BASE + page * PAGE, &pattern(PAGE, page as u32)));
    space.protect(page(3), Protection::Read).unwrap();
    gpu.migrate_in(&space, page(5)).unwrap();
    other.migrate_in(&space, page(6)).unwrap();
    let mirror = Mirror::new(gpu, &space, all);
    let seen = mirror.ask(all, None).unwrap();
    let kinds: Vec<_> = seen.iter().map(|entry| entry.kind()).collect();
    assert_eq!(kinds[0], RangeEntryKind::Error);
    assert_eq!(kinds[1], RangeEntryKind::Hole);
    assert!(space.snapshot(at(BASE + 2 * PAGE)).is_zero);
    for (page, access) in [(2, Access::Read), (3, Access::Read), (4, Access::Write)] {
        assert!(matches!(kinds[page], RangeEntryKind::Page(Target::Host(_), has) if has == access), "page {page}");
    }
    let own = space.snapshot(at(BASE + 5 * PAGE)).target.unwrap();
    assert_eq!(kinds[5], RangeEntryKind::Page(own, Access::Write));
    match gpu.kind {
        Kind::Private => assert_eq!(kinds[6], RangeEntryKind::Hole, "another owner's is not told"),
        Kind::Visible => assert!(matches!(kinds[6], RangeEntryKind::Page(Target::Host(_), Access::Write))),
    }
    assert_eq!((gpu.faults(), other.faults(), gpu.live(), other.live()), (0, 0, 1, 1), "a look moves nothing");
    assert_eq!(seen[5].is_device_private(), gpu.kind == Kind::Private);
    // What the driver has put into an entry stays.
    let mut entries = vec![RangeEntry::request(None).with_dma_mapped(true); 7];
    space.range_fault(&farpage::RangeFault::new(all), &mut entries).unwrap();
    assert!(entries.iter().all(|entry| entry.is_dma_mapped()));
    let short = space.range_fault(&farpage::RangeFault::new(all), &mut entries[..3]);
    assert_eq!(short, Err(RangeError::WrongLength { nr_pages: 7, nr_entries: 3 }));
    assert_eq!((gpu.calls(), other.calls()), ((0, 0, 0), (0, 0, 0)));
});

scenario!(compound, |w, gpu| {
    let (space, all) = (w.space(), range(BASE, HUGE));
    space.map(anon_huge(BASE, HUGE)).unwrap();
    write(&space, BASE, &pattern(HUGE, 1));
    let mirror = Mirror::new(gpu, &space, all);
    for (protection, access) in [(Protection::ReadWrite, Access::Write), (Protection::Read, Access::Read)] {
        space.protect(all, protection).unwrap();
        let seen = mirror.ask(all, None).unwrap();
        let first = seen[0];
        for (page, entry) in seen.iter().enumerate() {
            assert_eq!((entry.map_order(), entry.access()), (Some(Order::HUGE), Some(access)));
            assert_eq!(Some(*entry), first.for_page(page as u64));
        }
    }
    space.protect(all, Protection::ReadWrite).unwrap();
    gpu.migrate_in(&space, all).unwrap();
    let seen = mirror.ask(all, None).unwrap();
    assert!(seen.iter().all(|entry| entry.map_order() == Some(Order::HUGE)), "on the device, too");
    assert!(!matches!(space.snapshot(at(BASE)).kind, LeafKind::None));
    assert_eq!(gpu.calls(), (0, 0, 0));
});
