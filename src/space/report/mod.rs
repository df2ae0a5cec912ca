//! [`SpaceReport`]: a space in numbers, and what they have to do with each other while others work.
//!
//! Below: `device`, `free_map`, `seat`, `sparse`. A device's pages are counted in `census`.
#![forbid(unsafe_code)]

mod census;
mod device;
mod free_runs;
mod owner;
mod prometheus;
mod table;

use core::fmt;

pub use device::DeviceReport;
pub use free_runs::FreeRuns;
pub use owner::OwnerReport;

use crate::space::Space;
use crate::words::Order;

/// A space in numbers; see [`Space::report`]. `Display` is a table for people; see also [`SpaceReport::prometheus`], and
/// with the feature `serde`, `Serialize`.
///
/// # While others allocate and free
///
/// Numbers of pages are consistent in this sense:
///
/// - *They add up.* In each device, each owner and the whole space: live and free pages together are all pages; cached ones
///   are among the free; the free runs hold exactly the free pages; neither the largest nor the longest of them is longer
///   than all. The devices' numbers add up to those of their owners, and these to those of the space (runs too; the longest
///   run is the longest of any).
/// - *Each page is seen once*, and counted as what it was at one moment of the call. So whatever lived from before the call until
///   after it is in the live pages, and whatever was free and stayed where it was, in the map or in one cache, is in the
///   free ones. Moments differ from page to page: of two pages that took turns in being free, the report may have seen
///   both free, or both live.
/// - *Whole devices.* Those that were registered when the call began and still when their pages had been counted are in the report
///   with all their pages; others are not. No offset is counted for two devices.
/// - A page is live from the moment an allocation takes it, even one that fails later, until its `folio_free` has
///   returned.
///
/// When nobody else works on the space, all numbers are exact, and live pages are those of
/// [`Device::nr_live_pages`](crate::Device::nr_live_pages).
///
/// Numbers of metadata are each true at some moment of the call, and do not belong to one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct SpaceReport {
    /// Pages that the space has room for.
    pub max_pages: u64,
    /// Pages of all devices: live and free.
    pub registered_pages: u64,
    /// Pages in use.
    pub live_pages: u64,
    /// Pages of devices that are not in use.
    pub free_pages: u64,
    /// Those of them that are kept in caches.
    pub cached_pages: u64,
    /// The free pages, by the order of their runs. Cached pages are what they are: free.
    pub free_runs: FreeRuns,
    /// Pages of the longest run of free pages in any device, wherever it begins: what
    /// [`Device::alloc_range`](crate::Device::alloc_range) could get.
    pub longest_free_run: u64,
    /// Free pages in runs below order 9 (not in whole blocks of 2 MiB), in thousandths of the free pages, rounded down; 0 if
    /// nothing is free. [`FreeRuns::unusable_index`] has it for all orders.
    pub fragmentation_permille: u32,
    /// Bytes of page records that are populated: the sections in which something was allocated.
    pub section_bytes: u64,
    /// Bytes of address space reserved for metadata of all kinds; on other systems than Linux, of tables that lead to it.
    pub metadata_reserved_bytes: u64,
    /// Bytes of it that were populated and not given back, as the space counts them. A byte for each chunk (of 4 KiB, 64 KiB or
    /// 2 MiB) that says so comes on top.
    pub metadata_populated_bytes: u64,
    /// Bytes of the populated ones that lie in memory, as the system says: less than populated if some are swapped out. `None` where
    /// it does not say: on other systems than Linux.
    pub metadata_resident_bytes: Option<u64>,
    /// How many chunks of metadata were populated, ever.
    pub metadata_populates: u64,
    /// How many of them were given back.
    pub metadata_trims: u64,
    /// The devices, by offset.
    pub devices: Vec<DeviceReport>,
    /// Whose they are, by the owner's value.
    pub owners: Vec<OwnerReport>,
}

impl SpaceReport {
    /// Bytes of memory that metadata of all kinds takes.
    pub fn metadata_bytes(&self) -> u64 {
        self.metadata_populated_bytes
    }

    /// Pages of the largest folio that could be allocated.
    pub fn largest_free_pages(&self) -> u64 {
        self.free_runs.largest_pages()
    }

    /// The share of free memory that is of no use to `order`, from 0 (all of it is in runs as large) to 1; see
    /// [`FreeRuns::unusable_index`].
    pub fn fragmentation(&self, order: Order) -> f64 {
        self.free_runs.unusable_index(order)
    }

    /// The report in the text format of Prometheus, version 0.0.4: what `GET /metrics` answers.
    ///
    /// Gauges `farpage_device_*` with the labels `device` (its name), `owner` and `start` (its first page; two devices may have
    /// one name), gauges and counters `farpage_metadata_*`. Sums over devices, by owner or of all, are left to
    /// `sum by (owner) (..)`. What is not known, as resident bytes may be, has no sample. Ends with a line feed.
    ///
    /// ```
    /// use farpage::{DeviceConfig, Order, Owner, Space};
    ///
    /// let space = Space::builder().max_pages(1 << 20).build()?;
    /// let device = space.register(DeviceConfig::new(1 << 18).name("vram0").owner(Owner::new(7)))?;
    /// let folio = device.alloc(Order::HUGE)?;
    ///
    /// let text = space.report().prometheus().to_string();
    /// assert!(text.contains("# TYPE farpage_device_live_pages gauge\n"));
    /// assert!(text.contains("farpage_device_live_pages{device=\"vram0\",owner=\"7\",start=\"0\"} 512\n"));
    /// # drop(folio);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn prometheus(&self) -> impl fmt::Display {
        prometheus::Exposition(self)
    }

    pub(super) fn of(space: &Space) -> SpaceReport {
        let registered = space.table().all();
        let devices: Vec<DeviceReport> = registered.iter().filter_map(|entry| DeviceReport::of(space, entry)).collect();
        let owners = OwnerReport::by_owner(&devices);
        let sum = |of: fn(&OwnerReport) -> u64| owners.iter().map(of).sum();
        let mut free_runs = FreeRuns::default();
        owners.iter().for_each(|owner| free_runs.add(&owner.free_runs));
        let section_bytes = space.sections().section_bytes();
        let metadata = [space.sections().bytes(), space.blocks().bytes(), space.table().bytes()];
        let resident =
            [space.sections().resident_bytes(), space.blocks().resident_bytes(), space.table().resident_bytes()];
        let counts = space.sections().counts() + space.blocks().counts();
        SpaceReport {
            max_pages: space.max_pages(),
            registered_pages: sum(|owner| owner.nr_pages),
            live_pages: sum(|owner| owner.live_pages),
            free_pages: sum(|owner| owner.free_pages),
            cached_pages: sum(|owner| owner.cached_pages),
            fragmentation_permille: free_runs.fragmentation_permille(),
            free_runs,
            longest_free_run: owners.iter().map(|owner| owner.longest_free_run).max().unwrap_or(0),
            section_bytes,
            metadata_reserved_bytes: metadata.iter().map(|bytes| bytes.0).sum(),
            metadata_populated_bytes: metadata.iter().map(|bytes| bytes.1).sum(),
            metadata_resident_bytes: resident.into_iter().sum(),
            metadata_populates: counts.populates,
            metadata_trims: counts.give_backs,
            devices,
            owners,
        }
    }
}
