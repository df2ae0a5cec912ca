use super::*;

const OFFSETS: [u64; 6] = [0, 1, 511, 1 << 20, (1 << 39) + 5, (1 << 40) - 1];
const GENERATIONS: [u64; 4] = [1, 2, 0x5a5a, bits::LAST_GENERATION];
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
                let direct = (0..=MAX_DIRECT_ORDER)
                    .filter_map(Order::new)
                    .map(|order| SoftLeaf::direct(offset, order, generation, access));
                for leaf in direct.chain([SoftLeaf::device_private(offset, generation, access)]) {
                    assert_eq!(leaf.generation(), generation);
                    all.push((leaf, LeafKind::DevicePrivate(access), payload));
                    for moving in MOVES {
                        all.push((leaf.to_migration(moving).unwrap(), LeafKind::Migration(moving), payload));
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
        let on_device = leaf.is_direct() || leaf.bits() & bits::DEVICE != 0;
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
        let order_or_device = if leaf.is_direct() { bits::ORDER } else { bits::DEVICE };
        let beyond_kind = bits::PAYLOAD | bits::DIRECT | order_or_device | bits::GENERATION;
        for access in ACCESSES {
            let changed = leaf.with_access(access);
            assert_eq!(changed.bits() & (beyond_kind | bits::MARKS), leaf.bits() & (beyond_kind | bits::MARKS));
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
            assert_eq!(marked.bits() & beyond_kind, leaf.bits() & beyond_kind);
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
    let unknown = SoftLeaf::from_bits(bits::DEVICE | bits::KIND | 5);
    assert_eq!((unknown.kind(), unknown.to_migration(MigrationAccess::Write)), (LeafKind::Unknown, None));
}

#[test]
fn what_looks_like_garbage_is_unknown() {
    for payload in OFFSETS {
        let tagged = Offset::new(payload).unwrap().to_tagged();
        assert_eq!(SoftLeaf::from_bits(tagged).kind(), LeafKind::Unknown, "a tagged offset is no leaf");
        assert_eq!(SoftLeaf::from_bits(!payload).offset(), None);
    }
    assert_eq!(SoftLeaf::from_bits(u64::MAX).kind(), LeafKind::Unknown);
    for bit in 0..64 {
        assert_eq!(SoftLeaf::from_bits(1 << bit).offset(), None, "bit {bit} alone names no offset");
    }
}

#[test]
fn words_can_be_built_in_constants() {
    const LEAF: SoftLeaf = match Pfn::new(9) {
        Some(pfn) => SoftLeaf::present(pfn, Access::Read).with_access(Access::Write),
        None => SoftLeaf::NONE,
    };
    assert_eq!(LEAF.kind(), LeafKind::Present(Access::Write));
}
