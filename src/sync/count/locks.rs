//! What waits: a lock, a condition, and backing off. A logical thread waits by passing the turn on.
//!
//! A lock is one word for the counts: taking it and giving it back are a read-modify-write each.

use core::ops::{Deref, DerefMut};
use core::panic::Location;
use core::time::Duration;

use super::ledger::{Access, Site};
use super::run::{is_logical, pass, touch};

pub use parking_lot::Condvar;

/// `parking_lot`'s, counted.
#[derive(Debug, Default)]
pub struct Mutex<T>(parking_lot::Mutex<T>);

/// The lock, held.
#[must_use = "a lock is given back when its guard is dropped"]
pub struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    /// Absent only while it is dropped.
    held: Option<parking_lot::MutexGuard<'a, T>>,
    /// Who took it: giving it back counts as theirs.
    site: Site,
}

impl<T> Mutex<T> {
    /// A lock around `value`.
    pub const fn new(value: T) -> Mutex<T> {
        Mutex(parking_lot::Mutex::new(value))
    }

    /// Takes the lock, and waits for it if it is taken.
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let site = Location::caller();
        loop {
            if let Some(guard) = self.try_lock_at(site) {
                return guard;
            }
            if is_logical() {
                pass();
            } else {
                return MutexGuard { mutex: self, held: Some(self.0.lock()), site };
            }
        }
    }

    /// Takes the lock if it is free.
    #[track_caller]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.try_lock_at(Location::caller())
    }

    fn try_lock_at(&self, site: Site) -> Option<MutexGuard<'_, T>> {
        let held = touch(self.address(), site, || {
            let held = self.0.try_lock();
            let access = if held.is_some() { Access::Rmw } else { Access::FailedRmw };
            (held, access)
        })?;
        Some(MutexGuard { mutex: self, held: Some(held), site })
    }

    /// The value, which nobody else can reach: not counted.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }

    /// The value, which nobody else can reach: not counted.
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }

    fn address(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.held.as_ref().expect("a guard that is not being dropped holds its lock")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.held.as_mut().expect("a guard that is not being dropped holds its lock")
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        touch(self.mutex.address(), self.site, || (self.held = None, Access::Rmw));
    }
}

/// Waits for a wake-up of `condvar`, no longer than `limit`; `true` if the time ran out.
///
/// A logical thread gives the lock back for one round and is woken without a reason, as any waiter may be.
pub fn wait_for<'a, T>(condvar: &Condvar, mut guard: MutexGuard<'a, T>, limit: Duration) -> (MutexGuard<'a, T>, bool) {
    if is_logical() {
        let mutex = guard.mutex;
        drop(guard);
        pass();
        return (mutex.lock(), false);
    }
    let held = guard.held.as_mut().expect("a guard that is not being dropped holds its lock");
    let timed_out = condvar.wait_for(held, limit).timed_out();
    (guard, timed_out)
}

/// Waits a little for another thread to get on: in a run, until it had a turn.
#[derive(Debug)]
pub struct Backoff(crossbeam_utils::Backoff);

impl Backoff {
    /// For one loop.
    #[allow(clippy::new_without_default, reason = "as crossbeam's, which the loops are written for")]
    pub fn new() -> Backoff {
        Backoff(crossbeam_utils::Backoff::new())
    }

    /// Backs off because of a lost race.
    pub fn spin(&self) {
        if !is_logical() {
            self.0.spin();
        }
    }

    /// Backs off because another thread has to get on first.
    pub fn snooze(&self) {
        if is_logical() {
            pass();
        } else {
            self.0.snooze();
        }
    }
}
