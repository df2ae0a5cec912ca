//! The sizes that everything else is built from, and the proof that they fit together.
//!
//! Under loom every size is tiny, and only here: a model that needs 512 pages to fill a block would never end.
#![forbid(unsafe_code)]

/// Whether this build is one of this repository's own loom models. A bare `cfg!(loom)` would also shrink us inside
/// an embedder's loom run.
pub(crate) const MODEL: bool = cfg!(all(loom, feature = "loom"));

/// Bits of an offset: 2^40 pages of 4 KiB are 4 PiB.
pub(crate) const OFFSET_BITS: u32 = 40;

/// log2 of the pages that one word of the free map covers.
pub(crate) const WORD_SHIFT: u32 = if MODEL { 1 } else { 6 };
/// Pages that one word of the free map covers.
pub(crate) const PAGES_PER_WORD: u64 = 1 << WORD_SHIFT;

/// All pages of a word.
pub(crate) const FULL_WORD: u64 = u64::MAX >> (64 - PAGES_PER_WORD);

/// log2 of the pages of a block, the unit that serves one order at a time: 2 MiB of 4 KiB pages.
pub(crate) const BLOCK_SHIFT: u32 = if MODEL { 2 } else { 9 };
/// Pages of a block.
pub(crate) const PAGES_PER_BLOCK: u64 = 1 << BLOCK_SHIFT;
/// Words of free bits of a block: one cache line.
pub(crate) const WORDS_PER_BLOCK: usize = 1 << (BLOCK_SHIFT - WORD_SHIFT);

/// The largest order of a folio: 1 GiB of 4 KiB pages.
pub(crate) const MAX_ORDER: u8 = if MODEL { 3 } else { 18 };

/// The most pages that a space can have.
pub(crate) const MAX_PAGES_LIMIT: u64 = 1 << OFFSET_BITS;

/// The most references that a folio can have: 2^19 - 1.
pub(crate) const MAX_REFS: u32 = if MODEL { 7 } else { (1 << 19) - 1 };

const _: () = assert!(BLOCK_SHIFT > WORD_SHIFT, "a block is more than one word of free bits");
const _: () = assert!(MAX_ORDER as u32 > BLOCK_SHIFT, "the largest folio is more than one block");
const _: () = assert!(MAX_ORDER < 32, "an order fits its five bits");
const _: () = assert!(MODEL || WORDS_PER_BLOCK * 8 == 64, "the free bits of a block are one cache line");
const _: () = assert!(PAGES_PER_BLOCK < 1 << 10, "a block's use count fits its ten bits");

/// The number of the block that `page` lies in.
#[inline]
pub(crate) const fn block_of(page: u64) -> u64 {
    page >> BLOCK_SHIFT
}

/// How many blocks hold `nr_pages` pages.
pub(crate) const fn blocks_for(nr_pages: u64) -> u64 {
    nr_pages.div_ceil(PAGES_PER_BLOCK)
}
