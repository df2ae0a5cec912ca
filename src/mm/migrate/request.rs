//! [`MigrateRequest`]: what to collect. Linux: the flags and `pgmap_owner` of `struct migrate_vma`.
#![forbid(unsafe_code)]

use crate::device::Owner;
use crate::mm::address::AddressRange;

/// Which pages of a range a migration is to collect.
///
/// Nothing is selected at first. A page on a device is only ever collected for its owner.
///
/// ```
/// use farpage::{AddressRange, MigrateRequest, Owner};
///
/// let range = AddressRange::new(0x20_0000, 0x20_0000).unwrap();
/// let to_device = MigrateRequest::new(range).system(true).compound(true).owner(Owner::new(7));
/// let home = MigrateRequest::new(range).device_private(Owner::new(7)).compound(true);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MigrateRequest {
    pub(super) range: AddressRange,
    pub(super) system: bool,
    pub(super) device_private: bool,
    pub(super) host_visible: bool,
    pub(super) compound: bool,
    pub(super) owner: Option<Owner>,
}

impl MigrateRequest {
    /// Nothing of `range` yet.
    pub const fn new(range: AddressRange) -> MigrateRequest {
        MigrateRequest {
            range,
            system: false,
            device_private: false,
            host_visible: false,
            compound: false,
            owner: None,
        }
    }

    /// The range.
    pub const fn range(&self) -> AddressRange {
        self.range
    }

    /// Ordinary host pages, and holes. Linux: `MIGRATE_VMA_SELECT_SYSTEM`.
    #[must_use]
    pub const fn system(mut self, select: bool) -> MigrateRequest {
        self.system = select;
        self
    }

    /// Pages on devices of `owner`. Linux: `MIGRATE_VMA_SELECT_DEVICE_PRIVATE`.
    #[must_use]
    pub const fn device_private(mut self, owner: Owner) -> MigrateRequest {
        self.device_private = true;
        self.owner = Some(owner);
        self
    }

    /// Pages of `owner`'s devices that the host maps: those registered in the space of host pages, but for the machine's
    /// memory. Linux: `MIGRATE_VMA_SELECT_DEVICE_COHERENT`.
    #[must_use]
    pub const fn host_visible(mut self, owner: Owner) -> MigrateRequest {
        self.host_visible = true;
        self.owner = Some(owner);
        self
    }

    /// Runs of 512 pages that one leaf maps, or none, as one slot. Without it they are taken apart. Linux:
    /// `MIGRATE_VMA_SELECT_COMPOUND`.
    #[must_use]
    pub const fn compound(mut self, select: bool) -> MigrateRequest {
        self.compound = select;
        self
    }

    /// On whose behalf it is: its own intervals are not told. Linux: `pgmap_owner`.
    #[must_use]
    pub const fn owner(mut self, owner: Owner) -> MigrateRequest {
        self.owner = Some(owner);
        self
    }
}
