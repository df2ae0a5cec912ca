//! What a region did: counted where it happens, without sharing, and added up when asked.
//! Below: `config`. Above: `fault`, `pager`.
#![forbid(unsafe_code)]

use core::ops::AddAssign;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use hdrhistogram::Histogram;
use parking_lot::Mutex;

use crate::config::Mode;

/// What a region has done so far. Pages are of 4 KiB, whatever the order of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Faults that made a run resident.
    pub faults: u64,
    /// Faults whose run was resident when their turn came: a second thread's fault on the same
    /// run, or a write that met an eviction given up. They are only woken.
    pub spurious_faults: u64,
    /// Pages made of zeros, at their first use.
    pub zero_filled_pages: u64,
    /// Pages that went to the device.
    pub pages_to_device: u64,
    /// Pages that came home from it.
    pub pages_home: u64,
    /// Leaf words resolved to a page by the space's lookup.
    pub lookups: u64,
    /// Runs evicted.
    pub evictions: u64,
}

impl AddAssign for Counters {
    fn add_assign(&mut self, other: Counters) {
        self.faults += other.faults;
        self.spurious_faults += other.spurious_faults;
        self.zero_filled_pages += other.zero_filled_pages;
        self.pages_to_device += other.pages_to_device;
        self.pages_home += other.pages_home;
        self.lookups += other.lookups;
        self.evictions += other.evictions;
    }
}

/// How long faults took: with real faults from reading the event to the page being installed,
/// in software from the accessor's asking to the run being resident.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Latency {
    /// Half of the faults took no longer.
    pub p50: Duration,
    /// All but one in a hundred took no longer.
    pub p99: Duration,
    /// The slowest.
    pub max: Duration,
}

/// What a region did in its life.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// How missing pages were noticed.
    pub mode: Mode,
    /// What was done.
    pub counters: Counters,
    /// How long faults took.
    pub latency: Latency,
    /// Pages that could be resident.
    pub budget_pages: u64,
    /// The most pages that were resident at once; never above the budget unless the region failed.
    pub peak_resident_pages: u64,
    /// Pages of the device still in use after every leaf had been put: always 0.
    pub live_pages_at_end: u64,
    /// The most memory that the space's page metadata took, as far as it was looked at.
    pub metadata_bytes_peak: u64,
    /// What it took after the device was unregistered.
    pub metadata_bytes_end: u64,
    /// From the start of the region to its end.
    pub wall: Duration,
}

/// The tallies of several threads, each on cache lines of its own.
pub(crate) struct Tallies(Box<[CachePadded<Mutex<Tally>>]>);

struct Tally {
    counters: Counters,
    /// In nanoseconds.
    latency: Histogram<u64>,
}

impl Tallies {
    pub(crate) fn new(threads: usize) -> Tallies {
        let tally = || Tally { counters: Counters::default(), latency: histogram() };
        Tallies((0..threads).map(|_| CachePadded::new(Mutex::new(tally()))).collect())
    }

    /// Adds what one fault did to the calling thread's tally.
    ///
    /// The mutex is the thread's own but for the moment somebody adds up, so it never waits long.
    pub(crate) fn add(&self, counters: Counters, latency: Option<Duration>) {
        let mut tally = self.0[ordinal() % self.0.len()].lock();
        tally.counters += counters;
        if let Some(latency) = latency {
            let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
            tally.latency.saturating_record(nanos);
        }
    }

    pub(crate) fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        for tally in &self.0 {
            sum += tally.lock().counters;
        }
        sum
    }

    pub(crate) fn latency(&self) -> Latency {
        let mut all = histogram();
        for tally in &self.0 {
            let added = all.add(&tally.lock().latency);
            added.expect("histograms of equal bounds add up");
        }
        Latency {
            p50: Duration::from_nanos(all.value_at_quantile(0.5)),
            p99: Duration::from_nanos(all.value_at_quantile(0.99)),
            max: Duration::from_nanos(all.max()),
        }
    }
}

/// Of nanoseconds up to a minute, three digits each: some 200 KiB. What takes longer counts as a minute.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("constant bounds are right")
}

/// A small number of the calling thread: its own until there are more threads than tallies.
fn ordinal() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static MINE: usize = NEXT.fetch_add(1, Relaxed));
    MINE.with(|mine| *mine)
}
