//! [`Recent`]: blocks that one thread has freed, the last ones first.
#![forbid(unsafe_code)]

use crate::geometry::MODEL;
use crate::sync::{AtomicU64, Ordering::Relaxed};

/// No block.
const NONE: u64 = u64::MAX;
const DEPTH: usize = if MODEL { 1 } else { 8 };

/// A stack of blocks that forgets its oldest. Relaxed, all of it: hints of one thread, or of those who share a seat.
pub(crate) struct Recent {
    blocks: [AtomicU64; DEPTH],
    nr_noted: AtomicU64,
}

impl Recent {
    pub(super) fn new() -> Recent {
        Recent { blocks: core::array::from_fn(|_| AtomicU64::new(NONE)), nr_noted: AtomicU64::new(0) }
    }

    /// Remembers a block.
    pub(crate) fn note(&self, block: u64) {
        let at = self.nr_noted.load(Relaxed);
        self.blocks[at as usize % DEPTH].store(block, Relaxed);
        self.nr_noted.store(at.wrapping_add(1), Relaxed);
    }

    /// Forgets the block that was noted last, and names it.
    pub(crate) fn take(&self) -> Option<u64> {
        let at = self.nr_noted.load(Relaxed).wrapping_sub(1);
        let word = &self.blocks[at as usize % DEPTH];
        let block = word.load(Relaxed);
        if block == NONE {
            return None;
        }
        word.store(NONE, Relaxed);
        self.nr_noted.store(at, Relaxed);
        Some(block)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_last_is_named_first_and_the_oldest_is_forgotten() {
        let recent = Recent::new();
        assert_eq!(recent.take(), None);
        (0..DEPTH as u64 + 3).for_each(|block| recent.note(block));
        let all: Vec<u64> = std::iter::from_fn(|| recent.take()).collect();
        assert_eq!(all, (3..DEPTH as u64 + 3).rev().collect::<Vec<_>>());
        recent.note(7);
        assert_eq!((recent.take(), recent.take()), (Some(7), None));
    }
}
