//! The region's device, as an address space of the library sees it: who brings pages home.
//! Below: `frames`, `mapping`, `device_memory`. Above: `pager`, `evict`.
#![forbid(unsafe_code)]

use std::sync::Arc;

use farpage::{DeviceDriver, DeviceFault, DriverError, MigrateBatch, MigrateRequest, Migration, Offset, Order};

use crate::device_memory::{DeviceMemory, DevicePage};
use crate::error::OsError;
use crate::frames::Frames;
use crate::mapping::Mapping;

/// Brings whole runs home.
///
/// Its faults come from `Pager` alone, which has the lock of the run.
pub(crate) struct Driver {
    pub(crate) mapping: Arc<Mapping>,
    pub(crate) frames: Arc<Frames>,
    pub(crate) memory: Arc<DeviceMemory>,
    /// The device's first offset.
    pub(crate) first: Offset,
    /// The order of a leaf, and so of a folio: 9 for runs of that order, 0 for any other.
    pub(crate) leaf_order: Order,
    /// Pages in a run.
    pub(crate) run_pages: u64,
}

impl<'s> DeviceDriver<'s> for Driver {
    fn migrate_to_ram(&self, fault: &DeviceFault<'_, 's>) -> Result<(), DriverError> {
        let mut batch = MigrateBatch::new();
        let request = MigrateRequest::new(fault.around(self.run_pages)).compound(true);
        let request = request.device_private(fault.folio().device().owner());
        let mut migration = fault.migrate(&mut batch, request).map_err(|_| DriverError { code: -libc::EFAULT })?;
        self.give_frames(&mut migration)?;
        migration.pages();
        // What moves now is settled, the pages of the device are still locked, and the run is too: the bytes come straight into
        // place, and the threads that wait go on. An error here is one that the caller does not survive.
        self.bring_bytes(&migration).map_err(|error| DriverError { code: -error.errno() })
    }
}

impl Driver {
    /// Gives each page of a migration a host page, of its own place in the region.
    pub(crate) fn give_frames(&self, migration: &mut Migration<'_, '_>) -> Result<(), DriverError> {
        let pages = self.leaf_order.nr_pages() as usize;
        for slot in (0..migration.nr_slots()).step_by(pages) {
            if migration.src(slot).target().is_none() {
                continue;
            }
            let Some(page) = self.page(migration, slot) else { return Err(DriverError { code: -libc::EFAULT }) };
            let frame = migration.machine().alloc_frame(self.leaf_order);
            let frame = frame.map_err(|_| DriverError { code: -libc::ENOMEM })?;
            self.frames.place(frame.pfn(), page, pages);
            migration.set_dst(slot, frame).map_err(|_| DriverError { code: -libc::EBUSY })?;
        }
        Ok(())
    }

    /// Copies the bytes of the pages that move to their place: adjacent ones of the device at once.
    fn bring_bytes(&self, migration: &Migration<'_, '_>) -> Result<(), OsError> {
        let pages = self.leaf_order.nr_pages() as usize;
        // The page of the region, that of the device, and how many.
        let mut piece: Option<(usize, DevicePage, usize)> = None;
        for slot in (0..migration.nr_slots()).step_by(pages) {
            let src = migration.src(slot);
            let moves = src.is_migrate().then(|| src.target().and_then(|target| target.offset())).flatten();
            let (Some(offset), Some(page)) = (moves, self.page(migration, slot)) else { continue };
            let from = DevicePage::of(offset, self.first);
            piece = match piece {
                Some((to, begin, nr)) if to + nr == page && begin.plus(nr) == from => Some((to, begin, nr + pages)),
                before => {
                    if let Some((page, from, nr_pages)) = before {
                        self.bring_piece(page, from, nr_pages)?;
                    }
                    Some((page, from, pages))
                }
            };
        }
        piece.map_or(Ok(()), |(page, from, nr_pages)| self.bring_piece(page, from, nr_pages))
    }

    /// Copies pages of the device to the region's from `page` on. The caller has the lock of their run, and the device's keep their bytes.
    pub(crate) fn bring_piece(&self, page: usize, from: DevicePage, nr_pages: usize) -> Result<(), OsError> {
        let to = self.mapping.pages(page, nr_pages);
        let from = self.memory.span(from, to.len());
        match self.mapping.uffd() {
            Some(uffd) => uffd.copy(to, from),
            None => {
                self.mapping.fill(page, from);
                Ok(())
            }
        }
    }

    /// The page of the region that a slot is about.
    fn page(&self, migration: &Migration<'_, '_>, slot: usize) -> Option<usize> {
        self.mapping.page_at(migration.address(slot)?.get())
    }
}
