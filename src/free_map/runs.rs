//! Free runs of any length, across words and blocks, as one look finds them.
#![forbid(unsafe_code)]

use core::ops::{ControlFlow, Range};

use super::Blocks;
use crate::class::Class;
use crate::geometry::{BLOCK_SHIFT, FULL_WORD, PAGES_PER_BLOCK, PAGES_PER_WORD, WORDS_PER_BLOCK, block_of};

/// Which blocks a look takes pages of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Among {
    /// All that have free pages.
    All,
    /// Only those where orders mix already, and those that are free.
    Mixed,
}

/// What a block has for somebody who looks for runs.
enum Offer {
    /// Nothing.
    Taken,
    /// All of its pages.
    Free,
    /// Those whose bits are clear.
    Words([u64; WORDS_PER_BLOCK]),
}

fn offer_of(blocks: &Blocks, block: u64, among: Among) -> Offer {
    let seen = blocks.use_of(block);
    if blocks.is_withheld(block, seen) {
        Offer::Taken
    } else if !seen.goes_by_bits() {
        Offer::Free
    } else if among == Among::Mixed && seen.class() != Class::Mixed {
        if blocks.seems_free(block) { Offer::Free } else { Offer::Taken }
    } else {
        Offer::Words(blocks.bits_of(block))
    }
}

/// Calls `each` with every maximal free run of `pages`, in ascending order, until it breaks.
pub(super) fn for_each_run<B>(
    blocks: &Blocks,
    pages: Range<u64>,
    among: Among,
    each: impl FnMut(Range<u64>) -> ControlFlow<B>,
) -> ControlFlow<B> {
    let mut runs = Runs { pages: pages.clone(), start: None, each };
    for block in block_of(pages.start)..block_of(pages.end + PAGES_PER_BLOCK - 1) {
        let first = block << BLOCK_SHIFT;
        match offer_of(blocks, block, among) {
            Offer::Taken => runs.end_at(first)?,
            Offer::Free => runs.begin_at(first),
            Offer::Words(words) => {
                for (at, &word) in words.iter().enumerate() {
                    runs.word(first + at as u64 * PAGES_PER_WORD, word)?;
                }
            }
        }
    }
    runs.end_at(pages.end)
}

/// The run that is being followed.
struct Runs<E> {
    pages: Range<u64>,
    start: Option<u64>,
    each: E,
}

impl<B, E: FnMut(Range<u64>) -> ControlFlow<B>> Runs<E> {
    fn begin_at(&mut self, page: u64) {
        self.start.get_or_insert(page.max(self.pages.start));
    }

    fn end_at(&mut self, page: u64) -> ControlFlow<B> {
        let end = page.min(self.pages.end);
        match self.start.take() {
            Some(start) if start < end => (self.each)(start..end),
            _ => ControlFlow::Continue(()),
        }
    }

    /// The pages from `first` on, of which those are taken that have a bit in `word`.
    fn word(&mut self, first: u64, word: u64) -> ControlFlow<B> {
        match word {
            0 => self.begin_at(first),
            FULL_WORD => self.end_at(first)?,
            _ => {
                let mut bit = 0;
                while bit < PAGES_PER_WORD {
                    let rest = word >> bit;
                    if rest & 1 == 0 {
                        self.begin_at(first + bit);
                        bit += u64::from(rest.trailing_zeros());
                    } else {
                        self.end_at(first + bit)?;
                        bit += u64::from(rest.trailing_ones());
                    }
                }
            }
        }
        ControlFlow::Continue(())
    }
}

/// What one look at a word of free bits, or at a whole block, says of the pages around one.
enum Seen {
    Block { is_free: bool },
    Word(u64),
}

/// Among blocks where orders mix, and those that are free.
fn look_at(blocks: &Blocks, page: u64) -> Seen {
    let block = block_of(page);
    if blocks.use_of(block).class() == Class::Mixed {
        Seen::Word(blocks.word_of(page))
    } else {
        Seen::Block { is_free: blocks.seems_free(block) }
    }
}

/// The first page from `page` on that is not free, or `end`. Among blocks where orders mix, and those that are free.
pub(super) fn end_of_run(blocks: &Blocks, mut page: u64, end: u64) -> u64 {
    while page < end {
        match look_at(blocks, page) {
            Seen::Block { is_free: true } => page = (block_of(page) + 1) << BLOCK_SHIFT,
            Seen::Block { is_free: false } => break,
            Seen::Word(word) => {
                let rest = word >> (page % PAGES_PER_WORD);
                if rest != 0 {
                    page += u64::from(rest.trailing_zeros());
                    break;
                }
                page = (page / PAGES_PER_WORD + 1) * PAGES_PER_WORD;
            }
        }
    }
    page.min(end)
}

/// The first page of the free run that ends before `page`, or `first`. As [`end_of_run`].
pub(super) fn start_of_run(blocks: &Blocks, mut page: u64, first: u64) -> u64 {
    while page > first {
        match look_at(blocks, page - 1) {
            Seen::Block { is_free: true } => page = block_of(page - 1) << BLOCK_SHIFT,
            Seen::Block { is_free: false } => break,
            Seen::Word(word) => {
                let nr = (page - 1) % PAGES_PER_WORD + 1;
                let before = word << (u64::BITS as u64 - nr);
                if before != 0 {
                    page -= u64::from(before.leading_zeros());
                    break;
                }
                page -= nr;
            }
        }
    }
    page.max(first)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::free_map::{GivenUp, Mixing};
    use crate::words::Order;

    #[test]
    fn all_ways_to_look_see_the_same_runs() {
        const END: u64 = 6 * PAGES_PER_BLOCK;
        let (blocks, given_up) = (Blocks::new(6, 8).unwrap(), GivenUp::default());
        let mut taken = vec![false; END as usize];
        for (start, nr_pages) in [(0, 3), (60, 8), (130, 1), (500, 12), (1500, 36), (2050, 400), (3071, 1)] {
            assert!(blocks.claim_span_in(block_of(start), start % PAGES_PER_BLOCK, nr_pages, &given_up).unwrap());
            taken[start as usize..(start + nr_pages) as usize].fill(true);
        }
        assert!(blocks.claim_whole(1, Order::HUGE, &given_up).unwrap().is_some());
        taken[512..1024].fill(true);
        assert!(blocks.claim_in(3, Order::ZERO, Mixing::Refused, &given_up).unwrap().is_some());
        // A block of order 0 is not for spans.
        taken[1536..2048].fill(true);

        let mut seen = vec![true; END as usize];
        let _ = for_each_run(&blocks, 0..END, Among::Mixed, |run| -> ControlFlow<()> {
            assert_eq!(end_of_run(&blocks, run.start, END), run.end);
            assert_eq!(start_of_run(&blocks, run.end, 0), run.start);
            seen[run.start as usize..run.end as usize].fill(false);
            ControlFlow::Continue(())
        });
        assert!(seen == taken);
        for page in 0..END {
            let end = (page..END).find(|&page| taken[page as usize]).unwrap_or(END);
            assert_eq!(end_of_run(&blocks, page, END), end, "from {page}");
            let start = (0..page).rev().take_while(|&page| !taken[page as usize]).last().unwrap_or(page);
            assert_eq!(start_of_run(&blocks, page, 0), start, "before {page}");
        }
        let all = for_each_run(&blocks, 1536..END, Among::All, ControlFlow::Break);
        assert_eq!(all, ControlFlow::Break(1537..2050), "but it has room");
    }
}
