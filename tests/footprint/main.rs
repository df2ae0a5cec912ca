//! What this library costs the process, by what the system counts, page tables included: devices that come and go, devices
//! that are full, and what is left of them. Each test in a process of its own, so that nobody else's memory is counted. Linux
//! only, where `/proc` tells.

#![cfg(target_os = "linux")]

#[path = "../support/child.rs"]
mod child;
mod devices;
mod occupancy;
#[path = "../support/resident.rs"]
mod resident;
#[path = "../support/rng.rs"]
mod rng;
