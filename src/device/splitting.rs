//! [`Division`]: a live folio becomes several, whose pages stay taken all the while.
//!
//! One mechanism for every shape: what the parts are, says a [`Cut`]. The folio is frozen, i.e. its only reference
//! taken away without its end, so that nobody gets another; then the free map, the readers' words and the records are
//! made those of the parts. Linux: `__split_huge_page()`, `folio_split()`.
//!
//! Below: `free_map`, `section_map`, `page`. Above: `folio`, `range`. Edges: [last-put], [init], [class].

use core::iter::from_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::class::Class;
use crate::device::Entry;
use crate::device::ops::{FolioSplit, Panic};
use crate::free_map::folios_of;
use crate::geometry::{MODEL, PAGES_PER_BLOCK, block_of};
use crate::page::Page;
use crate::section_map::Place;
use crate::space::Space;
use crate::sparse::NoMemory;
use crate::words::{Offset, Order};

/// Into which parts a folio is divided. They lie one behind the other, each naturally aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// All of one order.
    Evenly(Order),
    /// One of `order` at page `head`, and beside it the largest that fit.
    Around { head: u64, order: Order },
    /// Before this page: on each side the largest that fit.
    Before(u64),
}

impl Cut {
    /// The part that begins at `page` of a folio that ends before page `end`.
    #[inline]
    pub(crate) fn part_at(self, page: u64, end: u64) -> Place {
        let order = match self {
            Cut::Evenly(order) => order,
            Cut::Around { head, order } if head == page => order,
            Cut::Around { head: border, .. } | Cut::Before(border) => {
                let largest = folios_of(page..if page < border { border } else { end }).next();
                largest.map_or(Order::ZERO, |(_, order)| order)
            }
        };
        Place { head: Offset::from_low_bits(page), order }
    }

    /// The parts of the folio at `whole`, in ascending order.
    #[inline]
    pub(crate) fn parts(self, whole: Place) -> impl Iterator<Item = Place> + Clone {
        let (mut at, end) = (whole.head.get(), whole.head.get() + whole.order.nr_pages());
        from_fn(move || {
            let part = (at < end).then(|| self.part_at(at, end))?;
            at += part.order.nr_pages();
            Some(part)
        })
    }

    /// The first part in each block, and each of order 9 or more: what there is to do for a block's other parts as
    /// well is done once.
    fn parts_by_block(self, whole: Place) -> impl Iterator<Item = Place> {
        let (mut at, end) = (whole.head.get(), whole.head.get() + whole.order.nr_pages());
        from_fn(move || {
            let part = (at < end).then(|| self.part_at(at, end))?;
            at += part.order.nr_pages();
            // A part below order 9 ends within its block, and another begins where the block ends. (A model's records of
            // one block are not all populated at once.)
            at = if MODEL { at } else { at.next_multiple_of(PAGES_PER_BLOCK) };
            Some(part)
        })
    }

    /// How many parts there are.
    pub(crate) fn nr_parts(self, whole: Place) -> u64 {
        match self {
            Cut::Evenly(order) => whole.order.nr_pages() >> order.get(),
            Cut::Around { .. } | Cut::Before(_) => self.parts(whole).count() as u64,
        }
    }

    /// What the blocks that fall to several parts of a folio of order 9 or more serve.
    fn class(self) -> Class {
        match self {
            Cut::Evenly(order) => Class::Uniform(order),
            Cut::Around { .. } | Cut::Before(_) => Class::Mixed,
        }
    }
}

/// Others have references of the folio, or leaf words of it. It is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Busy {
    /// References beyond the caller's.
    pub(crate) extra_refs: u32,
    /// How many of all references leaf words own.
    pub(crate) maps: u32,
}

/// A folio that is about to be divided, by whoever has a reference of it.
#[derive(Clone, Copy)]
pub(crate) struct Division<'a> {
    pub(crate) space: &'a Space,
    pub(crate) entry: &'a Entry,
    pub(crate) whole: Place,
    pub(crate) cut: Cut,
}

impl Division<'_> {
    /// Backs the metadata of the parts by memory. Nothing else can fail for want of it.
    pub(crate) fn prepare(&self) -> Result<(), NoMemory> {
        let (sections, blocks) = (self.space.sections(), self.space.blocks());
        for part in self.cut.parts_by_block(self.whole) {
            sections.populate(part)?;
            if !part.order.is_whole_block() {
                blocks.populate_for_division(block_of(part.head.get()), self.class())?;
            }
        }
        Ok(())
    }

    /// Takes away the caller's reference, which must be the only one and not a leaf's: from here on nobody gets another.
    pub(crate) fn freeze(&self) -> Result<(), Busy> {
        let frozen = self.record(self.whole).freeze_sole();
        frozen.map(|_| ()).map_err(|state| Busy { extra_refs: state.count().saturating_sub(1), maps: state.maps() })
    }

    /// Gives the reference back.
    pub(crate) fn unfreeze(&self) {
        self.record(self.whole).unfreeze();
    }

    /// Makes the parts of the frozen folio, each with one reference, which is the caller's, and the driver's word of
    /// the whole. Says what that is.
    pub(crate) fn carry_out(&self) -> u64 {
        let record = self.record(self.whole);
        let private = record.private();
        // Nobody is its last holder but us, who end its life, and wake whoever waits for it, if somebody has forgotten a guard.
        record.retire_frozen().is_last(|| self.space.waits().wake(self.whole.head));
        let parts = self.cut.parts_by_block(self.whole).map(|part| (part.head.get(), part.order));
        self.space.blocks().divide(self.whole.order, self.class(), parts);
        // Before the parts begin: none of their pages can be free by then.
        let (seat, start) = (self.entry.seats().of_this_thread(), self.whole.head.get());
        self.entry.map().note_divided(self.space.blocks(), seat, start..start + self.whole.order.nr_pages());
        for part in self.cut.parts_by_block(self.whole) {
            self.entry.publish(self.space, part);
        }
        for part in self.cut.parts(self.whole) {
            self.record(part).init(part.order, private);
        }
        private
    }

    /// Calls the driver's `folio_split` for each part, and once at the end. A panic of one call keeps none of the
    /// others back; the first is returned.
    pub(crate) fn tell(&self, private: u64) -> Option<Panic> {
        let ops = self.entry.listeners().ops();
        if !ops.is_some() {
            return None;
        }
        let mut panicked = None;
        let parts = self.cut.parts(self.whole).map(Some);
        for part in parts.chain([None]) {
            let split = FolioSplit { whole: self.whole, private, part: part.map(|part| (part, self.record(part))) };
            // SAFETY: The caller has a reference of each part, so that their pages are counted in.
            let tell = || unsafe { ops.with(|ops| ops.folio_split(split)) };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(tell)) {
                panicked.get_or_insert(panic);
            }
        }
        panicked
    }

    /// What the blocks in which several parts lie serve from now on.
    fn class(&self) -> Class {
        // Below order 9 the block has other folios as well.
        if self.whole.order.is_whole_block() { self.cut.class() } else { Class::Mixed }
    }

    fn record(&self, place: Place) -> &Page {
        match self.space.sections().at(place) {
            Some(record) => record,
            None => unreachable!("{place:?} has no metadata"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(order: u8) -> Order {
        Order::new(order).unwrap()
    }

    #[test]
    fn the_parts_are_all_of_the_folio_and_aligned() {
        let whole = Place { head: Offset::from_low_bits(5 << 11), order: order(11) };
        let (start, end) = (whole.head.get(), whole.head.get() + whole.order.nr_pages());
        let evenly = (0..11).map(|n| Cut::Evenly(order(n)));
        let pages = [start, start + 1, start + 511, start + 512, start + 700, end - 1];
        let around = pages.into_iter().flat_map(|page| {
            let around = move |n| Cut::Around { head: order(n).align_down(page), order: order(n) };
            (0..11).map(around).chain(Some(Cut::Before(page)).filter(|_| page > start))
        });
        for cut in evenly.chain(around) {
            let mut at = start;
            for part in cut.parts(whole) {
                assert_eq!((part.head.get(), part.order.align_down(at)), (at, at), "{cut:?}");
                at += part.order.nr_pages();
            }
            assert_eq!((at, cut.parts(whole).count() as u64), (end, cut.nr_parts(whole)), "{cut:?}");
            let blocks: Vec<u64> = cut.parts_by_block(whole).map(|part| block_of(part.head.get())).collect();
            assert!(blocks.windows(2).all(|two| two[0] < two[1]) && blocks[0] == block_of(start), "{cut:?}");
        }
    }

    #[test]
    fn around_a_page_one_folio_of_each_order_is_left() {
        let whole = Place { head: Offset::from_low_bits(1 << 12), order: order(12) };
        for page in [4096, 4097, 5000, 8191] {
            for n in 0..12 {
                let cut = Cut::Around { head: order(n).align_down(page), order: order(n) };
                let mut orders: Vec<u8> = cut.parts(whole).map(|part| part.order.get()).collect();
                orders.sort_unstable();
                let buddies: Vec<u8> = core::iter::once(n).chain(n..12).collect();
                assert_eq!(orders, buddies, "as few parts as there can be");
            }
        }
    }
}
