//! 12 to 18, 24, 28 and 29: pages move, one by one.

use std::time::Duration;

use farpage::{Access, Backing, LeafKind, MigrateBatch, MigrateRequest, Object, Protection, SetupError};

use crate::mm_support::{
    Gpu, HUGE, Kind, Mirror, PAGE, World, anon, assert_bytes, at, pattern, range, read, world, write,
};

const BASE: u64 = 0x5500_0020_0000;
const SIZE: u64 = 1024 * PAGE;
const PAGES: u64 = SIZE / PAGE;

scenario!(migrate, |w, gpu| {
    let (space, all) = (w.space(), range(BASE, SIZE));
    space.map(anon(BASE, SIZE)).unwrap();
    write(&space, BASE, &pattern(SIZE, 1));
    assert_eq!(gpu.migrate_in(&space, all).unwrap(), PAGES);
    assert!(gpu.has_all(&space, all));
    assert_eq!((gpu.live(), gpu.freed(), w.host_used()), (PAGES, 0, 0));
    let snapshot = space.snapshot(at(BASE));
    assert_eq!((snapshot.refs, snapshot.maps, snapshot.is_locked), (1, 1, false), "the leaf's, and nobody else's");
    let mirror = Mirror::new(gpu, &space, all);
    assert_bytes(&mirror.read(all).unwrap(), &pattern(SIZE, 1));
    assert_eq!(gpu.faults(), 0, "the device reads its own where it is");
    space.unmap(all).unwrap();
    assert_eq!((gpu.live(), gpu.freed()), (0, PAGES));
    assert_eq!(gpu.calls(), (0, PAGES, PAGES), "each page by itself");
});

scenario!(migrate_file_private, |w, gpu| {
    let (space, all, file) = (w.space(), range(BASE, SIZE), Object::new(&w.machine));
    file.write(0, &pattern(SIZE, 2)).unwrap();
    space.map(anon(BASE, SIZE).backing(Backing::FilePrivate(file.clone()), 0)).unwrap();
    read(&space, BASE, SIZE);
    write(&space, BASE, &pattern(SIZE / 2, 3));
    assert_eq!(gpu.migrate_in(&space, all).unwrap(), PAGES / 2, "copies move, pages of the file do not");
    assert!(gpu.has_all(&space, range(BASE, SIZE / 2)));
    assert_bytes(&read(&space, BASE, SIZE / 2), &pattern(SIZE / 2, 3));
    assert_bytes(&read(&space, BASE + SIZE / 2, SIZE / 2), &pattern(SIZE, 2)[SIZE as usize / 2..]);
    let mut bytes = vec![0; SIZE as usize];
    file.read(0, &mut bytes).unwrap();
    assert_bytes(&bytes, &pattern(SIZE, 2));
    match gpu.kind {
        Kind::Private => assert_eq!(gpu.calls(), (PAGES / 2, PAGES / 2, PAGES / 2)),
        Kind::Visible => assert_eq!(gpu.calls(), (0, 0, 0)),
    }
});

scenario!(migrate_fault, |w, gpu| {
    let (space, all) = (w.space(), range(BASE, SIZE));
    space.map(anon(BASE, SIZE)).unwrap();
    write(&space, BASE, &pattern(SIZE, 4));
    gpu.migrate_in(&space, all).unwrap();
    assert_bytes(&read(&space, BASE, SIZE / 2), &pattern(SIZE, 4)[..SIZE as usize / 2]);
    if gpu.kind == Kind::Private {
        assert_eq!((gpu.faults(), gpu.live(), gpu.freed()), (PAGES / 2, PAGES / 2, PAGES / 2));
        assert_eq!(gpu.migrate_in(&space, all).unwrap(), PAGES / 2, "those that are not there already");
    }
    assert!(gpu.has_all(&space, all));
    assert_eq!(gpu.live(), PAGES);
    w.check();
    let mirror = Mirror::new(gpu, &space, all);
    assert_bytes(&mirror.read(all).unwrap(), &pattern(SIZE, 4));
    assert_bytes(&read(&space, BASE, SIZE), &pattern(SIZE, 4));
    let came_home = if gpu.kind == Kind::Private { PAGES / 2 + PAGES } else { 0 };
    assert_eq!(gpu.calls(), (came_home, came_home, came_home));
});

scenario!(
    /// The device's memory goes while it is mapped, in two address spaces: pages come home, and the device can go.
    migrate_release, |w, gpu| {
    let (space, all) = (w.space(), range(BASE, SIZE));
    space.map(anon(BASE, SIZE)).unwrap();
    write(&space, BASE, &pattern(SIZE, 5));
    gpu.migrate_in(&space, all).unwrap();
    let child = space.fork().unwrap();
    gpu.device.kill();
    assert_eq!(gpu.evict(), PAGES);
    assert_eq!((gpu.live(), gpu.freed(), w.host_used()), (0, PAGES, PAGES), "one page home for both");
    w.check();
    gpu.device.drain(Duration::ZERO).unwrap();
    w.machine.detach(&gpu.device);
    gpu.device.clone().unregister().unwrap();
    assert_bytes(&read(&space, BASE, SIZE), &pattern(SIZE, 5));
    assert_bytes(&read(&child, BASE, SIZE), &pattern(SIZE, 5));
    assert_eq!(gpu.faults(), 0, "late faults find host pages");
    write(&child, BASE, &[1]);
    assert_bytes(&read(&space, BASE, 4), &pattern(4, 5));
    assert_eq!(gpu.calls(), (0, PAGES, PAGES));
});

scenario!(migrate_shared, |w, gpu| {
    let (space, all, object) = (w.space(), range(BASE, SIZE), Object::new(&w.machine));
    space.map(anon(BASE, SIZE).backing(Backing::Shared(object), 0)).unwrap();
    write(&space, BASE, &pattern(SIZE, 6));
    let mut batch = MigrateBatch::new();
    let request = MigrateRequest::new(all).system(true).compound(true);
    let migration = space.migrate(&mut batch, request).unwrap();
    assert_eq!(migration.nr_collected(), 0); // the driver's -ENOENT
    drop(migration);
    assert_eq!(gpu.migrate_in(&space, all), Ok(0));
    assert_bytes(&read(&space, BASE, SIZE), &pattern(SIZE, 6));
    assert_eq!(gpu.calls(), (0, 0, 0));
});

scenario!(migrate_mixed, |w, gpu| {
    let other = Gpu::new(w, gpu.kind, 2);
    let (space, page) = (w.space(), |page: u64| range(BASE + page * PAGE, PAGE));
    space.map(anon(BASE, 6 * PAGE)).unwrap();
    write(&space, BASE, &pattern(PAGE, 7));
    space.protect(page(0), Protection::None).unwrap();
    assert_eq!(gpu.migrate_in(&space, page(0)), Err(SetupError::Protected { range: page(0) }));
    space.unmap(page(1)).unwrap();
    assert_eq!(gpu.migrate_in(&space, page(1)), Err(SetupError::NotMapped { address: page(1).start() }));
    // A zero page, one that may be read, one that may be written, and one on another device.
    read(&space, BASE + 2 * PAGE, 4);
    for page in 3..6 {
        write(&space, BASE + page * PAGE, &pattern(PAGE, page as u32));
    }
    assert_eq!(other.migrate_in(&space, page(5)).unwrap(), 1);
    let rest = range(BASE + 2 * PAGE, 4 * PAGE);
    assert_eq!(gpu.migrate_in(&space, rest).unwrap(), 3);
    assert_eq!(gpu.has(&space, rest), [true, true, true, false]);
    assert_eq!(other.has(&space, rest), [false, false, false, true]);
    assert_eq!((gpu.live(), other.live()), (3, 1));
    // Not home either, by who does not own it.
    assert_eq!(gpu.migrate_out(&space, page(5)).unwrap(), 0);
    w.check();
    let mut want = vec![0; PAGE as usize];
    (3..6).for_each(|page| want.extend(pattern(PAGE, page)));
    assert_bytes(&read(&space, BASE + 2 * PAGE, 4 * PAGE), &want);
    let home = u64::from(gpu.kind == Kind::Private);
    assert_eq!((gpu.calls(), other.calls()), ((3 * home, 3 * home, 3 * home), (home, home, home)));
});

scenario!(migrate_multiple, |w, gpu| {
    for time in 0..10 {
        let (space, all) = (w.space(), range(BASE, SIZE));
        space.map(anon(BASE, SIZE)).unwrap();
        write(&space, BASE, &pattern(SIZE, time));
        assert_eq!(gpu.migrate_in(&space, all).unwrap(), PAGES);
        let mirror = Mirror::new(gpu, &space, all);
        assert_bytes(&mirror.read(all).unwrap(), &pattern(SIZE, time));
        assert_eq!(gpu.migrate_out(&space, all).unwrap(), PAGES);
        assert_eq!((gpu.live(), gpu.freed(), w.host_used()), (0, PAGES * u64::from(time + 1), PAGES));
        assert_bytes(&read(&space, BASE, SIZE), &pattern(SIZE, time));
        w.check();
    }
    assert_eq!(w.host_used(), 0);
    assert_eq!(gpu.calls(), (0, 10 * PAGES, 10 * PAGES));
});

scenario!(double_map, |w, gpu| {
    let other = Gpu::new(w, gpu.kind, 2);
    let (space, all) = (w.space(), range(BASE, 6 * PAGE));
    space.map(anon(BASE, 6 * PAGE).protection(Protection::ReadWrite)).unwrap();
    write(&space, BASE, &pattern(6 * PAGE, 8));
    space.protect(all, Protection::Read).unwrap();
    let (mine, others) = (Mirror::new(gpu, &space, all), Mirror::new(&other, &space, all));
    assert_bytes(&mine.read(all).unwrap(), &pattern(6 * PAGE, 8));
    assert_bytes(&others.read(all).unwrap(), &pattern(6 * PAGE, 8));
    assert_eq!(gpu.migrate_in(&space, all).unwrap(), 6);
    assert!(!others.told.invalidations.lock().unwrap().is_empty(), "the other device drops what it mirrors");
    assert_bytes(&mine.read(all).unwrap(), &pattern(6 * PAGE, 8));
    assert_bytes(&others.read(all).unwrap(), &pattern(6 * PAGE, 8));
    if gpu.kind == Kind::Private {
        assert_eq!((gpu.live(), gpu.faults()), (0, 6), "another's pages come home to be read");
    } else {
        assert_eq!((gpu.live(), gpu.faults()), (6, 0));
    }
    let home = if gpu.kind == Kind::Private { 6 } else { 0 };
    assert_eq!((gpu.calls(), other.calls()), ((home, home, home), (0, 0, 0)));
});

scenario!(
    /// A pin brings a private page home; one for long brings any. A fast one moves nothing. What is pinned does not move.
    hmm_gup_test, |w, gpu| {
    let (space, all) = (w.space(), range(BASE, 4 * PAGE));
    let page = |page: u64| all.page(page).unwrap();
    let is_private = gpu.kind == Kind::Private;
    space.map(anon(BASE, 4 * PAGE)).unwrap();
    write(&space, BASE, &pattern(4 * PAGE, 9));
    assert_eq!(gpu.migrate_in(&space, all).unwrap(), 4);
    assert_eq!(space.try_pin(page(1), Access::Write).is_none(), is_private, "fast: no driver is asked");
    assert_eq!((gpu.calls(), gpu.live()), ((0, 0, 0), 4));
    let plain = space.pin(page(0), Access::Write).unwrap();
    let fast = space.try_pin(page(1), Access::Write).unwrap_or_else(|| space.pin(page(1), Access::Write).unwrap());
    let long = space.pin_long_term(page(2), Access::Write).unwrap();
    let at_home = if is_private { [false, false, false, true] } else { [true, true, false, true] };
    assert_eq!(gpu.has(&space, all), at_home, "pinned for long, a page is the machine's own");
    let faults = if is_private { 3 } else { 0 };
    let home = if is_private { 3 } else { 1 };
    assert_eq!((gpu.calls(), gpu.live(), w.host_used()), ((faults, home, home), 4 - home, home));
    for (index, pin) in [&plain, &fast, &long].into_iter().enumerate() {
        let mut bytes = vec![0; PAGE as usize];
        w.machine.memory().read(pin.pfn(), 0, &mut bytes);
        assert_bytes(&bytes, &pattern(4 * PAGE, 9)[index * PAGE as usize..][..PAGE as usize]);
        assert_eq!((pin.refs(), pin.maps()), (2, 1));
    }
    assert_eq!(gpu.migrate_in(&space, all).unwrap(), 0, "pinned pages stay, and so does the one that is there");
    if !is_private {
        assert_eq!(gpu.migrate_out(&space, range(BASE, 2 * PAGE)).unwrap(), 0, "on the device, too");
    }
    assert_eq!(gpu.has(&space, all), at_home);
    w.check();
    // DMA into a pinned page is what the CPU then reads.
    for pin in [&plain, &fast, &long] {
        w.machine.memory().write(pin.pfn(), 0, &[0xab; 16]);
    }
    drop((plain, fast, long));
    (0..3).for_each(|index| assert_bytes(&read(&space, BASE + index * PAGE, 16), &[0xab; 16]));
    assert_eq!(gpu.migrate_in(&space, all).unwrap(), home, "free to move again");
    assert!(gpu.has_all(&space, all));
    (0..3).for_each(|index| assert_bytes(&read(&space, BASE + index * PAGE, 16), &[0xab; 16]));
});

scenario!(hmm_cow_in_device, |w, gpu| {
    let (parent, all) = (w.space(), range(BASE, SIZE));
    parent.map(anon(BASE, SIZE)).unwrap();
    write(&parent, BASE, &pattern(SIZE, 10));
    gpu.migrate_in(&parent, all).unwrap();
    let child = parent.fork().unwrap();
    assert_eq!(child.snapshot(at(BASE)).leaf.kind(), parent.snapshot(at(BASE)).leaf.kind());
    write(&parent, BASE, &pattern(SIZE, 11));
    assert_bytes(&read(&child, BASE, SIZE), &pattern(SIZE, 10));
    w.check();
    drop(child); // killed
    assert_eq!(gpu.live(), 0);
    assert_eq!(w.host_used(), PAGES);
    assert_bytes(&read(&parent, BASE, SIZE), &pattern(SIZE, 11));
    assert!(matches!(parent.snapshot(at(BASE)).kind, LeafKind::Present(Access::Write)));
    let faults = if gpu.kind == Kind::Private { PAGES } else { 0 };
    assert_eq!(gpu.calls(), (faults, PAGES, PAGES), "home by the write, or gone with the child");
});

const _: () = assert!(SIZE == 2 * HUGE);
