//! What a device costs before anything lives on it: farpage, beside a record for every page, written at registration.
//!
//! - [`eager`]: the rival, as Linux does it.
//! - [`course`]: one registration, timed, with what became resident of it.
//! - [`table`]: the figures, and what was wanted.

pub mod course;
pub mod eager;
pub mod table;
