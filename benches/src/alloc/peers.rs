//! The published crates as rivals, and the tree of extents behind its mutex.
//!
//! Each is used as its documentation says. None of them has page metadata or counts references, but
//! for `sharded-slab`, whose slots have a count and keep a 16-byte record here.

#![forbid(unsafe_code)]

use std::fmt;
use std::ops::Range;

use crossbeam_queue::ArrayQueue;
use offset_allocator::{Allocation, Allocator};
use parking_lot::Mutex;
use sbitmap::Sbitmap;
use sharded_slab::Slab;

use super::extents::Extents;
use super::rival::Rival;

/// `sbitmap`: single pages; a port of the kernel's. The hand is its hint.
pub struct Bitmap(Sbitmap);

impl Bitmap {
    /// A bitmap of `nr_pages` with words of the size that the crate chooses.
    pub fn new(nr_pages: u32) -> Self {
        Self(Sbitmap::new(nr_pages as usize, None, false))
    }
}

impl Rival for Bitmap {
    type Hand<'r> = usize;
    type Held = u32;

    /// Threads begin far from each other, as the kernel's do.
    fn hand(&self, thread: usize, nr_threads: usize) -> usize {
        self.0.depth() / nr_threads * thread
    }

    #[inline]
    fn alloc(&self, hint: &mut usize, _: u32) -> Option<u32> {
        self.0.get(hint).map(|page| page as u32)
    }

    #[inline]
    fn free(&self, hint: &mut usize, page: u32) {
        self.0.put(page as usize, hint);
    }

    fn pages(&self, &page: &u32, _: u32) -> Range<u64> {
        page.into()..u64::from(page) + 1
    }

    fn assert_all_free(&self) {
        assert_eq!(self.0.weight(), 0, "sbitmap has bits left");
    }
}

impl fmt::Debug for Bitmap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bitmap").field(&self.0.depth()).finish()
    }
}

/// `sharded-slab` of records as wide as farpage's.
#[derive(Debug, Default)]
pub struct Records(Slab<[u64; 2]>);

impl Rival for Records {
    type Hand<'r> = ();
    type Held = usize;

    fn hand(&self, _: usize, _: usize) {}

    #[inline]
    fn alloc(&self, (): &mut (), _: u32) -> Option<usize> {
        self.0.insert([1, 0])
    }

    #[inline]
    fn free(&self, (): &mut (), key: usize) {
        let removed = self.0.remove(key);
        debug_assert!(removed, "a key is removed twice");
    }

    /// The key, of which the slot's number is a part: as different as the pages are.
    fn pages(&self, &key: &usize, _: u32) -> Range<u64> {
        assert!(self.0.contains(key), "a held key has no record");
        key as u64..key as u64 + 1
    }

    /// A shared slab cannot list what it holds; `pages` has looked each key up.
    fn assert_all_free(&self) {}
}

/// A free list: `ArrayQueue` of the numbers of free pages.
#[derive(Debug)]
pub struct FreeList {
    queue: ArrayQueue<u32>,
}

impl FreeList {
    /// A list of `nr_pages` pages.
    pub fn new(nr_pages: u32) -> Self {
        let queue = ArrayQueue::new(nr_pages as usize);
        for page in 0..nr_pages {
            queue.push(page).expect("room for every page");
        }
        Self { queue }
    }
}

impl Rival for FreeList {
    type Hand<'r> = ();
    type Held = u32;

    fn hand(&self, _: usize, _: usize) {}

    #[inline]
    fn alloc(&self, (): &mut (), _: u32) -> Option<u32> {
        self.queue.pop()
    }

    #[inline]
    fn free(&self, (): &mut (), page: u32) {
        self.queue.push(page).expect("room for every page");
    }

    fn pages(&self, &page: &u32, _: u32) -> Range<u64> {
        page.into()..u64::from(page) + 1
    }

    fn assert_all_free(&self) {
        assert!(self.queue.is_full(), "pages are missing from the free list");
    }
}

/// `offset-allocator` in a mutex: two-level segregated fit, any length.
#[derive(Debug)]
pub struct LockedOffsets {
    allocator: Mutex<Allocator<u32>>,
    nr_pages: u32,
}

impl LockedOffsets {
    /// An allocator of `nr_pages`, with nodes for `most_held` runs and the holes between them.
    pub fn new(nr_pages: u32, most_held: u32) -> Self {
        let nodes = 2 * most_held + 64;
        Self { allocator: Mutex::new(Allocator::with_max_allocs(nr_pages, nodes)), nr_pages }
    }
}

impl Rival for LockedOffsets {
    type Hand<'r> = ();
    type Held = Allocation<u32>;

    fn hand(&self, _: usize, _: usize) {}

    #[inline]
    fn alloc(&self, (): &mut (), nr_pages: u32) -> Option<Allocation<u32>> {
        self.allocator.lock().allocate(nr_pages)
    }

    #[inline]
    fn free(&self, (): &mut (), allocation: Allocation<u32>) {
        self.allocator.lock().free(allocation);
    }

    fn pages(&self, allocation: &Allocation<u32>, nr_pages: u32) -> Range<u64> {
        allocation.offset.into()..u64::from(allocation.offset) + u64::from(nr_pages)
    }

    fn assert_all_free(&self) {
        let report = self.allocator.lock().storage_report();
        assert_eq!(report.total_free_space, self.nr_pages, "offset-allocator has lost pages");
    }
}

/// [`Extents`] in a mutex.
#[derive(Debug)]
pub struct LockedExtents {
    extents: Mutex<Extents>,
    nr_pages: u32,
}

impl LockedExtents {
    /// An allocator of `nr_pages`.
    pub fn new(nr_pages: u32) -> Self {
        Self { extents: Mutex::new(Extents::new(nr_pages)), nr_pages }
    }
}

impl Rival for LockedExtents {
    type Hand<'r> = ();
    /// The first page and the number of pages.
    type Held = (u32, u32);

    fn hand(&self, _: usize, _: usize) {}

    #[inline]
    fn alloc(&self, (): &mut (), nr_pages: u32) -> Option<(u32, u32)> {
        self.extents.lock().alloc(nr_pages).map(|start| (start, nr_pages))
    }

    #[inline]
    fn free(&self, (): &mut (), (start, nr_pages): (u32, u32)) {
        self.extents.lock().free(start, nr_pages);
    }

    fn pages(&self, &(start, nr_pages): &(u32, u32), _: u32) -> Range<u64> {
        start.into()..u64::from(start) + u64::from(nr_pages)
    }

    fn assert_all_free(&self) {
        assert!(self.extents.lock().iter().eq([(0, self.nr_pages)]), "the tree has lost pages");
    }
}
