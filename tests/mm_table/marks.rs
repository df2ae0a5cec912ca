//! The write-protect mark, wherever a leaf is rewritten.

use farpage::{Access, AddressSpace, FaultError, LeafKind, Order, Owner};

use crate::BASE;
use crate::mm_support::{Gpu, HUGE, Kind, PAGE, anon, assert_bytes, at, pattern, range, read, world, write};

#[track_caller]
fn is_marked(space: &AddressSpace<'_>, pages: u64) {
    let marked = |page: &u64| space.leaf(at(BASE + page * PAGE)).0.is_write_protect();
    assert_eq!((0..pages).filter(marked).count() as u64, pages);
    assert_eq!(space.write(at(BASE), &[1]).unwrap_err().fault, FaultError::WriteProtected { address: at(BASE) });
}

#[test]
fn a_mark_survives_exclusive_access() {
    world(|w| {
        let space = w.space();
        space.map(anon(BASE, PAGE)).unwrap();
        write(&space, BASE, &pattern(PAGE, 41));
        drop(space.make_exclusive(at(BASE), Owner::new(1)).unwrap());
        space.write_protect(range(BASE, PAGE), true).unwrap();
        assert_eq!(space.leaf(at(BASE)).0.kind(), LeafKind::DeviceExclusive);
        assert!(space.leaf(at(BASE)).0.is_write_protect());
        assert_bytes(&read(&space, BASE, PAGE), &pattern(PAGE, 41));
        is_marked(&space, 1);
        let refused = space.make_exclusive(at(BASE), Owner::new(1)).unwrap_err();
        assert_eq!(refused, FaultError::WriteProtected { address: at(BASE) }.into());
        w.check();
    });
}

#[test]
fn a_mark_stays_on_the_pages_beside_a_copy() {
    for huge in [false, true] {
        world(|w| {
            let space = w.space();
            space.map(anon(BASE, HUGE).huge(huge)).unwrap();
            write(&space, BASE, &pattern(HUGE, 42));
            space.clear_soft_dirty(range(BASE, HUGE)).unwrap();
            let child = space.fork().unwrap();
            child.write_protect(range(BASE, 8 * PAGE), true).unwrap();
            write(&child, BASE + 8 * PAGE, &[1]);
            is_marked(&child, 8);
            let copy = child.leaf(at(BASE + 8 * PAGE)).0;
            assert_eq!((copy.is_write_protect(), copy.is_soft_dirty()), (false, true));
            // The mark taken back, the write copies.
            child.write_protect(range(BASE, PAGE), false).unwrap();
            write(&child, BASE, &[2]);
            let copy = child.leaf(at(BASE)).0;
            assert_eq!(
                (copy.is_write_protect(), copy.is_soft_dirty(), copy.access()),
                (false, true, Some(Access::Write))
            );
            assert!(!space.leaf(at(BASE)).0.is_write_protect() && !space.leaf(at(BASE)).0.is_soft_dirty());
            assert_bytes(&read(&space, BASE, HUGE), &pattern(HUGE, 42));
            w.check();
        });
    }
}

/// A zero page, of 4 KiB or 2 MiB, whose place a page of a device takes; whole, or in 512 pieces.
#[test]
fn a_mark_of_a_zero_page_is_the_mark_of_what_replaces_it() {
    for kind in [Kind::Private, Kind::Visible] {
        for (huge, in_pieces) in [(false, false), (true, false), (true, true)] {
            world(|w| {
                let gpu = Gpu::new(w, kind, 1);
                let (space, all) = (w.space(), range(BASE, HUGE));
                space.map(anon(BASE, HUGE).huge(huge)).unwrap();
                read(&space, BASE, HUGE);
                space.write_protect(all, true).unwrap();
                assert!(space.snapshot(at(BASE)).is_zero);
                if in_pieces {
                    gpu.fail_next_large();
                }
                assert_eq!(gpu.migrate_in(&space, all).unwrap(), 512);
                assert!(gpu.has_all(&space, all));
                let order = if huge && !in_pieces { Order::HUGE } else { Order::ZERO };
                assert_eq!(space.snapshot(at(BASE + PAGE)).folio_order, order);
                is_marked(&space, 512);
                gpu.migrate_out(&space, all).unwrap();
                is_marked(&space, 512);
                w.check();
                assert_bytes(&read(&space, BASE, HUGE), &vec![0; HUGE as usize]);
            });
        }
    }
}

#[test]
fn a_mark_of_a_huge_page_is_that_of_its_512() {
    for kind in [Kind::Private, Kind::Visible] {
        world(|w| {
            let gpu = Gpu::new(w, kind, 1);
            let (space, all) = (w.space(), range(BASE, HUGE));
            space.map(anon(BASE, HUGE).huge(true)).unwrap();
            write(&space, BASE, &pattern(HUGE, 43));
            space.write_protect(all, true).unwrap();
            gpu.fail_next_large();
            assert_eq!(gpu.migrate_in(&space, all).unwrap(), 512);
            assert_eq!(space.snapshot(at(BASE)).folio_order, Order::ZERO);
            is_marked(&space, 512);
            assert_eq!(gpu.evict(), 512);
            is_marked(&space, 512);
            // And in pieces on the way home.
            space.unmap(all).unwrap();
            space.map(anon(BASE, HUGE).huge(true)).unwrap();
            write(&space, BASE, &pattern(HUGE, 44));
            assert_eq!(gpu.migrate_in(&space, all).unwrap(), 512);
            space.write_protect(all, true).unwrap();
            gpu.fail_next_large();
            assert_eq!(gpu.migrate_out(&space, all).unwrap(), 512);
            assert_eq!(space.snapshot(at(BASE)).map_order, Order::ZERO);
            is_marked(&space, 512);
            w.check();
            assert_bytes(&read(&space, BASE, HUGE), &pattern(HUGE, 44));
        });
    }
}
