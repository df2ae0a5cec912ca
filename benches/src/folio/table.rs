//! What comes of a row: nanoseconds a pair, and times the yardstick on as many threads in the same round.

#![forbid(unsafe_code)]

use std::fmt;

use serde::Serialize;

use crate::alloc::table::Figure;
use crate::ratio::Spread;
use crate::report::Judged;

/// A contestant's line: for each number of threads, nanoseconds a pair, and that in the yardstick's.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// Who, and what it does.
    pub contestant: String,
    /// On one thread, then on more.
    pub runs: Vec<(Spread, Figure)>,
}

/// A row's lines.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// The row.
    pub row: String,
    /// Objects that all threads share.
    pub nr_objects: usize,
    /// Rounds that each median is of.
    pub nr_rounds: usize,
    /// How many threads each of the runs of a line had.
    pub nr_threads: Vec<usize>,
    /// The yardstick first.
    pub lines: Vec<Line>,
}

impl Judged for Table {
    fn verdicts(&self) -> Vec<bool> {
        self.lines.iter().flat_map(|line| &line.runs).filter_map(|(_, figure)| figure.met).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { row, nr_objects, nr_rounds, .. } = self;
        writeln!(f, "\n{row}: {nr_objects} object(s); ns a pair; {nr_rounds} rounds, median (quartiles)")?;
        write!(f, "  {:<28}", "contestant")?;
        for nr_threads in &self.nr_threads {
            write!(f, "{:>26}{:>20}", format!("{nr_threads} thread(s): ns"), "x the first")?;
        }
        writeln!(f)?;
        for line in &self.lines {
            write!(f, "  {:<28}", line.contestant)?;
            for (nanos, figure) in &line.runs {
                write!(f, "{nanos:>26.1}{:>20.2}", figure.is)?;
            }
            for (_, figure) in &line.runs {
                if let (Some(wanted), Some(met)) = (figure.wanted, figure.met) {
                    write!(f, "  {wanted}: {}", if met { "yes" } else { "MISSED" })?;
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
