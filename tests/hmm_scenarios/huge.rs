//! 30 to 38: runs of 512 pages, whole and in part.

use farpage::{Access, LeafKind, Order};

use crate::mm_support::{
    Gpu, HUGE, Kind, Mirror, PAGE, World, anon, anon_huge, assert_bytes, at, pattern, range, read, world, write,
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

scenario!(
    /// The shapes of the selftest's benchmark, without its clock.
    benchmark_thp_migration, |w, gpu| {
    for huge in [false, true] {
        // Of a huge page: a quarter, a half; then 1, 2, 4 of them, as far as a test's memory goes.
        for pages in [128, 256, 512, 1024, 2048] {
            let (space, bytes) = (w.space(), pages * PAGE);
            space.map(anon(BASE, bytes).huge(huge)).unwrap();
            write(&space, BASE, &pattern(bytes, pages as u32));
            assert_eq!(gpu.migrate_in(&space, range(BASE, bytes)).unwrap(), pages);
            assert_eq!((gpu.live(), w.host_used() % 512), (pages, 0));
            assert_eq!(gpu.migrate_out(&space, range(BASE, bytes)).unwrap(), pages);
            assert_eq!((gpu.live(), w.host_used()), (0, pages));
            assert_bytes(&read(&space, BASE, bytes), &pattern(bytes, pages as u32));
            w.check();
            assert!(matches!(space.snapshot(at(BASE)).kind, LeafKind::Present(Access::Write)));
        }
    }
});
