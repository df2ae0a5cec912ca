//! The division of a live folio: its pages stay taken, and become several folios.
#![forbid(unsafe_code)]

use core::ops::Range;

use crate::device::Entry;
use crate::free_map::folios_of;
use crate::section_map::Place;
use crate::space::Space;
use crate::sparse::NoMemory;
use crate::words::Offset;

/// Why a folio was not divided. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotDivided {
    /// Others have references, or leaf words.
    Busy {
        refs: u32,
        maps: u32,
    },
    NoMemory(NoMemory),
}

impl From<NoMemory> for NotDivided {
    fn from(error: NoMemory) -> NotDivided {
        NotDivided::NoMemory(error)
    }
}

/// Divides the folio at `place`, of which the caller has the only reference, before page `at`: each side becomes the largest
/// folios that fit, with one reference each and the same driver's word.
///
/// The parts are new lives: what was looked up before leads nowhere. Linux: `__split_huge_page()`, with the count frozen.
pub(super) fn divide(space: &Space, entry: &Entry, place: Place, at: u64) -> Result<(), NotDivided> {
    let (start, end) = (place.head.get(), place.head.get() + place.order.nr_pages());
    let parts = || parts_of(start..at).chain(parts_of(at..end));
    let sections = space.sections();
    for part in parts() {
        sections.populate(part)?;
    }
    space.blocks().populate_for_division(start..end)?;
    let Some(record) = sections.at(place) else { unreachable!("{place:?} has no metadata") };
    let private = record.private();
    record.freeze_sole().map_err(|state| NotDivided::Busy { refs: state.count(), maps: state.maps() })?;
    // Nobody reaches the folio any more until its parts live. Nobody is its last holder but us, who end its life, and wake
    // whoever waits for it, if somebody has forgotten a guard.
    record.retire_frozen().is_last(|| space.waits().wake(place.head));
    space.blocks().divide(place.order, parts().map(|part| (part.head.get(), part.order)));
    for part in parts() {
        entry.publish(space, part);
        if let Some(record) = sections.at(part) {
            record.init(part.order, private);
        }
    }
    Ok(())
}

fn parts_of(pages: Range<u64>) -> impl Iterator<Item = Place> {
    folios_of(pages).map(|(head, order)| Place { head: Offset::from_low_bits(head), order })
}
