//! Blocks that an eviction closes: nobody begins anything there, whatever comes free. Edges: [close].
//!
//! A block is closed by a mark in its use word, which claims read anyway. The owner of a large folio writes that word with
//! plain stores, so while it is taken it has no mark: which blocks *are to be* closed says a set beside it. Whoever gives a
//! block back, or divides the folio in it, looks there afterwards, and sets the mark; and a claim looks there before it takes a
//! whole block, or makes one serve another purpose.
#![forbid(unsafe_code)]

use core::ops::Range;

use super::super::bits::GivenUp;
use super::super::block_use::BlockUse;
use super::super::index::Index;
use super::Blocks;
use crate::geometry::{BLOCK_SHIFT, PAGES_PER_BLOCK, block_of};
use crate::sparse::{NoMemory, ReserveError};
use crate::sync::{
    AtomicU64,
    Ordering::{AcqRel, Relaxed},
    light_barrier,
};
use crate::words::Order;

/// Which blocks are to be closed.
pub(super) struct Closing {
    /// How many closures there are, in all devices: mostly 0, and then nobody looks at the set.
    nr_closures: AtomicU64,
    blocks: Index<false>,
}

impl Closing {
    pub(super) fn new(nr_blocks: u64) -> Result<Closing, ReserveError> {
        Ok(Closing { nr_closures: AtomicU64::new(0), blocks: Index::new(nr_blocks)? })
    }

    /// Bytes of metadata: reserved and populated.
    pub(super) fn bytes(&self) -> (u64, u64) {
        self.blocks.bytes()
    }

    /// Bytes of the populated ones that lie in memory; `None` where the system does not say.
    pub(super) fn resident_bytes(&self) -> Option<u64> {
        self.blocks.resident_bytes()
    }
}

impl Blocks {
    /// Memory for all that closing `block` needs, as long as nobody gives it back.
    pub(crate) fn populate_for_closing(&self, block: u64) -> Result<(), NoMemory> {
        self.closing.blocks.populate(block)?;
        self.populate(block).map(|_| ())
    }

    /// Says that `blocks` are to be closed. To be followed by a heavy barrier, and by [`Blocks::close`] of each.
    pub(crate) fn begin_closing(&self, blocks: Range<u64>) {
        // Relaxed [close]: whoever begins after the closure has all of this behind it; for the others the barrier orders it.
        self.closing.nr_closures.fetch_add(1, Relaxed);
        blocks.for_each(|block| self.closing.blocks.insert(block));
    }

    /// Says that `block` is to be open again. To be followed by a heavy barrier, and by [`Blocks::open`].
    pub(crate) fn end_closing(&self, block: u64) {
        self.closing.blocks.remove(block);
    }

    /// Undoes the count of [`Blocks::begin_closing`], when all of its blocks are open.
    pub(crate) fn end_closure(&self) {
        self.closing.nr_closures.fetch_sub(1, Relaxed);
    }

    /// Whether one of `blocks` is to be closed.
    #[inline]
    pub(crate) fn are_closing(&self, blocks: Range<u64>) -> bool {
        // Relaxed [close]: as in `begin_closing`.
        self.closing.nr_closures.load(Relaxed) != 0 && self.closing.blocks.next(blocks.start, blocks.end).is_some()
    }

    /// Whether nobody gets pages of `block`, whose use word was `seen`: a large folio has it, or it is closed, or is to be.
    #[inline]
    pub(crate) fn is_withheld(&self, block: u64, seen: BlockUse) -> bool {
        seen.is_taken() || seen.is_closed() || self.are_closing(block..block + 1)
    }

    /// Whether `block` has its mark, and no page of it that exists is taken, as far as a glance shows.
    pub(crate) fn is_closed_and_free(&self, block: u64, exist: u64) -> bool {
        let seen = self.use_of(block);
        seen.is_closed()
            && (!seen.goes_by_bits() || self.bits.get_populated(block).is_some_and(|bits| bits.seem_free_before(exist)))
    }

    /// Marks `block` as closed, unless it belongs to a large folio: then whoever gives it back does. `false` if it was
    /// marked, or is not to be.
    pub(crate) fn close(&self, block: u64) -> bool {
        let Some(word) = self.uses.get_populated(block) else { return false };
        let mut seen = BlockUse::from_bits(word.load(Relaxed));
        loop {
            if seen.is_taken() || seen.is_closed() || !seen.is_present() {
                return false;
            }
            // AcqRel [close], [claim]: whoever claims the block when it is closed, or opened again, has what came before
            // behind it.
            match word.compare_exchange_weak(seen.bits(), seen.closed().bits(), AcqRel, Relaxed) {
                Ok(_) => break,
                Err(now) => seen = BlockUse::from_bits(now),
            }
        }
        if let Some(bits) = self.bits.get_populated(block).filter(|_| seen.goes_by_bits()) {
            // A small claim that takes bits after this sees the mark, and gives them back; one that took them before is seen.
            bits.pass();
        }
        // A closed block seems neither free nor to have room.
        self.hints.note_taken(block, || self.seems_free(block));
        self.hints.note_no_room(block, seen.class(), || !self.use_of(block).is_closed());
        true
    }

    /// The same for whoever has given pages of `block` back, or divided the folio there, and passed a barrier since. `true`
    /// if it was closed for a moment only, because the closure has ended meanwhile.
    pub(crate) fn close_again(&self, block: u64) -> bool {
        if !self.closing.blocks.has(block) || !self.close(block) {
            return false;
        }
        // Whoever ends the closure after this sees our mark; if it was before, we see that it has ended.
        light_barrier();
        let has_ended = !self.closing.blocks.has(block);
        if has_ended {
            self.open(block);
        }
        has_ended
    }

    /// Takes the mark from `block`.
    pub(crate) fn open(&self, block: u64) {
        let Some(word) = self.uses.get_populated(block) else { return };
        let mut seen = BlockUse::from_bits(word.load(Relaxed));
        while seen.is_closed() {
            // AcqRel [claim]: as in `close`.
            match word.compare_exchange_weak(seen.bits(), seen.opened().bits(), AcqRel, Relaxed) {
                Ok(_) => {
                    self.note_opened(block, seen.opened());
                    return;
                }
                Err(now) => seen = BlockUse::from_bits(now),
            }
        }
    }

    fn note_opened(&self, block: u64, opened: BlockUse) {
        if opened.goes_by_bits() {
            self.hints.note_room(block, opened.class());
            self.note_state(block);
        }
        if self.seems_free(block) {
            self.hints.note_free(block);
            self.note_vacancy(block);
        }
    }

    /// Takes all of a closed block, of which `exist` pages exist, for the folios of whoever has closed it: as one of order 9
    /// if it is whole, by its bits otherwise.
    pub(crate) fn claim_closed(&self, block: u64, exist: u64, given_up: &GivenUp) -> bool {
        let Some(word) = self.uses.get_populated(block) else { return false };
        let mut seen = BlockUse::from_bits(word.load(Relaxed));
        while seen.is_closed() {
            if exist < PAGES_PER_BLOCK {
                return self.claim_closed_pages(block, word, exist, given_up);
            }
            if seen.goes_by_bits() {
                return self.exchange_empty(block, word, seen, |seen| seen.taken_for(Order::HUGE)).is_some();
            }
            // AcqRel [claim], [verify]: as in `make_serve`.
            match word.compare_exchange_weak(seen.bits(), seen.taken_for(Order::HUGE).bits(), AcqRel, Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = BlockUse::from_bits(now),
            }
        }
        false
    }

    fn claim_closed_pages(&self, block: u64, word: &AtomicU64, exist: u64, given_up: &GivenUp) -> bool {
        let Some(bits) = self.bits.get_populated(block) else { return false };
        if !bits.claim_span(0, exist, given_up) {
            return false;
        }
        // The bits are ours: nobody else opens the block.
        let mut seen = BlockUse::from_bits(word.load(Relaxed));
        while let Err(now) = word.compare_exchange_weak(seen.bits(), seen.opened().mixed().bits(), AcqRel, Relaxed) {
            seen = BlockUse::from_bits(now);
        }
        true
    }

    /// Gives pages back that a claim has taken before it failed.
    pub(crate) fn give_up(&self, pages: Range<u64>, given_up: &GivenUp) {
        self.release_pages(pages.clone());
        given_up.note(pages.end - pages.start);
        // As in `FreeMap::is_watched`.
        light_barrier();
        let blocks = blocks_of(pages);
        if self.are_closing(blocks.clone()) {
            let was_opened = blocks.filter(|&block| self.close_again(block)).count();
            given_up.note((was_opened as u64) << BLOCK_SHIFT);
        }
    }
}

/// The blocks that have any of `pages`.
pub(crate) fn blocks_of(pages: Range<u64>) -> Range<u64> {
    block_of(pages.start)..block_of(pages.end + PAGES_PER_BLOCK - 1)
}
