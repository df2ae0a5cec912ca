use super::*;

const OFFSETS: [u64; 6] = [0, 1, 511, 1 << 20, (1 << 39) + 5, (1 << 40) - 1];
const GENERATIONS: [u64; 4] = [0x1000, 0x1001, 0x5a5a, 0x6fff];
const ACCESSES: [Access; 2] = [Access::Read, Access::Write];
const MOVES: [MigrationAccess; 3] = [MigrationAccess::Read, MigrationAccess::ReadExclusive, MigrationAccess::Write];

/// Every value of the bits above the payload: kind, marks, direct, device and generation.
fn every_upper_half() -> impl Iterator<Item = u64> {
    (0..1u64 << 24).map(|upper| upper << 40)
}

fn leaves() -> Vec<(SoftLeaf, LeafKind, u64)> {
    let mut all = Vec::new();
    for payload in OFFSETS {
        let (offset, pfn) = (Offset::new(payload).unwrap(), Pfn::new(payload).unwrap());
        for access in ACCESSES {
            let present = SoftLeaf::present(pfn, access);
            all.push((present, LeafKind::Present(access), payload));
            for moving in MOVES {
                all.push((present.to_migration(moving).unwrap(), LeafKind::Migration(moving), payload));
            }
            for generation in GENERATIONS {
                for order in (0..=MAX_ORDER).filter_map(Order::new) {
                    let leaf = if order.get() <= MAX_DIRECT_ORDER && order.align_down(payload) == payload {
                        SoftLeaf::direct(offset, order, generation, access)
                    } else {
                        SoftLeaf::device_private(offset, order, generation, access)
                    };
                    assert!(leaf.has_generation(generation) && leaf.order() == order);
                    assert!(!leaf.has_generation(generation + 1) && !leaf.has_generation(generation ^ 0x800));
                    all.push((leaf, LeafKind::DevicePrivate(access), payload));
                    for moving in MOVES {
                        let entry = leaf.to_migration(moving).unwrap();
                        assert!(entry.has_generation(generation) && entry.order() == order);
                        all.push((entry, LeafKind::Migration(moving), payload));
                    }
                }
            }
        }
        all.push((SoftLeaf::exclusive(pfn), LeafKind::DeviceExclusive, payload));
    }
    all
}

#[test]
fn what_was_encoded_is_decoded() {
    for (leaf, kind, payload) in leaves() {
        assert_eq!(leaf.kind(), kind);
        let (offset, pfn) = (leaf.offset().map(Offset::get), leaf.pfn().map(Pfn::get));
        let on_device = leaf.names_offset();
        assert_eq!((offset, pfn), if on_device { (Some(payload), None) } else { (None, Some(payload)) });
        assert_eq!(SoftLeaf::from_bits(leaf.bits()), leaf);
    }
}

#[test]
fn no_bit_pattern_panics_or_names_two_things() {
    let mut seen = [0u32; 6];
    for upper in every_upper_half() {
        for payload in [0, 1, bits::PAYLOAD] {
            let leaf = SoftLeaf::from_bits(upper | payload);
            let (kind, offset, pfn) = (leaf.kind(), leaf.offset(), leaf.pfn());
            assert!(offset.is_none() || pfn.is_none(), "{leaf:?}");
            let index = match kind {
                LeafKind::None => 0,
                LeafKind::DevicePrivate(_) => 1,
                LeafKind::DeviceExclusive => 2,
                LeafKind::Migration(_) => 3,
                LeafKind::Present(_) => 4,
                LeafKind::Unknown => 5,
            };
            seen[index] += 1;
            let names_something = !matches!(kind, LeafKind::None | LeafKind::Unknown);
            assert_eq!(offset.is_some() || pfn.is_some(), names_something, "{leaf:?}");
            assert_eq!(kind == LeafKind::None, leaf.bits() == 0);
            if let Some(offset) = offset {
                assert_eq!(offset.get(), payload);
            }
        }
    }
    assert!(seen.iter().all(|&n| n > 0), "each kind was met: {seen:?}");
}

#[test]
fn a_change_of_access_or_mark_never_changes_the_target() {
    for upper in every_upper_half() {
        let leaf = SoftLeaf::from_bits(upper | 0x12_3456_789a);
        let target =
            |leaf: SoftLeaf| (leaf.offset(), leaf.pfn(), leaf.offset().map(|_| (leaf.order(), leaf.generation())));
        for access in ACCESSES {
            let changed = leaf.with_access(access);
            assert_eq!(target(changed), target(leaf));
            assert_eq!(changed.bits() & bits::MARKS, leaf.bits() & bits::MARKS);
            match (leaf.kind(), changed.kind()) {
                (LeafKind::DevicePrivate(_), LeafKind::DevicePrivate(now)) => assert_eq!(now, access),
                (LeafKind::Present(_), LeafKind::Present(now)) => assert_eq!(now, access),
                (LeafKind::Migration(_), LeafKind::Migration(now)) => {
                    assert_eq!(now == MigrationAccess::Write, access == Access::Write);
                }
                (before, after) => assert_eq!(before, after),
            }
        }
        for marked in [leaf.with_young(true).with_dirty(true), leaf.with_young(false).with_dirty(false)] {
            assert_eq!(marked.kind(), leaf.kind());
            assert_eq!(target(marked), target(leaf));
        }
    }
}

#[test]
fn marks_are_what_was_set() {
    for (leaf, ..) in leaves() {
        assert!(!leaf.is_young() && !leaf.is_dirty());
        let young = leaf.with_young(true);
        assert!(young.is_young() && !young.is_dirty());
        let dirty = young.with_dirty(true).with_young(false);
        assert!(dirty.is_dirty() && !dirty.is_young());
        assert_eq!(dirty.with_dirty(false), leaf);
    }
    assert_eq!(SoftLeaf::NONE.with_young(true), SoftLeaf::NONE);
}

#[test]
fn only_a_page_that_can_move_has_a_migration_entry() {
    assert_eq!(SoftLeaf::NONE.to_migration(MigrationAccess::Read), None);
    assert_eq!(SoftLeaf::exclusive(Pfn::new(3).unwrap()).to_migration(MigrationAccess::Write), None);
    let unknown = SoftLeaf::from_bits(bits::LOW | 5);
    assert_eq!((unknown.kind(), unknown.to_migration(MigrationAccess::Write)), (LeafKind::Unknown, None));
}

#[test]
fn what_looks_like_garbage_is_unknown() {
    for payload in OFFSETS {
        let tagged = Offset::new(payload).unwrap().to_tagged();
        assert_eq!(SoftLeaf::from_bits(tagged).kind(), LeafKind::Unknown, "a tagged offset is no leaf");
        assert_eq!(SoftLeaf::from_bits(!payload).offset(), None, "ones above an offset");
    }
    assert_eq!(SoftLeaf::from_bits(u64::MAX).kind(), LeafKind::Unknown, "all ones");
    assert_eq!(SoftLeaf::from_bits(1 << 63).kind(), LeafKind::Unknown, "a lone direct bit");
    let unaligned = SoftLeaf::direct(Offset::new(1).unwrap(), Order::new(1).unwrap(), 0x1000, Access::Read);
    assert_eq!(unaligned.kind(), LeafKind::Unknown, "no folio of order 1 has its head there");
}

#[test]
fn words_can_be_built_in_constants() {
    const LEAF: SoftLeaf = match Pfn::new(9) {
        Some(pfn) => SoftLeaf::present(pfn, Access::Read).with_access(Access::Write),
        None => SoftLeaf::NONE,
    };
    assert_eq!(LEAF.kind(), LeafKind::Present(Access::Write));
}
