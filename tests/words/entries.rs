//! The slots of migrations and range snapshots, and what they name.

use super::*;
use farpage::{MigrateEntryKind, RangeEntryKind};

fn targets() -> impl Iterator<Item = Target> {
    NUMBERS.into_iter().flat_map(|n| [Target::Host(pfn(n)), Target::Device(offset(n))])
}

#[test]
fn every_migrate_entry_goes_round() {
    for (target, set) in targets().flat_map(|target| every_set_of_flags::<3>().map(move |set| (target, set))) {
        let [migrate, write, compound] = set;
        let entry = MigrateEntry::page(target).with_migrate(migrate).with_write(write).with_compound(compound);
        assert_eq!(entry.kind(), MigrateEntryKind::Page(target));
        assert_eq!((entry.target(), entry.is_valid(), entry.is_hole()), (Some(target), true, false));
        assert_eq!([entry.is_migrate(), entry.is_write(), entry.is_compound()], set);
        assert_eq!(entry.is_device_private(), target.offset().is_some());
        let page = entry.for_page(0);
        assert_eq!(page, compound.then_some(entry.with_compound(false)));
        let last = entry.for_page(511).map(|entry| (entry.target(), entry.is_compound(), entry.is_write()));
        let further = target.checked_add(511).filter(|_| compound);
        assert_eq!(last, further.map(|target| (Some(target), false, write)));
        assert_eq!(entry.for_page(512), None);
    }
    // As Linux writes them.
    assert_eq!(MigrateEntry::host(pfn(5)).bits(), 5 << 6 | 1);
    assert_eq!(MigrateEntry::device(offset(5)).with_write(true).bits(), 5 << 6 | 0b10_1001);
    assert_eq!(MigrateEntry::hole().bits(), 0b10);
}

#[test]
fn a_hole_is_filled_or_not_and_nothing_else() {
    let hole = MigrateEntry::hole();
    assert_eq!((hole.kind(), hole.target(), hole.is_migrate()), (MigrateEntryKind::Hole, None, true));
    assert_eq!((hole.with_write(true), hole.with_migrate(true)), (hole, hole));
    assert_eq!(hole.with_compound(true).with_migrate(false), MigrateEntry::EMPTY);
    assert_eq!(hole.with_compound(true).for_page(511), Some(hole));
    assert_eq!(hole.for_page(0), None, "it is one page already");
    let empty = MigrateEntry::EMPTY;
    assert_eq!((empty.kind(), empty.with_migrate(true)), (MigrateEntryKind::Empty, empty));
    assert_eq!((empty.with_write(true), empty.with_compound(true)), (empty, empty));
    let on_device_without_page = MigrateEntry::from_bits(1 << 5 | 1 << 1);
    assert_eq!(on_device_without_page.kind(), MigrateEntryKind::Unknown);
    assert!(!on_device_without_page.is_migrate() && !on_device_without_page.is_device_private());
}

#[test]
fn every_range_entry_goes_round() {
    for (target, access) in targets().flat_map(|target| ACCESSES.map(|access| (target, access))) {
        for (map_order, set) in (0..=18).flat_map(|n| every_set_of_flags::<3>().map(move |set| (order(n), set))) {
            let [dma_mapped, p2pdma, p2pdma_bus] = set;
            let sticky = RangeEntry::HOLE.with_dma_mapped(dma_mapped).with_p2pdma(p2pdma).with_p2pdma_bus(p2pdma_bus);
            let entry = sticky.answer(RangeEntry::page(target, access).with_map_order(map_order));
            assert_eq!(entry.kind(), RangeEntryKind::Page(target, access));
            assert_eq!((entry.target(), entry.access()), (Some(target), Some(access)));
            assert_eq!(entry.map_order(), Some(map_order));
            assert_eq!(entry.is_device_private(), target.offset().is_some());
            assert_eq!([entry.is_dma_mapped(), entry.is_p2pdma(), entry.is_p2pdma_bus()], set);
            let last = entry.for_page(map_order.nr_pages() - 1);
            let further = target.checked_add(map_order.nr_pages() - 1);
            assert_eq!(last, further.map(|t| sticky.answer(RangeEntry::page(t, access).with_map_order(map_order))));
            assert_eq!(entry.for_page(map_order.nr_pages()), None);

            // The array is used again: what the driver noted stays, the answer goes.
            assert_eq!(entry.with_request(None), sticky);
            assert_eq!(entry.answer(RangeEntry::HOLE).kind(), RangeEntryKind::Hole);
            let failed = entry.answer(RangeEntry::ERROR.with_dma_mapped(!dma_mapped));
            assert_eq!((failed.kind(), failed.target()), (RangeEntryKind::Error, None));
            assert_eq!([failed.is_dma_mapped(), failed.is_p2pdma(), failed.is_p2pdma_bus()], set);
        }
    }
    // As Linux writes them.
    assert_eq!(RangeEntry::host(pfn(5), Access::Write).bits(), 3 << 62 | 5);
    let on_device = RangeEntry::device(offset(5), Access::Read).with_map_order(Order::HUGE);
    assert_eq!(on_device.bits(), 1 << 63 | 1 << 57 | 9 << 52 | 5);
    assert_eq!(RangeEntry::ERROR.bits(), 1 << 61);
}

#[test]
fn a_request_is_read_as_it_was_made() {
    for access in [None, Some(Access::Read), Some(Access::Write)] {
        let request = RangeEntry::request(access).with_dma_mapped(true);
        assert_eq!(request.requested(), access);
        assert_eq!(request.with_request(None), RangeEntry::HOLE.with_dma_mapped(true));
    }
    let write_alone = RangeEntry::from_bits(1 << 62);
    assert_eq!((write_alone.requested(), write_alone.kind()), (None, RangeEntryKind::Unknown));
    assert_eq!(RangeEntry::HOLE.with_map_order(Order::HUGE), RangeEntry::HOLE);
    assert_eq!((RangeEntry::HOLE.for_page(0), RangeEntry::ERROR.for_page(0)), (None, None));
    let order_19 = RangeEntry::from_bits(1 << 63 | 19 << 52);
    assert_eq!((order_19.kind(), order_19.map_order()), (RangeEntryKind::Unknown, None));
}

#[test]
fn a_number_has_its_end() {
    for last in [Target::Host(pfn((1 << 40) - 1)), Target::Device(Offset::MAX)] {
        assert_eq!(last.checked_add(0), Some(last));
        assert_eq!((last.checked_add(1), last.checked_add(u64::MAX)), (None, None));
    }
    assert_eq!(offset(3).checked_add(4), Some(offset(7)));
    assert_eq!(pfn(3).checked_add(4), Some(pfn(7)));
}
