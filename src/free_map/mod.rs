//! [`FreeMap`]: which offsets of one device are free. Lock-free; no page metadata is touched here.
//!
//! A claim asks hints first: the block that served this order last, blocks that serve it and have room, empty blocks,
//! blocks of other orders. Only when all of them fail does the exact search run, which alone may say "exhausted".
//!
//! Below: `blocks`, which keeps the words of all blocks of the space. Above: `device`. Edges: [claim], [verify].

mod bits;
mod block_use;
mod blocks;
mod search;
mod summary;

use core::ops::Range;

use crossbeam_utils::CachePadded;

pub(crate) use bits::{FreeBits, free_pages, largest_free_order};
pub(crate) use block_use::{BlockUse, Mixing};
pub(crate) use blocks::Blocks;

use crate::geometry::{PAGES_PER_BLOCK, block_of, blocks_for};
use crate::sparse::{NoMemory, Zeroed};
use crate::sync::{
    AtomicU32, AtomicU64, Backoff,
    Ordering::{Acquire, Relaxed, Release},
};
use crate::words::{OffsetRange, Order};

// SAFETY: An array of zero integers, without drop glue.
unsafe impl Zeroed for FreeBits {
    fn absent() -> FreeBits {
        FreeBits::absent()
    }
}

/// How often an exact search for a run looks again because pages came and went.
const PATIENCE: u32 = 16;

/// Why nothing was claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClaimError {
    /// Fewer pages are free than asked for.
    Exhausted { free: u64 },
    /// Enough pages are free, but not in one run; `largest` is the longest that a folio could have.
    Fragmented { free: u64, largest: u64 },
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
    /// For each order below 9, the block that served it last.
    last_used: CachePadded<[AtomicU64; Order::HUGE.get() as usize]>,
    /// How many exact searches are under way. Read by every release, written only when claims fail.
    searchers: CachePadded<AtomicU32>,
    /// How many pages were released while a searcher was there.
    releases: CachePadded<AtomicU64>,
}

impl FreeMap {
    /// The map of `range`, which starts at a block. To be [begun](FreeMap::begin) before it is used.
    pub(crate) fn new(range: OffsetRange) -> FreeMap {
        FreeMap {
            range,
            last_used: CachePadded::new(core::array::from_fn(|_| AtomicU64::new(block_of(range.start().get())))),
            searchers: CachePadded::new(AtomicU32::new(0)),
            releases: CachePadded::new(AtomicU64::new(0)),
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
        if let Some((block, exist)) = self.partial_block() {
            blocks.unend_block(block, exist);
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
    pub(crate) fn claim(&self, blocks: &Blocks, order: Order) -> Result<u64, ClaimError> {
        let found =
            if order.is_whole_block() { self.search_whole(blocks, order)? } else { self.search_small(blocks, order)? };
        match found {
            Some(page) => Ok(page),
            None => self.search_exactly(blocks, order),
        }
    }

    /// Gives a run back.
    pub(crate) fn release(&self, blocks: &Blocks, page: u64, order: Order) {
        blocks.release(page, order);
        // An exact search that has passed the pages must know. Relaxed [verify]: if a searcher read our use word before
        // we took the pages off it, its announcement happened before that (see `Blocks::look_closely`), and this load
        // sees it.
        if self.searchers.load(Relaxed) != 0 {
            // Release [verify]: pairs with the Acquire in `search_until_sure`; a search that starts with this count sees
            // the pages.
            self.releases.fetch_add(order.nr_pages(), Release);
        }
    }

    /// The search that may fail for good: looks at every block, not at hints.
    ///
    /// What is taken by a use word was taken when the search looked, and has been since, unless it was released, which
    /// counts in `releases`, or unless somebody was in the middle of taking it and may give up, which shows as
    /// unsettled. So no more pages can be free at the end than were seen free, were released, or were unsettled. If that
    /// is too little, the map is exhausted. If there was nothing of the last two and it is enough, there is no run: the
    /// map is fragmented. Otherwise it looks again.
    ///
    /// A release that has not yet come to its end has not yet happened.
    #[cold]
    pub(crate) fn search_exactly(&self, blocks: &Blocks, order: Order) -> Result<u64, ClaimError> {
        // Relaxed [verify]: the read-modify-writes of `look_closely` release it to whoever frees a page after them.
        self.searchers.fetch_add(1, Relaxed);
        let result = self.search_until_sure(blocks, order);
        self.searchers.fetch_sub(1, Relaxed);
        result
    }

    fn search_until_sure(&self, blocks: &Blocks, order: Order) -> Result<u64, ClaimError> {
        let backoff = Backoff::new();
        let mut rounds = 0;
        loop {
            // Acquire [verify]: pages whose release is counted here are seen free by the census.
            let releases = self.releases.load(Acquire);
            let census = self.census(blocks, order);
            if let Some(block) = census.room {
                match self.attempt(blocks, block, order, Mixing::Allowed)? {
                    Some(page) => return Ok(page),
                    // Lost to another claim, which succeeded.
                    None => continue,
                }
            }
            // Acquire: after the census in program order, and the census acquires too.
            let doubtful = self.releases.load(Acquire).wrapping_sub(releases) + census.unsettled;
            let free = census.free + doubtful;
            if free < order.nr_pages() {
                return Err(ClaimError::Exhausted { free: census.free });
            }
            // Under a constant coming and going, a run of several pages may never be there or be missing for sure. A
            // single free page is always a run, so there it is only a question of time.
            rounds += 1;
            let patient = rounds < PATIENCE || order == Order::ZERO;
            if doubtful == 0 || !patient {
                return Err(ClaimError::Fragmented { free, largest: census.largest });
            }
            backoff.snooze();
        }
    }

    /// One try at one block (or at the run of blocks that starts there).
    fn attempt(&self, blocks: &Blocks, block: u64, order: Order, mixing: Mixing) -> Result<Option<u64>, NoMemory> {
        if order.is_whole_block() { blocks.claim_whole(block, order) } else { blocks.claim_in(block, order, mixing) }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
