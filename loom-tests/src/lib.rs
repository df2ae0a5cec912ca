//! What the models share: how they are run, and the witness that shows whether an edge is there.

#[cfg(not(loom))]
compile_error!("the models need RUSTFLAGS=\"--cfg loom\"");

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use farpage::Space;
use loom::cell::UnsafeCell;

/// Explores `body` with at most `LOOM_MAX_PREEMPTIONS` preemptions (2 if it is not set).
#[track_caller]
pub fn bounded(name: &str, body: impl Fn() + Send + Sync + 'static) {
    let builder = loom::model::Builder::new();
    explore(name, Some(builder.preemption_bound.unwrap_or(2)), builder, body);
}

/// As `bounded`, with `less` preemptions less: for models that are too large.
#[track_caller]
pub fn bounded_less(less: usize, name: &str, body: impl Fn() + Send + Sync + 'static) {
    let builder = loom::model::Builder::new();
    explore(name, Some(builder.preemption_bound.unwrap_or(2).saturating_sub(less)), builder, body);
}

/// As `bounded`, with one preemption more: for models that have teeth only then, and are small enough.
#[track_caller]
pub fn bounded_more(name: &str, body: impl Fn() + Send + Sync + 'static) {
    let builder = loom::model::Builder::new();
    explore(name, Some(builder.preemption_bound.unwrap_or(2) + 1), builder, body);
}

/// As `bounded`, with no more than `most` preemptions: for models that take hours with more.
#[track_caller]
pub fn bounded_by(most: usize, name: &str, body: impl Fn() + Send + Sync + 'static) {
    let builder = loom::model::Builder::new();
    explore(name, Some(builder.preemption_bound.unwrap_or(2).min(most)), builder, body);
}

/// Explores every interleaving of `body`: for models that are small enough.
#[track_caller]
pub fn unbounded(name: &str, body: impl Fn() + Send + Sync + 'static) {
    explore(name, None, loom::model::Builder::new(), body);
}

fn explore(
    name: &str,
    bound: Option<usize>,
    mut builder: loom::model::Builder,
    body: impl Fn() + Send + Sync + 'static,
) {
    // Either would end the search early, and silently: a pass that means nothing.
    assert!(builder.max_duration.is_none() && builder.max_permutations.is_none(), "a model is explored to its end");
    builder.preemption_bound = bound;
    builder.max_branches = builder.max_branches.max(20_000);
    let (executions, start) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let count = Arc::clone(&executions);
    builder.check(move || {
        count.fetch_add(1, Relaxed);
        body();
    });
    let bound = bound.map_or("unbounded".to_owned(), |bound| format!("bound {bound}"));
    println!("{name}: {} executions, {bound}, {:.2?}", executions.load(Relaxed), start.elapsed());
}

/// Plain data that is written before an edge and read after it. Loom fails the model where two uses, one of them a
/// write, are not ordered.
#[derive(Default)]
pub struct Witness(UnsafeCell<u64>);

// SAFETY: Not true by itself: whether uses are ordered is what a model asks, and loom's cell checks every one.
unsafe impl Sync for Witness {}

impl Witness {
    pub fn new(value: u64) -> Witness {
        Witness(UnsafeCell::new(value))
    }

    pub fn read(&self) -> u64 {
        // SAFETY: Loom's cell ends the execution before a racing read.
        self.0.with(|value| unsafe { *value })
    }

    pub fn write(&self, new: u64) {
        // SAFETY: As in `read`.
        self.0.with_mut(|value| unsafe { *value = new });
    }
}

/// Who owns which page: a plain witness for each, and a flag that loom does not see, so that it orders nothing.
#[derive(Default)]
pub struct Owned {
    pages: Vec<(Witness, AtomicU64)>,
}

impl Owned {
    pub fn new(nr_pages: u64) -> Owned {
        Owned { pages: (0..nr_pages).map(|_| (Witness::new(0), AtomicU64::new(0))).collect() }
    }

    /// The caller has just claimed `nr` pages from `first` on.
    pub fn begin(&self, first: u64, nr: u64) {
        for page in first..first + nr {
            let (witness, owned) = &self.pages[page as usize];
            assert_eq!(owned.swap(1, Relaxed), 0, "page {page} has two owners");
            witness.write(witness.read() + 1);
        }
    }

    /// The caller is about to release them.
    pub fn end(&self, first: u64, nr: u64) {
        for page in first..first + nr {
            let (witness, owned) = &self.pages[page as usize];
            witness.write(witness.read() + 1);
            assert_eq!(owned.swap(0, Relaxed), 1, "page {page} was not owned");
        }
    }
}

/// Runs `body` on a space of `nr_pages`, which is dropped when it returns; whoever borrowed it must be gone by then.
pub fn with_space(nr_pages: u64, body: impl FnOnce(&'static Space)) {
    let space = Box::into_raw(Box::new(Space::builder().max_pages(nr_pages).build().expect("a space")));
    // SAFETY: Just made; freed only below.
    body(unsafe { &*space });
    // SAFETY: `body` joined its threads and dropped its handles, as every model does. If it unwound, the space leaks.
    drop(unsafe { Box::from_raw(space) });
}
