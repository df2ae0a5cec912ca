//! Whole blocks: runs of them for folios of order 9 and more, and what becomes of one that is divided; and blocks in which a
//! device ends. Edges: [claim], [seal].
#![forbid(unsafe_code)]

use core::ops::Range;

use super::super::bits::GivenUp;
use super::super::block_use::BlockUse;
use super::Blocks;
use super::purpose::Purpose;
use crate::class::Class;
use crate::geometry::{BLOCK_SHIFT, PAGES_PER_BLOCK, block_of};
use crate::sparse::NoMemory;
use crate::sync::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use crate::words::Order;

impl Blocks {
    /// Tries to take the run of `order` (9 or more) that starts at `block`, all of it or nothing.
    ///
    /// Blocks are taken in ascending order: of two claimers whose runs overlap, the one that gets the lowest shared block
    /// goes on and the other gives up what it has.
    pub(crate) fn claim_whole(&self, block: u64, order: Order, given_up: &GivenUp) -> Result<Option<u64>, NoMemory> {
        let run = block..block + (order.nr_pages() >> BLOCK_SHIFT);
        // Look first, so that a claim is only tried, and perhaps undone, where it can succeed.
        for block in run.clone() {
            if !self.seems_free(block) {
                self.mend_free(block);
                return Ok(None);
            }
        }
        if self.are_closing(run.clone()) {
            return Ok(None);
        }
        for at in run.clone() {
            let claimed = self.populate(at).map(|word| self.claim_one_whole(at, word, order));
            if !matches!(claimed, Ok(true)) {
                self.give_up(block << BLOCK_SHIFT..at << BLOCK_SHIFT, given_up);
                return claimed.map(|_| None);
            }
        }
        Ok(Some(block << BLOCK_SHIFT))
    }

    /// Takes a block for a folio of `order` (9 or more) if it is free and was such a one before. One exchange.
    #[inline]
    pub(crate) fn reclaim_whole(&self, block: u64, order: Order) -> bool {
        let Some(word) = self.uses.get_populated(block) else { return false };
        let seen = BlockUse::from_bits(word.load(Relaxed));
        seen.is_present()
            && seen.is_whole_and_free()
            && seen.class() == Class::Uniform(order)
            && !self.are_closing(block..block + 1)
            // AcqRel [claim], [verify]: as in `make_serve`.
            && word.compare_exchange(seen.bits(), seen.taken_for(order).bits(), AcqRel, Relaxed).is_ok()
    }

    fn claim_one_whole(&self, block: u64, word: &AtomicU64, order: Order) -> bool {
        let mut seen = BlockUse::from_bits(word.load(Relaxed));
        loop {
            if seen.is_taken() || seen.is_closed() || seen.is_partial() || !seen.is_present() {
                return false;
            }
            if seen.goes_by_bits() {
                return self.exchange_empty(block, word, seen, |seen| seen.taken_for(order)).is_some();
            }
            // AcqRel [claim], [verify]: as in `make_serve`.
            match word.compare_exchange_weak(seen.bits(), seen.taken_for(order).bits(), AcqRel, Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = BlockUse::from_bits(now),
            }
        }
    }

    /// Gives back blocks of large folios. As [`Blocks::release`], without the room.
    #[inline]
    pub(super) fn release_blocks(&self, blocks: Range<u64>) -> u64 {
        let mut vacancies = 0;
        for block in blocks {
            let Some(word) = self.uses.get_populated(block) else {
                unreachable!("block {block} is released and was never claimed");
            };
            // Relaxed: nobody but us writes the word of a block that we have.
            let seen = BlockUse::from_bits(word.load(Relaxed));
            debug_assert!(seen.is_taken(), "block {block} is released: {seen:?}");
            // Release [claim]: our use of the block ends before the next owner's begins.
            word.store(seen.given_back().bits(), Release);
            self.hints.note_free(block);
            vacancies = vacancies.max(self.note_vacancy(block));
        }
        vacancies
    }

    /// Memory for all that [`Blocks::divide`] may need in a block that falls to small folios, and serves `class` then.
    pub(crate) fn populate_for_division(&self, block: u64, class: Class) -> Result<(), NoMemory> {
        self.bits.populate(block)?;
        self.hints.populate_class(block, class)
    }

    /// Makes the blocks of a live folio of order `whole` those of its parts: for each block the first of them, by first page
    /// and order. Blocks that fall to small ones serve `class` (mixed, unless the whole is of order 9 or more). For the owner of
    /// the folio.
    pub(crate) fn divide(&self, whole: Order, class: Class, parts: impl Iterator<Item = (u64, Order)>) {
        let mut last = None;
        for (page, order) in parts {
            let block = block_of(page);
            if order.is_whole_block() {
                self.assign(block, order);
            } else if last.replace(block) != Some(block) {
                if whole.is_whole_block() {
                    if let Some(bits) = self.bits.get_populated(block) {
                        bits.take_all();
                    }
                    self.change_own(block, |seen| seen.divided(class));
                } else if let Some(word) = self.uses.get_populated(block) {
                    // It goes by its bits, which we have, and others may change it beside us; it cannot be refused.
                    self.make_serve(block, word, Purpose::Parts);
                }
            }
        }
    }

    /// Makes the blocks from `block` on, which the caller has as whole ones, those of a folio of `order`.
    pub(crate) fn assign(&self, block: u64, order: Order) {
        for block in block..block + (order.nr_pages() >> BLOCK_SHIFT) {
            self.change_own(block, |seen| seen.taken_for(order));
        }
    }

    /// Changes the use word of a block that the caller has for a large folio: nobody else writes it then.
    fn change_own(&self, block: u64, change: impl FnOnce(BlockUse) -> BlockUse) {
        if let Some(word) = self.uses.get_populated(block) {
            let seen = BlockUse::from_bits(word.load(Relaxed));
            // Release: whoever sees the block go by its bits sees that they are taken.
            word.store(change(seen).bits(), Release);
        }
    }

    /// Marks the pages of `block` from `exist` on as taken for good. For a device's last block, before the device is
    /// known to anybody else.
    pub(crate) fn end_block_after(&self, block: u64, exist: u64) -> Result<(), NoMemory> {
        let bits = self.bits.populate(block)?;
        let word = self.populate(block)?;
        bits.end_after(exist);
        // Acquire [claim]: the last device here is gone; what it did to the block comes before.
        let ended = BlockUse::from_bits(word.load(Acquire)).ended();
        word.store(ended.bits(), Relaxed);
        self.hints.note_taken(block, || false);
        Ok(())
    }

    /// Undoes [`Blocks::end_block_after`], when the device is gone.
    pub(crate) fn unend_block(&self, block: u64) {
        if let (Some(bits), Some(word)) = (self.bits.get_populated(block), self.uses.get_populated(block)) {
            bits.end_after(PAGES_PER_BLOCK);
            let seen = BlockUse::from_bits(word.load(Relaxed));
            // Release [claim]: as in `release_blocks`.
            word.store(seen.unended().bits(), Release);
            self.hints.note_free(block);
        }
    }
}
