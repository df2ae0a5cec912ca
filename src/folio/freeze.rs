//! [`FrozenFolio`]: a folio of which nobody gets a reference who has none.
//!
//! Edges: [freeze].
#![forbid(unsafe_code)]

use core::fmt;
use core::mem;
use core::ops::Deref;

use super::{Folio, FreezeError};

/// A frozen folio, by the handle that froze it; see [`Folio::try_freeze`]. Dropping it unfreezes the folio and puts the
/// reference. One that is forgotten ([`mem::forget`]) stays frozen for ever, and is never freed.
#[must_use = "dropping it unfreezes the folio and puts its reference"]
pub struct FrozenFolio<'s> {
    folio: Folio<'s>,
}

const _: () = assert!(size_of::<Option<FrozenFolio<'_>>>() == size_of::<Folio<'_>>());

impl<'s> Folio<'s> {
    /// Freezes the folio, if it has exactly `expected_refs` references, this handle's among them. Linux:
    /// `folio_ref_freeze()`.
    ///
    /// While it is frozen, [`PageRef::try_get`](crate::PageRef::try_get) and
    /// [`WeakFolio::upgrade`](crate::WeakFolio::upgrade) return `None`, and [`Space::take`](crate::Space::take) and
    /// [`Space::unmap`](crate::Space::unmap) refuse leaf words of it
    /// ([`TakeError::Frozen`](crate::TakeError::Frozen)); lookups find it as before. So nobody gets a handle who has none.
    /// What the holders of other handles do (dropping, cloning and mapping them) is counted as ever, and never frees the
    /// folio, of which this handle keeps a reference; if there may be such holders among `expected_refs`, it is for the
    /// caller to know them. Whether there are any, is certain once the folio is frozen: if
    /// [`extra_refs(1)`](Folio::extra_refs) is 0 then, all other references are of leaf words, and nobody has another
    /// handle before the folio is unfrozen. (Asked before, it may be out of date: a `take` makes a handle of a leaf's
    /// reference without changing how many there are.)
    ///
    /// Unlike Linux's, the count is not 0 meanwhile, but marked: a put cannot run below it. [`Folio::refs`] goes on to tell
    /// it. Whoever holds the folio's lock as a [`LockedFolio`](crate::LockedFolio) freezes a clone of it.
    ///
    /// A few loads and a compare-exchange.
    ///
    /// ```
    /// # use farpage::{Access, DeviceConfig, Order, Space, TakeError};
    /// # let space = Space::new()?;
    /// # let device = space.register(DeviceConfig::new(512))?;
    /// let folio = device.alloc(Order::ZERO)?;
    /// let leaf = folio.map(Access::Write)?;
    ///
    /// // The leaf's reference is known, and so is ours.
    /// let frozen = folio.try_freeze(2).expect("nobody else has one");
    /// let page = space.lookup(leaf).expect("it is still there");
    /// assert!(page.try_get().is_none());
    /// assert!(matches!(space.unmap(leaf), Err(TakeError::Frozen { .. })));
    ///
    /// let folio = frozen.unfreeze();
    /// assert!(page.try_get().is_some());
    /// space.unmap(leaf)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`FreezeError`], with the handle and what there was instead.
    pub fn try_freeze(self, expected_refs: u32) -> Result<FrozenFolio<'s>, FreezeError<'s>> {
        match self.record().try_freeze(expected_refs) {
            Ok(_) => Ok(FrozenFolio { folio: self }),
            Err(now) => Err(FreezeError {
                expected_refs,
                refs: now.count(),
                maps: now.maps(),
                is_frozen: now.is_frozen(),
                folio: self,
            }),
        }
    }
}

impl<'s> FrozenFolio<'s> {
    /// Ends it, and gives the handle back. Whoever gets a reference from now on sees what was done before.
    pub fn unfreeze(self) -> Folio<'s> {
        let folio = Folio { space: self.folio.space, word: self.folio.word };
        // The reference goes on in `folio`.
        mem::forget(self);
        folio.record().unfreeze();
        folio
    }
}

impl Drop for FrozenFolio<'_> {
    /// The reference is put behind this, by the handle.
    fn drop(&mut self) {
        self.folio.record().unfreeze();
    }
}

impl<'s> Deref for FrozenFolio<'s> {
    type Target = Folio<'s>;

    fn deref(&self) -> &Folio<'s> {
        &self.folio
    }
}

impl fmt::Debug for FrozenFolio<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FrozenFolio").field(&self.folio).finish()
    }
}
