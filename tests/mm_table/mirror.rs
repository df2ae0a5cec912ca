//! What a range's request asks of its pages, entry by entry.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use farpage::{
    Access, FaultError, IntervalOps, LeafKind, MigrateBatch, Owner, RangeEntry, RangeEntryKind, RangeError, RangeFault,
};

use crate::BASE;
use crate::mm_support::{Gpu, HUGE, Kind, PAGE, Told, anon, assert_bytes, at, pattern, range, read, world, write};

#[test]
fn each_entry_asks_for_its_own_page_and_the_request_for_all() {
    world(|w| {
        let (space, all) = (w.space(), range(BASE, 6 * PAGE));
        space.map(anon(BASE, 6 * PAGE)).unwrap();
        let asked = [None, Some(Access::Read), Some(Access::Write), None, Some(Access::Write), Some(Access::Read)];
        let mut entries = asked.map(RangeEntry::request);
        space.range_fault(&RangeFault::new(all), &mut entries).unwrap();
        let seen = entries.map(|entry| entry.access());
        assert_eq!(seen, asked, "as asked, no more: a hole stays a hole, a read gets a zero page");
        assert_eq!(w.host_used(), 2);
        // A default beside them: the larger of the two holds.
        let mut entries = asked.map(RangeEntry::request);
        space.range_fault(&RangeFault::new(all).request(Access::Read), &mut entries).unwrap();
        let least = asked.map(|asked| asked.or(Some(Access::Read)));
        assert_eq!(entries.map(|entry| entry.access()), least);
        assert_eq!(w.host_used(), 2);
        space.range_fault(&RangeFault::new(all).request(Access::Write), &mut [RangeEntry::HOLE; 6]).unwrap();
        assert_eq!(w.host_used(), 6);
        w.check();
    });
}

#[test]
fn a_write_protected_page_of_a_device_is_not_given_out_to_be_written() {
    for huge in [false, true] {
        world(|w| {
            let gpu = Gpu::new(w, Kind::Private, 1);
            let (space, all) = (w.space(), range(BASE, HUGE));
            space.map(anon(BASE, HUGE).huge(huge)).unwrap();
            write(&space, BASE, &pattern(HUGE, 51));
            assert_eq!(gpu.migrate_in(&space, all).unwrap(), 512);
            space.write_protect(all, true).unwrap();
            let (before, page) = (space.snapshot(at(BASE)), range(BASE, PAGE));
            let request = RangeFault::new(page).owner(Owner::new(1));
            let mut entries = [RangeEntry::request(Some(Access::Read))];
            space.range_fault(&request, &mut entries).unwrap();
            assert_eq!(entries[0].access(), Some(Access::Read), "marked, it is not shown as one to write");
            // Asked for to be written, it is shown as what it is, as Linux does; the fault that would change it is refused.
            let mut entries = [RangeEntry::HOLE];
            space.range_fault(&request.request(Access::Write), &mut entries).unwrap();
            assert_eq!((entries[0].access(), entries[0].target()), (Some(Access::Read), before.target));
            assert_eq!(space.fault(at(BASE), Access::Write), Err(FaultError::WriteProtected { address: at(BASE) }));
            assert_eq!((space.snapshot(at(BASE)), gpu.faults()), (before, 0), "refused where it is");
            space.write_protect(all, false).unwrap();
            w.check();
            assert_bytes(&read(&space, BASE, HUGE), &pattern(HUGE, 51));
        });
    }
}

/// Under a number of before a migration the answer is busy, at once. Under one of afterwards, a page on its way is waited for.
#[test]
fn a_page_on_its_way_is_waited_for() {
    world(|w| {
        let gpu = Gpu::new(w, Kind::Private, 1);
        let (space, all) = (w.space(), range(BASE, 2 * PAGE));
        space.map(anon(BASE, 2 * PAGE)).unwrap();
        write(&space, BASE, &pattern(2 * PAGE, 52));
        assert_eq!(gpu.migrate_in(&space, all).unwrap(), 2);
        let told = Arc::new(Told::default());
        let interval = space.subscribe(all, None, told as Arc<dyn IntervalOps>);
        let old = interval.read_begin(Duration::ZERO).unwrap();
        let mut batch = MigrateBatch::new();
        let mut migration = w.machine.migrate_device_range(&mut batch, gpu.device.range());
        assert!(matches!(space.leaf(at(BASE)).0.kind(), LeafKind::Migration(_)));
        let request = RangeFault::new(all).owner(Owner::new(1)).request(Access::Read);
        assert_eq!(
            space.range_fault(&request.under(&interval, old), &mut [RangeEntry::HOLE; 2]),
            Err(RangeError::Busy)
        );
        let mut looked = [RangeEntry::HOLE; 2];
        space.range_fault(&RangeFault::new(all), &mut looked).unwrap();
        assert_eq!(looked, [RangeEntry::HOLE; 2], "who only looks does not wait");
        let new = interval.read_begin(Duration::from_secs(60)).unwrap();
        thread::scope(|scope| {
            let asker = scope.spawn(|| {
                let mut entries = [RangeEntry::HOLE; 2];
                space.range_fault(&request.under(&interval, new), &mut entries).map(|()| entries)
            });
            thread::sleep(Duration::from_millis(30));
            assert!(!asker.is_finished(), "it waits");
            gpu.vram.to_host(&mut migration).unwrap();
            assert_eq!(migration.pages(), 2);
            migration.finalize();
            let home = |entry: RangeEntry| matches!(entry.kind(), RangeEntryKind::Page(farpage::Target::Host(_), _));
            assert!(asker.join().unwrap().unwrap().into_iter().all(home));
        });
        assert_eq!(
            space.range_fault(&request.under(&interval, old), &mut [RangeEntry::HOLE; 2]),
            Err(RangeError::Busy)
        );
        w.check();
        assert_bytes(&read(&space, BASE, 2 * PAGE), &pattern(2 * PAGE, 52));
    });
}
