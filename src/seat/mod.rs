//! [`Seat`]: what one thread has of a device for itself, and [`Seats`], all of them.
//!
//! A seat has one writer: the thread whose number it goes by, or whoever has the [`Cache`](crate::Cache) that leased it.
//! So its counts are plain loads and stores, and no two cores write one line. Threads without a number share one seat,
//! with read-modify-writes and without a stash. Seats stay until the device goes; when a thread ends, the next one of
//! its number goes on with what it left.
//!
//! Below: `sync`, `sparse`. Above: `free_map`, `live`, `device`. Edges: [stash], [steal], [drain].
#![forbid(unsafe_code)]

mod recent;
mod spans;
mod stash;

use core::ops::Range;
use std::sync::OnceLock;

use recent::Recent;
pub(crate) use spans::{SpanHint, SpanHints};
pub(crate) use stash::{NR_ORDERS, Oldest, Stash, orders};

use crate::geometry::MODEL;
use crate::sparse::NoMemory;
use crate::sync::{
    AtomicI64, AtomicU64, Mutex,
    Ordering::{Acquire, Relaxed, Release},
    thread_slot,
};
use crate::words::Order;

/// No block.
const NO_BLOCK: u64 = u64::MAX;
/// No block any more.
const LEFT_BLOCK: u64 = NO_BLOCK - 1;

/// What one thread has of a device. Two lines that it alone writes, and the stash.
#[repr(align(128))]
pub(crate) struct Seat {
    /// Whether one thread at a time writes it.
    single: bool,
    /// Which of the seats this is: where it begins to search.
    number: usize,
    /// Pages that were let in by this seat, less those that left by it.
    live: AtomicI64,
    /// Pages that are taken, and may be given up again before they become a folio.
    unsure: AtomicU64,
    /// For each order below 9, the block that it takes from; for order 9, the next block of the group that it takes from.
    blocks: [AtomicU64; NR_ORDERS + 1],
    /// Blocks of order 9 that this seat has freed.
    recent: Recent,
    stash: Stash,
    /// Made by the first who asks for a run of any length; `None` if there was no memory.
    spans: OnceLock<Option<Vec<SpanHints>>>,
}

impl Seat {
    fn new(single: bool, number: usize, budget: u64) -> Option<Seat> {
        Some(Seat {
            single,
            number,
            live: AtomicI64::new(0),
            unsure: AtomicU64::new(0),
            blocks: core::array::from_fn(|_| AtomicU64::new(NO_BLOCK)),
            recent: Recent::new(),
            stash: Stash::new(budget)?,
            spans: OnceLock::new(),
        })
    }

    pub(crate) fn number(&self) -> usize {
        self.number
    }

    #[inline]
    pub(crate) fn stash(&self) -> &Stash {
        &self.stash
    }

    /// Hints on runs of any length. The first scan of a seat begins somewhere else in `pages` than those of others.
    pub(crate) fn spans(&self, pages: Range<u64>) -> Option<&SpanHints> {
        let make = || {
            // 0, 1/2, 1/4, 3/4, 1/8, ..: the more seats, the closer.
            let part = (self.number as u32).reverse_bits();
            let offset = ((u128::from(pages.end - pages.start) * u128::from(part)) >> 32) as u64;
            let mut one = Vec::new();
            one.try_reserve_exact(1).ok()?;
            one.push(SpanHints::new(pages.start + offset));
            Some(one)
        };
        self.spans.get_or_init(make).as_ref()?.first()
    }

    /// The same, if they were ever asked for.
    #[inline]
    pub(crate) fn spans_if_any(&self) -> Option<&SpanHints> {
        self.spans.get()?.as_ref()?.first()
    }

    /// Counts `nr_pages` in, or out if it is negative. After the last page of a device has been counted out, the seat
    /// may be gone.
    #[inline]
    pub(crate) fn count(&self, nr_pages: i64) {
        // Release [drain]: every use of the pages ends before whoever drains goes on.
        if self.single {
            self.live.store(self.live.load(Relaxed) + nr_pages, Release);
        } else {
            self.live.fetch_add(nr_pages, Release);
        }
    }

    /// How many pages were counted in, less those that were counted out.
    pub(crate) fn counted(&self) -> i64 {
        // Acquire [drain]: pairs with the Release of `count`.
        self.live.load(Acquire)
    }

    /// Says that up to `nr_pages` are about to be taken and may be given up again.
    #[inline]
    pub(crate) fn begin_unsure(&self, nr_pages: u64) {
        // Relaxed [verify]: the exchange that takes the first page releases it.
        if self.single {
            self.unsure.store(self.unsure.load(Relaxed) + nr_pages, Relaxed);
        } else {
            self.unsure.fetch_add(nr_pages, Relaxed);
        }
    }

    /// Says that they are kept, or were given up.
    #[inline]
    pub(crate) fn end_unsure(&self, nr_pages: u64) {
        // Release [verify]: a search that no longer sees them here sees that their giving up was counted.
        if self.single {
            self.unsure.store(self.unsure.load(Relaxed) - nr_pages, Release);
        } else {
            self.unsure.fetch_sub(nr_pages, Release);
        }
    }

    fn unsure(&self) -> u64 {
        // Acquire [verify]: pairs with the Release of `end_unsure`.
        self.unsure.load(Acquire)
    }

    /// Where `order` is taken from; see the field.
    #[inline]
    pub(crate) fn block(&self, order: Order) -> Option<u64> {
        let block = self.blocks.get(usize::from(order.get()))?.load(Relaxed);
        (block < LEFT_BLOCK).then_some(block)
    }

    pub(crate) fn set_block(&self, order: Order, block: Option<u64>) {
        if let Some(word) = self.blocks.get(usize::from(order.get())) {
            word.store(block.unwrap_or(LEFT_BLOCK), Relaxed);
        }
    }

    /// Whether it has taken all that was in a block of `order`, and has no other yet.
    pub(crate) fn has_left_block(&self, order: Order) -> bool {
        self.blocks.get(usize::from(order.get())).is_some_and(|word| word.load(Relaxed) == LEFT_BLOCK)
    }

    /// Blocks of order 9 that this seat has freed.
    #[inline]
    pub(crate) fn recent(&self) -> &Recent {
        &self.recent
    }
}

/// The seats of one device.
pub(crate) struct Seats {
    shared: Seat,
    /// The first `nr_threads` by the numbers of threads, the others leased. Made when first used; empty where there was
    /// no memory, and then the shared one serves.
    own: Box<[OnceLock<Vec<Seat>>]>,
    nr_threads: usize,
    /// Pages that each may keep.
    budget: u64,
    /// Leased seats that were given back, and how many have ever been leased.
    leases: Mutex<Leases>,
}

struct Leases {
    free: Vec<usize>,
    nr_used: usize,
}

/// How the free pages of a device may be kept in caches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seating {
    /// Threads that are expected to work at once.
    pub(crate) cores: usize,
    /// Pages that all caches together may keep.
    pub(crate) cached_pages: u64,
}

impl Seats {
    pub(crate) fn new(seating: Seating) -> Result<Seats, NoMemory> {
        // Twice the cores: threads that wait have numbers too.
        let (nr_threads, nr_leased) = if MODEL {
            (2, 1)
        } else {
            (seating.cores.saturating_mul(2).clamp(24, 1024), (seating.cores / 4).clamp(8, 256))
        };
        let nr = nr_threads + nr_leased;
        let Some(shared) = Seat::new(false, 0, 0) else { unreachable!("a stash of no pages needs no memory") };
        let mut own = Vec::new();
        let bytes = (nr * size_of::<OnceLock<Vec<Seat>>>()) as u64;
        own.try_reserve_exact(nr).map_err(|_| NoMemory { bytes })?;
        own.resize_with(nr, OnceLock::new);
        Ok(Seats {
            shared,
            own: own.into(),
            nr_threads,
            budget: seating.cached_pages / nr as u64,
            leases: Mutex::new(Leases { free: Vec::new(), nr_used: 0 }),
        })
    }

    /// The most pages that all caches together ever keep.
    pub(crate) fn cache_limit(&self) -> u64 {
        Stash::capacity(self.budget) * self.own.len() as u64
    }

    /// The seat of whoever has none, which any number of threads may use at once.
    pub(crate) fn shared(&self) -> &Seat {
        &self.shared
    }

    /// The seat of the thread that calls.
    #[inline]
    pub(crate) fn of_this_thread(&self) -> &Seat {
        match thread_slot() {
            Some(slot) if slot < self.nr_threads => self.seat(slot),
            _ => &self.shared,
        }
    }

    /// The seat of that number. For one thread at a time.
    #[inline]
    pub(crate) fn seat(&self, number: usize) -> &Seat {
        let seat = self.own[number].get_or_init(|| {
            let mut one = Vec::new();
            if one.try_reserve_exact(1).is_ok() {
                one.extend(Seat::new(true, number, self.budget));
            }
            one
        });
        seat.first().unwrap_or(&self.shared)
    }

    /// The number of a seat that is nobody else's until it is given back; `None` if all are leased, or there is no memory to
    /// note it.
    pub(crate) fn lease(&self) -> Option<usize> {
        let mut leases = self.leases.lock();
        if let Some(number) = leases.free.pop() {
            return Some(number);
        }
        let number = self.nr_threads + leases.nr_used;
        // Room for all that are leased, so that giving one back needs no memory.
        let nr_leased = leases.nr_used + 1;
        if number >= self.own.len() || leases.free.try_reserve(nr_leased).is_err() {
            return None;
        }
        leases.nr_used = nr_leased;
        Some(number)
    }

    /// Gives a leased seat back.
    pub(crate) fn end_lease(&self, number: usize) {
        self.leases.lock().free.push(number);
    }

    /// All seats that were ever used.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Seat> {
        core::iter::once(&self.shared).chain(self.own.iter().filter_map(|seat| seat.get()?.first()))
    }

    /// Pages that are in use.
    pub(crate) fn live_pages(&self) -> i64 {
        self.iter().map(Seat::counted).sum()
    }

    /// Pages that are taken, and may be given up again.
    pub(crate) fn unsure_pages(&self) -> u64 {
        self.iter().map(Seat::unsure).sum()
    }

    /// Free pages that are kept in caches.
    pub(crate) fn cached_pages(&self) -> u64 {
        self.iter().map(|seat| seat.stash.pages()).sum()
    }
}
