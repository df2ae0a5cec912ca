//! [`WeakFolio`]: which folio it was, without a reference.
//!
//! Edges: [init], [last-put].
#![forbid(unsafe_code)]

use core::fmt;
use core::hash::{Hash, Hasher};

use super::{Folio, FolioWord, record};
use crate::space::Space;
use crate::words::{Offset, Order};

/// Names one life of a folio, and does not keep it: plain bits, for caches that look pages up by content and must not hold
/// them. Made by [`Folio::downgrade`] or [`Space::weak`]; nothing is counted, and nothing has to be given back.
///
/// It may be kept for as long as the space lives, whatever becomes of the folio: freed, its offset allocated again, its
/// metadata given back, its device unregistered. A later folio at the same offset is another life, and not found: places
/// count their lives, and begin again after 24,576. A cache that may keep a weak reference over so many allocations at one
/// place must know its pages by something else as well, as by the driver's word.
///
/// ```
/// use farpage::{DeviceConfig, Order, Space};
///
/// let space = Space::new()?;
/// let device = space.register(DeviceConfig::new(512))?;
/// let folio = device.alloc(Order::ZERO)?;
/// let weak = folio.downgrade();
/// assert!(weak.upgrade().is_some_and(|again| again == folio));
///
/// drop(folio);
/// let next = device.alloc(Order::ZERO)?; // at the same offset
/// assert_eq!(next.offset(), weak.offset());
/// assert!(weak.upgrade().is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct WeakFolio<'s> {
    word: FolioWord,
    space: &'s Space,
}

const _: () = assert!(size_of::<WeakFolio<'_>>() <= 16);
const _: () = assert!(size_of::<Option<WeakFolio<'_>>>() == size_of::<WeakFolio<'_>>());

impl<'s> Folio<'s> {
    /// What finds the folio again, as long as it lives. Costs nothing, and takes no reference.
    #[inline]
    pub fn downgrade(&self) -> WeakFolio<'s> {
        WeakFolio { space: self.space, word: self.word }
    }
}

impl<'s> WeakFolio<'s> {
    /// One for the folio of `word`.
    pub(crate) fn new(space: &'s Space, word: FolioWord) -> WeakFolio<'s> {
        WeakFolio { space, word }
    }

    /// A handle on the folio, if it still lives, is not frozen at this moment, and has room for one more reference. One
    /// compare-exchange. Lock-free.
    #[inline]
    pub fn upgrade(self) -> Option<Folio<'s>> {
        record(self.space, self.word).try_get(self.word.generation())?;
        Some(Folio { space: self.space, word: self.word })
    }

    /// The first page of the folio that it was.
    #[inline]
    pub fn offset(self) -> Offset {
        self.word.place().head
    }

    /// The order of the folio that it was.
    #[inline]
    pub fn order(self) -> Order {
        self.word.order()
    }
}

impl PartialEq for WeakFolio<'_> {
    /// Whether both name the same life of a folio of the same space.
    fn eq(&self, other: &Self) -> bool {
        core::ptr::eq(self.space, other.space) && self.word == other.word
    }
}

impl Eq for WeakFolio<'_> {}

impl Hash for WeakFolio<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.word.hash(state);
    }
}

impl fmt::Debug for WeakFolio<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_alive = record(self.space, self.word).state().is_life(self.word.generation());
        f.debug_struct("WeakFolio")
            .field("offset", &self.offset().get())
            .field("order", &self.order().get())
            .field("is_alive", &is_alive)
            .finish()
    }
}
