//! loom's, as far as the code uses them.
#![forbid(unsafe_code)]

use core::time::Duration;

pub(crate) use loom::sync::MutexGuard;
// Pointers are published once and then only loaded; announcing these loads would only cost schedules.
pub(crate) use loom::sync::atomic::{AtomicPtr, Ordering};

/// An atomic whose loads loom never forgets.
///
/// loom 0.7 keeps only the last access of an atomic. When a thread loads before it stores, as every loop around a
/// compare-exchange does, its own load hides the one of another thread before, and the schedules in which the
/// store comes first are silently not explored (tokio-rs/loom issues 166 and 392). So each load is announced by a
/// store to a word beside it, which orders nothing (it is relaxed, and never read) but lets loom see two loads as
/// a choice.
pub(crate) struct Announced<A> {
    atomic: A,
    loads: loom::sync::atomic::AtomicBool,
}

impl<A> Announced<A> {
    fn with(atomic: A) -> Announced<A> {
        Announced { atomic, loads: loom::sync::atomic::AtomicBool::new(false) }
    }

    fn announced(&self) -> &A {
        self.loads.store(true, Ordering::Relaxed);
        &self.atomic
    }
}

// Everything but a load goes to loom's atomic as it is.
impl<A> core::ops::Deref for Announced<A> {
    type Target = A;

    fn deref(&self) -> &A {
        &self.atomic
    }
}

macro_rules! announced {
    ($($name:ident: $value:ty),*) => {$(
        pub(crate) type $name = Announced<loom::sync::atomic::$name>;

        impl $name {
            pub(crate) fn new(value: $value) -> $name {
                Announced::with(loom::sync::atomic::$name::new(value))
            }

            pub(crate) fn load(&self, order: Ordering) -> $value {
                self.announced().load(order)
            }
        }
    )*};
}

announced!(AtomicI64: i64, AtomicU32: u32, AtomicU64: u64);

/// Lets another thread go on: whoever waits in a model waits for that.
pub(crate) struct Backoff;

impl Backoff {
    pub(crate) fn new() -> Backoff {
        Backoff
    }

    pub(crate) fn snooze(&self) {
        loom::thread::yield_now();
    }
}

pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Mutex<T> {
        Mutex(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().expect("no model unwinds with a lock held")
    }
}

pub(crate) use loom::sync::Condvar;

/// Waits for a wake-up of `condvar`. In a model time stands still, so it never runs out.
pub(crate) fn wait_for<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>, _: Duration) -> (MutexGuard<'a, T>, bool) {
    (condvar.wait(guard).expect("no model unwinds with a lock held"), false)
}

/// Both sides fence in a model.
pub(crate) fn prepare_barriers() {}

pub(crate) fn light_barrier() {
    loom::sync::atomic::fence(Ordering::SeqCst);
}

pub(crate) fn heavy_barrier() {
    loom::sync::atomic::fence(Ordering::SeqCst);
}

/// A model names the seat that each of its threads has; whoever does not has none.
pub(crate) fn thread_slot() -> Option<usize> {
    None
}
