//! One page in each 512 MiB: what base pages are for.

#![forbid(unsafe_code)]

use std::time::Instant;

use farpage::{Device, DeviceConfig, Folio, Order, Space};

use super::life::metadata_pages;
use crate::machine;
use crate::plain::PageAdvice;

/// Pages of a device: a section of huge pages.
const PAGES: u64 = 1 << 17;

/// What one page costs where nothing else lives.
#[derive(Clone, Copy, Debug)]
pub struct Thin {
    /// Microseconds for the first allocation there.
    pub first_micros: f64,
    /// Microseconds for the next one at the same place.
    pub again_micros: f64,
    /// KiB that become resident by the first.
    pub resident_kib: f64,
}

/// Allocates a page of each of `nr` devices, twice.
pub fn use_thinly(advice: PageAdvice, nr: usize) -> Thin {
    let builder = Space::builder().metadata_pages(metadata_pages(advice)).spare_metadata(u64::MAX).cache_percent(0);
    let space = builder.build().expect("address space for the metadata");
    let register = |_| space.register(DeviceConfig::new(PAGES)).expect("room for all");
    let devices: Vec<Device<'_>> = (0..=nr).map(register).collect();
    // What the first one populates is shared by many.
    let _kept = devices[nr].alloc(Order::ZERO).expect("a free page");
    let mut folios: Vec<Folio<'_>> = Vec::with_capacity(nr);
    let mut alloc_each = || {
        let (_, before) = machine::huge_and_resident_bytes();
        let begun = Instant::now();
        folios.extend(devices[..nr].iter().map(|device| device.alloc(Order::ZERO).expect("a free page")));
        let micros = begun.elapsed().as_secs_f64() * 1e6 / nr as f64;
        let (_, after) = machine::huge_and_resident_bytes();
        assert!(devices.iter().all(|device| device.nr_live_pages() == 1));
        folios.clear();
        (micros, after.saturating_sub(before) as f64 / 1024.0 / nr as f64)
    };
    let (first_micros, resident_kib) = alloc_each();
    let (again_micros, _) = alloc_each();
    Thin { first_micros, again_micros, resident_kib }
}
