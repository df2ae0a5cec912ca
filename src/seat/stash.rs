//! [`Stash`]: freed runs that one thread keeps to hand, and others can steal.
//!
//! For each order a bounded deque of Chase and Lev ("Dynamic circular work-stealing deque", SPAA 2005): the owner pushes
//! and pops at the bottom with plain loads and stores, thieves take from the top. The one store that must come before a
//! load, on either side, is ordered by a light barrier of the owner's and a heavy one of the thief's.
//! Edges: [stash], [steal].
#![forbid(unsafe_code)]

use crate::geometry::{BLOCK_SHIFT, MODEL};
use crate::sync::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
    light_barrier,
};
use crate::words::Order;

/// Orders that are kept: those below a block.
pub(crate) const NR_ORDERS: usize = BLOCK_SHIFT as usize;

/// How many runs of an order a thread keeps if the device is large enough: a power of two. A bulk of single pages, and
/// of the others what a thread that frees and allocates in turn needs.
const fn wanted(order: usize) -> u32 {
    match order {
        0 if MODEL => 2,
        0 => 64,
        1..=3 if !MODEL => 16 >> order,
        _ => 1,
    }
}

/// How many runs of an order a claim takes beyond the one that is asked for, to be kept: so that who frees and allocates in
/// turn never meets a stash of one, whose last run takes an exchange, and who allocates many claims less often.
const fn refill(order: usize) -> u32 {
    match order {
        0 if !MODEL => 15,
        0..=2 => 1,
        _ => 0,
    }
}

const CELLS_PER_LINE: usize = if MODEL { 1 } else { 8 };

/// Cells of one owner share their lines with nobody else.
#[repr(align(64))]
struct Line([AtomicU64; CELLS_PER_LINE]);

/// The runs that one thread keeps, by order.
pub(crate) struct Stash {
    deques: [Deque; NR_ORDERS],
    cells: Box<[Line]>,
}

/// The runs of one order. Both ends only grow, so neither is ever the same again.
struct Deque {
    /// The oldest run. Written by thieves, and by the owner when it takes the last run.
    top: AtomicU64,
    /// Behind the newest run. Written by the owner.
    bottom: AtomicU64,
    first_cell: u32,
    /// A power of two, or 0.
    nr_cells: u32,
}

/// A look at the oldest run of a stash, to be followed by a heavy barrier and [`Stash::steal`].
#[derive(Clone, Copy)]
pub(crate) struct Oldest(u64);

/// How many runs of each order fit in `budget` pages.
fn capacities(mut budget: u64) -> [u32; NR_ORDERS] {
    core::array::from_fn(|order| {
        let fit = budget >> order;
        let nr = if fit == 0 { 0 } else { wanted(order).min(1 << fit.ilog2().min(31)) };
        budget -= u64::from(nr) << order;
        nr
    })
}

impl Stash {
    /// A stash for at most `budget` pages; `None` if there is no memory for it.
    pub(crate) fn new(budget: u64) -> Option<Stash> {
        let mut nr_cells = 0;
        let deques = capacities(budget).map(|nr| {
            let first_cell = nr_cells;
            nr_cells += nr;
            Deque { top: AtomicU64::new(0), bottom: AtomicU64::new(0), first_cell, nr_cells: nr }
        });
        let nr_lines = (nr_cells as usize).div_ceil(CELLS_PER_LINE);
        let mut cells = Vec::new();
        cells.try_reserve_exact(nr_lines).ok()?;
        cells.extend((0..nr_lines).map(|_| Line(core::array::from_fn(|_| AtomicU64::new(0)))));
        Some(Stash { deques, cells: cells.into_boxed_slice() })
    }

    /// The most pages that a stash with this budget ever holds.
    pub(crate) fn capacity(budget: u64) -> u64 {
        capacities(budget).iter().enumerate().map(|(order, &nr)| u64::from(nr) << order).sum()
    }

    /// Keeps the run of `order` that starts at `page`; `false` if there is no room. Only for the owner.
    #[inline]
    pub(crate) fn push(&self, order: Order, page: u64) -> bool {
        let Some(deque) = self.deque(order) else { return false };
        let bottom = deque.bottom.load(Relaxed);
        // Acquire [stash]: a thief has read the cell before we write over it.
        if bottom - deque.top.load(Acquire) >= u64::from(deque.nr_cells) {
            return false;
        }
        self.cell(deque, bottom).store(page, Relaxed);
        // Release [steal]: pairs with the Acquire of `steal`: the run's last use, and the cell, come before the thief's.
        deque.bottom.store(bottom + 1, Release);
        true
    }

    /// Takes the newest run of `order`. Only for the owner.
    #[inline]
    pub(crate) fn pop(&self, order: Order) -> Option<u64> {
        let deque = self.deque(order)?;
        let bottom = deque.bottom.load(Relaxed);
        // Relaxed: the top only grows, so "empty" stays so until we push.
        if bottom == deque.top.load(Relaxed) {
            return None;
        }
        let newest = bottom - 1;
        // Release [steal]: whoever reads this bottom must have the older cells, as with the one before.
        deque.bottom.store(newest, Release);
        // A thief that has looked at the bottom before this store has its top on the way, and we see it below.
        light_barrier();
        let top = deque.top.load(Relaxed);
        if top < newest {
            return Some(self.cell(deque, newest).load(Relaxed));
        }
        // The last one: whoever moves the top has it.
        // Release [verify]: a search that finds nothing here any more sees what we released, or announced, before.
        let won = top == newest && deque.top.compare_exchange(newest, bottom, Release, Relaxed).is_ok();
        // Release [steal]: as above.
        deque.bottom.store(bottom, Release);
        won.then(|| self.cell(deque, newest).load(Relaxed))
    }

    /// How many runs of `order` a claim should take beyond the one that is asked for, when there are none here.
    pub(crate) fn refill(&self, order: Order) -> u64 {
        let room = self.deque(order).map_or(0, |deque| deque.nr_cells / 2);
        u64::from(room.min(refill(usize::from(order.get()))))
    }

    /// The oldest run of `order`, if there seems to be one.
    pub(crate) fn oldest(&self, order: Order) -> Option<Oldest> {
        let deque = self.deque(order)?;
        // Acquire: a bottom that is read now is not older than this top.
        let top = deque.top.load(Acquire);
        (top < deque.bottom.load(Acquire)).then_some(Oldest(top))
    }

    /// Takes the run of `order` that was the `oldest` before the caller's heavy barrier, unless somebody else has it.
    ///
    /// One run for each look: of a second one the owner may already be sure.
    pub(crate) fn steal(&self, order: Order, oldest: Oldest) -> Option<u64> {
        let (deque, Oldest(top)) = (self.deque(order)?, oldest);
        // Acquire [steal]: pairs with the Release of `push`.
        if top >= deque.bottom.load(Acquire) {
            return None;
        }
        // Relaxed: it may be written over meanwhile, but then the exchange fails.
        let page = self.cell(deque, top).load(Relaxed);
        // Release [stash]: pairs with the Acquire of `push`: the cell was read before it is written again.
        // Acquire: whoever sees the moved top sees what the thief announced before.
        deque.top.compare_exchange(top, top + 1, AcqRel, Relaxed).is_ok().then_some(page)
    }

    /// How many pages are kept. Exact while nobody works on the stash.
    pub(crate) fn pages(&self) -> u64 {
        let pages = |(order, deque): (usize, &Deque)| {
            deque.bottom.load(Acquire).saturating_sub(deque.top.load(Acquire)) << order
        };
        self.deques.iter().enumerate().map(pages).sum()
    }

    /// The runs that are kept, as first page and order. Exact while nobody works on the stash.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (u64, Order)> {
        orders().flat_map(move |order| self.runs_of(order).map(move |page| (page, order)))
    }

    /// The first pages of the runs of `order` that are kept, those that have been there all the while among them.
    pub(crate) fn runs_of(&self, order: Order) -> impl Iterator<Item = u64> {
        self.deque(order).into_iter().flat_map(move |deque| {
            let (top, bottom) = (deque.top.load(Acquire), deque.bottom.load(Acquire));
            // A top that is much older than the bottom: there are never more runs than cells.
            let top = top.max(bottom.saturating_sub(u64::from(deque.nr_cells)));
            (top..bottom).map(move |at| self.cell(deque, at).load(Relaxed))
        })
    }

    #[inline(always)]
    fn deque(&self, order: Order) -> Option<&Deque> {
        self.deques.get(usize::from(order.get()))
    }

    #[inline(always)]
    fn cell(&self, deque: &Deque, at: u64) -> &AtomicU64 {
        let cell = deque.first_cell as usize + (at as usize & (deque.nr_cells as usize).wrapping_sub(1));
        &self.cells[cell / CELLS_PER_LINE].0[cell % CELLS_PER_LINE]
    }
}

/// Every order that a stash keeps.
pub(crate) fn orders() -> impl Iterator<Item = Order> {
    (0..NR_ORDERS as u8).filter_map(Order::new)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32};

    use super::*;
    use crate::sync::{heavy_barrier, prepare_barriers};

    fn steal_one(stash: &Stash) -> Option<u64> {
        let oldest = stash.oldest(Order::ZERO)?;
        heavy_barrier();
        stash.steal(Order::ZERO, oldest)
    }

    #[test]
    fn a_budget_is_never_exceeded_and_small_orders_come_first() {
        for budget in 0..3000 {
            let stash = Stash::new(budget).unwrap();
            let mut kept = 0;
            for order in orders() {
                while stash.push(order, kept) {
                    kept += order.nr_pages();
                }
            }
            assert_eq!(kept, stash.pages());
            assert_eq!(kept, Stash::capacity(budget));
            assert!(kept <= budget);
        }
        assert_eq!(capacities(0), [0; NR_ORDERS]);
        assert_eq!(capacities(160), [64, 8, 4, 2, 1, 1, 0, 0, 0]);
        assert_eq!(capacities(u64::MAX), [64, 8, 4, 2, 1, 1, 1, 1, 1]);
    }

    #[test]
    fn the_newest_is_popped_and_the_oldest_stolen() {
        prepare_barriers();
        let stash = Stash::new(8).unwrap();
        assert_eq!(stash.pop(Order::ZERO), None);
        for page in 10..18 {
            assert!(stash.push(Order::ZERO, page));
        }
        assert!(!stash.push(Order::ZERO, 18), "full");
        assert_eq!(stash.pop(Order::ZERO), Some(17));
        assert_eq!(steal_one(&stash), Some(10));
        assert_eq!(stash.runs().map(|(page, _)| page).collect::<Vec<_>>(), (11..17).collect::<Vec<_>>());
        let oldest = stash.oldest(Order::ZERO).unwrap();
        assert_eq!(stash.steal(Order::ZERO, oldest), Some(11));
        assert_eq!(stash.steal(Order::ZERO, oldest), None, "once");
        while stash.pop(Order::ZERO).is_some() {}
        assert_eq!(stash.pages(), 0);
        assert!(stash.oldest(Order::ZERO).is_none());
    }

    #[test]
    fn each_run_is_taken_once_by_the_owner_or_a_thief() {
        prepare_barriers();
        const RUNS: u64 = 200_000;
        let stash = Stash::new(4).unwrap();
        let taken: Vec<AtomicU32> = (0..RUNS).map(|_| AtomicU32::new(0)).collect();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Acquire) {
                        if let Some(page) = steal_one(&stash) {
                            taken[page as usize].fetch_add(1, Relaxed);
                        }
                    }
                });
            }
            let mut next = 0;
            while next < RUNS {
                for _ in 0..next % 5 {
                    if next < RUNS && stash.push(Order::ZERO, next) {
                        next += 1;
                    }
                }
                for _ in 0..1 + next % 3 {
                    if let Some(page) = stash.pop(Order::ZERO) {
                        taken[page as usize].fetch_add(1, Relaxed);
                    }
                }
                if next % 5 == 0 && next < RUNS && stash.push(Order::ZERO, next) {
                    next += 1;
                }
            }
            while let Some(page) = stash.pop(Order::ZERO) {
                taken[page as usize].fetch_add(1, Relaxed);
            }
            done.store(true, Release);
        });
        assert!(taken.iter().all(|taken| taken.load(Relaxed) == 1));
    }
}
