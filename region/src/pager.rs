//! Everything a region is made of, from its beginning to its end. What happens between is in
//! `fault` (a run comes home) and `evict` (a run goes away).
//! Below: `table`, `clock`, `budget`, `mapping`, `device_memory`, `uffd`. Above: `region`.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::OnceLock;
use std::time::Instant;

use farpage::{Device, DeviceConfig, LeafKind, Order, SoftLeaf, Space};

use crate::budget::Budget;
use crate::clock::Clock;
use crate::config::{Mode, Plan};
use crate::device_memory::{DeviceMemory, DevicePage};
use crate::error::RegionError;
use crate::mapping::Mapping;
use crate::stats::{Stats, Tallies};
use crate::table::{Run, Table};
use crate::uffd::Uffd;

pub(crate) struct Pager<'s> {
    pub(crate) space: &'s Space,
    pub(crate) device: Device<'s>,
    pub(crate) memory: DeviceMemory,
    pub(crate) mapping: Mapping,
    pub(crate) table: Table,
    pub(crate) clock: Clock,
    pub(crate) budget: Budget,
    pub(crate) order: Order,
    /// Runs that one eviction may take.
    pub(crate) batch_runs: usize,
    pub(crate) tallies: Tallies,
    /// The first thing that went wrong. It stays: a region that has failed does not recover.
    failure: OnceLock<RegionError>,
    metadata_peak: AtomicU64,
    begun: Instant,
}

impl<'s> Pager<'s> {
    pub(crate) fn new(space: &'s Space, plan: &Plan) -> Result<Pager<'s>, RegionError> {
        let begun = Instant::now();
        let uffd = match plan.mode {
            Mode::Software => None,
            Mode::Faults => Some(Uffd::open()?),
        };
        let mapping = Mapping::new(plan.nr_runs, plan.run_bytes, uffd)?;
        let memory = DeviceMemory::new(plan.device_pages)?;
        // Last, because it is the one thing that must be undone by more than a drop.
        let device = space.register(DeviceConfig::new(plan.device_pages).name("region"))?;
        Ok(Pager {
            space,
            device,
            memory,
            mapping,
            table: Table::new(plan.nr_runs, plan.order),
            clock: Clock::default(),
            budget: Budget::new(plan.budget_runs),
            order: plan.order,
            batch_runs: plan.batch_runs,
            // More than handlers: in software the embedder's own threads do their work.
            tallies: Tallies::new(2 * plan.handlers),
            failure: OnceLock::new(),
            metadata_peak: AtomicU64::new(0),
            begun,
        })
    }

    pub(crate) fn mode(&self) -> Mode {
        match self.mapping.uffd() {
            Some(_) => Mode::Faults,
            None => Mode::Software,
        }
    }

    /// Where in the device's memory the folio that `leaf` names has its bytes.
    ///
    /// No reference is taken: the caller holds the page-table lock of the slot that `leaf` is in.
    /// The lock keeps the leaf from being cleared, the leaf owns a reference to its folio, and the
    /// folio keeps its device registered; so until the lock goes, nothing found here can.
    pub(crate) fn locate(&self, leaf: SoftLeaf) -> DevicePage {
        let page = self.space.lookup(leaf);
        let page = page.unwrap_or_else(|| panic!("{leaf:?} is in the page table and names nothing"));
        debug_assert_eq!(page.order(), self.order);
        DevicePage::of(page.offset(), self.device.range().start())
    }

    pub(crate) fn failure(&self) -> Option<RegionError> {
        self.failure.get().copied()
    }

    /// Records what went wrong; what went wrong first counts.
    pub(crate) fn fail(&self, error: RegionError) {
        let _ = self.failure.set(error);
    }

    /// Looks at what the page metadata takes just now, for the peak in the statistics.
    pub(crate) fn sample_metadata(&self) {
        let bytes = self.space.report().metadata_bytes();
        self.metadata_peak.fetch_max(bytes, Relaxed);
    }

    /// Puts every leaf, unregisters the device, and says what was done.
    ///
    /// Nobody touches the region any more: `run` is past the embedder's closure and its handlers.
    pub(crate) fn finish(self) -> Result<Stats, RegionError> {
        self.sample_metadata();
        for run in (0..self.table.nr_runs()).map(Run::new) {
            let mut locked = self.table.lock(run);
            let leaf = locked.leaf();
            if let LeafKind::DevicePrivate(_) = leaf.kind() {
                locked.set_leaf(SoftLeaf::NONE);
                let folio = self.space.take(leaf);
                drop(folio.unwrap_or_else(|error| panic!("{leaf:?} was in the page table: {error}")));
            }
        }
        let mode = self.mode();
        let live_pages = self.device.nr_live_pages();
        self.device.unregister().map_err(|_| RegionError::StillLive { live_pages })?;
        if let Some(error) = self.failure.get() {
            return Err(*error);
        }
        let run_pages = self.table.run_pages();
        Ok(Stats {
            mode,
            counters: self.tallies.counters(),
            latency: self.tallies.latency(),
            budget_pages: self.budget.limit() * run_pages,
            peak_resident_pages: self.budget.peak() * run_pages,
            live_pages_at_end: live_pages,
            metadata_bytes_peak: self.metadata_peak.load(Relaxed),
            metadata_bytes_end: self.space.report().metadata_bytes(),
            wall: self.begun.elapsed(),
        })
    }
}
