//! Fork: a child that shares every page until one of both writes it. Linux: `dup_mmap()`, `copy_page_range()`.
#![forbid(unsafe_code)]

use std::sync::Arc;

use super::address_space::AddressSpace;
use super::error::VmaError;
use super::inner::Inner;
use super::notifier::{Invalidation, InvalidationKind};
use super::page_table::{Span, index};
use super::table::Locked;
use super::vma::{Backing, Vma};
use crate::error::TooManyRefs;
use crate::words::{Access, LeafKind, SoftLeaf};

impl<'s> AddressSpace<'s> {
    /// A copy of the address space: the same mappings, and the same pages, which are copied when either side writes them.
    ///
    /// Each leaf's folio has one more reference and map. Leaves of private mappings allow only reading in both from now on,
    /// device-private ones and migration entries too: a page on a device stays there, with two leaves. Pages that a device
    /// has for itself are taken back first, for which their locks are waited for: a driver must not fork while it has
    /// one locked. Shared mappings' pages are found by the child's faults, but
    /// those with the write-protect mark, which the child has at once.
    ///
    /// # Errors
    ///
    /// [`VmaError::NoMemory`], [`VmaError::TooManyRefs`]; there is no child then, and pages of the parent that could be
    /// written will be found so again by faults.
    pub fn fork(&self) -> Result<AddressSpace<'s>, VmaError> {
        let parent = self.inner();
        let _mapped = parent.map_lock.write();
        let vmas: Vec<Vma<'s>> = parent.vmas.read().iter().cloned().collect();
        for vma in vmas.iter().filter(|vma| vma.backing.is_cow()) {
            parent.take_back_all(vma);
        }
        let child = Arc::new(Inner::new(parent.core()).map_err(|_| VmaError::NoMemory)?);
        let child_space = AddressSpace::of_inner(Arc::clone(&child));
        // The order is what `walk` relies on: held, listed, copied.
        let mut child_vmas = child.vmas.write();
        parent.core().enlist(&child);
        for vma in &vmas {
            child_vmas.insert(vma.clone());
        }
        for vma in &vmas {
            let kind = InvalidationKind::Protect;
            let _told = parent.notifiers.begin(Invalidation { range: vma.range, kind, owner: None });
            // On failure the child is dropped, behind the lock of its mappings, with what it has.
            parent.copy_leaves(&child, vma)?;
        }
        drop(child_vmas);
        Ok(child_space)
    }
}

impl<'s> Inner<'s> {
    /// Takes every page back that a device has for itself. The caller holds `map_lock` exclusively, so that there will be
    /// no more; whoever has a folio's lock meanwhile waits for nothing that we hold.
    fn take_back_all(&self, vma: &Vma<'s>) {
        let mut exclusive = Vec::new();
        let done = self.for_each_span::<core::convert::Infallible>(vma.range, |vpn, stop, span| {
            if let Span::Small(table) = span {
                exclusive.extend((vpn..stop).filter(|vpn| table.leaf(index(*vpn, 0)).is_device_exclusive()));
            }
            Ok(())
        });
        let Ok(()) = done;
        for vpn in exclusive {
            loop {
                let leaf = self.table.peek(vpn).leaf;
                if leaf.kind() != LeafKind::DeviceExclusive {
                    break;
                }
                match self.lock_for_fault(leaf) {
                    Some(folio) => self.take_back(vma.protection, vpn, leaf, &folio),
                    None => self.wait_unlocked(leaf),
                }
            }
        }
    }

    fn copy_leaves(&self, child: &Inner<'s>, vma: &Vma<'s>) -> Result<(), VmaError> {
        let (is_cow, is_shared) = (vma.backing.is_cow(), matches!(vma.backing, Backing::Shared(_)));
        self.for_each_span(vma.range, |vpn, stop, span| match span {
            Span::Empty => Ok(()),
            Span::Huge(mut middle, at) => {
                // Our table's lock, then the child's: nobody holds one of the child's yet.
                let (mut copy, copy_at) = child.table.huge(vpn)?;
                self.copy_leaf((&mut middle, at), (&mut copy, copy_at), is_cow)?;
                Ok(())
            }
            Span::Small(mut table) => {
                // An object's pages are found again by the child's faults; marks would not be.
                let is_needed = |leaf: SoftLeaf| !is_shared || leaf.is_write_protect();
                let here = index(vpn, 0)..=index(stop - 1, 0);
                if !here.clone().any(|at| is_needed(table.leaf(at))) {
                    return Ok(());
                }
                let Span::Small(mut copy) = child.table.span_or_build(vpn)? else { return Ok(()) };
                for at in here {
                    if is_needed(table.leaf(at)) {
                        self.copy_leaf((&mut table, at), (&mut copy, at), is_cow)?;
                    }
                }
                Ok(())
            }
        })
    }

    fn copy_leaf(
        &self,
        (table, at): (&mut Locked<'_>, usize),
        (copy, copy_at): (&mut Locked<'_>, usize),
        is_cow: bool,
    ) -> Result<(), TooManyRefs> {
        let leaf = table.leaf(at);
        if leaf == SoftLeaf::NONE {
            return Ok(());
        }
        let shared = if is_cow { leaf.with_access(Access::Read) } else { leaf };
        self.core().share(leaf)?;
        if shared != leaf {
            table.set_leaf(at, shared);
        }
        copy.set_leaf(copy_at, shared);
        Ok(())
    }
}
