//! The end of a folio: the driver is told, the pages go back, and the device may go.

use core::ptr::NonNull;

use crate::device::Entry;
use crate::device::config::FreedFolio;
use crate::live::Door;
use crate::seat::Seat;
use crate::section_map::Place;
use crate::space::Space;

/// Ends the folio at `place`, whose last reference the caller has just put, and whose driver's word was `private`.
#[inline]
pub(crate) fn end_folio(space: &Space, place: Place, private: u64) {
    let Some((entry, door)) = space.devices().entry_at(space.sections(), place.head) else {
        unreachable!("the device of {place:?} has gone before it");
    };
    end(CountedPages { space, place, entry, door, seat: None }, private);
}

/// The same for a caller that knows the device, and has a seat there for itself.
#[inline]
pub(crate) fn end_folio_at(space: &Space, place: Place, private: u64, entry: &Entry, seat: &Seat) {
    let door = space.devices().door(entry.index());
    end(CountedPages { space, place, entry: NonNull::from(entry), door, seat: Some(seat) }, private);
}

#[inline]
fn end(pages: CountedPages<'_>, private: u64) {
    if let Some(ops) = pages.entry().ops() {
        ops.folio_free(FreedFolio { offset: pages.place.head, order: pages.place.order, private });
    }
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
    #[inline]
    fn drop(&mut self) {
        let entry = self.entry();
        let seat = self.seat.unwrap_or_else(|| entry.seats().of_this_thread());
        entry.give_back(self.space, seat, self.place);
        // The last to leave may find the device gone behind itself: nothing of it is touched after the count.
        self.door.exit(self.space.bell(), seat, self.place.order.nr_pages());
    }
}
