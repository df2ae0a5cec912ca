//! [`Device`]: one registered range of offsets: who owns it, what is free in it, and its driver's callbacks.
//!
//! Below: `free_map`, `live`, `section_map`. Above: `space`. Edges: [drain], [claim].

mod batch;
mod cache;
mod callbacks;
mod config;
mod deferred;
mod directory;
mod ending;
mod entry;
mod evict;
mod listeners;
mod ops;
mod partial;
mod pressure;
mod queue;
mod range;
mod splitting;
mod table;
mod walk;

use core::fmt;
use core::time::Duration;

use batch::{Batch, Runs};
pub use cache::Cache;
pub use config::{DeviceConfig, Owner};
pub use deferred::{DeferredFolio, DeferredFrees};
pub(crate) use ending::{Endings, end_folio, end_folio_at, end_span, give_back};
pub(crate) use entry::Entry;
pub use evict::{BusyBlock, EvictTicket, Evicted};
pub(crate) use ops::Panic;
pub use ops::{DeviceOps, FolioSplit, FreedFolio, Pressure, SplitPart};
pub use range::{RangeHandle, RangeRequest};
pub(crate) use splitting::{Cut, Division};
pub(crate) use table::DeviceTable;
pub use walk::LiveFolios;

use crate::error::{AllocError, DrainError, UnregisterError};
use crate::folio::Folio;
use crate::geometry::block_of;
use crate::live::Live;
use crate::seat::Seat;
use crate::space::{DeviceReport, Space};
use crate::sync::Arc;
use crate::words::{OffsetRange, Order};

/// A handle on a registered device. Linux: `struct dev_pagemap`.
///
/// Clones are handles on the same device. The device stays registered until [`Device::unregister`] (or the end of the
/// space), however many handles come and go; a handle on a device that is gone still tells its name, owner and range,
/// and refuses to allocate.
///
/// ```
/// use core::time::Duration;
/// use farpage::{AllocError, DeviceConfig, Order, Space};
///
/// let space = Space::new()?;
/// let device = space.register(DeviceConfig::new(1024).name("vram0"))?;
/// let folio = device.alloc(Order::HUGE)?;
/// assert_eq!((device.nr_live_pages(), device.nr_free_pages()), (512, 512));
///
/// device.kill(); // no more allocations
/// assert_eq!(device.alloc(Order::ZERO).unwrap_err(), AllocError::Dying);
/// drop(folio); // whoever still holds pages puts them
/// device.drain(Duration::from_secs(1))?;
/// device.unregister().expect("drained");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Device<'s> {
    space: &'s Space,
    entry: Arc<Entry>,
}

impl<'s> Device<'s> {
    pub(crate) fn new(space: &'s Space, entry: Arc<Entry>) -> Device<'s> {
        Device { space, entry }
    }

    /// The offsets of the device. Its first page is aligned to the largest order that fits in the range.
    pub fn range(&self) -> OffsetRange {
        self.entry.range()
    }

    /// Whose it is, as registered.
    pub fn owner(&self) -> Owner {
        self.entry.owner()
    }

    /// Its name, as registered; empty if it got none.
    pub fn name(&self) -> &str {
        self.entry.name()
    }

    /// How many pages are not in use. Exact when nobody allocates or frees; otherwise it was so recently.
    pub fn nr_free_pages(&self) -> u64 {
        self.range().nr_pages().saturating_sub(self.nr_live_pages())
    }

    /// How many pages are in use: in folios that live, and in those whose `folio_free` is running. Exact when nobody
    /// allocates or frees; otherwise it was so recently. Reads a count for each thread that has used the device.
    pub fn nr_live_pages(&self) -> u64 {
        self.live().pages().min(self.range().nr_pages())
    }

    /// How many free pages are kept in caches, those of threads and [`Cache`]s. Exact when nobody allocates or frees.
    pub fn nr_cached_pages(&self) -> u64 {
        self.entry.seats().cached_pages()
    }

    /// The device in numbers, as in [`Space::report`], whose promises hold; `None` if it has gone.
    ///
    /// Reads what its caches keep, a word a block of 512 pages, and 8 more for blocks with folios below order 9. Takes the
    /// registration lock for a moment.
    pub fn report(&self) -> Option<DeviceReport> {
        DeviceReport::of(self.space, &self.entry)
    }

    /// How many pages of live folios have been [given up](Folio::give_up). They come free when their folios are divided or freed.
    pub fn nr_given_up_pages(&self) -> u64 {
        self.entry.listeners().nr_given_up()
    }

    /// Where the driver takes freed folios from, if the device was registered as [deferring](DeviceConfig::deferred) them.
    pub fn deferred_frees(&self) -> Option<DeferredFrees<'s>> {
        DeferredFrees::of(self)
    }

    /// A cache of one's own, for whoever allocates and frees in a loop.
    pub fn cache(&self) -> Cache<'s> {
        Cache::new(self.clone())
    }

    /// Allocates a folio of `order`, with one reference: the handle.
    ///
    /// The folio is naturally aligned, its private word is 0, and nothing of its last owner shows through. Lock-free;
    /// any number of threads may allocate and free at once. Constant time while this thread has freed such a folio lately, or
    /// hints find room; a search of the whole device (8 words for each block of 512 pages), which interrupts the cores that
    /// run this process once, before it fails. Not for signal handlers: what a thread has for itself is not re-entrant.
    ///
    /// # Errors
    ///
    /// [`AllocError::Exhausted`] only when fewer pages are free than asked for, [`AllocError::Fragmented`] when they are
    /// there but not in one run, [`AllocError::Dying`] after [`Device::kill`], [`AllocError::TooLarge`] when the device
    /// could never serve the order, [`AllocError::NoMemory`] when its metadata has no memory. Nothing has changed then.
    /// Before the first two, the driver's [`pressure`](DeviceOps::pressure) may make room.
    #[inline]
    pub fn alloc(&self, order: Order) -> Result<Folio<'s>, AllocError> {
        self.alloc_at(self.entry.seats().of_this_thread(), order)
    }

    #[inline(always)]
    fn alloc_at(&self, seat: &Seat, order: Order) -> Result<Folio<'s>, AllocError> {
        self.alloc_once::<true>(seat, order)
    }

    /// The same, without asking the driver for room.
    fn alloc_unrelieved(&self, seat: &Seat, order: Order) -> Result<Folio<'s>, AllocError> {
        self.alloc_once::<false>(seat, order)
    }

    #[inline(always)]
    fn alloc_once<const RELIEVED: bool>(&self, seat: &Seat, order: Order) -> Result<Folio<'s>, AllocError> {
        self.check_size(order)?;
        self.admit(seat, order.nr_pages())?;
        let kept = seat.stash().pop(order);
        match kept.or_else(|| if order == Order::HUGE { self.reclaim(seat) } else { None }) {
            Some(page) => Ok(self.entry.begin(self.space, page, order)),
            None => self.alloc_from_map::<RELIEVED>(seat, order),
        }
    }

    /// The block that was freed last by `seat`, if readers still know it as one of order 9.
    #[inline]
    fn reclaim(&self, seat: &Seat) -> Option<u64> {
        let (blocks, map) = (self.space.blocks(), self.entry.map());
        let page = map.reclaim(self.entry.claimer(self.space, seat))?;
        let (block, order) = (block_of(page), Order::HUGE);
        let is_known = self.space.sections().is_published(block, self.entry.index(), blocks.change_of(block));
        if is_known || self.entry.prepare(self.space, page, order).is_ok() {
            return Some(page);
        }
        map.release(blocks, seat, page, order);
        None
    }

    #[inline(never)]
    fn alloc_from_map<const RELIEVED: bool>(&self, seat: &Seat, order: Order) -> Result<Folio<'s>, AllocError> {
        match self.claim(seat, order) {
            Ok(page) => Ok(self.entry.begin(self.space, page, order)),
            Err(error) => {
                self.dismiss(seat, order.nr_pages());
                if !RELIEVED {
                    return Err(error);
                }
                self.relieved(Some(order), error, || self.alloc_unrelieved(seat, order))
            }
        }
    }

    /// Allocates `n` folios of `order` and appends them to `folios`: all of them, or an error and none.
    ///
    /// As [`Device::alloc`] otherwise. No `folio_free` runs for what had to be given back.
    ///
    /// # Errors
    ///
    /// As [`Device::alloc`], with the pages of all `n` folios as what was requested. [`AllocError::NoMemory`] also when
    /// `folios` cannot grow.
    pub fn alloc_many(&self, order: Order, n: usize, folios: &mut Vec<Folio<'s>>) -> Result<(), AllocError> {
        self.alloc_many_at(self.entry.seats().of_this_thread(), order, n, folios)
    }

    fn alloc_many_at(
        &self,
        seat: &Seat,
        order: Order,
        n: usize,
        folios: &mut Vec<Folio<'s>>,
    ) -> Result<(), AllocError> {
        let requested = order.nr_pages().saturating_mul(n as u64);
        if n == 0 {
            return Ok(());
        }
        self.check_size(order)?;
        if requested > self.range().nr_pages() {
            return Err(self.dying_or(AllocError::Exhausted { requested, free: self.nr_free_pages() }));
        }
        folios.try_reserve(n).map_err(|_| AllocError::NoMemory)?;
        let mut attempt = || {
            self.admit(seat, requested)?;
            let allocated = Batch::new(self, seat, order).alloc(n, folios);
            allocated.inspect_err(|_| self.dismiss(seat, requested))
        };
        attempt().or_else(|error| self.relieved(Some(order), error, attempt))
    }

    /// Refuses every allocation from now on, on every thread: none that begins after this has returned succeeds (one
    /// that was under way still may). What lives goes on living. Linux: `percpu_ref_kill()`.
    pub fn kill(&self) {
        self.entry.kill(self.space);
    }

    /// Waits until the last page of a killed device has been given back, its `folio_free` included.
    ///
    /// Woken by the last put, without polling.
    ///
    /// # Errors
    ///
    /// [`DrainError::TimedOut`] with the pages still in use after `limit`; [`DrainError::Alive`] if the device was not
    /// killed.
    pub fn drain(&self, limit: Duration) -> Result<(), DrainError> {
        if !self.entry.is_ending() {
            return Err(DrainError::Alive { live_pages: self.nr_live_pages() });
        }
        self.entry.drain(self.space, limit).map_err(|live_pages| DrainError::TimedOut { live_pages })
    }

    /// Takes the device out of the space, killing it if it is alive and empty. Its offsets are free for another one.
    ///
    /// Leaves of its folios stay stale for ever, also when another device gets its offsets.
    ///
    /// Its callbacks are dropped before this returns, by this thread and with no lock held: with its last page nobody is
    /// left who could call them, so what they refer to can be taken away then, whatever handles on the device are left. If
    /// their drop panics the device has gone all the same, and the panic goes on from here. (The callbacks of devices that
    /// are never unregistered are dropped with the space.)
    ///
    /// # Errors
    ///
    /// [`UnregisterError::Busy`] while a page of it is in use, with the device to try again: kill it, have its pages
    /// put, and [drain](Device::drain) it. [`UnregisterError::Gone`] if another handle did it before.
    pub fn unregister(self) -> Result<(), UnregisterError<'s>> {
        match self.entry.retire(self.space) {
            Ok(retired) => {
                // The driver's code, with all of ours behind it.
                drop(self.space.table().forget(self.space, &self.entry, retired));
                Ok(())
            }
            Err(entry::NotRetired::Gone) => Err(UnregisterError::Gone),
            Err(entry::NotRetired::Busy { live_pages }) => Err(UnregisterError::Busy { live_pages, device: self }),
        }
    }

    #[inline]
    fn check_size(&self, order: Order) -> Result<(), AllocError> {
        if order.nr_pages() > self.range().nr_pages() { Err(AllocError::TooLarge) } else { Ok(()) }
    }

    /// Counts pages in; while they are in, the device cannot go.
    #[inline]
    fn admit(&self, seat: &Seat, nr_pages: u64) -> Result<(), AllocError> {
        while self.entry.entrance().enter(self.space.bell(), seat, nr_pages).is_err() {
            // Killed or gone; or closed by an unregistration that is about to be refused, and to open it again.
            if self.entry.is_ending() {
                return Err(AllocError::Dying);
            }
        }
        Ok(())
    }

    /// The error of a request that cannot be met, or that the device is dying, which comes first.
    #[cold]
    fn dying_or(&self, error: AllocError) -> AllocError {
        if self.entry.is_ending() { AllocError::Dying } else { error }
    }

    /// Undoes [`Device::admit`].
    fn dismiss(&self, seat: &Seat, nr_pages: u64) {
        self.live().exit.exit(self.space.bell(), seat, nr_pages);
    }

    /// Takes a run in the free map, with memory for its metadata, and perhaps some more into the stash of `seat`.
    fn claim(&self, seat: &Seat, order: Order) -> Result<u64, AllocError> {
        if let Some(page) = self.refill(seat, order)? {
            return Ok(page);
        }
        let claimed = self.entry.map().claim(self.entry.claimer(self.space, seat), order);
        let page = claimed.map_err(|error| AllocError::from_claim(error, order.nr_pages()))?;
        match self.entry.prepare(self.space, page, order) {
            Ok(()) => Ok(page),
            Err(error) => {
                self.entry.map().release(self.space.blocks(), seat, page, order);
                Err(error.into())
            }
        }
    }

    /// Takes several runs at once where hints find any, keeps all but one in the stash of `seat`, and returns that one.
    fn refill(&self, seat: &Seat, order: Order) -> Result<Option<u64>, AllocError> {
        let (map, nr) = (self.entry.map(), 1 + seat.stash().refill(order));
        if nr == 1 {
            return Ok(None);
        }
        // What goes into the stash is free again; until it is there, others must not believe it taken.
        let claimed = map.while_unsure(seat, nr * order.nr_pages(), |given_up| {
            let claimer = self.entry.claimer(self.space, seat);
            let Some((first, pages)) = map.claim_runs_by_hints(claimer, order, nr, given_up)? else { return Ok(None) };
            let mut runs = Runs { first, pages, order };
            let Some(head) = runs.next() else { return Ok(None) };
            // One word's pages lie in one section and one block: what is prepared for one is for all.
            let prepared = self.entry.prepare(self.space, head, order);
            for page in runs {
                if prepared.is_ok() && seat.stash().push(order, page) {
                    given_up.note(order.nr_pages());
                } else {
                    map.release(self.space.blocks(), seat, page, order);
                }
            }
            if prepared.is_err() {
                map.release(self.space.blocks(), seat, head, order);
            }
            Ok(prepared.map(|()| Some(head))?)
        });
        if let Ok(Some(head)) = claimed {
            map.note_refilled(self.entry.claimer(self.space, seat), head);
        }
        claimed
    }

    /// Gives all that `seat` keeps to the free map. Only for the owner of the seat.
    fn drain_seat(&self, seat: &Seat) {
        let pages = seat.stash().pages();
        // While they are counted in, the device cannot go. If it is about to, it empties the stash itself.
        if pages == 0 || self.admit(seat, pages).is_err() {
            return;
        }
        self.entry.map().drain_seat(self.entry.claimer(self.space, seat));
        self.dismiss(seat, pages);
    }

    /// Whether `folio` is of this device.
    #[inline]
    fn owns(&self, folio: &Folio<'s>) -> bool {
        // By the registration, not only by the range, which another device may have now. The folio keeps its device in the
        // table, and if that is this one, no other has its number.
        core::ptr::eq(self.space, folio.space())
            && self.range().contains(folio.offset())
            && self.space.table().is_registered(&self.entry)
    }

    pub(crate) fn entry(&self) -> &Entry {
        &self.entry
    }

    fn live(&self) -> Live<'_> {
        self.entry.live(self.space)
    }
}

impl PartialEq for Device<'_> {
    /// Whether both are handles on the same registration.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.entry, &other.entry)
    }
}

impl Eq for Device<'_> {}

impl fmt::Debug for Device<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("name", &self.name())
            .field("owner", &self.owner())
            .field("range", &format_args!("{}", self.range()))
            .field("live_pages", &self.nr_live_pages())
            .finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
