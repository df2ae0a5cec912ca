//! [`MigrateEntry`]: a slot of the two arrays by which core and driver agree on a migration.
#![forbid(unsafe_code)]

use core::fmt;

use crate::geometry::OFFSET_BITS;
use crate::words::{Offset, Order, Pfn, Target};

const VALID: u64 = 1 << 0;
const MIGRATE: u64 = 1 << 1;
const WRITE: u64 = 1 << 3;
const COMPOUND: u64 = 1 << 4;
const DEVICE_PRIVATE: u64 = 1 << 5;
const NUMBER_SHIFT: u32 = 6;
const NUMBER: u64 = ((1 << OFFSET_BITS) - 1) << NUMBER_SHIFT;
/// The bits of a page's entry. Bit 2 was Linux's `MIGRATE_PFN_LOCKED` once.
const PAGE: u64 = VALID | MIGRATE | WRITE | COMPOUND | DEVICE_PRIVATE | NUMBER;

/// One slot of a migration's source or destination array: which page, and what becomes of it.
///
/// Linux: the `migrate_pfn` words of `struct migrate_vma`, here with a typed payload.
///
/// | bits  | field          | meaning                                                                        |
/// |-------|----------------|--------------------------------------------------------------------------------|
/// | 0     | valid          | a page is named                                                                |
/// | 1     | migrate        | it is to move; after the move: it has moved. Without valid: a hole or a zero page, which may be filled |
/// | 3     | write          | its mapping allows writing                                                     |
/// | 4     | compound       | the slot is for a whole folio of order 9, and the 511 after it are empty        |
/// | 5     | device-private | the payload is an [`Offset`]; otherwise a [`Pfn`]                              |
/// | 6..46 | payload        | its number                                                                     |
///
/// All other bits are 0. A pattern that fits none of this is [`MigrateEntryKind::Unknown`] and names nothing.
///
/// ```
/// use farpage::{MigrateEntry, Offset, Target};
///
/// let offset = Offset::new(512).unwrap();
/// let entry = MigrateEntry::device(offset).with_migrate(true).with_compound(true);
/// assert_eq!(entry.target(), Some(Target::Device(offset)));
/// assert_eq!(entry.for_page(3), Some(MigrateEntry::device(Offset::new(515).unwrap()).with_migrate(true)));
/// assert!(MigrateEntry::hole().is_migrate() && !MigrateEntry::hole().is_valid());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct MigrateEntry(u64);

const _: () = assert!(size_of::<MigrateEntry>() == 8);

/// What a [`MigrateEntry`] is. More kinds may come: match with a `_` arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MigrateEntryKind {
    /// Nothing: a slot that was skipped, or the tail of a compound entry.
    Empty,
    /// No page yet, or the zero page: the destination may be filled.
    Hole,
    /// This page.
    Page(Target),
    /// Bits that no version known here writes. It names nothing.
    Unknown,
}

impl MigrateEntry {
    /// The slot that takes no part: all bits zero.
    pub const EMPTY: MigrateEntry = MigrateEntry(0);

    /// The entry of a page, wherever it lies: valid, and nothing else.
    #[inline]
    pub const fn page(target: Target) -> MigrateEntry {
        let device = if matches!(target, Target::Device(_)) { DEVICE_PRIVATE } else { 0 };
        MigrateEntry(VALID | device | target.number() << NUMBER_SHIFT)
    }

    /// The entry of a device page. Linux: `migrate_pfn_from_page()` of one.
    #[inline]
    pub const fn device(offset: Offset) -> MigrateEntry {
        MigrateEntry::page(Target::Device(offset))
    }

    /// The entry of a host page. Linux: `migrate_pfn()`.
    #[inline]
    pub const fn host(pfn: Pfn) -> MigrateEntry {
        MigrateEntry::page(Target::Host(pfn))
    }

    /// The entry of a place without a page, or with the zero page, that may be filled: migrate without valid.
    #[inline]
    pub const fn hole() -> MigrateEntry {
        MigrateEntry(MIGRATE)
    }

    /// The entry with these bits, whatever they are: decoding decides what they mean.
    #[inline]
    pub const fn from_bits(bits: u64) -> MigrateEntry {
        MigrateEntry(bits)
    }

    /// The bits.
    #[inline]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// What the entry is. Never panics: bits that mean nothing are [`MigrateEntryKind::Unknown`].
    #[inline]
    pub const fn kind(self) -> MigrateEntryKind {
        if self.0 & VALID != 0 {
            return if self.0 & !PAGE == 0 {
                MigrateEntryKind::Page(Target::of_low_bits(self.0 >> NUMBER_SHIFT, self.0 & DEVICE_PRIVATE != 0))
            } else {
                MigrateEntryKind::Unknown
            };
        }
        if self.0 == 0 {
            MigrateEntryKind::Empty
        } else if self.0 & !COMPOUND == MIGRATE {
            MigrateEntryKind::Hole
        } else {
            MigrateEntryKind::Unknown
        }
    }

    /// The page that the entry names; `None` for empty slots, holes and unknown words. Linux: `migrate_pfn_to_page()`.
    #[inline]
    pub const fn target(self) -> Option<Target> {
        match self.kind() {
            MigrateEntryKind::Page(target) => Some(target),
            _ => None,
        }
    }

    /// Whether the slot takes no part.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the entry names a page.
    #[inline]
    pub const fn is_valid(self) -> bool {
        matches!(self.kind(), MigrateEntryKind::Page(_))
    }

    /// Whether there is no page, and one may come.
    #[inline]
    pub const fn is_hole(self) -> bool {
        matches!(self.kind(), MigrateEntryKind::Hole)
    }

    /// Whether the page moves, or the hole may be filled. After the move: whether that has happened.
    #[inline]
    pub const fn is_migrate(self) -> bool {
        self.has(MIGRATE)
    }

    /// Whether the mapping allows writing.
    #[inline]
    pub const fn is_write(self) -> bool {
        self.has(WRITE)
    }

    /// Whether the slot is for a whole folio of order 9, or a hole of that size.
    #[inline]
    pub const fn is_compound(self) -> bool {
        self.has(COMPOUND)
    }

    /// Whether the page lies on a device.
    #[inline]
    pub const fn is_device_private(self) -> bool {
        self.has(DEVICE_PRIVATE)
    }

    /// The same entry, to move or not. A hole that is not to be filled is [`MigrateEntry::EMPTY`]; empty and unknown
    /// entries stay as they are.
    #[inline]
    pub const fn with_migrate(self, migrate: bool) -> MigrateEntry {
        match self.kind() {
            MigrateEntryKind::Page(_) => self.with(MIGRATE, migrate),
            MigrateEntryKind::Hole if !migrate => MigrateEntry::EMPTY,
            _ => self,
        }
    }

    /// The same page with a mapping that allows writing, or does not. Entries without a page stay as they are.
    #[inline]
    pub const fn with_write(self, write: bool) -> MigrateEntry {
        if self.is_valid() { self.with(WRITE, write) } else { self }
    }

    /// The same page or hole, as one of 512 or alone. Empty and unknown entries stay as they are.
    #[inline]
    pub const fn with_compound(self, compound: bool) -> MigrateEntry {
        if self.is_valid() || self.is_hole() { self.with(COMPOUND, compound) } else { self }
    }

    /// The entry of the `index`-th page (below 512) of a compound entry that is taken apart: its flags, but for compound.
    ///
    /// `None` for entries that are not compound. Linux: `migrate_vma_split_unmapped_folio()`.
    #[inline]
    pub const fn for_page(self, index: u64) -> Option<MigrateEntry> {
        if !self.is_compound() || index >= Order::HUGE.nr_pages() {
            return None;
        }
        let alone = self.with_compound(false);
        let Some(target) = self.target() else { return Some(alone) };
        match target.checked_add(index) {
            Some(target) => Some(MigrateEntry(alone.0 & !NUMBER | target.number() << NUMBER_SHIFT)),
            None => None,
        }
    }

    const fn has(self, flag: u64) -> bool {
        self.0 & flag != 0 && !matches!(self.kind(), MigrateEntryKind::Unknown)
    }

    const fn with(self, flag: u64, set: bool) -> MigrateEntry {
        MigrateEntry(if set { self.0 | flag } else { self.0 & !flag })
    }
}

impl fmt::Debug for MigrateEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut entry = f.debug_struct("MigrateEntry");
        match self.kind() {
            MigrateEntryKind::Unknown => return entry.field("bits", &format_args!("{:#018x}", self.0)).finish(),
            kind => entry.field("kind", &kind),
        };
        entry.field("migrate", &self.is_migrate()).field("write", &self.is_write());
        entry.field("compound", &self.is_compound()).finish()
    }
}
