//! A pair of operations that leaves its object as it was, and the one loop that every contestant runs.

#![forbid(unsafe_code)]

use std::ops::Range;
use std::time::Instant;

use crate::alloc::runner::{Runner, Tally};

/// A contestant: some objects, and a pair of operations on one of them.
pub trait Pair: Sync {
    /// How many objects; a power of two.
    fn nr_objects(&self) -> usize;

    /// Does the pair on object number `at`. Panics when the object is not there.
    fn step(&self, at: usize);

    /// Panics unless every object is as it was before the first step.
    fn assert_unchanged(&self);
}

/// One thread's walk over the objects, in the order in which they lie in the contestant's array: each contestant has shuffled
/// them there, all in the same way.
#[derive(Debug)]
pub struct Walk<'p, P> {
    pair: &'p P,
    at: usize,
}

impl<'p, P: Pair> Walk<'p, P> {
    /// The walk of thread number `thread`, from its own part of the objects on.
    pub fn new(pair: &'p P, thread: usize, nr_threads: usize) -> Self {
        assert!(pair.nr_objects().is_power_of_two(), "objects are numbered by the low bits");
        Self { pair, at: thread * pair.nr_objects() / nr_threads }
    }
}

impl<P: Pair> Runner for Walk<'_, P> {
    fn fill(&mut self) {}

    fn turn(&mut self, steps: usize) -> f64 {
        let (pair, from, mask) = (self.pair, self.at, self.pair.nr_objects() - 1);
        let start = Instant::now();
        for at in from..from + steps {
            pair.step(at & mask);
        }
        let elapsed = start.elapsed();
        self.at = (from + steps) & mask;
        elapsed.as_secs_f64() * 1e9 / steps as f64
    }

    fn audit(&mut self) -> Vec<Range<u64>> {
        self.pair.assert_unchanged();
        Vec::new()
    }

    fn end(&mut self) -> Tally {
        Tally::default()
    }
}
