//! 25 to 27: a device has host pages for itself.

use farpage::{Access, ExclusiveError, FaultError, InvalidationKind, LeafKind, Owner, Protection, RangeError};

use crate::mm_support::{Gpu, Kind, Mirror, PAGE, World, anon, assert_bytes, at, pattern, range, read, world, write};

const BASE: u64 = 0x5500_0020_0000;
const PAGES: u64 = 16;
const SIZE: u64 = PAGES * PAGE;

/// The device takes all pages, and adds one to each word, atomically as far as CPUs can tell.
fn take_and_add<'s>(w: &World<'s>, space: &farpage::AddressSpace<'s>) {
    for page in 0..PAGES {
        let exclusive = space.make_exclusive(at(BASE + page * PAGE), Owner::new(1)).unwrap();
        let mut bytes = vec![0; PAGE as usize];
        w.machine.memory().read(exclusive.pfn(), 0, &mut bytes);
        for word in bytes.chunks_mut(4) {
            let value = u32::from_le_bytes(word.try_into().unwrap());
            word.copy_from_slice(&value.wrapping_add(1).to_le_bytes());
        }
        w.machine.memory().write(exclusive.pfn(), 0, &bytes);
    }
}

fn added(seed: u32) -> Vec<u8> {
    let add = |word: &[u8]| u32::from_le_bytes(word.try_into().unwrap()).wrapping_add(1).to_le_bytes();
    pattern(SIZE, seed).chunks(4).flat_map(add).collect()
}

scenario!(exclusive, |w, gpu| {
    let (space, all) = (w.space(), range(BASE, SIZE));
    space.map(anon(BASE, SIZE)).unwrap();
    write(&space, BASE, &pattern(SIZE, 1));
    let mirror = Mirror::new(gpu, &space, all);
    take_and_add(w, &space);
    let snapshot = space.snapshot(at(BASE));
    assert_eq!(snapshot.kind, LeafKind::DeviceExclusive);
    assert_eq!((snapshot.refs, snapshot.maps), (1, 1), "the entry counts as a mapping");
    assert_eq!(gpu.migrate_in(&space, all).unwrap(), 0, "it does not move meanwhile");
    w.check();
    mirror.told.invalidations.lock().unwrap().clear();
    assert_bytes(&read(&space, BASE, SIZE), &added(1));
    let told = mirror.told.invalidations.lock().unwrap();
    assert_eq!(told.len() as u64, PAGES, "the device hears of each page that it loses");
    assert!(told.iter().all(|told| told.kind == InvalidationKind::Exclusive && told.owner.is_none()));
    drop(told);
    assert_eq!(space.snapshot(at(BASE)).kind, LeafKind::Present(Access::Write));
    // Another device asking first takes it from the one that has it.
    drop(space.make_exclusive(at(BASE), Owner::new(1)).unwrap());
    drop(space.make_exclusive(at(BASE), Owner::new(2)).unwrap());
    assert_eq!(space.snapshot(at(BASE)).kind, LeafKind::DeviceExclusive);
    let object = farpage::Object::new(&w.machine);
    space.map(anon(BASE + SIZE, PAGE).backing(farpage::Backing::Shared(object), 0)).unwrap();
    let refused = space.make_exclusive(at(BASE + SIZE), Owner::new(1)).unwrap_err();
    assert_eq!(refused, ExclusiveError::NotAnonymous { address: at(BASE + SIZE) });
    assert_eq!(gpu.calls(), (0, 0, 0));
});

scenario!(exclusive_mprotect, |w, gpu| {
    let (space, all) = (w.space(), range(BASE, SIZE));
    space.map(anon(BASE, SIZE)).unwrap();
    write(&space, BASE, &pattern(SIZE, 2));
    take_and_add(w, &space);
    let mirror = Mirror::new(gpu, &space, all);
    space.protect(all, Protection::Read).unwrap();
    let refused = RangeError::Fault(FaultError::Protected { address: at(BASE) });
    assert_eq!(mirror.write(all, &pattern(SIZE, 3)).unwrap_err(), refused);
    assert_bytes(&read(&space, BASE, SIZE), &added(2));
    assert_eq!(space.snapshot(at(BASE)).kind, LeafKind::Present(Access::Read), "not more than the mapping allows");
    let refused = space.make_exclusive(at(BASE), Owner::new(1)).unwrap_err();
    assert_eq!(refused, FaultError::Protected { address: at(BASE) }.into());
    assert_eq!(gpu.calls(), (0, 0, 0));
});

scenario!(exclusive_cow, |w, gpu| {
    let space = w.space();
    space.map(anon(BASE, SIZE)).unwrap();
    write(&space, BASE, &pattern(SIZE, 4));
    take_and_add(w, &space);
    let child = space.fork().unwrap();
    let snapshot = child.snapshot(at(BASE));
    assert_eq!(snapshot.kind, LeafKind::Present(Access::Read), "restored before it is shared");
    assert_eq!((snapshot.refs, snapshot.maps), (2, 2));
    w.check();
    write(&space, BASE, &pattern(SIZE, 5));
    assert_bytes(&read(&child, BASE, SIZE), &added(4));
    write(&child, BASE, &pattern(SIZE, 6));
    assert_bytes(&read(&space, BASE, SIZE), &pattern(SIZE, 5));
    assert_eq!(w.host_used(), 2 * PAGES);
    assert_eq!(gpu.calls(), (0, 0, 0));
});
