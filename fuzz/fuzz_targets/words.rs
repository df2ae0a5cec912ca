//! Any 64 bits as each of the words: what it is, what it names, and that rewriting it keeps what it names and its marks.
#![no_main]

use farpage::{
    Access, LeafKind, MigrateEntry, MigrateEntryKind, MigrationAccess, Offset, Order, Pfn, PteMarker, RangeEntry,
    RangeEntryKind, SoftLeaf, SwapSlot,
};
use libfuzzer_sys::fuzz_target;

const ACCESSES: [Access; 2] = [Access::Read, Access::Write];
const MOVES: [MigrationAccess; 3] = [MigrationAccess::Read, MigrationAccess::ReadExclusive, MigrationAccess::Write];

fuzz_target!(|input: (u64, u64, u8)| {
    let (bits, number, small) = input;
    leaf(SoftLeaf::from_bits(bits), number, small);
    migrate_entry(MigrateEntry::from_bits(bits), number);
    range_entry(RangeEntry::from_bits(bits), RangeEntry::from_bits(number), small);
    numbers(bits, small);
});

fn marks(leaf: SoftLeaf) -> [bool; 4] {
    [leaf.is_young(), leaf.is_dirty(), leaf.is_soft_dirty(), leaf.is_write_protect()]
}

fn leaf(word: SoftLeaf, number: u64, small: u8) {
    let (kind, offset, pfn) = (word.kind(), word.offset(), word.pfn());
    assert!(offset.is_none() || pfn.is_none(), "{word:?} names a device page and a host page");
    assert_eq!((word.swap_slot().is_some(), word.marker_flags().is_some()), (word.is_swap(), word.is_marker()));
    match kind {
        LeafKind::None => assert_eq!((word, offset, pfn), (SoftLeaf::NONE, None, None)),
        LeafKind::DevicePrivate(_) => assert!(offset.is_some()),
        LeafKind::DeviceExclusive | LeafKind::Present(_) | LeafKind::HwPoison => assert!(pfn.is_some()),
        LeafKind::Migration(_) => assert!(offset.is_some() != pfn.is_some()),
        LeafKind::Swap | LeafKind::Marker | LeafKind::Unknown => assert_eq!((offset, pfn), (None, None)),
        kind => panic!("{kind:?} is new here"),
    }
    let can_move = matches!(kind, LeafKind::DevicePrivate(_) | LeafKind::Present(_) | LeafKind::Migration(_));
    let has_marks = !matches!(kind, LeafKind::None | LeafKind::Marker | LeafKind::Unknown);

    for access in ACCESSES {
        let rewritten = word.with_access(access);
        assert_eq!((rewritten.target(), marks(rewritten)), (word.target(), marks(word)));
        assert_eq!(rewritten.with_access(access), rewritten, "once is enough");
        assert_eq!(rewritten.access(), can_move.then_some(access));
        match rewritten.kind() {
            LeafKind::Migration(now) => assert_eq!(now, MigrationAccess::from(access)),
            _ if can_move => assert_eq!(rewritten.with_access(word.access().unwrap()), word, "no bit is lost"),
            _ => assert_eq!(rewritten, word),
        }
    }

    let set = std::array::from_fn(|i| small >> i & 1 == 1);
    let [young, dirty, soft_dirty, write_protect] = set;
    let marked = word.with_young(young).with_dirty(dirty).with_soft_dirty(soft_dirty).with_write_protect(write_protect);
    assert_eq!((marked.kind(), marked.target(), marked.swap_slot()), (kind, word.target(), word.swap_slot()));
    assert_eq!(marked.with_marks_of(word), word);
    if has_marks {
        assert_eq!(marks(marked), set);
    } else {
        assert_eq!(marked, word);
    }

    for access in MOVES {
        let entry = word.to_migration(access);
        assert_eq!(entry.is_some(), can_move);
        let Some(entry) = entry else { continue };
        assert_eq!((entry.kind(), marks(entry)), (LeafKind::Migration(access), marks(word)));
        assert_eq!((entry.migration_target(), entry.folio_order()), (word.target(), word.folio_order()));
        let back = entry.from_migration().unwrap();
        if kind == LeafKind::Migration(access) {
            assert_eq!((entry, back.to_migration(access)), (word, Some(word)));
        } else if !word.is_migration() {
            assert_eq!(back, word.with_access(access.access()), "to the bit");
        }
    }
    assert_eq!(word.from_migration().is_some(), word.is_migration());

    match word.for_page(number) {
        Some(page) => {
            assert_eq!(page.target(), word.target().and_then(|target| target.checked_add(number)));
            assert_eq!((page.kind(), page.folio_order(), marks(page)), (kind, word.folio_order(), marks(word)));
            assert!(number < 512 || word.folio_order().is_some_and(|order| number < order.nr_pages()));
        }
        None => assert!(!can_move || number > 0),
    }
    if word.is_valid_huge() && !word.is_none() {
        assert!(word.for_page(511).is_some());
    }

    for access in ACCESSES {
        if let Some(exclusive) = word.to_exclusive() {
            assert_eq!(exclusive.from_exclusive(access), Some(word.with_access(access)));
        }
        if let (Some(slot), Some(pfn)) = (SwapSlot::new(small, number), pfn) {
            match word.to_swap(slot) {
                Some(swapped) => {
                    assert_eq!((swapped.swap_slot(), marks(swapped)), (Some(slot), marks(word)));
                    assert_eq!(swapped.from_swap(pfn, access), Some(word.with_access(access)));
                }
                None => assert!(!word.is_present()),
            }
        }
    }
    match word.to_hwpoison() {
        Some(broken) => assert_eq!((broken.pfn(), marks(broken), broken.is_hwpoison()), (pfn, marks(word), true)),
        None => assert_eq!(pfn, None),
    }
}

fn migrate_entry(entry: MigrateEntry, index: u64) {
    let [migrate, write, compound] = [entry.is_migrate(), entry.is_write(), entry.is_compound()];
    let rebuilt = match entry.kind() {
        MigrateEntryKind::Empty => MigrateEntry::EMPTY,
        MigrateEntryKind::Hole => MigrateEntry::hole().with_compound(compound),
        MigrateEntryKind::Page(target) => {
            MigrateEntry::page(target).with_migrate(migrate).with_write(write).with_compound(compound)
        }
        MigrateEntryKind::Unknown => {
            assert_eq!((entry.target(), entry.for_page(0)), (None, None));
            assert_eq!(entry.with_migrate(!migrate).with_write(!write).with_compound(!compound), entry);
            entry
        }
        kind => panic!("{kind:?} is new here"),
    };
    assert_eq!(rebuilt, entry);
    if let Some(page) = entry.for_page(index) {
        assert!(compound && index < 512);
        assert_eq!(page.target(), entry.target().and_then(|target| target.checked_add(index)));
        assert_eq!((page.is_migrate(), page.is_write(), page.is_compound()), (migrate, write, false));
    }
}

fn range_entry(entry: RangeEntry, result: RangeEntry, order: u8) {
    let sticky = |entry: RangeEntry| [entry.is_dma_mapped(), entry.is_p2pdma(), entry.is_p2pdma_bus()];
    let rebuilt = match entry.kind() {
        RangeEntryKind::Hole => RangeEntry::HOLE,
        RangeEntryKind::Error => RangeEntry::ERROR,
        RangeEntryKind::Page(target, access) => {
            RangeEntry::page(target, access).with_map_order(entry.map_order().unwrap())
        }
        RangeEntryKind::Unknown => {
            assert_eq!((entry.target(), entry.access(), entry.map_order()), (None, None, None));
            entry
        }
        kind => panic!("{kind:?} is new here"),
    };
    assert_eq!(entry.answer(rebuilt), entry);
    let answer = entry.answer(result);
    assert_eq!((answer.kind(), sticky(answer)), (result.kind(), sticky(entry)));
    for access in [None, Some(Access::Read), Some(Access::Write)] {
        let request = entry.with_request(access);
        assert_eq!((request.requested(), sticky(request)), (access, sticky(entry)));
    }
    if let Some(order) = Order::new(order) {
        let in_order = entry.with_map_order(order);
        assert_eq!(in_order.kind(), entry.kind());
        assert_eq!(in_order.map_order(), entry.target().map(|_| order));
        assert_eq!(in_order.with_map_order(entry.map_order().unwrap_or(order)), entry);
    }
}

/// The other words, from the same bits.
fn numbers(bits: u64, small: u8) {
    assert_eq!(Offset::new(bits).is_some(), bits < 1 << 40);
    assert_eq!(Pfn::new(bits).is_some(), bits < 1 << 40);
    match Offset::from_tagged(bits) {
        Some(offset) => assert_eq!(offset.to_tagged(), bits),
        None => assert!(Offset::new(bits & !(1 << 63)).is_none() || bits >> 63 == 0),
    }
    assert_eq!(Order::new(small).map(Order::nr_pages), (small <= 18).then(|| 1 << small));
    assert_eq!(PteMarker::from_bits(bits).map(PteMarker::bits), (1..8).contains(&bits).then_some(bits));
}
