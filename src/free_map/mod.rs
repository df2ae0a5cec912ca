//! [`FreeMap`]: which offsets of one device are free. Lock-free; no page metadata is touched here.
//!
//! A claim asks hints first: the block that served this seat and order last, blocks that serve the order and have room,
//! empty blocks, blocks of other orders. Only when all of them fail does the exact search run, which alone may say
//! "exhausted".
//!
//! Below: `blocks`, which keeps the words of all blocks of the space; `seat`. Above: `device`. Edges: [claim], [verify].

mod bits;
mod block_use;
mod blocks;
mod closure;
mod exact;
mod hints;
mod hold;
mod index;
mod runs;
mod search;
mod span;
mod vacancy;

use core::ops::Range;

use crossbeam_utils::CachePadded;

pub(crate) use bits::{FreeBits, GivenUp, free_pages, largest_free_order};
pub(crate) use block_use::{BlockUse, Mixing};
pub(crate) use blocks::Blocks;
pub(crate) use closure::NotClosed;
pub(crate) use hold::Hold;
pub(crate) use span::{Placement, Span, folios_of};

use crate::geometry::{BLOCK_SHIFT, PAGES_PER_BLOCK, PAGES_PER_WORD, WORD_SHIFT, block_of, blocks_for};
use crate::seat::{Seat, Seats, orders};
use crate::sparse::{NoMemory, Zeroed};
use crate::sync::{
    AtomicU64, Mutex,
    Ordering::{Relaxed, Release},
    light_barrier,
};
use crate::words::{OffsetRange, Order};

// SAFETY: An array of zero integers, without drop glue.
unsafe impl Zeroed for FreeBits {
    fn absent() -> FreeBits {
        FreeBits::absent()
    }

    fn vanish(&self) {
        self.clear_all();
    }
}

/// Why nothing was claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClaimError {
    /// Fewer pages are free than asked for.
    Exhausted { free: u64 },
    /// Enough pages are free, but not in one run; `largest` is the longest that a folio could have.
    Fragmented { free: u64, largest: u64 },
    /// Too little was seen, but others were coming and going, and the caller holds pages that they may be waiting for. As
    /// above, except for pages in doubt.
    Contended { free: u64, largest: u64 },
    /// No memory for the words of a block.
    NoMemory(NoMemory),
}

impl From<NoMemory> for ClaimError {
    fn from(error: NoMemory) -> ClaimError {
        ClaimError::NoMemory(error)
    }
}

/// One device's view of the free pages in its range.
pub(crate) struct FreeMap {
    range: OffsetRange,
    /// How many exact searches and closures there are; see `closure`. Read by every release, written only when claims fail
    /// and where blocks are closed.
    watchers: CachePadded<AtomicU64>,
    /// How many pages were released, or given up, while a searcher was there.
    releases: CachePadded<AtomicU64>,
    /// What is closed, in blocks.
    closures: Mutex<Vec<Range<u64>>>,
}

/// Who claims: a seat of one device, and with it the words of all blocks.
#[derive(Clone, Copy)]
pub(crate) struct Claimer<'a> {
    pub(crate) blocks: &'a Blocks,
    /// All seats, from whose stashes a search may steal.
    pub(crate) seats: &'a Seats,
    pub(crate) seat: &'a Seat,
    /// Pages that the caller has claimed, and may give up again when this claim fails: the seat says that it is unsure of
    /// them. Such a claim never waits for others who are unsure, as they may wait for it.
    pub(crate) unsure: u64,
}

impl FreeMap {
    /// The map of `range`, which starts at a block. To be [begun](FreeMap::begin) before it is used.
    pub(crate) fn new(range: OffsetRange) -> FreeMap {
        FreeMap {
            range,
            watchers: CachePadded::new(AtomicU64::new(0)),
            releases: CachePadded::new(AtomicU64::new(0)),
            closures: Mutex::new(Vec::new()),
        }
    }

    /// Tells the words of the range's last block where the range ends.
    pub(crate) fn begin(&self, blocks: &Blocks) -> Result<(), NoMemory> {
        match self.partial_block() {
            Some((block, exist)) => blocks.end_block_after(block, exist),
            None => Ok(()),
        }
    }

    /// Leaves the words of the range as they are for a range that no device has.
    pub(crate) fn retire(&self, blocks: &Blocks) {
        self.open_all(blocks);
        if let Some((block, _)) = self.partial_block() {
            blocks.unend_block(block);
        }
    }

    /// The blocks of the range, the last perhaps in part.
    pub(crate) fn blocks(&self) -> Range<u64> {
        let first = block_of(self.range.start().get());
        first..first + blocks_for(self.range.nr_pages())
    }

    /// How many pages of `block` exist: all, or fewer in the last.
    pub(crate) fn pages_in(&self, block: u64) -> u64 {
        match self.partial_block() {
            Some((last, exist)) if last == block => exist,
            _ => PAGES_PER_BLOCK,
        }
    }

    fn partial_block(&self) -> Option<(u64, u64)> {
        let exist = self.range.nr_pages() % PAGES_PER_BLOCK;
        (exist != 0).then(|| (self.blocks().end - 1, exist))
    }

    /// Takes a naturally aligned run of `order` and returns its first page.
    ///
    /// Lock-free. [`ClaimError::Exhausted`] is exact: at one moment of the call, fewer pages were free.
    pub(crate) fn claim(&self, claimer: Claimer<'_>, order: Order) -> Result<u64, ClaimError> {
        self.claim_request(claimer, &order)
    }

    /// Takes the block of order 9 that the claimer was the last to free, if it still is as it was left.
    #[inline]
    pub(crate) fn reclaim(&self, claimer: Claimer<'_>) -> Option<u64> {
        let block = claimer.seat.recent().take()?;
        claimer.blocks.reclaim_whole(block, Order::HUGE).then_some(block << BLOCK_SHIFT)
    }

    /// Takes up to `most` runs of `order` that lie in one word of free bits, or one: the first page of that word or run,
    /// and a bit for each page that was taken from there on (a run of more than a word has its first).
    pub(crate) fn claim_runs(&self, claimer: Claimer<'_>, order: Order, most: u64) -> Result<(u64, u64), ClaimError> {
        let pages = PAGES_PER_WORD.min(order.nr_pages().saturating_mul(most));
        let claim = |given_up: &GivenUp| self.claim_runs_by_hints(claimer, order, most, given_up);
        match self.while_unsure(claimer.seat, pages, claim)? {
            Some(runs) => Ok(runs),
            None => self.claim(claimer, order).map(|page| (page, 1)),
        }
    }

    /// The same where hints say that there are any, for a caller that has said how many it is unsure of. Nothing for orders
    /// of more than a word.
    pub(crate) fn claim_runs_by_hints(
        &self,
        claimer: Claimer<'_>,
        order: Order,
        most: u64,
        given_up: &GivenUp,
    ) -> Result<Option<(u64, u64)>, NoMemory> {
        if u32::from(order.get()) > WORD_SHIFT {
            return Ok(None);
        }
        let claim = |block, _| claimer.blocks.claim_runs_in(block, order, most, given_up);
        match self.search_own_block(claimer, order, |block| claim(block, Mixing::Refused))? {
            Some(runs) => Ok(Some(runs)),
            None => self.search_block(claimer, order, claim),
        }
    }

    /// Runs a claim of `nr_pages` that may give pages up again.
    pub(crate) fn while_unsure<T>(&self, seat: &Seat, nr_pages: u64, claim: impl FnOnce(&GivenUp) -> T) -> T {
        seat.begin_unsure(nr_pages);
        let given_up = GivenUp::default();
        let claimed = claim(&given_up);
        if given_up.pages() > 0 {
            self.note_released(given_up.pages());
        }
        seat.end_unsure(nr_pages);
        claimed
    }

    /// Takes a run back whose folio has ended: into the stash of `seat` if there is room, or into the map. As
    /// [`FreeMap::release`].
    #[inline]
    pub(crate) fn give_back(&self, blocks: &Blocks, seat: &Seat, page: u64, order: Order) -> u64 {
        if seat.stash().push(order, page) {
            self.note_stashed(blocks, seat, page, order);
            0
        } else {
            self.release(blocks, seat, page, order)
        }
    }

    /// Gives a run back to the map. If that has emptied a group of blocks, how many groups have, lately.
    #[inline]
    pub(crate) fn release(&self, blocks: &Blocks, seat: &Seat, page: u64, order: Order) -> u64 {
        let vacancies = blocks.release(page, order);
        if order == Order::HUGE {
            seat.recent().note(block_of(page));
        }
        self.note_release(blocks, seat, page..page + order.nr_pages());
        vacancies
    }

    /// Gives all that the claimer's own stash keeps to the map.
    pub(crate) fn drain_seat(&self, claimer: Claimer<'_>) {
        for order in orders() {
            self.while_unsure(claimer.seat, order.nr_pages(), |_| {
                while let Some(page) = claimer.seat.stash().pop(order) {
                    self.release(claimer.blocks, claimer.seat, page, order);
                }
            });
        }
    }

    /// Tells exact searches that `nr_pages` have come free, in the map or in a stash: they may have looked there before.
    #[inline]
    pub(crate) fn note_released(&self, nr_pages: u64) {
        if self.is_watched() {
            // Release [verify]: pairs with the Acquire in `search_until_sure`; a search that starts with this count sees
            // the pages.
            self.releases.fetch_add(nr_pages, Release);
        }
    }

    /// Whether a search or a closure has begun that may not see what the caller did before.
    #[inline]
    fn is_watched(&self) -> bool {
        // A search or a closure whose heavy barrier comes after this one sees the pages; of one whose barrier came before, we
        // see the announcement. Relaxed [verify], [close]: the barriers order it.
        light_barrier();
        self.watchers.load(Relaxed) != 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
