//! One page in each 512 MiB: what base pages are for.

#![forbid(unsafe_code)]

use std::time::Instant;

use farpage::{DeviceConfig, Offset, RangeRequest, Space};

use super::life::metadata_pages;
use crate::machine;
use crate::plain::PageAdvice;

/// Pages between two that are used: a section of huge pages.
const STRIDE: u64 = 1 << 17;

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

/// Allocates a page in each of `nr` sections, twice.
pub fn use_thinly(advice: PageAdvice, nr: u64) -> Thin {
    let builder = Space::builder().metadata_pages(metadata_pages(advice)).spare_metadata(u64::MAX).cache_percent(0);
    let space = builder.build().expect("address space for the metadata");
    let device = space.register(DeviceConfig::new((nr + 1) * STRIDE)).expect("a device in an empty space");
    let start = device.range().start().get();
    let mut ranges = Vec::with_capacity(nr as usize);
    let mut micros = || {
        // The first one populates what all of them share.
        for at in [0..1, 1..nr + 1].map(|sections| sections.map(|at| start + at * STRIDE)) {
            let (_, before) = machine::huge_and_resident_bytes();
            let begun = Instant::now();
            ranges.extend(at.map(|page| {
                let page = Offset::new(page).expect("in the device");
                device.alloc_range(RangeRequest::new(1).at(page)).expect("a free page")
            }));
            let micros = begun.elapsed().as_secs_f64() * 1e6 / nr as f64;
            let (_, after) = machine::huge_and_resident_bytes();
            if ranges.len() as u64 == nr + 1 {
                assert_eq!(device.nr_live_pages(), nr + 1);
                ranges.clear();
                return (micros, after.saturating_sub(before) as f64 / 1024.0 / nr as f64);
            }
        }
        unreachable!("the second time round there are all of them")
    };
    let (first_micros, resident_kib) = micros();
    let (again_micros, _) = micros();
    Thin { first_micros, again_micros, resident_kib }
}
