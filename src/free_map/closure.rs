//! Closures: blocks of one device that an eviction has for itself, free pages and those that come free.
//!
//! No allocation that begins when a closure has begun gets a page there, from the map or from a stash. Who frees pages looks
//! afterwards whether anybody watches, as for an exact search, and what it looks at is the same word; so while nothing is closed,
//! a closure costs a free nothing.
//!
//! Edges: [close], [verify].
#![forbid(unsafe_code)]

use core::ops::Range;

use super::blocks::blocks_of;
use super::{Blocks, Claimer, FreeMap, folios_of};
use crate::geometry::{BLOCK_SHIFT, block_of};
use crate::seat::{Seat, orders};
use crate::sparse::NoMemory;
use crate::sync::{
    Ordering::{Relaxed, Release},
    heavy_barrier,
};
use crate::words::Order;

/// What a search adds to the watchers, and what a closure does.
pub(super) const ONE_SEARCH: u64 = 1;
const ONE_CLOSURE: u64 = 1 << 32;

/// Why blocks were not closed.
pub(crate) enum NotClosed {
    /// Another closure has some of them: these are its blocks.
    Overlaps(Range<u64>),
    NoMemory(NoMemory),
}

impl From<NoMemory> for NotClosed {
    fn from(error: NoMemory) -> NotClosed {
        NotClosed::NoMemory(error)
    }
}

impl FreeMap {
    /// Closes `blocks` of the range. While nobody gives metadata back to the system.
    pub(crate) fn close(&self, claimer: Claimer<'_>, blocks: Range<u64>) -> Result<(), NotClosed> {
        let mut closures = self.closures.lock();
        if let Some(other) = closures.iter().find(|other| other.start < blocks.end && blocks.start < other.end) {
            return Err(NotClosed::Overlaps(other.clone()));
        }
        let bytes = size_of::<Range<u64>>() as u64;
        closures.try_reserve(1).map_err(|_| NoMemory { bytes })?;
        blocks.clone().try_for_each(|block| claimer.blocks.populate_for_closing(block))?;
        closures.push(blocks.clone());
        // Relaxed [close]: the barrier orders it.
        self.watchers.fetch_add(ONE_CLOSURE, Relaxed);
        claimer.blocks.begin_closing(blocks.clone());
        // Whoever gives pages back passes a barrier before this one, and is seen below, or after it, and sees us.
        heavy_barrier();
        for block in blocks.clone() {
            claimer.blocks.close(block);
        }
        self.empty_stashes(claimer, &blocks);
        Ok(())
    }

    /// Steals from every stash until none has a run in `blocks`. No new ones come.
    fn empty_stashes(&self, claimer: Claimer<'_>, blocks: &Range<u64>) {
        let is_closed = |page| blocks.contains(&block_of(page));
        for (seat, order) in claimer.seats.iter().flat_map(|seat| orders().map(move |order| (seat, order))) {
            while seat.stash().runs_of(order).any(is_closed) {
                let Some(oldest) = seat.stash().oldest(order) else { break };
                heavy_barrier();
                claimer.seat.begin_unsure(order.nr_pages());
                if let Some(page) = seat.stash().steal(order, oldest) {
                    self.release(claimer.blocks, claimer.seat, page, order);
                }
                claimer.seat.end_unsure(order.nr_pages());
            }
        }
    }

    /// Opens those blocks of the closure of `closed` that `which` says, if it has not ended with the device. How many pages
    /// that was.
    pub(crate) fn open_of_closure(&self, blocks: &Blocks, closed: &Range<u64>, which: impl Fn(u64) -> bool) -> u64 {
        let closures = self.closures.lock();
        if closures.contains(closed) { self.open_some(blocks, closed.clone(), which) } else { 0 }
    }

    fn open_some(&self, blocks: &Blocks, closed: Range<u64>, which: impl Fn(u64) -> bool) -> u64 {
        let mut nr_pages = 0;
        for block in closed.clone() {
            if blocks.are_closing(block..block + 1) && which(block) {
                blocks.end_closing(block);
                nr_pages += self.pages_in(block);
            }
        }
        // Whoever closes a block again passes a barrier before this one, and is seen below, or after it, and opens it.
        heavy_barrier();
        for block in closed {
            if !blocks.are_closing(block..block + 1) {
                blocks.open(block);
            }
        }
        self.note_released(nr_pages);
        nr_pages
    }

    /// Ends the closure of `closed`, if it has not ended with the device.
    pub(crate) fn end_closure(&self, blocks: &Blocks, closed: &Range<u64>) {
        let mut closures = self.closures.lock();
        if let Some(at) = closures.iter().position(|closure| closure == closed) {
            self.end(blocks, closures.swap_remove(at));
        }
    }

    /// Ends all closures.
    pub(super) fn open_all(&self, blocks: &Blocks) {
        let mut closures = self.closures.lock();
        closures.drain(..).for_each(|closed| self.end(blocks, closed));
    }

    fn end(&self, blocks: &Blocks, closed: Range<u64>) {
        self.open_some(blocks, closed, |_| true);
        blocks.end_closure();
        self.watchers.fetch_sub(ONE_CLOSURE, Relaxed);
    }

    /// Whether a closure has `block`.
    pub(crate) fn is_closing(&self, blocks: &Blocks, block: u64) -> bool {
        blocks.are_closing(block..block + 1)
    }

    /// Whether nothing is taken in `block`, and nothing will be.
    pub(crate) fn is_evicted(&self, blocks: &Blocks, block: u64) -> bool {
        blocks.is_closed_and_free(block, self.pages_in(block))
    }

    /// Makes blocks that were claimed one by one those of the folios of `pages`.
    pub(crate) fn arrange(&self, blocks: &Blocks, pages: Range<u64>) {
        for (page, order) in folios_of(pages).filter(|(_, order)| order.is_whole_block()) {
            blocks.assign(block_of(page), order);
        }
    }

    /// Tells who watches that `pages` were given back to the map.
    #[inline]
    pub(super) fn note_release(&self, blocks: &Blocks, seat: &Seat, pages: Range<u64>) {
        if self.is_watched() {
            self.tell_of_release(blocks, seat, pages);
        }
    }

    #[cold]
    #[inline(never)]
    fn tell_of_release(&self, blocks: &Blocks, seat: &Seat, pages: Range<u64>) {
        self.close_again(blocks, seat, pages.clone());
        // Release [verify]: as in `note_released`.
        self.releases.fetch_add(pages.end - pages.start, Release);
    }

    /// Closes those blocks of `pages` that are to be, and of which the caller has written the words.
    fn close_again(&self, blocks: &Blocks, seat: &Seat, pages: Range<u64>) {
        let here = blocks_of(pages);
        if !blocks.are_closing(here.clone()) {
            return;
        }
        // A search that sees a block closed that was open again must look again.
        self.while_unsure(seat, (here.end - here.start) << BLOCK_SHIFT, |given_up| {
            for block in here.filter(|&block| blocks.close_again(block)) {
                given_up.note(self.pages_in(block));
            }
        });
    }

    /// Tells who watches that the run at `page` lies in the stash of `seat`, the newest there.
    #[inline]
    pub(super) fn note_stashed(&self, blocks: &Blocks, seat: &Seat, page: u64, order: Order) {
        if self.is_watched() {
            self.tell_of_stashed(blocks, seat, page, order);
        }
    }

    #[cold]
    #[inline(never)]
    fn tell_of_stashed(&self, blocks: &Blocks, seat: &Seat, page: u64, order: Order) {
        let block = block_of(page);
        if blocks.are_closing(block..block + 1) {
            // If somebody was quicker to steal it, it went to the map, and we do the same with another.
            self.while_unsure(seat, order.nr_pages(), |_| {
                if let Some(page) = seat.stash().pop(order) {
                    self.release(blocks, seat, page, order);
                }
            });
        } else {
            // Release [verify]: as in `note_released`.
            self.releases.fetch_add(order.nr_pages(), Release);
        }
    }

    /// Tells who watches that runs beside the one at `page` lie in the stash of the claimer's seat.
    #[inline]
    pub(crate) fn note_refilled(&self, claimer: Claimer<'_>, page: u64) {
        if self.is_watched() && claimer.blocks.are_closing(block_of(page)..block_of(page) + 1) {
            self.drain_seat(claimer);
        }
    }

    /// Tells who watches that the folio of `pages` was divided, whose parts nobody has put yet.
    #[inline]
    pub(crate) fn note_divided(&self, blocks: &Blocks, seat: &Seat, pages: Range<u64>) {
        if self.is_watched() {
            self.close_again(blocks, seat, pages);
        }
    }
}
