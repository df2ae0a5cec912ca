//! Memory that is refused: by the allocator, by the system when metadata is to be populated, by a limit on address space,
//! and by a memory cgroup. What was asked for is refused in turn, changes nothing, and works when there is memory again.
//!
//! Which populate fails is chosen in the unit tests of `device`, where they can be counted. Linux only.

#![cfg(target_os = "linux")]

mod cgroup;
#[path = "../support/child.rs"]
mod child;
mod heap;
mod limits;
mod populate;
mod scenes;

use farpage::SpaceReport;

/// What must not change when something was refused: all but what is populated, as a part of that may have been.
fn unpopulated(mut report: SpaceReport) -> SpaceReport {
    report.section_bytes = 0;
    report.metadata_populated_bytes = 0;
    report.metadata_resident_bytes = None;
    report.metadata_populates = 0;
    report
}
