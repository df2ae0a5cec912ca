//! What a thread runs: a [`Drive`](super::drive::Drive), or the yardstick of all ratios.

#![forbid(unsafe_code)]

use std::hint::black_box;
use std::ops::{Add, Range};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use serde::Serialize;

/// One thread's part of a contestant.
pub trait Runner: Send {
    /// Takes what is to be held all the while.
    fn fill(&mut self);

    /// Takes `steps` steps, and gives nanoseconds a step.
    fn turn(&mut self, steps: usize) -> f64;

    /// The pages that are held now, at least some.
    fn audit(&mut self) -> Vec<Range<u64>>;

    /// Gives all of them back, and tells how it went.
    fn end(&mut self) -> Tally;
}

/// Requests that may fail, and those that did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// All of them.
    pub requests: u64,
    /// For which there was no run.
    pub failures: u64,
}

impl Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { requests: self.requests + other.requests, failures: self.failures + other.failures }
    }
}

/// The yardstick: an atomic addition to a line that no other thread uses.
#[derive(Debug, Default)]
// Two lines, as processors fetch lines in pairs.
#[repr(align(128))]
pub struct ReadModifyWrite(AtomicU64);

impl Runner for ReadModifyWrite {
    fn fill(&mut self) {}

    fn turn(&mut self, steps: usize) -> f64 {
        let start = Instant::now();
        for _ in 0..steps {
            // The result is used, as an allocator uses it.
            black_box(self.0.fetch_add(1, Relaxed));
        }
        start.elapsed().as_secs_f64() * 1e9 / steps as f64
    }

    fn audit(&mut self) -> Vec<Range<u64>> {
        Vec::new()
    }

    fn end(&mut self) -> Tally {
        Tally::default()
    }
}
