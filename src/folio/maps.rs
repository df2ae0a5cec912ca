//! References that leaf words own: made with their map by one atomic operation, and told from all others.
//!
//! Edges: [map].
#![forbid(unsafe_code)]

use super::{Folio, MapError};
use crate::error::TooManyRefs;
use crate::words::{Access, SoftLeaf};

impl Folio<'_> {
    /// A leaf word for the folio, with a new reference that it owns, young and dirty clear; the handle stays.
    ///
    /// One compare-exchange for both counts, where `clone` and [`Folio::into_leaf`] take two atomic operations. The leaf is
    /// undone by [`Space::unmap`](crate::Space::unmap) or [`Space::take`](crate::Space::take). Linux: `folio_get()` and
    /// `folio_add_anon_rmap_pmd()`.
    ///
    /// ```
    /// # use farpage::{Access, DeviceConfig, Order, Space};
    /// # let space = Space::new()?;
    /// # let device = space.register(DeviceConfig::new(512))?;
    /// let folio = device.alloc(Order::ZERO)?;
    /// let leaf = folio.map(Access::Write)?;
    /// assert_eq!((folio.refs(), folio.maps(), folio.extra_refs(1)), (2, 1, 0));
    /// space.unmap(leaf)?;
    /// assert_eq!((folio.refs(), folio.maps()), (1, 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TooManyRefs`] when the folio has as many references as it can count (2^19 - 1). As each map owns one, there cannot
    /// be too many maps.
    #[inline]
    pub fn map(&self, access: Access) -> Result<SoftLeaf, TooManyRefs> {
        if self.record().get_mapped() { Ok(self.word.leaf(access)) } else { Err(TooManyRefs::met()) }
    }

    /// The same for page number `index` of the folio: what a table holds that maps a large folio page by page, wholly or in
    /// part. Each such leaf owns a reference of the folio, whichever page it names.
    ///
    /// ```
    /// # use farpage::{Access, DeviceConfig, Order, Space};
    /// # let space = Space::new()?;
    /// # let device = space.register(DeviceConfig::new(512))?;
    /// let folio = device.alloc(Order::HUGE)?;
    /// let leaf = folio.map_page(7, Access::Read)?;
    /// let page = space.lookup(leaf).expect("the leaf keeps its folio");
    /// assert_eq!((page.index(), page.folio_offset()), (7, folio.offset()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`MapError::OutOfRange`] for a page that the folio does not have, [`MapError::TooManyRefs`] as for [`Folio::map`].
    pub fn map_page(&self, index: u64, access: Access) -> Result<SoftLeaf, MapError> {
        let leaf = self.word.leaf_of(index, access);
        let leaf = leaf.ok_or(MapError::OutOfRange { index, nr_pages: self.nr_pages() })?;
        if self.record().get_mapped() { Ok(leaf) } else { Err(TooManyRefs::met().into()) }
    }

    /// References beyond those of leaf words and `known` others, the caller's own handles among them; 0 if there are none.
    ///
    /// The pin check: with more than 0, somebody unknown uses the folio, and it must not be moved. One load for both counts,
    /// which therefore belong together; they may have changed when this returns, so who goes on to move the folio makes sure
    /// by [`Folio::try_freeze`]. Linux: `folio_ref_count() - folio_mapcount() - extra` in `migrate_vma_check_page()`.
    #[inline]
    pub fn extra_refs(&self, known: u32) -> u32 {
        let state = self.record().state();
        state.count().saturating_sub(state.maps()).saturating_sub(known)
    }

    /// Drops the reference of one leaf word of the folio, whichever; `false` if no leaf owns one. Never the last, since
    /// the handle has one too.
    #[inline]
    pub(crate) fn unmap_one(&self) -> bool {
        self.record().unmap_and_put(self.word.generation()).is_ok()
    }
}
