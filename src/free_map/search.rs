//! Where to look for a free run first.
#![forbid(unsafe_code)]

use core::ops::Range;

use super::{Blocks, Claimer, FreeMap, GivenUp, Mixing, largest_free_order};
use crate::class::Class;
use crate::geometry::BLOCK_SHIFT;
use crate::seat::Seat;
use crate::sparse::NoMemory;
use crate::words::Order;

/// How many blocks a search by hint looks at before it settles for the next best kind of block.
const NEAR: usize = 64;

/// Blocks whose use words and records share no line with those of other blocks: of one such group, one seat takes folios of
/// order 9.
const GROUP: u64 = 16;

impl FreeMap {
    /// A run of `order` (below 9) where hints say that there is one. Folios of one order gather in as few blocks as
    /// possible, at low offsets, so that other blocks empty and can serve large orders; but each seat takes from a block of its
    /// own.
    pub(super) fn search_small(
        &self,
        claimer: Claimer<'_>,
        order: Order,
        given_up: &GivenUp,
    ) -> Result<Option<u64>, NoMemory> {
        let claim = |block, mixing| claimer.blocks.claim_in(block, order, mixing, given_up);
        match self.search_own_block(claimer, order, |block| claim(block, Mixing::Refused))? {
            Some(page) => Ok(Some(page)),
            None => self.search_block(claimer, order, claim),
        }
    }

    /// The block that the seat takes `order` from, until nothing is found there.
    #[inline]
    pub(super) fn search_own_block<T>(
        &self,
        claimer: Claimer<'_>,
        order: Order,
        claim: impl FnOnce(u64) -> Result<Option<T>, NoMemory>,
    ) -> Result<Option<T>, NoMemory> {
        let Claimer { blocks, seat, .. } = claimer;
        let Some(block) = seat.block(order) else { return Ok(None) };
        let claimed = claim(block)?;
        if claimed.is_none() {
            seat.set_block(order, None);
            blocks.leave(block);
        }
        Ok(claimed)
    }

    /// Another block to take `order` from, as `claim` does.
    pub(super) fn search_block<T>(
        &self,
        claimer: Claimer<'_>,
        order: Order,
        claim: impl Fn(u64, Mixing) -> Result<Option<T>, NoMemory>,
    ) -> Result<Option<T>, NoMemory> {
        let Claimer { blocks, seat, .. } = claimer;
        let class = Class::Uniform(order);
        let adopt = |block| {
            if !blocks.adopt(block, order)? {
                return Ok(None);
            }
            let claimed = claim(block, Mixing::Refused)?;
            if claimed.is_some() {
                seat.set_block(order, Some(block));
            } else {
                blocks.leave(block);
            }
            Ok(claimed)
        };
        // Whoever takes more than a block looks near home then, and only after that where others may be about to look.
        let (home, all) = (self.home_of(seat), self.blocks());
        let near = (home != all && seat.has_left_block(order)).then_some(home);
        for range in near.into_iter().chain([all]) {
            for block in self.with_room(blocks, class, range.clone()).take(NEAR) {
                if let Some(claimed) = adopt(block)? {
                    return Ok(Some(claimed));
                }
                blocks.mend(block, class);
            }
            for block in self.free(blocks, range).take(NEAR) {
                if let Some(claimed) = adopt(block)? {
                    return Ok(Some(claimed));
                }
                blocks.mend_free(block);
            }
        }
        for class in [class, Class::Mixed] {
            for block in self.with_room(blocks, class, self.blocks()).take(NEAR) {
                if largest_free_order(&blocks.bits_of(block)) >= Some(order) {
                    if let Some(claimed) = claim(block, Mixing::Allowed)? {
                        return Ok(Some(claimed));
                    }
                }
                blocks.mend(block, class);
            }
        }
        Ok(None)
    }

    /// A run of `order` (9 or more) where hints say that all its blocks are empty.
    pub(super) fn search_whole(
        &self,
        claimer: Claimer<'_>,
        order: Order,
        given_up: &GivenUp,
    ) -> Result<Option<u64>, NoMemory> {
        let blocks = claimer.blocks;
        if order == Order::HUGE {
            if let Some(page) = self.search_group(claimer, given_up)? {
                return Ok(Some(page));
            }
        }
        let nr_blocks = order.nr_pages() >> BLOCK_SHIFT;
        let range = self.blocks();
        let mut at = range.start;
        while let Some(free) = blocks.hints().next_free(at, range.end) {
            // The aligned run that begins at `free`, or the next one if it lies inside a run.
            let run = free.next_multiple_of(nr_blocks);
            if run + nr_blocks > range.end {
                break;
            }
            let is_free = |block| blocks.hints().next_free(block, block + 1).is_some();
            if (run..run + nr_blocks).all(is_free) {
                if let Some(page) = blocks.claim_whole(run, order, given_up)? {
                    return Ok(Some(page));
                }
            }
            at = run + nr_blocks;
        }
        Ok(None)
    }

    /// A block of order 9 that the seat has freed, or one of the group that it takes blocks from, or of another group in which
    /// nobody has any.
    fn search_group(&self, claimer: Claimer<'_>, given_up: &GivenUp) -> Result<Option<u64>, NoMemory> {
        let (Claimer { blocks, seat, .. }, order, range) = (claimer, Order::HUGE, self.blocks());
        while let Some(block) = seat.recent().take() {
            if let Some(page) = blocks.claim_whole(block, order, given_up)? {
                return Ok(Some(page));
            }
        }
        // The next of the group; a multiple is the next group, which may be anybody's.
        while let Some(block) = seat.block(order).filter(|block| block % GROUP != 0) {
            seat.set_block(order, Some(block + 1));
            if let Some(page) = blocks.claim_whole(block, order, given_up)? {
                return Ok(Some(page));
            }
        }
        // Seats begin to look at groups of their own, so that many of them need not pass each other's.
        let mut at = self.home_of(seat).start;
        for _ in 0..NEAR {
            let Some(free) = blocks.hints().next_free(at, range.end) else { break };
            let group = free.next_multiple_of(GROUP);
            if group + GROUP > range.end {
                break;
            }
            if (group..group + GROUP).all(|block| blocks.seems_free(block)) {
                seat.set_block(order, Some(group + 1));
                if let Some(page) = blocks.claim_whole(group, order, given_up)? {
                    return Ok(Some(page));
                }
            }
            at = group + GROUP;
        }
        Ok(None)
    }

    /// The group of blocks that a seat looks at before all others, so that threads do not free into each other's blocks.
    fn home_of(&self, seat: &Seat) -> Range<u64> {
        let range = self.blocks();
        let first = range.start + seat.number() as u64 * GROUP % (range.end - range.start);
        first..(first + GROUP).min(range.end)
    }

    /// Blocks of `range` that may be of `class` and have a free page.
    fn with_room<'a>(
        &self,
        blocks: &'a Blocks,
        class: Class,
        range: Range<u64>,
    ) -> impl Iterator<Item = u64> + use<'a> {
        each(range, move |from, end| blocks.hints().next_with_room(class, from, end))
    }

    /// Blocks of `range` that may be free.
    fn free<'a>(&self, blocks: &'a Blocks, range: Range<u64>) -> impl Iterator<Item = u64> + use<'a> {
        each(range, |from, end| blocks.hints().next_free(from, end))
    }
}

fn each<N: Fn(u64, u64) -> Option<u64>>(mut range: Range<u64>, next: N) -> impl Iterator<Item = u64> + use<N> {
    core::iter::from_fn(move || {
        let block = next(range.start, range.end)?;
        range.start = block + 1;
        Some(block)
    })
}
