//! [`Census`]: each page of a device seen once.
//!
//! Reads what the free map says, never the records of pages: a use word for each block, the line of free bits where the
//! block goes by them, and what caches keep.
#![forbid(unsafe_code)]

use super::FreeRuns;
use crate::device::Entry;
use crate::geometry::{FULL_WORD, PAGES_PER_BLOCK, PAGES_PER_WORD, WORD_SHIFT, WORDS_PER_BLOCK};
use crate::space::Space;

/// What was seen of the pages of a device. All of it comes from one look at each, so that it adds up whatever others do.
#[derive(Default)]
pub(super) struct Census {
    pub(super) free_pages: u64,
    /// Those of them that caches keep.
    pub(super) cached_pages: u64,
    pub(super) free_runs: FreeRuns,
    pub(super) longest_free_run: u64,
}

impl Census {
    /// Looks at each page of `entry`. Good if the device is still registered when this has returned.
    pub(super) fn of(space: &Space, entry: &Entry) -> Census {
        let mut census = Census::default();
        // Before the bits. A page that is seen here and is taken by its bits then was free at this moment, whatever became
        // of it; the other way round, one that goes from a cache to the map between the looks would be seen in neither.
        let mut kept = Kept::of(entry);
        let blocks = entry.map().blocks();
        let (mut empty_from, mut length) = (blocks.start, Length::default());
        for block in blocks.clone() {
            let seen = space.blocks().use_of(block);
            let mut words = [if seen.is_taken() { FULL_WORD } else { 0 }; WORDS_PER_BLOCK];
            if seen.goes_by_bits() {
                words = space.blocks().bits_of(block);
                census.cached_pages += kept.free_in(block, &mut words);
            }
            take_missing(&mut words, entry.map().pages_in(block));
            if words == [0; WORDS_PER_BLOCK] {
                census.free_pages += PAGES_PER_BLOCK;
                length.grow(PAGES_PER_BLOCK);
                continue;
            }
            census.free_runs.add_blocks(empty_from, block);
            empty_from = block + 1;
            if words == [FULL_WORD; WORDS_PER_BLOCK] {
                length.end();
                continue;
            }
            census.free_runs.add_words(&words);
            for word in words {
                census.free_pages += u64::from((!word & FULL_WORD).count_ones());
                length.follow(word);
            }
        }
        census.free_runs.add_blocks(empty_from, blocks.end);
        length.end();
        census.longest_free_run = length.longest;
        census
    }
}

/// Marks the pages from `exist` on as taken: they do not exist. The bits say so too, but not while a device goes.
fn take_missing(words: &mut [u64; WORDS_PER_BLOCK], exist: u64) {
    if exist < PAGES_PER_BLOCK {
        for (at, word) in words.iter_mut().enumerate() {
            let here = exist.saturating_sub((at as u64) << WORD_SHIFT).min(PAGES_PER_WORD);
            if here < PAGES_PER_WORD {
                *word |= FULL_WORD & (u64::MAX << here);
            }
        }
    }
}

/// The pages that caches keep: they are taken in the free map, and come back when they are wanted.
struct Kept {
    /// By the number of the word that they lie in, ascending; a word may be there several times.
    words: Vec<(u64, u64)>,
    /// Those before have been passed.
    at: usize,
}

impl Kept {
    fn of(entry: &Entry) -> Kept {
        let mut words = Vec::new();
        for (first, order) in entry.seats().iter().flat_map(|seat| seat.stash().runs()) {
            let nr_pages = order.nr_pages().min(PAGES_PER_WORD);
            let mask = FULL_WORD >> (PAGES_PER_WORD - nr_pages) << (first % PAGES_PER_WORD);
            let from = first >> WORD_SHIFT;
            words.extend((from..from + order.nr_pages().div_ceil(PAGES_PER_WORD)).map(|word| (word, mask)));
        }
        words.sort_unstable();
        Kept { words, at: 0 }
    }

    /// Clears the bits of `block`, the next in ascending order, that are set for kept pages; how many.
    fn free_in(&mut self, block: u64, words: &mut [u64; WORDS_PER_BLOCK]) -> u64 {
        let first = block * WORDS_PER_BLOCK as u64;
        let mut freed = 0;
        while let Some(&(at, mask)) = self.words.get(self.at).filter(|kept| kept.0 < first + WORDS_PER_BLOCK as u64) {
            self.at += 1;
            // Below `first` are those of blocks that no longer go by their bits.
            if let Some(word) = at.checked_sub(first).and_then(|at| words.get_mut(at as usize)) {
                // A page that went from one cache to another may be there twice, and is cleared once.
                freed += u64::from((*word & mask).count_ones());
                *word &= !mask;
            }
        }
        freed
    }
}

/// The run of free pages that is being followed, and the longest so far.
#[derive(Default)]
struct Length {
    run: u64,
    longest: u64,
}

impl Length {
    fn grow(&mut self, nr_pages: u64) {
        self.run += nr_pages;
    }

    fn end(&mut self) {
        self.longest = self.longest.max(self.run);
        self.run = 0;
    }

    /// The pages of a word, of which those are taken that have a bit.
    fn follow(&mut self, word: u64) {
        let mut bit = 0;
        while bit < PAGES_PER_WORD {
            let rest = word >> bit;
            let free = u64::from(rest.trailing_zeros()).min(PAGES_PER_WORD - bit);
            self.grow(free);
            bit += free;
            if bit < PAGES_PER_WORD {
                self.end();
                bit += u64::from((word >> bit).trailing_ones());
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_followed_across_words() {
        let longest = |words: &[u64]| {
            let mut length = Length::default();
            words.iter().for_each(|&word| length.follow(word));
            length.end();
            length.longest
        };
        assert_eq!(longest(&[]), 0);
        assert_eq!(longest(&[u64::MAX, u64::MAX]), 0);
        assert_eq!(longest(&[0, 0, 0]), 192);
        assert_eq!(longest(&[1, 1 << 63]), 63 + 63);
        assert_eq!(longest(&[1 << 63, 0, 1]), 64);
        assert_eq!(longest(&[1 << 10, 1 << 20]), 53 + 20);
        assert_eq!(longest(&[!(0b111 << 30), u64::MAX]), 3);
    }

    #[test]
    fn pages_that_do_not_exist_are_taken() {
        for exist in 1..=PAGES_PER_BLOCK {
            let mut words = [0; WORDS_PER_BLOCK];
            take_missing(&mut words, exist);
            let taken: u64 = words.iter().map(|word| u64::from(word.count_ones())).sum();
            assert_eq!(taken, PAGES_PER_BLOCK - exist);
            assert_eq!(words[0] & 1, 0);
        }
    }
}
