//! The runs of a region: a lock each, and what the clock knows of them.
//! Where their bytes are is not known here; the address space's page table says.
//! Below: nothing. Above: `clock`, `fault`, `evict`, `mapping` (for the proof that a lock is held).
//!
//! A **run** is `2^order` pages, aligned: what moves as one. Whoever brings it home or sends it away has its lock, from before the
//! page table is asked until the real pages are as the table says. That is the whole protocol between the two.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

use farpage::Order;
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

/// What the clock knows of a run: whether it may be sent away, and whether it was used since the hand passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mark {
    /// Not resident, so no victim.
    Away,
    Old,
    Young,
}

pub(crate) struct Runs {
    marks: Box<[AtomicU8]>,
    /// A lock a run is what one-byte mutexes allow, and it means that two faults only ever meet when they want the same bytes.
    locks: Box<[Mutex<()>]>,
    order: Order,
}

/// A run whose lock is held: the only way to rely on its mark or to change it.
pub(crate) struct LockedRun<'t> {
    runs: &'t Runs,
    run: Run,
    _lock: MutexGuard<'t, ()>,
}

impl Runs {
    /// None is resident.
    pub(crate) fn new(nr_runs: usize, order: Order) -> Runs {
        Runs {
            marks: (0..nr_runs).map(|_| AtomicU8::new(Mark::Away as u8)).collect(),
            locks: (0..nr_runs).map(|_| Mutex::new(())).collect(),
            order,
        }
    }

    pub(crate) fn nr_runs(&self) -> usize {
        self.locks.len()
    }

    pub(crate) fn order(&self) -> Order {
        self.order
    }

    /// Pages in a run.
    pub(crate) fn run_pages(&self) -> u64 {
        self.order.nr_pages()
    }

    /// Waits for the run's lock. Only for a caller that holds no other one.
    pub(crate) fn lock(&self, run: Run) -> LockedRun<'_> {
        LockedRun { runs: self, run, _lock: self.locks[run.0].lock() }
    }

    /// Takes the run's lock if nobody has it.
    pub(crate) fn try_lock(&self, run: Run) -> Option<LockedRun<'_>> {
        let lock = self.locks[run.0].try_lock()?;
        Some(LockedRun { runs: self, run, _lock: lock })
    }

    /// Whether the run looks resident: a hint, good for choosing whom to lock.
    pub(crate) fn looks_resident(&self, run: Run) -> bool {
        self.load(run) != Mark::Away as u8
    }

    fn load(&self, run: Run) -> u8 {
        // Relaxed: the lock orders what relies on the mark; without it the mark is only a hint.
        self.marks[run.0].load(Relaxed)
    }
}

impl LockedRun<'_> {
    pub(crate) fn run(&self) -> Run {
        self.run
    }

    /// Whether its bytes are at its own addresses, all of them, and writable.
    pub(crate) fn is_resident(&self) -> bool {
        self.runs.looks_resident(self.run)
    }

    pub(crate) fn is_young(&self) -> bool {
        self.runs.load(self.run) == Mark::Young as u8
    }

    /// Gives a resident run another lap of the clock.
    pub(crate) fn mark_young(&mut self) {
        if !self.is_young() {
            self.mark(Mark::Young);
        }
    }

    pub(crate) fn mark(&mut self, mark: Mark) {
        // Relaxed: the lock's release publishes it.
        self.runs.marks[self.run.0].store(mark as u8, Relaxed);
    }
}
