//! [`Table`]: 512 words and their lock. [`Tables`]: all tables of one address space, by number.
//!
//! Type-stable: the memory of a table stays a table until the address space goes, so a reader without a lock can look
//! into one that was taken out of the tree, and notices afterwards. A table that is taken out is used again, for
//! whatever place needs one next, with another generation. What is *in* the tree is not known here; see `page_table`.
//!
//! Below: `entry`, `sync`. Above: `page_table`. Edges: [leaf].
#![forbid(unsafe_code)]

use std::sync::OnceLock;

use super::entry::{Entry, MAX_TABLES, TableRef};
use super::error::TableError;
use crate::geometry::{BLOCK_SHIFT, MODEL};
use crate::sync::{
    AtomicU64, Mutex, MutexGuard,
    Ordering::{Acquire, Relaxed, Release},
};
use crate::words::SoftLeaf;

/// log2 of the words of a table. What one word of the middle level stands for is what an order-9 folio has.
pub(super) const TABLE_SHIFT: u32 = BLOCK_SHIFT;
/// Words of a table.
pub(super) const ENTRIES: usize = 1 << TABLE_SHIFT;
/// Levels of the tree: 4 of 9 bits each, for 2^36 pages.
pub(super) const LEVELS: u32 = 4;

/// log2 of the tables of the first bucket; each further one has room for as many as all before it and one more.
const FIRST_BUCKET_SHIFT: u32 = if MODEL { 2 } else { 6 };
const BUCKETS: usize = (MAX_TABLES.ilog2() - FIRST_BUCKET_SHIFT) as usize + 1;

/// 512 words. Linux: a page-table page, with its `ptl`.
#[repr(align(64))]
pub(super) struct Table {
    /// The page-table lock: who changes a word holds it.
    lock: Mutex<Used>,
    words: [AtomicU64; ENTRIES],
}

/// What the lock of a table guards beside the words.
pub(super) struct Used {
    /// Words that are not nothing.
    nr: u32,
    /// How often the table was put into the tree.
    generation: u32,
}

impl Table {
    fn new() -> Table {
        Table {
            lock: Mutex::new(Used { nr: 0, generation: 0 }),
            words: core::array::from_fn(|_| AtomicU64::new(Entry::NONE.bits())),
        }
    }

    /// The word, without the lock. It may be changing, and the table may have left the tree.
    #[inline]
    pub(super) fn peek(&self, index: usize) -> Entry {
        // Acquire [leaf]: pairs with the Release in `set`. Whoever follows the word finds what it leads to; and whoever
        // then looks again whether the table is where it was is not told what was true before it read the word.
        Entry::from_bits(self.words[index].load(Acquire))
    }

    #[inline]
    pub(super) fn lock(&self) -> Locked<'_> {
        Locked { table: self, used: self.lock.lock() }
    }
}

/// A table whose lock is held: the only way to rely on its words or to change them.
pub(super) struct Locked<'t> {
    table: &'t Table,
    used: MutexGuard<'t, Used>,
}

impl<'t> Locked<'t> {
    #[inline]
    pub(super) fn table(&self) -> &'t Table {
        self.table
    }

    #[inline]
    pub(super) fn entry(&self, index: usize) -> Entry {
        // Relaxed: the lock ordered the last change.
        Entry::from_bits(self.table.words[index].load(Relaxed))
    }

    /// A word of the last level, or one that is known not to be a table.
    #[inline]
    pub(super) fn leaf(&self, index: usize) -> SoftLeaf {
        SoftLeaf::from_bits(self.entry(index).bits())
    }

    /// The leaves of a table of the last level, from `index` on.
    #[inline]
    pub(super) fn leaves(&self, index: usize) -> impl Iterator<Item = SoftLeaf> {
        // Relaxed: as in `entry`.
        self.table.words[index..].iter().map(|word| SoftLeaf::from_bits(word.load(Relaxed)))
    }

    #[inline]
    pub(super) fn set(&mut self, index: usize, entry: Entry) {
        let had = self.entry(index) != Entry::NONE;
        let has = entry != Entry::NONE;
        self.used.nr = self.used.nr + u32::from(has) - u32::from(had);
        // Release [leaf]: pairs with the Acquire in `peek`.
        self.table.words[index].store(entry.bits(), Release);
    }

    #[inline]
    pub(super) fn set_leaf(&mut self, index: usize, leaf: SoftLeaf) {
        self.set(index, Entry::leaf(leaf));
    }

    /// Sets a leaf where there is one.
    #[inline(always)]
    pub(super) fn replace_leaf(&mut self, index: usize, leaf: SoftLeaf) {
        debug_assert!(self.leaf(index) != SoftLeaf::NONE && leaf != SoftLeaf::NONE);
        // Release [leaf]: as in `set`.
        self.table.words[index].store(leaf.bits(), Release);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.used.nr == 0
    }

    /// Words that are not nothing.
    pub(super) fn nr_used(&self) -> u32 {
        self.used.nr
    }

    /// The next name of the table, for the tree to know it by.
    fn begin_life(&mut self, id: u32) -> TableRef {
        self.used.generation = self.used.generation.wrapping_add(1);
        TableRef { id, generation: self.used.generation }
    }
}

/// A row of places for tables, each made when it is first needed.
type Bucket = Box<[OnceLock<Box<[Table]>>]>;

/// All tables of an address space.
pub(super) struct Tables {
    /// Each is made once and never replaced. `OnceLock` and not a pointer of our own: nothing here is hot enough for more.
    buckets: [OnceLock<Bucket>; BUCKETS],
    pool: Mutex<Pool>,
}

#[derive(Default)]
struct Pool {
    /// Tables that were in the tree and are not.
    free: Vec<u32>,
    /// Tables from here on were never made.
    next: u32,
}

impl Tables {
    pub(super) fn new() -> Tables {
        Tables { buckets: core::array::from_fn(|_| OnceLock::new()), pool: Mutex::new(Pool::default()) }
    }

    /// A table without a number.
    pub(super) fn root() -> Result<Box<[Table]>, TableError> {
        boxed(core::iter::once_with(Table::new))
    }

    /// The table `id`. Two loads.
    #[inline]
    pub(super) fn get(&self, id: u32) -> &Table {
        let (bucket, index) = place(id);
        match self.buckets[bucket].get().and_then(|bucket| bucket[index].get()).and_then(|table| table.first()) {
            Some(table) => table,
            // A number leaves `take` only with its table made.
            None => unreachable!("table {id} was never made"),
        }
    }

    /// An empty table and its name in the tree.
    pub(super) fn take(&self) -> Result<(TableRef, &Table), TableError> {
        let mut pool = self.pool.lock();
        let id = match pool.free.pop() {
            Some(id) => id,
            None => {
                self.make(pool.next)?;
                pool.next += 1;
                pool.next - 1
            }
        };
        drop(pool);
        let table = self.get(id);
        Ok((table.lock().begin_life(id), table))
    }

    /// Gives a table back that is empty and no longer in the tree.
    pub(super) fn give(&self, id: u32) {
        // There is room: `make` saw to it.
        self.pool.lock().free.push(id);
    }

    /// How many tables are in the tree, and how many were made.
    pub(super) fn count(&self) -> (u32, u32) {
        let pool = self.pool.lock();
        (pool.next - pool.free.len() as u32, pool.next)
    }

    /// Makes table `id`, the next. The caller holds the pool, so nobody else makes it.
    fn make(&self, id: u32) -> Result<(), TableError> {
        if id == MAX_TABLES {
            return Err(TableError::TooManyTables { limit: MAX_TABLES });
        }
        let (bucket, index) = place(id);
        let places = match self.buckets[bucket].get() {
            Some(places) => places,
            None => {
                let fresh = boxed((0..1usize << (FIRST_BUCKET_SHIFT as usize + bucket)).map(|_| OnceLock::new()))?;
                self.buckets[bucket].get_or_init(|| fresh)
            }
        };
        // A row of one, since only rows can be had without aborting when memory is short.
        let table = boxed(core::iter::once_with(Table::new))?;
        places[index].get_or_init(|| table);
        Ok(())
    }
}

fn boxed<T>(elements: impl ExactSizeIterator<Item = T>) -> Result<Box<[T]>, TableError> {
    let mut vec = Vec::new();
    vec.try_reserve_exact(elements.len()).map_err(|_| TableError::NoMemory)?;
    vec.extend(elements);
    Ok(vec.into_boxed_slice())
}

/// Bucket and place in it of table `id`.
#[inline]
fn place(id: u32) -> (usize, usize) {
    // Biased so that the highest bit tells the bucket, and the others the place.
    let biased = id as u64 + (1 << FIRST_BUCKET_SHIFT);
    let bucket = biased.ilog2() - FIRST_BUCKET_SHIFT;
    (bucket as usize, (biased & !(1 << (FIRST_BUCKET_SHIFT + bucket))) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_a_place_of_its_own() {
        let mut expected = (0, 0);
        for id in 0..5000 {
            assert_eq!(place(id), expected, "table {id}");
            expected.1 += 1;
            if expected.1 == 1 << (FIRST_BUCKET_SHIFT as usize + expected.0) {
                expected = (expected.0 + 1, 0);
            }
        }
        assert!(place(MAX_TABLES - 1).0 < BUCKETS);
    }

    #[test]
    fn a_table_comes_back_under_another_name() {
        let tables = Tables::new();
        let (first, table) = tables.take().unwrap();
        table.lock().set_leaf(3, SoftLeaf::from_bits(9));
        assert!(!table.lock().is_empty());
        table.lock().set(3, Entry::NONE);
        assert!(table.lock().is_empty());
        tables.give(first.id);
        let (second, _) = tables.take().unwrap();
        assert_eq!((first.id, tables.count()), (second.id, (1, 1)));
        assert_ne!(first.generation, second.generation);
        let (third, _) = tables.take().unwrap();
        assert_ne!(third.id, second.id);
    }
}
