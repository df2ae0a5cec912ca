//! [`OwnerReport`]: what the devices of one owner have together.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::{DeviceReport, FreeRuns};

/// The devices of one owner, their numbers added up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct OwnerReport {
    /// The owner's value.
    pub owner: u64,
    /// How many devices it has.
    pub nr_devices: u64,
    /// Their pages: live and free.
    pub nr_pages: u64,
    /// Pages in use.
    pub live_pages: u64,
    /// Pages that are not in use.
    pub free_pages: u64,
    /// Free pages that are kept in caches.
    pub cached_pages: u64,
    /// The free pages, by the order of their runs.
    pub free_runs: FreeRuns,
    /// Pages of the longest run of free pages in one of the devices.
    pub longest_free_run: u64,
    /// As [`SpaceReport::fragmentation_permille`](super::SpaceReport::fragmentation_permille).
    pub fragmentation_permille: u32,
}

impl OwnerReport {
    /// The sums over `devices`, by the owner's value.
    pub(super) fn by_owner(devices: &[DeviceReport]) -> Vec<OwnerReport> {
        let mut owners: BTreeMap<u64, OwnerReport> = BTreeMap::new();
        for device in devices {
            owners.entry(device.owner).or_default().add(device);
        }
        owners.into_values().collect()
    }

    /// Pages of the largest folio that could be allocated from one of them.
    pub fn largest_free_pages(&self) -> u64 {
        self.free_runs.largest_pages()
    }

    fn add(&mut self, device: &DeviceReport) {
        self.owner = device.owner;
        self.nr_devices += 1;
        self.nr_pages += device.nr_pages;
        self.live_pages += device.live_pages;
        self.free_pages += device.free_pages;
        self.cached_pages += device.cached_pages;
        self.free_runs.add(&device.free_runs);
        self.longest_free_run = self.longest_free_run.max(device.longest_free_run);
        self.fragmentation_permille = self.free_runs.fragmentation_permille();
    }
}
