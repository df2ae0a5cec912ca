//! The end of a folio: the driver is told, the pages go back, and the device may go.

use core::mem;
use core::ops::Range;
use core::panic::AssertUnwindSafe;
use core::ptr::NonNull;
use std::panic::{catch_unwind, resume_unwind};

use crate::device::Entry;
use crate::device::config::FreedFolio;
use crate::live::Door;
use crate::seat::Seat;
use crate::section_map::Place;
use crate::space::Space;

/// Ends the folio at `place`, whose last reference the caller has just put, and whose driver's word was `private`.
#[inline]
pub(crate) fn end_folio(space: &Space, place: Place, private: u64) {
    let Some((entry, door)) = space.table().entry_at(space.sections(), place.head) else {
        unreachable!("the device of {place:?} has gone before it");
    };
    end(CountedPages { space, place, entry, door, seat: None }, private);
}

/// The same for a caller that knows the device, and has a seat there for itself.
#[inline(always)]
pub(crate) fn end_folio_at(space: &Space, place: Place, private: u64, entry: &Entry, seat: &Seat) {
    let door = space.table().door(entry.index());
    end(CountedPages { space, place, entry: NonNull::from(entry), door, seat: Some(seat) }, private);
}

/// Puts a reference of each folio at `places`, which lie one behind the other in one device, and ends those whose last it
/// was. Pages that lie together go back together.
///
/// When a callback panics, the others run all the same, and the first panic goes on in the end.
pub(crate) fn end_span(space: &Space, places: impl Iterator<Item = Place> + Clone) {
    // All misses at once, and not each after the exchange before it.
    for place in places.clone() {
        space.sections().prefetch(place);
        space.blocks().prefetch(place.head.get());
    }
    let mut places = places.peekable();
    let Some((entry, door)) = places.peek().and_then(|place| space.table().entry_at(space.sections(), place.head))
    else {
        unreachable!("a range without pages or device")
    };
    let mut panicked = None;
    let mut ended = CountedRun { space, pages: 0..0, entry, door };
    for place in places {
        let Some(record) = space.sections().at(place) else { unreachable!("{place:?} has no metadata") };
        let head = place.head.get();
        if !record.put().is_last(|| space.waits().wake(place.head)) {
            continue;
        }
        if ended.pages.end != head {
            drop(mem::replace(&mut ended, CountedRun { space, pages: head..head, entry, door }));
        }
        ended.pages.end = head + place.order.nr_pages();
        let freed = FreedFolio { offset: place.head, order: place.order, private: record.private() };
        // SAFETY: `ended` is counted in until it is dropped; see `CountedPages::entry`.
        let ops = unsafe { entry.as_ref() }.ops();
        if ops.is_some() {
            // SAFETY: As above.
            let tell = || unsafe { ops.with(|ops| ops.folio_free(freed)) };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(tell)) {
                panicked.get_or_insert(panic);
            }
        }
    }
    drop(ended);
    if let Some(panic) = panicked {
        resume_unwind(panic);
    }
}

/// Pages of ended folios, one behind the other, that are still counted in their device.
struct CountedRun<'a> {
    space: &'a Space,
    pages: Range<u64>,
    entry: NonNull<Entry>,
    door: &'a Door,
}

impl Drop for CountedRun<'_> {
    fn drop(&mut self) {
        let nr_pages = self.pages.end - self.pages.start;
        if nr_pages == 0 {
            return;
        }
        // SAFETY: As in `CountedPages::entry`.
        let entry = unsafe { self.entry.as_ref() };
        let seat = entry.seats().of_this_thread();
        let vacancies = entry.map().release_span(entry.claimer(self.space, seat), self.pages.clone());
        self.door.exit(self.space.bell(), seat, nr_pages);
        self.space.note_vacancies(vacancies);
    }
}

#[inline]
fn end(pages: CountedPages<'_>, private: u64) {
    if pages.entry().ops().is_some() {
        tell(pages, private);
    }
    // Otherwise `pages` gives the run back here.
}

#[inline(never)]
fn tell(pages: CountedPages<'_>, private: u64) {
    let freed = FreedFolio { offset: pages.place.head, order: pages.place.order, private };
    // SAFETY: `pages` is counted in until it is dropped, below.
    unsafe { pages.entry().ops().with(|ops| ops.folio_free(freed)) };
    // Here, or when the callback unwinds, `pages` gives the run back; from then on another owner may have it.
}

/// Pages that are still counted in their device, which therefore cannot go.
struct CountedPages<'a> {
    space: &'a Space,
    place: Place,
    entry: NonNull<Entry>,
    door: &'a Door,
    seat: Option<&'a Seat>,
}

impl CountedPages<'_> {
    #[inline]
    fn entry(&self) -> &Entry {
        // SAFETY: The folio's pages were counted into the device before the folio began, and only our `drop` counts them
        // out. `Entry::retire` lets a device go only when nothing is counted in, so until then the device table's `Arc`
        // keeps the entry.
        unsafe { self.entry.as_ref() }
    }
}

impl Drop for CountedPages<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        let entry = self.entry();
        let seat = self.seat.unwrap_or_else(|| entry.seats().of_this_thread());
        let vacancies = entry.map().give_back(self.space.blocks(), seat, self.place.head.get(), self.place.order);
        // The last to leave may find the device gone behind itself: nothing of it is touched after the count.
        self.door.exit(self.space.bell(), seat, self.place.order.nr_pages());
        self.space.note_vacancies(vacancies);
    }
}
