//! Leaves: their kinds, their marks, and what becomes of both when a page table rewrites them.

use super::*;
use farpage::LeafKind;

#[test]
fn every_set_of_marks_rides_along_on_every_rewrite() {
    for (leaf, set) in marked_kinds().into_iter().flat_map(|leaf| every_set_of_flags::<4>().map(move |set| (leaf, set)))
    {
        let marked = with_marks(leaf, set);
        assert_eq!(
            (marked.kind(), marked.target(), marked.swap_slot()),
            (leaf.kind(), leaf.target(), leaf.swap_slot())
        );
        assert_eq!(with_marks(marked, [false; 4]), leaf, "marks are all that has changed");
        // Each rewrite of the marked leaf is the rewrite of the bare one, marked.
        for (rewritten, bare) in rewrites(marked).into_iter().zip(rewrites(leaf)) {
            assert_eq!((marks(rewritten), rewritten), (set, with_marks(bare, set)));
        }
        assert_eq!(rewrites(marked).len(), rewrites(leaf).len());
        let elsewhere = SoftLeaf::present(pfn(1234), Access::Write);
        assert_eq!(elsewhere.with_dirty(true).with_marks_of(marked), with_marks(elsewhere, set));
    }
}

#[test]
fn what_has_no_marks_takes_none() {
    let marked = with_marks(SoftLeaf::present(pfn(1), Access::Read), [true; 4]);
    let unknown = SoftLeaf::from_bits(u64::MAX);
    for leaf in [SoftLeaf::NONE, SoftLeaf::marker(PteMarker::GUARD), unknown] {
        assert_eq!(with_marks(leaf, [true; 4]), leaf);
        assert_eq!(with_marks(leaf, [false; 4]), leaf);
        assert_eq!(leaf.with_marks_of(marked), leaf);
        assert_eq!(marked.with_marks_of(leaf), marked);
        assert!(rewrites(leaf).iter().all(|rewritten| *rewritten == leaf));
    }
}

#[test]
fn a_migration_entry_gives_back_what_it_stands_for() {
    for leaf in marked_kinds() {
        let can_move = leaf.is_present() || leaf.is_device_private() || leaf.is_migration();
        for access in MOVES {
            let Some(entry) = leaf.to_migration(access) else {
                assert!(!can_move, "{leaf:?} could move");
                continue;
            };
            assert!(can_move, "{leaf:?} moves");
            assert_eq!(entry.kind(), LeafKind::Migration(access));
            assert_eq!((entry.migration_target(), entry.folio_order()), (leaf.target(), leaf.folio_order()));
            assert_eq!(entry.access(), Some(access.access()));
            let back = entry.from_migration().expect("it is a migration entry");
            assert!(back.is_present() || back.is_device_private());
            assert_eq!((back.access(), back.target()), (Some(access.access()), leaf.target()));
            if !leaf.is_migration() {
                assert_eq!(back, leaf.with_access(access.access()), "to the bit");
                assert_eq!(leaf.from_migration(), None);
            }
        }
        assert_eq!(leaf.migration_target().is_some(), leaf.is_migration());
    }
}

#[test]
fn a_migration_entry_leads_to_the_page_and_owns_its_reference() {
    let space = Space::builder().max_pages(1 << 19).build().expect("address space");
    let device = space.register(DeviceConfig::new(1 << 19)).expect("it fits");
    for n in 0..=18 {
        let leaf = device.alloc(order(n)).expect("the device is empty").into_leaf(Access::Write);
        for index in [0, 1, (1 << n) / 2, (1 << n) - 1].into_iter().filter(|index| *index < 1 << n) {
            let page = leaf.for_page(index).expect("it is of the folio");
            for entry in MOVES.map(|access| page.to_migration(access).expect("it can move")) {
                let found = space.lookup(entry).expect("the folio lives");
                assert_eq!((Some(found.offset()), found.index(), found.order()), (entry.offset(), index, order(n)));
                assert_eq!(space.lookup(entry.from_migration().expect("an entry")), Some(found));
            }
        }
        assert_eq!(leaf.for_page(1 << n), None);
        let entry = leaf.to_migration(MigrationAccess::Write).expect("it can move");
        drop(space.take(entry).expect("the entry owns the leaf's reference"));
        assert_eq!((space.lookup(entry), space.lookup(leaf)), (None, None), "order {n}");
        let again = device.alloc(order(n)).expect("the device is empty");
        assert_eq!(Some(again.offset()), entry.offset());
        assert_eq!(space.lookup(entry), None, "a stale entry leads nowhere");
    }
}

#[test]
fn a_host_page_goes_through_every_kind_and_comes_back() {
    for (number, access) in NUMBERS.into_iter().flat_map(|n| ACCESSES.map(|a| (n, a))) {
        let leaf = SoftLeaf::present(pfn(number), access).with_soft_dirty(true);
        let exclusive = leaf.to_exclusive().unwrap();
        assert_eq!((exclusive.kind(), exclusive.pfn()), (LeafKind::DeviceExclusive, Some(pfn(number))));
        assert_eq!((exclusive.access(), exclusive.to_migration(MigrationAccess::Write)), (None, None));
        assert_eq!(exclusive.from_exclusive(access), Some(leaf));

        let slot = SwapSlot::new(9, number).unwrap();
        let swapped = leaf.to_swap(slot).unwrap();
        assert_eq!((swapped.kind(), swapped.swap_slot(), swapped.target()), (LeafKind::Swap, Some(slot), None));
        assert_eq!(swapped.from_swap(pfn(number), access), Some(leaf));

        let broken = leaf.to_hwpoison().unwrap();
        assert_eq!((broken.kind(), broken.pfn(), broken.access()), (LeafKind::HwPoison, Some(pfn(number)), None));
        assert_eq!((broken.to_exclusive(), broken.for_page(0), broken.from_migration()), (None, None, None));
    }
    for flags in (1..8).map(|bits| PteMarker::from_bits(bits).unwrap()) {
        let leaf = SoftLeaf::marker(flags);
        assert_eq!((leaf.kind(), leaf.marker_flags(), leaf.target()), (LeafKind::Marker, Some(flags), None));
    }
    assert_eq!((PteMarker::from_bits(0), PteMarker::from_bits(8)), (None, None));
}

#[test]
fn exactly_one_question_about_a_kind_is_answered_with_yes() {
    let mut all = marked_kinds();
    all.extend([SoftLeaf::NONE, SoftLeaf::marker(PteMarker::POISONED)]);
    for leaf in all {
        let answers = [
            (leaf.is_none(), LeafKind::None),
            (leaf.is_present(), LeafKind::Present(leaf.access().unwrap_or(Access::Read))),
            (leaf.is_device_private(), LeafKind::DevicePrivate(leaf.access().unwrap_or(Access::Read))),
            (leaf.is_device_exclusive(), LeafKind::DeviceExclusive),
            (leaf.is_migration(), leaf.kind()),
            (leaf.is_swap(), LeafKind::Swap),
            (leaf.is_hwpoison(), LeafKind::HwPoison),
            (leaf.is_marker(), LeafKind::Marker),
        ];
        let yes: Vec<LeafKind> = answers.into_iter().filter_map(|(yes, kind)| yes.then_some(kind)).collect();
        assert_eq!(yes, [leaf.kind()]);
    }
}

#[test]
fn a_huge_leaf_is_split_into_the_leaves_of_its_pages() {
    let space = Space::builder().max_pages(1 << 12).build().expect("address space");
    let device = space.register(DeviceConfig::new(1 << 12)).expect("it fits");
    let on_device = device.alloc(order(10)).expect("the device is empty").into_leaf(Access::Write);
    // A folio of order 10 has two huge entries; the second begins with a tail.
    let second = on_device.for_page(512).expect("of the folio");
    let on_host = SoftLeaf::present(pfn(1 << 20), Access::Read).with_write_protect(true);
    for huge in [on_device, second, on_host, on_host.to_migration(MigrationAccess::Read).expect("it can move")] {
        assert!(huge.is_valid_huge());
        for index in 0..512 {
            let page = huge.for_page(index).expect("of the huge page");
            assert_eq!(page.target(), huge.target().and_then(|target| target.checked_add(index)));
            assert_eq!((page.kind(), page.folio_order()), (huge.kind(), huge.folio_order()));
            assert_eq!(marks(page), marks(huge));
            assert_eq!(page.is_valid_huge(), index == 0);
            assert_eq!(page.for_page(511 - index), huge.for_page(511), "further on from the middle");
        }
    }
    assert_eq!((on_host.for_page(512), second.for_page(512)), (None, None));
    assert!(on_device.for_page(1023).is_some());
    let small = device.alloc(order(8)).expect("there is room").into_leaf(Access::Write);
    assert!(small.offset().is_some_and(|offset| offset.get() % 512 == 0) && !small.is_valid_huge());
    assert!(SoftLeaf::NONE.is_valid_huge() && !SoftLeaf::exclusive(pfn(0)).is_valid_huge());
    for leaf in [on_device, small] {
        drop(space.take(leaf).expect("the leaf owns a reference"));
    }
}
