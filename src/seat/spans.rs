//! [`SpanHints`]: free runs of any length that one thread has seen, by size.
//!
//! As the segregated lists of a good-fit allocator (Masmano et al., "TLSF", ECRTS 2004), but nothing is owned by being in
//! one: whoever takes a hint looks whether the run is still free. So hints can be lost, or be wrong, without harm.
#![forbid(unsafe_code)]

use crate::geometry::MODEL;
use crate::sync::{AtomicU64, Ordering::Relaxed};

/// Classes of lengths: `2^class` and more; the last one has no upper end.
const NR_CLASSES: usize = if MODEL { 3 } else { 13 };
const DEPTH: usize = if MODEL { 1 } else { 16 };

/// Free runs, by the power of two that their lengths reach, each class a stack that forgets its oldest.
pub(crate) struct SpanHints {
    stacks: [Stack; NR_CLASSES],
    /// Where the next scan begins.
    cursor: AtomicU64,
}

/// Relaxed, all of it: hints of one thread, or of those who share a seat.
struct Stack {
    starts: [AtomicU64; DEPTH],
    nr: AtomicU64,
    oldest: AtomicU64,
}

impl SpanHints {
    pub(super) fn new(cursor: u64) -> SpanHints {
        let zeros = || core::array::from_fn(|_| AtomicU64::new(0));
        let stack = |_| Stack { starts: zeros(), nr: AtomicU64::new(0), oldest: AtomicU64::new(0) };
        SpanHints { stacks: core::array::from_fn(stack), cursor: AtomicU64::new(cursor) }
    }

    /// Remembers that `nr_pages` pages from `start` on seem free.
    pub(crate) fn push(&self, start: u64, nr_pages: u64) {
        if nr_pages == 0 {
            return;
        }
        let stack = &self.stacks[(nr_pages.ilog2() as usize).min(NR_CLASSES - 1)];
        let (nr, oldest) = (stack.nr.load(Relaxed), stack.oldest.load(Relaxed));
        stack.starts[(oldest + nr) as usize % DEPTH].store(start, Relaxed);
        if nr < DEPTH as u64 {
            stack.nr.store(nr + 1, Relaxed);
        } else {
            stack.oldest.store((oldest + 1) % DEPTH as u64, Relaxed);
        }
    }

    /// Forgets a run that may have `nr_pages` pages, and names its start: the smallest sizes that surely would first.
    pub(crate) fn pop(&self, nr_pages: u64) -> Option<u64> {
        let surely = (nr_pages.next_power_of_two().ilog2() as usize).min(NR_CLASSES - 1);
        self.stacks[surely..].iter().find_map(Stack::pop)
    }

    /// The same from the class of `nr_pages` itself, whose runs may be shorter.
    pub(crate) fn pop_alike(&self, nr_pages: u64) -> Option<u64> {
        self.stacks[(nr_pages.ilog2() as usize).min(NR_CLASSES - 1)].pop()
    }

    pub(crate) fn cursor(&self) -> u64 {
        self.cursor.load(Relaxed)
    }

    pub(crate) fn set_cursor(&self, page: u64) {
        self.cursor.store(page, Relaxed);
    }
}

impl Stack {
    fn pop(&self) -> Option<u64> {
        let nr = self.nr.load(Relaxed).checked_sub(1)?;
        self.nr.store(nr, Relaxed);
        Some(self.starts[(self.oldest.load(Relaxed) + nr) as usize % DEPTH].load(Relaxed))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_run_that_is_surely_long_enough_is_named_first() {
        let hints = SpanHints::new(0);
        for (start, nr_pages) in [(100, 100), (1000, 9000), (200, 64), (300, 63)] {
            hints.push(start, nr_pages);
        }
        assert_eq!(hints.pop(64), Some(200), "the newest of its class");
        assert_eq!(hints.pop(64), Some(100));
        assert_eq!(hints.pop(64), Some(1000));
        assert_eq!(hints.pop(64), None);
        assert_eq!((hints.pop(33), hints.pop_alike(33)), (None, Some(300)));
    }

    #[test]
    fn the_oldest_is_forgotten() {
        let hints = SpanHints::new(0);
        for start in 0..DEPTH as u64 + 5 {
            hints.push(start, 1);
        }
        let all: Vec<u64> = std::iter::from_fn(|| hints.pop(1)).collect();
        assert_eq!(all, (5..DEPTH as u64 + 5).rev().collect::<Vec<_>>());
    }
}
