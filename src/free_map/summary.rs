//! [`Summary`]: a set of blocks as a tree of bits, 64 ways, to find a block without looking at all of them.
//!
//! Hints only: what the tree says of a block may be out of date, and the search that must be exact does not use it.
//! A level's bit is set when all bits below it are, so that "the next block that is not in the set" skips whole words.
#![forbid(unsafe_code)]

use crate::sparse::{Layout, NoMemory, ReserveError, SparseArray};
use crate::sync::{
    AtomicU64,
    Ordering::{AcqRel, Relaxed},
};

pub(super) const FAN_SHIFT: u32 = 6;
pub(super) const FAN: u64 = 1 << FAN_SHIFT;

/// A set of block numbers.
pub(crate) struct Summary {
    /// From one bit a block up to one word for all.
    levels: Vec<SparseArray<AtomicU64>>,
}

impl Summary {
    pub(crate) fn new(nr_blocks: u64) -> Result<Summary, ReserveError> {
        let mut levels = Vec::new();
        let mut nr_words = nr_blocks.div_ceil(FAN);
        loop {
            levels.push(SparseArray::new(Layout { len: nr_words, chunk_bytes: 4096, huge: false })?);
            if nr_words <= 1 {
                return Ok(Summary { levels });
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

    /// Adds `block`, and says so above where its word is full now. `false` if it was there already.
    pub(crate) fn insert(&self, block: u64) -> bool {
        // Relaxed: a hint, and a line that others read is not written for nothing.
        if self.word(block, 0).is_none_or(|word| word.load(Relaxed) & bit_at(block, 0) != 0) {
            return false;
        }
        for level in 0..self.levels.len() {
            let Some(word) = self.word(block, level) else { break };
            let bit = bit_at(block, level);
            // AcqRel: the order of changes to one word is all that counts, and whoever fills it sees the others' part.
            let now = word.fetch_or(bit, AcqRel) | bit;
            // The level below may have lost a bit between our filling it and our saying so here: then whoever took it
            // out found nothing to take out here, and the word would stay hidden. A read-modify-write, so that it has
            // a place before or after that removal.
            if let Some(below) = level.checked_sub(1).and_then(|below| self.word(block, below)) {
                if below.fetch_or(0, AcqRel) != u64::MAX {
                    self.remove_from(block, level);
                    break;
                }
            }
            if now != u64::MAX {
                break;
            }
        }
        true
    }

    /// Whether `block` is in the set, as far as the tree knows.
    pub(crate) fn contains(&self, block: u64) -> bool {
        self.word(block, 0).is_some_and(|word| word.load(Relaxed) & bit_at(block, 0) != 0)
    }

    /// Takes `block` out, and says so above where its word was full.
    pub(crate) fn remove(&self, block: u64) {
        self.remove_from(block, 0);
    }

    fn remove_from(&self, block: u64, level: usize) {
        for level in level..self.levels.len() {
            let Some(word) = self.word(block, level) else { return };
            // AcqRel: as in `insert`.
            if word.fetch_and(!bit_at(block, level), AcqRel) != u64::MAX {
                return;
            }
        }
    }

    fn word(&self, block: u64, level: usize) -> Option<&AtomicU64> {
        self.levels[level].get_populated(word_at(block, level))
    }

    /// The first block of `from..end` that is not in the set, as far as the tree knows.
    pub(crate) fn next_absent(&self, from: u64, end: u64) -> Option<u64> {
        let mut block = from;
        let mut level = 0;
        while block < end {
            let shift = level as u32 * FAN_SHIFT;
            let word = self.word(block, level).map_or(0, |word| word.load(Relaxed));
            // Subtrees from this one on, without the bits before it.
            let here = block >> shift & (FAN - 1);
            let absent = !word >> here << here;
            if absent == 0 {
                // None in this word: go on behind it, one level up where there is one.
                block = ((block >> (shift + FAN_SHIFT)) + 1) << (shift + FAN_SHIFT);
                level = (level + 1).min(self.levels.len() - 1);
                continue;
            }
            let next = u64::from(absent.trailing_zeros());
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

pub(super) fn word_at(block: u64, level: usize) -> u64 {
    block >> (FAN_SHIFT * (level as u32 + 1))
}

pub(super) fn bit_at(block: u64, level: usize) -> u64 {
    1 << (block >> (FAN_SHIFT * level as u32) & (FAN - 1))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_next_absent_block_is_the_one_a_plain_set_names() {
        const BLOCKS: u64 = 70_000; // three levels
        let summary = Summary::new(BLOCKS).expect("address space");
        let mut plain = BTreeSet::new();
        let mut random = 1u64;
        for step in 0..20_000u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Long full stretches, so that upper levels fill.
            let (block, len) = ((random >> 33) % BLOCKS, if step % 50 == 0 { 9000 } else { 1 });
            for block in block..(block + len).min(BLOCKS) {
                if random >> 20 & 3 != 0 {
                    summary.populate(block).expect("memory");
                    summary.insert(block);
                    plain.insert(block);
                } else {
                    summary.remove(block);
                    plain.remove(&block);
                }
            }
            let end = BLOCKS.min(block + 30_000);
            let expected = (block..end).find(|block| !plain.contains(block));
            assert_eq!(summary.next_absent(block, end), expected, "step {step} from {block}");
        }
    }

    #[test]
    fn nothing_is_present_where_nothing_was_populated() {
        let summary = Summary::new(1 << 25).expect("address space");
        assert_eq!(summary.next_absent(12345, 1 << 25), Some(12345));
        assert_eq!(summary.next_absent(5, 5), None);
        assert_eq!(summary.bytes().1, 0);
    }
}
