//! [`LeafKind`]: what a leaf is; and [`Access`], [`MigrationAccess`]: what its mapping allows.
#![forbid(unsafe_code)]

/// What a mapping allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Reading.
    Read,
    /// Reading and writing.
    Write,
}

/// What the mapping allowed that a migration entry stands for. Linux: `SWP_MIGRATION_{READ, READ_EXCLUSIVE, WRITE}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MigrationAccess {
    /// Reading.
    Read,
    /// Reading, of a page that belongs to this address space alone.
    ReadExclusive,
    /// Reading and writing.
    Write,
}

impl MigrationAccess {
    /// What the mapping allowed, without whether the page was exclusive: that is known of the page, not of its leaf.
    ///
    /// ```
    /// use farpage::{Access, MigrationAccess};
    ///
    /// assert_eq!(MigrationAccess::ReadExclusive.access(), Access::Read);
    /// assert_eq!(MigrationAccess::from(Access::Write), MigrationAccess::Write);
    /// ```
    #[inline]
    pub const fn access(self) -> Access {
        match self {
            MigrationAccess::Read | MigrationAccess::ReadExclusive => Access::Read,
            MigrationAccess::Write => Access::Write,
        }
    }

    /// The migration entry's access for a mapping that allows `access`, of a page that others may share.
    pub(super) const fn shared(access: Access) -> MigrationAccess {
        match access {
            Access::Read => MigrationAccess::Read,
            Access::Write => MigrationAccess::Write,
        }
    }
}

impl From<Access> for MigrationAccess {
    fn from(access: Access) -> MigrationAccess {
        MigrationAccess::shared(access)
    }
}

/// What a [`SoftLeaf`](crate::SoftLeaf) is. More kinds may come: match with a `_` arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LeafKind {
    /// Nothing was ever here.
    None,
    /// A device-private page; [`SoftLeaf::offset`](crate::SoftLeaf::offset) names it. Linux: `SWP_DEVICE_READ`,
    /// `SWP_DEVICE_WRITE`.
    DevicePrivate(Access),
    /// A host page that a device has for itself; [`SoftLeaf::pfn`](crate::SoftLeaf::pfn) names it. Linux:
    /// `SWP_DEVICE_EXCLUSIVE`.
    DeviceExclusive,
    /// A page on its way; [`SoftLeaf::migration_target`](crate::SoftLeaf::migration_target) says which, and whether it
    /// lies on a device or on the host.
    Migration(MigrationAccess),
    /// A host page that is mapped; [`SoftLeaf::pfn`](crate::SoftLeaf::pfn) names it.
    Present(Access),
    /// A page that was written out; [`SoftLeaf::swap_slot`](crate::SoftLeaf::swap_slot) names its place. Linux: a swap
    /// entry whose type is a swap file's.
    Swap,
    /// A host page whose memory is broken; [`SoftLeaf::pfn`](crate::SoftLeaf::pfn) names it. Linux: `SWP_HWPOISON`.
    HwPoison,
    /// No page, but something to remember of the place; see [`SoftLeaf::marker_flags`](crate::SoftLeaf::marker_flags).
    /// Linux: `SWP_PTE_MARKER`.
    Marker,
    /// Bits that no version known here writes. It names nothing.
    Unknown,
}
