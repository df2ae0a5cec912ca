//! [`SoftLeaf`]: the word that a page table holds where no page is mapped, or that says which one is.
//!
//! Pure bits: whether the offset in it is *allocated* is not known here; see [`Space::lookup`](crate::Space::lookup).
#![forbid(unsafe_code)]

use core::fmt;

use crate::geometry::MAX_ORDER;
use crate::words::{Offset, Order, Pfn, leaf_bits as bits};

/// The largest order that a direct word names: it fits the field, and such a folio's metadata lies at its head's place.
pub(crate) const MAX_DIRECT_ORDER: u8 = {
    let fits = (1 << bits::ORDER_BITS) - 1;
    if fits < Order::HUGE.get() { fits } else { Order::HUGE.get() - 1 }
};

/// The tag of a host word. Those above are device words: `1 + 3 * kind + order / 8`.
const HOST: u64 = 0;
// Kinds of a device word.
const PRIVATE_READ: u64 = 0;
const PRIVATE_WRITE: u64 = 1;
const DEVICE_MIGRATION: u64 = 2; // ..=4, in the order of `MigrationAccess`
// Kinds of a host word. Kind 0 is `NONE` and nothing else.
const PRESENT_READ: u64 = 1;
const PRESENT_WRITE: u64 = 2;
const EXCLUSIVE: u64 = 3;
const HOST_MIGRATION: u64 = 4; // ..=6, in the order of `MigrationAccess`

const _: () = assert!(1 + 3 * (DEVICE_MIGRATION + 2) + 2 == bits::TAG >> bits::TAG_SHIFT, "the tags are used up");
const _: () = assert!(MAX_ORDER < 3 * 8, "an order has an upper part below 3");

/// What a mapping allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Reading.
    Read,
    /// Reading and writing.
    Write,
}

/// What the mapping allowed that a migration entry stands for. Linux: `SWP_MIGRATION_{READ, READ_EXCLUSIVE, WRITE}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MigrationAccess {
    /// Reading.
    Read,
    /// Reading, of a page that belongs to this address space alone.
    ReadExclusive,
    /// Reading and writing.
    Write,
}

/// What a [`SoftLeaf`] is. More kinds will come: match with a `_` arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LeafKind {
    /// Nothing was ever here.
    None,
    /// A device-private page; [`SoftLeaf::offset`] names it. Linux: `SWP_DEVICE_READ`, `SWP_DEVICE_WRITE`.
    DevicePrivate(Access),
    /// A host page that a device has for itself; [`SoftLeaf::pfn`] names it. Linux: `SWP_DEVICE_EXCLUSIVE`.
    DeviceExclusive,
    /// A page on its way. [`SoftLeaf::offset`] names it if it lies on a device, [`SoftLeaf::pfn`] if on the host.
    Migration(MigrationAccess),
    /// A host page that is mapped; [`SoftLeaf::pfn`] names it.
    Present(Access),
    /// Bits that no version known here writes. It names nothing.
    Unknown,
}

/// A leaf page-table word.
///
/// | bits   | in a direct word                       | in a device word                     | in a host word      |
/// |--------|----------------------------------------|--------------------------------------|---------------------|
/// | 0..40  | the [`Offset`]                         | the [`Offset`]                       | the [`Pfn`]         |
/// | 40     | young: touched since it was cleared    | the same                             | the same            |
/// | 41     | dirty: written since it was cleared    | the same                             | the same            |
/// | 42     | soft-dirty: rides along                | the same                             | the same            |
/// | 43     | write-protect (userfaultfd's): rides along | the same                         | the same            |
/// | 44..48 | 44: whether it allows writing; 45..48: the folio's order, 0 to 7 | tag: 1 + 3 * kind + order / 8 | tag: 0 |
/// | 48..51 | 48..63: the folio's generation | order modulo 8                  | kind                |
/// | 51..63 | (generation goes on)                   | the folio's generation, modulo 4,096 | 0                   |
/// | 63     | 1                                      | 0                                    | 0                   |
///
/// Device kinds: private read 0, private write 1, migration read 2, read-exclusive 3, write 4. Host kinds: none 0 (the
/// whole word is 0), present read 1, present write 2, exclusive 3, migration read 4, read-exclusive 5, write 6.
///
/// A **direct** word is a device-private leaf whose offset heads a folio of order 7 or less, which is nearly every leaf:
/// its page's metadata lies at the offset itself, and one sign test tells it from all others. A device word is any
/// other that names an offset (tails, larger folios, migration entries). A pattern that fits none of this is
/// [`LeafKind::Unknown`] and names nothing.
///
/// Every word that names an offset carries its folio's order and generation, so that it leads to one place in the
/// metadata, and to one life of the folio there.
///
/// A device-private leaf made by [`Folio::into_leaf`](crate::Folio::into_leaf) **owns a reference** of its folio, until
/// [`Space::take`](crate::Space::take) moves it back into a handle. The word itself is plain bits and can be copied;
/// who holds the reference is settled by the folio's counts, so a second `take` through a copy is refused.
///
/// A leaf is of the space that made it. Another space may have a folio of the same order and generation at the offset.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct SoftLeaf(u64);

const _: () = assert!(size_of::<SoftLeaf>() == 8);

impl SoftLeaf {
    /// The leaf of a page that was never there: all bits zero.
    pub const NONE: SoftLeaf = SoftLeaf(0);

    /// The leaf with these bits, whatever they are: decoding decides what they mean.
    #[inline]
    pub const fn from_bits(bits: u64) -> SoftLeaf {
        SoftLeaf(bits)
    }

    /// The bits, for a table of atomics.
    #[inline]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The leaf of a mapped host page.
    pub const fn present(pfn: Pfn, access: Access) -> SoftLeaf {
        SoftLeaf::host(pfn, PRESENT_READ + access as u64)
    }

    /// The leaf of a host page that a device has for itself.
    pub const fn exclusive(pfn: Pfn) -> SoftLeaf {
        SoftLeaf::host(pfn, EXCLUSIVE)
    }

    /// The migration entry for the page that this leaf names, with its target, generation and marks, or `None` for
    /// a leaf that names no page that could move.
    pub const fn to_migration(self, access: MigrationAccess) -> Option<SoftLeaf> {
        let marks = self.0 & bits::MARKS;
        let moving = match (self.kind(), self.offset(), self.pfn()) {
            (LeafKind::DeviceExclusive, ..) => return None,
            (_, Some(offset), _) => {
                SoftLeaf::device(offset, self.order(), self.generation(), DEVICE_MIGRATION + access as u64)
            }
            (_, None, Some(pfn)) => SoftLeaf::host(pfn, HOST_MIGRATION + access as u64),
            (_, None, None) => return None,
        };
        Some(SoftLeaf(moving.0 | marks))
    }

    /// The leaf of `offset`, the head of a folio of that order (7 or less) and generation.
    #[inline]
    pub(crate) const fn direct(offset: Offset, order: Order, generation: u64, access: Access) -> SoftLeaf {
        let write = if matches!(access, Access::Write) { bits::WRITE } else { 0 };
        SoftLeaf(
            offset.get()
                | write
                | (order.get() as u64) << bits::ORDER_SHIFT
                | generation << bits::GENERATION_SHIFT
                | bits::DIRECT,
        )
    }

    /// The leaf of `offset`, any page of a folio of that order and generation.
    #[inline]
    pub(crate) const fn device_private(offset: Offset, order: Order, generation: u64, access: Access) -> SoftLeaf {
        SoftLeaf::device(offset, order, generation, PRIVATE_READ + access as u64)
    }

    const fn device(offset: Offset, order: Order, generation: u64, kind: u64) -> SoftLeaf {
        let order = order.get() as u64;
        SoftLeaf(
            offset.get()
                | (1 + 3 * kind + order / 8) << bits::TAG_SHIFT
                | (order % 8) << bits::LOW_SHIFT
                | generation << bits::LOW_GENERATION_SHIFT & bits::LOW_GENERATION,
        )
    }

    const fn host(pfn: Pfn, kind: u64) -> SoftLeaf {
        SoftLeaf(pfn.get() | HOST << bits::TAG_SHIFT | kind << bits::LOW_SHIFT)
    }

    /// Whether the metadata of the leaf's folio lies at the leaf's own offset.
    #[inline(always)]
    pub(crate) const fn is_direct(self) -> bool {
        self.0 & bits::DIRECT != 0
    }

    /// The generation that a word which names an offset has room for: of a device word, modulo 2^12.
    const fn generation(self) -> u64 {
        if self.is_direct() {
            (self.0 & bits::GENERATION) >> bits::GENERATION_SHIFT
        } else {
            (self.0 & bits::LOW_GENERATION) >> bits::LOW_GENERATION_SHIFT
        }
    }

    /// Whether a folio of this generation is of the generation that the leaf, which names an offset, names.
    pub(crate) const fn has_generation(self, generation: u64) -> bool {
        let room = if self.is_direct() { bits::GENERATION_BITS } else { bits::LOW_GENERATION_BITS };
        (self.generation() ^ generation) & ((1 << room) - 1) == 0
    }

    /// The order of the folio that the leaf, which names an offset, names.
    pub(crate) const fn order(self) -> Order {
        match Order::new(self.order_bits()) {
            Some(order) => order,
            // `kind` calls such a word unknown.
            None => Order::MAX,
        }
    }

    const fn order_bits(self) -> u8 {
        if self.is_direct() {
            ((self.0 & bits::ORDER) >> bits::ORDER_SHIFT) as u8
        } else {
            let upper = (self.tag() + 2) % 3;
            (upper * 8 + self.low()) as u8
        }
    }

    /// Whether the offset heads a folio of an order that direct words have.
    const fn could_be_direct(self) -> bool {
        self.order_bits() <= MAX_DIRECT_ORDER && self.0 & ((1 << self.order_bits()) - 1) == 0
    }

    const fn tag(self) -> u64 {
        (self.0 & bits::TAG) >> bits::TAG_SHIFT
    }

    const fn low(self) -> u64 {
        (self.0 & bits::LOW) >> bits::LOW_SHIFT
    }

    /// What the leaf is. Never panics: bits that mean nothing are [`LeafKind::Unknown`].
    pub const fn kind(self) -> LeafKind {
        if self.is_direct() {
            if !bits::is_generation(self.generation()) || !self.could_be_direct() {
                return LeafKind::Unknown;
            }
            let write = self.0 & bits::WRITE != 0;
            return LeafKind::DevicePrivate(if write { Access::Write } else { Access::Read });
        }
        if self.tag() != HOST {
            return match (self.tag() - 1) / 3 {
                _ if self.order_bits() > MAX_ORDER => LeafKind::Unknown,
                // The head of such a folio has a direct word, and no other.
                PRIVATE_READ | PRIVATE_WRITE if self.could_be_direct() => LeafKind::Unknown,
                PRIVATE_READ => LeafKind::DevicePrivate(Access::Read),
                PRIVATE_WRITE => LeafKind::DevicePrivate(Access::Write),
                kind => LeafKind::Migration(Self::migration_access(kind - DEVICE_MIGRATION)),
            };
        }
        match self.low() {
            _ if self.0 & bits::LOW_GENERATION != 0 => LeafKind::Unknown,
            0 if self.0 == 0 => LeafKind::None,
            PRESENT_READ => LeafKind::Present(Access::Read),
            PRESENT_WRITE => LeafKind::Present(Access::Write),
            EXCLUSIVE => LeafKind::DeviceExclusive,
            kind @ HOST_MIGRATION..=6 => LeafKind::Migration(Self::migration_access(kind - HOST_MIGRATION)),
            _ => LeafKind::Unknown,
        }
    }

    /// The offset of the device page that the leaf names; `None` for every other kind.
    pub const fn offset(self) -> Option<Offset> {
        match self.kind() {
            LeafKind::DevicePrivate(_) | LeafKind::Migration(_) if self.names_offset() => {
                Some(Offset::from_low_bits(self.0))
            }
            _ => None,
        }
    }

    /// The number of the host page that the leaf names; `None` for every other kind.
    pub const fn pfn(self) -> Option<Pfn> {
        match self.kind() {
            LeafKind::Present(_) | LeafKind::DeviceExclusive | LeafKind::Migration(_) if !self.names_offset() => {
                Pfn::new(self.0 & bits::PAYLOAD)
            }
            _ => None,
        }
    }

    /// Whether the payload is an offset, in a word that is not unknown.
    const fn names_offset(self) -> bool {
        self.is_direct() || self.tag() != HOST
    }

    /// The same page with this access: what `mprotect` and `fork` do to an entry. The target, its generation and the
    /// marks never change; a kind that has no access is returned as it is.
    #[inline]
    pub const fn with_access(self, access: Access) -> SoftLeaf {
        let write = access as u64;
        match self.kind() {
            LeafKind::DevicePrivate(_) if self.is_direct() => {
                SoftLeaf(self.0 & !bits::WRITE | write << bits::WRITE.trailing_zeros())
            }
            LeafKind::DevicePrivate(_) => self.with_device_kind(PRIVATE_READ + write),
            LeafKind::Present(_) => self.with_host_kind(PRESENT_READ + write),
            // Both rows of migration kinds run read, read-exclusive, write.
            LeafKind::Migration(_) if self.names_offset() => self.with_device_kind(DEVICE_MIGRATION + 2 * write),
            LeafKind::Migration(_) => self.with_host_kind(HOST_MIGRATION + 2 * write),
            _ => self,
        }
    }

    /// Whether the page was touched since the mark was last cleared.
    #[inline]
    pub const fn is_young(self) -> bool {
        self.0 & bits::YOUNG != 0
    }

    /// The same leaf with the young mark set or cleared. [`SoftLeaf::NONE`] and unknown words stay as they are.
    #[inline]
    pub const fn with_young(self, young: bool) -> SoftLeaf {
        self.with_mark(bits::YOUNG, young)
    }

    /// Whether the page was written since the mark was last cleared.
    #[inline]
    pub const fn is_dirty(self) -> bool {
        self.0 & bits::DIRTY != 0
    }

    /// The same leaf with the dirty mark set or cleared. [`SoftLeaf::NONE`] and unknown words stay as they are.
    #[inline]
    pub const fn with_dirty(self, dirty: bool) -> SoftLeaf {
        self.with_mark(bits::DIRTY, dirty)
    }

    const fn with_mark(self, mark: u64, set: bool) -> SoftLeaf {
        match self.kind() {
            LeafKind::None | LeafKind::Unknown => self,
            _ if set => SoftLeaf(self.0 | mark),
            _ => SoftLeaf(self.0 & !mark),
        }
    }

    const fn with_device_kind(self, kind: u64) -> SoftLeaf {
        let upper = (self.tag() + 2) % 3;
        SoftLeaf(self.0 & !bits::TAG | (1 + 3 * kind + upper) << bits::TAG_SHIFT)
    }

    const fn with_host_kind(self, kind: u64) -> SoftLeaf {
        SoftLeaf(self.0 & !bits::LOW | kind << bits::LOW_SHIFT)
    }

    const fn migration_access(index: u64) -> MigrationAccess {
        match index {
            0 => MigrationAccess::Read,
            1 => MigrationAccess::ReadExclusive,
            _ => MigrationAccess::Write,
        }
    }
}

impl fmt::Debug for SoftLeaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut leaf = f.debug_struct("SoftLeaf");
        leaf.field("kind", &self.kind());
        if let Some(offset) = self.offset() {
            leaf.field("offset", &offset.get()).field("generation", &self.generation());
        }
        if let Some(pfn) = self.pfn() {
            leaf.field("pfn", &pfn.get());
        }
        if self.kind() == LeafKind::Unknown {
            leaf.field("bits", &format_args!("{:#018x}", self.0));
        }
        leaf.field("young", &self.is_young()).field("dirty", &self.is_dirty()).finish()
    }
}

#[cfg(test)]
#[path = "leaf_tests.rs"]
mod tests;
