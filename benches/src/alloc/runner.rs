//! What a thread runs: a [`Drive`](super::drive::Drive), the yardstick of all ratios, or arithmetic.

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

/// Arithmetic in registers, in eight chains that wait for nothing: how fast the processors of the machine are beside each other when
/// they share nothing that a program knows of. Where they are threads of one core, they do share what this needs.
#[derive(Debug, Default)]
pub struct Arithmetic([u64; 8]);

impl Runner for Arithmetic {
    fn fill(&mut self) {}

    fn turn(&mut self, steps: usize) -> f64 {
        let mut chains = self.0;
        let start = Instant::now();
        for step in 0..steps as u64 {
            // About as many instructions as a hot pair has.
            for round in 0..4 {
                for (number, chain) in chains.iter_mut().enumerate() {
                    *chain = chain.wrapping_add(step ^ (number as u64 + round)).rotate_left(3);
                }
            }
        }
        self.0 = black_box(chains);
        start.elapsed().as_secs_f64() * 1e9 / steps as f64
    }

    fn audit(&mut self) -> Vec<Range<u64>> {
        Vec::new()
    }

    fn end(&mut self) -> Tally {
        Tally::default()
    }
}
