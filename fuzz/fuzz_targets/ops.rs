//! Any bytes as a program of operations on a space, compared with the model of `tests/support`.
//!
//! The first byte chooses the size of the space, the second how much of it may lie in caches; the rest are the operations, as in `tests/oracle.rs`.
#![no_main]

#[path = "../../tests/support/mod.rs"]
mod support;

use libfuzzer_sys::fuzz_target;
use support::ops::Op;
use support::oracle::run;

fuzz_target!(|program: &[u8]| {
    let [size, cache_percent, program @ ..] = program else { return };
    // One block to 64, and now and then what a folio of the largest order needs.
    let max_pages = if *size == 255 { (1 << 18) + 512 } else { (u64::from(size % 64) + 1) * 512 };
    let mut bytes = program.iter().copied();
    run(max_pages, *cache_percent, std::iter::from_fn(|| Op::decode(&mut bytes)));
});
