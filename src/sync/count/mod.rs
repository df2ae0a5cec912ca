//! The facade that counts: atomics that write down which thread wrote which cache line, and threads that take turns.
//!
//! Compiled with `--cfg farpage_count`, for a machine with fewer cores than the question has. A `run` starts as many
//! *logical threads* as are asked for, of which one at a time goes on; before each access to an atomic the turn may go
//! to another, as seeded dice say. So operations interleave anywhere inside, the same seed gives the same run, and what
//! a cache would have to do is known exactly: nothing is sampled, and no line is lost to eviction.
//!
//! | counted, between the ends of an `op` | it is |
//! |---|---|
//! | read-modify-write | one call, whether it changed anything or not; taking and giving back a lock are one each |
//! | line written | a line of 64 bytes that the operation wrote at least once |
//! | remote write | a write to a line that another thread was the last to write |
//! | neighbour write | a remote write of another word than the last writer's: the line is shared, the data is not |
//! | contended read | a read of a line that another thread has written since this one last read or wrote it |
//! | heavy barrier | a call of `heavy_barrier` |
//!
//! A compare-exchange that fails is a write like any other, as it takes the line away from its last writer.
//!
//! What is not seen: plain memory, and reference counts of the standard library's `Arc`. A thread without a part in a
//! run is neither counted nor held up. It must leave alone what a run works on: it may have the same number as a
//! logical thread (`thread_slot`), and what it does comes when it likes.
//!
//! Outside of the crate only `counting/`, a package of its own, uses this as `farpage::count`. Not covered by semver.
#![forbid(unsafe_code)]

mod atomics;
mod ledger;
mod locks;
mod random;
mod run;
mod turns;

// The face that every file of the crate uses.
pub use atomics::{AtomicI64, AtomicPtr, AtomicU8, AtomicU32, AtomicU64};
pub use core::sync::atomic::Ordering;
pub use locks::{Backoff, Condvar, Mutex, MutexGuard, wait_for};
pub use run::{heavy_barrier, thread_slot};

// Real, as threads without a part in a run rely on them; in a run one thread at a time goes on, and a fence is enough.
pub(crate) use super::barrier::{light_barrier, prepare_barriers};
pub(crate) use super::cell::UnsafeCell;
pub(crate) use std::sync::Arc;

// The face of whoever counts.
pub use ledger::{Counts, SiteCounts};
pub use random::Random;
pub use run::{Outcome, Plan, op, pass, rendezvous, run};
