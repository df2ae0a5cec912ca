use super::*;

const OFFSETS: [u64; 6] = [0, 1, 511, 1 << 20, (1 << 39) + 5, (1 << 40) - 1];
/// Payloads whose lowest bit set is any that a moving word takes for an order, and some beside.
const PAYLOADS: [u64; 12] =
    [0, 1, 2, 1 << 2, 1 << 3, 1 << 4, 1 << 5, 1 << 6, 1 << 7, 0x1_0000_0200, (1 << 39) + 64, bits::PAYLOAD];
const GENERATIONS: [u64; 6] = [0x1000, 0x1001, 0x2fff, 0x5a5a, 0x6001, 0x6fff];
const ACCESSES: [Access; 2] = [Access::Read, Access::Write];
const MOVES: [MigrationAccess; 3] = [MigrationAccess::Read, MigrationAccess::ReadExclusive, MigrationAccess::Write];

/// Every value of the bits above the payload: marks, direct, slot, kind, order and generation.
fn every_upper_half() -> impl Iterator<Item = u64> {
    (0..1u64 << 24).map(|upper| upper << 40)
}

/// What a device leaf names, its marks, and how much of a generation it holds.
fn named(leaf: SoftLeaf) -> Option<(u64, u8, u64, u64)> {
    let word = leaf.device_word()?;
    Some((word.offset.get(), word.order.get(), word.generation, leaf.bits() & bits::MARKS))
}

fn device_leaves() -> Vec<SoftLeaf> {
    let mut all = Vec::new();
    for payload in OFFSETS.into_iter().chain(PAYLOADS) {
        for order in (0..=18).filter_map(Order::new) {
            for access in ACCESSES {
                for generation in GENERATIONS {
                    all.push(SoftLeaf::device_private(Offset::new(payload).unwrap(), order, generation, access));
                }
            }
        }
    }
    all
}

fn host_leaves() -> Vec<(SoftLeaf, LeafKind, u64)> {
    let mut all = Vec::new();
    for payload in OFFSETS {
        let pfn = Pfn::new(payload).unwrap();
        for access in ACCESSES {
            all.push((SoftLeaf::present(pfn, access), LeafKind::Present(access), payload));
        }
        for access in MOVES {
            let entry = SoftLeaf::present(pfn, Access::Read).to_migration(access).unwrap();
            all.push((entry, LeafKind::Migration(access), payload));
        }
        all.push((SoftLeaf::exclusive(pfn), LeafKind::DeviceExclusive, payload));
        all.push((SoftLeaf::hwpoison(pfn), LeafKind::HwPoison, payload));
    }
    all
}

#[test]
fn what_was_encoded_is_decoded() {
    for payload in OFFSETS.into_iter().chain(PAYLOADS) {
        for order in (0..=18).filter_map(Order::new) {
            let is_head = order.align_down(payload) == payload;
            for (generation, access) in GENERATIONS.into_iter().flat_map(|g| ACCESSES.map(|a| (g, a))) {
                let leaf = SoftLeaf::device_private(Offset::new(payload).unwrap(), order, generation, access);
                let whole = is_head && order.get() <= MAX_DIRECT_ORDER;
                assert_eq!(leaf.is_direct(), whole, "one word for each page");
                let held = if whole { generation } else { generation & 0xfff };
                assert_eq!(leaf.kind(), LeafKind::DevicePrivate(access));
                assert_eq!(named(leaf), Some((payload, order.get(), held, 0)));
                for moving in MOVES {
                    let entry = leaf.to_migration(moving).unwrap();
                    assert_eq!(entry.kind(), LeafKind::Migration(moving));
                    assert!(!entry.is_direct());
                    assert_eq!(named(entry), named(leaf), "a migration entry holds as much as the leaf before it");
                    assert_eq!(entry.from_migration(), Some(leaf.with_access(moving.access())));
                }
                for word in [leaf, leaf.to_migration(MigrationAccess::Read).unwrap()].map(|l| l.device_word().unwrap())
                {
                    assert!(word.has_generation(generation));
                    assert!(!word.has_generation(generation + 1) && !word.has_generation(generation ^ 0x800));
                    assert_eq!(word.has_generation(generation ^ 0x4000), !whole);
                }
            }
        }
    }
    for (leaf, kind, payload) in host_leaves() {
        assert_eq!((leaf.kind(), leaf.offset(), leaf.pfn()), (kind, None, Pfn::new(payload)));
        assert_eq!(SoftLeaf::from_bits(leaf.bits()), leaf);
    }
}

#[test]
fn no_bit_pattern_panics_or_names_two_things_or_has_a_second_form() {
    let mut seen = [0u64; 9];
    for upper in every_upper_half() {
        for payload in PAYLOADS {
            let leaf = SoftLeaf::from_bits(upper | payload);
            let (kind, offset, pfn) = (leaf.kind(), leaf.offset(), leaf.pfn());
            let names = [offset.is_some(), pfn.is_some(), leaf.swap_slot().is_some(), leaf.marker_flags().is_some()];
            let (index, wanted) = match kind {
                LeafKind::None => (0, [false; 4]),
                LeafKind::DevicePrivate(_) => (1, [true, false, false, false]),
                LeafKind::DeviceExclusive => (2, [false, true, false, false]),
                LeafKind::Migration(_) => (3, [offset.is_some(), offset.is_none(), false, false]),
                LeafKind::Present(_) => (4, [false, true, false, false]),
                LeafKind::Swap => (5, [false, false, true, false]),
                LeafKind::HwPoison => (6, [false, true, false, false]),
                LeafKind::Marker => (7, [false, false, false, true]),
                LeafKind::Unknown => (8, [false; 4]),
            };
            seen[index] += 1;
            assert_eq!(names, wanted, "{leaf:?}");
            // Decoding and encoding again gives the same bits: no other pattern means the same.
            let again = match leaf.fields() {
                Fields::Device(word) => word.encode(),
                Fields::Host(word) => word.encode(),
                Fields::None => 0,
                Fields::Unknown => continue,
            };
            assert_eq!(again | leaf.bits() & bits::MARKS, leaf.bits(), "{leaf:?}");
        }
    }
    assert!(seen.iter().all(|&n| n > 0), "each kind was met: {seen:?}");
    assert_eq!(seen[0], 1, "only all zero is none");
    // 0x6000 generations, 2 accesses, 16 marks; each payload heads folios of its first few orders.
    let heads: u64 = PAYLOADS.iter().map(|p| u64::from(p.trailing_zeros().min(7)) + 1).sum();
    // Ordered words: 4096 generations, 2 accesses, 16 marks; any order from 1 to 18 of which it is not such a head.
    let ordered = 18 * PAYLOADS.len() as u64 - (heads - PAYLOADS.len() as u64);
    assert_eq!(seen[1], 0x6000 * 2 * 16 * heads + 4096 * 2 * 16 * ordered, "every device-private leaf, and no more");
}

#[test]
fn a_change_of_access_or_mark_never_changes_the_target() {
    for upper in every_upper_half() {
        let leaf = SoftLeaf::from_bits(upper | 0x12_3456_7898);
        let target = |leaf: SoftLeaf| (named(leaf).map(|(o, order, g, _)| (o, order, g)), leaf.pfn(), leaf.swap_slot());
        for access in ACCESSES {
            let changed = leaf.with_access(access);
            assert_eq!(target(changed), target(leaf));
            assert_eq!(changed.bits() & bits::MARKS, leaf.bits() & bits::MARKS);
            match (leaf.kind(), changed.kind()) {
                (LeafKind::DevicePrivate(_), LeafKind::DevicePrivate(now)) => assert_eq!(now, access),
                (LeafKind::Present(_), LeafKind::Present(now)) => assert_eq!(now, access),
                (LeafKind::Migration(_), LeafKind::Migration(now)) => assert_eq!(now, MigrationAccess::from(access)),
                _ => assert_eq!(changed, leaf),
            }
        }
        for marked in [leaf.with_young(true).with_dirty(true), leaf.with_young(false).with_dirty(false)] {
            assert_eq!(marked.kind(), leaf.kind());
            assert_eq!(target(marked), target(leaf));
        }
    }
}

#[test]
fn no_two_leaves_share_a_word() {
    let mut words: Vec<u64> = host_leaves().iter().map(|(leaf, ..)| leaf.bits()).collect();
    for leaf in device_leaves() {
        words.push(leaf.bits());
        if leaf.access() == Some(Access::Read) {
            words.extend(MOVES.map(|access| leaf.to_migration(access).unwrap().bits()));
        }
    }
    for (swap_type, offset) in (0..=u8::MAX).flat_map(|t| OFFSETS.map(|o| (t, o))) {
        words.push(SoftLeaf::swap(SwapSlot::new(swap_type, offset).unwrap()).bits());
    }
    words.extend((1..8).map(|flags| SoftLeaf::marker(PteMarker::from_bits(flags).unwrap()).bits()));
    words.push(SoftLeaf::NONE.bits());
    // Those that say the same share their word, and are made twice here: payloads that are in both lists, and
    // generations that an ordered word does not tell apart.
    let mut said: Vec<String> = words.iter().map(|&word| format!("{:?}", SoftLeaf::from_bits(word))).collect();
    words.sort_unstable();
    words.dedup();
    said.sort_unstable();
    said.dedup();
    assert_eq!(words.len(), said.len());
}

#[test]
fn a_page_further_on_is_of_the_same_folio() {
    for leaf in device_leaves().into_iter().map(|leaf| leaf.with_soft_dirty(true).with_young(true)) {
        let (offset, order, generation, marks) = named(leaf).unwrap();
        let left = (1 << order) - offset % (1 << order);
        for index in [0, 1, left / 2, left - 1].into_iter().filter(|&index| index < left) {
            let page = leaf.for_page(index).unwrap();
            let held = if index == 0 { generation } else { generation & 0xfff };
            assert_eq!(named(page), Some((offset + index, order, held, marks)));
            assert_eq!(page.kind(), leaf.kind());
            let entry = leaf.to_migration(MigrationAccess::Write).unwrap();
            assert_eq!(entry.for_page(index), page.to_migration(MigrationAccess::Write));
        }
        for beyond in [left, left + 1, u64::MAX] {
            assert_eq!(leaf.for_page(beyond), None, "{leaf:?} + {beyond}");
        }
    }
}

#[test]
fn what_looks_like_garbage_is_unknown() {
    for payload in OFFSETS {
        let tagged = Offset::new(payload).unwrap().to_tagged();
        assert_eq!(SoftLeaf::from_bits(tagged).kind(), LeafKind::Unknown, "a tagged offset is no leaf");
        assert_eq!(SoftLeaf::from_bits(!payload).offset(), None, "ones above an offset");
        assert_eq!(SoftLeaf::from_bits(1 << bits::SLOT_SHIFT | payload).kind(), LeafKind::Unknown, "slot 1");
        for kind in 10..16 {
            let leaf = SoftLeaf::from_bits(kind << bits::HOST_KIND_SHIFT | payload);
            assert_eq!((leaf.kind(), leaf.target()), (LeafKind::Unknown, None), "host kind {kind}");
        }
    }
    for mark in [bits::YOUNG, bits::DIRTY, bits::SOFT_DIRTY, bits::WRITE_PROTECT] {
        let marked = SoftLeaf::from_bits(SoftLeaf::marker(PteMarker::GUARD).bits() | mark);
        assert_eq!((marked.kind(), marked.marker_flags()), (LeafKind::Unknown, None), "a marker has no marks");
    }
    assert_eq!(SoftLeaf::from_bits(u64::MAX).kind(), LeafKind::Unknown, "all ones");
    assert_eq!(SoftLeaf::from_bits(1 << 63).kind(), LeafKind::Unknown, "a lone direct bit");
    let unaligned = SoftLeaf::direct(Offset::new(1).unwrap(), Order::new(1).unwrap(), 0x1000, Access::Read);
    assert_eq!(unaligned.kind(), LeafKind::Unknown, "no folio of order 1 has its head there");
}
