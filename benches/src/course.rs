//! The course: one loop, timed and checked, for every contestant.
//!
//! The loops are generic over the contestant, so that nobody has another loop than its rivals: they
//! stream 8-byte keys, look each up, and add the private words. Only what [`Lookup`] does differs.

#![forbid(unsafe_code)]

use std::fmt::Debug;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::chain::{Answered, Keys, RUN};

/// From a key to the private word of its page.
pub trait Lookup {
    /// What names a page: 8 bytes.
    type Key: Copy + PartialEq + Debug;

    /// The private word of the page that `key` names. Panics when there is none.
    fn private(&self, key: Self::Key) -> u64;

    /// The key that a private word is.
    fn key(private: u64) -> Self::Key;

    /// The private word that a key is.
    fn word(key: Self::Key) -> u64;

    /// The sum of the private words of `keys`: one by one, unless a contestant has a better way.
    fn sum(&self, keys: &[Self::Key]) -> u64 {
        sum_one_by_one(self, keys)
    }
}

/// The measured loop of independent lookups.
#[inline(never)]
fn sum_one_by_one<L: Lookup + ?Sized>(lookup: &L, keys: &[L::Key]) -> u64 {
    let mut sum = 0u64;
    for &key in keys {
        sum = sum.wrapping_add(lookup.private(key));
    }
    sum
}

/// The measured loop of dependent lookups: each key comes from the page before.
#[inline(never)]
pub fn chase<L: Lookup>(lookup: &L, start: L::Key, steps: usize) -> L::Key {
    let mut key = start;
    for _ in 0..steps {
        key = L::key(lookup.private(key));
    }
    key
}

/// How the pages are visited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pattern {
    /// Keys streamed in random order, lookups independent of each other.
    Random,
    /// Keys streamed in order of place.
    Sequential,
    /// In random order, each key read from the page before.
    Chase,
}

impl Pattern {
    /// All of them, in the order of the tables.
    pub const ALL: [Self; 3] = [Self::Random, Self::Sequential, Self::Chase];

    /// The word for tables and benchmark names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Sequential => "sequential",
            Self::Chase => "chase",
        }
    }
}

/// A contestant at the start: something that can be timed on each pattern.
pub trait Race {
    /// Its name in the tables.
    fn name(&self) -> &'static str;

    /// Whether it has a way of its own on this pattern.
    fn runs(&self, pattern: Pattern) -> bool;

    /// Visits `nr_runs` runs of [`RUN`] pages from run `from` on, round and round, and gives the
    /// time of that. Panics when the answer is wrong.
    fn run(&self, pattern: Pattern, from: usize, nr_runs: usize) -> Duration;
}

/// A [`Lookup`] with its keys.
#[derive(Debug)]
pub struct Racer<'k, L: Lookup> {
    name: &'static str,
    lookup: L,
    keys: &'k Keys<L::Key>,
    chases: bool,
}

impl<'k, L: Lookup> Racer<'k, L> {
    /// A contestant for every pattern.
    pub fn new(name: &'static str, lookup: L, keys: &'k Keys<L::Key>) -> Self {
        Self { name, lookup, keys, chases: true }
    }

    /// A contestant for all patterns but the chase, where there is never more than one key at hand.
    pub fn batched(name: &'static str, lookup: L, keys: &'k Keys<L::Key>) -> Self {
        Self { name, lookup, keys, chases: false }
    }

    fn visit(&self, visit: &Answered<L::Key>, from: usize, nr_runs: usize) -> Duration {
        let all = self.keys.nr_runs();
        let passes = || {
            let (mut at, mut left) = (from % all, nr_runs);
            std::iter::from_fn(move || {
                let runs = at..at + left.min(all - at);
                (at, left) = (0, left - runs.len());
                (!runs.is_empty()).then_some(runs)
            })
        };
        let mut sum = 0u64;
        let start = Instant::now();
        for runs in passes() {
            let keys = &visit.keys[runs.start * RUN..runs.end * RUN];
            sum = sum.wrapping_add(self.lookup.sum(keys));
        }
        let elapsed = start.elapsed();
        let wanted = passes().flat_map(|runs| &visit.sums[runs]).fold(0, |a: u64, &b| a.wrapping_add(b));
        assert_eq!(sum, wanted, "{} gave a wrong answer", self.name);
        elapsed
    }

    fn chase(&self, from: usize, nr_runs: usize) -> Duration {
        let keys = &self.keys.random.keys;
        let first = from * RUN % keys.len();
        let start = Instant::now();
        let end = chase(&self.lookup, keys[first], nr_runs * RUN);
        let elapsed = start.elapsed();
        let wanted = keys[(first + nr_runs * RUN) % keys.len()];
        assert_eq!(end, wanted, "{} chased to a wrong page", self.name);
        elapsed
    }
}

impl<L: Lookup> Race for Racer<'_, L> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn runs(&self, pattern: Pattern) -> bool {
        self.chases || pattern != Pattern::Chase
    }

    fn run(&self, pattern: Pattern, from: usize, nr_runs: usize) -> Duration {
        match pattern {
            Pattern::Random => self.visit(&self.keys.random, from, nr_runs),
            Pattern::Sequential => self.visit(&self.keys.sequential, from, nr_runs),
            Pattern::Chase => self.chase(from, nr_runs),
        }
    }
}
