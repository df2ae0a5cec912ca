//! 1, 2, 4 to 8, 10, 11, 19, 20, 22: a device and the CPU read and write the same memory where it is.

use std::thread;

use farpage::{
    Access, Backing, FaultError, LeafKind, Mapping, Object, Order, Protection, RangeEntryKind, RangeError, Target,
};

use crate::mm_support::{Gpu, HUGE, Kind, Mirror, PAGE, assert_bytes, at, pattern, range, read, write};
use crate::{load, pages, store};

const PAGES: u64 = 64;
const SIZE: u64 = PAGES * PAGE;

scenario!(open_close, |real| {
    real.anon(SIZE, |space, view, all| {
        assert_eq!((view.nr_faults(), view.range(), space.leaf(all.start()).0.kind()), (0, all, LeafKind::None));
        assert_eq!(view.as_ptr().as_ptr() as u64, all.start().get(), "at the process's own addresses");
    });
    assert_eq!((real.gpu.live(), real.w.host_used()), (0, 0));
});

scenario!(anon_read, |real| {
    real.anon(SIZE, |space, view, all| {
        // The first page is written, the second read (so a zero page), the third never touched.
        let mut want = pattern(SIZE, 1);
        want[PAGE as usize..3 * PAGE as usize].fill(0);
        store(view, 0, &want[..PAGE as usize]);
        assert_bytes(&load(view, PAGE, PAGE), &want[PAGE as usize..][..PAGE as usize]);
        store(view, 3 * PAGE, &want[3 * PAGE as usize..]);
        assert!(space.snapshot(all.page(1).unwrap()).is_zero);
        assert_eq!(space.snapshot(all.page(2).unwrap()).kind, LeafKind::None);
        assert_eq!((view.nr_faults(), view.counts().mapped), (PAGES - 1, PAGES - 1), "one a page, no more");
        let mirror = Mirror::new(real.gpu, space, all);
        assert_bytes(&mirror.read(all).unwrap(), &want);
        assert_bytes(&load(view, 0, SIZE), &want);
        assert_eq!(real.w.host_used(), PAGES - 2);
        assert_bytes(&read(space, all.start().get(), SIZE), &want);
    });
});

scenario!(anon_write, |real| {
    real.anon(SIZE, |space, view, all| {
        let mirror = Mirror::new(real.gpu, space, all);
        // Pages that the CPU has as zero pages, and pages that it has not.
        assert_bytes(&load(view, 0, SIZE / 2), &vec![0; SIZE as usize / 2]);
        mirror.write(all, &pattern(SIZE, 3)).unwrap();
        assert_eq!(view.counts().taken_away, PAGES / 2, "the CPU loses the zero pages when they are replaced");
        assert_bytes(&load(view, 0, SIZE), &pattern(SIZE, 3));
        // And once more, into pages that the CPU has mapped: it sees them, and nothing is taken away.
        mirror.write(all, &pattern(SIZE, 4)).unwrap();
        assert_bytes(&load(view, 0, SIZE), &pattern(SIZE, 4));
        assert_eq!((view.counts().taken_away, real.w.host_used()), (PAGES / 2, PAGES));
    });
});

scenario!(anon_write_prot, |real| {
    real.mapped(
        SIZE,
        |all| Mapping::new(all).protection(Protection::Read),
        |space, view, all| {
            let mirror = Mirror::new(real.gpu, space, all);
            assert_bytes(&load(view, 0, SIZE), &vec![0; SIZE as usize]);
            let refused = RangeError::Fault(FaultError::Protected { address: all.start() });
            assert_eq!(mirror.write(all, &pattern(SIZE, 4)).unwrap_err(), refused);
            assert_bytes(&load(view, 0, SIZE), &vec![0; SIZE as usize]);
            space.protect(all, Protection::ReadWrite).unwrap();
            mirror.write(all, &pattern(SIZE, 4)).unwrap();
            assert_bytes(&load(view, 0, SIZE), &pattern(SIZE, 4));
            store(view, 0, &pattern(SIZE, 5));
            assert_bytes(&mirror.read(all).unwrap(), &pattern(SIZE, 5));
        },
    );
});

scenario!(anon_write_child, |real| {
    for migrated in [false, true] {
        let before = real.gpu.freed();
        real.anon(SIZE, |parent, view, all| {
            store(view, 0, &pattern(SIZE, 5));
            if migrated {
                assert_eq!(real.gpu.migrate_in(parent, all).unwrap(), PAGES);
            }
            let child = parent.fork().unwrap();
            let shared = child.snapshot(all.start());
            assert_eq!((shared.refs, shared.maps, shared.leaf.access()), (2, 2, Some(Access::Read)));
            real.w.check();
            real.show(&child, all, |childs| {
                let mirror = Mirror::new(real.gpu, &child, all);
                assert_bytes(&load(childs, 0, SIZE), &pattern(SIZE, 5));
                mirror.write(all, &pattern(SIZE, 6)).unwrap();
                assert_bytes(&load(view, 0, SIZE), &pattern(SIZE, 5));
                assert_bytes(&load(childs, 0, SIZE), &pattern(SIZE, 6));
                // The CPU's own stores, on either side, are as private.
                store(view, 0, &pattern(PAGE, 7));
                store(childs, PAGE, &pattern(PAGE, 8));
                assert_bytes(&load(childs, 0, PAGE), &pattern(SIZE, 6)[..PAGE as usize]);
                assert_bytes(&load(view, PAGE, PAGE), &pattern(SIZE, 5)[PAGE as usize..][..PAGE as usize]);
                real.w.check();
            });
        });
        assert_eq!((real.w.host_used(), real.gpu.live()), (0, 0));
        assert_eq!(real.gpu.freed() - before, if migrated { PAGES } else { 0 });
    }
});

scenario!(anon_write_child_shared, |real| {
    let object = Object::new(&real.w.machine);
    real.mapped(
        SIZE,
        |all| Mapping::new(all).backing(Backing::Shared(object), 0),
        |parent, view, all| {
            store(view, 0, &pattern(SIZE, 7));
            let child = parent.fork().unwrap();
            real.show(&child, all, |childs| {
                let mirror = Mirror::new(real.gpu, &child, all);
                mirror.write(all, &pattern(SIZE, 8)).unwrap();
                assert_bytes(&load(view, 0, SIZE), &pattern(SIZE, 8));
                store(childs, 0, &pattern(SIZE, 9));
                assert_bytes(&load(view, 0, SIZE), &pattern(SIZE, 9));
                assert_eq!(real.w.host_used(), PAGES, "one page, in two page tables of this process");
            });
        },
    );
});

scenario!(anon_write_huge, |real| {
    let (space, all) = (real.w.space(), range(0x5500_0020_0000, HUGE));
    space.map(Mapping::new(all).huge(true)).unwrap();
    real.show(&space, all, |view| {
        let mirror = Mirror::new(real.gpu, &space, all);
        mirror.write(all, &pattern(HUGE, 9)).unwrap();
        assert_eq!(space.snapshot(all.start()).map_order, Order::HUGE);
        assert_bytes(&load(view, 0, HUGE), &pattern(HUGE, 9));
        store(view, 0, &pattern(HUGE, 10));
        assert_eq!(space.snapshot(all.start()).map_order, Order::HUGE, "the CPU's pages are small, the leaf is not");
        assert_bytes(&mirror.read(all).unwrap(), &pattern(HUGE, 10));
        assert_eq!(real.w.host_used(), 512);
    });
});

scenario!(file_read, |real| {
    let file = Object::new(&real.w.machine);
    file.write(0, &pattern(SIZE, 11)).unwrap();
    let make = |all| Mapping::new(all).protection(Protection::Read).backing(Backing::Shared(file), 0);
    real.mapped(SIZE, make, |space, view, all| {
        assert_bytes(&load(view, 0, SIZE), &pattern(SIZE, 11));
        let mirror = Mirror::new(real.gpu, space, all);
        assert_bytes(&mirror.read(all).unwrap(), &pattern(SIZE, 11));
        assert_eq!((real.gpu.migrate_in(space, all), real.gpu.live()), (Ok(0), 0));
    });
});

scenario!(file_write, |real| {
    let file = Object::new(&real.w.machine);
    let make = |all| Mapping::new(all).backing(Backing::Shared(file.clone()), 0);
    real.mapped(SIZE, make, |space, view, all| {
        let mut bytes = vec![0; SIZE as usize];
        store(view, 0, &pattern(SIZE, 12));
        file.read(0, &mut bytes).unwrap();
        assert_bytes(&bytes, &pattern(SIZE, 12));
        Mirror::new(real.gpu, space, all).write(all, &pattern(SIZE, 13)).unwrap();
        assert_bytes(&load(view, 0, SIZE), &pattern(SIZE, 13));
        file.read(0, &mut bytes).unwrap();
        assert_bytes(&bytes, &pattern(SIZE, 13));
    });
});

scenario!(anon_read_multiple, |real| {
    for time in 0..10 {
        real.anon(SIZE, |space, view, all| {
            store(view, 0, &pattern(SIZE, time));
            assert_bytes(&Mirror::new(real.gpu, space, all).read(all).unwrap(), &pattern(SIZE, time));
        });
    }
    assert_eq!(real.w.host_used(), 0);
});

scenario!(
    /// A thread unmaps half of the buffer while the device reads it and the CPU the other half.
    anon_teardown, |real| {
    for time in 0..10u32 {
        real.anon(SIZE, |space, view, all| {
            let (first, half) = (pages(all, 0, PAGES / 2), pages(all, PAGES / 2, PAGES / 2));
            store(view, 0, &pattern(SIZE, time));
            real.gpu.migrate_in(space, pages(all, PAGES / 4, PAGES / 2)).unwrap();
            let mirror = Mirror::new(real.gpu, space, all);
            thread::scope(|scope| {
                scope.spawn(|| space.unmap(half).unwrap());
                for _ in 0..4 {
                    match mirror.read(all) {
                        Ok(bytes) => assert_bytes(&bytes, &pattern(SIZE, time)),
                        Err(RangeError::Fault(FaultError::NotMapped { address })) => assert!(half.contains(address)),
                        Err(error) => panic!("{error}"),
                    }
                    assert_bytes(&load(view, 0, SIZE / 2), &pattern(SIZE, time)[..SIZE as usize / 2]);
                }
            });
            assert_bytes(&mirror.read(first).unwrap(), &pattern(SIZE, time)[..SIZE as usize / 2]);
        });
        assert_eq!((real.gpu.live(), real.w.host_used()), (0, 0));
    }
});

scenario!(snapshot, |real| {
    let other = Gpu::new(real.w, real.gpu.kind, 2);
    real.anon(7 * PAGE, |space, view, all| {
        let page = |page: u64| pages(all, page, 1);
        space.protect(page(0), Protection::None).unwrap();
        load(view, 2 * PAGE, 4); // zero; nothing at 1
        (3..7).for_each(|page| store(view, page * PAGE, &pattern(PAGE, page as u32)));
        space.protect(page(3), Protection::Read).unwrap();
        real.gpu.migrate_in(space, page(5)).unwrap();
        other.migrate_in(space, page(6)).unwrap();
        let seen = Mirror::new(real.gpu, space, all).ask(all, None).unwrap();
        let kinds: Vec<_> = seen.iter().map(|entry| entry.kind()).collect();
        assert_eq!(kinds[..2], [RangeEntryKind::Error, RangeEntryKind::Hole]);
        for (page, access) in [(2, Access::Read), (3, Access::Read), (4, Access::Write)] {
            assert!(matches!(kinds[page], RangeEntryKind::Page(Target::Host(_), has) if has == access), "page {page}");
        }
        let own = space.snapshot(page(5).start()).target.unwrap();
        assert_eq!(kinds[5], RangeEntryKind::Page(own, Access::Write));
        match real.gpu.kind {
            Kind::Private => assert_eq!(kinds[6], RangeEntryKind::Hole, "another owner's is not told"),
            Kind::Visible => assert!(matches!(kinds[6], RangeEntryKind::Page(Target::Host(_), Access::Write))),
        }
        assert_eq!((real.gpu.faults(), other.faults(), real.gpu.live(), other.live()), (0, 0, 1, 1));
        for page in 3..7 {
            assert_bytes(&load(view, page * PAGE, PAGE), &pattern(PAGE, page as u32));
        }
        let home = u64::from(real.gpu.kind == Kind::Private);
        assert_eq!((real.gpu.faults(), other.faults()), (home, home), "the CPU's loads bring private pages home");
    });
});

#[test]
fn pages_that_the_cpu_has_are_those_that_the_software_table_names() {
    crate::real(Kind::Private, |real| {
        real.anon(4 * PAGE, |space, view, all| {
            store(view, 0, &pattern(4 * PAGE, 1));
            let frame = space.pin(all.page(2).unwrap(), Access::Read).unwrap();
            let mut bytes = vec![0; PAGE as usize];
            real.w.machine.memory().read(frame.pfn(), 0, &mut bytes);
            assert_bytes(&bytes, &pattern(4 * PAGE, 1)[2 * PAGE as usize..][..PAGE as usize]);
            write(space, all.start().get() + 2 * PAGE, &[0x77; 4]);
            assert_bytes(&load(view, 2 * PAGE, 4), &[0x77; 4]);
            assert_eq!(space.snapshot(at(all.start().get() + 2 * PAGE)).maps, 1);
        });
    });
}
