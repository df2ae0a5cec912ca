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
use crate::error::{MapError, TooManyRefs};
use crate::folio::{Folio, PageRef};
use crate::words::{Access, LeafKind, MigrationAccess, Offset, Pfn, SoftLeaf};

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

/// The migration entry that `leaf`, which names a page, is replaced by. `is_alone` if the folio has no other map.
#[inline]
pub(super) fn migration_of(leaf: SoftLeaf, is_alone: bool) -> Option<SoftLeaf> {
    let access = match leaf.kind() {
        LeafKind::Present(Access::Write) | LeafKind::DevicePrivate(Access::Write) => MigrationAccess::Write,
        LeafKind::Present(Access::Read) | LeafKind::DevicePrivate(Access::Read) if is_alone => {
            MigrationAccess::ReadExclusive
        }
        LeafKind::Present(Access::Read) | LeafKind::DevicePrivate(Access::Read) => MigrationAccess::Read,
        // The device loses it. For reading, whatever the mapping allows: the next write finds out.
        LeafKind::DeviceExclusive => {
            return leaf.from_exclusive(Access::Read)?.to_migration(MigrationAccess::ReadExclusive);
        }
        _ => return None,
    };
    leaf.to_migration(access)
}

impl<'s> Core<'s> {
    /// The page that `leaf` names and owns a reference of; `None` for all leaves that own none.
    ///
    /// For a caller that holds the page-table lock, or checks its leaf again.
    #[inline]
    pub(super) fn page(&self, leaf: SoftLeaf) -> Option<PageRef<'s>> {
        if leaf.is_direct() {
            return self.space().lookup(leaf);
        }
        match (leaf.offset(), leaf.pfn()) {
            (Some(_), _) => self.space().lookup(leaf),
            (None, Some(pfn)) if !self.is_zero_page(pfn) && !leaf.is_hwpoison() => self.frames().page(offset_of(pfn)),
            _ => None,
        }
    }

    /// Whether `leaf` maps a zero page.
    #[inline]
    pub(super) fn is_zero(&self, leaf: SoftLeaf) -> bool {
        matches!(leaf.kind(), LeafKind::Present(_)) && leaf.pfn().is_some_and(|pfn| self.is_zero_page(pfn))
    }

    /// Which page of `folio` the leaf names, if it is one of its.
    #[inline]
    pub(super) fn index_in(&self, leaf: SoftLeaf, folio: &Folio<'s>) -> Option<u64> {
        // By the words alone: the folio lives, so a word with a place in it is of it, or is stale and owns nothing.
        let is_of = leaf.pfn().is_some() == self.is_host(folio);
        let at = leaf.offset().map(Offset::get).or_else(|| leaf.pfn().map(Pfn::get))?;
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
        let unmapped = if leaf.offset().is_some() {
            self.space().unmap(leaf)
        } else {
            let Some(page) = self.page(leaf) else { return };
            self.frames().unmap(page.leaf(Access::Read))
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
