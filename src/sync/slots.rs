//! A small number of each thread's own, given back when the thread ends.
#![forbid(unsafe_code)]

use core::cell::Cell;
use core::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// How many threads can have a number at once.
const MAX_SLOTS: usize = 1024;

/// This thread has not asked yet.
const UNASKED: usize = usize::MAX;
/// This thread gets no number: there are too many, or it is being torn down.
const NONE: usize = usize::MAX - 1;

static TAKEN: [AtomicU64; MAX_SLOTS / 64] = [const { AtomicU64::new(0) }; MAX_SLOTS / 64];

thread_local! {
    // Two, because the one with a destructor costs more to reach.
    static SLOT: Cell<usize> = const { Cell::new(UNASKED) };
    static LEASE: Lease = const { Lease };
}

/// Gives this thread's number back at the end of the thread.
struct Lease;

impl Drop for Lease {
    fn drop(&mut self) {
        let slot = SLOT.replace(NONE);
        if slot < MAX_SLOTS {
            // Release: all that this thread did under its number comes before what the next one does.
            TAKEN[slot / 64].fetch_and(!(1 << (slot % 64)), Release);
        }
    }
}

/// This thread's number: below 1024, the lowest that was free when it first asked, nobody else's while it lives. `None`
/// for a thread that is being torn down, or when more threads than that have one.
#[inline(always)]
pub(crate) fn thread_slot() -> Option<usize> {
    let slot = SLOT.get();
    if slot < MAX_SLOTS { Some(slot) } else { find_slot(slot) }
}

#[cold]
#[inline(never)]
fn find_slot(seen: usize) -> Option<usize> {
    if seen != UNASKED {
        return None;
    }
    // No lease, no number: it would never come back.
    if LEASE.try_with(|_| ()).is_err() {
        SLOT.set(NONE);
        return None;
    }
    let slot = take_lowest();
    SLOT.set(slot.unwrap_or(NONE));
    slot
}

fn take_lowest() -> Option<usize> {
    for (at, word) in TAKEN.iter().enumerate() {
        let mut seen = word.load(Relaxed);
        while seen != u64::MAX {
            let bit = seen.trailing_ones() as usize;
            // Acquire: what the last thread of this number did comes before what we do.
            match word.compare_exchange_weak(seen, seen | 1 << bit, Acquire, Relaxed) {
                Ok(_) => return Some(at * 64 + bit),
                Err(now) => seen = now,
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_one_threads_at_a_time_and_comes_back() {
        let barrier = std::sync::Barrier::new(8);
        let mut slots: Vec<usize> = std::thread::scope(|scope| {
            let ask = || {
                let slot = thread_slot().expect("few threads");
                assert_eq!(thread_slot(), Some(slot));
                barrier.wait();
                slot
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        slots.sort_unstable();
        slots.dedup();
        assert_eq!(slots.len(), 8, "each its own");
        for _ in 0..2 * MAX_SLOTS {
            assert!(std::thread::spawn(thread_slot).join().expect("no panic").is_some());
        }
    }
}
