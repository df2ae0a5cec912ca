//! [`Machine`]: what address spaces share: host memory, the space of device pages, the drivers, and each other.
#![forbid(unsafe_code)]

use core::fmt;
use std::sync::{Arc, OnceLock, Weak};

use super::driver::{Attached, DeviceDriver};
use super::error::MachineError;
use super::home::{Home, Homes};
use super::host::{Frame, HostMemory};
use super::inner::Inner;
use super::lock::{RwLock, RwLockReadGuard, Striped};
use super::pages::pfn_of;
use crate::device::Device;
use crate::error::{AllocError, TooManyRefs};
use crate::folio::Folio;
use crate::space::Space;
use crate::sync::{AtomicU32, Ordering::Relaxed};
use crate::words::{Offset, OffsetRange, Order, Pfn, SoftLeaf};

/// What address spaces share: host memory, the space of device pages, the devices' drivers, and the list of all of them.
///
/// A handle; clones are handles on the same machine. It lives until the last handle, address space and object goes.
///
/// ```
/// use std::sync::Arc;
/// use farpage::{DeviceConfig, HeapMemory, Machine, Space};
///
/// let device_pages = Space::new()?;
/// let host_pages = Space::new()?;
/// let memory = Arc::new(HeapMemory::new(1 << 12));
/// let ram = host_pages.register(DeviceConfig::new(1 << 12).name("ram").ops(Arc::clone(&memory)))?;
/// let machine = Machine::new(&device_pages, ram, memory)?;
/// let space = machine.address_space()?;
/// # drop(space);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Machine<'s>(Arc<Core<'s>>);

/// See [`Machine`].
pub(super) struct Core<'s> {
    space: &'s Space,
    frames: &'s Space,
    ram: Device<'s>,
    memory: Arc<dyn HostMemory>,
    zero: Folio<'s>,
    /// 512 zero pages, once somebody needed them.
    huge_zero: OnceLock<Folio<'s>>,
    device_homes: Homes,
    host_homes: Homes,
    /// Of each stripe a list and handles of its own.
    drivers: Striped<Vec<Arc<Attached<'s>>>>,
    address_spaces: RwLock<Vec<Weak<Inner<'s>>>>,
    next_id: AtomicU32,
}

impl<'s> Machine<'s> {
    /// A machine whose device pages are those of `space`, and whose host pages are those of `ram`, a device of another
    /// space. `memory` has the bytes of all pages of that other space, by their offsets there.
    ///
    /// One page of `ram` becomes the zero page.
    ///
    /// # Errors
    ///
    /// [`MachineError::SameSpace`] if `ram` is of `space`; others when memory or address space are short.
    pub fn new(
        space: &'s Space,
        ram: Device<'s>,
        memory: impl HostMemory + 'static,
    ) -> Result<Machine<'s>, MachineError> {
        let zero = ram.alloc(Order::ZERO).map_err(MachineError::HostMemory)?;
        let frames = zero.space();
        if core::ptr::eq(space, frames) {
            return Err(MachineError::SameSpace);
        }
        let memory: Arc<dyn HostMemory> = Arc::new(memory);
        memory.zero(pfn_of(zero.offset()), 1);
        Ok(Machine(Arc::new(Core {
            device_homes: Homes::new(space.max_pages())?,
            host_homes: Homes::new(frames.max_pages())?,
            space,
            frames,
            ram,
            memory,
            zero,
            huge_zero: OnceLock::new(),
            drivers: Striped::new(Vec::new),
            address_spaces: RwLock::new(Vec::new()),
            next_id: AtomicU32::new(0),
        })))
    }

    /// A free host folio of `order` (0 or 9, to be of use), with whatever bytes it has.
    ///
    /// # Errors
    ///
    /// As [`Device::alloc`].
    pub fn alloc_frame(&self, order: Order) -> Result<Frame<'s>, AllocError> {
        self.0.ram.alloc(order).map(Frame::new)
    }

    /// The bytes of host pages.
    pub fn memory(&self) -> &dyn HostMemory {
        self.0.memory()
    }

    /// The space of device pages.
    pub fn space(&self) -> &'s Space {
        self.0.space
    }

    /// Makes `driver` the one that brings pages of `device` home. It replaces an earlier one.
    ///
    /// The driver must not hold a handle on the machine: each would keep the other. It is handed what it needs with
    /// each fault.
    pub fn attach(&self, device: &Device<'s>, driver: Arc<dyn DeviceDriver<'s> + 's>) {
        for drivers in &mut self.0.drivers.write() {
            drivers.retain(|attached| attached.device != *device);
            drivers.push(Arc::new(Attached::new(device, &driver)));
            drivers.sort_by_key(|attached| attached.range.start());
        }
    }

    /// Takes the driver of `device` away: faults of its pages fail from now on.
    pub fn detach(&self, device: &Device<'s>) {
        for drivers in &mut self.0.drivers.write() {
            drivers.retain(|attached| attached.device != *device);
        }
    }

    pub(super) fn core(&self) -> &Arc<Core<'s>> {
        &self.0
    }

    pub(super) fn of_core(core: &Arc<Core<'s>>) -> Machine<'s> {
        Machine(Arc::clone(core))
    }
}

impl<'s> Core<'s> {
    #[inline]
    pub(super) fn space(&self) -> &'s Space {
        self.space
    }

    #[inline]
    pub(super) fn frames(&self) -> &'s Space {
        self.frames
    }

    pub(super) fn ram(&self) -> &Device<'s> {
        &self.ram
    }

    /// Whether `pfn` is a page of the machine's own memory, and not one of a device that the host can map.
    #[inline]
    pub(super) fn is_memory(&self, pfn: Pfn) -> bool {
        self.ram().range().contains(super::pages::offset_of(pfn))
    }

    pub(super) fn memory(&self) -> &dyn HostMemory {
        &*self.memory
    }

    /// Whether `folio` is host memory.
    #[inline]
    pub(super) fn is_host(&self, folio: &Folio<'s>) -> bool {
        core::ptr::eq(folio.space(), self.frames)
    }

    pub(super) fn alloc_zeroed(&self, order: Order) -> Result<Folio<'s>, AllocError> {
        let folio = self.ram.alloc(order)?;
        self.memory.zero(pfn_of(folio.offset()), order.nr_pages());
        Ok(folio)
    }

    pub(super) fn set_home(&self, folio: &Folio<'s>, home: Home) -> Result<(), AllocError> {
        let homes = if self.is_host(folio) { &self.host_homes } else { &self.device_homes };
        Ok(homes.set(folio.offset(), home)?)
    }

    /// Whether the page, of which a leaf has a reference, is anonymous memory's, if it is a folio by itself.
    #[inline(always)]
    pub(super) fn is_host_anon(&self, page: Offset) -> bool {
        self.host_homes.is_anon(page)
    }

    /// The same for a page on a device.
    #[inline(always)]
    pub(super) fn is_device_anon(&self, page: Offset) -> bool {
        self.device_homes.is_anon(page)
    }

    /// `to` is mapped where `from` is.
    #[inline(always)]
    pub(super) fn move_home(&self, from: &Folio<'s>, to: &Folio<'s>) -> bool {
        let homes = |folio| if self.is_host(folio) { &self.host_homes } else { &self.device_homes };
        homes(from).copy(from.offset(), homes(to), to.offset())
    }

    #[inline]
    pub(super) fn home(&self, folio: &Folio<'s>) -> Option<Home> {
        let homes = if self.is_host(folio) { &self.host_homes } else { &self.device_homes };
        homes.get(folio.offset())
    }

    /// The zero page.
    pub(super) fn zero(&self) -> Pfn {
        pfn_of(self.zero.offset())
    }

    /// A reference of the zero page, for a pin.
    pub(super) fn zero_folio(&self) -> Result<Folio<'s>, TooManyRefs> {
        self.zero.try_clone()
    }

    /// What is known of the folio at `head`, which `leaf` names.
    #[inline]
    pub(super) fn home_at(&self, leaf: SoftLeaf, head: Offset) -> Option<Home> {
        if leaf.pfn().is_some() { self.host_homes.get(head) } else { self.device_homes.get(head) }
    }

    /// 512 zero pages in one run, which are made when the first asks.
    pub(super) fn huge_zero(&self) -> Result<Pfn, AllocError> {
        if let Some(folio) = self.huge_zero.get() {
            return Ok(pfn_of(folio.offset()));
        }
        let fresh = self.alloc_zeroed(Order::HUGE)?;
        // Of two that race, the loser's is dropped.
        Ok(pfn_of(self.huge_zero.get_or_init(|| fresh).offset()))
    }

    /// Whether `pfn` is the zero page, or one of the 512. Leaves of these own no reference.
    #[inline]
    pub(super) fn is_zero_page(&self, pfn: Pfn) -> bool {
        pfn.get() == self.zero.offset().get()
            || self.huge_zero.get().is_some_and(|folio| pfn.get().wrapping_sub(folio.offset().get()) < folio.nr_pages())
    }

    /// The device that `offset` is of, with its driver; `None` if it has no driver.
    #[inline]
    pub(super) fn driver_at(&self, offset: Offset) -> Option<Arc<Attached<'s>>> {
        let drivers = self.drivers.read();
        let behind = drivers.partition_point(|attached| attached.range.start() <= offset);
        let attached = drivers.get(behind.checked_sub(1)?)?;
        attached.range.contains(offset).then(|| Arc::clone(attached))
    }

    /// The ranges of the devices that have drivers.
    pub(super) fn driven_ranges(&self) -> Vec<OffsetRange> {
        self.drivers.read().iter().map(|attached| attached.range).collect()
    }

    /// A number for an address space. Numbers come round after 2^32, and are hints.
    pub(super) fn next_id(&self) -> u32 {
        // Relaxed: any number will do.
        self.next_id.fetch_add(1, Relaxed)
    }

    /// From now on `space` is found by who looks for a folio's mappings.
    pub(super) fn enlist(&self, space: &Arc<Inner<'s>>) {
        let mut spaces = self.address_spaces.write();
        spaces.retain(|space| space.strong_count() > 0);
        spaces.push(Arc::downgrade(space));
    }

    pub(super) fn delist(&self, space: &Arc<Inner<'s>>) {
        self.address_spaces.write().retain(|other| other.as_ptr() != Arc::as_ptr(space));
    }

    /// All address spaces there are, held against more and fewer.
    pub(super) fn listed(&self) -> RwLockReadGuard<'_, Vec<Weak<Inner<'s>>>> {
        self.address_spaces.read()
    }
}

impl fmt::Debug for Machine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").field("ram", &self.0.ram).finish_non_exhaustive()
    }
}
