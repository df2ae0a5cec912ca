//! [`Entry`]: a word of a table above the last level: nothing, a leaf, or the table below.
#![forbid(unsafe_code)]

use crate::words::{SoftLeaf, leaf_bits};

const ID_BITS: u32 = 24;
const GENERATION_BITS: u32 = 24;

/// Which table, in which of its lives: a table that was taken out and put in elsewhere has another generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TableRef {
    pub(super) id: u32,
    pub(super) generation: u32,
}

/// The most tables that an address space can have: 2^24, 64 GiB of them.
pub(super) const MAX_TABLES: u32 = 1 << ID_BITS;

/// What an [`Entry`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decoded {
    None,
    /// One leaf for the whole run that the entry stands for.
    Leaf(SoftLeaf),
    Table(TableRef),
}

/// A word above the last level.
///
/// A leaf or nothing as a [`SoftLeaf`] is; a table as a word that no leaf can be: the bit of a direct leaf without any
/// generation. Its low 24 bits are the table's number, the next 24 its generation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry(u64);

impl Entry {
    pub(super) const NONE: Entry = Entry(SoftLeaf::NONE.bits());

    #[inline]
    pub(super) const fn from_bits(bits: u64) -> Entry {
        Entry(bits)
    }

    #[inline]
    pub(super) const fn bits(self) -> u64 {
        self.0
    }

    #[inline]
    pub(super) const fn leaf(leaf: SoftLeaf) -> Entry {
        Entry(leaf.bits())
    }

    #[inline]
    pub(super) const fn table(table: TableRef) -> Entry {
        let generation = table.generation as u64 & ((1 << GENERATION_BITS) - 1);
        Entry(leaf_bits::DIRECT | generation << ID_BITS | table.id as u64)
    }

    #[inline]
    pub(super) const fn decode(self) -> Decoded {
        if self.0 == SoftLeaf::NONE.bits() {
            Decoded::None
        } else if self.0 & (leaf_bits::DIRECT | leaf_bits::GENERATION) == leaf_bits::DIRECT {
            let generation = (self.0 >> ID_BITS & ((1 << GENERATION_BITS) - 1)) as u32;
            Decoded::Table(TableRef { id: (self.0 & (MAX_TABLES as u64 - 1)) as u32, generation })
        } else {
            Decoded::Leaf(SoftLeaf::from_bits(self.0))
        }
    }
}

const _: () = assert!(ID_BITS + GENERATION_BITS <= leaf_bits::GENERATION_SHIFT);
// A word with the direct bit and generation 0 is no leaf.
const _: () = assert!(!leaf_bits::is_generation(0));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::{Access, LeafKind, Pfn};

    #[test]
    fn no_word_of_a_table_is_a_leaf() {
        for id in (0..ID_BITS).map(|bit| 1 << bit).chain([0, MAX_TABLES - 1]) {
            for generation in (0..GENERATION_BITS).map(|bit| 1 << bit).chain([0, (1 << GENERATION_BITS) - 1]) {
                let table = TableRef { id, generation };
                let entry = Entry::table(table);
                assert_eq!(entry.decode(), Decoded::Table(table));
                assert_eq!(SoftLeaf::from_bits(entry.bits()).kind(), LeafKind::Unknown);
            }
        }
    }

    #[test]
    fn a_leaf_is_a_leaf() {
        assert_eq!(Entry::NONE.decode(), Decoded::None);
        let leaf = SoftLeaf::present(Pfn::new(77).unwrap(), Access::Write);
        assert_eq!(Entry::leaf(leaf).decode(), Decoded::Leaf(leaf));
    }
}
