//! What an allocator must be able to do to take part.

#![forbid(unsafe_code)]

use std::hint::black_box;
use std::ops::Range;

/// An allocator of pages, shared by the threads that drive it.
///
/// One instance serves one row, so it may know beforehand of what order its folios will be.
pub trait Rival: Sync {
    /// What a thread keeps between calls: a cache, a hint, or nothing.
    type Hand<'r>: Send
    where
        Self: 'r;

    /// What owns an allocation.
    type Held: Send;

    /// The hand of thread number `thread` out of `nr_threads`.
    fn hand(&self, thread: usize, nr_threads: usize) -> Self::Hand<'_>;

    /// Takes a run of `nr_pages`; `None` when there is no such run.
    fn alloc(&self, hand: &mut Self::Hand<'_>, nr_pages: u32) -> Option<Self::Held>;

    /// Gives a run back.
    fn free(&self, hand: &mut Self::Hand<'_>, held: Self::Held);

    /// Takes `n` runs of `nr_pages` and appends them: one by one, unless a rival has a better way.
    fn alloc_many(&self, hand: &mut Self::Hand<'_>, nr_pages: u32, n: usize, held: &mut Vec<Self::Held>) {
        for _ in 0..n {
            held.push(self.alloc(hand, nr_pages).expect("a free run"));
        }
    }

    /// Which pages an allocation has: what the answers are checked by.
    fn pages(&self, held: &Self::Held, nr_pages: u32) -> Range<u64>;

    /// Panics unless every page is free, as far as the allocator can tell.
    fn assert_all_free(&self);
}

/// No allocator: what remains is the loop, its random numbers, and the vector of what is held.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nothing;

impl Rival for Nothing {
    type Hand<'r> = ();
    /// As wide as a folio.
    type Held = [u64; 2];

    fn hand(&self, thread: usize, _: usize) {
        black_box(thread);
    }

    #[inline]
    fn alloc(&self, (): &mut (), nr_pages: u32) -> Option<[u64; 2]> {
        Some(black_box([0, u64::from(nr_pages)]))
    }

    #[inline]
    fn free(&self, (): &mut (), held: [u64; 2]) {
        black_box(held);
    }

    fn pages(&self, _: &[u64; 2], _: u32) -> Range<u64> {
        0..0
    }

    fn assert_all_free(&self) {}
}
