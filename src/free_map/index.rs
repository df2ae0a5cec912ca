//! [`Index`]: a set of blocks as a tree of bits, 64 ways, to find a member without looking at all blocks.
//!
//! Hints only: what the tree says of a block may be out of date, and the search that must be exact does not use it. A bit
//! above says whether any below it is a member's, so that "the next member" skips whole words of others.
#![forbid(unsafe_code)]

use crate::sparse::{Layout, NoMemory, ReserveError, SparseArray};
use crate::sync::{
    AtomicU64,
    Ordering::{AcqRel, Relaxed},
};

const FAN_SHIFT: u32 = 6;
const FAN: u64 = 1 << FAN_SHIFT;

/// A set of block numbers. `BORN` says whether a block is a member before anybody has said anything of it: memory that was
/// never written is zero, so a member's bit is clear in such a set, and set in the other kind.
pub(crate) struct Index<const BORN: bool> {
    /// From one bit a block up to one word for all.
    levels: Vec<SparseArray<AtomicU64>>,
}

impl<const BORN: bool> Index<BORN> {
    pub(crate) fn new(nr_blocks: u64) -> Result<Index<BORN>, ReserveError> {
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

    /// Whether `block` was populated and is a member.
    #[inline]
    pub(crate) fn has(&self, block: u64) -> bool {
        self.is(block, true)
    }

    /// Whether `block` was populated and is a member, or is not.
    fn is(&self, block: u64, member: bool) -> bool {
        // Relaxed: a hint, and a line that others read is not written for nothing.
        let word = self.word(block, 0).map(|word| members::<BORN>(word.load(Relaxed)));
        word.is_some_and(|word| (word & bit_at(block, 0) != 0) == member)
    }

    /// Adds `block`, if it was populated and is not a member.
    pub(crate) fn insert(&self, block: u64) {
        if self.is(block, false) {
            self.insert_from(block, 0);
        }
    }

    /// Says so above where the word had no member before.
    fn insert_from(&self, block: u64, level: usize) {
        for level in level..self.levels.len() {
            let Some(word) = self.word(block, level) else { return };
            let bit = bit_at(block, level);
            // AcqRel: the order of changes to one word is all that counts.
            let old = if BORN { word.fetch_and(!bit, AcqRel) } else { word.fetch_or(bit, AcqRel) };
            if members::<BORN>(old) != 0 {
                return;
            }
        }
    }

    /// Takes `block` out, and says so above where its word has no member now. `false` if it was none.
    pub(crate) fn remove(&self, block: u64) -> bool {
        if !self.is(block, true) {
            return false;
        }
        for level in 0..self.levels.len() {
            let Some(word) = self.word(block, level) else { break };
            let bit = bit_at(block, level);
            // AcqRel: as in `insert_from`, and whoever takes the last one out sees the others' part.
            let old = if BORN { word.fetch_or(bit, AcqRel) } else { word.fetch_and(!bit, AcqRel) };
            // The level below may have got a member between our taking the last one out and our saying so here: then whoever
            // put it in found our bit still there and went no further, and it would stay hidden. A read-modify-write, so
            // that it has a place before or after that insertion.
            if let Some(below) = level.checked_sub(1).and_then(|below| self.word(block, below)) {
                if members::<BORN>(below.fetch_or(0, AcqRel)) != 0 {
                    self.insert_from(block, level);
                    break;
                }
            }
            if members::<BORN>(old) & !bit != 0 {
                break;
            }
        }
        true
    }

    fn word(&self, block: u64, level: usize) -> Option<&AtomicU64> {
        self.levels[level].get_populated(word_at(block, level))
    }

    /// The first member of `from..end`, as far as the tree knows.
    pub(crate) fn next(&self, from: u64, end: u64) -> Option<u64> {
        let mut block = from;
        let mut level = 0;
        while block < end {
            let shift = level as u32 * FAN_SHIFT;
            let word = self.word(block, level).map_or(0, |word| word.load(Relaxed));
            // Subtrees from this one on, without the bits before it.
            let here = block >> shift & (FAN - 1);
            let present = members::<BORN>(word) >> here << here;
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

    /// Bytes of the populated ones that lie in memory; `None` where the system does not say.
    pub(super) fn resident_bytes(&self) -> Option<u64> {
        self.levels.iter().map(SparseArray::resident_bytes).sum()
    }

    /// Bytes of metadata: reserved and populated.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        self.levels.iter().fold((0, 0), |(reserved, populated), level| {
            (reserved + level.reserved_bytes(), populated + level.populated_bytes())
        })
    }
}

/// A bit for each member.
#[inline]
fn members<const BORN: bool>(word: u64) -> u64 {
    if BORN { !word } else { word }
}

fn word_at(block: u64, level: usize) -> u64 {
    block >> (FAN_SHIFT * (level as u32 + 1))
}

fn bit_at(block: u64, level: usize) -> u64 {
    1 << (block >> (FAN_SHIFT * level as u32) & (FAN - 1))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn the_next_member_is_the_one_a_plain_set_names<const BORN: bool>() {
        const BLOCKS: u64 = 70_000; // three levels
        let index = Index::<BORN>::new(BLOCKS).expect("address space");
        let mut plain: BTreeSet<u64> = if BORN { (0..BLOCKS).collect() } else { BTreeSet::new() };
        let mut random = 1u64;
        for step in 0..20_000u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Long stretches, so that words above fill and empty.
            let (block, len) = ((random >> 33) % BLOCKS, if step % 50 == 0 { 9000 } else { 1 });
            for block in block..(block + len).min(BLOCKS) {
                index.populate(block).expect("memory");
                if (random >> 20 & 3 != 0) == BORN {
                    assert_eq!(index.remove(block), plain.remove(&block));
                } else {
                    index.insert(block);
                    plain.insert(block);
                }
            }
            let end = BLOCKS.min(block + 30_000);
            assert_eq!(index.next(block, end), plain.range(block..end).next().copied(), "step {step} from {block}");
        }
    }

    #[test]
    fn the_next_member_of_a_set_that_was_full() {
        the_next_member_is_the_one_a_plain_set_names::<true>();
    }

    #[test]
    fn the_next_member_of_a_set_that_was_empty() {
        the_next_member_is_the_one_a_plain_set_names::<false>();
    }

    #[test]
    fn what_was_never_populated_is_as_it_was_born() {
        let (full, empty) = (Index::<true>::new(1 << 25).unwrap(), Index::<false>::new(1 << 25).unwrap());
        assert_eq!((full.next(12345, 1 << 25), full.next(5, 5)), (Some(12345), None));
        assert_eq!(empty.next(12345, 1 << 25), None);
        assert_eq!((full.bytes().1, empty.bytes().1), (0, 0));
    }
}
