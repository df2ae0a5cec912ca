//! [`Folio::split`] and [`Folio::split_around`], and the [`Parts`] that come of them.
//!
//! Below: `device::splitting`, which divides any live folio. Edges: [last-put], [init], [class].
#![forbid(unsafe_code)]

use core::fmt;
use core::iter::FusedIterator;
use core::mem;
use core::ops::Range;
use core::panic::AssertUnwindSafe;
use std::panic::{catch_unwind, resume_unwind};

use super::{Folio, FolioWord};
use crate::device::{Cut, Division, Entry, Panic, end_span};
use crate::error::SplitError;
use crate::section_map::Place;
use crate::space::Space;
use crate::sparse::NoMemory;
use crate::words::{Offset, Order};

impl<'s> Folio<'s> {
    /// Splits the folio into folios of `order`, which must be smaller: one handle becomes one for each part.
    ///
    /// The parts have the folio's device and owner, copies of its driver's word, and one reference each. They are new
    /// lives: what was looked up before the split, head or tail, is refused from then on (a leaf word names an order
    /// and a generation, and no part has those of the whole), by [`Space::lookup`], [`Space::take`] and
    /// [`PageRef::try_get`](crate::PageRef::try_get). While the split is under way a lookup of any of the pages finds
    /// nothing, or a page of which `try_get` refuses a reference. The driver's
    /// [`folio_split`](crate::DeviceOps::folio_split) is called for each part. Parts of which every page was [given
    /// up](Folio::give_up) are freed at once, and are not among those returned.
    ///
    /// Others may look up, get and put the folio meanwhile: a reference that anybody else has, of a handle or of a leaf
    /// word, makes the split fail, and one that is asked for in the middle of it is refused. Linear in the parts,
    /// without a lock. The parts' pages come together again as any other's: freed, they are free, whatever they were
    /// parts of.
    ///
    /// Linux: `split_folio_to_order()`, which freezes the count likewise.
    ///
    /// # Errors
    ///
    /// [`SplitError`], with the folio: it is as it was.
    ///
    /// ```
    /// use farpage::{DeviceConfig, Order, Space, SplitError};
    ///
    /// let space = Space::new()?;
    /// let device = space.register(DeviceConfig::new(512))?;
    /// let folio = device.alloc(Order::HUGE)?;
    /// folio.set_private(7);
    ///
    /// let other = folio.clone();
    /// let folio = match folio.split(Order::ZERO) {
    ///     Err(SplitError::Busy { extra_refs: 1, maps: 0, folio }) => folio,
    ///     _ => unreachable!("another handle is there"),
    /// };
    /// drop(other);
    ///
    /// let mut pages: Vec<_> = folio.split(Order::ZERO).expect("nobody else has it").collect();
    /// assert!(pages.len() == 512 && pages.iter().all(|page| page.private() == 7));
    /// pages.truncate(3);
    /// assert_eq!(device.nr_live_pages(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn split(self, order: Order) -> Result<Parts<'s>, SplitError<'s>> {
        if order >= self.order() {
            return Err(SplitError::OrderNotSmaller { requested: order, folio: self });
        }
        self.divide(Cut::Evenly(order))
    }

    /// Splits the folio so that its page number `index` is in a folio of `order`, which must be smaller, and the rest
    /// in the largest that fit: one of each order from `order` to the one below the whole's.
    ///
    /// As [`Folio::split`] otherwise. Linux: the non-uniform split, `folio_split()`.
    ///
    /// # Errors
    ///
    /// [`SplitError`], with the folio: it is as it was.
    ///
    /// ```
    /// # use farpage::{DeviceConfig, Order, Space};
    /// # let space = Space::new()?;
    /// # let device = space.register(DeviceConfig::new(512))?;
    /// let folio = device.alloc(Order::HUGE)?;
    /// let parts = folio.split_around(5, Order::ZERO).expect("nobody else has it");
    /// let orders: Vec<u8> = parts.map(|part| part.order().get()).collect();
    /// assert_eq!(orders, [2, 0, 0, 1, 3, 4, 5, 6, 7, 8]); // page 5 is the second of the two alone
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn split_around(self, index: u64, order: Order) -> Result<Parts<'s>, SplitError<'s>> {
        if order >= self.order() {
            return Err(SplitError::OrderNotSmaller { requested: order, folio: self });
        }
        if index >= self.nr_pages() {
            return Err(SplitError::OutOfRange { index, folio: self });
        }
        let head = order.align_down(self.offset().get() + index);
        self.divide(Cut::Around { head, order })
    }

    fn divide(self, cut: Cut) -> Result<Parts<'s>, SplitError<'s>> {
        let device = self.device();
        let (space, whole, entry) = (self.space, self.word.place(), device.entry());
        let division = Division { space, entry, whole, cut };
        let mut parts = Parts::none(space, whole, cut);
        loop {
            // Room for what is freed at once, before anything can no longer be undone.
            let given_up = entry.listeners().given_up_in(parts.pages());
            if let Err(NoMemory { bytes }) = division.prepare().and_then(|()| parts.make_room_if(given_up > 0)) {
                return Err(SplitError::NoMemory { bytes, folio: self });
            }
            if let Err(busy) = division.freeze() {
                let (extra_refs, maps) = (busy.extra_refs, busy.maps);
                return Err(SplitError::Busy { extra_refs, maps, folio: self });
            }
            if entry.listeners().given_up_in(parts.pages()) == given_up {
                break;
            }
            // Somebody gave pages up, and put their reference, in between.
            division.unfreeze();
        }
        let mut panicked = division.tell(division.carry_out());
        // The whole has gone; its reference is in the parts.
        mem::forget(self);
        parts.begin();
        if let Err(panic) = parts.free_given_up(entry) {
            panicked.get_or_insert(panic);
        }
        match panicked {
            None => Ok(parts),
            Some(panic) => {
                // Nobody can have the parts: they end, whatever callbacks do then.
                let _ = catch_unwind(AssertUnwindSafe(|| drop(parts)));
                resume_unwind(panic)
            }
        }
    }
}

/// The folios that a split has made, by ascending offset. Those that are not taken out are dropped with it.
#[must_use = "the parts are freed if they are not taken out"]
pub struct Parts<'s> {
    space: &'s Space,
    whole: Place,
    cut: Cut,
    /// The next part's first page, and its number.
    at: u64,
    number: u64,
    /// How many parts are still to come.
    left: usize,
    /// A bit for each part that was freed at once, if there are any.
    freed: Vec<u64>,
}

impl<'s> Parts<'s> {
    /// The parts of a folio that is not divided yet: none.
    fn none(space: &'s Space, whole: Place, cut: Cut) -> Parts<'s> {
        Parts { space, whole, cut, at: whole.head.get(), number: 0, left: 0, freed: Vec::new() }
    }

    /// The whole's pages.
    fn pages(&self) -> Range<u64> {
        self.whole.head.get()..self.whole.head.get() + self.whole.order.nr_pages()
    }

    /// Makes room to note which parts are freed, if there may be such.
    fn make_room_if(&mut self, may_be: bool) -> Result<(), NoMemory> {
        if may_be && self.freed.is_empty() {
            let nr_words = self.cut.nr_parts(self.whole).div_ceil(64) as usize;
            self.freed.try_reserve_exact(nr_words).map_err(|_| NoMemory { bytes: nr_words as u64 * 8 })?;
            self.freed.resize(nr_words, 0);
        }
        Ok(())
    }

    /// The folio was divided: all parts are there.
    fn begin(&mut self) {
        self.left = self.cut.nr_parts(self.whole) as usize;
    }

    /// Ends the parts of which every page was given up.
    fn free_given_up(&mut self, entry: &Entry) -> Result<(), Panic> {
        if self.freed.is_empty() {
            return Ok(());
        }
        for (number, part) in self.cut.parts(self.whole).enumerate() {
            let head = part.head.get();
            if entry.listeners().given_up_in(head..head + part.order.nr_pages()) == part.order.nr_pages() {
                self.freed[number / 64] |= 1 << (number % 64);
                self.left -= 1;
            }
        }
        // They are this iterator's no more, whatever their ends do.
        let is_freed = |(number, _): &(usize, Place)| self.freed[number / 64] >> (number % 64) & 1 != 0;
        let ends = self.cut.parts(self.whole).enumerate().filter(is_freed).map(|(_, part)| part);
        catch_unwind(AssertUnwindSafe(|| {
            if ends.clone().next().is_some() {
                end_span(self.space, ends);
            }
        }))
    }

    /// The parts that are still to come, and their numbers.
    fn rest(&self) -> impl Iterator<Item = (u64, Place)> + Clone {
        let (cut, end, freed) = (self.cut, self.pages().end, &self.freed);
        let (mut at, mut number) = (self.at, self.number);
        let next = core::iter::from_fn(move || {
            let part = (at < end).then(|| cut.part_at(at, end))?;
            at += part.order.nr_pages();
            number += 1;
            Some((number - 1, part))
        });
        next.filter(|(number, _)| freed.get(*number as usize / 64).is_none_or(|word| word >> (number % 64) & 1 == 0))
    }
}

impl<'s> Iterator for Parts<'s> {
    type Item = Folio<'s>;

    fn next(&mut self) -> Option<Folio<'s>> {
        let (number, place) = if self.left > 0 { self.rest().next()? } else { return None };
        // The part lives: this is its reference.
        let state = self.space.sections().at(place)?.state();
        (self.at, self.number) = (place.head.get() + place.order.nr_pages(), number + 1);
        self.left -= 1;
        Some(Folio::from_owned(self.space, FolioWord::new(place, state)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Parts<'_> {}
impl FusedIterator for Parts<'_> {}

impl Drop for Parts<'_> {
    fn drop(&mut self) {
        if mem::take(&mut self.left) > 0 {
            end_span(self.space, self.rest().map(|(_, part)| part));
        }
    }
}

impl fmt::Debug for Parts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts")
            .field("offset", &Offset::from_low_bits(self.at).get())
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::device::DeviceConfig;
    use crate::sparse::shortage;

    /// Whatever populate fails, the folio comes back as it was, and the next try works.
    #[test]
    fn a_shortage_of_memory_changes_nothing() {
        let mut shortages = 0;
        let order = |order| Order::new(order).unwrap();
        for left in 0..6 {
            for (whole, part) in [(9, 0), (9, 8), (12, 9), (14, 3), (3, 0)] {
                let space = Space::builder().max_pages(1 << 20).build().unwrap();
                let device = space.register(DeviceConfig::new(1 << 14)).unwrap();
                let folio = device.alloc(order(whole)).unwrap();
                folio.set_private(7);
                folio.give_up(0..1).unwrap();
                shortage::after(Some(left));
                let parts = folio.split(order(part));
                shortage::after(None);
                let parts = parts.or_else(|error| {
                    assert!(matches!(error, SplitError::NoMemory { .. }), "{error}");
                    shortages += 1;
                    space.validate().unwrap();
                    let folio = error.into_folio();
                    assert_eq!((folio.order(), folio.refs(), folio.private()), (order(whole), 1, 7));
                    assert_eq!(folio.given_up(), 1);
                    folio.split(order(part))
                });
                let parts: Vec<Folio<'_>> = parts.unwrap().collect();
                assert!(parts.iter().all(|part| part.private() == 7));
                assert_eq!(parts.len(), (1 << (whole - part)) - usize::from(part == 0));
                space.validate().unwrap();
                drop(parts);
                assert_eq!(space.report().largest_free_pages(), 1 << 14, "all is one run again");
            }
        }
        assert!(shortages >= 6, "{shortages} shortages: pages, bits and hints are populated");
    }
}
