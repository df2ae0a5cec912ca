//! What the demo says it did: one flat structure, which `--json` prints as it is.
//! Keys keep their name and unit; new ones may be added.

use std::time::Duration;

use farpage_region::{Mode, PAGE_BYTES, Stats};
use serde::Serialize;

use crate::job::{Difference, End, PlainTimes};
use crate::progress::{Phase, PhaseTime};

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The meaning of the keys: 1. A key that changes its meaning changes this.
    pub(crate) schema: u32,
    /// `equal`, `different` or `interrupted`.
    pub(crate) outcome: &'static str,
    /// The phase that was interrupted.
    pub(crate) interrupted_in: Option<&'static str>,
    pub(crate) difference: Option<DifferenceReport>,
    /// `faults` or `software`.
    pub(crate) mode: &'static str,
    /// Why there were no real faults although they were asked for.
    pub(crate) faults_refused: Option<String>,

    pub(crate) input_bytes: u64,
    pub(crate) size_bytes: u64,
    pub(crate) budget_bytes: u64,
    pub(crate) order: u8,
    pub(crate) run_bytes: u64,
    pub(crate) threads: usize,
    pub(crate) handlers: usize,

    pub(crate) faults: u64,
    pub(crate) faults_per_second: f64,
    pub(crate) spurious_faults: u64,
    pub(crate) fault_latency_p50_ns: u64,
    pub(crate) fault_latency_p99_ns: u64,
    pub(crate) fault_latency_max_ns: u64,
    pub(crate) evictions: u64,
    pub(crate) lookups: u64,
    pub(crate) zero_filled_pages: u64,
    pub(crate) pages_to_device: u64,
    pub(crate) pages_home: u64,
    pub(crate) moved_bytes_per_second: f64,

    pub(crate) budget_pages: u64,
    pub(crate) peak_resident_pages: u64,
    pub(crate) pages_in_use_at_end: u64,
    pub(crate) metadata_bytes_peak: u64,
    pub(crate) metadata_bytes_end: u64,

    /// The region's life, the plain copy's sort included.
    pub(crate) wall_seconds: f64,
    /// Bytes that the phases went over, by the time they took; the sort counts its bytes once.
    pub(crate) throughput_bytes_per_second: f64,
    pub(crate) phases: Vec<PhaseReport>,
}

#[derive(Debug, Serialize)]
pub(crate) struct PhaseReport {
    pub(crate) name: &'static str,
    pub(crate) seconds: f64,
    pub(crate) bytes: u64,
    pub(crate) bytes_per_second: f64,
    pub(crate) faults: u64,
    /// The same work in plain memory.
    pub(crate) plain_seconds: Option<f64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct DifferenceReport {
    pub(crate) phase: &'static str,
    pub(crate) chunk: usize,
    pub(crate) start_byte: usize,
    pub(crate) end_byte: usize,
    pub(crate) region_hash: String,
    pub(crate) plain_hash: String,
}

/// What was asked for, in the end: defaults filled in, sizes rounded.
pub(crate) struct Asked {
    pub(crate) input_bytes: u64,
    pub(crate) size_bytes: u64,
    pub(crate) budget_bytes: u64,
    pub(crate) order: u8,
    pub(crate) threads: usize,
    pub(crate) faults_refused: Option<String>,
}

impl Report {
    pub(crate) fn new(asked: Asked, end: &End, stats: &Stats, phases: &[PhaseTime], plain: &PlainTimes) -> Report {
        let phases: Vec<PhaseReport> = phases
            .iter()
            .filter(|time| time.phase != Phase::Plain)
            .map(|time| PhaseReport {
                name: time.phase.name(),
                seconds: time.seconds,
                bytes: time.bytes,
                bytes_per_second: rate(time.bytes, time.seconds),
                faults: time.faults,
                plain_seconds: match time.phase {
                    Phase::Hash | Phase::Check => plain.hash,
                    Phase::Sort => plain.sort,
                    Phase::Load | Phase::Plain => None,
                }
                .map(|time| time.as_secs_f64()),
            })
            .collect();
        let worked_bytes = phases.iter().map(|phase| phase.bytes).sum();
        let busy: f64 = phases.iter().map(|phase| phase.seconds).sum();
        let counters = stats.counters;
        let moved = (counters.pages_to_device + counters.pages_home) * PAGE_BYTES;
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Report {
            schema: 1,
            outcome: match end {
                End::Equal => "equal",
                End::Different(_) => "different",
                End::Stopped(_) => "interrupted",
            },
            interrupted_in: match end {
                End::Stopped(phase) => Some(phase.name()),
                _ => None,
            },
            difference: match end {
                End::Different(difference) => Some(difference.into()),
                _ => None,
            },
            mode: match stats.mode {
                Mode::Faults => "faults",
                Mode::Software => "software",
            },
            faults_refused: asked.faults_refused,
            input_bytes: asked.input_bytes,
            size_bytes: asked.size_bytes,
            budget_bytes: asked.budget_bytes,
            order: asked.order,
            run_bytes: PAGE_BYTES << asked.order,
            threads: asked.threads,
            handlers: match stats.mode {
                Mode::Faults => asked.threads,
                Mode::Software => 0,
            },
            faults: counters.faults,
            faults_per_second: counters.faults as f64 / busy.max(1e-9),
            spurious_faults: counters.spurious_faults,
            fault_latency_p50_ns: nanos(stats.latency.p50),
            fault_latency_p99_ns: nanos(stats.latency.p99),
            fault_latency_max_ns: nanos(stats.latency.max),
            evictions: counters.evictions,
            lookups: counters.lookups,
            zero_filled_pages: counters.zero_filled_pages,
            pages_to_device: counters.pages_to_device,
            pages_home: counters.pages_home,
            moved_bytes_per_second: rate(moved, busy),
            budget_pages: stats.budget_pages,
            peak_resident_pages: stats.peak_resident_pages,
            pages_in_use_at_end: stats.live_pages_at_end,
            metadata_bytes_peak: stats.metadata_bytes_peak,
            metadata_bytes_end: stats.metadata_bytes_end,
            wall_seconds: stats.wall.as_secs_f64(),
            throughput_bytes_per_second: rate(worked_bytes, busy),
            phases,
        }
    }
}

impl From<&Difference> for DifferenceReport {
    fn from(difference: &Difference) -> DifferenceReport {
        DifferenceReport {
            phase: difference.phase.name(),
            chunk: difference.chunk,
            start_byte: difference.start,
            end_byte: difference.end,
            // As text: not every reader of JSON keeps 64 bits of a number.
            region_hash: format!("{:016x}", difference.region_hash),
            plain_hash: format!("{:016x}", difference.plain_hash),
        }
    }
}

fn rate(bytes: u64, seconds: f64) -> f64 {
    bytes as f64 / seconds.max(1e-9)
}
