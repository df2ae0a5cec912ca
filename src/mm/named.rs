//! [`Named`]: a leaf that names a page, decoded once.
//!
//! [`SoftLeaf::kind`] and its kin look at every bit, since they take any word from anywhere. The words of our own tables
//! were written here, and nearly all are of a few kinds, so they are told by one comparison each: with what such a leaf is made
//! of, without knowing how.
#![forbid(unsafe_code)]

use crate::words::{Access, LeafKind, MigrationAccess, Offset, Pfn, SoftLeaf, Target, leaf_bits};

/// How a leaf names its page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Present,
    Private,
    Migration,
    Exclusive,
}

/// A leaf that names a page, and owns a reference of it unless it is a zero page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) how: How,
    /// What it allows, or stands for; an exclusive one nothing, which is told as reading.
    pub(super) access: Access,
    pub(super) target: Target,
}

const VARIES: u64 = leaf_bits::PAYLOAD | leaf_bits::MARKS;

/// What is the same in all leaves that are made alike.
const fn template(leaf: SoftLeaf) -> u64 {
    leaf.bits() & !VARIES
}

const FIRST: Pfn = match Pfn::new(0) {
    Some(pfn) => pfn,
    None => panic!("there is a first page"),
};
const PRESENT_READ: u64 = template(SoftLeaf::present(FIRST, Access::Read));
const PRESENT_WRITE: u64 = template(SoftLeaf::present(FIRST, Access::Write));

const fn moving(access: MigrationAccess) -> u64 {
    match SoftLeaf::present(FIRST, Access::Read).to_migration(access) {
        Some(leaf) => template(leaf),
        None => panic!("a present page can move"),
    }
}

const MOVING_READ: u64 = moving(MigrationAccess::Read);
const MOVING_READ_EXCLUSIVE: u64 = moving(MigrationAccess::ReadExclusive);
const MOVING_WRITE: u64 = moving(MigrationAccess::Write);

/// What a leaf of one of our tables names.
#[inline(always)]
pub(super) fn named(leaf: SoftLeaf) -> Option<Named> {
    let bits = leaf.bits();
    if leaf.is_direct() {
        let access = if bits & leaf_bits::WRITE != 0 { Access::Write } else { Access::Read };
        return Some(Named { how: How::Private, access, target: Target::Device(Offset::from_low_bits(bits)) });
    }
    let target = Target::Host(Pfn::from_low_bits(bits));
    match bits & !VARIES {
        PRESENT_WRITE => Some(Named { how: How::Present, access: Access::Write, target }),
        PRESENT_READ => Some(Named { how: How::Present, access: Access::Read, target }),
        MOVING_WRITE => Some(Named { how: How::Migration, access: Access::Write, target }),
        MOVING_READ | MOVING_READ_EXCLUSIVE => Some(Named { how: How::Migration, access: Access::Read, target }),
        _ => named_otherwise(leaf),
    }
}

/// The rest: pages of large folios on devices, migration entries of devices, exclusive ones.
#[inline(never)]
fn named_otherwise(leaf: SoftLeaf) -> Option<Named> {
    let (how, access) = match leaf.kind() {
        LeafKind::Present(access) => (How::Present, access),
        LeafKind::DevicePrivate(access) => (How::Private, access),
        LeafKind::Migration(access) => (How::Migration, access.access()),
        LeafKind::DeviceExclusive => (How::Exclusive, Access::Read),
        _ => return None,
    };
    Some(Named { how, access, target: leaf.target()? })
}

/// `to` with all marks of `from`; both name pages.
#[inline(always)]
pub(super) fn with_marks_of(to: SoftLeaf, from: SoftLeaf) -> SoftLeaf {
    SoftLeaf::from_bits(to.bits() & !leaf_bits::MARKS | from.bits() & leaf_bits::MARKS)
}

/// Whether two words differ in nothing but marks.
#[inline(always)]
pub(super) fn is_alike(one: SoftLeaf, other: SoftLeaf) -> bool {
    (one.bits() ^ other.bits()) & !leaf_bits::MARKS == 0
}

/// The leaf of a page with the dirty mark.
#[inline(always)]
pub(super) fn dirtied(leaf: SoftLeaf) -> SoftLeaf {
    SoftLeaf::from_bits(leaf.bits() | leaf_bits::DIRTY)
}

/// The leaf of a page with the marks of an access.
#[inline(always)]
pub(super) fn marked(leaf: SoftLeaf, access: Access) -> SoftLeaf {
    let marks = match access {
        Access::Read => leaf_bits::YOUNG,
        Access::Write => leaf_bits::YOUNG | leaf_bits::DIRTY | leaf_bits::SOFT_DIRTY,
    };
    SoftLeaf::from_bits(leaf.bits() | marks)
}

/// The migration entry that `leaf`, which names a page, is replaced by. `is_alone` if the folio has no other map.
#[inline]
pub(super) fn migration_of(leaf: SoftLeaf, is_alone: bool) -> Option<SoftLeaf> {
    migration_of_named(leaf, named(leaf)?, is_alone)
}

/// The same for a leaf that has been decoded.
#[inline(always)]
pub(super) fn migration_of_named(leaf: SoftLeaf, named: Named, is_alone: bool) -> Option<SoftLeaf> {
    let Named { how, access, .. } = named;
    let to = match access {
        Access::Write => MigrationAccess::Write,
        Access::Read if is_alone => MigrationAccess::ReadExclusive,
        Access::Read => MigrationAccess::Read,
    };
    match how {
        How::Present => {
            let template = match to {
                MigrationAccess::Write => MOVING_WRITE,
                MigrationAccess::ReadExclusive => MOVING_READ_EXCLUSIVE,
                MigrationAccess::Read => MOVING_READ,
            };
            Some(SoftLeaf::from_bits(leaf.bits() & VARIES | template))
        }
        How::Private => leaf.to_migration(to),
        // The device loses it. For reading, whatever the mapping allows: the next write finds out.
        How::Exclusive => leaf.from_exclusive(Access::Read)?.to_migration(MigrationAccess::ReadExclusive),
        How::Migration => None,
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{DeviceConfig, Order, Space};

    /// Every leaf is decoded as the words themselves decode it, and rewritten as they rewrite it.
    #[test]
    fn a_leaf_is_named_as_its_words_say() {
        let space = Space::builder().max_pages(4096).build().unwrap();
        let device = space.register(DeviceConfig::new(4096)).unwrap();
        let (small, large) = (device.alloc(Order::ZERO).unwrap(), device.alloc(Order::HUGE).unwrap());
        let mut leaves = vec![SoftLeaf::NONE, SoftLeaf::exclusive(Pfn::new(9).unwrap())];
        for access in [Access::Read, Access::Write] {
            leaves.push(SoftLeaf::present(Pfn::new(77).unwrap(), access));
            leaves.extend([small.map(access).unwrap(), large.map(access).unwrap()]);
            leaves.push(large.map_page(3, access).unwrap());
        }
        let mut all = Vec::new();
        for leaf in leaves {
            let moving = [MigrationAccess::Read, MigrationAccess::ReadExclusive, MigrationAccess::Write];
            all.extend(moving.iter().filter_map(|access| leaf.to_migration(*access)));
            all.push(leaf);
        }
        for leaf in
            all.into_iter().flat_map(|leaf| [leaf, leaf.with_young(true).with_dirty(true).with_soft_dirty(true)])
        {
            let named = named(leaf);
            assert_eq!(named.map(|named| named.target), leaf.target(), "{leaf:?}");
            assert_eq!(named.and_then(|named| (named.how != How::Exclusive).then_some(named.access)), leaf.access());
            let how = match leaf.kind() {
                LeafKind::Present(_) => Some(How::Present),
                LeafKind::DevicePrivate(_) => Some(How::Private),
                LeafKind::Migration(_) => Some(How::Migration),
                LeafKind::DeviceExclusive => Some(How::Exclusive),
                _ => None,
            };
            assert_eq!(named.map(|named| named.how), how);
            if let (Some(access), Some(How::Present | How::Private)) = (leaf.access(), how) {
                assert_eq!(migration_of(leaf, false), leaf.to_migration(access.into()));
                let to = SoftLeaf::present(Pfn::new(5).unwrap(), access);
                assert_eq!(with_marks_of(to, leaf), to.with_marks_of(leaf));
                assert_eq!(marked(leaf, Access::Read), leaf.with_young(true));
                assert_eq!(dirtied(leaf), leaf.with_dirty(true));
            }
        }
    }
}
