//! [`Blocks`]: who owns the pages of each block, for the whole space. One claim or release in one block, or in a run
//! of whole blocks; where to look for one is `FreeMap`'s affair.
//!
//! Small folios are taken and given back by their bits alone. The use word of a block is written when the block changes
//! its purpose: it begins to serve an order, or several, or becomes part of a large folio and ceases to be.
//!
//! A block that goes by its bits becomes a whole one, or serves another order, only when all bits are clear, and they
//! are not one word. So whoever wants that *seals* the block, looks at each word of bits with a read-modify-write, and
//! then exchanges the sealed use word for the new one. A small claim looks at the use word once more after it has its
//! bits. If its bits came before the look at them, the look sees them. If they came after, the claimer sees the seal, and
//! breaks it; or what came of it, and gives its bits back or goes along.
//!
//! Below: `block_use`, `bits`, `hints`. Edges: [claim], [seal], [verify].
#![forbid(unsafe_code)]

use core::ops::Range;

use super::bits::{FreeBits, GivenUp};
use super::block_use::{BlockUse, Mixing};
use super::hints::Hints;
use crate::class::{Class, ClassChange};
use crate::geometry::{BLOCK_SHIFT, PAGES_PER_BLOCK, WORDS_PER_BLOCK, block_of};
use crate::section_map::Place;
use crate::sparse::{Layout, NoMemory, ReserveError, SparseArray};
use crate::sync::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use crate::words::Order;

/// The free map's words for every block of a space.
pub(crate) struct Blocks {
    uses: SparseArray<AtomicU64>,
    bits: SparseArray<FreeBits>,
    hints: Hints,
}

/// What a small claim asks of the block that it is in.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    /// To serve one order, beside others only if allowed.
    One(Order, Mixing),
    /// To serve all orders below 9.
    All,
}

impl Purpose {
    fn is_served(self, block: BlockUse) -> bool {
        match self {
            Purpose::One(order, _) => block.serves(order),
            Purpose::All => block.serves_all(),
        }
    }

    fn class(self) -> Class {
        match self {
            Purpose::One(order, _) => Class::Uniform(order),
            Purpose::All => Class::Mixed,
        }
    }

    fn apply(self, block: BlockUse) -> Option<BlockUse> {
        match self {
            Purpose::One(order, mixing) => block.serving(order, mixing),
            Purpose::All => block.serving_all(),
        }
    }
}

impl Blocks {
    pub(crate) fn new(nr_blocks: u64) -> Result<Blocks, ReserveError> {
        Ok(Blocks {
            uses: SparseArray::new(Layout { len: nr_blocks, chunk_bytes: 4096, huge: false })?,
            bits: SparseArray::new(Layout { len: nr_blocks, chunk_bytes: 4096, huge: false })?,
            hints: Hints::new(nr_blocks)?,
        })
    }

    pub(crate) fn hints(&self) -> &Hints {
        &self.hints
    }

    /// What `block` is used for. A hint, unless the caller has a claim in the block.
    pub(crate) fn use_of(&self, block: u64) -> BlockUse {
        // Acquire [verify]: with a claim that it sees, a search sees that the claimer is not sure yet.
        BlockUse::from_bits(self.uses.get_populated(block).map_or(0, |word| word.load(Acquire)))
    }

    /// The class of a block in which the caller holds a claim, or a later one.
    pub(crate) fn change_of(&self, block: u64) -> ClassChange {
        self.use_of(block).change()
    }

    /// The free bits of `block`, all free if it was never used; of meaning while the block goes by its bits. Exact when
    /// nobody works on the block.
    pub(crate) fn bits_of(&self, block: u64) -> [u64; WORDS_PER_BLOCK] {
        self.bits.get_populated(block).map_or([0; WORDS_PER_BLOCK], FreeBits::look)
    }

    /// The word of free bits that `page` lies in; of meaning while its block goes by its bits.
    pub(crate) fn word_of(&self, page: u64) -> u64 {
        self.bits.get_populated(block_of(page)).map_or(0, |bits| bits.word_of(page % PAGES_PER_BLOCK))
    }

    /// Whether no page of `block` is taken, as far as a glance shows.
    pub(crate) fn seems_free(&self, block: u64) -> bool {
        let seen = self.use_of(block);
        seen.is_whole_and_free()
            || seen.goes_by_bits() && self.bits.get_populated(block).is_none_or(FreeBits::seem_free)
    }

    /// Tries to take a run of `order` (below 9) in `block`, and says at which page it starts.
    pub(crate) fn claim_in(
        &self,
        block: u64,
        order: Order,
        mixing: Mixing,
        given_up: &GivenUp,
    ) -> Result<Option<u64>, NoMemory> {
        let give_back = |bits: &FreeBits, start| {
            bits.release_span(start, order.nr_pages());
            given_up.note(order.nr_pages());
        };
        let take = |bits: &FreeBits| bits.claim(order, given_up);
        let start = self.claim_small(block, Purpose::One(order, mixing), take, give_back)?;
        Ok(start.map(|start| (block << BLOCK_SHIFT) + start))
    }

    /// Tries to take up to `most` runs of `order` (at most a word's) in one word of `block`: the word's first page, and
    /// a bit for each page taken.
    pub(crate) fn claim_runs_in(
        &self,
        block: u64,
        order: Order,
        most: u64,
        given_up: &GivenUp,
    ) -> Result<Option<(u64, u64)>, NoMemory> {
        let give_back = |bits: &FreeBits, (start, runs): (u64, u64)| {
            bits.release_runs(start, runs);
            given_up.note(u64::from(runs.count_ones()));
        };
        let take = |bits: &FreeBits| bits.claim_runs(order, most);
        let runs = self.claim_small(block, Purpose::One(order, Mixing::Refused), take, give_back)?;
        Ok(runs.map(|(start, runs)| ((block << BLOCK_SHIFT) + start, runs)))
    }

    /// Tries to take the `nr_pages` pages from page `start` of `block` on, fewer than all of it, for folios of any
    /// orders.
    pub(crate) fn claim_span_in(
        &self,
        block: u64,
        start: u64,
        nr_pages: u64,
        given_up: &GivenUp,
    ) -> Result<bool, NoMemory> {
        let give_back = |bits: &FreeBits, ()| {
            bits.release_span(start, nr_pages);
            given_up.note(nr_pages);
        };
        let take = |bits: &FreeBits| bits.claim_span(start, nr_pages, given_up).then_some(());
        Ok(self.claim_small(block, Purpose::All, take, give_back)?.is_some())
    }

    /// Makes the block serve `purpose`, takes bits of it, and looks whether it still does.
    fn claim_small<T: Copy>(
        &self,
        block: u64,
        purpose: Purpose,
        take: impl FnOnce(&FreeBits) -> Option<T>,
        give_back: impl FnOnce(&FreeBits, T),
    ) -> Result<Option<T>, NoMemory> {
        let (word, bits) = (self.populate(block)?, self.bits.populate(block)?);
        if !purpose.is_served(BlockUse::from_bits(word.load(Relaxed))) {
            // As far as anybody can tell; what the block is in the end may differ, and is then not noted.
            self.hints.populate_class(block, purpose.class())?;
            self.hints.populate_class(block, Class::Mixed)?;
            if !self.make_serve(block, word, purpose) {
                return Ok(None);
            }
        }
        let Some(taken) = take(bits) else { return Ok(None) };
        // A block that nobody has sealed since serves the purpose still; any other does again, or we give up.
        if self.make_serve(block, word, purpose) {
            return Ok(Some(taken));
        }
        give_back(bits, taken);
        Ok(None)
    }

    #[inline]
    fn make_serve(&self, block: u64, word: &AtomicU64, purpose: Purpose) -> bool {
        // Relaxed [seal]: what must be seen here came to us with the bits.
        let mut seen = BlockUse::from_bits(word.load(Relaxed));
        while !purpose.is_served(seen) {
            let Some(next) = purpose.apply(seen) else { return false };
            // Acquire [claim]: what the last owner of the whole block did is behind us.
            // Release [verify]: a search that sees the block go by its bits sees that we are not sure of them yet.
            match word.compare_exchange_weak(seen.bits(), next.bits(), AcqRel, Relaxed) {
                Ok(_) => {
                    self.note_change(block, seen, next);
                    return true;
                }
                Err(now) => seen = BlockUse::from_bits(now),
            }
        }
        true
    }

    /// Brings the hints up to date after a change of the use word to one that goes by the bits.
    fn note_change(&self, block: u64, old: BlockUse, new: BlockUse) {
        self.hints.note_taken(block, || self.seems_free(block));
        if old.class() != new.class() {
            self.hints.note_no_room(block, old.class(), || false);
            self.hints.note_room(block, new.class());
        }
    }

    /// Makes a block that nobody takes from serve `order` (below 9) only, and reserves it. `false` if it is reserved, serves
    /// another order or belongs to a large folio.
    pub(crate) fn adopt(&self, block: u64, order: Order) -> Result<bool, NoMemory> {
        let (word, _) = (self.populate(block)?, self.bits.populate(block)?);
        self.hints.populate_class(block, Class::Uniform(order))?;
        let seen = BlockUse::from_bits(word.load(Relaxed));
        if seen.is_reserved() {
            return Ok(false);
        }
        let adopted = match seen.serving(order, Mixing::Refused).filter(|next| next.class() == Class::Uniform(order)) {
            Some(next) => {
                let next = next.reserved(true);
                // AcqRel [claim], [verify]: as in `make_serve`.
                let adopted = word.compare_exchange(seen.bits(), next.bits(), AcqRel, Relaxed).is_ok();
                adopted.then_some(next)
            }
            None if seen.goes_by_bits() => {
                self.exchange_empty(block, word, seen, |seen| seen.emptied_for(order).reserved(true))
            }
            None => None,
        };
        if let Some(next) = adopted {
            self.note_change(block, seen, next);
        }
        Ok(adopted.is_some())
    }

    /// Exchanges the use word of a block that goes by its bits, if all of them are clear.
    fn exchange_empty(
        &self,
        block: u64,
        word: &AtomicU64,
        seen: BlockUse,
        next: impl FnOnce(BlockUse) -> BlockUse,
    ) -> Option<BlockUse> {
        let bits = self.bits.get_populated(block)?;
        if !bits.seem_free() {
            return None;
        }
        let sealed = seen.sealed();
        // Relaxed [seal]: the looks at the bits release it to whoever claims after them.
        if word.compare_exchange(seen.bits(), sealed.bits(), Relaxed, Relaxed).is_err() {
            return None;
        }
        if !bits.are_free() {
            // Whoever took them may have broken the seal before.
            let _ = word.compare_exchange(sealed.bits(), sealed.unsealed().bits(), Relaxed, Relaxed);
            return None;
        }
        let next = next(sealed);
        // AcqRel [claim], [verify]: as in `make_serve`. It fails if a claim has broken the seal.
        word.compare_exchange(sealed.bits(), next.bits(), AcqRel, Relaxed).is_ok().then_some(next)
    }

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
        for at in run.clone() {
            let claimed = self.populate(at).map(|word| self.claim_one_whole(at, word, order));
            if !matches!(claimed, Ok(true)) {
                self.release_blocks(block..at);
                given_up.note((at - block) << BLOCK_SHIFT);
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
        seen.is_whole_and_free()
            && seen.class() == Class::Uniform(order)
            // AcqRel [claim], [verify]: as in `make_serve`.
            && word.compare_exchange(seen.bits(), seen.taken_for(order).bits(), AcqRel, Relaxed).is_ok()
    }

    fn claim_one_whole(&self, block: u64, word: &AtomicU64, order: Order) -> bool {
        let mut seen = BlockUse::from_bits(word.load(Relaxed));
        loop {
            if seen.is_taken() || seen.is_partial() {
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

    /// Gives back the run of `order` that starts at `page`. The caller's use of it ends before the next owner's begins.
    pub(crate) fn release(&self, page: u64, order: Order) {
        let block = block_of(page);
        if order.is_whole_block() {
            self.release_blocks(block..block + (order.nr_pages() >> BLOCK_SHIFT));
        } else {
            self.release_span(page, order.nr_pages());
        }
    }

    /// Gives back pages of one block that goes by its bits.
    pub(crate) fn release_span(&self, page: u64, nr_pages: u64) {
        let block = block_of(page);
        let Some(bits) = self.bits.get_populated(block) else {
            unreachable!("page {page:#x} is released and was never claimed");
        };
        let released = bits.release_span(page & (PAGES_PER_BLOCK - 1), nr_pages);
        if released.was_full {
            self.hints.note_room(block, self.use_of(block).class());
        }
        // A block from which somebody takes at the moment is not offered to others.
        if released.is_free && bits.seem_free() && !self.use_of(block).is_reserved() {
            self.hints.note_free(block);
        }
    }

    /// Gives back pages of any blocks, whole ones by their use words.
    pub(crate) fn release_pages(&self, pages: Range<u64>) {
        let mut at = pages.start;
        while at < pages.end {
            let block = block_of(at);
            let end = pages.end.min((block + 1) << BLOCK_SHIFT);
            if self.use_of(block).is_taken() {
                self.release_blocks(block..block + 1);
            } else {
                self.release_span(at, end - at);
            }
            at = end;
        }
    }

    fn release_blocks(&self, blocks: Range<u64>) {
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
        }
    }

    /// Memory for all that [`Blocks::divide`] may need in the blocks of `pages`.
    pub(crate) fn populate_for_division(&self, pages: Range<u64>) -> Result<(), NoMemory> {
        for block in block_of(pages.start)..=block_of(pages.end - 1) {
            self.bits.populate(block)?;
            self.hints.populate_class(block, Class::Mixed)?;
        }
        Ok(())
    }

    /// Makes the blocks of a live folio those of its `parts`. For the owner of the folio.
    pub(crate) fn divide(&self, whole: Place, parts: impl Iterator<Item = Place>) {
        let mut last = None;
        for part in parts {
            let block = block_of(part.head.get());
            if part.order.is_whole_block() {
                for block in block..block + (part.order.nr_pages() >> BLOCK_SHIFT) {
                    self.change_own(block, |seen| seen.taken_for(part.order));
                }
            } else if last.replace(block) != Some(block) {
                if whole.order.is_whole_block() {
                    if let Some(bits) = self.bits.get_populated(block) {
                        bits.take_all();
                    }
                    self.change_own(block, BlockUse::divided);
                } else if let Some(word) = self.uses.get_populated(block) {
                    // It goes by its bits, which we have, and others may change it beside us; it cannot be refused.
                    self.make_serve(block, word, Purpose::All);
                }
            }
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

    /// Tells others that nobody takes from `block` any more, since it has no run of `order` left.
    pub(crate) fn leave(&self, block: u64) {
        if let Some(word) = self.uses.get_populated(block) {
            let seen = BlockUse::from_bits(word.load(Relaxed));
            if seen.is_reserved() {
                // Relaxed: a hint, which stays if somebody else changes the word.
                let _ = word.compare_exchange(seen.bits(), seen.reserved(false).bits(), Relaxed, Relaxed);
            }
        }
        self.note_state(block);
    }

    /// Brings the hints on a block that goes by its bits up to date.
    pub(crate) fn note_state(&self, block: u64) {
        let Some(bits) = self.bits.get_populated(block) else { return };
        if bits.seem_full() {
            self.hints.note_no_room(block, self.use_of(block).class(), || !bits.are_full());
        } else if bits.seem_free() {
            self.hints.note_free(block);
        }
    }

    /// Takes a block that was found among those of `class` out of them if it is no longer there, or is full.
    pub(crate) fn mend(&self, block: u64, class: Class) {
        if self.use_of(block).class() != class {
            self.hints.note_no_room(block, class, || self.use_of(block).class() == class);
        } else {
            self.note_state(block);
        }
    }

    /// Takes a block that was found among the free ones out of them if it is not free.
    pub(crate) fn mend_free(&self, block: u64) {
        if !self.seems_free(block) {
            self.hints.note_taken(block, || self.seems_free(block));
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

    /// Bytes of metadata: reserved and populated.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let hints = self.hints.bytes();
        (
            self.uses.reserved_bytes() + self.bits.reserved_bytes() + hints.0,
            self.uses.populated_bytes() + self.bits.populated_bytes() + hints.1,
        )
    }

    /// The use word of `block`, with all that hints on it need in memory.
    #[inline]
    fn populate(&self, block: u64) -> Result<&AtomicU64, NoMemory> {
        match self.uses.get_populated(block) {
            Some(word) => Ok(word),
            None => {
                // The use words last: once they are there, all is.
                self.hints.populate(block)?;
                self.uses.populate(block)
            }
        }
    }
}
