//! The clock hand: which resident run goes next. Second chance by the run's young mark.
//! Does not evict, and does not count; see `evict` and `budget`.
//! Below: `runs`. Above: `evict`.
//!
//! The mark is set when a run comes home and by every use that the pager sees. The accessor's
//! uses are all seen. With real faults the CPU's own accessed bit is not visible to a user-mode
//! pager, so there a run is young from its arrival until the hand first passes it, and the clock
//! is first-in first-out with one lap of grace.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::runs::{LockedRun, Mark, Run, Runs};

#[derive(Default)]
pub(crate) struct Clock {
    /// The next run to look at; wraps around the runs. Shared, so that several hands at once
    /// look at different runs.
    hand: AtomicUsize,
}

impl Clock {
    /// Picks and locks a victim without ever waiting: safe while a run's lock is held.
    ///
    /// `None` if two laps found none: every old resident run was locked by somebody else.
    pub(crate) fn try_pick<'t>(&self, runs: &'t Runs) -> Option<LockedRun<'t>> {
        for _ in 0..2 * runs.nr_runs() {
            let run = self.advance(runs);
            if !runs.looks_resident(run) {
                continue;
            }
            let Some(mut locked) = runs.try_lock(run) else {
                continue;
            };
            if !locked.is_resident() {
                continue;
            }
            if locked.is_young() {
                locked.mark(Mark::Old);
                continue;
            }
            return Some(locked);
        }
        None
    }

    /// Picks a victim and waits for its lock. Only for a caller that holds no run's lock.
    ///
    /// The lock's own queue does the waiting, so no release can be missed. `None` if no run is
    /// resident just now.
    pub(crate) fn wait_pick<'t>(&self, runs: &'t Runs) -> Option<LockedRun<'t>> {
        for _ in 0..runs.nr_runs() {
            let run = self.advance(runs);
            if runs.looks_resident(run) {
                let locked = runs.lock(run);
                if locked.is_resident() {
                    return Some(locked);
                }
            }
        }
        None
    }

    /// Adds the runs that follow the last victim, as long as each is old and free to lock, up to
    /// `limit` victims: adjacent runs leave by fewer system calls, and the hand was on its way there.
    pub(crate) fn extend<'t>(&self, runs: &'t Runs, victims: &mut Vec<LockedRun<'t>>, limit: usize) {
        while victims.len() < limit {
            let next = victims.last().map_or(0, |last| last.run().index() + 1);
            if next >= runs.nr_runs() {
                return;
            }
            match runs.try_lock(Run::new(next)) {
                Some(locked) if locked.is_resident() && !locked.is_young() => victims.push(locked),
                _ => return,
            }
        }
    }

    fn advance(&self, runs: &Runs) -> Run {
        // Relaxed: a position, nothing is published by it.
        Run::new(self.hand.fetch_add(1, Relaxed) % runs.nr_runs())
    }
}

#[cfg(test)]
mod tests {
    use farpage::Order;

    use super::Clock;
    use crate::runs::{Mark, Run, Runs};

    /// Eight runs; those of `resident` are in RAM, and young if their flag says so.
    fn runs(resident: &[(usize, bool)]) -> Runs {
        let runs = Runs::new(8, Order::new(1).unwrap());
        for (run, young) in resident {
            runs.lock(Run::new(*run)).mark(if *young { Mark::Young } else { Mark::Old });
        }
        runs
    }

    fn pick(clock: &Clock, runs: &Runs) -> Option<usize> {
        clock.try_pick(runs).map(|victim| victim.run().index())
    }

    #[test]
    fn a_young_run_gets_a_second_chance_and_an_absent_one_is_no_victim() {
        let (clock, runs) = (Clock::default(), runs(&[(1, true), (4, false), (6, true)]));
        assert_eq!(pick(&clock, &runs), Some(4));
        // The hand has taken the mark of 1, and takes that of 6 on its way.
        assert_eq!(pick(&clock, &runs), Some(1));
        runs.lock(Run::new(4)).mark_young();
        assert_eq!(pick(&clock, &runs), Some(6));
    }

    #[test]
    fn a_locked_run_is_passed_over_and_nothing_waits() {
        let (clock, runs) = (Clock::default(), runs(&[(2, false), (5, false)]));
        let held = runs.lock(Run::new(2));
        assert_eq!(pick(&clock, &runs), Some(5));
        let other = runs.lock(Run::new(5));
        assert_eq!(pick(&clock, &runs), None);
        drop((held, other));
        assert!(clock.wait_pick(&runs).is_some());
    }

    #[test]
    fn a_batch_is_of_adjacent_old_runs_and_ends_at_the_end() {
        let runs = runs(&[(2, false), (3, false), (4, true), (6, false), (7, false)]);
        let batch = |first, limit| {
            let mut victims = vec![runs.try_lock(Run::new(first)).unwrap()];
            Clock::default().extend(&runs, &mut victims, limit);
            victims.len()
        };
        assert_eq!((batch(2, 8), batch(2, 1), batch(6, 8)), (2, 1, 2));
    }
}
