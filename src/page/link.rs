//! What a record holds between its folio's end and the release of the pages: a link to another such record.
//!
//! Then it belongs to one thread, or to the list that it is in. It stays "not live" for everybody else.
#![forbid(unsafe_code)]

use super::{Page, State};
use crate::section_map::Place;
use crate::sync::Ordering::Relaxed;
use crate::words::{Offset, Order, leaf_bits};

/// Where the count and the maps of a live folio are.
const LINK_BITS: u32 = 41;
const LINK: u64 = (1 << LINK_BITS) - 1;
/// Set where the folio is of order 9 or more, and its record is a block's.
const WHOLE_BLOCK: u64 = 1 << 40;
const FIRST: u64 = 2;

const _: () = assert!(State::ONE_REF == 1 && State::ONE_MAP < 1 << LINK_BITS);
const _: () = assert!(leaf_bits::PAYLOAD == WHOLE_BLOCK - 1, "an offset is the rest of a link");

/// The place of a record in a list, or the end of it. Never 0, so that a record with one is told from a free one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link(u64);

impl Link {
    /// No record: the last of a list, or one that is in none.
    pub(crate) const END: Link = Link(1);

    /// To the record of the folio at `place`.
    pub(crate) fn to(place: Place) -> Link {
        // The largest offset heads no block, so there is room to count from 2.
        let whole_block = if place.order.is_whole_block() { WHOLE_BLOCK } else { 0 };
        Link((place.head.get() | whole_block) + FIRST)
    }

    pub(crate) const fn from_bits(bits: u64) -> Link {
        Link(bits & LINK)
    }

    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    /// Where the record is, by an order of its kind; which order it is, the record says.
    pub(crate) fn target(self) -> Option<Place> {
        let word = self.0.checked_sub(FIRST)?;
        let order = if word & WHOLE_BLOCK != 0 { Order::HUGE } else { Order::ZERO };
        Some(Place { head: Offset::from_low_bits(word & leaf_bits::PAYLOAD), order })
    }
}

impl State {
    /// Whether the folio has ended, and its pages have not gone back.
    pub(crate) const fn is_linked(self) -> bool {
        !self.is_live() && self.bits() & LINK != 0
    }

    fn link(self) -> Link {
        Link::from_bits(self.bits())
    }

    /// The order of a folio that has ended, and a link.
    fn linked(self, order: Order, next: Link) -> State {
        let order = State::from_bits(0).next_life(order).bits() & !(leaf_bits::DIRECT | leaf_bits::GENERATION | LINK);
        State::from_bits(self.bits() & leaf_bits::GENERATION | order | next.bits())
    }
}

impl Page {
    /// Notes the order of a folio that has just ended, and who comes after it. For whoever put the last reference.
    pub(crate) fn link(&self, order: Order, next: Link) {
        // Relaxed, here and below: whoever has the record to itself. It comes into other hands by the list.
        let state = State::from_bits(self.state.load(Relaxed));
        self.state.store(state.linked(order, next).bits(), Relaxed);
    }

    /// What `link` has noted.
    pub(crate) fn linked(&self) -> (Order, Link) {
        let state = State::from_bits(self.state.load(Relaxed));
        debug_assert!(state.is_linked(), "{state:?} is in no list");
        (state.order(), state.link())
    }

    /// Leaves the record as that of a free page, before the pages go back.
    pub(crate) fn unlink(&self) {
        let state = State::from_bits(self.state.load(Relaxed));
        self.state.store(state.retired().bits(), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_to_its_record_and_leaves_the_generation() {
        let page = Page::absent();
        let orders = || (0..=Order::MAX.get()).filter_map(Order::new);
        for (own, other) in orders().flat_map(|own| orders().map(move |other| (own, other))) {
            let state = page.init(own, 7);
            assert!(page.put().is_last(|| ()) && !page.state().is_linked());
            let heads = [0, 1 << 20, (1 << 40) - other.nr_pages()];
            for head in heads.map(Offset::from_low_bits) {
                let link = Link::to(Place { head, order: other });
                page.link(own, link);
                assert!(page.state().is_linked() && !page.state().is_live());
                assert_eq!((page.linked(), page.private()), ((own, link), 7));
                let target = link.target().unwrap();
                assert_eq!((target.head, target.order.is_whole_block()), (head, other.is_whole_block()));
            }
            page.link(own, Link::END);
            assert!(page.state().is_linked() && page.linked().1.target().is_none());
            page.unlink();
            assert_eq!(page.state(), state.retired());
        }
    }
}
