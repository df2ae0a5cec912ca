//! [`Queue`]: folios that have ended, and whose driver has not been told.
//!
//! A list through the folios' own records, so that joining it needs no memory and no lock: a stack that anybody pushes
//! to, and that is taken as a whole (R. K. Treiber, "Systems programming: coping with parallelism", 1986); taken so, no
//! element is popped while another thread looks at it. Whoever takes them turns the stack around, so that the first to
//! come is the first to go.
//!
//! Below: `page`, `section_map`. Above: `device`. Edges: [defer].
#![forbid(unsafe_code)]

use crate::page::{Link, Page};
use crate::section_map::{Place, SectionMap};
use crate::sync::{
    AtomicU64, Mutex,
    Ordering::{Acquire, Relaxed, Release},
};

/// Ended folios of one device, whose pages are still taken and counted.
pub(crate) struct Queue {
    /// The one that came last, as bits of a [`Link`]; each leads to the one before.
    last: AtomicU64,
    /// The one that is taken next; each leads to the one after. For takers only.
    first: Mutex<Link>,
}

impl Queue {
    pub(crate) fn new() -> Queue {
        Queue { last: AtomicU64::new(Link::END.bits()), first: Mutex::new(Link::END) }
    }

    /// Adds the folio at `place`, whose last reference the caller has just put. Lock-free.
    ///
    /// From then on it belongs to whoever takes it, who may be done with it, and with the device, before this returns:
    /// nothing of either is touched after the exchange.
    pub(crate) fn push(&self, sections: &SectionMap, place: Place) {
        let record = record(sections, place);
        // Relaxed: a guess that the exchange checks.
        let mut last = self.last.load(Relaxed);
        loop {
            record.link(place.order, Link::from_bits(last));
            // Release [defer]: all use of the folio, its driver's word and the link come before the take.
            match self.last.compare_exchange_weak(last, Link::to(place).bits(), Release, Relaxed) {
                Ok(_) => return,
                Err(now) => last = now,
            }
        }
    }

    /// Takes the folio that has waited longest.
    pub(crate) fn pop(&self, sections: &SectionMap) -> Option<Place> {
        let mut first = self.first.lock();
        if *first == Link::END {
            *first = self.take_all(sections);
        }
        let place = first.target()?;
        let record = record(sections, place);
        let (order, next) = record.linked();
        *first = next;
        record.link(order, Link::END);
        Some(Place { head: place.head, order })
    }

    /// Takes all that were pushed, and turns their links around.
    fn take_all(&self, sections: &SectionMap) -> Link {
        // Relaxed: what is not seen here is seen the next time.
        if self.last.load(Relaxed) == Link::END.bits() {
            return Link::END;
        }
        // Acquire [defer]: pairs with the Release of each `push`, whose exchanges form one release sequence.
        let mut at = Link::from_bits(self.last.swap(Link::END.bits(), Acquire));
        let mut after = Link::END;
        while let Some(place) = at.target() {
            let record = record(sections, place);
            let (order, before) = record.linked();
            record.link(order, after);
            (after, at) = (at, before);
        }
        after
    }

    /// Whether nothing waits, as far as a glance shows.
    pub(crate) fn is_empty(&self) -> bool {
        self.last.load(Relaxed) == Link::END.bits() && *self.first.lock() == Link::END
    }
}

fn record(sections: &SectionMap, place: Place) -> &Page {
    match sections.at(place) {
        Some(record) => record,
        None => unreachable!("{place:?} has ended, and has no metadata"),
    }
}
