//! [`Gather`]: leaves that were taken out of a table, whose references are still to be dropped. Linux: `mmu_gather`.
#![forbid(unsafe_code)]

use super::machine::Core;
use super::table::ENTRIES;
use crate::words::SoftLeaf;

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
        while let Some(leaf) = self.leaves.pop() {
            self.core.unmap(leaf);
        }
    }
}

impl Drop for Gather<'_, '_> {
    /// Also what is left when a driver's callback has panicked.
    fn drop(&mut self) {
        self.flush();
    }
}
