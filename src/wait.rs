//! [`WaitTable`]: where threads sleep until a folio is unlocked. A few queues for all folios of a space, so that a folio
//! needs no more for it than two bits.
//!
//! The lock itself is one of the two bits, in the page's state word, and whoever finds it free never comes here. Who does
//! not, sets the other, the waiters' mark, and sleeps at the queue that the folio's first page leads to. Unlocking takes the
//! lock bit away by one addition, and comes here only if it has seen the mark. Linux: `folio_wait_table`, `PG_waiters`.
//!
//! No wake-up is lost: the mark is set, and taken away, only under the queue's mutex, and by an exchange with a state in
//! which the lock was held. So an unlock comes before that exchange, which then does not happen; or it sees the mark, waits
//! for the mutex, by when whoever set the mark sleeps, and wakes all. Everyone who is woken looks again.
//!
//! A life may end with its folio locked, when a borrowed guard was forgotten (`mem::forget`) and its handle was not. The
//! last put sees the mark as well, and wakes whoever waits; they find that the life is over. The next life begins unlocked.
//!
//! Below: `page`. Above: `folio`. Edges: [lock].
#![forbid(unsafe_code)]

use core::hint;
use core::time::Duration;
use std::time::Instant;

use crate::geometry::MODEL;
use crate::page::Page;
use crate::sync::{Condvar, Mutex, wait_for};
use crate::words::Offset;

/// log2 of the number of queues. Linux has 256 for the machine; a queue is for those who sleep, not for those who look.
const QUEUES_SHIFT: u32 = if MODEL { 1 } else { 6 };

/// How often a locked folio is looked at before its waiter goes to sleep, with 1, 2, 4 and so on pauses in between.
const LOOKS: u32 = if MODEL { 0 } else { 6 };

/// The queues of a space.
pub(crate) struct WaitTable {
    queues: Box<[Queue]>,
}

/// Those who wait for any of some folios. On a line of its own.
#[repr(align(64))]
struct Queue {
    /// Held by whoever sets or takes away a waiters' mark.
    gate: Mutex<()>,
    woken: Condvar,
}

impl WaitTable {
    pub(crate) fn new() -> WaitTable {
        let queue = |_| Queue { gate: Mutex::new(()), woken: Condvar::new() };
        WaitTable { queues: (0..1 << QUEUES_SHIFT).map(queue).collect() }
    }

    /// Locks the folio whose record is `page` and whose first page is `head`; the caller holds a reference. Sleeps while it
    /// is locked.
    #[inline]
    pub(crate) fn lock(&self, page: &Page, head: Offset) {
        if !page.try_lock() {
            self.lock_slowly(page, head);
        }
    }

    #[cold]
    #[inline(never)]
    fn lock_slowly(&self, page: &Page, head: Offset) {
        for look in 0..LOOKS {
            (0..1 << look).for_each(|_| hint::spin_loop());
            if !page.peek().is_locked() && page.try_lock() {
                return;
            }
        }
        let queue = self.queue(head);
        let mut gate = queue.gate.lock();
        while !page.try_lock_or_await() {
            (gate, _) = wait_for(&queue.woken, gate, Duration::MAX);
        }
    }

    /// Unlocks it again.
    #[inline]
    pub(crate) fn unlock(&self, page: &Page, head: Offset) {
        if page.unlock() {
            self.wake_waiters(page, head);
        }
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn wake_waiters(&self, page: &Page, head: Offset) {
        let queue = self.queue(head);
        let gate = queue.gate.lock();
        // The caller still holds its reference, so this is the life that it has unlocked.
        page.clear_waiters();
        queue.woken.notify_all();
        drop(gate);
    }

    /// Wakes whoever waits for a folio at `head`, whose life has ended.
    #[cold]
    #[inline(never)]
    pub(crate) fn wake(&self, head: Offset) {
        let queue = self.queue(head);
        let gate = queue.gate.lock();
        queue.woken.notify_all();
        drop(gate);
    }

    /// Waits until the folio is not locked, or its life of `generation` is over; `false` if it still is locked after
    /// `limit`. The caller needs no reference.
    #[inline]
    pub(crate) fn wait_unlocked(&self, page: &Page, head: Offset, generation: u64, limit: Duration) -> bool {
        // The state by an Acquire [lock], as in `Page::try_await`.
        let state = page.state();
        !state.is_life(generation) || !state.is_locked() || self.wait_slowly(page, head, generation, limit)
    }

    #[cold]
    #[inline(never)]
    fn wait_slowly(&self, page: &Page, head: Offset, generation: u64, limit: Duration) -> bool {
        let start = Instant::now();
        let queue = self.queue(head);
        let mut gate = queue.gate.lock();
        while page.try_await(generation) {
            // An end too far away to be a time is none.
            let left = limit.saturating_sub(start.elapsed());
            if left.is_zero() {
                // The mark stays: whoever unlocks wakes nobody, once.
                return false;
            }
            (gate, _) = wait_for(&queue.woken, gate, left);
        }
        true
    }

    /// By the upper bits of a product, in which neighbours and multiples of large powers of two lie apart (Knuth's
    /// multiplicative hashing; the factor is 2^64 divided by the golden ratio).
    fn queue(&self, head: Offset) -> &Queue {
        let hash = head.get().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        &self.queues[(hash >> (u64::BITS - QUEUES_SHIFT)) as usize]
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::words::Order;

    fn live() -> (WaitTable, Page, u64) {
        let (table, page) = (WaitTable::new(), Page::absent());
        let life = page.init(Order::ZERO, 0).generation();
        (table, page, life)
    }

    const AT: Offset = Offset::from_low_bits(7);

    #[test]
    fn heads_of_any_order_lie_in_many_queues() {
        let table = WaitTable::new();
        for order in 0..=18 {
            let mut nr_heads = [0; 1 << QUEUES_SHIFT];
            for index in 0..64 << QUEUES_SHIFT {
                let queue: *const Queue = table.queue(Offset::from_low_bits(index << order));
                let at = (queue.addr() - table.queues.as_ptr().addr()) / size_of::<Queue>();
                nr_heads[at] += 1;
            }
            assert!(nr_heads.iter().all(|nr| (16..=256).contains(nr)), "order {order}: {nr_heads:?}");
        }
    }

    #[test]
    fn whoever_waits_longer_than_the_limit_is_told() {
        let (table, page, life) = live();
        assert!(table.wait_unlocked(&page, AT, life, Duration::ZERO), "it is not locked");
        table.lock(&page, AT);
        assert!(!table.wait_unlocked(&page, AT, life, Duration::ZERO));
        assert!(!table.wait_unlocked(&page, AT, life, Duration::from_millis(2)));
        assert!(table.wait_unlocked(&page, AT, life + 1, Duration::ZERO), "another life");
        table.unlock(&page, AT);
        assert!(!page.state().has_waiters(), "the mark that was left is gone");
        assert!(table.wait_unlocked(&page, AT, life, Duration::ZERO));
    }

    #[test]
    fn who_waits_for_a_life_that_ends_locked_is_woken() {
        let (table, page, life) = live();
        table.lock(&page, AT);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| table.wait_unlocked(&page, AT, life, Duration::from_secs(60)));
            while !page.state().has_waiters() {
                std::thread::yield_now();
            }
            // A guard was forgotten.
            assert!(page.put().is_last(|| table.wake(AT)));
            page.init(Order::ZERO, 0);
            assert!(waiter.join().expect("no panic"));
        });
        assert!(!page.state().is_locked());
    }
}
