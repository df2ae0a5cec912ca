//! [`Batch`]: many runs of one order, claimed together or not at all.
#![forbid(unsafe_code)]

use crate::device::Device;
use crate::error::AllocError;
use crate::folio::Folio;
use crate::seat::Seat;
use crate::words::Order;

/// Runs that were claimed, and are not folios yet.
pub(super) struct Batch<'a, 's> {
    device: &'a Device<'s>,
    seat: &'a Seat,
    order: Order,
    words: Vec<Word>,
}

/// Pages of one word of free bits, or one run.
struct Word {
    first: u64,
    /// A bit for each page, from `first` on.
    pages: u64,
}

impl<'a, 's> Batch<'a, 's> {
    pub(super) fn new(device: &'a Device<'s>, seat: &'a Seat, order: Order) -> Batch<'a, 's> {
        Batch { device, seat, order, words: Vec::new() }
    }

    /// Claims `n` runs. On failure it has some of them.
    pub(super) fn claim(&mut self, n: usize) -> Result<(), AllocError> {
        let (device, order) = (self.device, self.order);
        let (claimer, map) = (device.entry.claimer(device.space, self.seat), device.entry.map());
        let mut left = n as u64;
        while left > 0 {
            self.words.try_reserve(1).map_err(|_| AllocError::NoMemory)?;
            let claimed = map
                .claim_runs(claimer, order, left)
                .map_err(|error| AllocError::from_claim(error, order.nr_pages()))?;
            let word = Word { first: claimed.0, pages: claimed.1 };
            left -= word.runs(order).count() as u64;
            let head = word.runs(order).next().unwrap_or(word.first);
            // Kept even if it cannot be prepared, to be given up with the others.
            self.words.push(word);
            device.entry.prepare(device.space, head, order)?;
        }
        Ok(())
    }

    /// Makes folios of all that was claimed. `folios` has room for them.
    pub(super) fn begin(self, folios: &mut Vec<Folio<'s>>) {
        let device = self.device;
        for word in &self.words {
            folios.extend(word.runs(self.order).map(|page| device.entry.begin(device.space, page, self.order)));
        }
    }

    /// Gives all that was claimed back; how many pages that was.
    pub(super) fn give_up(self) -> u64 {
        let device = self.device;
        let mut pages = 0;
        for page in self.words.iter().flat_map(|word| word.runs(self.order)) {
            device.entry.map().release(device.space.blocks(), self.seat, page, self.order);
            pages += self.order.nr_pages();
        }
        pages
    }
}

impl Word {
    /// The first page of each run.
    fn runs(&self, order: Order) -> impl Iterator<Item = u64> + use<> {
        let (first, mut pages) = (self.first, self.pages);
        core::iter::from_fn(move || {
            if pages == 0 {
                return None;
            }
            let at = pages.trailing_zeros();
            let run = if order.nr_pages() >= 64 { u64::MAX } else { ((1 << order.nr_pages()) - 1) << at };
            pages &= !run;
            Some(first + u64::from(at))
        })
    }
}
