//! A lock for many readers or one writer, which `sync` does not have: the address space's own.
#![forbid(unsafe_code)]

#[cfg(not(all(loom, feature = "loom")))]
mod imp {
    pub(in super::super) use parking_lot::{RwLock, RwLockReadGuard};
}

#[cfg(all(loom, feature = "loom"))]
mod imp {
    pub(in super::super) use loom::sync::RwLockReadGuard;
    use loom::sync::RwLockWriteGuard;

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
