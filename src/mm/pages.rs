//! What a leaf word names: the one place that knows which kinds own a reference, and of which of the two spaces.
//!
//! | leaf                                     | owns                                                        |
//! |------------------------------------------|-------------------------------------------------------------|
//! | nothing, swap, poison, markers           | nothing                                                     |
//! | present: the zero page, or one of 512    | nothing                                                     |
//! | present, exclusive                       | one reference, counted as a map, of a host folio            |
//! | device-private                           | one reference, counted as a map, of a device folio          |
//! | migration                                | the same as the leaf that it stands for                     |
//!
//! So the maps of a folio are at any moment the leaves that name it, those on their way included. Linux takes references and maps
//! away when it puts a migration entry in, and gives them to the other folio when it takes the entry out; here they change
//! hands once, with the word.
#![forbid(unsafe_code)]

use super::machine::Core;
use super::named::{How, Named, named};
use crate::error::TooManyRefs;
use crate::folio::MapError;
use crate::folio::{Folio, LockedFolio, PageRef};
use crate::words::{Access, Offset, Pfn, SoftLeaf, Target};

/// The number of a host page, by its offset in the space of host pages.
#[inline]
pub(super) fn pfn_of(offset: Offset) -> Pfn {
    match Pfn::new(offset.get()) {
        Some(pfn) => pfn,
        None => unreachable!("{offset} has 40 bits, as a page frame number has"),
    }
}

#[inline]
pub(super) fn offset_of(pfn: Pfn) -> Offset {
    Offset::from_low_bits(pfn.get())
}

impl<'s> Core<'s> {
    /// The page that `leaf` names and owns a reference of; `None` for all leaves that own none.
    ///
    /// For a caller that holds the page-table lock, or checks its leaf again.
    #[inline]
    pub(super) fn page(&self, leaf: SoftLeaf) -> Option<PageRef<'s>> {
        match named(leaf)?.target {
            Target::Device(_) => self.space().lookup(leaf),
            Target::Host(pfn) => self.host_page(pfn),
        }
    }

    /// The host page `pfn`, unless it is a zero page.
    #[inline]
    pub(super) fn host_page(&self, pfn: Pfn) -> Option<PageRef<'s>> {
        if self.is_zero_page(pfn) { None } else { self.frames().page(offset_of(pfn)) }
    }

    /// Whether `leaf` maps a zero page.
    #[inline]
    pub(super) fn is_zero(&self, leaf: SoftLeaf) -> bool {
        match named(leaf) {
            Some(Named { how: How::Present, target: Target::Host(pfn), .. }) => self.is_zero_page(pfn),
            _ => false,
        }
    }

    /// Which page of `folio` the leaf names, if it is one of its.
    #[inline]
    pub(super) fn index_in(&self, leaf: SoftLeaf, folio: &Folio<'s>) -> Option<u64> {
        // By the words alone: the folio lives, so a word with a place in it is of it, or is stale and owns nothing.
        self.index_of(named(leaf)?.target, folio)
    }

    /// Which page of `folio` the target is.
    #[inline]
    pub(super) fn index_of(&self, target: Target, folio: &Folio<'s>) -> Option<u64> {
        let (is_of, at) = match target {
            Target::Host(pfn) => (self.is_host(folio), pfn.get()),
            Target::Device(offset) => (!self.is_host(folio), offset.get()),
        };
        let index = at.wrapping_sub(folio.offset().get());
        (is_of && index < folio.nr_pages()).then_some(index)
    }

    /// A new leaf of page `index` of `folio`, with a reference of its own.
    #[inline]
    pub(super) fn map_page(&self, folio: &Folio<'s>, index: u64, access: Access) -> Result<SoftLeaf, TooManyRefs> {
        let leaf = if index == 0 {
            folio.map(access)?
        } else {
            match folio.map_page(index, access) {
                Ok(leaf) => leaf,
                Err(MapError::TooManyRefs { limit }) => return Err(TooManyRefs { limit }),
                Err(MapError::OutOfRange { index, nr_pages }) => unreachable!("page {index} of {nr_pages}"),
            }
        };
        Ok(self.as_leaf(folio, index, leaf, access))
    }

    /// The leaf that the handle's own reference moves into.
    #[inline]
    pub(super) fn leaf_of(&self, folio: Folio<'s>, access: Access) -> SoftLeaf {
        if self.is_host(&folio) {
            let pfn = pfn_of(folio.offset());
            let _owner = folio.into_leaf(access);
            SoftLeaf::present(pfn, access)
        } else {
            folio.into_leaf(access)
        }
    }

    /// The same for a handle that has locked its folio, which is unlocked.
    #[inline(always)]
    pub(super) fn leaf_of_locked(&self, folio: LockedFolio<'s>, access: Access) -> SoftLeaf {
        if self.is_host(&folio) {
            let pfn = pfn_of(folio.offset());
            let _owner = folio.into_leaf(access);
            SoftLeaf::present(pfn, access)
        } else {
            folio.into_leaf(access)
        }
    }

    /// What stands in a table for `leaf`, which `folio` gave: of a host page, its number.
    fn as_leaf(&self, folio: &Folio<'s>, index: u64, leaf: SoftLeaf, access: Access) -> SoftLeaf {
        if self.is_host(folio) {
            SoftLeaf::present(Pfn::new(folio.offset().get() + index).unwrap_or(self.zero()), access)
        } else {
            leaf
        }
    }

    /// Drops the reference that `leaf` owns, if it owns one. A driver's callback may run: never under a lock of ours.
    #[inline]
    pub(super) fn unmap(&self, leaf: SoftLeaf) {
        let unmapped = match named(leaf) {
            Some(Named { target: Target::Device(_), .. }) => self.space().unmap(leaf),
            Some(Named { target: Target::Host(pfn), .. }) => {
                let Some(page) = self.host_page(pfn) else { return };
                self.frames().unmap(page.leaf(Access::Read))
            }
            None => return,
        };
        debug_assert!(unmapped.is_ok(), "{leaf:?} stood in a table: {unmapped:?}");
    }

    /// One more reference for a copy of `leaf`, which stands in a table that the caller has locked.
    pub(super) fn share(&self, leaf: SoftLeaf) -> Result<(), TooManyRefs> {
        let Some(page) = self.page(leaf) else { return Ok(()) };
        // Refused for a full count, and for a moment while somebody has frozen the folio, which nobody does who
        // does not hold this lock.
        let Some(folio) = page.try_get() else { return Err(TooManyRefs::met()) };
        folio.map(Access::Read).map(drop)
    }
}
