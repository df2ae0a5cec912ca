//! [`PageRef`]: what a lookup found, without a reference.
#![forbid(unsafe_code)]

use core::fmt;
use core::time::Duration;

use super::{Folio, FolioWord, direct_record, record, record_at_place};
use crate::device::Device;
use crate::page::Page;
use crate::section_map::Place;
use crate::space::Space;
use crate::words::{Access, Offset, Order, SoftLeaf};

/// One page of a live folio, borrowed: no reference is held.
///
/// What it says is true while something else keeps the folio alive, as the page-table lock does that keeps the leaf
/// from being cleared. Without such a lock the folio may be freed at any moment, and its place be used by another:
/// reading stays safe, but [`PageRef::refs`] and [`PageRef::private`] may then speak of another owner's. Such a caller uses [`PageRef::try_get`] and then checks that the leaf is unchanged.
#[derive(Clone, Copy)]
pub struct PageRef<'s> {
    word: FolioWord,
    space: &'s Space,
}

const _: () = assert!(size_of::<PageRef<'_>>() <= 16);
const _: () = assert!(size_of::<Option<PageRef<'_>>>() == size_of::<PageRef<'_>>());

impl<'s> PageRef<'s> {
    #[inline(always)]
    pub(crate) fn new(space: &'s Space, word: FolioWord) -> PageRef<'s> {
        PageRef { space, word }
    }

    /// The page itself, head or tail.
    #[inline(always)]
    pub fn offset(self) -> Offset {
        self.word.offset()
    }

    /// The first page of its folio.
    #[inline]
    pub fn folio_offset(self) -> Offset {
        self.word.place().head
    }

    /// Which page of its folio it is: 0 for the head.
    #[inline]
    pub fn index(self) -> u64 {
        self.offset().get() - self.folio_offset().get()
    }

    /// The folio's order.
    #[inline]
    pub fn order(self) -> Order {
        self.word.order()
    }

    /// How many references the folio has now.
    #[inline]
    pub fn refs(self) -> u32 {
        self.record().state().count()
    }

    /// References, maps, and whether it is locked, all of one moment.
    pub(crate) fn counts(self) -> (u32, u32, bool) {
        let state = self.record().state();
        (state.count(), state.maps(), state.is_locked())
    }

    /// The driver's word of the folio.
    #[inline(always)]
    pub fn private(self) -> u64 {
        // The value and not the record comes out of the other way: joined addresses would be computed apart from the
        // load in both ways.
        match direct_record(self.space, self.word) {
            Some(page) => page.private(),
            None => self.private_by_place(),
        }
    }

    #[inline(never)]
    fn private_by_place(self) -> u64 {
        record_at_place(self.space, self.word).private()
    }

    /// The device that the page belongs to.
    ///
    /// Safe against whatever comes and goes, and without a reference of the folio: as [`Space::device_at`], and a look
    /// whether the folio still lives. For one that has been freed since it was looked up, a handle on a device without
    /// name, owner and pages, which refuses every allocation; never another device, whosever the offset may be now.
    pub fn device(self) -> Device<'s> {
        let device = self.space.device_at(self.folio_offset());
        // A folio that lives now did so when the device was found, and then the device was its own. A device that was found
        // later has come after the folio's end, and brings the end with it ([devices]).
        let lives = self.record().state().is_life(self.word.generation());
        device.filter(|_| lives).unwrap_or_else(|| Device::new(self.space, self.space.no_device()))
    }

    /// A handle on the folio, unless it has been freed since it was looked up (or is frozen at this moment, or has
    /// 2^19 - 1 references, the most that it can count). One compare-exchange. Linux: `folio_try_get()`.
    ///
    /// The handle is on the folio that the lookup found, never on a later one at the same offset. A caller that does
    /// not keep the leaf from changing must check now that it has not.
    #[inline]
    pub fn try_get(self) -> Option<Folio<'s>> {
        let state = self.record().try_get(self.word.generation())?;
        if self.word.is_direct() {
            return Some(Folio::from_owned(self.space, self.word));
        }
        let place = Place { head: self.folio_offset(), order: state.order() };
        Some(Folio::from_owned(self.space, FolioWord::new(place, state)))
    }

    /// [`Space::wait_unlocked`], for the folio that was looked up.
    pub fn wait_unlocked(self, limit: Duration) -> bool {
        let head = self.folio_offset();
        self.space.waits().wait_unlocked(self.record(), head, self.word.generation(), limit)
    }

    /// The leaf word that names the page, for whoever has a leaf's reference of it in another form.
    #[inline]
    pub(crate) fn leaf(self, access: Access) -> SoftLeaf {
        self.word.leaf(access)
    }

    #[inline(always)]
    fn record(self) -> &'s Page {
        record(self.space, self.word)
    }
}

impl PartialEq for PageRef<'_> {
    /// Whether both are the same page of the same life of a folio.
    fn eq(&self, other: &Self) -> bool {
        core::ptr::eq(self.space, other.space) && self.word == other.word
    }
}

impl Eq for PageRef<'_> {}

impl fmt::Debug for PageRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageRef")
            .field("offset", &self.offset().get())
            .field("folio_offset", &self.folio_offset().get())
            .field("order", &self.order().get())
            .field("refs", &self.refs())
            .finish()
    }
}
