//! loom's, as far as the code uses them.
#![forbid(unsafe_code)]

use core::time::Duration;

pub(crate) use loom::cell::UnsafeCell;
pub(crate) use loom::sync::{Arc, MutexGuard};
// Pointers are published once and then only loaded; announcing these loads would only cost schedules.
pub(crate) use loom::sync::atomic::{AtomicPtr, Ordering};

/// An atomic whose loads loom never forgets.
///
/// loom 0.7 keeps only the last access of an atomic. When a thread loads before it stores, as every loop around a
/// compare-exchange does, its own load hides the one of another thread before, and the schedules in which the
/// store comes first are silently not explored (tokio-rs/loom issues 166 and 392). So each load is announced by a
/// store to a word beside it, which orders nothing (it is relaxed, and never read) but lets loom see two loads as
/// a choice.
///
/// And when it is dropped, loom is asked whether all uses came before; one that follows fails the model, too.
pub(crate) struct Announced<A: Ends> {
    atomic: A,
    loads: loom::sync::atomic::AtomicBool,
}

/// An atomic of loom's.
pub(crate) trait Ends {
    /// Fails the model unless all uses come before.
    fn end(&mut self);
}

impl<A: Ends> Drop for Announced<A> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.atomic.end();
        }
    }
}

impl<A: Ends> Announced<A> {
    fn with(atomic: A) -> Announced<A> {
        Announced { atomic, loads: loom::sync::atomic::AtomicBool::new(false) }
    }

    fn announced(&self) -> &A {
        self.loads.store(true, Ordering::Relaxed);
        &self.atomic
    }
}

// Everything but a load goes to loom's atomic as it is.
impl<A: Ends> core::ops::Deref for Announced<A> {
    type Target = A;

    fn deref(&self) -> &A {
        &self.atomic
    }
}

macro_rules! announced {
    ($($name:ident: $value:ty),*) => {$(
        pub(crate) type $name = Announced<loom::sync::atomic::$name>;

        impl Ends for loom::sync::atomic::$name {
            fn end(&mut self) {
                self.with_mut(|_| ());
            }
        }

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

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok()
    }
}

pub(crate) use loom::sync::Condvar;

/// Waits for a wake-up of `condvar`. In a model time stands still, so it never runs out.
pub(crate) fn wait_for<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>, _: Duration) -> (MutexGuard<'a, T>, bool) {
    (condvar.wait(guard).expect("no model unwinds with a lock held"), false)
}

/// How many threads loom runs at most.
const MAX_THREADS: usize = 5;

/// For each thread of a model the word on which its barriers meet the heavy ones of the others.
///
/// Not fences: two of loom's order everything, also of two threads neither of which ever calls the heavy barrier, and make
/// each relaxed store behind them a release. That is more than a light barrier gives where it is no instruction. On one
/// word a light barrier comes before a heavy one, which then has all that it followed, or the other way round; and two
/// light ones have nothing to do with each other.
struct Barriers {
    words: [loom::sync::atomic::AtomicBool; MAX_THREADS],
    /// Words that are given out. Not seen by loom, so that it orders nothing.
    nr_threads: std::sync::atomic::AtomicUsize,
}

loom::lazy_static! {
    static ref BARRIERS: Barriers = Barriers {
        words: core::array::from_fn(|_| loom::sync::atomic::AtomicBool::new(false)),
        nr_threads: std::sync::atomic::AtomicUsize::new(0),
    };
}

loom::thread_local! {
    static WORD: usize = BARRIERS.nr_threads.fetch_add(1, Ordering::Relaxed);
}

/// To be called before threads are spawned, so that the first barrier does not order them.
pub(crate) fn prepare_barriers() {
    let _ = &BARRIERS.words;
}

pub(crate) fn light_barrier() {
    BARRIERS.words[WORD.with(|word| *word)].swap(true, Ordering::AcqRel);
}

pub(crate) fn heavy_barrier() {
    for word in &BARRIERS.words {
        word.swap(true, Ordering::AcqRel);
    }
}

/// A model names the seat that each of its threads has; whoever does not has none.
pub(crate) fn thread_slot() -> Option<usize> {
    None
}
