//! The sequential best fit: each request is cut from the shortest free extent that has an aligned run of its order.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use super::stream::Heap;

/// Orders that an extent can be good for: those of all `u32` lengths.
const NR_ORDERS: usize = 32;

/// The free extents of a device, by place and by what they are good for.
#[derive(Clone, Debug)]
pub struct BestFit {
    /// The length of each extent, by its start.
    by_start: BTreeMap<u32, u32>,
    /// For each order, length and start of the extents that have an aligned run of that order and of none above.
    by_order: [BTreeSet<(u32, u32)>; NR_ORDERS],
    free_pages: u64,
}

impl BestFit {
    /// `nr_pages` pages, all of them free.
    pub fn new(nr_pages: u32) -> Self {
        let mut empty =
            Self { by_start: BTreeMap::new(), by_order: [const { BTreeSet::new() }; NR_ORDERS], free_pages: 0 };
        empty.insert(0, nr_pages);
        empty
    }

    /// How many pages are free.
    pub fn free_pages(&self) -> u64 {
        self.free_pages
    }

    /// How many of them are in aligned runs of `order`, cut without waste from where they lie.
    pub fn free_pages_in_runs(&self, order: u8) -> u64 {
        let runs = self.by_start.iter().map(|(&start, &length)| {
            let end = (start + length) >> order;
            u64::from(end.saturating_sub(align_up(start, order) >> order))
        });
        runs.sum::<u64>() << order
    }

    fn insert(&mut self, start: u32, length: u32) {
        if length > 0 {
            self.by_start.insert(start, length);
            self.by_order[usize::from(largest_order(start, length))].insert((length, start));
            self.free_pages += u64::from(length);
        }
    }

    fn remove(&mut self, start: u32, length: u32) {
        self.by_start.remove(&start);
        self.by_order[usize::from(largest_order(start, length))].remove(&(length, start));
        self.free_pages -= u64::from(length);
    }
}

impl Heap for BestFit {
    /// The first page and the order.
    type Held = (u32, u8);

    fn alloc(&mut self, order: u8) -> Option<(u32, u8)> {
        let good = &self.by_order[usize::from(order)..];
        let &(length, start) = good.iter().filter_map(BTreeSet::first).min()?;
        self.remove(start, length);
        let (run, nr_pages) = (align_up(start, order), 1 << order);
        self.insert(start, run - start);
        self.insert(run + nr_pages, start + length - run - nr_pages);
        Some((run, order))
    }

    fn free(&mut self, (mut start, order): (u32, u8)) {
        let mut length = 1 << order;
        if let Some((&before, &before_length)) = self.by_start.range(..start).next_back() {
            assert!(before + before_length <= start, "page {start} is freed twice");
            if before + before_length == start {
                self.remove(before, before_length);
                (start, length) = (before, before_length + length);
            }
        }
        if let Some(&after_length) = self.by_start.get(&(start + length)) {
            self.remove(start + length, after_length);
            length += after_length;
        }
        self.insert(start, length);
    }
}

/// The largest order of which a free extent has an aligned run.
fn largest_order(start: u32, length: u32) -> u8 {
    let most = length.ilog2() as u8;
    // Of two halves of an order, one is aligned to it: so it is this one or the one below.
    if align_up(start, most) + (1 << most) <= start + length { most } else { most - 1 }
}

fn align_up(page: u32, order: u8) -> u32 {
    page.next_multiple_of(1 << order)
}

#[cfg(test)]
mod tests {
    use super::super::mix::Mix;
    use super::super::stream::Stream;
    use super::*;
    use crate::random::SplitMix;

    /// Every page on its own: the answer of a search without any cleverness.
    fn best_fit_by_hand(is_free: &[bool], order: u8) -> Option<u32> {
        let runs = is_free.iter().enumerate().filter(|&(page, free)| *free && (page == 0 || !is_free[page - 1]));
        let extents = runs.map(|(start, _)| (is_free[start..].iter().take_while(|free| **free).count(), start));
        let fits = extents.filter_map(|(length, start)| {
            let run = start.next_multiple_of(1 << order);
            (run + (1 << order) <= start + length).then_some((length, start, run))
        });
        fits.min().map(|(_, _, run)| run as u32)
    }

    #[test]
    fn it_chooses_as_a_search_by_hand_does() {
        const NR_PAGES: usize = 600;
        let (mut heap, mut is_free) = (BestFit::new(NR_PAGES as u32), [true; NR_PAGES]);
        let (mut random, mut held) = (SplitMix::new(7), Vec::new());
        let mark = |is_free: &mut [bool; NR_PAGES], (start, order): (u32, u8), free| {
            is_free[start as usize..][..1 << order].fill(free);
        };
        for _ in 0..5000 {
            if random.below(5) < 3 || held.is_empty() {
                let order = random.below(8) as u8;
                let given = heap.alloc(order);
                assert_eq!(given.map(|(start, _)| start), best_fit_by_hand(&is_free, order));
                given.inspect(|&run| mark(&mut is_free, run, false));
                held.extend(given);
            } else {
                let run = held.swap_remove(random.below(held.len()));
                heap.free(run);
                mark(&mut is_free, run, true);
            }
            assert_eq!(heap.free_pages(), is_free.iter().filter(|free| **free).count() as u64);
            let blocks = is_free.chunks_exact(64).filter(|block| block.iter().all(|free| *free)).count();
            assert_eq!(heap.free_pages_in_runs(6), 64 * blocks as u64);
        }
    }

    #[test]
    fn a_stream_gives_all_of_it_back() {
        let mut heap = BestFit::new(1 << 14);
        let mut stream = Stream::new(&Mix::all()[0], 0, 1 << 13);
        stream.fill(&mut heap);
        for _ in 0..10_000 {
            stream.step(&mut heap);
        }
        let held: u64 = stream.held().map(|(order, _)| 1 << order).sum();
        assert_eq!(held + heap.free_pages(), 1 << 14);
        assert!((7700..=1 << 13).contains(&held), "{held} pages are close below the mark");
        stream.end(&mut heap);
        assert_eq!(heap.free_pages_in_runs(14), 1 << 14);
    }
}
