//! [`DeviceOps`]: a driver's callbacks, and what they are told.
#![forbid(unsafe_code)]

use core::any::Any;
use core::fmt;
use std::sync::Arc;

use crate::error::AllocError;
use crate::page::Page;
use crate::section_map::Place;
use crate::words::{Offset, Order};

/// What a callback panicked with.
pub(crate) type Panic = Box<dyn Any + Send>;

/// A driver's callbacks. Linux: `struct dev_pagemap_ops`.
///
/// They run with no internal lock held, on the thread whose call caused them. They may do anything: use the device and
/// the space, put the last handle of another folio, unregister another device, take the caller's locks, and panic. A
/// panic reaches whoever made the call; what holds then is said at each callback. (As with any destructor, a panic out
/// of a handle that is dropped while its thread unwinds already ends the process.)
pub trait DeviceOps: Send + Sync {
    /// The last reference of a folio is gone.
    ///
    /// Called exactly once a folio (never for a device that [defers](crate::DeviceConfig::deferred) its frees). No
    /// lookup finds the folio any more, and nobody else owns its offsets until this returns; then they are free, and
    /// nothing of the folio may be touched. It may allocate from the same device and drop other folios of it.
    ///
    /// If it panics, the offsets are freed all the same, and the panic goes on to whoever dropped the reference. Where
    /// several folios end in one call, as with a [`RangeHandle`](crate::RangeHandle), it runs for each of them, and the
    /// first panic goes on.
    fn folio_free(&self, folio: FreedFolio) {
        let _ = folio;
    }

    /// A folio has been divided: called for each part, by ascending offset, and once [at the end](FolioSplit::is_end).
    ///
    /// The parts live already, with one reference each, which whoever divides the folio is about to get; their driver's
    /// words are copies of the whole's, and here is the place to set others. A part that consists of pages that were
    /// [given up](crate::Folio::give_up) is freed afterwards.
    ///
    /// If it panics, it is called for the other parts and the end all the same; then the parts are freed, since nobody
    /// can be given them, and the first panic goes on to whoever divided the folio. Linux: `folio_split` of
    /// `dev_pagemap_ops`.
    fn folio_split(&self, split: FolioSplit<'_>) {
        let _ = split;
    }

    /// An allocation finds no room, and is about to fail. Whether it is worth its while to try once more.
    ///
    /// Called once an allocation, which holds nothing meanwhile. The driver may free something: evict, drop what it
    /// caches, take a batch of [deferred frees](crate::DeferredFrees). Allocations that the same thread makes in here,
    /// from any device, fail without calling this again. Several threads may be in here at once. The device cannot go
    /// meanwhile: each of them counts as a page in use.
    ///
    /// If it panics, nothing was allocated and nothing is lost; the panic goes on to whoever allocates. Linux: a
    /// shrinker, `xe_bo_evict` under `ttm_bo_mem_space`.
    fn pressure(&self, pressure: Pressure) -> bool {
        let _ = pressure;
        false
    }
}

impl<T: DeviceOps + ?Sized> DeviceOps for Arc<T> {
    fn folio_free(&self, folio: FreedFolio) {
        (**self).folio_free(folio);
    }

    fn folio_split(&self, split: FolioSplit<'_>) {
        (**self).folio_split(split);
    }

    fn pressure(&self, pressure: Pressure) -> bool {
        (**self).pressure(pressure)
    }
}

impl<T: DeviceOps + ?Sized> DeviceOps for Box<T> {
    fn folio_free(&self, folio: FreedFolio) {
        (**self).folio_free(folio);
    }

    fn folio_split(&self, split: FolioSplit<'_>) {
        (**self).folio_split(split);
    }

    fn pressure(&self, pressure: Pressure) -> bool {
        (**self).pressure(pressure)
    }
}

/// What is left of a folio when its last reference is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreedFolio {
    pub(crate) offset: Offset,
    pub(crate) order: Order,
    pub(crate) private: u64,
}

impl FreedFolio {
    /// Its first page.
    pub fn offset(&self) -> Offset {
        self.offset
    }

    /// Its order.
    pub fn order(&self) -> Order {
        self.order
    }

    /// The driver's word, as last set.
    pub fn private(&self) -> u64 {
        self.private
    }
}

/// That a folio was divided, and one of its parts, or that there are no more; see [`DeviceOps::folio_split`].
#[derive(Clone, Copy)]
pub struct FolioSplit<'a> {
    pub(crate) whole: Place,
    pub(crate) private: u64,
    pub(crate) part: Option<(Place, &'a Page)>,
}

impl<'a> FolioSplit<'a> {
    /// The first page of the folio that was divided.
    pub fn offset(&self) -> Offset {
        self.whole.head
    }

    /// The order that it had.
    pub fn order(&self) -> Order {
        self.whole.order
    }

    /// The driver's word that it had.
    pub fn private(&self) -> u64 {
        self.private
    }

    /// The part, unless this is the end.
    pub fn part(&self) -> Option<SplitPart<'a>> {
        self.part.map(|(place, record)| SplitPart { place, record })
    }

    /// Whether all parts have been told.
    pub fn is_end(&self) -> bool {
        self.part.is_none()
    }
}

impl fmt::Debug for FolioSplit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FolioSplit")
            .field("offset", &self.offset().get())
            .field("order", &self.order().get())
            .field("part", &self.part())
            .finish_non_exhaustive()
    }
}

/// A new folio that was a part of another.
#[derive(Clone, Copy)]
pub struct SplitPart<'a> {
    place: Place,
    record: &'a Page,
}

impl SplitPart<'_> {
    /// Its first page.
    pub fn offset(&self) -> Offset {
        self.place.head
    }

    /// Its order.
    pub fn order(&self) -> Order {
        self.place.order
    }

    /// Its driver's word: the whole's, until it is set.
    pub fn private(&self) -> u64 {
        self.record.private()
    }

    /// Sets its driver's word. As [`Folio::set_private`](crate::Folio::set_private).
    pub fn set_private(&self, value: u64) {
        self.record.set_private(value);
    }
}

impl fmt::Debug for SplitPart<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SplitPart")
            .field("offset", &self.offset().get())
            .field("order", &self.order().get())
            .field("private", &format_args!("{:#x}", self.private()))
            .finish()
    }
}

/// An allocation that is about to fail; see [`DeviceOps::pressure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pressure {
    pub(crate) order: Option<Order>,
    pub(crate) error: AllocError,
}

impl Pressure {
    /// The order of the folio, or folios, that were asked for; `None` for a range.
    pub fn order(&self) -> Option<Order> {
        self.order
    }

    /// How many pages were asked for, of all folios.
    pub fn nr_pages(&self) -> u64 {
        match self.error {
            AllocError::Exhausted { requested, .. } | AllocError::Fragmented { requested, .. } => requested,
            _ => 0,
        }
    }

    /// How many pages were free. Enough, if they are only not in one run.
    pub fn free_pages(&self) -> u64 {
        match self.error {
            AllocError::Exhausted { free, .. } | AllocError::Fragmented { free, .. } => free,
            _ => 0,
        }
    }

    /// What the allocation fails with otherwise: [`AllocError::Exhausted`] or [`AllocError::Fragmented`].
    pub fn error(&self) -> AllocError {
        self.error
    }
}
