//! Everything a region is made of, from its beginning to its end. What happens between is in
//! `fault` (a run comes home) and `evict` (a run goes away).
//! Below: `runs`, `clock`, `budget`, `frames`, `driver`, `mapping`, `device_memory`, `uffd`. Above: `region`.
//!
//! The region is mapped in an address space of the library, at its own addresses, and its page table is that one's. Of each
//! page that is in RAM a leaf there names a host page, of a machine that the region has for itself.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use farpage::{Address, AddressRange, AddressSpace, Device, DeviceConfig, Machine, Order, Owner, Space};

use crate::budget::Budget;
use crate::clock::Clock;
use crate::config::{Mode, Plan};
use crate::device_memory::DeviceMemory;
use crate::driver::Driver;
use crate::error::RegionError;
use crate::frames::Frames;
use crate::mapping::Mapping;
use crate::runs::{LockedRun, Run, Runs};
use crate::stats::{Counters, Stats, Tallies};
use crate::uffd::Uffd;

/// What a region and its monitor ask a [`Pager`] for: without its lifetime, which drivers make an exact one.
pub(crate) trait Paging: Sync {
    fn mapping(&self) -> &Mapping;

    /// How missing pages are noticed.
    fn mode(&self) -> Mode;

    /// Makes a run resident for the accessor and keeps it so while the lock is held.
    fn touch(&self, run: Run) -> Result<LockedRun<'_>, RegionError>;

    /// What went wrong first.
    fn failure(&self) -> Option<RegionError>;

    fn counters(&self) -> Counters;

    /// Looks at what the page metadata takes just now, for the peak in the statistics.
    fn sample_metadata(&self);
}

pub(crate) struct Pager<'s> {
    pub(crate) space: &'s Space,
    pub(crate) device: Device<'s>,
    machine: Machine<'s>,
    /// Where the region's leaves are. Nobody else maps, faults or migrates in it.
    pub(crate) leaves: AddressSpace<'s>,
    pub(crate) driver: Arc<Driver>,
    pub(crate) memory: Arc<DeviceMemory>,
    pub(crate) frames: Arc<Frames>,
    pub(crate) mapping: Arc<Mapping>,
    pub(crate) runs: Runs,
    pub(crate) clock: Clock,
    pub(crate) budget: Budget,
    /// The order of a leaf and of its folio.
    pub(crate) leaf_order: Order,
    /// Runs that one eviction may take.
    pub(crate) batch_runs: usize,
    pub(crate) tallies: Tallies,
    /// The first thing that went wrong. It stays: a region that has failed does not recover.
    failure: OnceLock<RegionError>,
    metadata_peak: AtomicU64,
    begun: Instant,
}

impl<'s> Pager<'s> {
    /// `host_pages` is for the region alone: a space for the pages of it that are in RAM.
    pub(crate) fn new(space: &'s Space, host_pages: &'s Space, plan: &Plan) -> Result<Pager<'s>, RegionError> {
        let begun = Instant::now();
        let uffd = match plan.mode {
            Mode::Software => None,
            Mode::Faults => Some(Uffd::open()?),
        };
        let mapping = Arc::new(Mapping::new(plan.nr_runs, plan.run_bytes, uffd)?);
        let memory = Arc::new(DeviceMemory::new(plan.device_pages)?);
        let all = mapping.all();
        let range = AddressRange::new(all.address(), all.len() as u64);
        let range = range.ok_or(RegionError::Size { bytes: all.len() as u64 })?;
        let leaf_order = if plan.order == Order::HUGE { Order::HUGE } else { Order::ZERO };

        // As many host pages as the region has, though few are in use at once: a region that has failed goes over its budget. And the
        // zero page, by which a whole run cannot be had.
        let nr_frames = range.nr_pages().next_multiple_of(Order::HUGE.nr_pages()) + Order::HUGE.nr_pages();
        let frames = Arc::new(Frames::new(Arc::clone(&mapping), nr_frames));
        let ram = host_pages.register(DeviceConfig::new(nr_frames).name("ram").ops(Arc::clone(&frames)))?;
        let machine = Machine::new(space, ram, Arc::clone(&frames))?;
        let leaves = machine.address_space()?;
        leaves.map(farpage::Mapping::new(range).huge(leaf_order == Order::HUGE))?;

        // Last, because it is the one thing that must be undone by more than a drop.
        let owner = Owner::new(all.address());
        let device = space.register(DeviceConfig::new(plan.device_pages).name("region").owner(owner))?;
        let driver = Arc::new(Driver {
            mapping: Arc::clone(&mapping),
            frames: Arc::clone(&frames),
            memory: Arc::clone(&memory),
            first: device.range().start(),
            leaf_order,
            run_pages: plan.order.nr_pages(),
        });
        machine.attach(&device, Arc::clone(&driver) as _);
        Ok(Pager {
            space,
            device,
            machine,
            leaves,
            driver,
            memory,
            frames,
            mapping,
            runs: Runs::new(plan.nr_runs, plan.order),
            clock: Clock::default(),
            budget: Budget::new(plan.budget_runs),
            leaf_order,
            batch_runs: plan.batch_runs,
            // More than handlers: in software the embedder's own threads do their work.
            tallies: Tallies::new(2 * plan.handlers),
            failure: OnceLock::new(),
            metadata_peak: AtomicU64::new(0),
            begun,
        })
    }

    /// The addresses of adjacent runs.
    pub(crate) fn range(&self, first: Run, nr_runs: usize) -> AddressRange {
        let run_bytes = self.mapping.run_bytes() as u64;
        let range = AddressRange::new(self.mapping.span(first).address(), nr_runs as u64 * run_bytes);
        range.expect("runs of the region, which is mapped")
    }

    /// The leaves of adjacent runs: the address of each, and the page of the region.
    pub(crate) fn leaves_of(&self, first: Run, nr_runs: usize) -> impl Iterator<Item = (Address, usize)> + use<> {
        let (range, step) = (self.range(first, nr_runs), self.leaf_order.nr_pages() as usize);
        let page = first.index() * self.runs.run_pages() as usize;
        let slots = (0..range.nr_pages() as usize).step_by(step);
        slots.filter_map(move |slot| Some((range.page(slot as u64)?, page + slot)))
    }

    /// Records what went wrong; what went wrong first counts.
    pub(crate) fn fail(&self, error: RegionError) {
        let _ = self.failure.set(error);
    }

    /// Puts every leaf, unregisters the device, and says what was done.
    ///
    /// Nobody touches the region any more: `run` is past the embedder's closure and its handlers.
    pub(crate) fn finish(self) -> Result<Stats, RegionError> {
        self.sample_metadata();
        let mode = self.mode();
        // Its teardown puts the reference that each leaf has.
        drop(self.leaves);
        self.machine.detach(&self.device);
        let live_pages = self.device.nr_live_pages();
        self.device.unregister().map_err(|_| RegionError::StillLive { live_pages })?;
        if let Some(error) = self.failure.get() {
            return Err(*error);
        }
        let run_pages = self.runs.run_pages();
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

impl Paging for Pager<'_> {
    fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    fn mode(&self) -> Mode {
        match self.mapping.uffd() {
            Some(_) => Mode::Faults,
            None => Mode::Software,
        }
    }

    fn touch(&self, run: Run) -> Result<LockedRun<'_>, RegionError> {
        self.touch_resident(run)
    }

    fn failure(&self) -> Option<RegionError> {
        self.failure.get().copied()
    }

    fn counters(&self) -> Counters {
        self.tallies.counters()
    }

    fn sample_metadata(&self) {
        let bytes = self.space.report().metadata_bytes();
        self.metadata_peak.fetch_max(bytes, Relaxed);
    }
}
