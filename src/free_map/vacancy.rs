//! [`Vacancies`]: groups of blocks that have emptied, and of which metadata may be given back to the system.
//!
//! In two rounds: a group that empties is noted as *fresh*. When enough are fresh, a round begins: those of the round before
//! that have not been noted again since are vacated if they are empty still, and the fresh ones take their place. So what
//! empties and fills again and again is noted again and again, and left alone. If something was vacated that was wanted again
//! soon, the next rounds wait for more.
#![forbid(unsafe_code)]

use core::ops::Range;

use super::index::Index;
use crate::sparse::{NoMemory, ReserveError};
use crate::sync::{AtomicU64, Ordering::Relaxed};

/// See the [module](self).
pub(crate) struct Vacancies {
    /// log2 of the blocks of a group.
    shift: u32,
    nr_groups: u64,
    fresh: Index<false>,
    /// Fresh in the round before.
    idle: Index<false>,
    /// About how many are fresh.
    nr_fresh: AtomicU64,
    /// How many more than usual must be fresh before a round, since others were vacated in vain; and how many were by the
    /// last round. Written by whoever begins a round.
    patience: AtomicU64,
    in_vain: AtomicU64,
}

/// How much patience one round in vain gives at least, so that the same groups do not make up the next round exactly.
const MORE_PATIENCE: u64 = 8;

/// The most that [`Vacancies::patience`] grows to.
const MOST_PATIENCE: u64 = 64;

impl Vacancies {
    /// Groups of `blocks_per_group` blocks, a power of two.
    pub(super) fn new(nr_blocks: u64, blocks_per_group: u64) -> Result<Vacancies, ReserveError> {
        let nr_groups = nr_blocks.div_ceil(blocks_per_group);
        Ok(Vacancies {
            shift: blocks_per_group.trailing_zeros(),
            nr_groups,
            fresh: Index::new(nr_groups)?,
            idle: Index::new(nr_groups)?,
            nr_fresh: AtomicU64::new(0),
            patience: AtomicU64::new(0),
            in_vain: AtomicU64::new(0),
        })
    }

    /// Makes room to note the group of `block`.
    pub(super) fn populate(&self, block: u64) -> Result<(), NoMemory> {
        self.fresh.populate(block >> self.shift)?;
        self.idle.populate(block >> self.shift)
    }

    /// The blocks of the group that `block` is in.
    pub(super) fn group_of(&self, block: u64) -> Range<u64> {
        let first = block >> self.shift << self.shift;
        first..first + (1 << self.shift)
    }

    /// `block` has emptied, and so has its group if `is_vacant` says so. If that is news, how many groups are fresh now;
    /// otherwise 0.
    #[inline]
    pub(super) fn note(&self, block: u64, is_vacant: impl FnOnce(Range<u64>) -> bool) -> u64 {
        let group = block >> self.shift;
        if self.fresh.has(group) || !is_vacant(self.group_of(block)) {
            return 0;
        }
        self.fresh.insert(group);
        // Relaxed: a hint. Two that note the same group may count it twice, until the next round.
        self.nr_fresh.fetch_add(1, Relaxed) + 1
    }

    /// Whether a group of `blocks` has emptied lately, and is not to be vacated yet.
    pub(crate) fn are_noted(&self, blocks: &Range<u64>) -> bool {
        let (first, end) = (blocks.start >> self.shift, ((blocks.end - 1) >> self.shift) + 1);
        self.fresh.next(first, end).is_some() || self.idle.next(first, end).is_some()
    }

    /// Whether so many fresh groups are enough to begin a round, where `usual` would be.
    pub(crate) fn are_enough(&self, nr_fresh: u64, usual: u64) -> bool {
        nr_fresh >= usual + self.patience.load(Relaxed)
    }

    /// Begins a round: calls `vacate` with the blocks of each group that may have stood empty since the last. For one thread
    /// at a time. `in_vain` is how often a group was in use again after it was vacated, in all.
    pub(crate) fn begin_round(&self, in_vain: u64, mut vacate: impl FnMut(Range<u64>)) {
        let patience = self.patience.load(Relaxed);
        let was_in_vain = in_vain > self.in_vain.load(Relaxed);
        self.in_vain.store(in_vain, Relaxed);
        // It goes more slowly than it comes: between two rounds that were in vain there may be several that were not.
        let next = if was_in_vain {
            (2 * patience + MORE_PATIENCE).min(MOST_PATIENCE)
        } else {
            patience - patience.div_ceil(8)
        };
        self.patience.store(next, Relaxed);
        let members = |set: &Index<false>, from: &mut u64| {
            let group = set.next(*from, self.nr_groups)?;
            *from = group + 1;
            set.remove(group);
            Some(group)
        };
        let mut from = 0;
        while let Some(group) = members(&self.idle, &mut from) {
            if !self.fresh.has(group) {
                vacate(self.group_of(group << self.shift));
            }
        }
        self.nr_fresh.store(0, Relaxed);
        from = 0;
        while let Some(group) = members(&self.fresh, &mut from) {
            self.idle.insert(group);
        }
    }

    /// Bytes of metadata: reserved and populated.
    pub(super) fn bytes(&self) -> (u64, u64) {
        let (fresh, idle) = (self.fresh.bytes(), self.idle.bytes());
        (fresh.0 + idle.0, fresh.1 + idle.1)
    }

    /// Bytes of the populated ones that lie in memory; `None` where the system does not say.
    pub(super) fn resident_bytes(&self) -> Option<u64> {
        Some(self.fresh.resident_bytes()? + self.idle.resident_bytes()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(vacancies: &Vacancies) -> Vec<u64> {
        let mut vacated = Vec::new();
        vacancies.begin_round(0, |blocks| vacated.push(blocks.start));
        vacated
    }

    #[test]
    fn a_group_is_vacated_a_round_after_it_was_noted_and_not_if_it_was_noted_again() {
        let vacancies = Vacancies::new(256, 8).unwrap();
        (0..256).for_each(|block| vacancies.populate(block).unwrap());
        assert_eq!(vacancies.note(8, |group| group == (8..16)), 1);
        assert_eq!(vacancies.note(15, |_| true), 0, "known");
        assert_eq!(vacancies.note(16, |_| false), 0, "not vacant");
        assert_eq!(vacancies.note(31, |_| true), 2);
        assert!(round(&vacancies).is_empty());
        assert_eq!(vacancies.note(9, |_| true), 1, "again");
        assert_eq!(round(&vacancies), [24], "8 has been noted again");
        assert_eq!(round(&vacancies), [8]);
        assert!(round(&vacancies).is_empty());
    }

    #[test]
    fn patience_grows_with_what_was_in_vain_and_goes_again() {
        let vacancies = Vacancies::new(256, 8).unwrap();
        assert!(vacancies.are_enough(5, 5));
        (1..=20).for_each(|in_vain| vacancies.begin_round(in_vain, |_| ()));
        assert!(!vacancies.are_enough(5 + MOST_PATIENCE - 1, 5) && vacancies.are_enough(5 + MOST_PATIENCE, 5));
        (0..30).for_each(|_| vacancies.begin_round(20, |_| ()));
        assert!(vacancies.are_enough(5, 5));
    }

    #[test]
    fn a_group_without_memory_is_not_noted() {
        let vacancies = Vacancies::new(1 << 20, 8).unwrap();
        assert_eq!(vacancies.note(1 << 19, |_| true), 1);
        assert_eq!((round(&vacancies), round(&vacancies)), (vec![], vec![]));
    }
}
