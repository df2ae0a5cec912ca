//! How many runs may be resident, and how many are: reserved before a page is installed.
//! Which ones, and who goes, is not known here; see `clock`.
//! Below: nothing. Above: `evict`, `fault`.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crossbeam_utils::CachePadded;

pub(crate) struct Budget {
    /// Runs that may be resident.
    limit: u64,
    /// Runs that are, or that somebody holds a [`Seat`] for.
    taken: CachePadded<AtomicU64>,
    peak: AtomicU64,
}

/// Room for one resident run. Dropped unused, the room is free again.
#[must_use]
pub(crate) struct Seat<'b>(&'b Budget);

impl Budget {
    pub(crate) fn new(limit: u64) -> Budget {
        Budget { limit, taken: CachePadded::new(AtomicU64::new(0)), peak: AtomicU64::new(0) }
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// The most runs that were ever resident at once.
    pub(crate) fn peak(&self) -> u64 {
        self.peak.load(Relaxed)
    }

    /// A seat, if one is free.
    pub(crate) fn try_seat(&self) -> Option<Seat<'_>> {
        // Relaxed: a count; whatever a seat is used for is ordered by the page-table lock.
        let before =
            self.taken.fetch_update(Relaxed, Relaxed, |taken| (taken < self.limit).then_some(taken + 1)).ok()?;
        self.peak.fetch_max(before + 1, Relaxed);
        Some(Seat(self))
    }

    /// The seat of a run that has just left. Its count stays, so nobody else can get in between.
    pub(crate) fn inherit(&self) -> Seat<'_> {
        Seat(self)
    }

    /// A seat above the limit: only for a region that has failed and must still let threads go.
    pub(crate) fn overdraw(&self) -> Seat<'_> {
        let before = self.taken.fetch_add(1, Relaxed);
        self.peak.fetch_max(before + 1, Relaxed);
        Seat(self)
    }
}

impl Seat<'_> {
    /// A resident run sits there now; whoever evicts it inherits the seat.
    pub(crate) fn occupy(self) {
        core::mem::forget(self);
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::Budget;

    #[test]
    fn a_seat_unused_is_free_again_and_one_occupied_is_not() {
        let budget = Budget::new(2);
        budget.try_seat().unwrap().occupy();
        let unused = budget.try_seat();
        assert!(unused.is_some() && budget.try_seat().is_none());
        drop(unused);
        budget.try_seat().unwrap().occupy();
        assert!(budget.try_seat().is_none());
        // An eviction hands its seat on: the count never dips, so nobody gets in between.
        budget.inherit().occupy();
        assert!(budget.try_seat().is_none());
        assert_eq!(budget.peak(), 2);
    }
}
