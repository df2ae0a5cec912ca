//! The end of a folio: the driver is told, the pages go back, and the device may go.

use core::ptr::NonNull;

use crate::device::Entry;
use crate::device::config::FreedFolio;
use crate::page::Page;
use crate::section_map::Place;
use crate::space::Space;

/// Ends the folio at `place`, whose last reference the caller has just put.
pub(crate) fn end_folio(space: &Space, place: Place, record: &Page) {
    let pages = CountedPages::of_ending_folio(space, place);
    let freed = FreedFolio { offset: place.head, order: place.order, private: record.private() };
    record.retire();
    if let Some(ops) = pages.entry().ops() {
        ops.folio_free(freed);
    }
    // Here, or when the callback unwinds, `pages` gives the run back; from then on another owner may have it.
}

/// Pages that are still counted in their device, which therefore cannot go.
struct CountedPages<'s> {
    space: &'s Space,
    place: Place,
    entry: NonNull<Entry>,
}

impl<'s> CountedPages<'s> {
    fn of_ending_folio(space: &'s Space, place: Place) -> CountedPages<'s> {
        let entry = space.devices().entry_at(space.sections(), place.head);
        let Some(entry) = entry else { unreachable!("the device of {place:?} has gone before it") };
        CountedPages { space, place, entry }
    }

    fn entry(&self) -> &Entry {
        // SAFETY: The folio's pages were counted into the device's `Live` before the folio began, and only our `drop`
        // counts them out. `Entry::retire` lets a device go only when nothing is counted in, so until then the device
        // table's `Arc` keeps the entry.
        unsafe { self.entry.as_ref() }
    }
}

impl Drop for CountedPages<'_> {
    fn drop(&mut self) {
        let nr_pages = self.place.order.nr_pages();
        self.entry().map().release(self.space.blocks(), self.place.head.get(), self.place.order);
        // After a `true` the device may be gone; nothing of it is touched then.
        if !self.entry().live().exit(nr_pages) {
            // Leaving a closed device wakes who waits for it, which touches it once more after the pages have left: so
            // it is held.
            self.space.device_of_live(self.place.head).live().exit_closed(nr_pages);
        }
    }
}
