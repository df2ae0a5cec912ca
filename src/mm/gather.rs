//! [`Gather`]: leaves that were taken out of a table, whose references are still to be dropped. Linux: `mmu_gather`.
#![forbid(unsafe_code)]

use super::machine::Core;
use super::named::{Named, named};
use super::pages::offset_of;
use super::table::ENTRIES;
use crate::device::Endings;
use crate::words::{SoftLeaf, Target};

/// Leaves that were taken out of a table, and own their references until [`Gather::flush`].
///
/// The last reference frees a folio, and that calls the driver: never under a page-table lock. So a lock's holder puts
/// what it takes out here, lets go, and flushes. Room for a whole table is made once.
pub(super) struct Gather<'c, 's> {
    core: &'c Core<'s>,
    leaves: Vec<SoftLeaf>,
}

impl<'c, 's> Gather<'c, 's> {
    /// For no more than `nr_pages` leaves between two flushes, or a table's if that is less.
    pub(super) fn new(core: &'c Core<'s>, nr_pages: u64) -> Gather<'c, 's> {
        Gather { core, leaves: Vec::with_capacity(nr_pages.min(ENTRIES as u64) as usize) }
    }

    #[inline]
    pub(super) fn push(&mut self, leaf: SoftLeaf) {
        self.leaves.push(leaf);
    }

    /// Drops the references. The caller holds no page-table lock.
    pub(super) fn flush(&mut self) {
        if self.leaves.is_empty() {
            return;
        }
        let mut endings = self.core.endings();
        for leaf in self.leaves.drain(..) {
            self.core.unmap_into(leaf, &mut endings);
        }
        endings.finish();
    }
}

impl Drop for Gather<'_, '_> {
    /// Also what is left when its holder unwinds.
    fn drop(&mut self) {
        self.flush();
    }
}

/// Folios of either space that end in one call.
pub(super) struct BothEndings<'s> {
    pub(super) device: Endings<'s>,
    pub(super) host: Endings<'s>,
}

impl BothEndings<'_> {
    /// As [`Endings::finish`].
    #[inline]
    pub(super) fn finish(self) {
        self.device.finish();
        self.host.finish();
    }
}

impl<'s> Core<'s> {
    #[inline]
    pub(super) fn endings(&self) -> BothEndings<'s> {
        BothEndings { device: Endings::new(self.space()), host: Endings::new(self.frames()) }
    }

    /// Drops the reference that `leaf` owns, if it owns one; folios that end so do it in `endings`.
    #[inline(always)]
    pub(super) fn unmap_into(&self, leaf: SoftLeaf, endings: &mut BothEndings<'s>) {
        let is_done = if leaf.is_direct() {
            self.space().unmap_direct(leaf, &mut endings.device)
        } else {
            match named(leaf) {
                Some(Named { target: Target::Host(pfn), .. }) => {
                    self.is_zero_page(pfn) || self.frames().unmap_single(offset_of(pfn), &mut endings.host)
                }
                _ => false,
            }
        };
        if !is_done {
            self.unmap(leaf);
        }
    }
}
