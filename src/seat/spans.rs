//! [`SpanHints`]: free runs of any length that one thread has seen, by size.
//!
//! As the segregated lists of a good-fit allocator (Masmano et al., "TLSF", ECRTS 2004), but nothing is owned by being in
//! one: whoever takes a hint looks whether the run is still free. So hints can be lost, or be wrong, without harm.
#![forbid(unsafe_code)]

use crate::geometry::MODEL;
use crate::sync::{AtomicU64, Ordering::Relaxed};

/// Classes of lengths: one each up to 8 pages, then 8 for each power of two; the last one has no upper end.
const NR_CLASSES: usize = if MODEL { 8 } else { 88 };
const DEPTH: usize = if MODEL { 1 } else { 64 };

/// The class of the longest length that is not longer than `nr_pages`.
fn class_of(nr_pages: u64) -> usize {
    let class = if nr_pages <= 8 {
        nr_pages as usize - 1
    } else {
        let power = nr_pages.ilog2();
        8 * (power as usize - 2) + (nr_pages >> (power - 3) & 7) as usize - 1
    };
    class.min(NR_CLASSES - 1)
}

/// Free runs by class, each a stack that forgets its oldest.
pub(crate) struct SpanHints {
    stacks: [Stack; NR_CLASSES],
    /// Where the next scan begins.
    cursor: AtomicU64,
}

/// A run that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpanHint {
    /// A page of it.
    pub(crate) page: u64,
    class: usize,
}

impl SpanHint {
    /// Whether a run of `nr_pages` pages is in a longer class than it was. Then whoever made it longer has pushed it again,
    /// and others should serve first.
    pub(crate) fn has_grown(self, nr_pages: u64) -> bool {
        nr_pages > 0 && class_of(nr_pages) > self.class
    }
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
        let stack = &self.stacks[class_of(nr_pages)];
        let (nr, oldest) = (stack.nr.load(Relaxed), stack.oldest.load(Relaxed));
        stack.starts[(oldest + nr) as usize % DEPTH].store(start, Relaxed);
        if nr < DEPTH as u64 {
            stack.nr.store(nr + 1, Relaxed);
        } else {
            stack.oldest.store((oldest + 1) % DEPTH as u64, Relaxed);
        }
    }

    /// Forgets a run that should have `nr_pages` pages: of the shortest class whose runs surely do.
    pub(crate) fn pop(&self, nr_pages: u64) -> Option<SpanHint> {
        // The next class, unless `nr_pages` is the shortest of its own.
        let surely = if nr_pages == 1 { 0 } else { class_of(nr_pages - 1) + 1 };
        (surely.min(NR_CLASSES - 1)..NR_CLASSES).find_map(|class| self.pop_class(class))
    }

    /// The same from the class of `nr_pages` itself, whose runs may be shorter.
    pub(crate) fn pop_alike(&self, nr_pages: u64) -> Option<SpanHint> {
        self.pop_class(class_of(nr_pages))
    }

    fn pop_class(&self, class: usize) -> Option<SpanHint> {
        self.stacks[class].pop().map(|page| SpanHint { page, class })
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
    fn classes_ascend_and_the_shortest_of_each_is_known() {
        let mut last = 0;
        for nr_pages in 1..20_000 {
            let class = class_of(nr_pages);
            assert!(class == last || class == last + 1);
            last = class;
        }
        assert_eq!(class_of(u64::MAX), NR_CLASSES - 1);
        assert_eq!([8, 9, 15, 16, 17, 18].map(class_of), [7, 8, 14, 15, 15, 16]);
    }

    #[test]
    fn the_shortest_run_that_is_surely_long_enough_is_named_first() {
        let hints = SpanHints::new(0);
        for (start, nr_pages) in [(100, 100), (1000, 9000), (200, 64), (300, 63)] {
            hints.push(start, nr_pages);
        }
        let page = |hint: Option<SpanHint>| hint.map(|hint| hint.page);
        assert_eq!(page(hints.pop(64)), Some(200));
        let hint = hints.pop(64).unwrap();
        assert_eq!((hint.page, hint.has_grown(100), hint.has_grown(128)), (100, false, true));
        assert_eq!(page(hints.pop(64)), Some(1000));
        assert_eq!(hints.pop(64), None);
        assert_eq!((hints.pop(60), page(hints.pop_alike(60))), (None, Some(300)));
    }

    #[test]
    fn the_oldest_is_forgotten() {
        let hints = SpanHints::new(0);
        for start in 0..DEPTH as u64 + 5 {
            hints.push(start, 1);
        }
        let all: Vec<u64> = std::iter::from_fn(|| Some(hints.pop(1)?.page)).collect();
        assert_eq!(all, (5..DEPTH as u64 + 5).rev().collect::<Vec<_>>());
    }
}
