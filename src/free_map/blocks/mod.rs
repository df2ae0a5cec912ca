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
//! Below: `block_use`, `bits`, `hints`. Edges: [claim], [seal], [verify], [close].
#![forbid(unsafe_code)]

mod closing;
mod memory;
mod purpose;
mod whole;

use core::ops::Range;

use super::bits::{FreeBits, GivenUp, Released};
use super::block_use::{BlockUse, Mixing};
use super::hints::Hints;
use super::vacancy::Vacancies;
use crate::class::{Class, ClassChange};
use crate::geometry::{BLOCK_SHIFT, MODEL, PAGES_PER_BLOCK, WORDS_PER_BLOCK, block_of};
use crate::sparse::{Layout, NoMemory, ReserveError, SparseArray};
use crate::sync::{
    AtomicU64,
    Ordering::{Acquire, Relaxed},
};
use crate::words::Order;
use closing::Closing;
pub(crate) use closing::blocks_of;
use purpose::Purpose;

/// The free map's words for every block of a space.
pub(crate) struct Blocks {
    uses: SparseArray<AtomicU64>,
    bits: SparseArray<FreeBits>,
    hints: Hints,
    vacancies: Vacancies,
    closing: Closing,
}

impl Blocks {
    /// `blocks_per_group`: how many empty together before anybody is told; a power of two.
    pub(crate) fn new(nr_blocks: u64, blocks_per_group: u64) -> Result<Blocks, ReserveError> {
        Ok(Blocks {
            uses: SparseArray::new(Layout { len: nr_blocks, chunk_bytes: 4096, huge: false })?,
            bits: SparseArray::new(Layout { len: nr_blocks, chunk_bytes: 4096, huge: false })?,
            hints: Hints::new(nr_blocks)?,
            vacancies: Vacancies::new(nr_blocks, blocks_per_group)?,
            closing: Closing::new(nr_blocks)?,
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

    /// Whether no page of `block` is taken, and it is open, as far as a glance shows.
    pub(crate) fn seems_free(&self, block: u64) -> bool {
        let seen = self.use_of(block);
        seen.is_whole_and_free()
            || seen.goes_by_bits()
                && !seen.is_closed()
                && self.bits.get_populated(block).is_none_or(FreeBits::seem_free)
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
        // [populate]: the bits may have been given back to the system since they were looked for. Whoever does that has all
        // of them before, so that we then took ours from zeroes, and find now that they are not populated.
        if let Err(error) = self.bits.populate(block) {
            give_back(bits, taken);
            return Err(error);
        }
        // A block that nobody has sealed since serves the purpose still; any other does again, or we give up.
        if self.make_serve(block, word, purpose) {
            return Ok(Some(taken));
        }
        give_back(bits, taken);
        Ok(None)
    }

    /// Gives back the run of `order` that starts at `page`. The caller's use of it ends before the next owner's begins. If that
    /// has emptied a group of blocks, how many groups have, lately; otherwise 0.
    #[inline]
    pub(crate) fn release(&self, page: u64, order: Order) -> u64 {
        let block = block_of(page);
        if order.is_whole_block() {
            self.release_blocks(block..block + (order.nr_pages() >> BLOCK_SHIFT))
        } else {
            self.release_span(page, order.nr_pages())
        }
    }

    /// Gives back pages of one block that goes by its bits, as [`Blocks::release`].
    #[inline]
    pub(crate) fn release_span(&self, page: u64, nr_pages: u64) -> u64 {
        let block = block_of(page);
        let Some(bits) = self.bits.get_populated(block) else {
            unreachable!("page {page:#x} is released and was never claimed");
        };
        let released = bits.release_span(page & (PAGES_PER_BLOCK - 1), nr_pages);
        let told = released.was_full || released.is_free;
        if told { self.note_release(block, bits, released) } else { 0 }
    }

    /// Tells others of a word that was full, or is free now.
    #[cold]
    fn note_release(&self, block: u64, bits: &FreeBits, released: Released) -> u64 {
        if released.was_full {
            self.hints.note_room(block, self.use_of(block).class());
        }
        if !released.is_free || !bits.seem_free() {
            return 0;
        }
        // A block from which somebody takes at the moment is not offered to others.
        if !self.use_of(block).is_reserved() {
            self.hints.note_free(block);
        }
        self.note_vacancy(block)
    }

    /// `block` has emptied, and perhaps its group has.
    #[inline]
    pub(super) fn note_vacancy(&self, block: u64) -> u64 {
        // When memory is given back, and of what first, is no part of any protocol: models would only take longer.
        if MODEL { 0 } else { self.vacancies.note(block, |mut group| group.all(|block| self.seems_free(block))) }
    }

    /// Starts to load the words of the block that `page` lies in.
    #[inline]
    pub(crate) fn prefetch(&self, page: u64) {
        self.uses.prefetch(block_of(page));
        self.bits.prefetch(block_of(page));
    }

    /// Gives back pages of any blocks, whole ones by their use words. As [`Blocks::release`], without the room.
    pub(crate) fn release_pages(&self, pages: Range<u64>) -> u64 {
        let (mut at, mut vacancies) = (pages.start, 0);
        while at < pages.end {
            let block = block_of(at);
            let end = pages.end.min((block + 1) << BLOCK_SHIFT);
            vacancies = vacancies.max(if self.use_of(block).is_taken() {
                self.release_blocks(block..block + 1)
            } else {
                self.release_span(at, end - at)
            });
            at = end;
        }
        vacancies
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
        let is_offered = |seen: BlockUse| seen.class() == class && !seen.is_closed();
        if !is_offered(self.use_of(block)) {
            self.hints.note_no_room(block, class, || is_offered(self.use_of(block)));
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

    /// Bytes of metadata: reserved and populated.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let sets = [self.hints.bytes(), self.vacancies.bytes(), self.closing.bytes()];
        let words = (
            self.uses.reserved_bytes() + self.bits.reserved_bytes(),
            self.uses.populated_bytes() + self.bits.populated_bytes(),
        );
        sets.iter().fold(words, |sum, set| (sum.0 + set.0, sum.1 + set.1))
    }

    /// Bytes of the populated ones that lie in memory; `None` where the system does not say.
    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        let sets = self.hints.resident_bytes()? + self.vacancies.resident_bytes()? + self.closing.resident_bytes()?;
        Some(self.uses.resident_bytes()? + self.bits.resident_bytes()? + sets)
    }
}
