//! The region's page table: a leaf word a page, a lock a run.
//! What a word points at is not known here, nor whether the page's bytes are in RAM: the word
//! *says* so, and `fault` and `evict` make it true before they let go of the lock.
//! Below: the words. Above: `clock`, `fault`, `evict`.
//!
//! A **run** is `2^order` pages, aligned: what moves as one. Its head's slot holds the leaf and
//! its tails' slots hold nothing, as with a folio mapped by one entry a level up.
//!
//! | a head's slot   | the run is                  | its bytes are                             |
//! |-----------------|-----------------------------|-------------------------------------------|
//! | `NONE`          | never touched               | zeros                                     |
//! | present(index)  | resident                    | at its own addresses; `young` if used     |
//! | device-private  | away                        | in the device, kept by the leaf's folio   |
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use farpage::{LeafKind, Order, SoftLeaf};
use parking_lot::{Mutex, MutexGuard};

/// A run's number in its region: counted in runs, never pages or bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run(usize);

impl Run {
    pub(crate) fn new(index: usize) -> Run {
        Run(index)
    }

    pub(crate) fn index(self) -> usize {
        self.0
    }
}

pub(crate) struct Table {
    leaves: Box<[AtomicU64]>,
    /// The page-table locks. A lock a run is what one-byte mutexes allow, and it means that two
    /// faults only ever meet when they want the same bytes.
    locks: Box<[Mutex<()>]>,
    order: Order,
}

/// A run whose page-table lock is held: the only way to rely on its leaf or to change it.
pub(crate) struct LockedRun<'t> {
    table: &'t Table,
    run: Run,
    _lock: MutexGuard<'t, ()>,
}

impl Table {
    pub(crate) fn new(nr_runs: usize, order: Order) -> Table {
        let nr_pages = nr_runs << order.get();
        Table {
            leaves: (0..nr_pages).map(|_| AtomicU64::new(SoftLeaf::NONE.bits())).collect(),
            locks: (0..nr_runs).map(|_| Mutex::new(())).collect(),
            order,
        }
    }

    pub(crate) fn nr_runs(&self) -> usize {
        self.locks.len()
    }

    /// Pages in a run.
    pub(crate) fn run_pages(&self) -> u64 {
        self.order.nr_pages()
    }

    /// The number of a run's head page in the region.
    pub(crate) fn head_page(&self, run: Run) -> usize {
        run.0 << self.order.get()
    }

    /// Waits for the run's page-table lock. Only for a caller that holds no other one.
    pub(crate) fn lock(&self, run: Run) -> LockedRun<'_> {
        LockedRun { table: self, run, _lock: self.locks[run.0].lock() }
    }

    /// Takes the run's page-table lock if nobody has it.
    pub(crate) fn try_lock(&self, run: Run) -> Option<LockedRun<'_>> {
        let lock = self.locks[run.0].try_lock()?;
        Some(LockedRun { table: self, run, _lock: lock })
    }

    /// Whether the run looks resident: a hint, good for choosing whom to lock.
    pub(crate) fn looks_present(&self, run: Run) -> bool {
        matches!(self.load(run).kind(), LeafKind::Present(_))
    }

    fn load(&self, run: Run) -> SoftLeaf {
        // Relaxed: the lock orders what relies on the leaf; without it the leaf is only a hint.
        SoftLeaf::from_bits(self.leaves[self.head_page(run)].load(Relaxed))
    }
}

impl LockedRun<'_> {
    pub(crate) fn run(&self) -> Run {
        self.run
    }

    pub(crate) fn leaf(&self) -> SoftLeaf {
        self.table.load(self.run)
    }

    pub(crate) fn is_present(&self) -> bool {
        self.table.looks_present(self.run)
    }

    /// Gives a resident run another lap of the clock.
    pub(crate) fn mark_young(&mut self) {
        let leaf = self.leaf();
        if !leaf.is_young() {
            self.set_leaf(leaf.with_young(true));
        }
    }

    pub(crate) fn set_leaf(&mut self, leaf: SoftLeaf) {
        // Relaxed: the lock's release publishes it.
        self.table.leaves[self.table.head_page(self.run)].store(leaf.bits(), Relaxed);
    }
}
