//! Locks for many readers or one writer, which `sync` does not have: the plain one, and one in stripes, whose readers write no
//! line that readers on other cores write.
#![forbid(unsafe_code)]

#[cfg(not(all(loom, feature = "loom")))]
mod imp {
    pub(in super::super) use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
}

#[cfg(all(loom, feature = "loom"))]
mod imp {
    pub(in super::super) use loom::sync::{RwLockReadGuard, RwLockWriteGuard};

    /// loom's, with the face of the other one.
    pub(in super::super) struct RwLock<T>(loom::sync::RwLock<T>);

    impl<T> RwLock<T> {
        pub(in super::super) fn new(value: T) -> RwLock<T> {
            RwLock(loom::sync::RwLock::new(value))
        }

        pub(in super::super) fn read(&self) -> RwLockReadGuard<'_, T> {
            self.0.read().expect("no model unwinds with a lock held")
        }

        pub(in super::super) fn write(&self) -> RwLockWriteGuard<'_, T> {
            self.0.write().expect("no model unwinds with a lock held")
        }
    }
}

pub(super) use imp::*;

use super::page_table::Trace;
use super::vma::Area;
use crate::geometry::MODEL;
use crate::sync::{Mutex, thread_slot};

/// A power of two. Two threads of which each is on a core of its own rarely share a stripe.
const STRIPES: usize = if MODEL { 2 } else { 8 };

/// A lock and a copy of what it guards for each of a few groups of threads. A reader takes its group's; a writer takes all,
/// in their order, and keeps the copies alike.
pub(super) struct Striped<T>([Stripe<T>; STRIPES]);

/// On lines of its own, of which processors fetch two at a time.
#[repr(align(128))]
struct Stripe<T>(RwLock<T>);

impl<T> Striped<T> {
    pub(super) fn new(mut value: impl FnMut() -> T) -> Striped<T> {
        Striped(core::array::from_fn(|_| Stripe(RwLock::new(value()))))
    }

    #[inline]
    pub(super) fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0[thread_slot().unwrap_or(0) % STRIPES].0.read()
    }

    pub(super) fn write(&self) -> [RwLockWriteGuard<'_, T>; STRIPES] {
        core::array::from_fn(|stripe| self.0[stripe].0.write())
    }
}

/// The lock that keeps an address space's mappings as they are. Each stripe remembers what was looked for last there, as long as
/// mappings do not change. (Linux had that for each thread, `vmacache`.)
pub(super) struct MapLock(Striped<Mutex<Recent>>);

/// The mapping and the table that were looked for last.
#[derive(Default)]
pub(super) struct Recent {
    area: Option<Area>,
    trace: Option<Trace>,
}

/// [`MapLock`] held shared.
pub(super) struct Mapped<'a>(RwLockReadGuard<'a, Mutex<Recent>>);

/// [`MapLock`] held exclusively.
pub(super) struct Changing<'a>(#[allow(dead_code, reason = "held")] [RwLockWriteGuard<'a, Mutex<Recent>>; STRIPES]);

impl MapLock {
    pub(super) fn new() -> MapLock {
        MapLock(Striped::new(|| Mutex::new(Recent::default())))
    }

    #[inline]
    pub(super) fn read(&self) -> Mapped<'_> {
        Mapped(self.0.read())
    }

    pub(super) fn write(&self) -> Changing<'_> {
        let stripes = self.0.write();
        for recent in &stripes {
            *recent.lock() = Recent::default();
        }
        Changing(stripes)
    }
}

impl Mapped<'_> {
    /// The mapping of page `vpn`, and where its table is, by `find` and `trace` if they are not what was looked for last.
    #[inline]
    pub(super) fn look(
        &self,
        vpn: u64,
        find: impl FnOnce() -> Option<Area>,
        trace: impl FnOnce() -> Option<Trace>,
    ) -> Option<(Area, Option<Trace>)> {
        let mut recent = self.0.lock();
        if !recent.area.is_some_and(|area| area.range.has_page(vpn)) {
            recent.area = Some(find()?);
        }
        if !recent.trace.is_some_and(|trace| trace.has(vpn)) {
            recent.trace = trace();
        }
        Some((recent.area?, recent.trace))
    }
}
