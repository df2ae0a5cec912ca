//! Shares of free memory in wholly free blocks, side by side with the oracle's.

#![forbid(unsafe_code)]

use std::fmt;

use serde::Serialize;

use crate::report::Judged;

/// How many points farpage may be below the oracle.
pub const POINTS: f64 = 10.0;

/// What is left at the end of the operations.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Left {
    /// Pages that are free.
    pub free_pages: u64,
    /// Pages of them in wholly free blocks of 2 MiB.
    pub whole_pages: u64,
    /// Requests for which there was no run.
    pub failures: u64,
    /// Nanoseconds an operation, of all threads together. One run; not to be compared.
    pub nanos: f64,
}

impl Left {
    /// The share in whole blocks, in hundredths.
    pub fn percent(&self) -> f64 {
        100.0 * self.whole_pages as f64 / self.free_pages as f64
    }
}

/// A case: a mix, a mark, a number of threads.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// The mix of orders.
    pub mix: String,
    /// The mark, in hundredths of the device.
    pub full: u32,
    /// How many threads; the oracle takes their operations in turn.
    pub nr_threads: usize,
    /// On farpage.
    pub ours: Left,
    /// On the best fit.
    pub oracle: Left,
    /// Points more than the oracle's share.
    pub points: f64,
    /// Whether that is enough; of a tiny run, nothing is said.
    pub met: Option<bool>,
}

/// All cases.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// Pages of the device.
    pub device_pages: u32,
    /// Operations of a case, after the device was filled.
    pub operations: u64,
    /// In the order of the run.
    pub lines: Vec<Line>,
}

impl Judged for Table {
    fn verdicts(&self) -> Vec<bool> {
        self.lines.iter().filter_map(|line| line.met).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device_pages, operations, lines } = self;
        writeln!(f, "\nfree memory in wholly free 2 MiB blocks; {operations} operations on {device_pages} pages")?;
        writeln!(
            f,
            "  {:<22}{:>7}{:>9}{:>11}{:>11}{:>9}{:>16}  wanted",
            "mix of orders", "full", "threads", "farpage", "best fit", "points", "failures"
        )?;
        lines.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let full = format!("{} %", self.full);
        let shares = [self.ours, self.oracle].map(|left| format!("{:.1} %", left.percent()));
        let failures = format!("{} / {}", self.ours.failures, self.oracle.failures);
        write!(f, "{:<22}{full:>7}{:>9}{:>11}{:>11}", self.mix, self.nr_threads, shares[0], shares[1])?;
        write!(f, "{:>+9.1}{failures:>16}", self.points)?;
        match self.met {
            Some(met) => write!(f, "  >= -{POINTS}: {}", if met { "yes" } else { "MISSED" }),
            None => Ok(()),
        }
    }
}
