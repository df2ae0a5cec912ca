//! What comes of a row: its contestants on one thread and on two, for people and as JSON.

#![forbid(unsafe_code)]

use std::fmt;

use serde::Serialize;

use super::runner::Tally;
use crate::ratio::Spread;
use crate::report::{Judged, Wanted};

/// A figure with what it should be.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Figure {
    /// Measured.
    pub is: Spread,
    /// Promised.
    pub wanted: Option<Wanted>,
    /// Kept.
    pub met: Option<bool>,
}

impl Figure {
    /// A figure that may have been promised.
    pub fn new(is: Spread, wanted: Option<Wanted>) -> Self {
        Self { is, wanted, met: wanted.map(|wanted| wanted.is_met_by(is)) }
    }
}

/// A contestant on so many threads.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Run {
    /// How many.
    pub nr_threads: usize,
    /// Nanoseconds a step, of each thread.
    pub nanos: Spread,
    /// The same in read-modify-writes of one thread alone, in the same round.
    pub ratio: Figure,
    /// Requests, where they may fail.
    pub tally: Tally,
    /// Whether none failed, where none may.
    pub never_failed: Option<bool>,
}

/// A contestant's line.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// Who.
    pub contestant: String,
    /// On one thread, then on more.
    pub runs: Vec<Run>,
    /// What a step takes with the most threads, in what it takes alone.
    pub quotient: Figure,
}

/// A row's lines.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// The row.
    pub row: String,
    /// What a step is.
    pub step: String,
    /// Pages of the device.
    pub device_pages: u32,
    /// Rounds that each median is of.
    pub nr_rounds: usize,
    /// The yardstick first.
    pub lines: Vec<Line>,
}

impl Judged for Table {
    fn verdicts(&self) -> Vec<bool> {
        let of = |line: &Line| {
            let runs = line.runs.iter().flat_map(|run| [run.ratio.met, run.never_failed]);
            runs.chain([line.quotient.met]).flatten().collect::<Vec<_>>()
        };
        self.lines.iter().flat_map(of).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}: ns {}; {} rounds, median (quartiles)", self.row, self.step, self.nr_rounds)?;
        write!(f, "  {:<28}", "contestant")?;
        for run in self.lines.first().map_or(&[][..], |line| &line.runs) {
            write!(f, "{:>26}{:>24}", format!("{} thread(s): ns", run.nr_threads), "x rmw")?;
        }
        writeln!(f, "{:>22}", "most / 1 thread")?;
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {:<28}", self.contestant)?;
        for run in &self.runs {
            write!(f, "{:>26.1}{:>24.2}", run.nanos, run.ratio.is)?;
        }
        write!(f, "{:>22.2}", self.quotient.is)?;
        for (figure, of) in self.runs.iter().map(|run| (run.ratio, "x rmw")).chain([(self.quotient, "quotient")]) {
            if let (Some(wanted), Some(met)) = (figure.wanted, figure.met) {
                write!(f, "  {of} {wanted}: {}", yes(met))?;
            }
        }
        let mixed = self.runs.iter().filter(|run| run.tally.requests > 0);
        let shares = mixed.map(|run| 100.0 * run.tally.failures as f64 / run.tally.requests as f64);
        let shares: Vec<_> = shares.map(|share| format!("{share:.3} %")).collect();
        if !shares.is_empty() {
            write!(f, "  fails {}", shares.join(" / "))?;
        }
        if self.runs.iter().any(|run| run.never_failed.is_some()) {
            let met = self.runs.iter().all(|run| run.never_failed != Some(false));
            write!(f, ", wanted 0: {}", yes(met))?;
        }
        Ok(())
    }
}

fn yes(met: bool) -> &'static str {
    if met { "yes" } else { "MISSED" }
}
