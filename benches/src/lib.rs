//! What the benchmarks share, so that each of them measures in the same way.
//!
//! Bottom to top:
//!
//! - [`machine`]: what the figures were measured on.
//! - [`plain`]: the yardstick, a plain array of 16-byte records under chosen page advice.
//! - [`chain`]: in which order pages are visited, and the answer that each visit must give.
//! - [`course`]: the one loop that every contestant runs, timed and checked.
//! - [`ours`]: farpage as a contestant.
//! - [`peers`]: the published crates and the locked tree as contestants.
//! - [`alloc`]: allocators as contestants, the threads that drive them, and the table of that.
//! - [`folio`]: references and locks of live folios, beside `Arc` and bare atomics.
//! - [`fragmentation`]: streams of mixed orders, and the best-fit oracle beside them.
//! - [`metadata`]: the metadata itself, under base and under huge pages, as it comes and goes.
//! - [`register`]: registrations of whole devices, beside a record for every page.
//! - [`split`]: a block into pages and back, beside allocations of them.
//! - [`plan`]: what to run, from the environment and the command line.
//! - [`random`]: the generator that all of them use.
//! - [`ratio`]: interleaved rounds, medians and spreads.
//! - [`report`]: the tables, the wanted figures beside them, and the JSON.

pub mod alloc;
pub mod chain;
pub mod course;
pub mod folio;
pub mod fragmentation;
pub mod machine;
pub mod metadata;
pub mod ours;
pub mod peers;
pub mod plain;
pub mod plan;
pub mod random;
pub mod ratio;
pub mod register;
pub mod report;
pub mod split;
pub mod tails;
