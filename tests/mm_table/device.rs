//! Leaves of pages on devices, and of pages that a device has for itself.

use farpage::{Access, Backing, FaultError, LeafKind, Object, Order, Owner, Protection};

use crate::BASE;
use crate::mm_support::{Gpu, HUGE, Kind, Mirror, PAGE, anon, assert_bytes, at, pattern, range, read, world, write};

#[test]
fn a_page_on_a_device_is_protected_where_it_is() {
    for huge in [false, true] {
        world(|w| {
            let gpu = Gpu::new(w, Kind::Private, 1);
            let (space, all) = (w.space(), range(BASE, HUGE));
            space.map(anon(BASE, HUGE).huge(huge)).unwrap();
            write(&space, BASE, &pattern(HUGE, 31));
            assert_eq!(gpu.migrate_in(&space, all).unwrap(), 512);
            let page = BASE + 77 * PAGE;
            let before = space.snapshot(at(page));
            assert_eq!(before.kind, LeafKind::DevicePrivate(Access::Write));
            let stays = |kind: LeafKind| {
                let now = space.snapshot(at(page));
                let counts = (now.target, now.map_order, now.refs, now.maps);
                assert_eq!(counts, (before.target, before.map_order, before.refs, before.maps));
                assert_eq!(now.kind, kind);
                w.check();
            };
            let refused = FaultError::Protected { address: at(page) };
            for protection in [Protection::Read, Protection::None] {
                space.protect(all, protection).unwrap();
                stays(LeafKind::DevicePrivate(Access::Read));
                assert_eq!(space.fault(at(page), Access::Write), Err(refused));
                if protection == Protection::None {
                    assert_eq!(space.fault(at(page), Access::Read), Err(refused));
                }
                stays(LeafKind::DevicePrivate(Access::Read));
                assert_eq!(gpu.faults(), 0, "who may not have it does not bring it home");
            }
            space.protect(all, Protection::ReadWrite).unwrap();
            assert_eq!(space.snapshot(at(page)).target, before.target);
            let mirror = Mirror::new(&gpu, &space, all);
            assert_bytes(&mirror.read(all).unwrap(), &pattern(HUGE, 31));
            assert_eq!(gpu.faults(), 0);
            write(&space, page, &[5; 8]);
            assert_eq!(space.snapshot(at(page)).kind, LeafKind::Present(Access::Write));
            // One that goes under READ is READ there.
            space.protect(all, Protection::Read).unwrap();
            gpu.migrate_in(&space, all).unwrap();
            assert!(gpu.has_all(&space, all));
            assert_eq!(space.snapshot(at(page)).kind, LeafKind::DevicePrivate(Access::Read));
            assert_eq!(space.fault(at(page), Access::Write), Err(refused));
            w.check();
            let mut want = pattern(HUGE, 31);
            want[77 * PAGE as usize..][..8].fill(5);
            assert_bytes(&read(&space, BASE, HUGE), &want);
        });
    }
}

#[test]
fn single_pages_on_a_device_are_not_needed() {
    world(|w| {
        let gpu = Gpu::new(w, Kind::Private, 1);
        let (space, all) = (w.space(), range(BASE, 8 * PAGE));
        space.map(anon(BASE, 8 * PAGE)).unwrap();
        write(&space, BASE, &pattern(8 * PAGE, 32));
        assert_eq!(gpu.migrate_in(&space, all).unwrap(), 8);
        space.advise_dont_need(range(BASE + 2 * PAGE, 3 * PAGE)).unwrap();
        assert_eq!((gpu.live(), gpu.calls()), (5, (0, 3, 3)));
        w.check();
        let mut want = pattern(8 * PAGE, 32);
        want[2 * PAGE as usize..5 * PAGE as usize].fill(0);
        assert_bytes(&read(&space, BASE, 8 * PAGE), &want);
        assert_eq!((gpu.live(), gpu.calls()), (0, (5, 8, 8)));
    });
}

#[test]
fn an_exclusive_page_is_moved_elsewhere_and_passed_over_by_advice() {
    world(|w| {
        let space = w.space();
        space.map(anon(BASE, 4 * PAGE)).unwrap();
        write(&space, BASE, &pattern(4 * PAGE, 33));
        let take = |address: u64| drop(space.make_exclusive(at(address), Owner::new(1)).unwrap());
        (0..2).for_each(|page| take(BASE + page * PAGE));
        space.advise_free(range(BASE, 4 * PAGE)).unwrap();
        assert_eq!(space.reclaim(range(BASE, 4 * PAGE)).unwrap(), 2, "not the device's two");
        assert_eq!(space.snapshot(at(BASE)).kind, LeafKind::DeviceExclusive);
        w.check();
        let to = BASE + 3 * HUGE + 5 * PAGE;
        let before = space.snapshot(at(BASE));
        space.remap(range(BASE, 4 * PAGE), at(to), false).unwrap();
        let now = space.snapshot(at(to));
        assert_eq!((now.target, now.refs, now.maps), (before.target, before.refs, before.maps));
        w.check();
        let mut want = pattern(4 * PAGE, 33);
        want[2 * PAGE as usize..].fill(0);
        assert_bytes(&read(&space, to, 4 * PAGE), &want);
        assert_eq!(space.snapshot(at(to)).kind, LeafKind::Present(Access::Write));
        take(to);
        space.advise_dont_need(range(to, PAGE)).unwrap();
        assert_eq!(w.host_used(), 1, "given up like any other");
    });
}

#[test]
fn all_mappings_of_a_folio_are_write_protected_and_taken_away() {
    for (huge, on_device) in [(false, false), (false, true), (true, false), (true, true)] {
        world(|w| {
            let gpu = Gpu::new(w, Kind::Private, 1);
            let (space, all) = (w.space(), range(BASE, HUGE));
            space.map(anon(BASE, HUGE).huge(huge)).unwrap();
            write(&space, BASE, &pattern(HUGE, 34));
            let pages = if huge { 512 } else { 1 };
            let mirror = Mirror::new(&gpu, &space, all);
            if on_device {
                assert_eq!(gpu.migrate_in(&space, all).unwrap(), 512);
            }
            mirror.told.invalidations.lock().unwrap().clear();
            let leaf = space.leaf(at(BASE)).0;
            assert_eq!(leaf.access(), Some(Access::Write));
            let (changed, gone) = if on_device {
                let folio = w.device_pages.lookup(leaf).unwrap().try_get().unwrap();
                assert_eq!(folio.order(), if huge { Order::HUGE } else { Order::ZERO });
                let changed = [w.machine.write_protect_all(&folio), w.machine.write_protect_all(&folio)];
                assert_eq!(space.leaf(at(BASE)).0.access(), Some(Access::Read));
                (changed, w.machine.unmap_all(&folio))
            } else {
                let pin = space.pin(at(BASE), Access::Read).unwrap();
                let changed = [w.machine.write_protect_all(&pin), w.machine.write_protect_all(&pin)];
                assert_eq!(space.leaf(at(BASE)).0.access(), Some(Access::Read));
                (changed, w.machine.unmap_all(&pin))
            };
            assert_eq!((changed, gone), ([1, 0], 1), "one leaf, huge or not; once");
            assert!(mirror.told.invalidations.lock().unwrap().len() >= 2, "of both");
            assert_eq!(space.leaf(at(BASE)).0.kind(), LeafKind::None);
            w.check();
            assert_eq!(gpu.live(), if on_device { 512 - pages } else { 0 });
            assert_bytes(&read(&space, BASE, pages * PAGE), &vec![0; (pages * PAGE) as usize]);
        });
    }
}

#[test]
fn an_objects_page_is_found_again_when_its_mappings_are_taken_away() {
    world(|w| {
        let object = Object::new(&w.machine);
        let (one, two) = (w.space(), w.space());
        for (space, start) in [(&one, BASE), (&two, BASE + HUGE)] {
            space.map(anon(start, 2 * PAGE).backing(Backing::Shared(object.clone()), 0)).unwrap();
        }
        write(&one, BASE, &pattern(2 * PAGE, 35));
        assert_bytes(&read(&two, BASE + HUGE, 2 * PAGE), &pattern(2 * PAGE, 35));
        write(&two, BASE + HUGE, &pattern(PAGE, 35));
        let pin = one.pin(at(BASE), Access::Read).unwrap();
        assert_eq!(w.machine.write_protect_all(&pin), 2);
        write(&one, BASE, &pattern(PAGE, 36));
        assert_eq!(one.leaf(at(BASE)).0.access(), Some(Access::Write), "faulted, and in place");
        assert_eq!(w.machine.unmap_all(&pin), 2);
        assert_eq!((pin.maps(), one.leaf(at(BASE)).0.kind()), (0, LeafKind::None));
        w.check();
        assert_bytes(&read(&two, BASE + HUGE, PAGE), &pattern(PAGE, 36));
        assert_bytes(&read(&one, BASE + PAGE, PAGE), &pattern(2 * PAGE, 35)[PAGE as usize..]);
        assert_eq!(w.host_used(), 2);
    });
}
