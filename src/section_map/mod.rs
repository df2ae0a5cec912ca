//! [`SectionMap`]: from an offset to its metadata. What is known about an offset, not who owns it; see `free_map`.
//!
//! Three arrays, all indexed by arithmetic: 16 bytes a page for folios below order 9, 16 bytes a block for larger ones,
//! and a word a block that says which of the two holds and which device the block belongs to. Readers only read them;
//! nothing here is written by an allocation but the folio's own record (and the block word, when a block changes its
//! class).
//!
//! Below: `sparse`, `page`. Above: `folio`, `space`. Edges: [publish], [class].

mod block_word;
mod generations;

pub(crate) use block_word::BlockWord;
use generations::Generations;

use core::ops::Range;

use crate::class::{Class, ClassChange};
use crate::geometry::{BLOCK_SHIFT, PAGES_PER_BLOCK, block_of};
use crate::page::{Page, State};
use crate::sparse::{Counts, Layout, NoMemory, ReserveError, SparseArray, Zeroed};
use crate::sync::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use crate::words::{DeviceWord, Offset, Order};

/// Bytes of page metadata that one populate covers with base pages: a section of 4,096 pages (16 MiB of 4 KiB pages).
const SECTION_BYTES: usize = 64 << 10;
/// The same with huge pages: a section of 131,072 pages (512 MiB of 4 KiB pages).
const HUGE_SECTION_BYTES: usize = 2 << 20;

// SAFETY: Two zero integers, without drop glue.
unsafe impl Zeroed for Page {
    fn absent() -> Page {
        Page::absent()
    }

    fn vanish(&self) {
        Page::vanish(self);
    }
}

/// Where a folio lies, and so where its metadata is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The folio's first page.
    pub(crate) head: Offset,
    /// Its order.
    pub(crate) order: Order,
}

impl Place {
    /// Of the folio of `order` that page `offset` is in.
    #[inline(always)]
    pub(crate) const fn around(offset: Offset, order: Order) -> Place {
        Place { head: Offset::from_low_bits(order.align_down(offset.get())), order }
    }
}

/// Metadata of every offset of a space.
pub(crate) struct SectionMap {
    pages: SparseArray<Page>,
    blocks: SparseArray<Page>,
    words: SparseArray<AtomicU64>,
    /// Of pages and of blocks, where they are given back.
    page_generations: Generations,
    block_generations: Generations,
}

impl SectionMap {
    pub(crate) fn new(nr_pages: u64, huge: bool) -> Result<SectionMap, ReserveError> {
        let nr_blocks = nr_pages >> BLOCK_SHIFT;
        let chunk_bytes = if huge { HUGE_SECTION_BYTES } else { SECTION_BYTES };
        Ok(SectionMap {
            pages: SparseArray::new(Layout { len: nr_pages, chunk_bytes, huge })?,
            blocks: SparseArray::new(Layout { len: nr_blocks, chunk_bytes: 4096, huge: false })?,
            words: SparseArray::new(Layout { len: nr_blocks, chunk_bytes: 4096, huge: false })?,
            page_generations: Generations::new(),
            block_generations: Generations::new(),
        })
    }

    /// The record of a folio below order 9 whose head is `offset`, live or not.
    #[inline(always)]
    pub(crate) fn small(&self, offset: Offset) -> Option<&Page> {
        self.pages.get(offset.get())
    }

    /// Starts to load the record of a folio whose head is `offset`.
    #[inline(always)]
    pub(crate) fn prefetch_small(&self, offset: Offset) {
        self.pages.prefetch(offset.get());
    }

    /// Starts to load the record of the folio at `place`.
    #[inline]
    pub(crate) fn prefetch(&self, place: Place) {
        if place.order.is_whole_block() {
            self.blocks.prefetch(block_of(place.head.get()));
        } else {
            self.prefetch_small(place.head);
        }
    }

    /// The record of the folio at `place`, live or not.
    #[inline(always)]
    pub(crate) fn at(&self, place: Place) -> Option<&Page> {
        if place.order.is_whole_block() { self.blocks.get(block_of(place.head.get())) } else { self.small(place.head) }
    }

    /// The folio that a leaf with these fields names, by the order in it: one load.
    #[inline]
    pub(crate) fn find_named(&self, leaf: DeviceWord) -> Option<(Place, &Page, State)> {
        let place = Place::around(leaf.offset, leaf.order);
        let page = self.at(place)?;
        let state = page.state();
        state.is_named_by(leaf).then_some((place, page, state))
    }

    /// The live folio that `offset`, head or tail, belongs to.
    ///
    /// Wait-free: a load of the block word, and one of a state word; in a block of mixed orders up to nine of these.
    pub(crate) fn find(&self, offset: Offset) -> Option<(Place, State)> {
        match self.block_word(offset)?.class() {
            Class::Unused => None,
            Class::Uniform(order) => {
                let place = Place::around(offset, order);
                let state = self.at(place)?.state();
                // Another order here means that the block has just changed its class, and our folio is gone.
                (state.is_live() && state.order() == order).then_some((place, state))
            }
            Class::Mixed => self.find_in_mixed(offset),
        }
    }

    /// Each head that a folio with `offset` in it could have lies where one more of the low bits is cleared.
    #[cold]
    fn find_in_mixed(&self, offset: Offset) -> Option<(Place, State)> {
        let block = offset.get() & !(PAGES_PER_BLOCK - 1);
        let mut within = offset.get() & (PAGES_PER_BLOCK - 1);
        loop {
            let head = Offset::from_low_bits(block | within);
            let state = self.small(head)?.state();
            if state.is_live() && state.order().align_down(offset.get()) == head.get() {
                return Some((Place { head, order: state.order() }, state));
            }
            if within == 0 {
                return None;
            }
            within &= within - 1;
        }
    }

    /// The word of the block that `offset` lies in.
    #[inline]
    pub(crate) fn block_word(&self, offset: Offset) -> Option<BlockWord> {
        // Acquire [class]: pairs with the Release in `publish`.
        let word = self.words.get(block_of(offset.get()))?.load(Acquire);
        Some(BlockWord::from_bits(word))
    }

    /// The first of `blocks` that has a word, i.e. the first that may have folios.
    pub(crate) fn next_known_block(&self, blocks: Range<u64>) -> Option<u64> {
        self.words.next_populated(blocks)
    }

    /// The record for a folio of `order` about to live at `head`, and the words of its blocks, backed by memory.
    pub(crate) fn populate(&self, place: Place) -> Result<&Page, NoMemory> {
        let first = block_of(place.head.get());
        for block in first..first + (place.order.nr_pages() >> BLOCK_SHIFT).max(1) {
            self.words.populate(block)?;
        }
        if place.order.is_whole_block() {
            self.blocks.populate_by(first, |chunk| self.block_generations.restore(chunk))
        } else {
            self.pages.populate_by(place.head.get(), |chunk| self.page_generations.restore(chunk))
        }
    }

    /// How many blocks have their pages' records populated together; at least 1.
    pub(crate) fn blocks_per_section(&self) -> u64 {
        (self.pages.elements_per_chunk() >> BLOCK_SHIFT).max(1)
    }

    /// Bytes of these records.
    pub(crate) fn bytes_per_section(&self) -> u64 {
        self.pages.elements_per_chunk() * size_of::<Page>() as u64
    }

    /// How many sections are populated.
    pub(crate) fn populated_sections(&self) -> u64 {
        self.pages.populated_bytes() / self.bytes_per_section()
    }

    /// Whether there are records of pages of `blocks`, a section's.
    pub(crate) fn has_section(&self, blocks: &Range<u64>) -> bool {
        self.pages.get_populated(blocks.start << BLOCK_SHIFT).is_some()
    }

    /// Gives the memory of the metadata of `blocks` back to the system, as far as it holds no others', and remembers the
    /// generations in it. For whoever holds all of `blocks`, so that nothing lives there. Returns the bytes.
    ///
    /// Lookups see the free records, or absent ones.
    pub(crate) fn give_back_sections(&self, blocks: Range<u64>) -> u64 {
        let pages = blocks.start << BLOCK_SHIFT..blocks.end << BLOCK_SHIFT;
        let sections = self.pages.chunks_within(pages);
        sections.map(|first| self.pages.give_back(first, |chunk| self.page_generations.keep(chunk))).sum()
    }

    /// The same of what there is for each block: the records of large folios, and the readers' words.
    pub(crate) fn give_back_blocks(&self, blocks: Range<u64>) -> u64 {
        let words: u64 =
            self.words.chunks_within(blocks.clone()).map(|first| self.words.give_back(first, |_| Some(0))).sum();
        let records = self.blocks.chunks_within(blocks);
        words
            + records.map(|first| self.blocks.give_back(first, |chunk| self.block_generations.keep(chunk))).sum::<u64>()
    }

    /// How often a chunk of metadata was populated, and given back.
    pub(crate) fn counts(&self) -> Counts {
        self.pages.counts() + self.blocks.counts() + self.words.counts()
    }

    /// Whether readers have been told of `change` in `block`, and so its records have memory. For a caller with a claim in the
    /// block.
    #[inline]
    pub(crate) fn is_published(&self, block: u64, device: u32, change: ClassChange) -> bool {
        // Acquire [class]: whoever published it had populated the records.
        self.words.get(block).is_some_and(|word| word.load(Acquire) == BlockWord::new(change, device).bits())
    }

    /// Makes the word of `block` say what the free map has made of it. For a caller with a claim in the block.
    ///
    /// `now` must read the free map when it is called. It is called after the word was read: so what it returns is at
    /// least as new as what the word says, and the exchange replaces nothing newer. A word cannot change and change
    /// back meanwhile, because the caller's claim keeps the block from emptying, and it counts its changes.
    pub(crate) fn publish(&self, block: u64, device: u32, now: impl Fn() -> ClassChange) {
        let Some(word) = self.words.get(block) else {
            unreachable!("block {block} was claimed, and its word never populated");
        };
        loop {
            // Acquire [class]: pairs with the Release below, so that `now` is at least as new.
            let seen = word.load(Acquire);
            let wanted = BlockWord::new(now(), device).bits();
            // Release [class]: see the load above; readers acquire it in `block_word`.
            // Relaxed on failure: the next round looks again.
            if seen == wanted || word.compare_exchange(seen, wanted, Release, Relaxed).is_ok() {
                return;
            }
        }
    }

    /// Bytes of metadata: reserved and populated.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (
            self.pages.reserved_bytes() + self.blocks.reserved_bytes() + self.words.reserved_bytes(),
            self.pages.populated_bytes()
                + self.blocks.populated_bytes()
                + self.words.populated_bytes()
                + self.page_generations.bytes()
                + self.block_generations.bytes(),
        )
    }

    /// Bytes of the populated ones that lie in memory; `None` where the system does not say.
    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        Some(self.pages.resident_bytes()? + self.blocks.resident_bytes()? + self.words.resident_bytes()?)
    }

    /// Bytes of page records that are populated.
    pub(crate) fn section_bytes(&self) -> u64 {
        self.pages.populated_bytes()
    }
}
