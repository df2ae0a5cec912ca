//! [`DeviceReport`]: one device in numbers.
#![forbid(unsafe_code)]

use super::FreeRuns;
use super::census::Census;
use crate::device::Entry;
use crate::space::Space;

/// One device in numbers; see [`SpaceReport`](super::SpaceReport) for what they have to do with each other, and
/// [`Device::report`](crate::Device::report).
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct DeviceReport {
    /// Its name.
    pub name: String,
    /// Its owner's value.
    pub owner: u64,
    /// Its first page.
    pub start: u64,
    /// Its pages: live and free.
    pub nr_pages: u64,
    /// Pages in use.
    pub live_pages: u64,
    /// Pages that are not in use.
    pub free_pages: u64,
    /// Whether it was killed.
    pub dying: bool,
    /// Free pages that are kept in caches.
    pub cached_pages: u64,
    /// The most that can be.
    pub cache_limit: u64,
    /// The free pages, by the order of their runs.
    pub free_runs: FreeRuns,
    /// Pages of the longest run of free pages, wherever it begins.
    pub longest_free_run: u64,
    /// As [`SpaceReport::fragmentation_permille`](super::SpaceReport::fragmentation_permille).
    pub fragmentation_permille: u32,
}

impl DeviceReport {
    /// Counts the pages of a device; `None` if it has gone by then.
    pub(crate) fn of(space: &Space, entry: &Entry) -> Option<DeviceReport> {
        let nr_pages = entry.range().nr_pages();
        let census = Census::of(space, entry);
        let dying = entry.is_ending();
        // If it has gone, some of what was seen may be another device's.
        space.table().has(entry).then(|| DeviceReport {
            name: entry.name().into(),
            owner: entry.owner().get(),
            start: entry.range().start().get(),
            nr_pages,
            live_pages: nr_pages - census.free_pages,
            free_pages: census.free_pages,
            dying,
            cached_pages: census.cached_pages,
            cache_limit: entry.seats().cache_limit(),
            fragmentation_permille: census.free_runs.fragmentation_permille(),
            free_runs: census.free_runs,
            longest_free_run: census.longest_free_run,
        })
    }

    /// Pages of the largest folio that could be allocated from it.
    pub fn largest_free_pages(&self) -> u64 {
        self.free_runs.largest_pages()
    }
}
