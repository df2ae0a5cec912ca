//! [`Hold`]: blocks in which nothing lives, taken so that nobody begins anything there.
#![forbid(unsafe_code)]

use core::ops::Range;

use super::{Claimer, FreeMap, GivenUp};
use crate::geometry::{BLOCK_SHIFT, PAGES_PER_BLOCK};
use crate::words::Order;

/// Blocks of one device that are held; given back when it is dropped.
pub(crate) struct Hold<'a> {
    map: &'a FreeMap,
    claimer: Claimer<'a>,
    blocks: Range<u64>,
    /// Blocks from here on are not held (yet).
    end: u64,
    /// Pages that the seat is unsure of, because of this.
    unsure: u64,
    given_up: GivenUp,
}

impl FreeMap {
    /// Takes `blocks`, those of them that are the device's, if no page of them is taken. Never waits, and lets go at once
    /// when it meets one that is.
    pub(crate) fn hold<'a>(&'a self, claimer: Claimer<'a>, blocks: Range<u64>) -> Option<Hold<'a>> {
        let range = self.blocks();
        let blocks = blocks.start.max(range.start)..blocks.end.min(range.end);
        // Look first, so that nobody is disturbed in vain.
        if !blocks.clone().all(|block| self.seems_vacant(claimer, block)) {
            return None;
        }
        let unsure = blocks.end.saturating_sub(blocks.start) << BLOCK_SHIFT;
        // As of all claims of several words: an exact search that sees the pages taken knows that they may come back.
        claimer.seat.begin_unsure(unsure);
        let mut hold = Hold {
            map: self,
            claimer,
            end: blocks.start,
            blocks: blocks.clone(),
            unsure,
            given_up: GivenUp::default(),
        };
        for block in blocks {
            if !hold.take(block) {
                return None;
            }
            hold.end = block + 1;
        }
        Some(hold)
    }

    /// Whether no page of `block` that exists seems taken.
    fn seems_vacant(&self, claimer: Claimer<'_>, block: u64) -> bool {
        match self.pages_in(block) {
            PAGES_PER_BLOCK => claimer.blocks.seems_free(block),
            exist => (0..exist).step_by(crate::geometry::PAGES_PER_WORD as usize).all(|page| {
                let word = claimer.blocks.word_of((block << BLOCK_SHIFT) + page);
                let missing = exist.checked_sub(page).filter(|&here| here < u64::from(u64::BITS));
                word & missing.map_or(u64::MAX, |here| (1 << here) - 1) == 0
            }),
        }
    }
}

impl Hold<'_> {
    fn take(&self, block: u64) -> bool {
        let Claimer { blocks, .. } = self.claimer;
        match self.map.pages_in(block) {
            PAGES_PER_BLOCK => matches!(blocks.claim_whole(block, Order::HUGE, &self.given_up), Ok(Some(_))),
            exist => matches!(blocks.claim_span_in(block, 0, exist, &self.given_up), Ok(true)),
        }
    }

    /// Whether every block is held as a whole: the device does not end within one.
    pub(crate) fn is_whole(&self) -> bool {
        self.blocks.clone().all(|block| self.map.pages_in(block) == PAGES_PER_BLOCK)
    }

    /// Lets go of blocks whose words have been given back to the system, and so are nobody's already.
    pub(crate) fn forget_words(mut self) {
        self.claimer.blocks.note_vacated(self.blocks.start..self.end);
        self.given_up.note((self.end - self.blocks.start) << BLOCK_SHIFT);
        self.end = self.blocks.start;
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        for block in self.blocks.start..self.end {
            let (page, nr_pages) = (block << BLOCK_SHIFT, self.map.pages_in(block));
            self.claimer.blocks.release_pages(page..page + nr_pages);
            self.given_up.note(nr_pages);
        }
        if self.given_up.pages() > 0 {
            self.map.note_released(self.given_up.pages());
        }
        self.claimer.seat.end_unsure(self.unsure);
    }
}
