//! Exclusive access: a device has a host page for itself, until a CPU touches it. Linux: `make_device_exclusive()`.
#![forbid(unsafe_code)]

use core::fmt;

use super::address::{Address, AddressRange};
use super::address_space::AddressSpace;
use super::error::{ExclusiveError, FaultError};
use super::host::Frame;
use super::notifier::{Invalidation, InvalidationKind};
use super::page_table::{Span, index};
use super::pages::pfn_of;
use crate::device::Owner;
use crate::folio::LockedFolio;
use crate::words::{Access, LeafKind, Pfn};

/// A host page that a device has for itself, locked while this lives.
///
/// Under the lock the device sets its own mapping up, or reads and writes the bytes. Behind it, the page goes on to be the
/// device's until a CPU's access takes it back, of which the device is told ([`InvalidationKind::Exclusive`]).
#[must_use = "the page is unlocked when it is dropped"]
pub struct ExclusivePage<'s> {
    folio: LockedFolio<'s>,
    pfn: Pfn,
}

impl ExclusivePage<'_> {
    /// The page.
    pub fn pfn(&self) -> Pfn {
        self.pfn
    }
}

impl fmt::Debug for ExclusivePage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExclusivePage").field("pfn", &self.pfn).field("folio", &*self.folio).finish()
    }
}

impl<'s> AddressSpace<'s> {
    /// Gives the host page at `address` to a device of `owner`, for itself.
    ///
    /// The page is faulted in to be written, taken apart if it was part of 512, and copied if it was shared. If another device has it,
    /// that one loses it first. The leaf goes on to own its reference, and counts as a mapping. Sleeps while the page is
    /// locked: not for a caller that has such a page itself.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use farpage::{DeviceConfig, HeapMemory, Machine, Space};
    /// # let (device_pages, host_pages) = (Space::new()?, Space::new()?);
    /// # let memory = Arc::new(HeapMemory::new(64));
    /// # let ram = host_pages.register(DeviceConfig::new(64).ops(Arc::clone(&memory)))?;
    /// # let machine = Machine::new(&device_pages, ram, memory)?;
    /// use farpage::{AddressRange, HostMemory, LeafKind, Mapping, Owner};
    ///
    /// let space = machine.address_space()?;
    /// let range = AddressRange::new(0x1000, 0x1000).unwrap();
    /// space.map(Mapping::new(range))?;
    ///
    /// let page = space.make_exclusive(range.start(), Owner::new(1))?;
    /// machine.memory().write(page.pfn(), 0, b"atomically");
    /// drop(page);
    /// assert_eq!(space.leaf(range.start()).0.kind(), LeafKind::DeviceExclusive);
    ///
    /// let mut bytes = [0; 10];
    /// space.read(range.start(), &mut bytes)?; // takes it back
    /// assert_eq!(&bytes, b"atomically");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ExclusiveError::NotAnonymous`] for pages of files and shared memory; otherwise as [`AddressSpace::fault`].
    pub fn make_exclusive(&self, address: Address, owner: Owner) -> Result<ExclusivePage<'s>, ExclusiveError> {
        let inner = self.inner();
        let vpn = address.vpn();
        let range = AddressRange::page_of(address);
        loop {
            self.fault(address, Access::Write)?;
            let mapped = inner.map_lock.read();
            let vma = inner.vma(vpn).ok_or(FaultError::NotMapped { address })?;
            if !vma.backing.is_cow() {
                return Err(ExclusiveError::NotAnonymous { address });
            }
            if inner.split(vpn).is_err() {
                return Err(FaultError::NoMemory.into());
            }
            let Span::Small(table) = inner.table.span(vpn) else { continue };
            let leaf = table.leaf(index(vpn, 0));
            if leaf.kind() != LeafKind::Present(Access::Write) {
                continue;
            }
            let Some(folio) = inner.lock_for_fault(leaf) else {
                drop((table, mapped));
                inner.wait_unlocked(leaf);
                continue;
            };
            drop(table);
            let told = Invalidation { range, kind: InvalidationKind::Exclusive, owner: Some(owner) };
            let _told = inner.notifiers.begin(told);
            let Span::Small(mut table) = inner.table.span(vpn) else { continue };
            let now = table.leaf(index(vpn, 0));
            let is_same = now.kind() == LeafKind::Present(Access::Write) && now.pfn() == leaf.pfn();
            if let (true, Some(exclusive), Some(pfn)) = (is_same, now.to_exclusive(), now.pfn()) {
                table.set_leaf(index(vpn, 0), exclusive);
                return Ok(ExclusivePage { folio, pfn });
            }
        }
    }
}

impl<'s> Frame<'s> {
    /// Whether the frame has the page.
    pub fn contains(&self, pfn: Pfn) -> bool {
        pfn.get().wrapping_sub(self.pfn().get()) < self.order().nr_pages()
    }
}

impl ExclusivePage<'_> {
    /// The first page of the folio that the page is of.
    pub fn folio_pfn(&self) -> Pfn {
        pfn_of(self.folio.offset())
    }
}
