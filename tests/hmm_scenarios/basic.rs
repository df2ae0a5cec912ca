//! 1 to 11, 19 and 20: a device reads and writes memory where it is.

use std::thread;

use farpage::{Backing, FaultError, LeafKind, Object, Order, Protection, RangeError, SetupError};

use crate::mm_support::{
    Gpu, HUGE, Kind, Mirror, PAGE, World, anon, anon_huge, assert_bytes, at, pattern, range, read, world, write,
};

const BASE: u64 = 0x5500_0020_0000;
const SIZE: u64 = 1024 * PAGE;

scenario!(open_close, |w, gpu| {
    let space = w.space();
    assert_eq!((gpu.live(), gpu.freed(), w.host_used()), (0, 0, 0));
    drop(space);
    assert_eq!(gpu.calls(), (0, 0, 0));
});

scenario!(anon_read, |w, gpu| {
    let space = w.space();
    let mirror_range = range(BASE, SIZE);
    space.map(anon(BASE, SIZE)).unwrap();
    // The first page is written, the second read (so a zero page), the third never touched.
    let mut want = pattern(SIZE, 1);
    want[PAGE as usize..3 * PAGE as usize].fill(0);
    write(&space, BASE, &want[..PAGE as usize]);
    read(&space, BASE + PAGE, 1);
    write(&space, BASE + 3 * PAGE, &want[3 * PAGE as usize..]);
    let mirror = Mirror::new(gpu, &space, mirror_range);
    assert!(space.snapshot(at(BASE + PAGE)).is_zero);
    assert_eq!(space.snapshot(at(BASE + 2 * PAGE)).kind, LeafKind::None);
    assert_bytes(&mirror.read(mirror_range).unwrap(), &want);
    assert!(space.snapshot(at(BASE + 2 * PAGE)).is_zero, "read in as a zero page");
    assert_eq!((w.host_used(), gpu.live()), (SIZE / PAGE - 2, 0));
    assert_eq!(gpu.calls(), (0, 0, 0));
});

scenario!(anon_read_prot, |w, gpu| {
    let space = w.space();
    space.map(anon(BASE, SIZE)).unwrap();
    write(&space, BASE, &pattern(SIZE, 2));
    let mirror = Mirror::new(gpu, &space, range(BASE, SIZE));
    space.protect(range(BASE, SIZE), Protection::None).unwrap();
    let before = space.snapshot(at(BASE));
    let refused = RangeError::Fault(FaultError::Protected { address: at(BASE) });
    assert_eq!(mirror.read(range(BASE, SIZE)).unwrap_err(), refused);
    assert_eq!(space.snapshot(at(BASE)), before, "a refusal has no effect");
    space.protect(range(BASE, SIZE), Protection::Read).unwrap();
    assert_bytes(&mirror.read(range(BASE, SIZE)).unwrap(), &pattern(SIZE, 2));
    assert_eq!(gpu.calls(), (0, 0, 0));
});

scenario!(anon_write, |w, gpu| {
    let space = w.space();
    space.map(anon(BASE, SIZE)).unwrap();
    let mirror = Mirror::new(gpu, &space, range(BASE, SIZE));
    mirror.write(range(BASE, SIZE), &pattern(SIZE, 3)).unwrap();
    assert_bytes(&read(&space, BASE, SIZE), &pattern(SIZE, 3));
    assert_eq!(w.host_used(), SIZE / PAGE);
    assert_eq!(gpu.calls(), (0, 0, 0));
});

scenario!(anon_write_prot, |w, gpu| {
    let space = w.space();
    space.map(anon(BASE, SIZE).protection(Protection::Read)).unwrap();
    let mirror = Mirror::new(gpu, &space, range(BASE, SIZE));
    assert_bytes(&mirror.read(range(BASE, PAGE)).unwrap(), &vec![0; PAGE as usize]);
    let refused = RangeError::Fault(FaultError::Protected { address: at(BASE) });
    assert_eq!(mirror.write(range(BASE, SIZE), &pattern(SIZE, 4)).unwrap_err(), refused);
    assert_bytes(&read(&space, BASE, SIZE), &vec![0; SIZE as usize]);
    space.protect(range(BASE, SIZE), Protection::ReadWrite).unwrap();
    mirror.write(range(BASE, SIZE), &pattern(SIZE, 4)).unwrap();
    assert_bytes(&read(&space, BASE, SIZE), &pattern(SIZE, 4));
    assert_eq!(gpu.calls(), (0, 0, 0));
});

scenario!(anon_write_child, |w, gpu| {
    for (migrated, huge) in [(false, false), (false, true), (true, false), (true, true)] {
        let (all, before) = (range(BASE, SIZE), gpu.calls());
        let parent = w.space();
        parent.map(anon(BASE, SIZE).huge(huge)).unwrap();
        write(&parent, BASE, &pattern(SIZE, 5));
        if migrated {
            assert_eq!(gpu.migrate_in(&parent, all).unwrap(), SIZE / PAGE);
        }
        let child = parent.fork().unwrap();
        let shared = child.snapshot(at(BASE));
        assert_eq!((shared.refs, shared.maps), (2, 2), "one leaf each");
        assert_eq!(shared.leaf.access(), Some(farpage::Access::Read), "downgraded");
        w.check();
        let mirror = Mirror::new(gpu, &child, all);
        mirror.write(all, &pattern(SIZE, 6)).unwrap();
        assert_bytes(&read(&parent, BASE, SIZE), &pattern(SIZE, 5));
        assert_bytes(&read(&child, BASE, SIZE), &pattern(SIZE, 6));
        w.check();
        drop(mirror);
        drop((parent, child));
        let folios = if huge { SIZE / HUGE } else { SIZE / PAGE };
        let faults = if gpu.kind == Kind::Private { folios } else { 0 };
        let after = gpu.calls();
        let made = (after.0 - before.0, after.1 - before.1, after.2 - before.2);
        assert_eq!(made, if migrated { (faults, folios, SIZE / PAGE) } else { (0, 0, 0) });
        assert_eq!((w.host_used().saturating_sub(512), gpu.live()), (0, 0), "all but a huge zero page is free");
    }
});

scenario!(anon_write_child_shared, |w, gpu| {
    let all = range(BASE, SIZE);
    let parent = w.space();
    let object = Object::new(&w.machine);
    parent.map(anon(BASE, SIZE).backing(Backing::Shared(object), 0)).unwrap();
    write(&parent, BASE, &pattern(SIZE, 7));
    let child = parent.fork().unwrap();
    let mirror = Mirror::new(gpu, &child, all);
    mirror.write(all, &pattern(SIZE, 8)).unwrap();
    assert_bytes(&read(&parent, BASE, SIZE), &pattern(SIZE, 8));
    assert_eq!(w.host_used(), SIZE / PAGE);
    assert_eq!(gpu.calls(), (0, 0, 0));
});

scenario!(anon_write_huge, |w, gpu| {
    let space = w.space();
    space.map(anon_huge(BASE, HUGE)).unwrap();
    let mirror = Mirror::new(gpu, &space, range(BASE, HUGE));
    mirror.write(range(BASE, HUGE), &pattern(HUGE, 9)).unwrap();
    assert_eq!(space.snapshot(at(BASE)).map_order, Order::HUGE);
    assert_bytes(&read(&space, BASE, HUGE), &pattern(HUGE, 9));
    assert_eq!(gpu.calls(), (0, 0, 0));
});

scenario!(
    /// Pages of hugetlbfs are its own: put in whole, reachable for a device, and never migrated.
    anon_write_hugetlbfs, |w, gpu| {
    let (space, all) = (w.space(), range(BASE, HUGE));
    space.map(anon(BASE, HUGE).backing(Backing::Special, 0)).unwrap();
    let frame = w.machine.alloc_frame(Order::HUGE).unwrap();
    space.insert_frame(at(BASE), frame).unwrap();
    let mirror = Mirror::new(gpu, &space, all);
    mirror.write(all, &pattern(HUGE, 10)).unwrap();
    assert_bytes(&read(&space, BASE, HUGE), &pattern(HUGE, 10));
    assert_eq!(gpu.migrate_in(&space, all), Err(SetupError::Special { range: all }));
    assert_eq!(w.host_used(), 512);
    assert_eq!(gpu.calls(), (0, 0, 0));
});

scenario!(file_read, |w, gpu| {
    let all = range(BASE, SIZE);
    let (space, file) = (w.space(), Object::new(&w.machine));
    file.write(0, &pattern(SIZE, 11)).unwrap();
    space.map(anon(BASE, SIZE).protection(Protection::Read).backing(Backing::Shared(file), 0)).unwrap();
    let mirror = Mirror::new(gpu, &space, all);
    assert_bytes(&mirror.read(all).unwrap(), &pattern(SIZE, 11));
    assert_eq!(gpu.migrate_in(&space, all), Ok(0), "pages of files do not move");
    assert_eq!(gpu.live(), 0);
    assert_eq!(gpu.calls(), (0, 0, 0));
});

scenario!(file_write, |w, gpu| {
    let all = range(BASE, SIZE);
    let (space, file) = (w.space(), Object::new(&w.machine));
    space.map(anon(BASE, SIZE).backing(Backing::Shared(file.clone()), 0)).unwrap();
    let mirror = Mirror::new(gpu, &space, all);
    mirror.write(all, &pattern(SIZE, 12)).unwrap();
    let mut bytes = vec![0; SIZE as usize];
    file.read(0, &mut bytes).unwrap();
    assert_bytes(&bytes, &pattern(SIZE, 12));
    assert_eq!(gpu.calls(), (0, 0, 0));
});

scenario!(anon_read_multiple, |w, gpu| {
    for time in 0..10 {
        let space = w.space();
        space.map(anon(BASE, SIZE)).unwrap();
        write(&space, BASE, &pattern(SIZE, time));
        let mirror = Mirror::new(gpu, &space, range(BASE, SIZE));
        assert_bytes(&mirror.read(range(BASE, SIZE)).unwrap(), &pattern(SIZE, time));
        w.check();
    }
    assert_eq!(w.host_used(), 0);
    assert_eq!(gpu.calls(), (0, 0, 0));
});

scenario!(
    /// A thread unmaps half of the buffer while the device reads it: the device gets its bytes, or an error, never others'.
    anon_teardown, |w, gpu| {
    for time in 0..10u32 {
        let (space, all, half) = (w.space(), range(BASE, SIZE), range(BASE + SIZE / 2, SIZE / 2));
        space.map(anon(BASE, SIZE)).unwrap();
        write(&space, BASE, &pattern(SIZE, time));
        gpu.migrate_in(&space, range(BASE + SIZE / 4, SIZE / 2)).unwrap();
        let mirror = Mirror::new(gpu, &space, all);
        thread::scope(|scope| {
            scope.spawn(|| space.unmap(half).unwrap());
            for _ in 0..4 {
                match mirror.read(all) {
                    Ok(bytes) => assert_bytes(&bytes, &pattern(SIZE, time)),
                    Err(RangeError::Fault(FaultError::NotMapped { address })) => assert!(half.contains(address)),
                    Err(error) => panic!("{error}"),
                }
            }
        });
        let first = range(BASE, SIZE / 2);
        assert_bytes(&mirror.read(first).unwrap(), &pattern(SIZE, time)[..SIZE as usize / 2]);
        w.check();
        drop(mirror);
        drop(space);
        assert_eq!((gpu.live(), w.host_used()), (0, 0));
    }
    assert_eq!(gpu.calls(), (0, 10 * SIZE / PAGE / 2, 10 * SIZE / PAGE / 2), "each page once, whoever had it last");
});
