//! What farpage promises of the counts, and which rows break it.

use crate::row::Row;
use crate::stage::DEVICE_PAGES;
use crate::workloads::Kind;

/// With so many threads the figures must have become flat.
pub const FLAT_FROM: usize = 16;
/// With so many threads the figures must hold.
pub const AT: usize = 256;

/// Remote writes of a private operation at [`AT`] threads, at most.
const REMOTE_WRITES: f64 = 0.05;
/// From [`FLAT_FROM`] on they grow no more than by this factor,
const GROWTH: f64 = 1.5;
/// and this term, as one line more or less is no growth.
const SLACK: f64 = 0.01;
/// Pages in caches at [`AT`] threads, at most: 1 % of the device.
const CACHED_PAGES: u64 = DEVICE_PAGES / 100;

/// What the rows break, a clause each.
pub fn broken(rows: &[Row]) -> Vec<String> {
    rows.iter().flat_map(|row| broken_by(row, rows)).collect()
}

fn broken_by(row: &Row, rows: &[Row]) -> Vec<String> {
    let mut broken = Vec::new();
    let mut breaks = |what: String| broken.push(format!("{}, {} threads: {what}", row.workload, row.threads));
    match row.kind {
        Kind::Lookup if row.writes > 0.0 => breaks(format!("{:.3} writes an operation, not 0", row.writes)),
        Kind::Private => {
            if row.threads >= AT && row.remote_writes > REMOTE_WRITES {
                breaks(format!("{:.3} remote writes an operation, more than {REMOTE_WRITES}", row.remote_writes));
            }
            let flat = rows.iter().find(|other| other.workload == row.workload && other.threads == FLAT_FROM);
            if let Some(flat) = flat.filter(|flat| row.threads > flat.threads) {
                let most = flat.remote_writes * GROWTH + SLACK;
                if row.remote_writes > most {
                    breaks(format!(
                        "{:.3} remote writes an operation, {:.3} with {FLAT_FROM} threads: they grow",
                        row.remote_writes, flat.remote_writes
                    ));
                }
            }
        }
        _ => {}
    }
    if row.threads >= AT && row.cached_pages > CACHED_PAGES {
        breaks(format!("{} pages in caches, more than {CACHED_PAGES}", row.cached_pages));
    }
    broken
}
