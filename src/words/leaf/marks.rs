//! The four marks of a [`SoftLeaf`]: they belong to the page's place in the table, and ride along on every rewrite.
#![forbid(unsafe_code)]

use super::{LeafKind, SoftLeaf};
use crate::words::leaf_bits as bits;

impl SoftLeaf {
    /// Whether the page was touched since the mark was last cleared. Linux: `pte_young()`, in a migration entry
    /// `softleaf_is_migration_young()`.
    #[inline]
    pub const fn is_young(self) -> bool {
        self.0 & bits::YOUNG != 0
    }

    /// The same leaf with the young mark set or cleared. Leaves that have no marks stay as they are:
    /// [`SoftLeaf::NONE`], markers and unknown words.
    #[inline]
    pub const fn with_young(self, young: bool) -> SoftLeaf {
        self.with_mark(bits::YOUNG, young)
    }

    /// Whether the page was written since the mark was last cleared. Linux: `pte_dirty()`, in a migration entry
    /// `softleaf_is_migration_dirty()`.
    #[inline]
    pub const fn is_dirty(self) -> bool {
        self.0 & bits::DIRTY != 0
    }

    /// The same leaf with the dirty mark set or cleared. Leaves that have no marks stay as they are.
    #[inline]
    pub const fn with_dirty(self, dirty: bool) -> SoftLeaf {
        self.with_mark(bits::DIRTY, dirty)
    }

    /// Whether the page was written since a checkpointer last asked. Linux: `pte_swp_soft_dirty()`.
    #[inline]
    pub const fn is_soft_dirty(self) -> bool {
        self.0 & bits::SOFT_DIRTY != 0
    }

    /// The same leaf with the soft-dirty mark set or cleared. Leaves that have no marks stay as they are.
    #[inline]
    pub const fn with_soft_dirty(self, soft_dirty: bool) -> SoftLeaf {
        self.with_mark(bits::SOFT_DIRTY, soft_dirty)
    }

    /// Whether userfaultfd wants to hear of the next write. Linux: `pte_swp_uffd_wp()`.
    ///
    /// The mark says nothing about [`SoftLeaf::access`]: whoever maps the page keeps it read-only while it is set.
    #[inline]
    pub const fn is_write_protect(self) -> bool {
        self.0 & bits::WRITE_PROTECT != 0
    }

    /// The same leaf with the write-protect mark set or cleared. Leaves that have no marks stay as they are; what a
    /// place without a page remembers is [`PteMarker::WRITE_PROTECT`](crate::PteMarker::WRITE_PROTECT).
    #[inline]
    pub const fn with_write_protect(self, write_protect: bool) -> SoftLeaf {
        self.with_mark(bits::WRITE_PROTECT, write_protect)
    }

    /// The same leaf with all four marks of `other`: for a leaf of another page that takes its place, as the
    /// destination of a migration does. Linux: `remove_migration_pte()`.
    ///
    /// Where either has no marks (none, marker, unknown) the leaf stays as it is.
    ///
    /// ```
    /// use farpage::{Access, MigrationAccess, Pfn, SoftLeaf};
    ///
    /// let [from, to] = [3, 4].map(|pfn| SoftLeaf::present(Pfn::new(pfn).unwrap(), Access::Write));
    /// let entry = from.with_soft_dirty(true).to_migration(MigrationAccess::Write).unwrap();
    /// assert!(to.with_marks_of(entry).is_soft_dirty());
    /// ```
    #[inline]
    pub const fn with_marks_of(self, other: SoftLeaf) -> SoftLeaf {
        if self.has_marks() && other.has_marks() {
            SoftLeaf(self.0 & !bits::MARKS | other.0 & bits::MARKS)
        } else {
            self
        }
    }

    const fn has_marks(self) -> bool {
        !matches!(self.kind(), LeafKind::None | LeafKind::Marker | LeafKind::Unknown)
    }

    const fn with_mark(self, mark: u64, set: bool) -> SoftLeaf {
        if !self.has_marks() {
            self
        } else if set {
            SoftLeaf(self.0 | mark)
        } else {
            SoftLeaf(self.0 & !mark)
        }
    }
}
