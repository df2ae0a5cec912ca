//! [`MigrateBatch`]: the slots of a migration, one for each page address, in memory that is used again.
#![forbid(unsafe_code)]

use core::fmt;

use crate::folio::{Folio, LockedFolio};
use crate::mm::host::Frame;
use crate::words::{Access, MigrateEntry, Offset, Pfn, SoftLeaf, Target};

/// What one page address of a migration is about.
pub(super) struct Slot<'s> {
    /// What the driver is told; behind [`Migration::pages`](super::Migration::pages), what became of it.
    pub(super) src: MigrateEntry,
    /// The migration entry that was put in, of a single page.
    pub(super) entry: SoftLeaf,
    /// Who has the source folio's lock and the reference that keeps it.
    pub(super) holder: Holder<'s>,
    /// Which page of that folio moves.
    pub(super) index: u32,
    /// Whether the page's leaves are migration entries now.
    pub(super) is_unmapped: bool,
    /// Whether leaves elsewhere map the page, too.
    pub(super) has_others: bool,
    /// Whether it was one page of a compound slot.
    pub(super) is_part: bool,
    /// Whether it is for a page of order 0 that its own leaf alone maps and that nobody else has; see `single`.
    pub(super) is_single: bool,
    /// Whether the source's leaf has become one of the destination, and its reference is still to be dropped.
    pub(super) is_moved: bool,
    /// Where it goes, locked.
    pub(super) dst: Option<LockedFolio<'s>>,
}

// The flags of a word that we have made: asking the word looks whether it is one.
const MIGRATE: u64 = MigrateEntry::hole().bits();
const VALID: u64 = match Pfn::new(0) {
    Some(pfn) => MigrateEntry::host(pfn).bits(),
    None => panic!("there is a first page"),
};
const COMPOUND: u64 = MigrateEntry::hole().with_compound(true).bits() & !MIGRATE;
const WRITE: u64 = match Pfn::new(0) {
    Some(pfn) => MigrateEntry::host(pfn).with_write(true).bits() & !VALID,
    None => panic!("there is a first page"),
};

const _: () = assert!(MIGRATE.count_ones() == 1 && VALID.count_ones() == 1 && COMPOUND.count_ones() == 1);
const DEVICE: u64 = match Offset::new(0) {
    Some(offset) => MigrateEntry::device(offset).bits() & !VALID,
    None => panic!("there is a first page"),
};

const _: () = assert!(WRITE.count_ones() == 1 && DEVICE.count_ones() == 1);

/// What the driver is told of a page that is to move.
#[inline(always)]
pub(super) fn source(target: Target, access: Access) -> MigrateEntry {
    let write = if access == Access::Write { WRITE } else { 0 };
    MigrateEntry::from_bits(MigrateEntry::page(target).bits() | MIGRATE | write)
}

/// Who has a source folio's lock.
pub(super) enum Holder<'s> {
    /// Nobody: a hole, a tail, or a slot that was skipped.
    Nobody,
    /// This slot.
    Own(LockedFolio<'s>),
    /// An earlier slot, for another page of the same large folio.
    Slot(u32),
    /// The fault that the migration is for.
    Fault,
}

impl Slot<'_> {
    pub(super) const EMPTY: Self = Slot {
        src: MigrateEntry::EMPTY,
        entry: SoftLeaf::NONE,
        holder: Holder::Nobody,
        index: 0,
        is_unmapped: false,
        has_others: false,
        is_part: false,
        is_single: false,
        is_moved: false,
        dst: None,
    };

    pub(super) const HOLE: Self = Slot { src: MigrateEntry::hole(), ..Slot::EMPTY };

    /// Whether the page, or the filling of the hole, is under way.
    #[inline(always)]
    pub(super) fn is_moving(&self) -> bool {
        self.src.bits() & MIGRATE != 0
    }

    /// Whether there is no page, and one may come.
    #[inline(always)]
    pub(super) fn is_hole(&self) -> bool {
        self.src.bits() & (MIGRATE | VALID) == MIGRATE
    }

    /// What the page's leaf allowed when it was collected.
    #[inline(always)]
    pub(super) fn access(&self) -> Access {
        if self.src.bits() & WRITE != 0 { Access::Write } else { Access::Read }
    }

    /// Whether the page lies on a device.
    #[inline(always)]
    pub(super) fn is_on_device(&self) -> bool {
        self.src.bits() & DEVICE != 0
    }

    /// Whether it is about 512 pages.
    #[inline(always)]
    pub(super) fn is_compound(&self) -> bool {
        self.src.bits() & COMPOUND != 0
    }
}

/// The slots of a migration, kept from one to the next so that a batch allocates nothing.
///
/// ```
/// use farpage::MigrateBatch;
///
/// let batch = MigrateBatch::with_capacity(512); // pages; it grows if a migration has more
/// # drop::<MigrateBatch<'_>>(batch);
/// ```
#[derive(Default)]
pub struct MigrateBatch<'s> {
    pub(super) slots: Vec<Slot<'s>>,
}

impl MigrateBatch<'_> {
    /// Slots for no page yet.
    pub fn new() -> Self {
        MigrateBatch { slots: Vec::new() }
    }

    /// Slots for `nr_pages` pages.
    pub fn with_capacity(nr_pages: usize) -> Self {
        MigrateBatch { slots: Vec::with_capacity(nr_pages) }
    }
}

impl fmt::Debug for MigrateBatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MigrateBatch").field("capacity", &self.slots.capacity()).finish_non_exhaustive()
    }
}

/// Where a page goes: a fresh folio, of the host or of a device.
#[derive(Debug)]
pub enum Destination<'s> {
    /// Host pages.
    Host(Frame<'s>),
    /// Pages of a device.
    Device(Folio<'s>),
}

impl<'s> From<Frame<'s>> for Destination<'s> {
    fn from(frame: Frame<'s>) -> Destination<'s> {
        Destination::Host(frame)
    }
}

impl<'s> From<Folio<'s>> for Destination<'s> {
    fn from(folio: Folio<'s>) -> Destination<'s> {
        Destination::Device(folio)
    }
}

impl<'s> Destination<'s> {
    pub(super) fn into_folio(self) -> Folio<'s> {
        match self {
            Destination::Host(frame) => frame.into_folio(),
            Destination::Device(folio) => folio,
        }
    }
}
