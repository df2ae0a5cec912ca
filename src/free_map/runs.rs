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

/// The words of one block, a bit for each page that is not to be had.
fn words_of(blocks: &Blocks, block: u64, among: Among) -> [u64; WORDS_PER_BLOCK] {
    let seen = blocks.use_of(block);
    if seen.is_whole_and_free() {
        return [0; WORDS_PER_BLOCK];
    }
    let words = if seen.goes_by_bits() { blocks.bits_of(block) } else { [FULL_WORD; WORDS_PER_BLOCK] };
    let is_other = seen.class() != Class::Mixed && words != [0; WORDS_PER_BLOCK];
    if among == Among::Mixed && is_other { [FULL_WORD; WORDS_PER_BLOCK] } else { words }
}

/// Calls `each` with every maximal free run of `pages`, in ascending order, until it breaks.
pub(super) fn for_each_run<B>(
    blocks: &Blocks,
    pages: Range<u64>,
    among: Among,
    mut each: impl FnMut(Range<u64>) -> ControlFlow<B>,
) -> ControlFlow<B> {
    let mut start = None;
    let mut end_at = |start: &mut Option<u64>, end: u64| match start.take() {
        Some(first) if first < end => each(first..end),
        _ => ControlFlow::Continue(()),
    };
    for block in block_of(pages.start)..block_of(pages.end + PAGES_PER_BLOCK - 1) {
        for (at, &word) in words_of(blocks, block, among).iter().enumerate() {
            let first = (block << BLOCK_SHIFT) + at as u64 * PAGES_PER_WORD;
            let mut bit = 0;
            while bit < PAGES_PER_WORD {
                let rest = word >> bit;
                let here = (first + bit).clamp(pages.start, pages.end);
                if rest & 1 == 0 {
                    start.get_or_insert(here);
                    bit += u64::from(rest.trailing_zeros());
                } else {
                    end_at(&mut start, here)?;
                    bit += u64::from(rest.trailing_ones());
                }
            }
        }
    }
    end_at(&mut start, pages.end)
}

/// How many pages from `start` on are free, as far as `end`.
pub(super) fn run_from(blocks: &Blocks, start: u64, end: u64) -> u64 {
    let run = for_each_run(blocks, start..end, Among::All, ControlFlow::Break);
    match run {
        ControlFlow::Break(run) if run.start == start => run.end - start,
        _ => 0,
    }
}

/// The first page of the free run that ends before `page`, within its block.
pub(super) fn run_before(blocks: &Blocks, page: u64) -> u64 {
    let block = block_of(page) << BLOCK_SHIFT;
    let mut start = page;
    if block < page {
        let _ = for_each_run(blocks, block..page, Among::All, |run| -> ControlFlow<()> {
            if run.end == page {
                start = run.start;
            }
            ControlFlow::Continue(())
        });
    }
    start
}
