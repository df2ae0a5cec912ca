//! Where to look for a free run: by hint, and by a census of all blocks.
#![forbid(unsafe_code)]

use super::{BlockUse, Blocks, FreeMap, Mixing, free_pages, largest_free_order};
use crate::class::Class;
use crate::geometry::{BLOCK_SHIFT, PAGES_PER_BLOCK};
use crate::sparse::NoMemory;
use crate::sync::Ordering::Relaxed;
use crate::words::Order;

/// How many blocks a search by hint looks at before it settles for the next best kind of block.
const NEAR: usize = 64;

/// What a look at every block has found.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Census {
    /// A block (the first of a run, for large orders) that had room. If there is one, the rest does not count.
    pub(super) room: Option<u64>,
    /// Pages seen free.
    pub(super) free: u64,
    /// Pages that somebody is in the middle of taking or giving back.
    pub(super) unsettled: u64,
    /// Pages of the longest free run that a folio could have.
    pub(super) largest: u64,
}

impl FreeMap {
    /// A run of `order` (below 9) where hints say that there is one. Folios of one order gather in as few blocks as
    /// possible, at low offsets, so that other blocks empty and can serve large orders.
    pub(super) fn search_small(&self, blocks: &Blocks, order: Order) -> Result<Option<u64>, NoMemory> {
        // Relaxed: a hint.
        let last = self.last_used[order.get() as usize].load(Relaxed);
        if let Some(page) = self.attempt(blocks, last, order, Mixing::Refused)? {
            return Ok(Some(page));
        }
        let mut empty = None;
        for block in self.not_full(blocks).take(NEAR) {
            let seen = blocks.use_of(block);
            if seen.is_empty() {
                empty = empty.or(Some(block));
            } else if seen.class() == Class::Uniform(order) || seen.class() == Class::Unused {
                if let Some(page) = self.attempt_and_remember(blocks, block, order, Mixing::Refused)? {
                    return Ok(Some(page));
                }
            }
        }
        for block in empty.into_iter().chain(self.empty(blocks).take(NEAR)) {
            if let Some(page) = self.attempt_and_remember(blocks, block, order, Mixing::Refused)? {
                return Ok(Some(page));
            }
        }
        for block in self.not_full(blocks).take(NEAR) {
            if let Some(page) = self.attempt(blocks, block, order, Mixing::Allowed)? {
                return Ok(Some(page));
            }
        }
        Ok(None)
    }

    fn attempt_and_remember(
        &self,
        blocks: &Blocks,
        block: u64,
        order: Order,
        mixing: Mixing,
    ) -> Result<Option<u64>, NoMemory> {
        let claimed = self.attempt(blocks, block, order, mixing)?;
        if claimed.is_some() {
            self.last_used[order.get() as usize].store(block, Relaxed);
        }
        Ok(claimed)
    }

    /// A run of `order` (9 or more) where hints say that all its blocks are empty.
    pub(super) fn search_whole(&self, blocks: &Blocks, order: Order) -> Result<Option<u64>, NoMemory> {
        let nr_blocks = order.nr_pages() >> BLOCK_SHIFT;
        let range = self.blocks();
        let mut at = range.start;
        while let Some(empty) = blocks.next_empty(at, range.end) {
            // The aligned run that begins at `empty`, or the next one if it lies inside a run.
            let run = empty.next_multiple_of(nr_blocks);
            if run + nr_blocks > range.end {
                break;
            }
            // The first block of the run that is not empty, if any, decides where to go on.
            let mut expected = run;
            while expected < run + nr_blocks && blocks.next_empty(expected, range.end) == Some(expected) {
                expected += 1;
            }
            if expected == run + nr_blocks {
                if let Some(page) = self.attempt(blocks, run, order, Mixing::Refused)? {
                    return Ok(Some(page));
                }
            }
            at = run + nr_blocks;
        }
        Ok(None)
    }

    /// Looks closely at every block, until it finds room for `order`.
    pub(super) fn census(&self, blocks: &Blocks, order: Order) -> Census {
        let nr_blocks = (order.nr_pages() >> BLOCK_SHIFT).max(1);
        let mut census = Census::default();
        let mut empty_run = 0;
        for block in self.blocks() {
            let (seen, bits) = blocks.look_closely(block);
            if seen.is_empty() {
                empty_run += 1;
                // The longest aligned run that ends here: n blocks, up to a border that n divides.
                let mut n = 1;
                while n * 2 <= empty_run && (block + 1) % (n * 2) == 0 {
                    n *= 2;
                }
                if order.is_whole_block() && n >= nr_blocks {
                    census.room = Some(block + 1 - nr_blocks);
                    return census;
                }
                census.largest = census.largest.max(n << BLOCK_SHIFT).min(Order::MAX.nr_pages());
            } else {
                empty_run = 0;
            }
            // A large run needs blocks that are empty by their use word. A small one needs free bits, and a bit may be
            // set in an "empty" block while a claim or a release is under way.
            match bits {
                Some(bits) if !order.is_whole_block() || !seen.is_empty() => {
                    let here = largest_free_order(&bits);
                    if !order.is_whole_block() && here.is_some_and(|here| here >= order) {
                        census.room = Some(block);
                        return census;
                    }
                    let free = free_pages(&bits);
                    census.free += free;
                    // More bits than are counted: claimed and not yet counted, or no longer counted and not yet free.
                    census.unsettled += seen.free().saturating_sub(free);
                    census.largest = census.largest.max(here.map_or(0, Order::nr_pages));
                }
                // Never used: all free.
                None if seen.is_empty() && !order.is_whole_block() => {
                    census.room = Some(block);
                    return census;
                }
                _ => census.free += seen.free(),
            }
            if seen.is_whole() && !is_run_complete(blocks, block, seen) {
                census.unsettled += PAGES_PER_BLOCK;
            }
        }
        census
    }

    fn not_full<'a>(&self, blocks: &'a Blocks) -> impl Iterator<Item = u64> + use<'a> {
        let range = self.blocks();
        let mut at = range.start;
        core::iter::from_fn(move || {
            let block = blocks.next_not_full(at, range.end)?;
            at = block + 1;
            Some(block)
        })
    }

    fn empty<'a>(&self, blocks: &'a Blocks) -> impl Iterator<Item = u64> + use<'a> {
        let range = self.blocks();
        let mut at = range.start;
        core::iter::from_fn(move || {
            let block = blocks.next_empty(at, range.end)?;
            at = block + 1;
            Some(block)
        })
    }
}

/// Whether the large run that `block` is part of is all taken: claims begin at its first block and end at its last, and
/// so do releases. If not, one of them is under way.
fn is_run_complete(blocks: &Blocks, block: u64, seen: BlockUse) -> bool {
    let Class::Uniform(order) = seen.class() else { return false };
    let nr_blocks = order.nr_pages() >> BLOCK_SHIFT;
    let first = block - block % nr_blocks;
    [first, first + nr_blocks - 1].iter().all(|&end| {
        let end = blocks.use_of(end);
        end.is_whole() && end.class() == seen.class()
    })
}
