//! The best-fit allocator that people write when they need one: free extents in two trees.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

/// The free extents of a device.
#[derive(Clone, Debug)]
pub struct Extents {
    /// The length of each extent, by its start.
    by_start: BTreeMap<u32, u32>,
    /// The same extents by length, then start: the first that is long enough is the best fit.
    by_length: BTreeSet<(u32, u32)>,
}

impl Extents {
    /// `nr_pages` pages, all of them free.
    pub fn new(nr_pages: u32) -> Self {
        Self { by_start: BTreeMap::from([(0, nr_pages)]), by_length: BTreeSet::from([(nr_pages, 0)]) }
    }

    /// Takes the first `nr_pages` of the shortest extent that has as many.
    pub fn alloc(&mut self, nr_pages: u32) -> Option<u32> {
        let &(length, start) = self.by_length.range((nr_pages, 0)..).next()?;
        self.remove(start, length);
        if length > nr_pages {
            self.insert(start + nr_pages, length - nr_pages);
        }
        Some(start)
    }

    /// Gives a run back, and joins it with the free extents beside it.
    pub fn free(&mut self, mut start: u32, mut nr_pages: u32) {
        if let Some((&before, &length)) = self.by_start.range(..start).next_back() {
            assert!(before + length <= start, "page {start} is freed twice");
            if before + length == start {
                self.remove(before, length);
                (start, nr_pages) = (before, length + nr_pages);
            }
        }
        if let Some(&length) = self.by_start.get(&(start + nr_pages)) {
            self.remove(start + nr_pages, length);
            nr_pages += length;
        }
        self.insert(start, nr_pages);
    }

    /// The free extents in order of place, each with its length.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.by_start.iter().map(|(&start, &length)| (start, length))
    }

    fn insert(&mut self, start: u32, length: u32) {
        self.by_start.insert(start, length);
        self.by_length.insert((length, start));
    }

    fn remove(&mut self, start: u32, length: u32) {
        self.by_start.remove(&start);
        self.by_length.remove(&(length, start));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_sufficient_extent_serves_and_neighbours_join() {
        let mut extents = Extents::new(100);
        let starts = [10, 5, 10, 3, 10].map(|nr_pages| extents.alloc(nr_pages).unwrap());
        assert_eq!(starts, [0, 10, 15, 25, 28]);
        extents.free(10, 5);
        extents.free(25, 3);
        assert_eq!(extents.alloc(2), Some(25), "3 pages fit better than 5 or 62");
        assert_eq!(extents.alloc(4), Some(10));
        assert_eq!(extents.alloc(63), None);
        for (start, nr_pages) in [(25, 2), (0, 10), (15, 10), (10, 4), (28, 10)] {
            extents.free(start, nr_pages);
        }
        assert_eq!(extents.iter().collect::<Vec<_>>(), [(0, 100)]);
    }
}
