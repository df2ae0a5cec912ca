//! [`RangeRequest`] and [`RangeHandle`]: pages in one run, of any length.
#![forbid(unsafe_code)]

use core::fmt;
use core::ops::Range;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::device::splitting::{Cut, Division};
use crate::device::{Device, end_span};
use crate::error::{AllocError, SplitRangeError};
use crate::folio::{Folio, FolioWord, PageRef};
use crate::free_map::{Placement, Span, folios_of};
use crate::geometry::block_of;
use crate::seat::Seat;
use crate::section_map::Place;
use crate::space::Space;
use crate::words::{Offset, OffsetRange, Order};

/// Up to this order, a range of one folio's length is served as that folio. Beyond, where it begins should not be left to
/// natural alignment, which would leave holes.
const LARGEST_SMALL: Order = Order::largest_within(16);

/// What [`Device::alloc_range`] is asked for: so many pages in one run, and where.
///
/// ```
/// use farpage::{DeviceConfig, RangeRequest, Space};
///
/// let space = Space::new()?;
/// let device = space.register(DeviceConfig::new(1 << 20))?;
/// let ring = device.alloc_range(RangeRequest::new(96).align(32))?;
/// assert_eq!((ring.nr_pages(), ring.offset().get() % 32), (96, 0));
///
/// // The firmware's table, at the very end of the device.
/// let table = device.alloc_range(RangeRequest::new(3).top_down())?;
/// assert!(device.range().contains(table.page(2).unwrap().offset()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a request asks nothing until it is given to a device"]
pub struct RangeRequest {
    nr_pages: u64,
    align: u64,
    window: Option<OffsetRange>,
    placement: Placement,
}

impl RangeRequest {
    /// `nr_pages` pages in one run, anywhere.
    pub const fn new(nr_pages: u64) -> RangeRequest {
        RangeRequest { nr_pages, align: 1, window: None, placement: Placement::Any }
    }

    /// The first page is to be a multiple of `pages`, a power of two, in the space's offsets. A device's own base is
    /// aligned to the largest order that fits in it.
    pub const fn align(mut self, pages: u64) -> RangeRequest {
        self.align = pages;
        self
    }

    /// The first page is to be this one.
    pub const fn at(mut self, offset: Offset) -> RangeRequest {
        self.window = OffsetRange::new(offset, self.nr_pages);
        if self.window.is_none() {
            // Beyond all offsets: no device has it.
            self.window = Some(OffsetRange::EMPTY);
        }
        self
    }

    /// All pages are to lie in `window`.
    pub const fn within(mut self, window: OffsetRange) -> RangeRequest {
        self.window = Some(window);
        self
    }

    /// The lowest place where there is room, and not just any. Empties all caches and looks at every block up to there.
    pub const fn bottom_up(mut self) -> RangeRequest {
        self.placement = Placement::Lowest;
        self
    }

    /// The highest place where there is room. Empties all caches and looks at every block of the device.
    pub const fn top_down(mut self) -> RangeRequest {
        self.placement = Placement::Highest;
        self
    }

    /// The request as one of a device with these pages, or what is wrong with it. `soon` is told which pages will be
    /// claimed.
    pub(super) fn in_device<'a>(
        &self,
        range: OffsetRange,
        soon: &'a dyn Fn(Range<u64>),
    ) -> Result<Span<'a>, AllocError> {
        let start = range.start().get();
        let device = start..start + range.nr_pages();
        if self.nr_pages == 0 || !self.align.is_power_of_two() {
            return Err(AllocError::BadRange { nr_pages: self.nr_pages, align: self.align });
        }
        if self.nr_pages > range.nr_pages() {
            return Err(AllocError::TooLarge);
        }
        let window = match self.window {
            None => device,
            Some(window) => {
                let (from, to) = (window.start().get(), window.start().get() + window.nr_pages());
                from.max(device.start)..to.min(device.end)
            }
        };
        let first = window.start.checked_next_multiple_of(self.align);
        if first.and_then(|first| first.checked_add(self.nr_pages)).is_none_or(|end| end > window.end) {
            return Err(AllocError::OutsideWindow { nr_pages: self.nr_pages, align: self.align });
        }
        Ok(Span { nr_pages: self.nr_pages, align: self.align, window, place: self.placement, soon })
    }

    /// The order of which one folio is all that is asked for, wherever it is, if that is a small one.
    pub(super) fn as_small_order(&self) -> Option<Order> {
        let is_plain = self.align == 1 && self.window.is_none() && self.placement == Placement::Any;
        let order = Order::largest_within(self.nr_pages);
        (is_plain && order.nr_pages() == self.nr_pages && order <= LARGEST_SMALL).then_some(order)
    }
}

impl<'s> Device<'s> {
    /// Allocates pages in one run, of any length and where the request wants them.
    ///
    /// The run is made of naturally aligned folios; see [`RangeHandle`]. Lock-free. A request without conditions is
    /// served from runs that this thread has seen free; one for a place, a window or a direction looks at every block
    /// of the device, 8 words each.
    ///
    /// # Errors
    ///
    /// As [`Device::alloc`], where [`AllocError::Fragmented`] counts the free pages of the whole device, whatever place
    /// or window was asked for; [`AllocError::BadRange`] and [`AllocError::OutsideWindow`] for requests that no state
    /// of the device could meet.
    pub fn alloc_range(&self, request: RangeRequest) -> Result<RangeHandle<'s>, AllocError> {
        let sections = self.space.sections();
        let place = |(page, order)| Place { head: Offset::from_low_bits(page), order };
        let soon = |pages| folios_of(pages).map(place).for_each(|place| sections.prefetch(place));
        let span = request.in_device(self.range(), &soon).map_err(|error| self.dying_or(error))?;
        let attempt = || self.alloc_span(&span, request.as_small_order());
        attempt().or_else(|error| self.relieved(None, error, attempt))
    }

    /// The same, once: as a folio of order `small` if there is one.
    fn alloc_span(&self, span: &Span<'_>, small: Option<Order>) -> Result<RangeHandle<'s>, AllocError> {
        let seat = self.entry.seats().of_this_thread();
        if let Some(order) = small {
            match self.alloc_unrelieved(seat, order) {
                Ok(folio) => {
                    let start = folio.into_place().head.get();
                    return Ok(RangeHandle::from_owned(self.space, start..start + order.nr_pages()));
                }
                // There may be a run that is not aligned.
                Err(AllocError::Fragmented { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.admit(seat, span.nr_pages)?;
        let claimed = self.entry.map().claim_span(self.entry.claimer(self.space, seat), span);
        let claimed = claimed.map_err(|error| AllocError::from_claim(error, span.nr_pages));
        let begun = claimed.and_then(|start| self.begin_span(seat, start..start + span.nr_pages));
        begun.inspect_err(|_| self.dismiss(seat, span.nr_pages))
    }

    /// Makes folios of pages that were claimed as a span.
    fn begin_span(&self, seat: &Seat, pages: Range<u64>) -> Result<RangeHandle<'s>, AllocError> {
        match self.prepare_span(pages.clone()) {
            Ok(()) => Ok(self.begin_prepared(pages)),
            Err(error) => {
                self.entry.map().release_span(self.entry.claimer(self.space, seat), pages);
                Err(error)
            }
        }
    }

    /// Memory for the folios of pages that were claimed as a span.
    pub(super) fn prepare_span(&self, pages: Range<u64>) -> Result<(), AllocError> {
        let mut prepared = None;
        for (page, order) in folios_of(pages) {
            // A block's records lie in one section, and it has one word.
            if !order.is_whole_block() && prepared.replace(block_of(page)) == Some(block_of(page)) {
                continue;
            }
            self.entry.prepare(self.space, page, order)?;
        }
        Ok(())
    }

    /// Begins the folios of pages that were prepared.
    pub(super) fn begin_prepared(&self, pages: Range<u64>) -> RangeHandle<'s> {
        for (page, order) in folios_of(pages.clone()) {
            self.entry.begin(self.space, page, order).into_place();
        }
        RangeHandle::from_owned(self.space, pages)
    }
}

/// Pages in one run, with one reference of each folio in it.
///
/// The run consists of the largest naturally aligned folios that it has room for, from its first page on: 7 pages at 3
/// are folios of orders 0, 2 and 1 (at 3, 4 and 8). Each has its own count and its own driver's word, and each page can
/// be looked up. Dropping the handle puts all of the references: folios of which no other reference is left are freed,
/// and their pages go back as one run.
#[must_use = "dropping the handle frees the pages"]
pub struct RangeHandle<'s> {
    space: &'s Space,
    start: u64,
    nr_pages: u64,
}

impl<'s> RangeHandle<'s> {
    /// A handle that owns a reference of each folio of `pages`.
    pub(super) fn from_owned(space: &'s Space, pages: Range<u64>) -> RangeHandle<'s> {
        RangeHandle { space, start: pages.start, nr_pages: pages.end - pages.start }
    }

    /// The first page.
    pub fn offset(&self) -> Offset {
        Offset::from_low_bits(self.start)
    }

    /// How many pages.
    pub fn nr_pages(&self) -> u64 {
        self.nr_pages
    }

    /// All of them.
    pub fn range(&self) -> OffsetRange {
        OffsetRange::new(self.offset(), self.nr_pages).unwrap_or(OffsetRange::EMPTY)
    }

    /// The device that the pages belong to.
    pub fn device(&self) -> Device<'s> {
        Device::new(self.space, self.space.device_of_live(self.offset()))
    }

    /// The page number `index` of the range: its metadata. At most 19 steps to find its folio.
    pub fn page(&self, index: u64) -> Option<PageRef<'s>> {
        let page = self.start.checked_add(index).filter(|_| index < self.nr_pages)?;
        let place = self.places().find(|place| page < place.head.get() + place.order.nr_pages())?;
        let state = self.space.sections().at(place)?.state();
        Some(PageRef::new(self.space, FolioWord::of_page(Offset::from_low_bits(page), place, state)))
    }

    /// The first page of each folio of the range.
    pub fn folios(&self) -> impl Iterator<Item = PageRef<'s>> {
        let (space, start) = (self.space, self.start);
        folios_of(start..start + self.nr_pages).filter_map(move |(head, order)| {
            let place = Place { head: Offset::from_low_bits(head), order };
            let state = space.sections().at(place)?.state();
            Some(PageRef::new(space, FolioWord::new(place, state)))
        })
    }

    /// One handle for each folio, in place of the one for all.
    pub fn into_folios(self) -> impl Iterator<Item = Folio<'s>> {
        Folios(self)
    }

    /// The range's own reference of the folio at `place`.
    fn folio_at(&self, place: Place) -> Option<Folio<'s>> {
        let state = self.space.sections().at(place)?.state();
        Some(Folio::from_owned(self.space, FolioWord::new(place, state)))
    }

    /// Divides the range before its page number `index`: two handles in place of one.
    ///
    /// The folio in which that page lies, if it does not begin there, is divided too; see [`RangeHandle`] for which
    /// folios come of it. They are new ones, with the driver's word of the old: what was looked up before leads
    /// nowhere. The driver's [`folio_split`](crate::DeviceOps::folio_split) is called for them.
    ///
    /// # Errors
    ///
    /// [`SplitRangeError`], with the range: it is as it was.
    pub fn split_at(self, index: u64) -> Result<(RangeHandle<'s>, RangeHandle<'s>), SplitRangeError<'s>> {
        if index == 0 || index >= self.nr_pages {
            return Err(SplitRangeError::OutOfRange { index, range: self });
        }
        let (space, start, at, end) = (self.space, self.start, self.start + index, self.start + self.nr_pages);
        let straddling = self.places().find(|place| at < place.head.get() + place.order.nr_pages());
        let mut panicked = None;
        if let Some(whole) = straddling.filter(|place| place.head.get() != at) {
            let device = self.device();
            let division = Division { space, entry: &device.entry, whole, cut: Cut::Before(at) };
            if division.prepare().is_err() {
                return Err(SplitRangeError::NoMemory { range: self });
            }
            if let Err(busy) = division.freeze() {
                let (extra_refs, maps) = (busy.extra_refs, busy.maps);
                return Err(SplitRangeError::Busy { offset: whole.head, extra_refs, maps, range: self });
            }
            panicked = division.tell(division.carry_out());
        }
        core::mem::forget(self);
        let parts = (RangeHandle::from_owned(space, start..at), RangeHandle::from_owned(space, at..end));
        let Some(panic) = panicked else { return Ok(parts) };
        // Nobody can have the parts: they end, whatever callbacks do then.
        for part in [parts.0, parts.1] {
            let _ = catch_unwind(AssertUnwindSafe(|| drop(part)));
        }
        resume_unwind(panic)
    }

    fn places(&self) -> impl Iterator<Item = Place> + Clone + use<> {
        let place = |(head, order)| Place { head: Offset::from_low_bits(head), order };
        folios_of(self.start..self.start + self.nr_pages).map(place)
    }
}

/// The folios of a range that have not been handed out; the others go with it.
struct Folios<'s>(RangeHandle<'s>);

impl<'s> Iterator for Folios<'s> {
    type Item = Folio<'s>;

    fn next(&mut self) -> Option<Folio<'s>> {
        let place = self.0.places().next()?;
        let folio = self.0.folio_at(place)?;
        self.0.start += place.order.nr_pages();
        self.0.nr_pages -= place.order.nr_pages();
        Some(folio)
    }
}

impl Drop for RangeHandle<'_> {
    fn drop(&mut self) {
        let mut places = self.places();
        match (places.next(), places.next()) {
            (None, _) => {}
            // What is one small folio goes where such folios come from.
            (Some(place), None) if place.order <= LARGEST_SMALL => drop(self.folio_at(place)),
            _ => end_span(self.space, self.places()),
        }
    }
}

impl fmt::Debug for RangeHandle<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RangeHandle").field("range", &format_args!("{}", self.range())).finish_non_exhaustive()
    }
}
