//! 25 to 27: a device has host pages for itself, until the CPU touches them.

use farpage::{
    Access, AddressRange, AddressSpace, FaultError, InvalidationKind, LeafKind, Owner, Protection, RangeError,
};

use crate::mm_support::{Kind, Mirror, PAGE, assert_bytes, pattern};
use crate::{Real, load, real, store};

const PAGES: u64 = 16;
const SIZE: u64 = PAGES * PAGE;

/// The device takes all pages, and adds one to each word, atomically as far as the CPU can tell.
fn take_and_add<'s>(real: &Real<'_, 's>, space: &AddressSpace<'s>, all: AddressRange) {
    let memory = real.w.machine.memory();
    for page in 0..PAGES {
        let exclusive = space.make_exclusive(all.page(page).unwrap(), Owner::new(1)).unwrap();
        let mut bytes = vec![0; PAGE as usize];
        memory.read(exclusive.pfn(), 0, &mut bytes);
        for word in bytes.chunks_mut(4) {
            let value = u32::from_le_bytes(word.try_into().unwrap());
            word.copy_from_slice(&value.wrapping_add(1).to_le_bytes());
        }
        memory.write(exclusive.pfn(), 0, &bytes);
    }
}

fn added(seed: u32) -> Vec<u8> {
    let add = |word: &[u8]| u32::from_le_bytes(word.try_into().unwrap()).wrapping_add(1).to_le_bytes();
    pattern(SIZE, seed).chunks(4).flat_map(add).collect()
}

#[test]
fn exclusive() {
    real(Kind::Private, |real| {
        real.anon(SIZE, |space, view, all| {
            store(view, 0, &pattern(SIZE, 1));
            let mirror = Mirror::new(real.gpu, space, all);
            take_and_add(real, space, all);
            assert_eq!(view.counts().taken_away, PAGES, "the CPU has lost each page");
            let snapshot = space.snapshot(all.start());
            assert_eq!((snapshot.kind, snapshot.refs, snapshot.maps), (LeafKind::DeviceExclusive, 1, 1));
            assert_eq!(real.gpu.migrate_in(space, all).unwrap(), 0, "it does not move meanwhile");
            real.w.check();
            mirror.told.invalidations.lock().unwrap().clear();
            assert_bytes(&load(view, 0, SIZE), &added(1));
            let told = mirror.told.invalidations.lock().unwrap();
            assert_eq!(told.len() as u64, PAGES, "the device hears of each page that it loses");
            assert!(told.iter().all(|told| told.kind == InvalidationKind::Exclusive && told.owner.is_none()));
            drop(told);
            assert_eq!(space.snapshot(all.start()).kind, LeafKind::Present(Access::Write));
            // A store takes it back as a load does.
            take_and_add(real, space, all);
            store(view, 0, &pattern(SIZE, 2));
            assert_bytes(&mirror.read(all).unwrap(), &pattern(SIZE, 2));
        });
    });
}

#[test]
fn exclusive_mprotect() {
    real(Kind::Private, |real| {
        real.anon(SIZE, |space, view, all| {
            store(view, 0, &pattern(SIZE, 2));
            take_and_add(real, space, all);
            space.protect(all, Protection::Read).unwrap();
            let refused = RangeError::Fault(FaultError::Protected { address: all.start() });
            let mirror = Mirror::new(real.gpu, space, all);
            assert_eq!(mirror.write(all, &pattern(SIZE, 3)).unwrap_err(), refused);
            assert_bytes(&load(view, 0, SIZE), &added(2));
            assert_eq!(space.snapshot(all.start()).kind, LeafKind::Present(Access::Read));
        });
    });
}

#[test]
fn exclusive_cow() {
    real(Kind::Private, |real| {
        real.anon(SIZE, |space, view, all| {
            store(view, 0, &pattern(SIZE, 4));
            take_and_add(real, space, all);
            let child = space.fork().unwrap();
            let snapshot = child.snapshot(all.start());
            assert_eq!(snapshot.kind, LeafKind::Present(Access::Read), "restored before it is shared");
            assert_eq!((snapshot.refs, snapshot.maps), (2, 2));
            real.w.check();
            real.show(&child, all, |childs| {
                store(view, 0, &pattern(SIZE, 5));
                assert_bytes(&load(childs, 0, SIZE), &added(4));
                store(childs, 0, &pattern(SIZE, 6));
                assert_bytes(&load(view, 0, SIZE), &pattern(SIZE, 5));
                assert_eq!(real.w.host_used(), 2 * PAGES);
            });
        });
    });
}
