//! 30 to 38: runs of 512 pages, whole and in part.

use std::sync::Arc;

use farpage::{Access, AddressSpace, HeapMemory, LeafKind, Order};

use crate::mm_support::{
    Gpu, HUGE, Kind, Mirror, PAGE, World, anon, anon_huge, assert_bytes, at, pattern, range, read, world, world_of,
    write,
};

const BASE: u64 = 0x5500_0020_0000;

scenario!(migrate_anon_huge_empty, |w, gpu| {
    let (space, all) = (w.space(), range(BASE, HUGE));
    space.map(anon_huge(BASE, HUGE)).unwrap();
    assert_eq!(gpu.migrate_in(&space, all).unwrap(), 512);
    let snapshot = space.snapshot(at(BASE));
    assert_eq!((snapshot.map_order, snapshot.folio_order, snapshot.maps), (Order::HUGE, Order::HUGE, 1));
    assert_eq!((gpu.live(), w.host_used()), (512, 0), "a hole becomes one folio");
    let mirror = Mirror::new(gpu, &space, all);
    assert_bytes(&mirror.read(all).unwrap(), &vec![0; HUGE as usize]);
    mirror.write(all, &pattern(HUGE, 1)).unwrap();
    assert_bytes(&read(&space, BASE, HUGE), &pattern(HUGE, 1));
    match gpu.kind {
        Kind::Private => assert_eq!(gpu.calls(), (1, 1, 512), "one fault, and one folio freed whole"),
        Kind::Visible => assert_eq!((gpu.calls(), gpu.live()), ((0, 0, 0), 512)),
    }
});

scenario!(migrate_anon_huge_zero, |w, gpu| {
    let (space, all) = (w.space(), range(BASE, HUGE));
    space.map(anon_huge(BASE, HUGE)).unwrap();
    read(&space, BASE, 1);
    let snapshot = space.snapshot(at(BASE));
    assert!(snapshot.is_zero && snapshot.map_order == Order::HUGE);
    assert_eq!(gpu.migrate_in(&space, all).unwrap(), 512);
    let snapshot = space.snapshot(at(BASE));
    assert!(!snapshot.is_zero && snapshot.map_order == Order::HUGE && gpu.has_all(&space, all));
    assert_bytes(&read(&space, BASE, HUGE), &vec![0; HUGE as usize]);
    let mirror = Mirror::new(gpu, &space, all);
    mirror.write(all, &pattern(HUGE, 2)).unwrap();
    assert_bytes(&read(&space, BASE, HUGE), &pattern(HUGE, 2));
    match gpu.kind {
        Kind::Private => assert_eq!(gpu.calls(), (1, 1, 512), "one fault, and one folio freed whole"),
        Kind::Visible => assert_eq!((gpu.calls(), gpu.live()), ((0, 0, 0), 512)),
    }
});

scenario!(migrate_anon_huge_free, |w, gpu| {
    let (space, all) = (w.space(), range(BASE, HUGE));
    space.map(anon_huge(BASE, HUGE)).unwrap();
    write(&space, BASE, &pattern(HUGE, 3));
    gpu.migrate_in(&space, all).unwrap();
    let before = space.leaf(at(BASE)).0;
    space.advise_free(all).unwrap();
    if gpu.kind == Kind::Private {
        assert_eq!(space.leaf(at(BASE)).0, before, "passed over, and not walked as if it were a table");
        assert_eq!(space.reclaim(all).unwrap(), 0);
        assert_bytes(&read(&space, BASE, HUGE), &pattern(HUGE, 3));
        gpu.migrate_in(&space, all).unwrap();
    }
    space.advise_dont_need(all).unwrap();
    assert_eq!(gpu.live(), 0, "a whole large folio is freed");
    assert_bytes(&read(&space, BASE, HUGE), &vec![0; HUGE as usize]);
    match gpu.kind {
        Kind::Private => assert_eq!(gpu.calls(), (1, 2, 1024), "home once, given up once"),
        Kind::Visible => assert_eq!(gpu.calls(), (0, 1, 512)),
    }
});

scenario!(migrate_anon_huge_fault, |w, gpu| {
    let (space, all) = (w.space(), range(BASE, HUGE));
    space.map(anon_huge(BASE, HUGE)).unwrap();
    write(&space, BASE, &pattern(HUGE, 4));
    assert_eq!(gpu.migrate_in(&space, all).unwrap(), 512);
    let mirror = Mirror::new(gpu, &space, all);
    let seen = mirror.ask(all, None).unwrap();
    assert!(seen.iter().all(|entry| entry.map_order() == Some(Order::HUGE)));
    let present = matches!(space.snapshot(at(BASE + 99 * PAGE)).kind, LeafKind::Present(_));
    assert_eq!(present, gpu.kind == Kind::Visible, "a private page is not present, as swap is not");
    assert_bytes(&read(&space, BASE, HUGE), &pattern(HUGE, 4));
    if gpu.kind == Kind::Private {
        assert_eq!((gpu.faults(), gpu.live(), gpu.freed()), (1, 0, 512), "one fault for all");
        assert_eq!(w.host_used(), 512);
    }
    let snapshot = space.snapshot(at(BASE));
    assert_eq!((snapshot.map_order, snapshot.folio_order), (Order::HUGE, Order::HUGE));
    match gpu.kind {
        Kind::Private => assert_eq!(gpu.calls(), (1, 1, 512), "one fault, and one folio freed whole"),
        Kind::Visible => assert_eq!((gpu.calls(), gpu.live()), ((0, 0, 0), 512)),
    }
});

scenario!(migrate_partial_unmap_fault, |w, gpu| {
    for huge in [false, true] {
        for quarter in [0, 1, 2] {
            let (space, all) = (w.space(), range(BASE, HUGE));
            space.map(anon(BASE, HUGE).huge(huge)).unwrap();
            write(&space, BASE, &pattern(HUGE, 5));
            let before = gpu.calls();
            assert_eq!(gpu.migrate_in(&space, all).unwrap(), 512);
            let start = BASE + quarter * HUGE / 4;
            space.unmap(range(start, HUGE / 2)).unwrap();
            assert_eq!(gpu.live(), if huge { 512 } else { 256 }, "a large folio is freed as one");
            w.check();
            for part in 0..4u64 {
                let at_part = BASE + part * HUGE / 4;
                if part == quarter || part == quarter + 1 {
                    assert!(space.read(at(at_part), &mut [0]).is_err());
                    continue;
                }
                let want = &pattern(HUGE, 5)[(at_part - BASE) as usize..][..HUGE as usize / 4];
                assert_bytes(&read(&space, at_part, HUGE / 4), want);
            }
            w.check();
            drop(space);
            let (faults, folios, pages) = gpu.calls();
            assert_eq!((folios - before.1, pages - before.2), (if huge { 1 } else { 512 }, 512));
            assert_eq!(faults - before.0, if gpu.kind == Kind::Private { 256 } else { 0 }, "page by page");
            assert_eq!((gpu.live(), w.host_used()), (0, 0));
        }
    }
});

scenario!(migrate_remap_fault, |w, gpu| {
    for case in 0..24u64 {
        let (huge, keep, before) = (case & 1 == 1, case & 2 == 2, case & 4 == 4);
        let unaligned = [0, 1, 64][(case / 8) as usize] * PAGE;
        let called = gpu.calls();
        let (space, all) = (w.space(), range(BASE, HUGE));
        space.map(anon(BASE, HUGE).huge(huge)).unwrap();
        write(&space, BASE, &pattern(HUGE, case as u32));
        if !before {
            assert_eq!(gpu.migrate_in(&space, all).unwrap(), 512);
        }
        let to = BASE + 8 * HUGE + unaligned;
        let leaf = space.snapshot(at(BASE + 3 * PAGE)).target;
        space.remap(all, at(to), keep).unwrap();
        assert_eq!(space.snapshot(at(to + 3 * PAGE)).target, leaf, "case {case}: the page stays where it is");
        if before {
            assert_eq!(gpu.migrate_in(&space, range(to, HUGE)).unwrap(), 512);
        }
        assert!(gpu.has_all(&space, range(to, HUGE)), "case {case}");
        w.check();
        assert_bytes(&read(&space, to, HUGE), &pattern(HUGE, case as u32));
        match keep {
            true => assert_bytes(&read(&space, BASE, HUGE), &vec![0; HUGE as usize]),
            false => assert!(space.read(at(BASE), &mut [0]).is_err()),
        }
        w.check();
        drop(space);
        // One folio if it was huge when it went, one fault if it is when it comes.
        let whole = huge && unaligned == 0;
        let (faults, folios, pages) = gpu.calls();
        let freed = if whole || huge && !before { 1 } else { 512 };
        assert_eq!((folios - called.1, pages - called.2), (freed, 512), "case {case}");
        let asked = match gpu.kind {
            Kind::Private => {
                if whole {
                    1
                } else {
                    512
                }
            }
            Kind::Visible => 0,
        };
        assert_eq!((faults - called.0, gpu.live()), (asked, 0), "case {case}");
    }
});

scenario!(migrate_anon_huge_err, |w, gpu| {
    let (space, all) = (w.space(), range(BASE, HUGE));
    space.map(anon_huge(BASE, HUGE)).unwrap();
    write(&space, BASE, &pattern(HUGE, 6));
    gpu.fail_next_large();
    assert_eq!(gpu.migrate_in(&space, all).unwrap(), 512, "page by page");
    let snapshot = space.snapshot(at(BASE + 511 * PAGE));
    assert_eq!((snapshot.map_order, snapshot.folio_order), (Order::ZERO, Order::ZERO));
    assert_eq!((gpu.live(), w.host_used()), (512, 0));
    w.check();
    assert_bytes(&read(&space, BASE, HUGE), &pattern(HUGE, 6));
    // And on the way back, of a large one.
    let other = range(BASE + HUGE, HUGE);
    space.map(anon_huge(BASE + HUGE, HUGE)).unwrap();
    write(&space, BASE + HUGE, &pattern(HUGE, 7));
    assert_eq!(gpu.migrate_in(&space, other).unwrap(), 512);
    assert_eq!(space.snapshot(at(BASE + HUGE)).map_order, Order::HUGE);
    gpu.fail_next_large();
    assert_eq!(gpu.migrate_out(&space, other).unwrap(), 512);
    let snapshot = space.snapshot(at(BASE + HUGE));
    assert_eq!((snapshot.map_order, snapshot.folio_order), (Order::ZERO, Order::ZERO));
    w.check();
    assert_bytes(&read(&space, BASE + HUGE, HUGE), &pattern(HUGE, 7));
    let (faults, small) = if gpu.kind == Kind::Private { (512, 512) } else { (0, 0) };
    assert_eq!(gpu.calls(), (faults, small + 1, small + 512));
});

scenario!(migrate_anon_huge_zero_err, |w, gpu| {
    for touched in [false, true] {
        let (space, all) = (w.space(), range(BASE, HUGE));
        space.map(anon_huge(BASE, HUGE)).unwrap();
        if touched {
            read(&space, BASE, 1);
        }
        gpu.fail_next_large();
        assert_eq!(gpu.migrate_in(&space, all).unwrap(), 512);
        let snapshot = space.snapshot(at(BASE + 7 * PAGE));
        assert_eq!((snapshot.folio_order, snapshot.maps), (Order::ZERO, 1));
        assert!(gpu.has_all(&space, all));
        gpu.fail_next_large();
        assert_bytes(&read(&space, BASE, HUGE), &vec![0; HUGE as usize]);
        write(&space, BASE + HUGE / 2, &[9; 64]);
        assert_bytes(&read(&space, BASE + HUGE / 2, 64), &[9; 64]);
        w.check();
    }
});

/// The shapes of the selftest's benchmark, without its clock: a quarter and a half of a huge page, then 1, 2, 4, 16 and 128 of
/// them. Each page has its own number in its first bytes.
fn benchmark_thp_migration(kind: Kind) {
    let seen = |space: &AddressSpace<'_>, pages: u64| {
        let page_has_number = |page: &u64| read(space, BASE + page * PAGE, 8) == (page + 7).to_le_bytes();
        (0..pages).filter(page_has_number).count() as u64
    };
    let host = if kind == Kind::Visible { 3 << 17 } else { 1 << 18 };
    world_of(Arc::new(HeapMemory::new(host)), 1 << 17, |w| {
        let gpu = Gpu::of_pages(w, kind, 1, 1 << 17);
        for huge in [false, true] {
            for pages in [128, 256, 512, 1024, 2048, 8192, 65536] {
                let ((space, bytes), before) = ((w.space(), pages * PAGE), gpu.calls());
                space.map(anon(BASE, bytes).huge(huge)).unwrap();
                (0..pages).for_each(|page| write(&space, BASE + page * PAGE, &(page + 7).to_le_bytes()));
                assert_eq!(gpu.migrate_in(&space, range(BASE, bytes)).unwrap(), pages);
                assert_eq!((gpu.live(), w.host_used()), (pages, 0));
                assert_eq!(gpu.migrate_out(&space, range(BASE, bytes)).unwrap(), pages);
                assert_eq!((gpu.live(), w.host_used()), (0, pages));
                assert_eq!(seen(&space, pages), pages);
                assert!(matches!(space.snapshot(at(BASE)).kind, LeafKind::Present(Access::Write)));
                let folios = if huge && pages >= 512 { pages / 512 } else { pages };
                let (faults, freed, freed_pages) = gpu.calls();
                assert_eq!((faults, freed - before.1, freed_pages - before.2), (0, folios, pages));
                w.check();
            }
        }
    });
}

mod benchmark_thp_migration {
    use super::Kind;

    #[test]
    fn private() {
        super::benchmark_thp_migration(Kind::Private);
    }

    #[test]
    fn visible() {
        super::benchmark_thp_migration(Kind::Visible);
    }
}
