//! [`FreeRuns`]: free pages by the order of the runs that they lie in, and what that says of fragmentation.
#![forbid(unsafe_code)]

use core::ops::Deref;

use crate::geometry::{BLOCK_SHIFT, FULL_WORD, MAX_ORDER, PAGES_PER_BLOCK, WORD_SHIFT, WORDS_PER_BLOCK};
use crate::words::Order;

const NR_ORDERS: usize = MAX_ORDER as usize + 1;

/// How many free runs there are of each order, by order; each as large as its natural alignment allows, and each free page
/// in exactly one. Linux: a line of `/proc/buddyinfo`.
///
/// A run of 2^18 pages (1 GiB) is of the largest order there is; a longer one counts as several.
///
/// ```
/// use farpage::{DeviceConfig, Order, Space};
///
/// let space = Space::builder().max_pages(1 << 12).build()?;
/// let device = space.register(DeviceConfig::new(1024))?; // two blocks of 2 MiB
/// let first = device.alloc(Order::ZERO)?; // takes one of them apart
///
/// let runs = space.report().free_runs;
/// assert_eq!(runs[..10], [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]); // 1 + 2 + .. + 256 = 511 pages, and the other block
/// assert_eq!((runs.nr_pages(), runs.largest()), (1023, Some(Order::HUGE)));
/// assert_eq!(runs.nr_folios(Order::new(8).unwrap()), 3);
///
/// // 511 of the 1,023 free pages are of no use to a folio of order 9.
/// assert_eq!(runs.unusable_index(Order::HUGE), 511.0 / 1023.0);
/// # drop(first);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct FreeRuns([u64; NR_ORDERS]);

impl FreeRuns {
    /// The pages of all of them.
    pub fn nr_pages(&self) -> u64 {
        self.pages_from(0)
    }

    /// The order of the largest folio that could be allocated; `None` if nothing is free.
    pub fn largest(&self) -> Option<Order> {
        self.0.iter().rposition(|&nr| nr > 0).and_then(|order| Order::new(order as u8))
    }

    /// Pages of the largest folio that could be allocated; 0 if nothing is free.
    pub fn largest_pages(&self) -> u64 {
        self.largest().map_or(0, Order::nr_pages)
    }

    /// How many folios of `order` could be allocated, one after the other, if nobody else allocated.
    pub fn nr_folios(&self, order: Order) -> u64 {
        self.pages_from(order.get()) >> order.get()
    }

    /// The share of the free pages that is of no use to `order`, since it lies in runs below it:
    /// `(free - usable) / free`, from 0 (all of it is in runs as large) to 1 (none is). 0 if nothing is free.
    ///
    /// How bad fragmentation is for that order, whether or not an allocation would fail. Linux: `unusable_free_index()`,
    /// which has 1 where nothing is free.
    pub fn unusable_index(&self, order: Order) -> f64 {
        let free = self.nr_pages();
        if free == 0 { 0.0 } else { (free - self.pages_from(order.get())) as f64 / free as f64 }
    }

    /// Why an allocation of `order` would fail: from 0, for want of memory, to 1, for fragmentation.
    /// `1 - (1 + free / wanted) / runs`, with the free pages, the pages of a folio of `order`, and the number of free runs of
    /// all orders; 0 if nothing is free. `None` if the allocation would not fail.
    ///
    /// Near 0, only freeing more helps; near 1, moving what lives together would. Linux: `fragmentation_index()`, i.e.
    /// `extfrag_index`, which has -1 for `None`.
    pub fn fragmentation_index(&self, order: Order) -> Option<f64> {
        if self.nr_folios(order) > 0 {
            return None;
        }
        let (free, runs) = (self.nr_pages(), self.0.iter().sum::<u64>());
        if runs == 0 {
            return Some(0.0);
        }
        let wanted = free as f64 / order.nr_pages() as f64;
        // A single run that is too small has slightly less than 0: there is nothing to move together.
        Some((1.0 - (1.0 + wanted) / runs as f64).max(0.0))
    }

    /// [`FreeRuns::unusable_index`] of order 9 in thousandths, rounded down.
    pub(super) fn fragmentation_permille(&self) -> u32 {
        let (free, usable) = (self.nr_pages(), self.pages_from(Order::HUGE.get()));
        // Not more than 1,000.
        (u128::from(free - usable) * 1000).checked_div(u128::from(free)).unwrap_or(0) as u32
    }

    fn pages_from(&self, order: u8) -> u64 {
        self.0.iter().enumerate().skip(usize::from(order)).map(|(order, nr)| nr << order).sum()
    }

    /// Adds the runs of a device that has no page in common with those before.
    pub(super) fn add(&mut self, other: &FreeRuns) {
        for (sum, nr) in self.0.iter_mut().zip(other.0) {
            *sum += nr;
        }
    }

    /// Counts the blocks `from..end`, all of whose pages are free.
    pub(super) fn add_blocks(&mut self, mut from: u64, end: u64) {
        let most = u32::from(MAX_ORDER) - BLOCK_SHIFT;
        while from < end {
            let shift = from.trailing_zeros().min((end - from).ilog2()).min(most);
            self.0[(BLOCK_SHIFT + shift) as usize] += 1;
            from += 1 << shift;
        }
    }

    /// Counts the free pages of a block, whose taken pages have a bit in `words`; there is at least one.
    pub(super) fn add_words(&mut self, words: &[u64; WORDS_PER_BLOCK]) {
        let mut free_words = 0;
        for (at, word) in words.iter().enumerate() {
            free_words |= self.add_level(!word & FULL_WORD, 0..WORD_SHIFT) << at;
        }
        let whole = self.add_level(free_words, WORD_SHIFT..BLOCK_SHIFT);
        debug_assert_eq!(whole, 0, "a block without a taken page is counted among the others");
    }

    /// Joins buddies, from runs of the first of `orders`, of which `free` has a bit for each that is free, to the end of
    /// `orders`; and counts those that have no free buddy on the way. What is left is as large as the end.
    fn add_level(&mut self, mut free: u64, orders: core::ops::Range<u32>) -> u64 {
        for (level, order) in orders.enumerate() {
            // A bit at the first of two neighbours, the first of which is at an even place of its level.
            let joined = free & (free >> (1 << level)) & firsts(level as u32 + 1);
            self.0[order as usize] += u64::from(free.count_ones()) - 2 * u64::from(joined.count_ones());
            free = joined;
        }
        free
    }
}

/// A bit at each multiple of `1 << level`.
const fn firsts(level: u32) -> u64 {
    match 1u64.checked_shl(1 << level) {
        Some(end) => u64::MAX / (end - 1),
        None => 1,
    }
}

impl Deref for FreeRuns {
    type Target = [u64; NR_ORDERS];

    fn deref(&self) -> &[u64; NR_ORDERS] {
        &self.0
    }
}

impl PartialEq<[u64; NR_ORDERS]> for FreeRuns {
    fn eq(&self, other: &[u64; NR_ORDERS]) -> bool {
        self.0 == *other
    }
}

impl IntoIterator for FreeRuns {
    type Item = u64;
    type IntoIter = core::array::IntoIter<u64, NR_ORDERS>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

const _: () = assert!(PAGES_PER_BLOCK == 1 << BLOCK_SHIFT && WORDS_PER_BLOCK <= 64);

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::geometry::PAGES_PER_WORD;

    /// What is plainly right: the largest naturally aligned run from each free page on, taken in turn.
    fn one_by_one(free: impl Fn(u64) -> bool) -> FreeRuns {
        let (mut runs, mut page) = (FreeRuns::default(), 0);
        while page < PAGES_PER_BLOCK {
            let fits = |order: &u32| page % (1 << order) == 0 && (page..page + (1 << order)).all(&free);
            match (0..BLOCK_SHIFT).rev().find(fits) {
                Some(order) => {
                    runs.0[order as usize] += 1;
                    page += 1 << order;
                }
                None => page += 1,
            }
        }
        runs
    }

    #[test]
    fn words_are_counted_as_one_by_one() {
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        for round in 0..2000 {
            let mut next = || {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random
            };
            // From nearly all free to nearly all taken, and with long runs of either.
            let mut words = [0; WORDS_PER_BLOCK];
            for word in &mut words {
                *word = match round % 5 {
                    0 => next(),
                    1 => next() & next() & next(),
                    2 => next() | next() | next(),
                    3 => u64::MAX << (next() % 64),
                    _ => [0, u64::MAX, 1 << (next() % 64)][(next() % 3) as usize],
                };
            }
            words[(next() % 8) as usize] |= 1 << (next() % 64);
            let free = |page: u64| words[(page / PAGES_PER_WORD) as usize] >> (page % PAGES_PER_WORD) & 1 == 0;
            let mut runs = FreeRuns::default();
            runs.add_words(&words);
            assert_eq!(runs, one_by_one(free), "{words:x?}");
            assert_eq!(runs.nr_pages(), (0..PAGES_PER_BLOCK).filter(|&page| free(page)).count() as u64);
        }
    }

    #[test]
    fn indices_have_the_values_of_their_formulas() {
        let order = |order| Order::new(order).unwrap();
        let none = FreeRuns::default();
        assert_eq!((none.nr_pages(), none.largest(), none.largest_pages()), (0, None, 0));
        assert_eq!((none.unusable_index(Order::ZERO), none.fragmentation_index(Order::ZERO)), (0.0, Some(0.0)));
        assert_eq!(none.fragmentation_permille(), 0);

        // Two hundred single pages, ten runs of 2, and one of 16.
        let mut runs = FreeRuns::default();
        (runs.0[0], runs.0[1], runs.0[4]) = (200, 10, 1);
        assert_eq!((runs.nr_pages(), runs.largest()), (236, Some(order(4))));
        let folios = |nr: u8| runs.nr_folios(order(nr));
        assert_eq!([folios(0), folios(1), folios(2), folios(4), folios(5)], [236, 18, 4, 1, 0]);
        assert_eq!((runs.unusable_index(order(0)), runs.unusable_index(order(1))), (0.0, 200.0 / 236.0));
        assert_eq!((runs.unusable_index(order(5)), runs.fragmentation_permille()), (1.0, 1000));
        assert_eq!(runs.fragmentation_index(order(4)), None);
        // Memory for more than seven folios of order 5, in 211 runs: that is fragmentation.
        assert_eq!(runs.fragmentation_index(order(5)), Some(1.0 - (1.0 + 236.0 / 32.0) / 211.0));
        // One run: that is want of memory.
        let mut one = FreeRuns::default();
        one.0[4] = 1;
        assert_eq!(one.fragmentation_index(order(9)), Some(0.0));
        assert_eq!(runs.largest_pages(), 16);
    }

    #[test]
    fn empty_blocks_make_the_largest_aligned_runs() {
        let count = |from, end| {
            let mut runs = FreeRuns::default();
            runs.add_blocks(from, end);
            runs
        };
        let by_order = |from, end, wanted: &[(usize, u64)]| {
            let runs = count(from, end);
            let mut expected = [0; NR_ORDERS];
            wanted.iter().for_each(|&(order, nr)| expected[order] = nr);
            assert_eq!(runs, expected, "{from}..{end}");
            assert_eq!(runs.nr_pages(), (end - from) * PAGES_PER_BLOCK);
        };
        by_order(0, 0, &[]);
        by_order(3, 8, &[(9, 1), (11, 1)]);
        by_order(0, 512 * 3, &[(18, 3)]);
        by_order(511, 1025, &[(9, 2), (18, 1)]);
    }
}
