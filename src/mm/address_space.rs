//! [`AddressSpace`]: the handle; mapping, unmapping, protecting.
#![forbid(unsafe_code)]

use core::fmt;
use std::sync::Arc;

use super::address::{Address, AddressRange, PAGES_PER_HUGE, VPN_BITS, huge_start};
use super::entry::Entry;
use super::error::{MachineError, VmaError};
use super::host::Frame;
use super::inner::Inner;
use super::machine::Machine;
use super::notifier::{Interval, IntervalOps, Invalidation, InvalidationKind};
use super::page_table::{Span, index};
use super::vma::{Backing, Mapping, Protection, Vma};
use crate::device::Owner;
use crate::words::{Access, Order, SoftLeaf};

/// An address space: mappings, and the page table that says where each page is. Linux: `struct mm_struct`.
///
/// Shared by reference between threads. Faults, migrations, snapshots and accesses run side by side; what changes mappings
/// waits for them, and they for it. Several address spaces share folios: by [`AddressSpace::fork`], or by mapping one
/// [`Object`](crate::Object).
///
/// Dropping it unmaps everything, behind which its pages on devices are freed to their drivers.
///
/// ```
/// # use std::sync::Arc;
/// # use farpage::{DeviceConfig, HeapMemory, Machine, Space};
/// # let (device_pages, host_pages) = (Space::new()?, Space::new()?);
/// # let memory = Arc::new(HeapMemory::new(64));
/// # let ram = host_pages.register(DeviceConfig::new(64).ops(Arc::clone(&memory)))?;
/// # let machine = Machine::new(&device_pages, ram, memory)?;
/// use farpage::{Address, AddressRange, Mapping, Protection};
///
/// let space = machine.address_space()?;
/// let range = AddressRange::new(0x10_0000, 0x4000).unwrap();
/// space.map(Mapping::new(range))?;
/// let at = Address::new(0x10_0ffe).unwrap();
/// space.write(at, b"over the edge")?; // faults two pages in
///
/// let child = space.fork()?;
/// child.write(at, b"OVER")?; // copies a page
/// let mut bytes = [0; 13];
/// space.read(at, &mut bytes)?;
/// assert_eq!(&bytes, b"over the edge");
///
/// space.protect(range, Protection::Read)?;
/// assert!(space.write(at, b"x").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct AddressSpace<'s> {
    inner: Arc<Inner<'s>>,
}

impl<'s> Machine<'s> {
    /// A new address space, in which nothing is mapped.
    ///
    /// # Errors
    ///
    /// [`MachineError::NoMemory`] if there is none for the first table.
    pub fn address_space(&self) -> Result<AddressSpace<'s>, MachineError> {
        let inner = Arc::new(Inner::new(self.core())?);
        self.core().enlist(&inner);
        Ok(AddressSpace { inner })
    }
}

impl<'s> AddressSpace<'s> {
    pub(super) fn of_inner(inner: Arc<Inner<'s>>) -> AddressSpace<'s> {
        AddressSpace { inner }
    }

    #[inline]
    pub(super) fn inner(&self) -> &Arc<Inner<'s>> {
        &self.inner
    }

    /// The machine that the address space is of.
    pub fn machine(&self) -> Machine<'s> {
        Machine::of_core(self.inner.core())
    }

    /// Makes a mapping where nothing is mapped. No page is put in: the first access of each does that. Linux: `mmap()`.
    ///
    /// # Errors
    ///
    /// [`VmaError::Overlap`] where something is mapped; [`VmaError::OutOfRange`] for an object's pages beyond 2^36.
    pub fn map(&self, mapping: Mapping<'s>) -> Result<(), VmaError> {
        let Mapping { range, protection, backing, first_index, huge } = mapping;
        if first_index.checked_add(range.nr_pages()).is_none_or(|end| end > 1 << VPN_BITS) {
            return Err(VmaError::OutOfRange);
        }
        let _mapped = self.inner.map_lock.write();
        let mut vmas = self.inner.vmas.write();
        vmas.check_free(range)?;
        vmas.insert(Vma { range, first_index, protection, backing, huge });
        Ok(())
    }

    /// Takes away whatever is mapped in `range`: mappings, leaves, references. A huge leaf that the range cuts is split; its
    /// folio stays whole, with the maps that are left. Linux: `munmap()`.
    ///
    /// A device's page of which this was the last reference is freed to its driver before this returns. A page on its
    /// way stays with whoever moves it.
    ///
    /// # Errors
    ///
    /// [`VmaError::NoMemory`], [`VmaError::TooManyRefs`] if a huge leaf could not be split. Nothing has changed then.
    pub fn unmap(&self, range: AddressRange) -> Result<(), VmaError> {
        let inner = &*self.inner;
        let _mapped = inner.map_lock.write();
        inner.split_ends(range)?;
        let _told = inner.notifiers.begin(Invalidation { range, kind: InvalidationKind::Unmap, owner: None });
        inner.zap(range, |_| false);
        inner.vmas.write().remove(range);
        Ok(())
    }

    /// Changes what mappings allow. Linux: `mprotect()`.
    ///
    /// Less access downgrades each leaf, wherever its page is: a device-private leaf, exclusive one or migration entry
    /// goes on to name the same page. More access is found by the next fault.
    ///
    /// # Errors
    ///
    /// [`VmaError::NotMapped`] for a range with holes; others as [`AddressSpace::unmap`]. Nothing has changed then.
    pub fn protect(&self, range: AddressRange, protection: Protection) -> Result<(), VmaError> {
        let inner = &*self.inner;
        let _mapped = inner.map_lock.write();
        inner.vmas.read().check_mapped(range)?;
        // Also for more access: no huge leaf may lie in two mappings.
        inner.split_ends(range)?;
        let _told = inner.notifiers.begin(Invalidation { range, kind: InvalidationKind::Protect, owner: None });
        if !protection.allows(Access::Write) {
            inner.rewrite(range, |leaf| leaf.with_access(Access::Read));
        }
        inner.vmas.write().change(range, |vma| vma.protection = protection);
        Ok(())
    }

    /// Puts a host page, or 512 of them where that is aligned, into a mapping of [`Backing::Special`] where none is. Linux:
    /// `vm_insert_page()`, and what hugetlbfs does.
    ///
    /// # Errors
    ///
    /// [`VmaError::NotMapped`], [`VmaError::WrongBacking`], [`VmaError::Overlap`]; the handle is dropped.
    pub fn insert_frame(&self, address: Address, frame: Frame<'s>) -> Result<(), VmaError> {
        let inner = &*self.inner;
        let _mapped = inner.map_lock.read();
        let vma = inner.vma(address.vpn()).ok_or(VmaError::NotMapped { address })?;
        let folio = frame.into_folio();
        let (vpn, is_huge) = (address.vpn(), folio.order() == Order::HUGE);
        let fits = match folio.order() {
            Order::ZERO => true,
            Order::HUGE => huge_start(vpn) == vpn && vma.has_huge(vpn),
            _ => false,
        };
        if !matches!(vma.backing, Backing::Special) || !fits {
            return Err(VmaError::WrongBacking { address });
        }
        let access = if vma.protection.allows(Access::Write) { Access::Write } else { Access::Read };
        let (mut table, at) = if is_huge {
            inner.table.huge(vpn)?
        } else {
            match inner.table.span_or_build(vpn)? {
                Span::Small(table) => (table, index(vpn, 0)),
                _ => return Err(VmaError::Overlap { address }),
            }
        };
        if table.entry(at) != Entry::NONE {
            return Err(VmaError::Overlap { address });
        }
        table.set_leaf(at, inner.core().leaf_of(folio, access));
        Ok(())
    }

    /// Sets or clears the write-protect mark of every leaf in `range`. A write of a marked page fails with
    /// [`FaultError::WriteProtected`](crate::FaultError::WriteProtected) until the mark is cleared. The mark rides along
    /// wherever the page goes. Linux: `UFFDIO_WRITEPROTECT`.
    ///
    /// # Errors
    ///
    /// As [`AddressSpace::protect`].
    pub fn write_protect(&self, range: AddressRange, mark: bool) -> Result<(), VmaError> {
        let inner = &*self.inner;
        let _mapped = inner.map_lock.write();
        inner.vmas.read().check_mapped(range)?;
        inner.split_ends(range)?;
        let _told = inner.notifiers.begin(Invalidation { range, kind: InvalidationKind::Protect, owner: None });
        inner.rewrite(range, |leaf| leaf.with_write_protect(mark));
        Ok(())
    }

    /// Clears the soft-dirty mark of every leaf in `range`: those that have it later were written since. A device that mirrors
    /// pages to write them is told, and asks again before it does. Linux: `/proc/pid/clear_refs`.
    ///
    /// # Errors
    ///
    /// As [`AddressSpace::protect`].
    pub fn clear_soft_dirty(&self, range: AddressRange) -> Result<(), VmaError> {
        let inner = &*self.inner;
        let _mapped = inner.map_lock.write();
        inner.vmas.read().check_mapped(range)?;
        inner.split_ends(range)?;
        let _told = inner.notifiers.begin(Invalidation { range, kind: InvalidationKind::SoftDirty, owner: None });
        inner.rewrite(range, |leaf| leaf.with_soft_dirty(false));
        Ok(())
    }

    /// Tells `ops` of every change of leaves in `range`, until the interval is dropped; but not of the migrations and
    /// exclusive accesses of `owner`'s own.
    pub fn subscribe(&self, range: AddressRange, owner: Option<Owner>, ops: Arc<dyn IntervalOps>) -> Interval<'s> {
        Interval::new(&self.inner, range, owner, ops)
    }

    /// The leaf that the page of `address` has, and whether it stands for 512 pages, at this moment. Lock-free.
    ///
    /// It may be another when this returns: a hint, or the first look of somebody who will look again under a lock.
    #[inline]
    pub fn leaf(&self, address: Address) -> (SoftLeaf, bool) {
        let seen = self.inner.table.peek(address.vpn());
        (seen.leaf, seen.is_huge)
    }

    /// How many tables are in use, and how many have memory.
    pub fn nr_tables(&self) -> (u32, u32) {
        self.inner.table.nr_tables()
    }
}

impl Inner<'_> {
    /// Replaces each leaf of `range` by what `change` makes of it, which names the same page.
    pub(super) fn rewrite(&self, range: AddressRange, change: impl Fn(SoftLeaf) -> SoftLeaf) {
        let done = self.for_each_span::<core::convert::Infallible>(range, |vpn, stop, span| {
            match span {
                Span::Empty => {}
                // One that the range cuts is one that the caller passes over: see `AddressSpace::advise_free`.
                Span::Huge(..) if stop - vpn < PAGES_PER_HUGE => {}
                Span::Huge(mut middle, at) => {
                    let leaf = change(middle.leaf(at));
                    middle.set_leaf(at, leaf);
                }
                Span::Small(mut table) => {
                    for at in index(vpn, 0)..=index(stop - 1, 0) {
                        let (before, after) = (table.leaf(at), change(table.leaf(at)));
                        if after != before {
                            table.set_leaf(at, after);
                        }
                    }
                }
            }
            Ok(())
        });
        let Ok(()) = done;
    }
}

impl Drop for AddressSpace<'_> {
    fn drop(&mut self) {
        let Some(all) = AddressRange::of_pages(0, 1 << VPN_BITS) else { return };
        let inner = &*self.inner;
        let mapped = inner.map_lock.write();
        let told = inner.notifiers.begin(Invalidation { range: all, kind: InvalidationKind::Release, owner: None });
        inner.zap(all, |_| false);
        drop((told, mapped));
        inner.core().delist(&self.inner);
    }
}

impl fmt::Debug for AddressSpace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddressSpace").field("tables", &self.nr_tables()).finish_non_exhaustive()
    }
}
