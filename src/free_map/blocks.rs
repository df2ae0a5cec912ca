//! [`Blocks`]: who owns the pages of each block, for the whole space. One claim or release in one block, or in a run
//! of whole blocks; where to look for one is `FreeMap`'s affair.
//!
//! | use word of a block          | its free bits                   | state                                          |
//! |------------------------------|---------------------------------|------------------------------------------------|
//! | 0 taken                      | 0                               | free                                           |
//! | n taken, class below order 9 | at least n bits set             | small folios; a bit more is a claim or release under way |
//! | 512 taken, class order 9..18 | as the last small folio left it | part of a large folio                          |
//!
//! A small claim takes bits first and is then counted in the use word; a release is taken off the use word first and
//! then clears its bits. So the use word never counts more than there are bits, "0 taken" means that no small folio
//! lives here, and a whole-block claim is one exchange from 0. A small claimer that meets a whole-block claim at the
//! use word clears its bits and goes elsewhere.
//!
//! Below: `block_use`, `bits`, `summary`. Edges: [claim], [verify].
#![forbid(unsafe_code)]

use super::bits::FreeBits;
use super::block_use::{BlockUse, Mixing};
use super::summary::Summary;
use crate::class::ClassChange;
use crate::geometry::{BLOCK_SHIFT, PAGES_PER_BLOCK, WORDS_PER_BLOCK, block_of};
use crate::sparse::{Layout, NoMemory, ReserveError, SparseArray};
use crate::sync::{
    AtomicU32,
    Ordering::{AcqRel, Acquire, Relaxed},
};
use crate::words::Order;

/// The free map's words for every block of a space.
pub(crate) struct Blocks {
    uses: SparseArray<AtomicU32>,
    bits: SparseArray<FreeBits>,
    /// Blocks without a free page.
    full: Summary,
    /// Blocks with a taken page.
    taken: Summary,
}

impl Blocks {
    pub(crate) fn new(nr_blocks: u64) -> Result<Blocks, ReserveError> {
        Ok(Blocks {
            uses: SparseArray::new(Layout { len: nr_blocks, chunk_bytes: 4096, huge: false })?,
            bits: SparseArray::new(Layout { len: nr_blocks, chunk_bytes: 4096, huge: false })?,
            full: Summary::new(nr_blocks)?,
            taken: Summary::new(nr_blocks)?,
        })
    }

    /// What is taken of `block` and which order it serves. A hint, unless the caller has a claim in the block.
    pub(crate) fn use_of(&self, block: u64) -> BlockUse {
        // Relaxed: nothing is reached through it. The class is read by claimers, whose own exchange on this word came
        // before.
        BlockUse::from_bits(self.uses.get_populated(block).map_or(0, |word| word.load(Relaxed)))
    }

    /// The class of a block in which the caller holds a claim, or a later one.
    pub(crate) fn change_of(&self, block: u64) -> ClassChange {
        self.use_of(block).change()
    }

    /// The first block of `from..end` that may have a free page.
    pub(crate) fn next_not_full(&self, from: u64, end: u64) -> Option<u64> {
        self.full.next_absent(from, end)
    }

    /// The first block of `from..end` that may have no taken page.
    pub(crate) fn next_empty(&self, from: u64, end: u64) -> Option<u64> {
        self.taken.next_absent(from, end)
    }

    /// Tries to take a run of `order` (below 9) in `block`.
    pub(crate) fn claim_in(&self, block: u64, order: Order, mixing: Mixing) -> Result<Option<u64>, NoMemory> {
        let word = self.populate(block)?;
        let mut seen = BlockUse::from_bits(word.load(Relaxed));
        if seen.with_run(order, mixing).is_none() {
            self.mend_hints(block, seen);
            return Ok(None);
        }
        let bits = self.bits.populate(block)?;
        let Some(start) = bits.claim(order) else { return Ok(None) };
        loop {
            let Some(next) = seen.with_run(order, mixing) else {
                bits.release(start, order);
                return Ok(None);
            };
            // Acquire [claim]: what the last holder of the whole block did before its `release` is behind us.
            // Release [verify]: a search that sees our claim sees what we released, and counted, before it.
            match word.compare_exchange_weak(seen.bits(), next.bits(), AcqRel, Relaxed) {
                Ok(_) => {
                    self.note_growth(block, seen, next);
                    return Ok(Some((block << BLOCK_SHIFT) + start));
                }
                Err(now) => seen = BlockUse::from_bits(now),
            }
        }
    }

    /// Tries to take the run of `order` (9 or more) that starts at `block`, all of it or nothing.
    ///
    /// Blocks are taken in ascending order: of two claimers whose runs overlap (one lies in the other), the one that
    /// gets the lowest shared block goes on and the other gives up what it has.
    pub(crate) fn claim_whole(&self, block: u64, order: Order) -> Result<Option<u64>, NoMemory> {
        let run = block..block + (order.nr_pages() >> BLOCK_SHIFT);
        // Look first, so that a claim is only tried, and perhaps undone, where it can succeed.
        for block in run.clone() {
            let seen = self.use_of(block);
            if !seen.is_empty() {
                self.mend_hints(block, seen);
                return Ok(None);
            }
        }
        for at in run.clone() {
            let claimed = self.populate(at).map(|word| self.claim_one_whole(at, word, order));
            if !matches!(claimed, Ok(true)) {
                for taken in block..at {
                    self.release_whole_block(taken);
                }
                return claimed.map(|_| None);
            }
        }
        Ok(Some(block << BLOCK_SHIFT))
    }

    fn claim_one_whole(&self, block: u64, word: &AtomicU32, order: Order) -> bool {
        let mut seen = BlockUse::from_bits(word.load(Relaxed));
        loop {
            let Some(next) = seen.with_whole(order) else { return false };
            // AcqRel [claim], [verify]: as in `claim_in`, and what every small folio's last holder did.
            match word.compare_exchange_weak(seen.bits(), next.bits(), AcqRel, Relaxed) {
                Ok(_) => {
                    self.note_growth(block, seen, next);
                    return true;
                }
                Err(now) => seen = BlockUse::from_bits(now),
            }
        }
    }

    /// Gives back the run of `order` that starts at `page`. The caller's use of it ends before the next owner's begins.
    pub(crate) fn release(&self, page: u64, order: Order) {
        let block = block_of(page);
        if order.is_whole_block() {
            for block in block..block + (order.nr_pages() >> BLOCK_SHIFT) {
                self.release_whole_block(block);
            }
            return;
        }
        let old = self.take_off(block, order.nr_pages());
        if let Some(bits) = self.bits.get_populated(block) {
            bits.release(page & (PAGES_PER_BLOCK - 1), order);
        }
        self.note_shrinkage(block, old, order.nr_pages());
    }

    fn release_whole_block(&self, block: u64) {
        let old = self.take_off(block, PAGES_PER_BLOCK);
        self.note_shrinkage(block, old, PAGES_PER_BLOCK);
    }

    fn take_off(&self, block: u64, nr_pages: u64) -> BlockUse {
        let Some(word) = self.uses.get_populated(block) else {
            unreachable!("block {block} is released and was never claimed");
        };
        // Release [claim]: our use of the run ends before a whole-block owner's begins.
        // Acquire [verify]: pairs with the Release of `look_closely`.
        let old = BlockUse::from_bits(word.fetch_sub(nr_pages as u32, AcqRel));
        debug_assert!(old.taken() >= nr_pages, "{nr_pages} pages released of a block with {old:?}");
        old
    }

    /// The use word of `block`, read so that whoever frees a page of it after we have seen it taken sees what we did
    /// before ([verify]); and its free bits, if the word says that there are any.
    pub(crate) fn look_closely(&self, block: u64) -> (BlockUse, Option<[u64; WORDS_PER_BLOCK]>) {
        let Some(word) = self.uses.get_populated(block) else {
            return (BlockUse::from_bits(0), None);
        };
        // Release [verify]: a read-modify-write takes its place in the word's order of changes, and hands the searcher's
        // announcement to every later `take_off`. Acquire [verify]: with a claim that it sees, it sees the releases that
        // the claimer counted before; and the bits are read after it.
        let seen = BlockUse::from_bits(word.fetch_add(0, AcqRel));
        let bits = if seen.free() == 0 { None } else { self.bits.get_populated(block).map(FreeBits::snapshot) };
        (seen, bits)
    }

    /// The free bits of `block`, all free if it was never used. Exact when nobody works on the block.
    pub(crate) fn snapshot(&self, block: u64) -> [u64; WORDS_PER_BLOCK] {
        self.bits.get_populated(block).map_or([0; WORDS_PER_BLOCK], FreeBits::snapshot)
    }

    /// Marks the pages of `block` from `exist` on as taken for good. For a device's last block, before the device is
    /// known to anybody else.
    pub(crate) fn end_block_after(&self, block: u64, exist: u64) -> Result<(), NoMemory> {
        let bits = self.bits.populate(block)?;
        let word = self.populate(block)?;
        bits.end_after(exist);
        // Acquire [claim]: the last device here is gone; what it did to the block comes before.
        let ended = BlockUse::from_bits(word.load(Acquire)).ending_after(exist);
        word.store(ended.bits(), Relaxed);
        self.taken.insert(block);
        Ok(())
    }

    /// Undoes [`Blocks::end_block_after`], when the device is gone.
    pub(crate) fn unend_block(&self, block: u64, exist: u64) {
        if let Some(bits) = self.bits.get_populated(block) {
            bits.end_after(PAGES_PER_BLOCK);
        }
        let missing = PAGES_PER_BLOCK - exist;
        let old = self.take_off(block, missing);
        self.note_shrinkage(block, old, missing);
    }

    /// Bytes of metadata: reserved and populated.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let (full, taken) = (self.full.bytes(), self.taken.bytes());
        (
            self.uses.reserved_bytes() + self.bits.reserved_bytes() + full.0 + taken.0,
            self.uses.populated_bytes() + self.bits.populated_bytes() + full.1 + taken.1,
        )
    }

    /// The use word of `block`, with all that counting it needs in memory.
    #[inline]
    fn populate(&self, block: u64) -> Result<&AtomicU32, NoMemory> {
        match self.uses.get_populated(block) {
            Some(word) => Ok(word),
            None => {
                // The use words last: once they are there, all is.
                self.full.populate(block)?;
                self.taken.populate(block)?;
                self.uses.populate(block)
            }
        }
    }

    fn note_growth(&self, block: u64, old: BlockUse, new: BlockUse) {
        // A release may come between the claim and the hint, and then the block would be hidden: so look once more.
        if old.is_empty() && self.taken.insert(block) && self.exact_use(block).is_empty() {
            self.taken.remove(block);
        }
        if new.free() == 0 && self.full.insert(block) && self.exact_use(block).free() != 0 {
            self.full.remove(block);
        }
    }

    fn note_shrinkage(&self, block: u64, old: BlockUse, nr_pages: u64) {
        if old.free() == 0 {
            self.full.remove(block);
        }
        if old.taken() == nr_pages {
            self.taken.remove(block);
        }
    }

    /// Puts a block into the sets that its use says it is in, after a search was misled.
    fn mend_hints(&self, block: u64, seen: BlockUse) {
        self.note_growth(block, BlockUse::from_bits(0), seen);
    }

    fn exact_use(&self, block: u64) -> BlockUse {
        // A read-modify-write, so that it comes before or after a racing release, which then sees or mends the hint.
        BlockUse::from_bits(self.uses.get_populated(block).map_or(0, |word| word.fetch_add(0, AcqRel)))
    }
}
