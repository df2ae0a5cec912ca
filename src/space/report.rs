//! [`SpaceReport`]: a space in numbers.
#![forbid(unsafe_code)]

use core::fmt;
use std::collections::BTreeMap;

use crate::device::Entry;
use crate::geometry::{BLOCK_SHIFT, MAX_ORDER, PAGES_PER_BLOCK, PAGES_PER_WORD, WORDS_PER_BLOCK, block_of};
use crate::space::Space;
use crate::words::Order;

const NR_ORDERS: usize = MAX_ORDER as usize + 1;

/// A space in numbers; see [`Space::report`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct SpaceReport {
    /// Pages that the space has room for.
    pub max_pages: u64,
    /// Pages of all devices.
    pub registered_pages: u64,
    /// Pages in use.
    pub live_pages: u64,
    /// Pages of devices that are not in use.
    pub free_pages: u64,
    /// Those of them that are kept in caches.
    pub cached_pages: u64,
    /// How many free runs there are of each order, each as large as its natural alignment allows and each page in one.
    pub free_runs: [u64; NR_ORDERS],
    /// Bytes of page records that are populated: the sections in which something was allocated.
    pub section_bytes: u64,
    /// Bytes of address space reserved for metadata of all kinds.
    pub metadata_reserved_bytes: u64,
    /// Bytes of it that are backed by memory.
    pub metadata_populated_bytes: u64,
    /// The devices, by offset.
    pub devices: Vec<DeviceReport>,
}

/// One device in numbers.
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
    /// Its pages.
    pub nr_pages: u64,
    /// Pages in use.
    pub live_pages: u64,
    /// Whether it was killed.
    pub dying: bool,
    /// Free pages that are kept in caches.
    pub cached_pages: u64,
    /// The most that can be.
    pub cache_limit: u64,
    /// Free runs of each order, as in [`SpaceReport::free_runs`].
    pub free_runs: [u64; NR_ORDERS],
}

impl SpaceReport {
    /// Bytes of memory that metadata of all kinds takes.
    pub fn metadata_bytes(&self) -> u64 {
        self.metadata_populated_bytes
    }

    /// Pages of the largest folio that could be allocated.
    pub fn largest_free_pages(&self) -> u64 {
        largest(&self.free_runs)
    }

    /// The share of free memory that is of no use to `order`, from 0 (all of it is in runs as large) to 1.
    pub fn fragmentation(&self, order: Order) -> f64 {
        let pages =
            |runs: &[u64], first: usize| -> u64 { runs.iter().enumerate().map(|(i, nr)| nr << (first + i)).sum() };
        let (all, from) = (pages(&self.free_runs, 0), usize::from(order.get()));
        if all == 0 { 0.0 } else { 1.0 - pages(&self.free_runs[from..], from) as f64 / all as f64 }
    }
}

impl DeviceReport {
    /// Pages that are not in use.
    pub fn free_pages(&self) -> u64 {
        self.nr_pages.saturating_sub(self.live_pages)
    }

    /// Pages of the largest folio that could be allocated from it.
    pub fn largest_free_pages(&self) -> u64 {
        largest(&self.free_runs)
    }
}

fn largest(free_runs: &[u64; NR_ORDERS]) -> u64 {
    free_runs.iter().rposition(|&nr| nr > 0).map_or(0, |order| 1 << order)
}

pub(super) fn report(space: &Space) -> SpaceReport {
    let devices: Vec<DeviceReport> = space.table().all().iter().map(|entry| report_device(space, entry)).collect();
    let sum = |of: fn(&DeviceReport) -> u64| devices.iter().map(of).sum();
    let metadata = [space.sections().bytes(), space.blocks().bytes(), space.table().bytes()];
    SpaceReport {
        max_pages: space.max_pages(),
        registered_pages: sum(|device| device.nr_pages),
        live_pages: sum(|device| device.live_pages),
        free_pages: sum(DeviceReport::free_pages),
        cached_pages: sum(|device| device.cached_pages),
        free_runs: core::array::from_fn(|order| devices.iter().map(|device| device.free_runs[order]).sum()),
        section_bytes: space.sections().section_bytes(),
        metadata_reserved_bytes: metadata.iter().map(|bytes| bytes.0).sum(),
        metadata_populated_bytes: metadata.iter().map(|bytes| bytes.1).sum(),
        devices,
    }
}

fn report_device(space: &Space, entry: &Entry) -> DeviceReport {
    DeviceReport {
        name: entry.name().into(),
        owner: entry.owner().get(),
        start: entry.range().start().get(),
        nr_pages: entry.range().nr_pages(),
        live_pages: entry.live(space).pages().min(entry.range().nr_pages()),
        dying: entry.is_ending(),
        cached_pages: entry.seats().cached_pages(),
        cache_limit: entry.seats().cache_limit(),
        free_runs: free_runs(space, entry),
    }
}

fn free_runs(space: &Space, entry: &Entry) -> [u64; NR_ORDERS] {
    let mut runs = [0; NR_ORDERS];
    let cached = cached_words(entry);
    let blocks = entry.map().blocks();
    let mut empty_from = blocks.start;
    for block in blocks.clone() {
        let seen = space.blocks().use_of(block);
        let mut words = [if seen.is_taken() { u64::MAX } else { 0 }; WORDS_PER_BLOCK];
        if seen.goes_by_bits() {
            words = space.blocks().bits_of(block);
            for (word, kept) in words.iter_mut().zip(cached.get(&block).into_iter().flatten()) {
                *word &= !kept;
            }
        }
        if words == [0; WORDS_PER_BLOCK] {
            continue;
        }
        count_blocks(empty_from, block, &mut runs);
        empty_from = block + 1;
        if seen.goes_by_bits() {
            count_pages(&words, 0, Order::HUGE.get(), &mut runs);
        }
    }
    count_blocks(empty_from, blocks.end, &mut runs);
    runs
}

/// The pages that caches keep, by block: they are taken in the free map, and come back when they are wanted.
fn cached_words(entry: &Entry) -> BTreeMap<u64, [u64; WORDS_PER_BLOCK]> {
    let mut words: BTreeMap<u64, [u64; WORDS_PER_BLOCK]> = BTreeMap::new();
    for (first, order) in entry.seats().iter().flat_map(|seat| seat.stash().runs()) {
        for page in first..first + order.nr_pages() {
            let within = page % PAGES_PER_BLOCK;
            words.entry(block_of(page)).or_default()[(within / PAGES_PER_WORD) as usize] |=
                1 << (within % PAGES_PER_WORD);
        }
    }
    words
}

/// Cuts the empty blocks `from..end` into the largest naturally aligned runs.
fn count_blocks(mut from: u64, end: u64, runs: &mut [u64; NR_ORDERS]) {
    let most = u32::from(MAX_ORDER) - BLOCK_SHIFT;
    while from < end {
        let shift = from.trailing_zeros().min((end - from).ilog2()).min(most);
        runs[(BLOCK_SHIFT + shift) as usize] += 1;
        from += 1 << shift;
    }
}

/// Cuts the free pages of a block from `start` on, `order` long, into the largest naturally aligned runs.
fn count_pages(words: &[u64; WORDS_PER_BLOCK], start: u64, order: u8, runs: &mut [u64; NR_ORDERS]) {
    let is_taken = |page: u64| words[(page / PAGES_PER_WORD) as usize] >> (page % PAGES_PER_WORD) & 1 != 0;
    let mut pages = start..start + (1 << order);
    if !pages.any(is_taken) {
        runs[usize::from(order)] += 1;
    } else if order > 0 {
        count_pages(words, start, order - 1, runs);
        count_pages(words, start + (1 << (order - 1)), order - 1, runs);
    }
}

impl fmt::Display for SpaceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} of {} registered pages in use; {} free ({} in caches), the largest folio {}, {:.1} % of them in runs below \
             order 9",
            self.live_pages,
            self.registered_pages,
            self.free_pages,
            self.cached_pages,
            self.largest_free_pages(),
            100.0 * self.fragmentation(Order::HUGE),
        )?;
        writeln!(
            f,
            "metadata: {} KiB in memory ({} KiB of page records), {} MiB of address space, room for {} pages",
            self.metadata_populated_bytes >> 10,
            self.section_bytes >> 10,
            self.metadata_reserved_bytes >> 20,
            self.max_pages,
        )?;
        write!(f, "free runs by order:")?;
        for (order, nr) in self.free_runs.iter().enumerate().filter(|(_, nr)| **nr > 0) {
            write!(f, " {order}:{nr}")?;
        }
        for device in &self.devices {
            write!(
                f,
                "\n{:#014x} {:<16} owner {}: {} of {} pages in use, largest folio {}{}",
                device.start,
                if device.name.is_empty() { "(unnamed)" } else { &device.name },
                device.owner,
                device.live_pages,
                device.nr_pages,
                device.largest_free_pages(),
                if device.dying { ", dying" } else { "" },
            )?;
        }
        Ok(())
    }
}

const _: () = assert!(PAGES_PER_BLOCK == PAGES_PER_WORD * WORDS_PER_BLOCK as u64);
