//! References and locks of objects that live: pairs of get and put, of lock and unlock, and what they cost beside `Arc`,
//! bare atomics and `parking_lot`.
//!
//! - [`pair`]: what a step is, and the loop around it.
//! - [`ours`]: farpage's pairs.
//! - [`peers`]: the others'.
//! - [`row`]: who runs against whom, and what is wanted.
//! - [`race`]: a row's contestants in interleaved rounds.
//! - [`table`]: what comes of it.

pub mod ours;
pub mod pair;
pub mod peers;
pub mod race;
pub mod row;
pub mod table;
