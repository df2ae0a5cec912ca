//! Time and memory of a registration, and pairs a second, side by side.

#![forbid(unsafe_code)]

use std::fmt;

use serde::Serialize;

use crate::ratio::Spread;
use crate::report::{Judged, Wanted};

/// Registrations of one size by one contestant.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// Who.
    pub contestant: String,
    /// Pages of the device.
    pub nr_pages: u64,
    /// How long one takes.
    pub micros: Spread,
    /// KiB that become resident with it.
    pub resident_kib: Spread,
    /// What the time should be.
    pub wanted_micros: Option<Wanted>,
    /// What the memory should be.
    pub wanted_kib: Option<Wanted>,
}

/// Pairs of registration and unregistration.
#[derive(Clone, Debug, Serialize)]
pub struct Pairs {
    /// Pages of each device, and what happens to it.
    pub what: String,
    /// Threads, each with devices of its own.
    pub nr_threads: usize,
    /// Of all threads together.
    pub per_second: Spread,
}

/// All that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// Rounds that each median is of.
    pub nr_rounds: usize,
    /// Single registrations.
    pub lines: Vec<Line>,
    /// Many, one after the other.
    pub pairs: Vec<Pairs>,
}

impl Line {
    fn verdicts(&self) -> [Option<bool>; 2] {
        [(self.wanted_micros, self.micros), (self.wanted_kib, self.resident_kib)]
            .map(|(wanted, spread)| wanted.map(|wanted| wanted.is_met_by(spread)))
    }
}

impl Judged for Table {
    fn verdicts(&self) -> Vec<bool> {
        self.lines.iter().flat_map(Line::verdicts).flatten().collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nregistering a device; {} rounds, median (quartiles)", self.nr_rounds)?;
        writeln!(f, "  {:<9}{:<33}{:>32}{:>32}  wanted", "device", "contestant", "microseconds", "KiB resident")?;
        for line in &self.lines {
            let Line { contestant, micros, resident_kib, .. } = line;
            let size = size(line.nr_pages);
            write!(f, "  {size:<9}{contestant:<33}{micros:>32.1}{resident_kib:>32.0}")?;
            for (wanted, met) in [line.wanted_micros, line.wanted_kib].iter().zip(line.verdicts()) {
                if let (Some(wanted), Some(met)) = (wanted, met) {
                    write!(f, "  {wanted}: {}", if met { "yes" } else { "MISSED" })?;
                }
            }
            writeln!(f)?;
        }
        writeln!(f, "\nregistered and unregistered again, pairs a second")?;
        writeln!(f, "  {:<42}{:>9}{:>34}", "device", "threads", "pairs a second")?;
        for Pairs { what, nr_threads, per_second } in &self.pairs {
            writeln!(f, "  {what:<42}{nr_threads:>9}{per_second:>34.0}")?;
        }
        Ok(())
    }
}

/// `16 GiB` of 4 KiB pages.
pub fn size(nr_pages: u64) -> String {
    let kib = nr_pages * 4;
    match kib {
        _ if kib.is_multiple_of(1 << 30) => format!("{} TiB", kib >> 30),
        _ if kib.is_multiple_of(1 << 20) => format!("{} GiB", kib >> 20),
        _ if kib.is_multiple_of(1 << 10) => format!("{} MiB", kib >> 10),
        _ => format!("{kib} KiB"),
    }
}
