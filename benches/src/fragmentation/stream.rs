//! What one thread asks for and gives back: decided by its own random numbers and nothing else.
//!
//! What is asked for does not depend on what was given, not even on whether there was room: so the
//! same streams run on any allocator, in any interleaving.

#![forbid(unsafe_code)]

use super::mix::Mix;
use crate::random::SplitMix;

/// What serves a stream.
pub trait Heap {
    /// What owns an allocation.
    type Held;

    /// A naturally aligned run of `order`; `None` when there is none.
    fn alloc(&mut self, order: u8) -> Option<Self::Held>;

    /// Gives a run back.
    fn free(&mut self, held: Self::Held);
}

/// One thread's operations.
#[derive(Debug)]
pub struct Stream<H: Heap> {
    mix: Mix,
    random: SplitMix,
    /// With the order of each; empty where there was no room.
    held: Vec<(u8, Option<H::Held>)>,
    /// Pages of `held`, with those for which there was no room.
    filled: u64,
    mark: u64,
    /// The order that is asked for next.
    next: u8,
    failures: u64,
}

impl<H: Heap> Stream<H> {
    /// The stream of thread number `thread`, which fills `mark` pages and keeps close below that.
    pub fn new(mix: &Mix, thread: usize, mark: u64) -> Self {
        let mut random = SplitMix::new(0x6672_6167_6d00 + thread as u64);
        let next = mix.draw(&mut random);
        Self { mix: mix.clone(), random, held: Vec::new(), filled: 0, mark, next, failures: 0 }
    }

    /// Allocates up to the mark. These are no operations that count.
    pub fn fill(&mut self, heap: &mut H) {
        while self.has_room() {
            self.alloc(heap);
        }
    }

    /// One operation: an allocation if it fits below the mark, else a free of whatever chance picks.
    pub fn step(&mut self, heap: &mut H) {
        if self.has_room() {
            self.alloc(heap);
            return;
        }
        let (order, held) = self.held.swap_remove(self.random.below(self.held.len()));
        self.filled -= 1 << order;
        if let Some(held) = held {
            heap.free(held);
        }
    }

    /// What is held now.
    pub fn held(&self) -> impl Iterator<Item = (u8, &H::Held)> {
        self.held.iter().filter_map(|(order, held)| held.as_ref().map(|held| (*order, held)))
    }

    /// Requests for which there was no run.
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// Gives all of it back.
    pub fn end(self, heap: &mut H) {
        self.held.into_iter().filter_map(|(_, held)| held).for_each(|held| heap.free(held));
    }

    fn has_room(&self) -> bool {
        self.filled + (1 << self.next) <= self.mark
    }

    fn alloc(&mut self, heap: &mut H) {
        let held = heap.alloc(self.next);
        self.failures += u64::from(held.is_none());
        self.held.push((self.next, held));
        self.filled += 1 << self.next;
        self.next = self.mix.draw(&mut self.random);
    }
}
