//! The rivals on the course: the plain array, two published crates, and a locked tree of ranges.
//!
//! Each holds the same content, a state and a private word for each page, and is read as its
//! documentation says.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use idr_ebr::{EbrGuard, Idr};
use parking_lot::RwLock;
use sharded_slab::Slab;

use crate::chain::{Chain, Keys};
use crate::course::Lookup;
use crate::plain::PlainArray;

/// A record of a shared table: what [`Record`](crate::plain::Record) is, but writable through `&`.
#[derive(Debug)]
pub struct SharedRecord {
    _state: u64,
    private: AtomicU64,
}

impl SharedRecord {
    fn new() -> Self {
        Self { _state: 1, private: AtomicU64::new(0) }
    }
}

/// Indexing the plain array: the yardstick of every ratio.
#[derive(Clone, Copy, Debug)]
pub struct Plain<'a>(pub &'a [crate::plain::Record]);

impl Plain<'_> {
    /// Links the array into the chain.
    pub fn link(array: &mut PlainArray, chain: &Chain) -> Keys<usize> {
        let indices = (0..array.len()).collect();
        Keys::link::<Plain<'_>>(chain, indices, |index, private| {
            array[index].private = private;
        })
    }
}

impl Lookup for Plain<'_> {
    type Key = usize;

    #[inline]
    fn private(&self, index: usize) -> u64 {
        self.0[index].private
    }

    #[inline]
    fn key(private: u64) -> usize {
        private as usize
    }

    #[inline]
    fn word(index: usize) -> u64 {
        index as u64
    }
}

/// `sharded-slab`: a generation-checked slab; `get` counts the reference.
#[derive(Debug)]
pub struct ShardedSlab(Slab<SharedRecord>);

impl ShardedSlab {
    /// A slab with a record for each page.
    pub fn new(chain: &Chain) -> (Self, Keys<usize>) {
        let slab = Slab::new();
        let keys = (0..chain.nr_pages()).map(|_| slab.insert(SharedRecord::new()).expect("room")).collect();
        let keys = Keys::link::<&Self>(chain, keys, |key, private| {
            slab.get(key).expect("inserted above").private.store(private, Relaxed);
        });
        (Self(slab), keys)
    }
}

impl Lookup for &ShardedSlab {
    type Key = usize;

    #[inline]
    fn private(&self, key: usize) -> u64 {
        self.0.get(key).expect("a live key").private.load(Relaxed)
    }

    #[inline]
    fn key(private: u64) -> usize {
        private as usize
    }

    #[inline]
    fn word(key: usize) -> u64 {
        key as u64
    }
}

/// `idr-ebr` with an epoch guard for each lookup.
#[derive(Debug)]
pub struct IdrEbr(Idr<SharedRecord>);

impl IdrEbr {
    /// A table with a record for each page.
    pub fn new(chain: &Chain) -> (Self, Keys<idr_ebr::Key>) {
        let idr = Idr::new();
        let keys = (0..chain.nr_pages()).map(|_| idr.insert(SharedRecord::new()).expect("room")).collect();
        let guard = EbrGuard::new();
        let keys = Keys::link::<&Self>(chain, keys, |key, private| {
            idr.get(key, &guard).expect("inserted above").private.store(private, Relaxed);
        });
        (Self(idr), keys)
    }
}

impl Lookup for &IdrEbr {
    type Key = idr_ebr::Key;

    #[inline]
    fn private(&self, key: idr_ebr::Key) -> u64 {
        let guard = EbrGuard::new();
        self.0.get(key, &guard).expect("a live key").private.load(Relaxed)
    }

    #[inline]
    fn key(private: u64) -> idr_ebr::Key {
        private.try_into().expect("a key is not 0")
    }

    #[inline]
    fn word(key: idr_ebr::Key) -> u64 {
        key.into()
    }
}

/// `idr-ebr` with one epoch guard for the whole visit, which holds all reclamation up meanwhile.
#[derive(Debug)]
pub struct IdrEbrPinned<'a> {
    idr: &'a IdrEbr,
    guard: EbrGuard,
}

impl<'a> IdrEbrPinned<'a> {
    /// Pins the epoch for as long as this lives.
    pub fn new(idr: &'a IdrEbr) -> Self {
        Self { idr, guard: EbrGuard::new() }
    }
}

impl Lookup for IdrEbrPinned<'_> {
    type Key = idr_ebr::Key;

    #[inline]
    fn private(&self, key: idr_ebr::Key) -> u64 {
        self.idr.0.get(key, &self.guard).expect("a live key").private.load(Relaxed)
    }

    #[inline]
    fn key(private: u64) -> idr_ebr::Key {
        <&IdrEbr>::key(private)
    }

    #[inline]
    fn word(key: idr_ebr::Key) -> u64 {
        <&IdrEbr>::word(key)
    }
}

/// Pages of one range of the tree: 2 MiB of 4 KiB pages, the usual chunk of a driver's range tree.
const RANGE_PAGES: usize = 512;

/// A tree of ranges behind a reader-writer lock, each with its place in the plain array: what those
/// do who walk a maple tree or a range tree from a device offset to their `struct page`.
#[derive(Debug)]
pub struct LockedTree<'a> {
    ranges: RwLock<BTreeMap<usize, Range>>,
    records: &'a [crate::plain::Record],
}

#[derive(Debug)]
struct Range {
    end: usize,
    base: usize,
}

impl<'a> LockedTree<'a> {
    /// The ranges of all of `array`.
    pub fn new(records: &'a [crate::plain::Record]) -> Self {
        let ranges = (0..records.len())
            .step_by(RANGE_PAGES)
            .map(|base| (base, Range { end: records.len().min(base + RANGE_PAGES), base }))
            .collect();
        Self { ranges: RwLock::new(ranges), records }
    }
}

impl Lookup for LockedTree<'_> {
    type Key = usize;

    #[inline]
    fn private(&self, offset: usize) -> u64 {
        let ranges = self.ranges.read();
        let (&start, range) = ranges.range(..=offset).next_back().expect("a range");
        assert!(offset < range.end, "offset {offset} is in a hole");
        self.records[range.base + (offset - start)].private
    }

    #[inline]
    fn key(private: u64) -> usize {
        private as usize
    }

    #[inline]
    fn word(offset: usize) -> u64 {
        offset as u64
    }
}
