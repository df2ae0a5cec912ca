//! [`FreeBits`]: one bit a page of a block; 0 is free. One cache line.
//!
//! Which order the block serves and whether a large run holds it is not known here; see `block_use`.
//! Edges: [claim].
#![forbid(unsafe_code)]

use crate::geometry::{PAGES_PER_BLOCK, PAGES_PER_WORD, WORD_SHIFT, WORDS_PER_BLOCK};
use crate::sync::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use crate::words::Order;

/// All pages of a word taken.
pub(crate) const FULL_WORD: u64 = u64::MAX >> (64 - PAGES_PER_WORD);

/// The free bits of a block.
#[repr(C, align(64))]
pub(crate) struct FreeBits {
    words: [AtomicU64; WORDS_PER_BLOCK],
}

/// Bits, within a word, at which a naturally aligned run of each order up to a word's can start.
const fn run_starts(order: u32) -> u64 {
    let (mut starts, mut bit) = (0u64, 0);
    while bit < PAGES_PER_WORD {
        starts |= 1 << bit;
        bit += 1 << order;
    }
    starts
}

/// The first free, naturally aligned run of `order` (at most a word's) in `word`.
fn free_run(word: u64, order: u32) -> Option<u32> {
    let mut free = !word & FULL_WORD;
    // After step i, a set bit says that the 2^(i+1) pages from it on are free.
    let mut i = 0;
    while i < order {
        free &= free >> (1 << i);
        i += 1;
    }
    free &= run_starts(order);
    (free != 0).then(|| free.trailing_zeros())
}

impl FreeBits {
    #[allow(dead_code, reason = "see `Zeroed::absent`")]
    pub(crate) fn absent() -> FreeBits {
        FreeBits { words: core::array::from_fn(|_| AtomicU64::new(0)) }
    }

    /// Takes a free run of `order` (below 9), naturally aligned, and says at which page of the block it starts.
    ///
    /// Lock-free. `None` means that no such run was seen; another look may see one that was freed meanwhile.
    pub(crate) fn claim(&self, order: Order) -> Option<u64> {
        let order = u32::from(order.get());
        let nr_words = 1 << order.saturating_sub(WORD_SHIFT);
        let mut starts = (0..WORDS_PER_BLOCK).step_by(nr_words);
        if nr_words == 1 {
            starts.find_map(|at| self.claim_in_word(at, order))
        } else {
            starts.find_map(|at| self.claim_words(at, nr_words))
        }
    }

    fn claim_in_word(&self, at: usize, order: u32) -> Option<u64> {
        let word = &self.words[at];
        // Relaxed: a guess that the exchange checks.
        let mut seen = word.load(Relaxed);
        loop {
            let bit = free_run(seen, order)?;
            let run = run_mask(order) << bit;
            // Acquire [claim]: what the run's last owner did before its `release` is behind us.
            match word.compare_exchange_weak(seen, seen | run, Acquire, Relaxed) {
                Ok(_) => return Some(((at as u64) << WORD_SHIFT) + u64::from(bit)),
                Err(now) => seen = now,
            }
        }
    }

    /// Takes `nr_words` whole words from `at` on, in ascending order, or none of them.
    ///
    /// Of two claimers of overlapping runs, the one that gets the lowest shared word goes on and the other gives up
    /// what it has, so one of them always advances.
    fn claim_words(&self, at: usize, nr_words: usize) -> Option<u64> {
        let words = &self.words[at..at + nr_words];
        // Look first, so that a claim is only tried, and perhaps undone, where it can succeed.
        if words.iter().any(|word| word.load(Relaxed) != 0) {
            return None;
        }
        for (i, word) in words.iter().enumerate() {
            // Acquire [claim]: as in `claim_in_word`.
            if word.compare_exchange(0, FULL_WORD, Acquire, Relaxed).is_err() {
                for taken in &words[..i] {
                    // Release [claim]: as in `clear`, though we have used nothing. Nobody else clears a bit that we set.
                    taken.fetch_and(!FULL_WORD, Release);
                }
                return None;
            }
        }
        Some((at as u64) << WORD_SHIFT)
    }

    /// Frees the run of `order` (below 9) that starts at `page` of the block.
    pub(crate) fn release(&self, page: u64, order: Order) {
        let order = u32::from(order.get());
        let at = (page >> WORD_SHIFT) as usize;
        if order <= WORD_SHIFT {
            self.clear(at, run_mask(order) << (page & (PAGES_PER_WORD - 1)));
        } else {
            for i in 0..1 << (order - WORD_SHIFT) {
                self.clear(at + i, FULL_WORD);
            }
        }
    }

    fn clear(&self, at: usize, run: u64) {
        // Release [claim]: our use of the run ends before the next owner's begins.
        let old = self.words[at].fetch_and(!run, Release);
        debug_assert_eq!(old & run, run, "a free page was released");
    }

    /// Takes the pages from `exist` on for good: they do not exist. Only while nobody else knows the block.
    pub(crate) fn end_after(&self, exist: u64) {
        for (at, word) in self.words.iter().enumerate() {
            let first = (at as u64) << WORD_SHIFT;
            let here = exist.saturating_sub(first).min(PAGES_PER_WORD);
            let missing = if here == PAGES_PER_WORD { 0 } else { FULL_WORD & !((1 << here) - 1) };
            // Relaxed: the device's registration publishes it.
            word.store(missing, Relaxed);
        }
    }

    /// The words, for counting and printing.
    pub(crate) fn snapshot(&self) -> [u64; WORDS_PER_BLOCK] {
        core::array::from_fn(|at| self.words[at].load(Relaxed))
    }
}

/// A run of `order` pages (at most a word's), at the bottom of a word.
fn run_mask(order: u32) -> u64 {
    FULL_WORD >> (PAGES_PER_WORD - (1 << order))
}

/// How many pages are free in a block with these words.
pub(crate) fn free_pages(words: &[u64; WORDS_PER_BLOCK]) -> u64 {
    PAGES_PER_BLOCK - words.iter().map(|word| u64::from(word.count_ones())).sum::<u64>()
}

/// The largest order below 9 of which a free, naturally aligned run lies in a block with these words.
pub(crate) fn largest_free_order(words: &[u64; WORDS_PER_BLOCK]) -> Option<Order> {
    (0..Order::HUGE.get()).rev().find_map(|order| {
        let found = if u32::from(order) <= WORD_SHIFT {
            words.iter().any(|&word| free_run(word, u32::from(order)).is_some())
        } else {
            words.chunks(1 << (u32::from(order) - WORD_SHIFT)).any(|run| run.iter().all(|&word| word == 0))
        };
        found.then(|| Order::new(order)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim_all(bits: &FreeBits, order: Order) -> Vec<u64> {
        std::iter::from_fn(|| bits.claim(order)).collect()
    }

    #[test]
    fn each_order_fills_a_block_with_aligned_runs_and_frees_it() {
        for order in 0..Order::HUGE.get() {
            let order = Order::new(order).unwrap();
            let bits = FreeBits::absent();
            let mut starts: Vec<u64> = claim_all(&bits, order);
            assert_eq!(starts.len() as u64, PAGES_PER_BLOCK >> order.get());
            assert!(starts.iter().all(|&start| order.align_down(start) == start));
            starts.dedup();
            assert_eq!(starts.len() as u64, PAGES_PER_BLOCK >> order.get(), "each once");
            assert_eq!(free_pages(&bits.snapshot()), 0);
            assert_eq!(largest_free_order(&bits.snapshot()), None);
            bits.release(starts[1], order);
            assert_eq!(free_pages(&bits.snapshot()), order.nr_pages());
            assert_eq!(largest_free_order(&bits.snapshot()), Some(order));
            assert_eq!(bits.claim(order), Some(starts[1]));
            for &start in &starts {
                bits.release(start, order);
            }
            assert_eq!(bits.snapshot(), [0; WORDS_PER_BLOCK]);
        }
    }

    #[test]
    fn a_run_is_found_between_others_only_where_it_is_aligned() {
        let free_at = |pages: &[u64]| pages.iter().fold(FULL_WORD, |word, &page| word & !(1 << page));
        assert_eq!(free_run(free_at(&[1, 2, 3]), 1), Some(2));
        assert_eq!(free_run(free_at(&[1, 2]), 1), None);
        assert_eq!(free_run(free_at(&[1, 2]), 0), Some(1));
        assert_eq!(free_run(0, WORD_SHIFT), Some(0));
        assert_eq!(free_run(1, WORD_SHIFT), None);
        assert_eq!(free_run(FULL_WORD, 0), None);
    }

    #[test]
    fn pages_beyond_the_end_are_never_given_out() {
        for exist in [1, 63, 64, 65, 511] {
            let bits = FreeBits::absent();
            bits.end_after(exist);
            let pages = claim_all(&bits, Order::ZERO);
            assert_eq!(pages, (0..exist).collect::<Vec<_>>());
        }
    }
}
