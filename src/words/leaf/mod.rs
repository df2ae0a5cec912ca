//! [`SoftLeaf`]: the word that a page table holds where no page is mapped, or that says which one is.
//!
//! Pure bits: whether the offset in it is *allocated* is not known here; see [`Space::lookup`](crate::Space::lookup).
//! This file says what a leaf is and names; `rewrite` makes one leaf of another, `marks` has the marks, `device` and
//! `host` know where the fields lie.
#![forbid(unsafe_code)]

mod device;
mod host;
mod kind;
mod marks;
mod rewrite;

pub use kind::{Access, LeafKind, MigrationAccess};

use core::fmt;

use crate::words::{Offset, Order, Pfn, PteMarker, SwapSlot, Target, leaf_bits as bits};
use device::DeviceKind;
pub(crate) use device::DeviceWord;
use host::{HostKind, HostWord};

/// The largest order that a direct word names: it fits the field, and such a folio's metadata lies at its head's place.
pub(crate) const MAX_DIRECT_ORDER: u8 = {
    let fits = (1 << bits::ORDER_BITS) - 1;
    if fits < Order::HUGE.get() { fits } else { Order::HUGE.get() - 1 }
};

/// A leaf page-table word, of the level of pages (4 KiB) and of the level above it (2 MiB).
///
/// | bits   | in a direct word                           | in another word with an [`Offset`] | in a host word                      |
/// |--------|--------------------------------------------|------------------------------------|-------------------------------------|
/// | 0..40  | the offset                                 | the offset (see *moving* below)    | [`Pfn`], swap offset or marker flags |
/// | 40     | young: touched since it was cleared        | the same                           | the same                            |
/// | 41     | dirty: written since it was cleared        | the same                           | the same                            |
/// | 42     | soft-dirty: rides along                    | the same                           | the same                            |
/// | 43     | write-protect (userfaultfd's): rides along | the same                           | the same                            |
/// | 44     | whether it allows writing                  | 44..51: its slot, 2 to 127         | 44..51: 0                           |
/// | 45..48 | the folio's order, 0 to 7                  |                                    |                                     |
/// | 48..63 | the folio's generation                     | 51..63: generation modulo 4,096    | 51..55: kind; 55..63: swap type, or 0 |
/// | 63     | 1                                          | 0                                  | 0                                   |
///
/// A **direct** word is a device-private leaf whose offset heads a folio of order 7 or less, which is nearly every leaf:
/// its page's metadata lies at the offset itself, and one sign test tells it from all others.
///
/// | slot                                                             | the word is                                      |
/// |------------------------------------------------------------------|--------------------------------------------------|
/// | 0                                                                | a host word                                      |
/// | 1                                                                | unknown                                          |
/// | 2 + 18 · kind + (order - 1): 2 to 91                             | **ordered**: of a page that could have no direct word: a tail, or a page of a folio of order 8 or more |
/// | 92 + 12 · access + (generation / 4,096 - 1): 92 to 97, 104 to 109, 116 to 121 | **moving**: the migration entry of a direct word of order 0 |
/// | the same + 6: 98 to 103, 110 to 115, 122 to 127                  | **moving**, of a direct word of order 1 to 7: such an offset ends in as many zeros, and the uppermost of these is 1 here |
///
/// Kinds of an ordered word: private read 0, private write 1, migration read 2, read-exclusive 3, write 4. Access of a
/// moving word: read 0, read-exclusive 1, write 2. So a migration entry holds all of the generation that the leaf before
/// it held, and gives that very leaf back. Kinds of a host word: none 0 (the whole word is 0), present read 1, present
/// write 2, exclusive 3, migration read 4, read-exclusive 5, write 6, swap 7, hwpoison 8, marker 9 (without marks).
///
/// Each leaf has one word. A pattern that fits none of this is [`LeafKind::Unknown`] and names nothing.
///
/// Every word that names an offset carries its folio's order and generation, so that it leads to one place in the
/// metadata, and to one life of the folio there.
///
/// A device-private leaf made by [`Folio::into_leaf`](crate::Folio::into_leaf) **owns a reference** of its folio, until
/// [`Space::take`](crate::Space::take) moves it back into a handle; a migration entry made of it owns it in its place.
/// The word itself is plain bits and can be copied; who holds the reference is settled by the folio's counts, so a
/// second `take` through a copy is refused.
///
/// A leaf is of the space that made it. Another space may have a folio of the same order and generation at the offset.
///
/// ```
/// use farpage::{Access, LeafKind, MigrationAccess, Pfn, SoftLeaf, Target};
///
/// // A host page, mapped writable, that is about to move. All of it can be computed in constants.
/// const PFN: Pfn = Pfn::new(7).unwrap();
/// const LEAF: SoftLeaf = SoftLeaf::present(PFN, Access::Write).with_soft_dirty(true);
/// const ENTRY: SoftLeaf = LEAF.to_migration(MigrationAccess::Write).unwrap();
///
/// assert_eq!(ENTRY.kind(), LeafKind::Migration(MigrationAccess::Write));
/// assert_eq!(ENTRY.migration_target(), Some(Target::Host(PFN)));
/// assert_eq!(ENTRY.from_migration(), Some(LEAF)); // it did not move after all; no mark was lost
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct SoftLeaf(u64);

const _: () = assert!(size_of::<SoftLeaf>() == 8);

/// A leaf's fields.
enum Fields {
    None,
    Device(DeviceWord),
    Host(HostWord),
    Unknown,
}

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
    #[inline]
    pub const fn present(pfn: Pfn, access: Access) -> SoftLeaf {
        SoftLeaf::host(pfn.get(), HostKind::Present(access))
    }

    /// The leaf of a host page that a device has for itself. See [`SoftLeaf::to_exclusive`].
    pub const fn exclusive(pfn: Pfn) -> SoftLeaf {
        SoftLeaf::host(pfn.get(), HostKind::Exclusive)
    }

    /// The leaf of a page that was written out to `slot`. See [`SoftLeaf::to_swap`].
    pub const fn swap(slot: SwapSlot) -> SoftLeaf {
        SoftLeaf::host(slot.offset(), HostKind::Swap(slot.swap_type()))
    }

    /// The leaf of a host page whose memory is broken. See [`SoftLeaf::to_hwpoison`].
    pub const fn hwpoison(pfn: Pfn) -> SoftLeaf {
        SoftLeaf::host(pfn.get(), HostKind::HwPoison)
    }

    /// The leaf of a place without a page that has `marker` to remember.
    pub const fn marker(marker: PteMarker) -> SoftLeaf {
        SoftLeaf::host(marker.bits(), HostKind::Marker)
    }

    /// The leaf of `offset`, the head of a folio of that order (7 or less) and generation.
    #[inline]
    pub(crate) const fn direct(offset: Offset, order: Order, generation: u64, access: Access) -> SoftLeaf {
        SoftLeaf(DeviceWord::direct(offset, order, generation, access))
    }

    /// The leaf of `offset`, any page of a folio of that order and generation.
    #[inline]
    pub(crate) const fn device_private(offset: Offset, order: Order, generation: u64, access: Access) -> SoftLeaf {
        SoftLeaf(DeviceWord { offset, order, generation, kind: DeviceKind::Private(access) }.encode())
    }

    const fn host(payload: u64, kind: HostKind) -> SoftLeaf {
        SoftLeaf(HostWord { payload, kind }.encode())
    }

    #[inline]
    const fn fields(self) -> Fields {
        if let Some(word) = self.device_word() {
            Fields::Device(word)
        } else if let Some(word) = HostWord::decode(self.0) {
            Fields::Host(word)
        } else if self.0 == 0 {
            Fields::None
        } else {
            Fields::Unknown
        }
    }

    /// Whether the metadata of the leaf's folio lies at the leaf's own offset.
    #[inline(always)]
    pub(crate) const fn is_direct(self) -> bool {
        self.0 & bits::DIRECT != 0
    }

    /// The order of the folio, for a device-private leaf of a tail, or of a folio of order 8 and more; `None` for all others.
    #[inline(always)]
    pub(crate) const fn private_order(self) -> Option<Order> {
        DeviceWord::order_of_private(self.0)
    }

    /// The fields of a leaf that names an offset; `None` for every other kind.
    #[inline]
    pub(crate) const fn device_word(self) -> Option<DeviceWord> {
        DeviceWord::decode(self.0)
    }

    /// What the leaf is. Never panics: bits that mean nothing are [`LeafKind::Unknown`].
    #[inline]
    pub const fn kind(self) -> LeafKind {
        match self.fields() {
            Fields::None => LeafKind::None,
            Fields::Device(word) => word.kind.leaf_kind(),
            Fields::Host(word) => word.kind.leaf_kind(),
            Fields::Unknown => LeafKind::Unknown,
        }
    }

    /// Whether nothing was ever here. Linux: `pte_none()`.
    #[inline]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Whether a host page is mapped. Linux: `pte_present()`.
    #[inline]
    pub const fn is_present(self) -> bool {
        matches!(self.kind(), LeafKind::Present(_))
    }

    /// Whether the page lies on a device. Linux: `softleaf_is_device_private()`.
    #[inline]
    pub const fn is_device_private(self) -> bool {
        matches!(self.kind(), LeafKind::DevicePrivate(_))
    }

    /// Whether a device has the page, a host page, for itself. Linux: `softleaf_is_device_exclusive()`.
    #[inline]
    pub const fn is_device_exclusive(self) -> bool {
        matches!(self.kind(), LeafKind::DeviceExclusive)
    }

    /// Whether the page is on its way, to be waited for. Linux: `softleaf_is_migration()`.
    #[inline]
    pub const fn is_migration(self) -> bool {
        matches!(self.kind(), LeafKind::Migration(_))
    }

    /// Whether the page was written out. Linux: `softleaf_is_swap()`.
    #[inline]
    pub const fn is_swap(self) -> bool {
        matches!(self.kind(), LeafKind::Swap)
    }

    /// Whether the page's memory is broken. Linux: `softleaf_is_hwpoison()`.
    #[inline]
    pub const fn is_hwpoison(self) -> bool {
        matches!(self.kind(), LeafKind::HwPoison)
    }

    /// Whether there is no page, but something to remember. Linux: `softleaf_is_marker()`.
    #[inline]
    pub const fn is_marker(self) -> bool {
        matches!(self.kind(), LeafKind::Marker)
    }

    /// What the mapping allows, or allowed before the page went on its way; `None` for every other kind, exclusive
    /// leaves among them, which allow nothing until the device gives the page back.
    #[inline]
    pub const fn access(self) -> Option<Access> {
        match self.kind() {
            LeafKind::DevicePrivate(access) | LeafKind::Present(access) => Some(access),
            LeafKind::Migration(access) => Some(access.access()),
            _ => None,
        }
    }

    /// The offset of the device page that the leaf names (device-private leaves, and migration entries of such pages);
    /// `None` for every other kind.
    #[inline]
    pub const fn offset(self) -> Option<Offset> {
        match self.device_word() {
            Some(word) => Some(word.offset),
            None => None,
        }
    }

    /// The number of the host page that the leaf names (present, exclusive and hwpoison leaves, and migration entries of
    /// such pages); `None` for every other kind. Linux: `softleaf_to_pfn()`.
    #[inline]
    pub const fn pfn(self) -> Option<Pfn> {
        match HostWord::decode(self.0) {
            Some(HostWord { kind: HostKind::Swap(_) | HostKind::Marker, .. }) | None => None,
            Some(word) => Pfn::new(word.payload),
        }
    }

    /// The page that the leaf names, wherever it lies; `None` for leaves that name none: none, swap, marker, unknown.
    #[inline]
    pub const fn target(self) -> Option<Target> {
        match (self.offset(), self.pfn()) {
            (Some(offset), _) => Some(Target::Device(offset)),
            (None, Some(pfn)) => Some(Target::Host(pfn)),
            (None, None) => None,
        }
    }

    /// The page that a migration entry stands for; `None` for every other kind.
    ///
    /// Linux asks two questions for this, `softleaf_is_migration()` and, in the series,
    /// `softleaf_is_migration_device_private()`, and hands a bare number on.
    #[inline]
    pub const fn migration_target(self) -> Option<Target> {
        if self.is_migration() { self.target() } else { None }
    }

    /// The order of the folio of the device page that the leaf names; `None` for leaves that name no offset.
    #[inline]
    pub const fn folio_order(self) -> Option<Order> {
        match self.device_word() {
            Some(word) => Some(word.order),
            None => None,
        }
    }

    /// Where the page was written to; `None` for every kind but [`LeafKind::Swap`].
    pub const fn swap_slot(self) -> Option<SwapSlot> {
        match HostWord::decode(self.0) {
            Some(HostWord { kind: HostKind::Swap(swap_type), payload }) => SwapSlot::new(swap_type, payload),
            _ => None,
        }
    }

    /// What there is to remember; `None` for every kind but [`LeafKind::Marker`].
    pub const fn marker_flags(self) -> Option<PteMarker> {
        match HostWord::decode(self.0) {
            Some(HostWord { kind: HostKind::Marker, payload }) => PteMarker::from_bits(payload),
            _ => None,
        }
    }
}

impl fmt::Debug for SoftLeaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut leaf = f.debug_struct("SoftLeaf");
        leaf.field("kind", &self.kind());
        match self.fields() {
            Fields::None => return leaf.finish(),
            Fields::Device(DeviceWord { offset, order, generation, .. }) => {
                leaf.field("offset", &offset.get()).field("order", &order.get()).field("generation", &generation);
            }
            Fields::Host(HostWord { payload, kind: HostKind::Swap(swap_type) }) => {
                leaf.field("type", &swap_type).field("offset", &payload);
            }
            Fields::Host(HostWord { kind: HostKind::Marker, .. }) => {
                return leaf.field("flags", &self.marker_flags()).finish();
            }
            Fields::Host(HostWord { payload, .. }) => {
                leaf.field("pfn", &payload);
            }
            Fields::Unknown => return leaf.field("bits", &format_args!("{:#018x}", self.0)).finish(),
        }
        leaf.field("young", &self.is_young()).field("dirty", &self.is_dirty());
        leaf.field("soft_dirty", &self.is_soft_dirty()).field("write_protect", &self.is_write_protect()).finish()
    }
}

#[cfg(test)]
mod tests;
