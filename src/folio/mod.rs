//! [`Folio`]: a counted handle on allocated pages, and [`PageRef`], the uncounted view that a lookup gives.
//!
//! Below: `page`, `section_map`, `wait`. Above: `space`. Edges: [init], [last-put], [map].
#![forbid(unsafe_code)]

mod freeze;
mod lock;
mod maps;
mod page_ref;
mod partial;
mod refused;
mod sole;
mod split;
mod weak;
mod word;

use core::fmt;
use core::mem;

pub use freeze::FrozenFolio;
pub use lock::{FolioGuard, LockedFolio};
pub use page_ref::PageRef;
pub use refused::{FreezeError, MapError};
pub use split::Parts;
pub use weak::WeakFolio;
pub(crate) use word::FolioWord;

use crate::device::{Device, end_folio};
use crate::error::TooManyRefs;
use crate::page::Page;
use crate::section_map::Place;
use crate::space::Space;
use crate::words::{Access, Offset, Order, SoftLeaf};

/// A reference of a folio: pages that were allocated together, with one count. Linux: `struct folio`.
///
/// Cloning takes a reference (`folio_get`), dropping puts it (`folio_put`); the last put frees the folio and calls the
/// driver's [`folio_free`](crate::DeviceOps::folio_free). The folio keeps its device registered.
///
/// ```
/// use farpage::{Access, DeviceConfig, Order, Space};
///
/// let space = Space::new()?;
/// let device = space.register(DeviceConfig::new(512))?;
/// let folio = device.alloc(Order::ZERO)?;
/// folio.set_private(0xfeed);
///
/// let leaf = folio.into_leaf(Access::Write); // into a page table
/// assert_eq!(space.lookup(leaf).unwrap().private(), 0xfeed);
///
/// drop(space.take(leaf)?); // out of it again; the last reference
/// assert!(space.lookup(leaf).is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropping the last handle frees the folio"]
pub struct Folio<'s> {
    word: FolioWord,
    space: &'s Space,
}

const _: () = assert!(size_of::<Folio<'_>>() <= 16);
const _: () = assert!(size_of::<Option<Folio<'_>>>() == size_of::<Folio<'_>>());

impl<'s> Folio<'s> {
    /// A handle that owns a reference which the caller has.
    pub(crate) fn from_owned(space: &'s Space, word: FolioWord) -> Folio<'s> {
        Folio { space, word }
    }

    /// The first page.
    #[inline]
    pub fn offset(&self) -> Offset {
        // A handle's word names the first page, and so does every direct one.
        if self.word.is_direct() { self.word.offset() } else { self.word.place().head }
    }

    /// The order.
    #[inline]
    pub fn order(&self) -> Order {
        self.word.place().order
    }

    /// How many pages: 2 to the power of the order.
    #[inline]
    pub fn nr_pages(&self) -> u64 {
        self.order().nr_pages()
    }

    /// How many references the folio has, of handles and of leaf words. It may have changed when this returns, unless
    /// it is 1: then this handle is the only one.
    pub fn refs(&self) -> u32 {
        self.record().state().count()
    }

    /// How many of the references leaf words own. It may have changed when this returns. Linux: `folio_mapcount()`.
    pub fn maps(&self) -> u32 {
        self.record().state().maps()
    }

    /// The driver's word; 0 after allocation. Linux: `zone_device_data`.
    #[inline]
    pub fn private(&self) -> u64 {
        self.record().private()
    }

    /// Sets the driver's word. One atomic store, relaxed: it orders nothing else.
    #[inline]
    pub fn set_private(&self, value: u64) {
        self.record().set_private(value);
    }

    /// The device that the pages belong to.
    pub fn device(&self) -> Device<'s> {
        Device::new(self.space, self.space.device_of_live(self.offset()))
    }

    /// One more handle, or an error when the folio has as many references as it can count (2^19 - 1).
    pub fn try_clone(&self) -> Result<Folio<'s>, TooManyRefs> {
        if self.record().get_one_more() {
            Ok(Folio { space: self.space, word: self.word })
        } else {
            Err(TooManyRefs::met())
        }
    }

    /// Moves the handle's reference into a leaf word, young and dirty clear.
    ///
    /// The leaf owns the reference until [`Space::take`] moves it back, whatever copies of the word are made. A leaf
    /// that is lost keeps its folio alive for ever. Pass it on as any other value: under a lock, or by a release store
    /// and an acquire load; through relaxed ones, a `take` may come before the leaf's own reference is there for it, and
    /// be refused.
    #[inline]
    pub fn into_leaf(self, access: Access) -> SoftLeaf {
        self.record().map();
        let leaf = self.word.leaf(access);
        mem::forget(self);
        leaf
    }

    /// Drops the reference. If it was the last, the folio is still to be ended: its place, and the driver's word.
    #[inline(always)]
    pub(crate) fn put(self) -> Option<(Place, u64)> {
        let last = put(&self).map(|private| (self.word.place(), private));
        mem::forget(self);
        last
    }

    /// Where the folio is, for whoever keeps its reference in another form.
    pub(crate) fn into_place(self) -> Place {
        let place = self.word.place();
        mem::forget(self);
        place
    }

    #[inline]
    pub(crate) fn space(&self) -> &'s Space {
        self.space
    }

    #[inline(always)]
    fn record(&self) -> &'s Page {
        record(self.space, self.word)
    }
}

/// The metadata of the folio that `word` names.
#[inline(always)]
fn record(space: &Space, word: FolioWord) -> &Page {
    match direct_record(space, word) {
        Some(page) => page,
        None => record_by_place(space, word),
    }
}

/// The same for a word with the direct bit: the place is known without the order, so that the load waits for nothing.
#[inline(always)]
fn direct_record(space: &Space, word: FolioWord) -> Option<&Page> {
    if word.is_direct() { space.sections().small(word.offset()) } else { None }
}

/// The way of all other words, out of line: so a direct one costs a test and no more.
#[cold]
#[inline(never)]
fn record_by_place(space: &Space, word: FolioWord) -> &Page {
    record_at_place(space, word)
}

/// The same in line, for who is out of line already.
#[inline(always)]
fn record_at_place(space: &Space, word: FolioWord) -> &Page {
    match space.sections().at(word.place()) {
        Some(page) => page,
        // A word is made from a record that was found, at the same place.
        None => unreachable!("a folio has no metadata"),
    }
}

impl Clone for Folio<'_> {
    /// Takes a reference: one atomic addition, no dearer than `Arc`'s.
    ///
    /// # Panics
    ///
    /// When the folio has 2^19 - 1 references, the most it can count; [`Folio::try_clone`] returns an error instead.
    #[inline(always)]
    fn clone(&self) -> Self {
        self.record().get();
        Folio { space: self.space, word: self.word }
    }
}

impl Drop for Folio<'_> {
    /// Puts the reference: one atomic subtraction, no dearer than `Arc`'s.
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(private) = put(self) {
            end(self.space, self.word, private);
        }
    }
}

/// Out of line, so that its frame is not every put's.
#[inline(never)]
fn end(space: &Space, word: FolioWord, private: u64) {
    end_folio(space, word.place(), private);
}

/// Drops the reference of a handle that is not used again; the driver's word, if it was the last.
#[inline(always)]
fn put(folio: &Folio<'_>) -> Option<u64> {
    let record = folio.record();
    let is_last = record.put().is_last(|| folio.space.waits().wake(folio.offset()));
    // After the last put the record is ours until the pages are given back.
    is_last.then(|| record.private())
}

impl fmt::Debug for Folio<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Folio")
            .field("offset", &self.offset().get())
            .field("order", &self.order().get())
            .field("refs", &self.refs())
            .field("private", &format_args!("{:#x}", self.private()))
            .finish()
    }
}

impl PartialEq for Folio<'_> {
    /// Whether both are handles on the same folio of the same space.
    fn eq(&self, other: &Self) -> bool {
        core::ptr::eq(self.space, other.space) && self.word == other.word
    }
}

impl Eq for Folio<'_> {}
