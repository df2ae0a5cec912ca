//! [`Index`]: a set of blocks as a tree of bits, 64 ways, to find a member without looking at all blocks.
//!
//! The counterpart of [`Summary`](super::summary): there a bit above says that all below are set, here that any is. For
//! sets that are small at first. Hints only.
#![forbid(unsafe_code)]

use super::summary::{FAN, FAN_SHIFT, bit_at, word_at};
use crate::sparse::{Layout, NoMemory, ReserveError, SparseArray};
use crate::sync::{
    AtomicU64,
    Ordering::{AcqRel, Relaxed},
};

/// A set of block numbers.
pub(crate) struct Index {
    /// From one bit a block up to one word for all.
    levels: Vec<SparseArray<AtomicU64>>,
}

impl Index {
    pub(crate) fn new(nr_blocks: u64) -> Result<Index, ReserveError> {
        let mut levels = Vec::new();
        let mut nr_words = nr_blocks.div_ceil(FAN);
        loop {
            levels.push(SparseArray::new(Layout { len: nr_words, chunk_bytes: 4096, huge: false })?);
            if nr_words <= 1 {
                return Ok(Index { levels });
            }
            nr_words = nr_words.div_ceil(FAN);
        }
    }

    /// Makes room for `block`, so that `insert` and `remove` of it need no memory.
    pub(crate) fn populate(&self, block: u64) -> Result<(), NoMemory> {
        for (level, words) in self.levels.iter().enumerate() {
            words.populate(word_at(block, level))?;
        }
        Ok(())
    }

    /// Adds `block`, if it was populated and is not there.
    pub(crate) fn insert(&self, block: u64) {
        // Relaxed: a hint, and a line that others read is not written for nothing.
        if self.word(block, 0).is_none_or(|word| word.load(Relaxed) & bit_at(block, 0) != 0) {
            return;
        }
        self.insert_from(block, 0);
    }

    fn insert_from(&self, block: u64, level: usize) {
        for level in level..self.levels.len() {
            let Some(word) = self.word(block, level) else { return };
            // AcqRel: the order of changes to one word is all that counts.
            if word.fetch_or(bit_at(block, level), AcqRel) != 0 {
                return;
            }
        }
    }

    /// Takes `block` out, and says so above where its word is empty now. `false` if it was not there.
    pub(crate) fn remove(&self, block: u64) -> bool {
        if self.word(block, 0).is_none_or(|word| word.load(Relaxed) & bit_at(block, 0) == 0) {
            return false;
        }
        for level in 0..self.levels.len() {
            let Some(word) = self.word(block, level) else { break };
            let bit = bit_at(block, level);
            let now = word.fetch_and(!bit, AcqRel) & !bit;
            // The level below may have got a bit between our emptying it and our saying so here: then whoever put it in
            // found our bit still set and went no further, and it would stay hidden. A read-modify-write, so that it has a
            // place before or after that insertion.
            if let Some(below) = level.checked_sub(1).and_then(|below| self.word(block, below)) {
                if below.fetch_or(0, AcqRel) != 0 {
                    self.insert_from(block, level);
                    break;
                }
            }
            if now != 0 {
                break;
            }
        }
        true
    }

    fn word(&self, block: u64, level: usize) -> Option<&AtomicU64> {
        self.levels[level].get_populated(word_at(block, level))
    }

    /// The first block of `from..end` that is in the set, as far as the tree knows.
    pub(crate) fn next(&self, from: u64, end: u64) -> Option<u64> {
        let mut block = from;
        let mut level = 0;
        while block < end {
            let shift = level as u32 * FAN_SHIFT;
            let word = self.word(block, level).map_or(0, |word| word.load(Relaxed));
            // Subtrees from this one on, without the bits before it.
            let here = block >> shift & (FAN - 1);
            let present = word >> here << here;
            if present == 0 {
                // None in this word: go on behind it, one level up where there is one.
                block = ((block >> (shift + FAN_SHIFT)) + 1) << (shift + FAN_SHIFT);
                level = (level + 1).min(self.levels.len() - 1);
                continue;
            }
            let next = u64::from(present.trailing_zeros());
            if next != here {
                block = ((block >> shift) - here + next) << shift;
            }
            if level == 0 {
                return (block < end).then_some(block);
            }
            level -= 1;
        }
        None
    }

    /// Bytes of metadata: reserved and populated.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        self.levels.iter().fold((0, 0), |(reserved, populated), level| {
            (reserved + level.reserved_bytes(), populated + level.populated_bytes())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_next_member_is_the_one_a_plain_set_names() {
        const BLOCKS: u64 = 70_000; // three levels
        let index = Index::new(BLOCKS).expect("address space");
        let mut plain = BTreeSet::new();
        let mut random = 1u64;
        for step in 0..40_000u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let block = (random >> 33) % BLOCKS;
            if random >> 20 & 7 == 0 {
                index.populate(block).expect("memory");
                index.insert(block);
                plain.insert(block);
            } else {
                for block in block..(block + 300).min(BLOCKS) {
                    assert_eq!(index.remove(block), plain.remove(&block));
                }
            }
            let end = BLOCKS.min(block + 30_000);
            assert_eq!(index.next(block, end), plain.range(block..end).next().copied(), "step {step} from {block}");
        }
    }
}
