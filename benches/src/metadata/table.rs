//! Base and huge pages side by side.

#![forbid(unsafe_code)]

use std::fmt;

use serde::Serialize;

use crate::ratio::Spread;
use crate::report::Judged;

/// One thing that was done, under base and under huge pages.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// What.
    pub what: String,
    /// Under base pages, in the table's unit.
    pub base: Spread,
    /// Under huge pages.
    pub huge: Spread,
    /// How many times as long it takes (or as much it is) under base pages, in the same round.
    pub base_to_huge: Spread,
    /// How many times as long as the table's yardstick it takes, under base and under huge pages.
    pub to_yardstick: Option<[Spread; 2]>,
}

/// Lines of one unit.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// What the table is about.
    pub title: String,
    /// What the figures count: `ns a page`.
    pub unit: String,
    /// What the last column compares with; empty if it is empty.
    pub yardstick: String,
    /// Rounds that each median is of.
    pub nr_rounds: usize,
    /// In the order of measurement.
    pub lines: Vec<Line>,
}

/// Nothing is promised of these figures but that they are what the default was chosen by.
impl Judged for Table {
    fn verdicts(&self) -> Vec<bool> {
        Vec::new()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}; {} rounds, median (quartiles), {}", self.title, self.nr_rounds, self.unit)?;
        write!(f, "  {:<38}{:>24}{:>24}{:>20}", "", "base pages", "huge pages", "base / huge")?;
        writeln!(f, "{:>48}", self.yardstick)?;
        for Line { what, base, huge, base_to_huge, to_yardstick } in &self.lines {
            write!(f, "  {what:<38}{base:>24.2}{huge:>24.2}{base_to_huge:>20.2}")?;
            match to_yardstick {
                Some([base, huge]) => writeln!(f, "{base:>24.2}{huge:>24.2}")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}
