//! [`Batch`]: many runs of one order, claimed together or not at all.
#![forbid(unsafe_code)]

use crate::device::Device;
use crate::error::AllocError;
use crate::folio::Folio;
use crate::free_map::{ClaimError, Claimer};
use crate::seat::Seat;
use crate::sync::Backoff;
use crate::words::Order;

/// How often a batch begins again because others, who may have been batches as well, had pages that they gave up.
const PATIENCE: u32 = 16;

/// Runs that were claimed, and are not folios yet.
pub(super) struct Batch<'a, 's> {
    device: &'a Device<'s>,
    seat: &'a Seat,
    order: Order,
    claimed: Vec<Runs>,
}

/// Runs that were claimed by one exchange: in one word of free bits, or one.
#[derive(Clone, Copy)]
pub(super) struct Runs {
    pub(super) first: u64,
    /// A bit for each page, from `first` on.
    pub(super) pages: u64,
    pub(super) order: Order,
}

/// Why a batch was not claimed.
enum Failed {
    /// Others were coming and going, so it may be worth while to try again.
    Contended(AllocError),
    Surely(AllocError),
}

impl<'a, 's> Batch<'a, 's> {
    pub(super) fn new(device: &'a Device<'s>, seat: &'a Seat, order: Order) -> Batch<'a, 's> {
        Batch { device, seat, order, claimed: Vec::new() }
    }

    /// Makes `n` folios, all or none. `folios` has room for them.
    pub(super) fn alloc(mut self, n: usize, folios: &mut Vec<Folio<'s>>) -> Result<(), AllocError> {
        let (device, requested) = (self.device, self.order.nr_pages() * n as u64);
        let backoff = Backoff::new();
        for round in 1.. {
            // Others must not take it for granted that what is claimed here stays taken.
            let failed = device.entry.map().while_unsure(self.seat, requested, |_| {
                self.claim(n, requested).map_err(|failed| {
                    let claimed = self.give_up();
                    match failed {
                        Failed::Contended(error) if round < PATIENCE => Failed::Contended(error),
                        Failed::Contended(error) | Failed::Surely(error) => {
                            Failed::Surely(error.with_claimed(requested, claimed))
                        }
                    }
                })
            });
            match failed {
                Ok(()) => break,
                Err(Failed::Surely(error)) => return Err(error),
                Err(Failed::Contended(_)) => backoff.snooze(),
            }
        }
        for runs in self.claimed {
            runs.for_each_stretch(|first, nr| {
                let page = |i| first + (i << self.order.get());
                folios.extend((0..nr).map(|i| device.entry.begin(device.space, page(i), self.order)));
            });
        }
        Ok(())
    }

    /// Claims `n` runs. On failure it has some of them.
    fn claim(&mut self, n: usize, unsure: u64) -> Result<(), Failed> {
        let (device, order) = (self.device, self.order);
        let (claimer, map) = (device.entry.claimer(device.space, self.seat), device.entry.map());
        let mut left = n as u64;
        while left > 0 {
            self.claimed.try_reserve(1).map_err(|_| Failed::Surely(AllocError::NoMemory))?;
            let claimed = map.claim_runs(Claimer { unsure, ..claimer }, order, left).map_err(|error| {
                let is_contended = matches!(error, ClaimError::Contended { .. });
                let error = AllocError::from_claim(error, order.nr_pages());
                if is_contended { Failed::Contended(error) } else { Failed::Surely(error) }
            })?;
            let mut runs = Runs { first: claimed.0, pages: claimed.1, order };
            // Kept even if they cannot be prepared, to be given up with the others.
            self.claimed.push(runs);
            left -= runs.len();
            let head = runs.next().unwrap_or(runs.first);
            device.entry.prepare(device.space, head, order).map_err(|error| Failed::Surely(error.into()))?;
        }
        Ok(())
    }

    /// Gives all that was claimed back; how many pages that was.
    fn give_up(&mut self) -> u64 {
        let device = self.device;
        let mut pages = 0;
        for page in self.claimed.drain(..).flatten() {
            device.entry.map().release(device.space.blocks(), self.seat, page, self.order);
            pages += self.order.nr_pages();
        }
        pages
    }
}

impl Runs {
    /// How many.
    fn len(self) -> u64 {
        // A run of more than a word has one bit.
        (u64::from(self.pages.count_ones()) >> self.order.get()).max(1)
    }

    /// Calls `each` with the first page of runs that lie one behind the other, and their number.
    fn for_each_stretch(mut self, mut each: impl FnMut(u64, u64)) {
        while self.pages != 0 {
            let (at, nr_pages) =
                (self.pages.trailing_zeros(), (self.pages >> self.pages.trailing_zeros()).trailing_ones());
            each(self.first + u64::from(at), (u64::from(nr_pages) >> self.order.get()).max(1));
            self.pages &= u64::MAX.checked_shl(at + nr_pages).unwrap_or(0);
        }
    }
}

/// The first page of each run.
impl Iterator for Runs {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        if self.pages == 0 {
            return None;
        }
        let at = self.pages.trailing_zeros();
        let nr_pages = self.order.nr_pages();
        let run = if nr_pages >= 64 { u64::MAX } else { ((1 << nr_pages) - 1) << at };
        self.pages &= !run;
        Some(self.first + u64::from(at))
    }
}
