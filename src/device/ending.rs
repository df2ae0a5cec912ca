//! The end of a folio: the driver is told, the pages go back, and the device may go.

use core::mem;
use core::ops::Range;
use core::panic::AssertUnwindSafe;
use core::ptr::NonNull;
use std::panic::{catch_unwind, resume_unwind};

use crate::device::Entry;
use crate::device::listeners::Whose;
use crate::device::ops::Panic;
use crate::geometry::PAGES_PER_BLOCK;
use crate::live::Door;
use crate::page::Page;
use crate::seat::Seat;
use crate::section_map::Place;
use crate::space::Space;
use crate::words::Order;

/// Ends the folio at `place`, whose last reference the caller has just put, and whose driver's word was `private`.
#[inline]
pub(crate) fn end_folio(space: &Space, place: Place, private: u64) {
    end(counted(space, place), private);
}

/// The same for a caller that knows the device, and has a seat there for itself.
#[inline(always)]
pub(crate) fn end_folio_at(space: &Space, place: Place, private: u64, entry: &Entry, seat: &Seat) {
    let door = space.table().door(entry.index());
    end(Counted { space, pages: place, entry: NonNull::from(entry), door, seat: Some(seat) }, private);
}

/// Gives back the pages of an ended folio whose driver has been told by other means.
pub(crate) fn give_back(space: &Space, place: Place) {
    drop(counted(space, place));
}

/// Puts a reference of each folio at `places`, which lie in one device by ascending offset, and ends those whose last it
/// was. Pages that lie together go back together.
///
/// When a callback panics, the others run all the same, and the first panic goes on in the end.
pub(crate) fn end_span(space: &Space, places: impl Iterator<Item = Place> + Clone) {
    // All misses at once, and not each after the exchange before it.
    for place in places.clone() {
        space.sections().prefetch(place);
        space.blocks().prefetch(place.head.get());
    }
    let mut endings = Endings::new(space);
    for place in places {
        let Some(record) = space.sections().at(place) else { unreachable!("{place:?} has no metadata") };
        if record.put().is_last(|| space.waits().wake(place.head)) {
            endings.end(place, record);
        }
    }
    endings.finish();
}

/// Folios that end in one call, of any devices of a space. Each driver is told of each; pages that lie together go back
/// together, those of the last when this is dropped.
pub(crate) struct Endings<'a> {
    space: &'a Space,
    /// Pages that are still to go back.
    run: Option<Counted<'a, Range<u64>>>,
    /// The first panic of a callback.
    panicked: Option<Panic>,
}

impl<'a> Endings<'a> {
    #[inline]
    pub(crate) fn new(space: &'a Space) -> Endings<'a> {
        Endings { space, run: None, panicked: None }
    }

    /// Ends the folio at `place`, whose last reference the caller has just put.
    #[inline(always)]
    pub(crate) fn end(&mut self, place: Place, record: &Page) {
        let (head, nr_pages) = (place.head.get(), place.order.nr_pages());
        if let Some(run) = &mut self.run {
            if !run.entry().listeners().are_there() {
                // A block is of one device, so what lies in a block of the run is of its device. Pages that were had one by
                // one come from a stash, the last first.
                if run.pages.end == head && head & (PAGES_PER_BLOCK - 1) != 0 {
                    run.pages.end += nr_pages;
                    return;
                }
                if run.pages.start == head + nr_pages && run.pages.start & (PAGES_PER_BLOCK - 1) != 0 {
                    run.pages.start = head;
                    return;
                }
            }
        }
        self.end_another(place, record);
    }

    /// The same for one that does not simply go on where the last one ended.
    #[inline(never)]
    fn end_another(&mut self, place: Place, record: &Page) {
        let space = self.space;
        let Some((entry, door)) = space.table().entry_at(space.sections(), place.head) else {
            unreachable!("the device of {place:?} has gone before it");
        };
        // SAFETY: The folio's pages are counted in until we, or whoever takes them from the queue, count them out; see
        // `Counted::entry`.
        let listeners = unsafe { entry.as_ref() }.listeners();
        if listeners.are_there() {
            // SAFETY: As above.
            let tell = || unsafe { listeners.folio_ended(space, place, record.private()) };
            match catch_unwind(AssertUnwindSafe(tell)) {
                Ok(Whose::Queues) => return,
                Ok(Whose::Callers) => {}
                Err(panic) => _ = self.panicked.get_or_insert(panic),
            }
        }
        let (head, end) = (place.head.get(), place.head.get() + place.order.nr_pages());
        match &mut self.run {
            // Two devices may lie side by side.
            Some(run) if run.pages.end == head && run.entry == entry => run.pages.end = end,
            Some(run) if run.pages.start == end && run.entry == entry => run.pages.start = head,
            // The run before goes back here.
            run => *run = Some(Counted { space, pages: head..end, entry, door, seat: None }),
        }
    }

    /// Gives all back, and lets the first panic go on.
    #[inline]
    pub(crate) fn finish(self) {
        drop(self.run);
        if let Some(panic) = self.panicked {
            resume_unwind(panic);
        }
    }
}

#[inline]
fn end(pages: Counted<'_, Place>, private: u64) {
    if pages.entry().listeners().are_there() {
        tell(pages, private);
    }
    // Otherwise `pages` gives the run back here.
}

#[inline(never)]
fn tell(pages: Counted<'_, Place>, private: u64) {
    // SAFETY: `pages` is counted in until it is dropped, or whoever takes it from the queue counts it out.
    match unsafe { pages.entry().listeners().folio_ended(pages.space, pages.pages, private) } {
        Whose::Queues => mem::forget(pages),
        // Here, or when the callback unwinds, `pages` gives the run back; from then on another owner may have it.
        Whose::Callers => drop(pages),
    }
}

#[inline]
fn counted(space: &Space, place: Place) -> Counted<'_, Place> {
    let Some((entry, door)) = space.table().entry_at(space.sections(), place.head) else {
        unreachable!("the device of {place:?} has gone before it");
    };
    Counted { space, pages: place, entry, door, seat: None }
}

/// Pages of ended folios that are still counted in their device, which therefore cannot go. Dropping it gives them
/// back, and counts them out.
struct Counted<'a, P: Pages> {
    space: &'a Space,
    pages: P,
    entry: NonNull<Entry>,
    door: &'a Door,
    /// Whose stash they may go to: this thread's, if it is nobody's.
    seat: Option<&'a Seat>,
}

/// Pages that go back to the free map in one piece.
trait Pages {
    fn are_none(&self) -> bool;

    fn nr_pages(&self) -> u64;

    /// As [`FreeMap::release`](crate::free_map::FreeMap::release).
    fn give_back(&self, space: &Space, entry: &Entry, seat: &Seat) -> u64;
}

/// One folio's.
impl Pages for Place {
    #[inline(always)]
    fn are_none(&self) -> bool {
        false
    }

    #[inline(always)]
    fn nr_pages(&self) -> u64 {
        self.order.nr_pages()
    }

    #[inline(always)]
    fn give_back(&self, space: &Space, entry: &Entry, seat: &Seat) -> u64 {
        entry.map().give_back(space.blocks(), seat, self.head.get(), self.order)
    }
}

/// Those of folios that lie one behind the other; perhaps none.
impl Pages for Range<u64> {
    fn are_none(&self) -> bool {
        self.is_empty()
    }

    fn nr_pages(&self) -> u64 {
        self.end - self.start
    }

    fn give_back(&self, space: &Space, entry: &Entry, seat: &Seat) -> u64 {
        if self.nr_pages() == 1 {
            // A page alone is soon wanted again.
            return entry.map().give_back(space.blocks(), seat, self.start, Order::ZERO);
        }
        entry.map().release_span(entry.claimer(space, seat), self.clone())
    }
}

impl<P: Pages> Counted<'_, P> {
    /// The device of one page or more.
    #[inline]
    fn entry(&self) -> &Entry {
        // SAFETY: The pages were counted into the device before their folios began, and only our `drop` counts them
        // out. `Entry::retire` lets a device go only when nothing is counted in, so until then the device table's `Arc`
        // keeps the entry.
        unsafe { self.entry.as_ref() }
    }
}

impl<P: Pages> Drop for Counted<'_, P> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.pages.are_none() {
            return;
        }
        let entry = self.entry();
        let seat = self.seat.unwrap_or_else(|| entry.seats().of_this_thread());
        let vacancies = self.pages.give_back(self.space, entry, seat);
        let are_enough = vacancies > 0 && self.space.are_enough_vacancies(vacancies, entry);
        // The last to leave may find the device gone behind itself: nothing of it is touched after the count.
        self.door.exit(self.space.bell(), seat, self.pages.nr_pages());
        if are_enough {
            self.space.trim_vacancies();
        }
    }
}
