//! Any 64 bits as each of the words.

use super::*;
use farpage::{LeafKind, MigrateEntryKind, RangeEntryKind};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn any_bits_are_a_leaf_that_stays_what_it_is(bits in word_bits()) {
        let leaf = SoftLeaf::from_bits(bits);
        prop_assert_eq!(leaf.bits(), bits);
        let shown = format!("{leaf:?}");
        prop_assert!(shown.contains("kind: "));
        if leaf.kind() == LeafKind::Unknown {
            prop_assert_eq!((leaf.target(), leaf.swap_slot(), leaf.marker_flags()), (None, None, None));
            prop_assert_eq!((leaf.access(), leaf.folio_order(), leaf.is_valid_huge()), (None, None, false));
            prop_assert_eq!(rewrites(with_marks(leaf, [true; 4])), vec![leaf; 3]);
            return Ok(());
        }
        // Whatever it is made, and made again, is known and has its marks.
        for rewritten in rewrites(leaf).into_iter().flat_map(rewrites) {
            prop_assert_ne!(rewritten.kind(), LeafKind::Unknown);
            prop_assert_eq!(marks(rewritten), marks(leaf));
        }
        let rebuilt = match leaf.kind() {
            LeafKind::None => SoftLeaf::NONE,
            LeafKind::Present(access) => SoftLeaf::present(leaf.pfn().unwrap(), access),
            LeafKind::DeviceExclusive => SoftLeaf::exclusive(leaf.pfn().unwrap()),
            LeafKind::HwPoison => SoftLeaf::hwpoison(leaf.pfn().unwrap()),
            LeafKind::Swap => SoftLeaf::swap(leaf.swap_slot().unwrap()),
            LeafKind::Marker => SoftLeaf::marker(leaf.marker_flags().unwrap()),
            LeafKind::Migration(access) => leaf.from_migration().unwrap().to_migration(access).unwrap(),
            LeafKind::DevicePrivate(access) => {
                leaf.to_migration(MigrationAccess::Read).unwrap().from_migration().unwrap().with_access(access)
            }
            kind => unreachable!("{kind:?} is new here"),
        };
        prop_assert_eq!(rebuilt.with_marks_of(leaf), leaf);
    }

    #[test]
    fn any_bits_are_a_migrate_entry_that_stays_what_it_is(bits in word_bits()) {
        let entry = MigrateEntry::from_bits(bits);
        let shown = format!("{entry:?}");
        prop_assert!(shown.contains("kind: ") || shown.contains("bits: 0x"));
        let [migrate, write, compound] = [entry.is_migrate(), entry.is_write(), entry.is_compound()];
        let rebuilt = match entry.kind() {
            MigrateEntryKind::Empty => MigrateEntry::EMPTY,
            MigrateEntryKind::Hole => MigrateEntry::hole().with_compound(compound),
            MigrateEntryKind::Page(target) => {
                MigrateEntry::page(target).with_migrate(migrate).with_write(write).with_compound(compound)
            }
            _ => {
                prop_assert_eq!((entry.target(), migrate, write, compound), (None, false, false, false));
                for set in [true, false] {
                    let touched = entry.with_migrate(set).with_write(set).with_compound(set);
                    prop_assert_eq!(touched, entry);
                }
                return Ok(());
            }
        };
        prop_assert_eq!(rebuilt, entry);
    }

    #[test]
    fn any_bits_are_a_range_entry_that_stays_what_it_is(bits in word_bits()) {
        let entry = RangeEntry::from_bits(bits);
        let shown = format!("{entry:?}");
        prop_assert!(shown.contains("kind: ") || shown.contains("bits: 0x"));
        let rebuilt = match entry.kind() {
            RangeEntryKind::Hole => RangeEntry::HOLE,
            RangeEntryKind::Error => RangeEntry::ERROR,
            RangeEntryKind::Page(target, access) => {
                RangeEntry::page(target, access).with_map_order(entry.map_order().unwrap())
            }
            _ => {
                prop_assert_eq!((entry.target(), entry.access(), entry.map_order()), (None, None, None));
                prop_assert_eq!(entry.with_map_order(Order::HUGE), entry);
                entry
            }
        };
        prop_assert_eq!(entry.answer(rebuilt), entry);
        prop_assert_eq!(entry.with_request(entry.requested()).requested(), entry.requested());
    }
}

/// Any 64 bits, and, because most of these are unknown, bits with few of them set.
fn word_bits() -> impl Strategy<Value = u64> {
    let sparse = (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(a, b, c)| a & b & c);
    let small_number = (any::<u64>(), 0u64..1 << 12).prop_map(|(a, number)| a >> 40 << 40 | number);
    let low_flags = (any::<u64>(), 0u64..64).prop_map(|(a, flags)| a >> 24 << 6 | flags);
    let high_flags = (any::<u64>(), 0u64..1 << 12).prop_map(|(a, flags)| a >> 24 | flags << 52);
    prop_oneof![any::<u64>(), sparse, small_number, low_flags, high_flags]
}
