//! [`Live`]: how many pages of a device are in use, and whether new ones are let in.
//!
//! A copy of the count for each core, so that allocations on different cores write different lines; killing closes
//! every copy, and from then on the sum only falls. Linux: `percpu_ref`. Above: `device`. Edges: [drain].
#![forbid(unsafe_code)]

use core::time::Duration;
use std::time::Instant;

use crossbeam_utils::CachePadded;

use crate::sync::{
    AtomicI64, Condvar, Mutex,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
    thread_slot, wait_for,
};

/// In a copy of the count: nobody is let in any more. The count itself is above it.
const CLOSED: i64 = 1;
const ONE: i64 = 2;

/// | copy of the count | enter          | exit                                                   |
/// |-------------------|----------------|--------------------------------------------------------|
/// | open              | adds           | subtracts                                              |
/// | closed            | is refused     | subtracts under the lock, and wakes who drains at 0    |
///
/// A page may leave by another copy than it came in by, so a copy can be negative; only the sum means something.
pub(crate) struct Live {
    copies: Box<[CachePadded<AtomicI64>]>,
    /// Held by whoever leaves a closed count, and by whoever decides that it is empty: the last one to leave is seen.
    gate: Mutex<()>,
    emptied: Condvar,
}

/// The count is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed;

impl Live {
    pub(crate) fn new(nr_copies: usize) -> Live {
        let copies = (0..nr_copies.max(1)).map(|_| CachePadded::new(AtomicI64::new(0))).collect();
        Live { copies, gate: Mutex::new(()), emptied: Condvar::new() }
    }

    /// Lets `nr_pages` in, unless the count is closed.
    #[inline]
    pub(crate) fn enter(&self, nr_pages: u64) -> Result<(), Closed> {
        self.enter_at(thread_slot().unwrap_or(0), nr_pages)
    }

    pub(crate) fn enter_at(&self, slot: usize, nr_pages: u64) -> Result<(), Closed> {
        let copy = self.copy(slot);
        let mut seen = copy.load(Relaxed);
        loop {
            if seen & CLOSED != 0 {
                return Err(Closed);
            }
            // Relaxed: `close` is a read-modify-write of the same word, so it comes before this and refuses it, or
            // after it and counts it. Nothing else is ordered by coming in.
            match copy.compare_exchange_weak(seen, seen + ONE * nr_pages as i64, Relaxed, Relaxed) {
                Ok(_) => return Ok(()),
                Err(now) => seen = now,
            }
        }
    }

    /// Lets `nr_pages` go. If this returns `false` the count is closed and [`Live::exit_closed`] must be called: it
    /// touches the count after the pages have gone, so the caller must keep the count itself alive.
    #[inline]
    #[must_use = "a closed count must be left by `exit_closed`"]
    pub(crate) fn exit(&self, nr_pages: u64) -> bool {
        self.exit_at(thread_slot().unwrap_or(0), nr_pages)
    }

    pub(crate) fn exit_at(&self, slot: usize, nr_pages: u64) -> bool {
        let copy = self.copy(slot);
        let mut seen = copy.load(Relaxed);
        while seen & CLOSED == 0 {
            // Release [drain]: every use of the pages ends before whoever drains goes on. After a success nothing of
            // the count is touched.
            match copy.compare_exchange_weak(seen, seen - ONE * nr_pages as i64, Release, Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    /// Lets `nr_pages` of a closed count go, and wakes who waits for the last.
    #[cold]
    pub(crate) fn exit_closed(&self, nr_pages: u64) {
        let gate = self.gate.lock();
        // Release [drain]: as in `exit_at`.
        self.copy(thread_slot().unwrap_or(0)).fetch_sub(ONE * nr_pages as i64, Release);
        if self.sum() == 0 {
            self.emptied.notify_all();
        }
        drop(gate);
    }

    /// Lets nobody in any more; `false` if it was so already. When this returns, the sum only falls.
    pub(crate) fn close(&self) -> bool {
        let mut first = false;
        for copy in &self.copies {
            // AcqRel [drain]: acquires what was done by those who left before; the next to leave sees it closed.
            first |= copy.fetch_or(CLOSED, AcqRel) & CLOSED == 0;
        }
        first
    }

    /// Lets pages in again, after a `close` that returned `true`.
    pub(crate) fn reopen(&self) {
        for copy in &self.copies {
            copy.fetch_and(!CLOSED, Relaxed);
        }
    }

    /// Whether a `close` has ended: the last copy is the last to be closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.copies.last().is_some_and(|copy| copy.load(Acquire) & CLOSED != 0)
    }

    /// How many pages are in. Exact when nobody enters or leaves; a closed count is never reported lower than it is
    /// when this returns.
    pub(crate) fn pages(&self) -> u64 {
        u64::try_from(self.sum()).unwrap_or(0)
    }

    /// Whether a closed count is empty. Then all that its users did has happened before.
    pub(crate) fn is_drained(&self) -> bool {
        let _gate = self.gate.lock();
        self.sum() == 0
    }

    /// Waits until a closed count is empty; `Err` is the number of pages that are still in after `limit`.
    pub(crate) fn drain(&self, limit: Duration) -> Result<(), u64> {
        let start = Instant::now();
        let mut gate = self.gate.lock();
        loop {
            if self.sum() == 0 {
                return Ok(());
            }
            // An end too far away to be a time is none.
            let left = limit.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Err(self.pages());
            }
            (gate, _) = wait_for(&self.emptied, gate, left);
        }
    }

    fn sum(&self) -> i64 {
        // Acquire [drain]: pairs with the Release of each exit. Closed copies only fall, and never lower than all that
        // is in at the end of this loop; so a sum of 0 stays 0.
        self.copies.iter().map(|copy| copy.load(Acquire) >> 1).sum()
    }

    fn copy(&self, slot: usize) -> &AtomicI64 {
        &self.copies[slot % self.copies.len()]
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_closed_count_lets_out_and_not_in() {
        let live = Live::new(4);
        live.enter_at(0, 5).unwrap();
        live.enter_at(1, 2).unwrap();
        assert!(live.exit_at(2, 5));
        assert_eq!(live.pages(), 2);
        assert!(live.close() && !live.close());
        assert_eq!(live.enter_at(3, 1), Err(Closed));
        assert_eq!(live.drain(Duration::from_millis(1)), Err(2));
        assert!(!live.exit_at(1, 2));
        live.exit_closed(2);
        assert!(live.is_drained());
        assert_eq!(live.drain(Duration::ZERO), Ok(()));
    }

    #[test]
    fn draining_ends_with_the_last_to_leave() {
        for round in 0..200 {
            let live = Live::new(2);
            live.enter_at(0, 3).unwrap();
            std::thread::scope(|scope| {
                for slot in 0..3 {
                    let live = &live;
                    scope.spawn(move || {
                        if !live.exit_at(slot, 1) {
                            live.exit_closed(1);
                        }
                    });
                }
                if round % 2 == 0 {
                    std::thread::yield_now();
                }
                live.close();
                assert_eq!(live.drain(Duration::from_secs(60)), Ok(()));
            });
        }
    }

    #[test]
    fn a_reopened_count_lets_in_again() {
        let live = Live::new(2);
        assert!(live.close());
        live.reopen();
        assert!(!live.is_closed());
        assert_eq!(live.enter(1), Ok(()));
    }
}
