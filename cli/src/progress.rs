//! Where the job is: phases with their times and faults, and a bar while somebody watches.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use farpage_region::Monitor;
use indicatif::{ProgressBar, ProgressStyle};

use crate::stop::Stop;

/// What the job does, step after step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The input goes into the region.
    Load,
    /// A hash a chunk, compared.
    Hash,
    /// The region is sorted in place.
    Sort,
    /// The plain copy is sorted, to compare with; the region rests.
    Plain,
    /// A hash a chunk of what was sorted, compared.
    Check,
}

impl Phase {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Phase::Load => "load",
            Phase::Hash => "hash",
            Phase::Sort => "sort",
            Phase::Plain => "plain sort",
            Phase::Check => "check",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A phase that is over, or as far as it got.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PhaseTime {
    pub(crate) phase: Phase,
    pub(crate) seconds: f64,
    /// Bytes that it went over; a sort has them all or none.
    pub(crate) bytes: u64,
    pub(crate) faults: u64,
}

pub(crate) struct Progress<'r> {
    monitor: Monitor<'r>,
    bar: ProgressBar,
    /// Bytes that each phase goes over.
    total: u64,
    /// Bytes that the phase under way has gone over.
    done: AtomicU64,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    over: Vec<PhaseTime>,
    /// The phase under way, when it began, and the faults until then.
    now: Option<(Phase, Instant, u64)>,
}

impl<'r> Progress<'r> {
    /// The bar goes to standard error, and only to a terminal.
    pub(crate) fn new(monitor: Monitor<'r>, total: u64) -> Progress<'r> {
        Progress { monitor, bar: ProgressBar::new(total), total, done: AtomicU64::new(0), log: Mutex::default() }
    }

    pub(crate) fn begin(&self, phase: Phase) {
        self.end();
        let style = match phase {
            // How far a sort has come, only the sort knows.
            Phase::Sort | Phase::Plain => "{prefix:>10} {spinner} {elapsed} {msg}",
            _ => "{prefix:>10} [{bar:30}] {bytes}/{total_bytes} {msg}",
        };
        let style = ProgressStyle::with_template(style).expect("a constant template is right");
        self.bar.set_style(style.progress_chars("=> "));
        self.bar.set_prefix(phase.name());
        self.bar.reset();
        self.done.store(0, Relaxed);
        let faults = self.monitor.counters().faults;
        self.log().now = Some((phase, Instant::now(), faults));
    }

    /// Ends the phase under way, if there is one.
    pub(crate) fn end(&self) {
        let faults = self.monitor.counters().faults;
        self.monitor.sample_metadata();
        let mut log = self.log();
        if let Some((phase, begun, before)) = log.now.take() {
            let (seconds, bytes) = (begun.elapsed().as_secs_f64(), self.done.load(Relaxed));
            log.over.push(PhaseTime { phase, seconds, bytes, faults: faults - before });
        }
    }

    /// The phase under way, or the last.
    pub(crate) fn phase(&self) -> Phase {
        let log = self.log();
        let last = log.over.last().map(|over| over.phase);
        log.now.map_or(last.unwrap_or(Phase::Load), |now| now.0)
    }

    pub(crate) fn step(&self, bytes: usize) {
        self.done.fetch_add(bytes as u64, Relaxed);
    }

    /// Moves the bar ten times a second until `finished`, and stops the job if its region fails.
    pub(crate) fn watch(&self, finished: &AtomicBool, stop: &Stop) {
        let (mut seen, mut at) = (0, Instant::now());
        while !finished.load(Relaxed) {
            thread::park_timeout(Duration::from_millis(100));
            if self.monitor.failure().is_some() {
                stop.ask();
            }
            let faults = self.monitor.counters().faults;
            let rate = (faults - seen) as f64 / at.elapsed().as_secs_f64().max(1e-3);
            (seen, at) = (faults, Instant::now());
            self.bar.set_message(format!("{rate:.0} faults/s"));
            self.bar.set_position(self.done.load(Relaxed).min(self.total));
        }
    }

    /// Takes the bar away and gives the phases.
    pub(crate) fn finish(self) -> Vec<PhaseTime> {
        self.end();
        self.bar.finish_and_clear();
        self.log.into_inner().unwrap_or_else(PoisonError::into_inner).over
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
