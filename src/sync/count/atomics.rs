//! The atomics: the standard library's, each access announced to the run that the thread is part of.
//!
//! Transparent, as they lie in zeroed memory that is shared, and their sizes are fixed. A weak compare-exchange never
//! fails without reason here: it would be the machine's choice and not the seed's.

use core::panic::Location;
use core::sync::atomic::{self, Ordering};

use super::ledger::Access;
use super::run::touch;

fn outcome<T>(result: Result<T, T>) -> (Result<T, T>, Access) {
    let access = if result.is_ok() { Access::Rmw } else { Access::FailedRmw };
    (result, access)
}

// What any atomic can do. `$value` is what it holds.
macro_rules! common {
    ($name:ident, $value:ty) => {
        /// An atomic of value `value`.
        pub const fn new(value: $value) -> Self {
            Self(atomic::$name::new(value))
        }

        /// The standard library's `load`.
        #[track_caller]
        pub fn load(&self, order: Ordering) -> $value {
            touch(self.address(), Location::caller(), || (self.0.load(order), Access::Read))
        }

        /// The standard library's `store`.
        #[track_caller]
        pub fn store(&self, value: $value, order: Ordering) {
            touch(self.address(), Location::caller(), || (self.0.store(value, order), Access::Store));
        }

        /// The standard library's `swap`.
        #[track_caller]
        pub fn swap(&self, value: $value, order: Ordering) -> $value {
            touch(self.address(), Location::caller(), || (self.0.swap(value, order), Access::Rmw))
        }

        /// The standard library's `compare_exchange`.
        ///
        /// # Errors
        ///
        /// The value found, if it was not `current`.
        #[track_caller]
        pub fn compare_exchange(
            &self,
            current: $value,
            new: $value,
            success: Ordering,
            failure: Ordering,
        ) -> Result<$value, $value> {
            let exchange = || outcome(self.0.compare_exchange(current, new, success, failure));
            touch(self.address(), Location::caller(), exchange)
        }

        /// As `compare_exchange`: it fails only for a reason.
        ///
        /// # Errors
        ///
        /// The value found, if it was not `current`.
        #[track_caller]
        pub fn compare_exchange_weak(
            &self,
            current: $value,
            new: $value,
            success: Ordering,
            failure: Ordering,
        ) -> Result<$value, $value> {
            self.compare_exchange(current, new, success, failure)
        }

        /// The value, which nobody else can reach: not counted.
        pub fn get_mut(&mut self) -> &mut $value {
            self.0.get_mut()
        }

        /// The value, which nobody else can reach: not counted.
        pub fn into_inner(self) -> $value {
            self.0.into_inner()
        }

        fn address(&self) -> usize {
            core::ptr::from_ref(self).addr()
        }
    };
}

macro_rules! fetch {
    ($value:ty: $($fetch:ident),*) => {$(
        /// The standard library's method of this name.
        #[track_caller]
        pub fn $fetch(&self, operand: $value, order: Ordering) -> $value {
            touch(self.address(), Location::caller(), || (self.0.$fetch(operand, order), Access::Rmw))
        }
    )*};
}

macro_rules! integers {
    ($($name:ident: $value:ty),*) => {$(
        /// The standard library's, counted.
        #[derive(Debug, Default)]
        #[repr(transparent)]
        pub struct $name(atomic::$name);

        impl $name {
            common!($name, $value);
            fetch!($value: fetch_add, fetch_sub, fetch_and, fetch_nand, fetch_or, fetch_xor, fetch_max, fetch_min);
        }
    )*};
}

integers!(AtomicU8: u8, AtomicU32: u32, AtomicU64: u64, AtomicI64: i64);

/// The standard library's, counted.
#[derive(Debug)]
#[repr(transparent)]
pub struct AtomicPtr<T>(atomic::AtomicPtr<T>);

impl<T> AtomicPtr<T> {
    common!(AtomicPtr, *mut T);
}
