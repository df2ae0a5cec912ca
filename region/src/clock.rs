//! The clock hand: which resident run goes next. Second chance by the leaf's young mark.
//! Does not evict, and does not count; see `evict` and `budget`.
//! Below: `table`. Above: `evict`.
//!
//! The mark is set when a run comes home and by every use that the pager sees. The accessor's
//! uses are all seen. With real faults the CPU's own accessed bit is not visible to a user-mode
//! pager, so there a run is young from its arrival until the hand first passes it, and the clock
//! is first-in first-out with one lap of grace.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::table::{LockedRun, Run, Table};

#[derive(Default)]
pub(crate) struct Clock {
    /// The next run to look at; wraps around the table. Shared, so that several hands at once
    /// look at different runs.
    hand: AtomicUsize,
}

impl Clock {
    /// Picks and locks a victim without ever waiting: safe while a page-table lock is held.
    ///
    /// `None` if two laps found none: every old resident run was locked by somebody else.
    pub(crate) fn try_pick<'t>(&self, table: &'t Table) -> Option<LockedRun<'t>> {
        for _ in 0..2 * table.nr_runs() {
            let run = self.advance(table);
            if !table.looks_present(run) {
                continue;
            }
            let Some(mut locked) = table.try_lock(run) else {
                continue;
            };
            let leaf = locked.leaf();
            if !locked.is_present() {
                continue;
            }
            if leaf.is_young() {
                locked.set_leaf(leaf.with_young(false));
                continue;
            }
            return Some(locked);
        }
        None
    }

    /// Picks a victim and waits for its lock. Only for a caller that holds no page-table lock.
    ///
    /// The lock's own queue does the waiting, so no release can be missed. `None` if no run is
    /// resident just now.
    pub(crate) fn wait_pick<'t>(&self, table: &'t Table) -> Option<LockedRun<'t>> {
        for _ in 0..table.nr_runs() {
            let run = self.advance(table);
            if table.looks_present(run) {
                let locked = table.lock(run);
                if locked.is_present() {
                    return Some(locked);
                }
            }
        }
        None
    }

    /// Adds the runs that follow the last victim, as long as each is old and free to lock, up to
    /// `limit` victims: adjacent runs leave by fewer system calls, and the hand was on its way there.
    pub(crate) fn extend<'t>(&self, table: &'t Table, victims: &mut Vec<LockedRun<'t>>, limit: usize) {
        while victims.len() < limit {
            let next = victims.last().map_or(0, |last| last.run().index() + 1);
            if next >= table.nr_runs() {
                return;
            }
            match table.try_lock(Run::new(next)) {
                Some(locked) if locked.is_present() && !locked.leaf().is_young() => victims.push(locked),
                _ => return,
            }
        }
    }

    fn advance(&self, table: &Table) -> Run {
        // Relaxed: a position, nothing is published by it.
        Run::new(self.hand.fetch_add(1, Relaxed) % table.nr_runs())
    }
}

#[cfg(test)]
mod tests {
    use farpage::{Access, Order, Pfn, SoftLeaf};

    use super::Clock;
    use crate::table::{Run, Table};

    /// Eight runs; those of `resident` are in RAM, and young if their flag says so.
    fn table(resident: &[(usize, bool)]) -> Table {
        let table = Table::new(8, Order::new(1).unwrap());
        for (run, young) in resident {
            let leaf = SoftLeaf::present(Pfn::new(2 * *run as u64).unwrap(), Access::Write);
            table.lock(Run::new(*run)).set_leaf(leaf.with_young(*young));
        }
        table
    }

    fn pick(clock: &Clock, table: &Table) -> Option<usize> {
        clock.try_pick(table).map(|victim| victim.run().index())
    }

    #[test]
    fn a_young_run_gets_a_second_chance_and_an_absent_one_is_no_victim() {
        let (clock, table) = (Clock::default(), table(&[(1, true), (4, false), (6, true)]));
        assert_eq!(pick(&clock, &table), Some(4));
        // The hand has taken the mark of 1, and takes that of 6 on its way.
        assert_eq!(pick(&clock, &table), Some(1));
        table.lock(Run::new(4)).mark_young();
        assert_eq!(pick(&clock, &table), Some(6));
    }

    #[test]
    fn a_locked_run_is_passed_over_and_nothing_waits() {
        let (clock, table) = (Clock::default(), table(&[(2, false), (5, false)]));
        let held = table.lock(Run::new(2));
        assert_eq!(pick(&clock, &table), Some(5));
        let other = table.lock(Run::new(5));
        assert_eq!(pick(&clock, &table), None);
        drop((held, other));
        assert!(clock.wait_pick(&table).is_some());
    }

    #[test]
    fn a_batch_is_of_adjacent_old_runs_and_ends_at_the_table() {
        let table = table(&[(2, false), (3, false), (4, true), (6, false), (7, false)]);
        let batch = |first, limit| {
            let mut victims = vec![table.try_lock(Run::new(first)).unwrap()];
            Clock::default().extend(&table, &mut victims, limit);
            victims.len()
        };
        assert_eq!((batch(2, 8), batch(2, 1), batch(6, 8)), (2, 1, 2));
    }
}
