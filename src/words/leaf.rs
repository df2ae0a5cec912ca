//! [`SoftLeaf`]: the word that a page table holds where no page is mapped, or that says which one is.
//!
//! Pure bits: whether the offset in it is *allocated* is not known here; see [`Space::lookup`](crate::Space::lookup).
#![forbid(unsafe_code)]

use core::fmt;

use crate::words::{Offset, Order, Pfn};

/// Where each field of a [`SoftLeaf`] lies. The state word of a page has its live bit, its generation and the low bits
/// of its order at the places of the direct bit, the generation and the order of a direct leaf: so "live, of this
/// generation, and of this order" is one comparison.
pub(crate) mod bits {
    use crate::geometry::OFFSET_BITS;

    pub(crate) const PAYLOAD: u64 = (1 << OFFSET_BITS) - 1;
    pub(crate) const YOUNG: u64 = 1 << 40;
    pub(crate) const DIRTY: u64 = 1 << 41;
    pub(crate) const SOFT_DIRTY: u64 = 1 << 42;
    pub(crate) const WRITE_PROTECT: u64 = 1 << 43;
    pub(crate) const MARKS: u64 = YOUNG | DIRTY | SOFT_DIRTY | WRITE_PROTECT;
    /// In a direct word, whether it allows writing.
    pub(crate) const WRITE: u64 = 1 << 44;
    pub(crate) const ORDER_SHIFT: u32 = 45;
    pub(crate) const ORDER_BITS: u32 = 3;
    /// In a direct word, the folio's order.
    pub(crate) const ORDER: u64 = ((1 << ORDER_BITS) - 1) << ORDER_SHIFT;
    pub(crate) const KIND_SHIFT: u32 = 44;
    /// In any other word, the kind.
    pub(crate) const KIND: u64 = 7 << KIND_SHIFT;
    /// In any other word, whether the payload is an offset.
    pub(crate) const DEVICE: u64 = 1 << 47;
    pub(crate) const GENERATION_SHIFT: u32 = 48;
    pub(crate) const GENERATION_BITS: u32 = 15;
    pub(crate) const GENERATION: u64 = ((1 << GENERATION_BITS) - 1) << GENERATION_SHIFT;
    pub(crate) const DIRECT: u64 = 1 << 63;

    /// Generations are `1..=LAST_GENERATION`. No folio ever has 0 or all ones, so words with these name nothing: above
    /// all a tagged offset, a lone direct bit, and all ones are no leaves.
    pub(crate) const LAST_GENERATION: u64 = (1 << GENERATION_BITS) - 2;

    /// Checks that `fields` do not overlap and leave no bit out.
    #[allow(dead_code, reason = "used in constants, which Rust 1.85 does not count")]
    pub(crate) const fn assert_partition(fields: &[u64]) {
        let (mut all, mut i) = (0u64, 0);
        while i < fields.len() {
            assert!(all & fields[i] == 0, "two fields of a word overlap");
            all |= fields[i];
            i += 1;
        }
        assert!(all == u64::MAX, "a bit of a word belongs to no field");
    }

    const _: () =
        assert_partition(&[PAYLOAD, YOUNG, DIRTY, SOFT_DIRTY, WRITE_PROTECT, WRITE, ORDER, GENERATION, DIRECT]);
    const _: () = assert_partition(&[PAYLOAD, MARKS, KIND, DEVICE, GENERATION, DIRECT]);
    const _: () = assert!(GENERATION_SHIFT + GENERATION_BITS == 63, "the direct bit is next to the generation");
    const _: () = assert!(ORDER_SHIFT + ORDER_BITS == GENERATION_SHIFT, "the order is next to the generation");
    const _: () = assert!(GENERATION_BITS >= 12, "a stale leaf must stay stale for thousands of reuses");
}

/// The largest order that a direct word can name.
pub(crate) const MAX_DIRECT_ORDER: u8 = (1 << bits::ORDER_BITS) - 1;

// Kinds of a device word (not direct, DEVICE set, payload an offset).
const PRIVATE_READ: u64 = 0;
const PRIVATE_WRITE: u64 = 1;
const DEVICE_MIGRATION: u64 = 2; // ..=4, in the order of `MigrationAccess`
// Kinds of a host word (not direct, DEVICE clear, payload a pfn). Kind 0 is `NONE` and nothing else.
const PRESENT_READ: u64 = 1;
const PRESENT_WRITE: u64 = 2;
const EXCLUSIVE: u64 = 3;
const HOST_MIGRATION: u64 = 4; // ..=6, in the order of `MigrationAccess`

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
/// | bits   | field         | in a direct word              | in a device word                                           | in a host word |
/// |--------|---------------|-------------------------------|------------------------------------------------------------|----------------|
/// | 0..40  | payload       | the [`Offset`]                | the [`Offset`]                                             | the [`Pfn`]    |
/// | 40     | young         | touched since it was cleared  | the same                                                   | the same       |
/// | 41     | dirty         | written since it was cleared  | the same                                                   | the same       |
/// | 42     | soft-dirty    | rides along on every rewrite  | the same                                                   | the same       |
/// | 43     | write-protect | the same (userfaultfd's mark) | the same                                                   | the same       |
/// | 44     | write, kind   | whether it allows writing     | private read, write; migration read, read-exclusive, write | present read, write; exclusive; migration |
/// | 45..47 | order, kind   | of the folio, `0..=7`         | (kind goes on)                                             | (kind goes on) |
/// | 47     | order, device | (order goes on)               | 1                                                          | 0              |
/// | 48..63 | generation    | of the folio, `1..=32766`     | of the folio, `1..=32766`                                  | 0              |
/// | 63     | direct        | 1                             | 0                                                          | 0              |
///
/// A **direct** word is a device-private leaf whose offset heads a folio of order 7 or less, which is nearly every leaf:
/// its page's metadata is found by the offset alone, and one sign test tells it from all others. A device word is any
/// other that names an offset (tails, larger folios, migration entries). All zero is [`SoftLeaf::NONE`]. A pattern that
/// fits none of this is [`LeafKind::Unknown`] and names nothing.
///
/// A device-private leaf made by [`Folio::into_leaf`](crate::Folio::into_leaf) **owns a reference** of its folio, until
/// [`Space::take`](crate::Space::take) moves it back into a handle. The word itself is plain bits and can be copied;
/// who holds the reference is settled by the folio's counts, so a second `take` through a copy is refused.
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
        let kind = match access {
            Access::Read => PRESENT_READ,
            Access::Write => PRESENT_WRITE,
        };
        SoftLeaf(pfn.get() | kind << bits::KIND_SHIFT)
    }

    /// The leaf of a host page that a device has for itself.
    pub const fn exclusive(pfn: Pfn) -> SoftLeaf {
        SoftLeaf(pfn.get() | EXCLUSIVE << bits::KIND_SHIFT)
    }

    /// The migration entry for the page that this leaf names, with its target, generation and marks, or `None` for
    /// a leaf that names no page that could move.
    pub const fn to_migration(self, access: MigrationAccess) -> Option<SoftLeaf> {
        let first = match self.kind() {
            // A migration entry is not direct: it finds its folio's order by itself.
            LeafKind::DevicePrivate(_) => {
                let kept = bits::PAYLOAD | bits::MARKS | bits::GENERATION;
                return Some(SoftLeaf(self.0 & kept | bits::DEVICE).with_kind(DEVICE_MIGRATION + access as u64));
            }
            LeafKind::Present(_) => HOST_MIGRATION,
            LeafKind::Migration(_) if self.0 & bits::DEVICE != 0 => DEVICE_MIGRATION,
            LeafKind::Migration(_) => HOST_MIGRATION,
            _ => return None,
        };
        Some(self.with_kind(first + access as u64))
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

    /// The leaf of `offset`, any page of a folio of that generation.
    #[inline]
    pub(crate) const fn device_private(offset: Offset, generation: u64, access: Access) -> SoftLeaf {
        let kind = match access {
            Access::Read => PRIVATE_READ,
            Access::Write => PRIVATE_WRITE,
        };
        SoftLeaf(offset.get() | kind << bits::KIND_SHIFT | bits::DEVICE | generation << bits::GENERATION_SHIFT)
    }

    /// Whether the metadata of the leaf's folio lies at the leaf's own offset.
    #[inline(always)]
    pub(crate) const fn is_direct(self) -> bool {
        self.0 & bits::DIRECT != 0
    }

    /// The generation, of a direct or device word.
    pub(crate) const fn generation(self) -> u64 {
        (self.0 & bits::GENERATION) >> bits::GENERATION_SHIFT
    }

    /// What the leaf is. Never panics: bits that mean nothing are [`LeafKind::Unknown`].
    pub const fn kind(self) -> LeafKind {
        let generation = self.generation();
        let names_life = generation >= 1 && generation <= bits::LAST_GENERATION;
        if self.is_direct() {
            if !names_life {
                return LeafKind::Unknown;
            }
            let write = self.0 & bits::WRITE != 0;
            return LeafKind::DevicePrivate(if write { Access::Write } else { Access::Read });
        }
        let kind = (self.0 & bits::KIND) >> bits::KIND_SHIFT;
        if self.0 & bits::DEVICE != 0 {
            return match kind {
                _ if !names_life => LeafKind::Unknown,
                PRIVATE_READ => LeafKind::DevicePrivate(Access::Read),
                PRIVATE_WRITE => LeafKind::DevicePrivate(Access::Write),
                2..=4 => LeafKind::Migration(Self::migration_access(kind - DEVICE_MIGRATION)),
                _ => LeafKind::Unknown,
            };
        }
        if generation != 0 {
            return LeafKind::Unknown;
        }
        match kind {
            0 if self.0 == 0 => LeafKind::None,
            PRESENT_READ => LeafKind::Present(Access::Read),
            PRESENT_WRITE => LeafKind::Present(Access::Write),
            EXCLUSIVE => LeafKind::DeviceExclusive,
            4..=6 => LeafKind::Migration(Self::migration_access(kind - HOST_MIGRATION)),
            _ => LeafKind::Unknown,
        }
    }

    /// The offset of the device page that the leaf names; `None` for every other kind.
    pub const fn offset(self) -> Option<Offset> {
        match self.kind() {
            LeafKind::DevicePrivate(_) => Some(Offset::from_low_bits(self.0)),
            LeafKind::Migration(_) if self.0 & bits::DEVICE != 0 => Some(Offset::from_low_bits(self.0)),
            _ => None,
        }
    }

    /// The number of the host page that the leaf names; `None` for every other kind.
    pub const fn pfn(self) -> Option<Pfn> {
        match self.kind() {
            LeafKind::Present(_) | LeafKind::DeviceExclusive | LeafKind::Migration(_) if self.0 & bits::DEVICE == 0 => {
                Pfn::new(self.0 & bits::PAYLOAD)
            }
            _ => None,
        }
    }

    /// The same page with this access: what `mprotect` and `fork` do to an entry. The target, its generation and the
    /// marks never change; a kind that has no access is returned as it is.
    #[inline]
    pub const fn with_access(self, access: Access) -> SoftLeaf {
        let write = matches!(access, Access::Write) as u64;
        match self.kind() {
            LeafKind::DevicePrivate(_) if self.is_direct() => {
                SoftLeaf(self.0 & !bits::WRITE | write << bits::KIND_SHIFT)
            }
            LeafKind::DevicePrivate(_) => self.with_kind(PRIVATE_READ + write),
            LeafKind::Present(_) => self.with_kind(PRESENT_READ + write),
            // Both migration rows run read, read-exclusive, write.
            LeafKind::Migration(_) if self.0 & bits::DEVICE != 0 => self.with_kind(DEVICE_MIGRATION + 2 * write),
            LeafKind::Migration(_) => self.with_kind(HOST_MIGRATION + 2 * write),
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

    /// The same with another kind; not for direct words, which have none.
    const fn with_kind(self, kind: u64) -> SoftLeaf {
        SoftLeaf(self.0 & !bits::KIND | kind << bits::KIND_SHIFT)
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
