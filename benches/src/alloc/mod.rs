//! Allocators as contestants: the same loops for each, on one thread and on two.
//!
//! Bottom to top:
//!
//! - [`sizes`]: power-law lengths of runs.
//! - [`rival`]: what an allocator must be able to do to take part.
//! - [`ours`], [`peers`], [`extents`]: those that can: farpage, published crates, a tree of extents in a mutex.
//! - [`drive`]: the measured loops, generic over the rival.
//! - [`runner`]: what a thread runs: a drive, or the yardstick.
//! - [`crew`]: the threads, which live as long as a row does.
//! - [`row`]: which pattern, for whom, and what is wanted.
//! - [`race`]: a row's contestants in interleaved rounds.
//! - [`table`]: what comes out.

pub mod crew;
pub mod drive;
pub mod extents;
pub mod ours;
pub mod peers;
pub mod race;
pub mod rival;
pub mod row;
pub mod runner;
pub mod sizes;
pub mod table;
