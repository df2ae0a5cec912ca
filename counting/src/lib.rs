//! What an operation of farpage costs when many cores work at once, counted over the real code.
//!
//! Each [workload](workloads) runs with 1 to 256 logical threads on a device of its own ([`stage`]), interleaved inside
//! of operations by a seeded scheduler. A [row](row::Row) says what an operation cost, [`table`] prints rows, and
//! [`limits`] says which of them farpage promises to keep. How it is counted: `farpage::count`.
#![forbid(unsafe_code)]

#[cfg(not(farpage_count))]
compile_error!("this package counts accesses, so farpage must be built to: set RUSTFLAGS=\"--cfg farpage_count\"");

#[cfg(farpage_count)]
pub mod limits;
#[cfg(farpage_count)]
pub mod pin;
#[cfg(farpage_count)]
pub mod row;
#[cfg(farpage_count)]
pub mod stage;
#[cfg(farpage_count)]
pub mod table;
#[cfg(farpage_count)]
pub mod workloads;
