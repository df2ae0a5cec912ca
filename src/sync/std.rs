//! Atomics and locks of the standard library and of `parking_lot`.
#![forbid(unsafe_code)]

use core::time::Duration;

pub(crate) use super::barrier::{heavy_barrier, light_barrier, prepare_barriers};
pub(crate) use super::cell::UnsafeCell;
pub(crate) use super::slots::thread_slot;

pub(crate) use std::sync::Arc;

pub(crate) use core::sync::atomic::AtomicI64;
pub(crate) use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

pub(crate) use crossbeam_utils::Backoff;
pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};

/// Waits for a wake-up of `condvar`, no longer than `limit`; `true` if the time ran out.
pub(crate) fn wait_for<'a, T>(
    condvar: &Condvar,
    mut guard: MutexGuard<'a, T>,
    limit: Duration,
) -> (MutexGuard<'a, T>, bool) {
    let timed_out = condvar.wait_for(&mut guard, limit).timed_out();
    (guard, timed_out)
}
