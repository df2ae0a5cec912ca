//! [`FreeBits`]: one bit a page of a block; 0 is free. One cache line.
//!
//! Which order the block serves and whether a large run holds it is not known here; see `block_use`.
//! Edges: [claim], [seal], [verify].
#![forbid(unsafe_code)]

use core::cell::Cell;

use crate::geometry::{FULL_WORD, MODEL, PAGES_PER_BLOCK, PAGES_PER_WORD, WORD_SHIFT, WORDS_PER_BLOCK};
use crate::sync::{
    AtomicU64, Backoff,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use crate::words::Order;

/// How many pages one operation has taken and given up again. A search that saw them taken must be told.
#[derive(Default)]
pub(crate) struct GivenUp(Cell<u64>);

impl GivenUp {
    pub(crate) fn note(&self, nr_pages: u64) {
        self.0.set(self.0.get() + nr_pages);
    }

    pub(super) fn pages(&self) -> u64 {
        self.0.get()
    }
}

/// The free bits of a block.
#[repr(C, align(64))]
pub(crate) struct FreeBits {
    words: [AtomicU64; WORDS_PER_BLOCK],
}

/// For each order up to a word's, the bits at which a naturally aligned run can start.
const RUN_STARTS: [u64; WORD_SHIFT as usize + 1] = {
    let (mut starts, mut order) = ([0; WORD_SHIFT as usize + 1], 0);
    while order <= WORD_SHIFT {
        let mut bit = 0;
        while bit < PAGES_PER_WORD {
            starts[order as usize] |= 1 << bit;
            bit += 1 << order;
        }
        order += 1;
    }
    starts
};

/// Where free, naturally aligned runs of `order` (at most a word's) start in `word`.
#[inline]
fn free_runs(word: u64, order: u32) -> u64 {
    let mut free = !word & FULL_WORD;
    // After step i, a set bit says that the 2^(i+1) pages from it on are free.
    let mut i = 0;
    while i < order {
        free &= free >> (1 << i);
        i += 1;
    }
    free & RUN_STARTS[order as usize]
}

/// The lowest `most` of the bits that are set.
#[inline]
fn lowest(bits: u64, most: u64) -> u64 {
    if u64::from(bits.count_ones()) <= most {
        return bits;
    }
    let mut rest = bits;
    for _ in 0..most {
        rest &= rest - 1;
    }
    bits ^ rest
}

impl FreeBits {
    #[allow(dead_code, reason = "see `Zeroed::absent`")]
    pub(crate) fn absent() -> FreeBits {
        FreeBits { words: core::array::from_fn(|_| AtomicU64::new(0)) }
    }

    /// Takes a free run of `order` (below 9), naturally aligned, and says at which page of the block it starts.
    ///
    /// Lock-free. `None` means that no such run was seen; another look may see one that was freed meanwhile.
    pub(crate) fn claim(&self, order: Order, given_up: &GivenUp) -> Option<u64> {
        let nr_words = 1 << u32::from(order.get()).saturating_sub(WORD_SHIFT);
        let mut starts = (0..WORDS_PER_BLOCK).step_by(nr_words);
        if nr_words > 1 {
            return starts.find_map(|at| {
                let start = (at as u64) << WORD_SHIFT;
                // Look first, so that a claim is only tried, and perhaps undone, where it can succeed.
                let is_free = self.words[at..at + nr_words].iter().all(|word| word.load(Relaxed) == 0);
                (is_free && self.claim_span(start, order.nr_pages(), given_up)).then_some(start)
            });
        }
        starts.find_map(|at| {
            let (start, runs) = self.claim_runs_in_word(at, order, 1)?;
            Some(start + u64::from(runs.trailing_zeros()))
        })
    }

    /// Takes up to `most` free runs of `order` (at most a word's) in one word, all by one exchange: the word's first
    /// page, and a bit for each page that was taken.
    pub(crate) fn claim_runs(&self, order: Order, most: u64) -> Option<(u64, u64)> {
        (0..WORDS_PER_BLOCK).find_map(|at| self.claim_runs_in_word(at, order, most))
    }

    #[inline]
    fn claim_runs_in_word(&self, at: usize, order: Order, most: u64) -> Option<(u64, u64)> {
        let (word, order) = (&self.words[at], u32::from(order.get()));
        // Relaxed: a guess that the exchange checks.
        let mut seen = word.load(Relaxed);
        loop {
            let starts = lowest(free_runs(seen, order), most);
            if starts == 0 {
                return None;
            }
            // Each start becomes a run: they do not overlap, so there is no carry.
            let runs = starts.wrapping_mul(run_mask(order));
            // Acquire [claim]: what the runs' last owners did before their releases is behind us.
            // Acquire [seal]: whoever sealed the block before looking at this word, we see its seal.
            // Release [verify]: a search that sees the runs taken sees that we are not sure of them yet.
            match word.compare_exchange_weak(seen, seen | runs, AcqRel, Relaxed) {
                Ok(_) => return Some(((at as u64) << WORD_SHIFT, runs)),
                Err(now) => seen = now,
            }
        }
    }

    /// Takes the `nr_pages` pages from page `start` of the block on, all or none.
    ///
    /// Word by word, in ascending order: of two claimers of overlapping spans, the one that gets the lowest shared page
    /// goes on and the other gives up what it has, so one of them always advances.
    pub(crate) fn claim_span(&self, start: u64, nr_pages: u64, given_up: &GivenUp) -> bool {
        for (at, mask) in words_of(start, nr_pages) {
            if !self.claim_mask(at, mask) {
                let before = ((at as u64) << WORD_SHIFT).saturating_sub(start);
                if before > 0 {
                    self.release_span(start, before);
                    given_up.note(before);
                }
                return false;
            }
        }
        true
    }

    fn claim_mask(&self, at: usize, mask: u64) -> bool {
        let word = &self.words[at];
        let mut seen = word.load(Relaxed);
        while seen & mask == 0 {
            // AcqRel [claim], [seal], [verify]: as in `claim_runs_in_word`.
            match word.compare_exchange_weak(seen, seen | mask, AcqRel, Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    /// Frees the `nr_pages` pages from page `start` of the block on, and says what that did to their words.
    #[inline]
    pub(crate) fn release_span(&self, start: u64, nr_pages: u64) -> Released {
        let bit = start & (PAGES_PER_WORD - 1);
        if bit + nr_pages <= PAGES_PER_WORD && nr_pages > 0 {
            return self.release_runs(start, FULL_WORD >> (PAGES_PER_WORD - nr_pages) << bit);
        }
        let mut released = Released::default();
        for (at, mask) in words_of(start, nr_pages) {
            let old = self.clear(at, mask);
            released.was_full |= old == FULL_WORD;
            released.is_free |= old == mask;
        }
        released
    }

    /// Clears bits that the caller set, and returns the word as it was.
    #[inline]
    fn clear(&self, at: usize, mask: u64) -> u64 {
        let word = &self.words[at];
        // Release [claim], in both: our use of the pages ends before the next owner's begins.
        let old = if mask == FULL_WORD && !MODEL {
            // All of the word is ours: nobody else can change it. (loom takes a store for unordered with a
            // read-modify-write that has read an older one, as `are_free` may, so a model goes the other way.)
            word.store(0, Release);
            FULL_WORD
        } else {
            // All of the bits are set, so that this clears them; unlike an `and`, x86-64 returns the old word from it.
            word.fetch_sub(mask, Release)
        };
        debug_assert_eq!(old & mask, mask, "a free page was released");
        old
    }

    /// Frees the pages that `runs` has a bit for, in the word that page `start` of the block lies in.
    #[inline]
    pub(crate) fn release_runs(&self, start: u64, runs: u64) -> Released {
        let old = self.clear((start >> WORD_SHIFT) as usize, runs);
        Released { was_full: old == FULL_WORD, is_free: old == runs }
    }

    /// Takes all pages of a block that belongs to the caller as a whole. Waits for small claims that came too late for it,
    /// and are about to give their bits back.
    pub(crate) fn take_all(&self) {
        let backoff = Backoff::new();
        for word in &self.words {
            // Acquire [claim]: as in `claim_runs_in_word`.
            while word.compare_exchange(0, FULL_WORD, AcqRel, Relaxed).is_err() {
                backoff.snooze();
            }
        }
    }

    /// Takes all pages of a block that belongs to the caller as a whole, unless there is a small claim that came too late for
    /// it: then none.
    pub(crate) fn try_take_all(&self) -> bool {
        // AcqRel [populate]: a claim that comes later finds no free bit here, or finds zeroes where this was.
        let is_taken = |word: &&AtomicU64| word.compare_exchange(0, FULL_WORD, AcqRel, Relaxed).is_ok();
        let nr = self.words.iter().take_while(is_taken).count();
        if nr < WORDS_PER_BLOCK {
            // Nobody else can have changed them.
            self.words[..nr].iter().for_each(|word| word.store(0, Release));
        }
        nr == WORDS_PER_BLOCK
    }

    /// Gives back what [`FreeBits::try_take_all`] took.
    pub(crate) fn clear_all(&self) {
        self.words.iter().for_each(|word| word.store(0, Release));
    }

    /// Whether all pages are taken, as far as a glance shows.
    pub(crate) fn seem_full(&self) -> bool {
        self.words.iter().all(|word| word.load(Relaxed) == FULL_WORD)
    }

    /// Whether all pages are taken, asked so that whoever frees one later sees what the caller did before.
    pub(crate) fn are_full(&self) -> bool {
        // AcqRel: as in `are_free`.
        self.words.iter().all(|word| word.fetch_or(0, AcqRel) == FULL_WORD)
    }

    /// Whether no page is taken, as far as a glance shows.
    pub(crate) fn seem_free(&self) -> bool {
        self.words.iter().all(|word| word.load(Relaxed) == 0)
    }

    /// Whether no page is taken, asked so that whoever takes one later sees what the caller did before.
    pub(crate) fn are_free(&self) -> bool {
        // AcqRel [seal]: a read-modify-write takes its place in the word's order of changes; a claim that comes later
        // sees the seal, and one that came before is seen.
        // Acquire [claim]: what the last owners of all pages did is behind us.
        self.words.iter().all(|word| word.fetch_or(0, AcqRel) == 0)
    }

    /// Whether none of the first `exist` pages is taken, as far as a glance shows.
    pub(crate) fn seem_free_before(&self, exist: u64) -> bool {
        words_of(0, exist).all(|(at, mask)| self.words[at].load(Relaxed) & mask == 0)
    }

    /// Takes a place in the order of changes of each word, so that whoever takes a page later sees what the caller did before.
    pub(crate) fn pass(&self) {
        // AcqRel [close]: as in `are_free`.
        self.words.iter().for_each(|word| _ = word.fetch_or(0, AcqRel));
    }

    /// The word that `page` of the block lies in, as in [`FreeBits::look`].
    pub(crate) fn word_of(&self, page: u64) -> u64 {
        self.words[(page >> WORD_SHIFT) as usize].load(Acquire)
    }

    /// The words, exactly as they are after all changes that came before the caller's last barrier.
    pub(crate) fn look(&self) -> [u64; WORDS_PER_BLOCK] {
        // Acquire [verify]: with a claim that it sees, a search sees that the claimer is not sure yet.
        core::array::from_fn(|at| self.words[at].load(Acquire))
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
}

/// What a release did to the words of its pages.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Released {
    /// One of them had no free page.
    pub(crate) was_full: bool,
    /// One of them has no taken page any more.
    pub(crate) is_free: bool,
}

/// The words that the pages `start..start + nr_pages` of a block lie in, with a bit for each of the pages.
fn words_of(start: u64, nr_pages: u64) -> impl Iterator<Item = (usize, u64)> {
    let end = start + nr_pages;
    let words = (start >> WORD_SHIFT)..end.div_ceil(PAGES_PER_WORD);
    words.map(move |at| {
        let first = at << WORD_SHIFT;
        let (from, to) = (start.max(first) - first, end.min(first + PAGES_PER_WORD) - first);
        (at as usize, FULL_WORD >> (PAGES_PER_WORD - (to - from)) << from)
    })
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
            words.iter().any(|&word| free_runs(word, u32::from(order)) != 0)
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
        std::iter::from_fn(|| bits.claim(order, &GivenUp::default())).collect()
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
            assert_eq!(free_pages(&bits.look()), 0);
            assert_eq!(largest_free_order(&bits.look()), None);
            bits.release_span(starts[1], order.nr_pages());
            assert_eq!(free_pages(&bits.look()), order.nr_pages());
            assert_eq!(largest_free_order(&bits.look()), Some(order));
            assert_eq!(bits.claim(order, &GivenUp::default()), Some(starts[1]));
            for &start in &starts {
                bits.release_span(start, order.nr_pages());
            }
            assert_eq!(bits.look(), [0; WORDS_PER_BLOCK]);
        }
    }

    #[test]
    fn a_run_is_found_between_others_only_where_it_is_aligned() {
        let free_at = |pages: &[u64]| pages.iter().fold(FULL_WORD, |word, &page| word & !(1 << page));
        assert_eq!(free_runs(free_at(&[1, 2, 3]), 1), 1 << 2);
        assert_eq!(free_runs(free_at(&[1, 2]), 1), 0);
        assert_eq!(free_runs(free_at(&[1, 2]), 0), 0b110);
        assert_eq!(free_runs(0, WORD_SHIFT), 1);
        assert_eq!(free_runs(1, WORD_SHIFT), 0);
        assert_eq!(free_runs(FULL_WORD, 0), 0);
        assert_eq!((lowest(0b1011_0100, 2), lowest(0b1011_0100, 9), lowest(0, 1)), (0b0001_0100, 0b1011_0100, 0));
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
