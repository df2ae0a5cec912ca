//! What a benchmark says in the end: tables for people, JSON for `results/`.

#![forbid(unsafe_code)]

use std::fmt;
use std::fs;
use std::io;

use serde::Serialize;

use crate::machine::Machine;
use crate::ratio::Spread;

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
}

impl Wanted {
    /// Whether the median is what was wanted.
    pub fn is_met_by(self, spread: Spread) -> bool {
        match self {
            Self::AtMost(limit) => spread.median <= limit,
            Self::AtLeast(limit) => spread.median >= limit,
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(limit) => write!(f, "<= {limit}"),
            Self::AtLeast(limit) => write!(f, ">= {limit}"),
        }
    }
}

/// A contestant's line in a table.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// What was done.
    pub pattern: String,
    /// By whom.
    pub contestant: String,
    /// Nanoseconds an operation; none where the line compares others.
    pub nanos: Option<Spread>,
    /// Times the yardstick's time in the same round, or what the contestant's name says.
    pub ratio: Spread,
    /// What the ratio should be.
    pub wanted: Option<Wanted>,
    /// Whether it is.
    pub met: Option<bool>,
}

/// What something took that is compared with a yardstick of the same table.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// What it is.
    pub name: String,
    /// Nanoseconds.
    pub nanos: Spread,
    /// Times the yardstick's of the same round.
    pub ratio: Spread,
    /// What the ratio should be.
    pub wanted: Option<Wanted>,
    /// Whether it is.
    pub met: Option<bool>,
}

impl Compared {
    /// Judged by `wanted`, if there is anything.
    pub fn new(name: &str, nanos: Spread, ratio: Spread, wanted: Option<Wanted>) -> Self {
        Self { name: name.into(), nanos, ratio, wanted, met: wanted.map(|wanted| wanted.is_met_by(ratio)) }
    }

    /// What a line of a table ends in.
    pub fn verdict(&self) -> String {
        match (self.wanted, self.met) {
            (Some(wanted), Some(true)) => format!("{wanted}: yes"),
            (Some(wanted), _) => format!("{wanted}: MISSED"),
            _ => String::new(),
        }
    }
}

/// The lines that were measured together.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// What the table is about.
    pub title: String,
    /// Pages looked up among.
    pub nr_pages: usize,
    /// Rounds that each median is of.
    pub nr_rounds: usize,
    /// What was left out and why, and what the machine made of the advice.
    pub notes: Vec<String>,
    /// In the order of measurement.
    pub lines: Vec<Line>,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}; {} rounds, median (quartiles)", self.title, self.nr_rounds)?;
        for note in &self.notes {
            writeln!(f, "  note: {note}")?;
        }
        writeln!(f, "  {:<11}{:<34}{:>22}{:>22}  wanted", "pattern", "contestant", "ns", "x plain array")?;
        for line in &self.lines {
            let nanos = line.nanos.map_or(String::new(), |nanos| format!("{nanos:.2}"));
            write!(f, "  {:<11}{:<34}{nanos:>22}{:>22.2}", line.pattern, line.contestant, line.ratio)?;
            match (line.wanted, line.met) {
                (Some(wanted), Some(true)) => writeln!(f, "  {wanted}: yes")?,
                (Some(wanted), _) => writeln!(f, "  {wanted}: MISSED")?,
                (None, _) => writeln!(f)?,
            }
        }
        Ok(())
    }
}

/// A table of figures, some of which were promised.
pub trait Judged {
    /// For each promised figure, whether it is met.
    fn verdicts(&self) -> Vec<bool>;
}

impl Judged for Table {
    fn verdicts(&self) -> Vec<bool> {
        self.lines.iter().filter_map(|line| line.met).collect()
    }
}

/// A whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report<T> {
    /// Where and when.
    pub machine: Machine,
    /// The line that repeats it.
    pub command: String,
    /// All tables.
    pub tables: Vec<T>,
}

impl<T: Serialize> Report<T> {
    /// Writes it as JSON.
    pub fn write_json(&self, path: &str) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(self).map_err(io::Error::other)?;
        text.push('\n');
        fs::write(path, text)
    }
}

impl<T: fmt::Display + Judged> fmt::Display for Report<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}\ncommand  {}", self.machine, self.command)?;
        for table in &self.tables {
            write!(f, "{table}")?;
        }
        let verdicts: Vec<_> = self.tables.iter().flat_map(Judged::verdicts).collect();
        let met = verdicts.iter().filter(|met| **met).count();
        writeln!(f, "\n{met} of {} wanted figures are met", verdicts.len())
    }
}
