//! The memory of the words themselves: how they come by it, and how it is given back to the system. Edges: [populate].
#![forbid(unsafe_code)]

use core::ops::Range;

use super::super::block_use::BlockUse;
use super::super::vacancy::Vacancies;
use super::Blocks;
use crate::sparse::{Counts, NoMemory};
use crate::sync::{AtomicU64, Ordering::Relaxed};

impl Blocks {
    pub(crate) fn vacancies(&self) -> &Vacancies {
        &self.vacancies
    }

    /// How many blocks have their use words populated together.
    pub(crate) fn blocks_per_chunk(&self) -> u64 {
        self.uses.elements_per_chunk()
    }

    /// The first of `blocks` whose use word has memory. Nothing of the others has, their metadata included.
    pub(crate) fn next_populated(&self, blocks: Range<u64>) -> Option<u64> {
        self.uses.next_populated(blocks)
    }

    /// Gives the memory of the words of `blocks` back to the system, as far as it holds no others' words: of the free bits, and
    /// then of the use words. For whoever holds all of `blocks` as whole ones.
    ///
    /// Returns the bytes, and whether the use words are gone: then the blocks are free already, and anybody's.
    pub(crate) fn give_back(&self, blocks: Range<u64>) -> (u64, bool) {
        let mut bytes = 0;
        for first in self.bits.chunks_within(blocks.clone()) {
            let mut taken = false;
            bytes += self.bits.give_back(first, |chunk| {
                // All of them, so that no claim that comes too late takes any before they are zeroes; and none that came
                // before has any.
                let nr = chunk.elements.iter().take_while(|bits| bits.try_take_all()).count();
                taken = nr == chunk.elements.len();
                if !taken {
                    chunk.elements[..nr].iter().for_each(|bits| bits.clear_all());
                }
                taken.then_some(0)
            });
            if taken && self.bits.get_populated(first).is_some() {
                // The system did not want it.
                let last = first + self.bits.elements_per_chunk();
                (first..last).filter_map(|block| self.bits.get_populated(block)).for_each(|bits| bits.clear_all());
            }
        }
        let mut are_gone = false;
        for first in self.uses.chunks_within(blocks) {
            let given = self.uses.give_back(first, |chunk| {
                let words = chunk.elements.iter().map(|word| BlockUse::from_bits(word.load(Relaxed)));
                words.map(BlockUse::keep).max()
            });
            are_gone |= given > 0;
            bytes += given;
        }
        (bytes, are_gone)
    }

    /// Tells others that `blocks` are free, whose words have been given back.
    pub(crate) fn note_vacated(&self, blocks: Range<u64>) {
        blocks.for_each(|block| self.hints.note_free(block));
    }

    /// How often a chunk of words was populated, and given back.
    pub(crate) fn counts(&self) -> Counts {
        self.uses.counts() + self.bits.counts()
    }

    /// The use word of `block`, with all that hints on it need in memory.
    #[inline]
    pub(super) fn populate(&self, block: u64) -> Result<&AtomicU64, NoMemory> {
        match self.uses.get_populated(block) {
            Some(word) => Ok(word),
            None => {
                // The use words last: once they are there, all is.
                self.hints.populate(block)?;
                self.vacancies.populate(block)?;
                self.uses.populate_by(block, |chunk| {
                    // Relaxed [populate]: released with the chunk.
                    chunk.elements.iter().for_each(|word| word.store(BlockUse::begin(chunk.kept).bits(), Relaxed));
                })
            }
        }
    }
}
