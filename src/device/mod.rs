//! [`Device`]: one registered range of offsets: who owns it, what is free in it, and its driver's callbacks.
//!
//! Below: `free_map`, `live`, `section_map`. Above: `space`. Edges: [drain], [claim].

mod config;
mod ending;
mod entry;
mod table;

use core::fmt;
use core::time::Duration;
use std::sync::Arc;

pub use config::{DeviceConfig, DeviceOps, FreedFolio, Owner};
pub(crate) use ending::end_folio;
pub(crate) use entry::Entry;
pub(crate) use table::DeviceTable;

use crate::error::{AllocError, DrainError, UnregisterError};
use crate::folio::Folio;
use crate::space::Space;
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
    /// allocates or frees; otherwise it was so recently. Reads a count per core.
    pub fn nr_live_pages(&self) -> u64 {
        self.entry.live().pages().min(self.range().nr_pages())
    }

    /// Allocates a folio of `order`, with one reference: the handle.
    ///
    /// The folio is naturally aligned, its private word is 0, and nothing of its last owner shows through. Lock-free;
    /// any number of threads may allocate and free at once. Constant time while hints find room; a search of the whole
    /// device (one step a block of 512 pages) before it fails.
    ///
    /// # Errors
    ///
    /// [`AllocError::Exhausted`] only when fewer pages are free than asked for, [`AllocError::Fragmented`] when they are
    /// there but not in one run, [`AllocError::Dying`] after [`Device::kill`], [`AllocError::TooLarge`] when the device
    /// could never serve the order, [`AllocError::NoMemory`] when its metadata has no memory. Nothing has changed then.
    pub fn alloc(&self, order: Order) -> Result<Folio<'s>, AllocError> {
        let nr_pages = order.nr_pages();
        self.check_size(order)?;
        self.admit(nr_pages)?;
        self.claim(order).map(|page| self.entry.begin(self.space, page, order)).inspect_err(|_| self.dismiss(nr_pages))
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
        let requested = order.nr_pages().saturating_mul(n as u64);
        if n == 0 {
            return Ok(());
        }
        self.check_size(order)?;
        if requested > self.range().nr_pages() {
            let dying = self.entry.live().is_closed() && self.entry.is_ending();
            return Err(if dying {
                AllocError::Dying
            } else {
                AllocError::Exhausted { requested, free: self.nr_free_pages() }
            });
        }
        folios.try_reserve(n).map_err(|_| AllocError::NoMemory)?;
        let mut pages: Vec<u64> = Vec::new();
        pages.try_reserve_exact(n).map_err(|_| AllocError::NoMemory)?;
        self.admit(requested)?;
        for _ in 0..n {
            match self.claim(order) {
                Ok(page) => pages.push(page),
                Err(error) => {
                    for &page in &pages {
                        self.entry.map().release(self.space.blocks(), page, order);
                    }
                    self.dismiss(requested);
                    return Err(error.with_claimed(requested, order.nr_pages() * pages.len() as u64));
                }
            }
        }
        folios.extend(pages.into_iter().map(|page| self.entry.begin(self.space, page, order)));
        Ok(())
    }

    /// Refuses every allocation from now on, on every thread: none that begins after this has returned succeeds (one
    /// that was under way still may). What lives goes on living. Linux: `percpu_ref_kill()`.
    pub fn kill(&self) {
        self.entry.kill();
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
        if !self.entry.live().is_closed() {
            return Err(DrainError::Alive { live_pages: self.nr_live_pages() });
        }
        self.entry.live().drain(limit).map_err(|live_pages| DrainError::TimedOut { live_pages })
    }

    /// Takes the device out of the space, killing it if it is alive and empty. Its offsets are free for another one.
    ///
    /// Leaves of its folios stay stale for ever, also when another device gets its offsets. Its callbacks are dropped
    /// with the last handle on the device.
    ///
    /// # Errors
    ///
    /// [`UnregisterError::Busy`] while a page of it is in use, with the device to try again: kill it, have its pages
    /// put, and [drain](Device::drain) it. [`UnregisterError::Gone`] if another handle did it before.
    pub fn unregister(self) -> Result<(), UnregisterError<'s>> {
        match self.entry.retire() {
            Ok(()) => {
                self.space.forget(&self.entry);
                Ok(())
            }
            Err(entry::NotRetired::Gone) => Err(UnregisterError::Gone),
            Err(entry::NotRetired::Busy { live_pages }) => Err(UnregisterError::Busy { live_pages, device: self }),
        }
    }

    fn check_size(&self, order: Order) -> Result<(), AllocError> {
        if order.nr_pages() > self.range().nr_pages() { Err(AllocError::TooLarge) } else { Ok(()) }
    }

    /// Counts pages in; while they are in, the device cannot go.
    fn admit(&self, nr_pages: u64) -> Result<(), AllocError> {
        while self.entry.live().enter(nr_pages).is_err() {
            // Killed or gone; or closed by an unregistration that is about to be refused, and to open it again.
            if self.entry.is_ending() {
                return Err(AllocError::Dying);
            }
        }
        Ok(())
    }

    /// Undoes [`Device::admit`].
    fn dismiss(&self, nr_pages: u64) {
        if !self.entry.live().exit(nr_pages) {
            // This handle keeps the count alive.
            self.entry.live().exit_closed(nr_pages);
        }
    }

    /// Takes a run in the free map, with memory for its metadata.
    fn claim(&self, order: Order) -> Result<u64, AllocError> {
        let blocks = self.space.blocks();
        let page = self.entry.map().claim(blocks, order).map_err(|error| AllocError::from_claim(error, order))?;
        match self.entry.prepare(self.space, page, order) {
            Ok(()) => Ok(page),
            Err(error) => {
                self.entry.map().release(blocks, page, order);
                Err(error.into())
            }
        }
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
