//! The others: bare atomics in records of 16 bytes, `Arc` of as many bytes, `parking_lot`'s mutex in such a record.

#![forbid(unsafe_code)]

use std::hint::black_box;
use std::process;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::pair::Pair;
use crate::random::SplitMix;

/// What lies behind a bare count: a record as large as farpage's, in an array.
#[derive(Debug)]
#[repr(align(16))]
pub struct Record {
    count: AtomicU64,
}

/// An array of records.
pub fn records(nr_objects: usize) -> Vec<Record> {
    (0..nr_objects).map(|_| Record { count: AtomicU64::new(1) }).collect()
}

/// References of `array`'s elements in random order.
fn shuffled<T>(array: &[T], seed: u64) -> Vec<&T> {
    let mut refs: Vec<_> = array.iter().collect();
    SplitMix::new(seed).shuffle(&mut refs);
    refs
}

/// The last put of a bare count: it never comes, but whoever counts must ask.
#[cold]
#[inline(never)]
fn freed() -> ! {
    eprintln!("a count has come to 0");
    process::abort();
}

#[inline]
fn put(record: &Record) {
    if record.count.fetch_sub(1, Release) == 1 {
        record.count.load(Acquire);
        freed();
    }
}

/// `fetch_add` and `fetch_sub`, with the question for the last.
#[derive(Debug)]
pub struct AddSub<'a>(Vec<&'a Record>);

impl<'a> AddSub<'a> {
    /// On `array`.
    pub fn new(array: &'a [Record], seed: u64) -> Self {
        Self(shuffled(array, seed))
    }
}

impl Pair for AddSub<'_> {
    fn nr_objects(&self) -> usize {
        self.0.len()
    }

    #[inline]
    fn step(&self, at: usize) {
        let record = self.0[at];
        record.count.fetch_add(1, Relaxed);
        put(black_box(record));
    }

    fn assert_unchanged(&self) {
        assert!(self.0.iter().all(|record| record.count.load(Relaxed) == 1));
    }
}

/// A compare-exchange that adds unless the count is 0, and `fetch_sub`.
#[derive(Debug)]
pub struct ExchangeSub<'a>(Vec<&'a Record>);

impl<'a> ExchangeSub<'a> {
    /// On `array`.
    pub fn new(array: &'a [Record], seed: u64) -> Self {
        Self(shuffled(array, seed))
    }
}

impl Pair for ExchangeSub<'_> {
    fn nr_objects(&self) -> usize {
        self.0.len()
    }

    #[inline]
    fn step(&self, at: usize) {
        let record = self.0[at];
        let mut seen = record.count.load(Relaxed);
        loop {
            assert_ne!(seen, 0, "it lives");
            match record.count.compare_exchange_weak(seen, seen + 1, Acquire, Relaxed) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        put(black_box(record));
    }

    fn assert_unchanged(&self) {
        assert!(self.0.iter().all(|record| record.count.load(Relaxed) == 1));
    }
}

/// `Arc`s of 16 bytes, each allocated by itself, in random order.
pub fn arcs(nr_objects: usize, seed: u64) -> Vec<Arc<[u64; 2]>> {
    let mut arcs: Vec<_> = (0..nr_objects as u64).map(|number| Arc::new([number, 0])).collect();
    SplitMix::new(seed).shuffle(&mut arcs);
    arcs
}

/// `Clone` and `Drop` of an `Arc`.
#[derive(Debug)]
pub struct ArcCloneDrop(pub Vec<Arc<[u64; 2]>>);

impl Pair for ArcCloneDrop {
    fn nr_objects(&self) -> usize {
        self.0.len()
    }

    #[inline]
    fn step(&self, at: usize) {
        drop(black_box(Arc::clone(&self.0[at])));
    }

    fn assert_unchanged(&self) {
        assert!(self.0.iter().all(|arc| Arc::strong_count(arc) == 1));
    }
}

/// `Weak::upgrade` and `Drop`.
#[derive(Debug)]
pub struct ArcUpgradeDrop {
    arcs: Vec<Arc<[u64; 2]>>,
    weak: Vec<Weak<[u64; 2]>>,
}

impl ArcUpgradeDrop {
    /// Of each of `arcs`.
    pub fn new(arcs: Vec<Arc<[u64; 2]>>) -> Self {
        Self { weak: arcs.iter().map(Arc::downgrade).collect(), arcs }
    }
}

impl Pair for ArcUpgradeDrop {
    fn nr_objects(&self) -> usize {
        self.weak.len()
    }

    #[inline]
    fn step(&self, at: usize) {
        drop(black_box(self.weak[at].upgrade().expect("it lives")));
    }

    fn assert_unchanged(&self) {
        assert!(self.arcs.iter().all(|arc| Arc::strong_count(arc) == 1));
    }
}

/// A record with a lock.
#[derive(Debug, Default)]
#[repr(align(16))]
pub struct Locked(Mutex<u64>);

/// An array of them.
pub fn locks(nr_objects: usize) -> Vec<Locked> {
    (0..nr_objects).map(|_| Locked::default()).collect()
}

/// `lock` and the end of its guard.
#[derive(Debug)]
pub struct MutexLockUnlock<'a>(Vec<&'a Locked>);

impl<'a> MutexLockUnlock<'a> {
    /// On `array`.
    pub fn new(array: &'a [Locked], seed: u64) -> Self {
        Self(shuffled(array, seed))
    }
}

impl Pair for MutexLockUnlock<'_> {
    fn nr_objects(&self) -> usize {
        self.0.len()
    }

    #[inline]
    fn step(&self, at: usize) {
        drop(black_box(self.0[at].0.lock()));
    }

    fn assert_unchanged(&self) {
        assert!(self.0.iter().all(|locked| !locked.0.is_locked()));
    }
}
