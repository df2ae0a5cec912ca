//! In which order the pages are visited, and what must come out.
//!
//! The pages form one cycle in random order: the private word of each names the next. A chase
//! follows the words; a random visit streams the same order from an array of keys; a sequential
//! visit takes the pages as they lie. All contestants share one cycle, so they visit the same places
//! in the same order, and every visit has an answer that is known beforehand.

#![forbid(unsafe_code)]

use crate::course::Lookup;
use crate::random::SplitMix;

/// Keys are visited in runs of this many, for each of which the answer is known.
pub const RUN: usize = 4096;

/// One random cycle through all pages.
#[derive(Debug)]
pub struct Chain {
    /// The pages in the cycle's order.
    order: Vec<u32>,
    /// The page that follows each page.
    next: Vec<u32>,
}

impl Chain {
    /// Chains `nr_pages` pages: a multiple of [`RUN`], and the same chain each time.
    pub fn new(nr_pages: usize) -> Self {
        assert!(nr_pages > 0 && nr_pages.is_multiple_of(RUN), "{nr_pages} pages are no whole runs");
        let mut order: Vec<u32> = (0..u32::try_from(nr_pages).expect("fewer than 2^32")).collect();
        SplitMix::new(0x6661_7270_6167_6531).shuffle(&mut order);
        let mut next = vec![0; nr_pages];
        for (at, &page) in order.iter().enumerate() {
            next[page as usize] = order[(at + 1) % nr_pages];
        }
        Self { order, next }
    }

    /// Pages in the cycle.
    pub fn nr_pages(&self) -> usize {
        self.order.len()
    }
}

/// One contestant's keys in both orders, 8 bytes each, with the answer of each run.
#[derive(Debug)]
pub struct Keys<K> {
    pub(crate) sequential: Answered<K>,
    pub(crate) random: Answered<K>,
}

/// Keys in the order of a visit.
#[derive(Debug)]
pub(crate) struct Answered<K> {
    pub(crate) keys: Vec<K>,
    /// The sum of the private words of each [`RUN`] of keys.
    pub(crate) sums: Vec<u64>,
}

impl<K: Copy> Keys<K> {
    /// Links a contestant's pages, given by their keys in order of place, into the chain.
    ///
    /// `set_private` stores a page's word; it is called once for each page.
    pub fn link<L: Lookup<Key = K>>(chain: &Chain, sequential: Vec<K>, mut set_private: impl FnMut(K, u64)) -> Self {
        const { assert!(size_of::<K>() == 8, "every contestant streams keys of one width") }
        assert_eq!(sequential.len(), chain.nr_pages());
        let next_word = |page: u32| L::word(sequential[chain.next[page as usize] as usize]);
        for (&key, page) in sequential.iter().zip(0..) {
            set_private(key, next_word(page));
        }
        let in_place = (0..chain.nr_pages() as u32).collect::<Vec<_>>();
        let sums = |pages: &[u32]| {
            pages
                .chunks(RUN)
                .map(|run| run.iter().fold(0u64, |sum, &page| sum.wrapping_add(next_word(page))))
                .collect::<Vec<_>>()
        };
        let (sequential_sums, random_sums) = (sums(&in_place), sums(&chain.order));
        let random = chain.order.iter().map(|&page| sequential[page as usize]).collect();
        Self {
            sequential: Answered { keys: sequential, sums: sequential_sums },
            random: Answered { keys: random, sums: random_sums },
        }
    }

    /// Runs in one pass over all pages.
    pub fn nr_runs(&self) -> usize {
        self.random.sums.len()
    }

    /// The keys in order of place.
    pub fn in_place(&self) -> &[K] {
        &self.sequential.keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_is_one_cycle_through_all_pages() {
        let chain = Chain::new(2 * RUN);
        let mut seen = vec![false; chain.nr_pages()];
        let mut page = 0;
        for _ in 0..chain.nr_pages() {
            assert!(!seen[page], "page {page} is met twice");
            seen[page] = true;
            page = chain.next[page] as usize;
        }
        assert_eq!(page, 0);
    }
}
