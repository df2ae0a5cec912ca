//! [`DeviceDriver`]: who brings pages of a device home. [`DeviceFault`]: what it is told.
#![forbid(unsafe_code)]

use core::fmt;
use std::sync::Arc;

use super::address::{Address, AddressRange, VPN_BITS};
use super::error::{DriverError, SetupError};
use super::inner::Inner;
use super::machine::Machine;
use super::migrate::{MigrateBatch, MigrateRequest, Migration};
use super::page_table::Cursor;
use super::vma::Area;
use crate::device::{Device, Owner};
use crate::folio::{Folio, LockedFolio};
use crate::words::{Offset, OffsetRange};

/// The driver of a device, as far as faults are concerned. Linux: `migrate_to_ram` of `struct dev_pagemap_ops`.
///
/// ```
/// use farpage::{DeviceDriver, DeviceFault, DriverError, MigrateBatch, MigrateRequest, Order, PAGE_BYTES};
///
/// struct Gpu { memory: std::sync::Mutex<Vec<u8>>, first: u64 }
///
/// impl<'s> DeviceDriver<'s> for Gpu {
///     fn migrate_to_ram(&self, fault: &DeviceFault<'_, 's>) -> Result<(), DriverError> {
///         let mut batch = MigrateBatch::new();
///         let request = MigrateRequest::new(fault.page()).device_private(fault.folio().device().owner());
///         let mut migration = fault.migrate(&mut batch, request).map_err(|_| DriverError { code: -14 })?;
///         if let Some(offset) = migration.src(0).target().and_then(|page| page.offset()) {
///             let frame = fault.machine().alloc_frame(Order::ZERO).map_err(|_| DriverError { code: -12 })?;
///             let at = ((offset.get() - self.first) * PAGE_BYTES) as usize;
///             let bytes = &self.memory.lock().unwrap()[at..at + PAGE_BYTES as usize];
///             fault.machine().memory().write(frame.pfn(), 0, bytes);
///             migration.set_dst(0, frame).map_err(|_| DriverError { code: -16 })?;
///         }
///         migration.pages();
///         Ok(()) // finalized when it is dropped
///     }
/// }
/// ```
pub trait DeviceDriver<'s>: Send + Sync {
    /// The page of a fault is to come home: when this returns, the faulting thread looks again.
    ///
    /// Runs on the faulting thread, with the folio locked, and the address space held against changes of its mappings;
    /// it may migrate ([`DeviceFault::migrate`]) and allocate, and must not change mappings of the same address space.
    ///
    /// # Errors
    ///
    /// The driver's own, for the faulting thread ([`FaultError::Device`](crate::FaultError::Device), `SIGBUS`). The page
    /// must then be where it was.
    fn migrate_to_ram(&self, fault: &DeviceFault<'_, 's>) -> Result<(), DriverError>;
}

impl<'s, T: DeviceDriver<'s> + ?Sized> DeviceDriver<'s> for Arc<T> {
    fn migrate_to_ram(&self, fault: &DeviceFault<'_, 's>) -> Result<(), DriverError> {
        (**self).migrate_to_ram(fault)
    }
}

/// A device and its driver.
pub(super) struct Attached<'s> {
    pub(super) device: Device<'s>,
    pub(super) range: OffsetRange,
    pub(super) owner: Owner,
    pub(super) driver: Arc<dyn DeviceDriver<'s> + 's>,
}

impl<'s> Attached<'s> {
    pub(super) fn new(device: &Device<'s>, driver: &Arc<dyn DeviceDriver<'s> + 's>) -> Attached<'s> {
        Attached { device: device.clone(), range: device.range(), owner: device.owner(), driver: Arc::clone(driver) }
    }
}

/// An access to a page that is on a device. Linux: `struct vm_fault`.
pub struct DeviceFault<'f, 's> {
    pub(super) space: &'f Arc<Inner<'s>>,
    pub(super) address: Address,
    pub(super) page: Offset,
    pub(super) folio: &'f LockedFolio<'s>,
    pub(super) is_huge: bool,
    pub(super) area: &'f Area,
    /// Where the page's table is.
    pub(super) cursor: &'f Cursor<'f>,
    /// The device's offsets, and whose it is.
    pub(super) device: (OffsetRange, Owner),
}

impl<'f, 's> DeviceFault<'f, 's> {
    /// What was accessed.
    pub fn address(&self) -> Address {
        self.address
    }

    /// The page of it.
    pub fn page(&self) -> AddressRange {
        AddressRange::page_of(self.address)
    }

    /// The pages of the fault's mapping: as far as a migration around it may reach.
    pub fn mapping(&self) -> AddressRange {
        self.area.range
    }

    /// The run of `nr_pages`, aligned to as many, that the fault's page lies in, as far as it is mapped: for a driver that
    /// brings its neighbours home with it. Linux: `do_fault_around()`.
    ///
    /// A number that is no power of two is rounded up to the next one that is.
    pub fn around(&self, nr_pages: u64) -> AddressRange {
        let (vpn, mapped) = (self.address.vpn(), self.area.range);
        let nr_pages = nr_pages.clamp(1, 1 << VPN_BITS).next_power_of_two();
        let begin = vpn & !(nr_pages - 1);
        let (first, end) = (begin.max(mapped.first()), (begin + nr_pages).min(mapped.end()));
        AddressRange::of_pages(first, end - first).unwrap_or(self.page())
    }

    /// The device page that is there.
    pub fn offset(&self) -> Offset {
        self.page
    }

    /// Its folio, which is locked.
    pub fn folio(&self) -> &'f Folio<'s> {
        self.folio
    }

    /// Whether one leaf maps the whole folio, so that it can come home whole. Linux: `vmf->pte == NULL`.
    pub fn is_huge(&self) -> bool {
        self.is_huge
    }

    /// The machine, for its memory.
    pub fn machine(&self) -> Machine<'s> {
        Machine::of_core(self.space.core())
    }

    /// Begins a migration around the fault: the fault's folio, which is locked, is collected as if it were not.
    ///
    /// # Errors
    ///
    /// As [`AddressSpace::migrate`](crate::AddressSpace::migrate); [`SetupError::FaultOutside`] for a range without the
    /// fault's page.
    pub fn migrate<'b>(
        &'b self,
        batch: &'b mut MigrateBatch<'s>,
        request: MigrateRequest,
    ) -> Result<Migration<'b, 's>, SetupError> {
        if !request.range().contains(self.address) {
            return Err(SetupError::FaultOutside);
        }
        Migration::of_fault(self, batch, request)
    }
}

impl fmt::Debug for DeviceFault<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceFault")
            .field("address", &self.address)
            .field("page", &self.page)
            .field("folio", &**self.folio)
            .field("is_huge", &self.is_huge)
            .finish()
    }
}
