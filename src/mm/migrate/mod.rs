//! [`Migration`]: pages move between host and device, as one transaction that cannot be left unfinished.
//!
//! | phase | what happens | in Linux |
//! |---|---|---|
//! | [collect](AddressSpace::migrate) | a slot for each page address; folios tried to lock, and migration entries put in | `migrate_vma_collect()` |
//! | unmap, in the same call | entries at the folios' other mappings; whoever else has a reference pins the page, which is put back | `migrate_vma_unmap()` |
//! | the driver | allocates destinations ([`Migration::set_dst`]) and copies | |
//! | [`Migration::pages`] | what has a destination is going to move; holes are filled if they still are holes | `migrate_vma_pages()` |
//! | [`Migration::finalize`], or drop | migration entries become leaves of the destination, or of the source again; locks and references are dropped | `migrate_vma_finalize()` |
//!
//! A slot that is refused is empty, and its page is as it was. Between collect and finalize an access to a page of
//! the batch waits, asleep, for the folio's lock.
//!
//! **Locks.** Folios are tried, never waited for, so two migrations that want the same pages do not wait for each other.
//! The lock of a table is taken once for all slots in it.
//!
//! **Threads.** A migration is one thread's. [`MigrateParts`] is one range for several: migrations of parts that have no table in common.
//!
//! **Large folios.** A huge leaf over a whole run of 512 pages is one compound slot, if asked for, and moves into one folio of order
//! 9, or page by page into 512. Otherwise the *leaf* is taken apart, and the folio's pages are collected one by one, all under the one lock. The folio
//! is not divided: it goes, with its memory, when the last of its pages has left. (Linux divides it first, and skips it if it cannot.)
#![forbid(unsafe_code)]

mod collect;
mod evict;
mod finish;
mod parts;
mod request;
mod single;
mod slot;
mod unmap;

use core::fmt;
use std::borrow::Cow;
use std::sync::Arc;

use collect::Chosen;
pub use parts::MigrateParts;
pub use request::MigrateRequest;
pub use slot::{Destination, MigrateBatch};
use slot::{Holder, Slot};

use super::address::{Address, AddressRange};
use super::address_space::AddressSpace;
use super::driver::DeviceFault;
use super::error::{DestinationError, SetupError};
use super::inner::Inner;
use super::lock::Mapped;
use super::machine::{Core, Machine};
use super::notifier::{Invalidation, InvalidationKind};
use super::page_table::Cursor;
use super::vma::{Area, Kind, Protection};
use crate::device::Owner;
use crate::folio::{Folio, LockedFolio};
use crate::words::{Access, MigrateEntry, Order};

/// Where in the table the slots stand: those of a range of an address space.
pub(super) struct Place<'a, 's> {
    space: &'a Arc<Inner<'s>>,
    range: AddressRange,
    /// The index of the first page in its mapping's terms.
    first_index: u64,
    /// What a leaf may allow there.
    access: Access,
    /// Where the tables of the range are.
    cursor: Cursor<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Collected,
    Moved,
    Done,
}

/// Pages on their way, from [`AddressSpace::migrate`], [`DeviceFault::migrate`](crate::DeviceFault::migrate) or
/// [`Machine::migrate_device_range`]. Linux: `struct migrate_vma`.
///
/// Dropping it finalizes it: what was not moved is back in its place.
#[must_use = "a migration that is dropped at once moves nothing"]
pub struct Migration<'a, 's> {
    core: Cow<'a, Arc<Core<'s>>>,
    batch: &'a mut MigrateBatch<'s>,
    /// `None` if the pages were collected by their folios.
    place: Option<Place<'a, 's>>,
    fault: Option<&'a LockedFolio<'s>>,
    owner: Option<Owner>,
    /// The number of the first slot's page: in the address space, or in the space of device or host pages.
    first: u64,
    phase: Phase,
    /// Whether there was a compound slot.
    has_compound: bool,
    /// Whether there was a hole that may be filled.
    has_holes: bool,
    /// Whether there was a page that is not single.
    has_others: bool,
    /// Held until the end, unless the fault's own thread holds it.
    _mapped: Option<Mapped<'a>>,
}

impl<'s> AddressSpace<'s> {
    /// Begins to move pages of a range of one mapping: collects what the request selects, and takes it out of use.
    ///
    /// For each page address there is a slot, [`Migration::src`]: a page, a hole (or zero page) that may be filled, or
    /// empty for what is not selected or was refused. The driver gives destinations, copies, and ends:
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use farpage::{DeviceConfig, HeapMemory, Machine, Space};
    /// # let (device_pages, host_pages) = (Space::new()?, Space::new()?);
    /// # let memory = Arc::new(HeapMemory::new(64));
    /// # let ram = host_pages.register(DeviceConfig::new(64).ops(Arc::clone(&memory)))?;
    /// # let machine = Machine::new(&device_pages, ram, memory)?;
    /// use farpage::{Address, AddressRange, LeafKind, Mapping, MigrateBatch, MigrateRequest, Order};
    ///
    /// let vram = device_pages.register(DeviceConfig::new(1024))?;
    /// let space = machine.address_space()?;
    /// let range = AddressRange::new(0x10_0000, 0x8000).unwrap();
    /// space.map(Mapping::new(range))?;
    /// space.write(range.start(), &[7; 0x3000])?; // three pages; five are holes
    ///
    /// let mut batch = MigrateBatch::new();
    /// let mut migration = space.migrate(&mut batch, MigrateRequest::new(range).system(true))?;
    /// assert_eq!(migration.nr_collected(), 8);
    /// let mut folios = Vec::new();
    /// vram.alloc_many(Order::ZERO, 8, &mut folios)?;
    /// for (slot, folio) in folios.into_iter().enumerate() {
    ///     // ... the device copies the page that `migration.src(slot)` names, or clears its own
    ///     migration.set_dst(slot, folio)?;
    /// }
    /// assert_eq!(migration.pages(), 8);
    /// migration.finalize();
    /// assert!(matches!(space.leaf(range.start()).0.kind(), LeafKind::DevicePrivate(_)));
    /// assert_eq!(vram.nr_live_pages(), 8); // each is kept by its leaf, and by nothing else
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Only anonymous pages move, and private copies of a file's. A page that somebody else has a reference of stays.
    /// The address space is held against changes of its mappings until the migration ends; faults of other threads go on. The
    /// thread itself must not fault, read, write or snapshot meanwhile: behind somebody who waits to change mappings, it would
    /// wait for itself.
    ///
    /// # Errors
    ///
    /// [`SetupError`] for a range that is not of one mapping, or of one whose pages never move.
    pub fn migrate<'a>(
        &'a self,
        batch: &'a mut MigrateBatch<'s>,
        request: MigrateRequest,
    ) -> Result<Migration<'a, 's>, SetupError> {
        let space = self.inner();
        let mapped = space.map_lock.read();
        let first = request.range.start();
        let (area, cursor) = space.area(&mapped, first.vpn()).ok_or(SetupError::NotMapped { address: first })?;
        Migration::begin(space, &area, cursor, batch, request, None, Some(mapped))
    }
}

impl<'a, 's> Migration<'a, 's> {
    /// Around a fault whose thread holds `map_lock`, and the folio locked.
    #[inline(always)]
    pub(super) fn of_fault(
        fault: &'a DeviceFault<'_, 's>,
        batch: &'a mut MigrateBatch<'s>,
        request: MigrateRequest,
    ) -> Result<Migration<'a, 's>, SetupError> {
        Migration::begin(fault.space, fault.area, *fault.cursor, batch, request, Some(fault), None)
    }

    #[inline(always)]
    fn begin(
        space: &'a Arc<Inner<'s>>,
        area: &Area,
        cursor: Cursor<'a>,
        batch: &'a mut MigrateBatch<'s>,
        request: MigrateRequest,
        fault: Option<&'a DeviceFault<'_, 's>>,
        mapped: Option<Mapped<'a>>,
    ) -> Result<Migration<'a, 's>, SetupError> {
        let range = request.range;
        check(area, range)?;
        let access = if area.protection.allows(Access::Write) { Access::Write } else { Access::Read };
        batch.slots.clear();
        let mut migration = Migration {
            core: Cow::Borrowed(space.core()),
            batch,
            place: Some(Place { space, range, first_index: area.index_of(range.first()), access, cursor }),
            fault: fault.map(|fault| fault.folio),
            owner: request.owner,
            first: range.first(),
            phase: Phase::Collected,
            has_compound: false,
            has_holes: false,
            has_others: false,
            _mapped: mapped,
        };
        let chosen = match fault {
            Some(fault) => Chosen::new(&request, fault.device.0, true, Some(fault.device.1)),
            None => Chosen::new(&request, space.core().ram().range(), false, None),
        };
        let told = Invalidation { range, kind: InvalidationKind::Migrate, owner: request.owner };
        let told = space.notifiers.begin(told);
        if range.nr_pages() > 1 || !migration.collect_one(&chosen) {
            migration.collect(request, chosen, area.kind);
        }
        drop(told);
        if migration.has_others {
            migration.unmap();
        }
        Ok(migration)
    }

    /// How many slots there are: one for each page.
    pub fn nr_slots(&self) -> usize {
        self.batch.slots.len()
    }

    /// How many slots may move; one of 512 pages counts once. Linux: `cpages`.
    pub fn nr_collected(&self) -> usize {
        self.batch.slots.iter().filter(|slot| slot.is_moving()).count()
    }

    /// What slot `index` is about; empty beyond the last. Behind [`Migration::pages`] its migrate flag says whether the page moves.
    #[inline]
    pub fn src(&self, index: usize) -> MigrateEntry {
        self.batch.slots.get(index).map_or(MigrateEntry::EMPTY, |slot| slot.src)
    }

    /// The folio that the page of slot `index` is of, for its driver's word. The migration keeps it.
    pub fn src_folio(&self, index: usize) -> Option<&Folio<'s>> {
        self.folio_of(index)
    }

    /// Where slot `index` is, for pages that were collected by address.
    pub fn address(&self, index: usize) -> Option<Address> {
        self.place.as_ref()?.range.page(index as u64)
    }

    /// The machine, for its memory.
    pub fn machine(&self) -> Machine<'s> {
        Machine::of_core(&self.core)
    }

    /// Gives slot `index` a destination: a fresh folio, of which this is the only reference. It is locked until the end.
    ///
    /// Of order 9 for a compound slot, of order 0 for any other. A compound slot may be given 512 destinations of
    /// order 0 instead, by its own index and those behind it: with the first of them it is taken apart, and each of its pages is
    /// a slot. A slot that gets none stays where it is.
    ///
    /// # Errors
    ///
    /// [`DestinationError`]; the handle is dropped.
    pub fn set_dst(&mut self, index: usize, dst: impl Into<Destination<'s>>) -> Result<(), DestinationError> {
        let folio = dst.into().into_folio();
        if self.phase != Phase::Collected {
            return Err(DestinationError::Late);
        }
        let nr_slots = self.nr_slots();
        if index >= nr_slots {
            return Err(DestinationError::OutOfRange { index, nr_slots });
        }
        let wrong = DestinationError::WrongOrder { order: folio.order().get() };
        match folio.order() {
            Order::ZERO if self.has_compound => self.take_apart_around(index),
            Order::ZERO => {}
            Order::HUGE if self.batch.slots[index].is_compound() => {}
            _ => return Err(wrong),
        }
        if !self.batch.slots[index].is_moving() {
            return Err(DestinationError::NotMoving { index });
        }
        if !self.core.is_host(&folio) && !core::ptr::eq(folio.space(), self.core.space()) {
            return Err(DestinationError::Foreign);
        }
        match folio.try_lock_sole() {
            Ok(locked) => {
                self.batch.slots[index].dst = Some(locked);
                Ok(())
            }
            Err(folio) => Err(DestinationError::NotFresh { refs: folio.refs() }),
        }
    }

    /// Makes the compound slot that `index` is head or tail of, if it is of one, a slot for each page.
    fn take_apart_around(&mut self, index: usize) {
        let slots = &mut self.batch.slots;
        // The head is the next slot before it, or itself, that is aligned, as an address or as an offset.
        let back = ((self.first + index as u64) & (Order::HUGE.nr_pages() - 1)) as usize;
        let Some(head) = index.checked_sub(back) else { return };
        if !slots[head].is_compound() {
            return;
        }
        let (whole, is_unmapped, others) = (slots[head].src, slots[head].is_unmapped, slots[head].has_others);
        // A destination for the whole that was given before goes.
        slots[head].dst = None;
        for page in 0..Order::HUGE.nr_pages() as usize {
            let slot = &mut slots[head + page];
            slot.is_part = true;
            slot.src = whole.for_page(page as u64).unwrap_or(MigrateEntry::EMPTY);
            if page > 0 {
                slot.holder = if is_unmapped { Holder::Slot(head as u32) } else { Holder::Nobody };
                slot.index = page as u32;
                slot.is_unmapped = is_unmapped;
                slot.has_others = others;
            }
        }
    }

    /// The source folio of a slot.
    fn folio_of(&self, index: usize) -> Option<&Folio<'s>> {
        folio_of(&self.batch.slots, self.fault, index)
    }
}

/// Whether `range` is all of this mapping, and its pages may move.
fn check(area: &Area, range: AddressRange) -> Result<(), SetupError> {
    if !area.range.contains(range.start()) {
        return Err(SetupError::NotMapped { address: range.start() });
    }
    if area.range.end() < range.end() {
        return Err(SetupError::NotMapped { address: Address::of_vpn(area.range.end()) });
    }
    if area.protection == Protection::None {
        return Err(SetupError::Protected { range });
    }
    if area.kind == Kind::Special {
        return Err(SetupError::Special { range });
    }
    Ok(())
}

/// The source folio of slot `index`.
fn folio_of<'x, 's>(slots: &'x [Slot<'s>], fault: Option<&'x LockedFolio<'s>>, index: usize) -> Option<&'x Folio<'s>> {
    match &slots.get(index)?.holder {
        Holder::Nobody => None,
        Holder::Own(locked) => Some(locked),
        Holder::Fault => fault.map(|locked| &**locked),
        Holder::Slot(other) => match &slots.get(*other as usize)?.holder {
            Holder::Own(locked) => Some(locked),
            Holder::Fault => fault.map(|locked| &**locked),
            _ => None,
        },
    }
}

impl Drop for Migration<'_, '_> {
    fn drop(&mut self) {
        self.finish();
    }
}

impl fmt::Debug for Migration<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Migration")
            .field("slots", &self.nr_slots())
            .field("collected", &self.nr_collected())
            .field("phase", &self.phase)
            .finish()
    }
}
