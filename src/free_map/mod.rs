//! [`FreeMap`]: which offsets of one device are free. Lock-free; no page metadata is touched here.
//!
//! A claim asks hints first: the block that served this order last, blocks that serve it and have room, empty blocks,
//! blocks of other orders. Only when all of them fail does the exact search run, which alone may say "exhausted".
//!
//! Below: `blocks`, which keeps the words of all blocks of the space. Above: `device`. Edges: [claim], [verify].
#![forbid(unsafe_code)]

mod bits;
mod block_use;
mod blocks;
mod search;
mod summary;

use core::ops::Range;

use crossbeam_utils::CachePadded;

pub(crate) use bits::{Attempt, FreeBits, free_pages, largest_free_order};
pub(crate) use block_use::{BlockUse, CHANGES_BITS, Class, ClassChange, Mixing};
pub(crate) use blocks::Blocks;

use crate::geometry::{PAGES_PER_BLOCK, block_of, blocks_for};
use crate::sparse::NoMemory;
use crate::sync::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use crate::words::{OffsetRange, Order};

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
    /// How many releases have met a searcher.
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
    /// Lock-free. [`ClaimError::Exhausted`] and [`ClaimError::Fragmented`] are exact: at one moment of the call, it
    /// was so.
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
        self.tell_searchers();
    }

    /// After pages became free: an exact search that has passed them must look again.
    fn tell_searchers(&self) {
        // Relaxed [verify]: if a searcher read our word before we changed it, its announcement happened before our
        // change (see `Blocks::look_closely`), so this load sees it.
        if self.searchers.load(Relaxed) != 0 {
            // Release [verify]: pairs with the Acquire in `search_exactly`; a search that starts with this count sees
            // the pages.
            self.releases.fetch_add(1, Release);
        }
    }

    /// The search that may fail for good: looks at every block, not at hints, and starts over when a page was freed
    /// meanwhile. If nothing was freed while it looked, whatever it saw taken stayed taken to the end, and there was
    /// no room.
    #[cold]
    fn search_exactly(&self, blocks: &Blocks, order: Order) -> Result<u64, ClaimError> {
        // Relaxed [verify]: the read-modify-writes of `look_closely` release it to whoever frees a page after them.
        self.searchers.fetch_add(1, Relaxed);
        let result = loop {
            // Acquire [verify]: pages whose release is counted here are seen as free by the census.
            let releases = self.releases.load(Acquire);
            match self.census(blocks, order) {
                Ok(block) => match self.attempt(blocks, block, order, Mixing::Allowed) {
                    Ok(Some(page)) => break Ok(page),
                    // Lost to another claim, which succeeded.
                    Ok(None) => continue,
                    Err(error) => break Err(error.into()),
                },
                // Acquire: after the census in program order, and the census acquires too.
                Err(error) if self.releases.load(Acquire) == releases => break Err(error),
                Err(_) => continue,
            }
        };
        self.searchers.fetch_sub(1, Relaxed);
        result
    }

    /// One try at one block (or at the run of blocks that starts there).
    fn attempt(&self, blocks: &Blocks, block: u64, order: Order, mixing: Mixing) -> Result<Option<u64>, NoMemory> {
        let attempt = if order.is_whole_block() {
            blocks.claim_whole(block, order)
        } else {
            blocks.claim_in(block, order, mixing)
        };
        match attempt {
            Ok(Attempt::Claimed(page)) => Ok(Some(page)),
            Ok(Attempt::NoRoom) => Ok(None),
            Ok(Attempt::Undone) => {
                self.tell_searchers();
                Ok(None)
            }
            Err(error) => {
                self.tell_searchers();
                Err(error)
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
