//! Any bytes as a program of operations on address spaces that share pages and two devices, compared with the byte-exact
//! model of `tests/mm_support`, as in `tests/mm_model.rs`.
#![no_main]

#[path = "../../tests/mm_support/mod.rs"]
mod mm_support;

use libfuzzer_sys::fuzz_target;
use mm_support::ops::Op;
use mm_support::oracle::run;

/// Each may move megabytes, and all counts are taken again after each: longer programs find less in the same time.
const MAX_OPS: usize = 100;

fuzz_target!(|program: &[u8]| {
    let mut bytes = program.iter().copied();
    mm_support::world(|world| run(world, std::iter::from_fn(|| Op::decode(&mut bytes)).take(MAX_OPS)));
});
