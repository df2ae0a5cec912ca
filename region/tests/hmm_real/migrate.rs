//! 12, 14, 15, 18, 24, 28, 29, 33 to 35: pages move, and the CPU's loads and stores go after them.

use std::time::Duration;

use farpage::{Access, LeafKind, Mapping, Order};

use crate::mm_support::{Gpu, HUGE, Kind, Mirror, PAGE, assert_bytes, at, pattern, range};
use crate::{load, pages, store};

const PAGES: u64 = 64;
const SIZE: u64 = PAGES * PAGE;

scenario!(migrate, |real| {
    let gpu = real.gpu;
    real.anon(SIZE, |space, view, all| {
        store(view, 0, &pattern(SIZE, 1));
        assert_eq!(gpu.migrate_in(space, all).unwrap(), PAGES);
        assert!(gpu.has_all(space, all));
        assert_eq!((gpu.live(), gpu.freed(), real.w.host_used()), (PAGES, 0, 0));
        assert_eq!(view.counts().taken_away, PAGES, "the CPU has none of them");
        assert_bytes(&Mirror::new(gpu, space, all).read(all).unwrap(), &pattern(SIZE, 1));
        assert_eq!(gpu.faults(), 0, "the device reads its own where it is");
        space.unmap(all).unwrap();
        assert_eq!((gpu.live(), gpu.freed()), (0, PAGES));
    });
});

scenario!(migrate_fault, |real| {
    let gpu = real.gpu;
    real.anon(SIZE, |space, view, all| {
        store(view, 0, &pattern(SIZE, 4));
        gpu.migrate_in(space, all).unwrap();
        let faults = view.nr_faults();
        assert_bytes(&load(view, 0, SIZE / 2), &pattern(SIZE, 4)[..SIZE as usize / 2]);
        assert_eq!(view.nr_faults() - faults, PAGES / 2, "one of the CPU's a page");
        if gpu.kind == Kind::Private {
            assert_eq!((gpu.faults(), gpu.live(), gpu.freed()), (PAGES / 2, PAGES / 2, PAGES / 2));
            assert_eq!(gpu.migrate_in(space, all).unwrap(), PAGES / 2, "those that are not there already");
        }
        assert!(gpu.has_all(space, all));
        assert_eq!(gpu.live(), PAGES);
        real.w.check();
        let mirror = Mirror::new(gpu, space, all);
        assert_bytes(&mirror.read(all).unwrap(), &pattern(SIZE, 4));
        // The device writes its own, and the CPU's load finds that; the CPU's store is what the device reads then.
        mirror.write(all, &pattern(SIZE, 5)).unwrap();
        assert_bytes(&load(view, 0, SIZE), &pattern(SIZE, 5));
        store(view, 0, &pattern(SIZE, 6));
        assert_bytes(&mirror.read(all).unwrap(), &pattern(SIZE, 6));
    });
});

scenario!(migrate_release, |real| {
    let gpu = real.gpu;
    real.anon(SIZE, |space, view, all| {
        store(view, 0, &pattern(SIZE, 5));
        gpu.migrate_in(space, all).unwrap();
        let child = space.fork().unwrap();
        gpu.device.kill();
        assert_eq!(gpu.evict(), PAGES);
        assert_eq!((gpu.live(), gpu.freed(), real.w.host_used()), (0, PAGES, PAGES), "one page home for both");
        real.w.check();
        gpu.device.drain(Duration::ZERO).unwrap();
        real.w.machine.detach(&gpu.device);
        gpu.device.clone().unregister().unwrap();
        real.show(&child, all, |childs| {
            assert_bytes(&load(view, 0, SIZE), &pattern(SIZE, 5));
            assert_bytes(&load(childs, 0, SIZE), &pattern(SIZE, 5));
            assert_eq!((gpu.faults(), real.w.host_used()), (0, PAGES), "late faults find host pages");
            store(childs, 0, &pattern(SIZE, 6));
            assert_bytes(&load(view, 0, SIZE), &pattern(SIZE, 5));
        });
    });
});

scenario!(migrate_multiple, |real| {
    let gpu = real.gpu;
    for time in 0..10 {
        real.anon(SIZE, |space, view, all| {
            store(view, 0, &pattern(SIZE, time));
            assert_eq!(gpu.migrate_in(space, all).unwrap(), PAGES);
            assert_bytes(&Mirror::new(gpu, space, all).read(all).unwrap(), &pattern(SIZE, time));
            assert_eq!(gpu.migrate_out(space, all).unwrap(), PAGES);
            assert_eq!((gpu.live(), gpu.freed(), real.w.host_used()), (0, PAGES * u64::from(time + 1), PAGES));
            assert_bytes(&load(view, 0, SIZE), &pattern(SIZE, time));
        });
    }
    assert_eq!(real.w.host_used(), 0);
});

scenario!(double_map, |real| {
    let (gpu, other) = (real.gpu, Gpu::new(real.w, real.gpu.kind, 2));
    real.anon(6 * PAGE, |space, view, all| {
        store(view, 0, &pattern(6 * PAGE, 8));
        let (mine, others) = (Mirror::new(gpu, space, all), Mirror::new(&other, space, all));
        assert_bytes(&mine.read(all).unwrap(), &pattern(6 * PAGE, 8));
        assert_bytes(&others.read(all).unwrap(), &pattern(6 * PAGE, 8));
        assert_eq!(gpu.migrate_in(space, all).unwrap(), 6);
        assert!(!others.told.invalidations.lock().unwrap().is_empty(), "the other device drops what it mirrors");
        assert_bytes(&others.read(all).unwrap(), &pattern(6 * PAGE, 8));
        let home = if gpu.kind == Kind::Private { 6 } else { 0 };
        assert_eq!((gpu.live(), gpu.faults()), (6 - home, home), "another's private pages come home to be read");
        assert_bytes(&load(view, 0, 6 * PAGE), &pattern(6 * PAGE, 8));
        assert_eq!(gpu.faults(), home, "for the CPU, too");
    });
});

scenario!(
    /// What a device writes into a pinned page, by its number, is what the CPU then loads.
    hmm_gup_test, |real| {
    let gpu = real.gpu;
    real.anon(4 * PAGE, |space, view, all| {
        store(view, 0, &pattern(4 * PAGE, 9));
        gpu.migrate_in(space, all).unwrap();
        let pin = space.pin(all.start(), Access::Write).unwrap();
        assert_bytes(&load(view, 0, PAGE), &pattern(4 * PAGE, 9)[..PAGE as usize]);
        real.w.machine.memory().write(pin.pfn(), 0, &[0xab; 16]);
        assert_bytes(&load(view, 0, 16), &[0xab; 16]);
        store(view, 16, &[0xcd; 16]);
        let mut bytes = [0; 32];
        real.w.machine.memory().read(pin.pfn(), 0, &mut bytes);
        assert_eq!((&bytes[..16], &bytes[16..]), (&[0xab; 16][..], &[0xcd; 16][..]));
        let first = pages(all, 0, 1);
        let moved = match gpu.kind {
            Kind::Private => gpu.migrate_in(space, first),
            Kind::Visible => gpu.migrate_out(space, first),
        };
        assert_eq!(moved, Ok(0), "a pinned page stays");
        drop(pin);
        assert_bytes(&load(view, 0, 16), &[0xab; 16]);
    });
});

scenario!(hmm_cow_in_device, |real| {
    let gpu = real.gpu;
    real.anon(SIZE, |parent, view, all| {
        store(view, 0, &pattern(SIZE, 10));
        gpu.migrate_in(parent, all).unwrap();
        let child = parent.fork().unwrap();
        store(view, 0, &pattern(SIZE, 11));
        real.show(&child, all, |childs| assert_bytes(&load(childs, 0, SIZE), &pattern(SIZE, 10)));
        real.w.check();
        drop(child); // killed
        assert_eq!((gpu.live(), real.w.host_used()), (0, PAGES));
        assert_bytes(&load(view, 0, SIZE), &pattern(SIZE, 11));
        assert!(matches!(parent.snapshot(all.start()).kind, LeafKind::Present(Access::Write)));
    });
});

scenario!(migrate_anon_huge_fault, |real| {
    let (gpu, space, all) = (real.gpu, real.w.space(), range(0x5500_0020_0000, HUGE));
    space.map(Mapping::new(all).huge(true)).unwrap();
    real.show(&space, all, |view| {
        store(view, 0, &pattern(HUGE, 1));
        assert_eq!(gpu.migrate_in(&space, all).unwrap(), 512);
        let snapshot = space.snapshot(all.start());
        assert_eq!((snapshot.map_order, snapshot.folio_order, gpu.live()), (Order::HUGE, Order::HUGE, 512));
        assert_bytes(&load(view, 5 * PAGE, 8), &pattern(HUGE, 1)[5 * PAGE as usize..][..8]);
        if gpu.kind == Kind::Private {
            assert_eq!((gpu.faults(), gpu.live(), real.w.host_used()), (1, 0, 512), "home whole, by one fault");
        }
        assert_eq!(space.snapshot(all.start()).map_order, Order::HUGE);
        assert_bytes(&load(view, 0, HUGE), &pattern(HUGE, 1));
    });
});

scenario!(migrate_partial_unmap_fault, |real| {
    let gpu = real.gpu;
    for huge in [false, true] {
        for first in [0, 128, 256] {
            let (space, all) = (real.w.space(), range(0x5500_0020_0000, HUGE));
            space.map(Mapping::new(all).huge(huge)).unwrap();
            real.show(&space, all, |view| {
                store(view, 0, &pattern(HUGE, first));
                assert_eq!(gpu.migrate_in(&space, all).unwrap(), 512);
                space.unmap(pages(all, u64::from(first), 256)).unwrap();
                let gone = u64::from(first) * PAGE..(u64::from(first) + 256) * PAGE;
                for page in (0..512).map(|page| page * PAGE).filter(|byte| !gone.contains(byte)) {
                    assert_bytes(&load(view, page, PAGE), &pattern(HUGE, first)[page as usize..][..PAGE as usize]);
                }
                real.w.check();
            });
            drop(space);
            assert_eq!((gpu.live(), real.w.host_used()), (0, 0));
        }
    }
});

scenario!(migrate_remap_fault, |real| {
    let (gpu, space) = (real.gpu, real.w.space());
    for before in [false, true] {
        let (from, to) = (range(0x5500_0020_0000, SIZE), range(0x5600_0020_3000, SIZE));
        space.map(Mapping::new(from)).unwrap();
        real.show(&space, from, |view| {
            store(view, 0, &pattern(SIZE, 2));
            if !before {
                assert_eq!(gpu.migrate_in(&space, from).unwrap(), PAGES);
            }
            space.remap(from, at(to.start().get()), false).unwrap();
        });
        if before {
            assert_eq!(gpu.migrate_in(&space, to).unwrap(), PAGES);
        }
        real.show(&space, to, |view| assert_bytes(&load(view, 0, SIZE), &pattern(SIZE, 2)));
        real.w.check();
        space.unmap(to).unwrap();
        assert_eq!((gpu.live(), real.w.host_used()), (0, 0));
    }
});
