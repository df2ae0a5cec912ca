//! Places that refuse every access: guards that a program puts around its memory, and memory that is broken.
//!
//! Both are leaves without a page, so faults, snapshots and migrations find nothing to serve there, and the errors name the kind.
#![forbid(unsafe_code)]

use core::mem;

use super::address::{Address, AddressRange};
use super::address_space::AddressSpace;
use super::entry::Entry;
use super::error::VmaError;
use super::inner::Inner;
use super::named::{How, Named, named};
use super::notifier::{Invalidation, InvalidationKind};
use super::page_table::{Span, index};
use crate::words::{PteMarker, SoftLeaf, Target};

const GUARD: SoftLeaf = SoftLeaf::marker(PteMarker::GUARD);

impl AddressSpace<'_> {
    /// Drops the pages of `range`, anonymous memory, and lets each access there fail, as
    /// [`FaultError::Unserved`](crate::FaultError::Unserved), until [`AddressSpace::remove_guard`]. The mapping stays one, unlike
    /// with a protection of its own. Linux: `MADV_GUARD_INSTALL`.
    ///
    /// [`AddressSpace::advise_dont_need`] leaves guards; they are inherited by a fork, move with
    /// [`AddressSpace::remap`], and end with the mapping.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use farpage::{DeviceConfig, HeapMemory, Machine, Space};
    /// # let (device_pages, host_pages) = (Space::new()?, Space::new()?);
    /// # let memory = Arc::new(HeapMemory::new(64));
    /// # let ram = host_pages.register(DeviceConfig::new(64).ops(Arc::clone(&memory)))?;
    /// # let machine = Machine::new(&device_pages, ram, memory)?;
    /// use farpage::{Access, AddressRange, FaultError, LeafKind, Mapping};
    ///
    /// let space = machine.address_space()?;
    /// let stack = AddressRange::new(0x10_0000, 0x4000).unwrap();
    /// space.map(Mapping::new(stack))?;
    /// let lowest = AddressRange::new(0x10_0000, 0x1000).unwrap();
    /// space.install_guard(lowest)?;
    /// let refused = FaultError::Unserved { address: lowest.start(), kind: LeafKind::Marker };
    /// assert_eq!(space.fault(lowest.start(), Access::Write), Err(refused));
    /// assert_eq!(space.remove_guard(lowest)?, 1);
    /// space.write(lowest.start(), &[1])?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`AddressSpace::advise_free`]. Where there is no memory for a table, pages before it have their guards.
    pub fn install_guard(&self, range: AddressRange) -> Result<(), VmaError> {
        let inner = &**self.inner();
        let _mapped = inner.map_lock.write();
        inner.check_anonymous(range)?;
        inner.replace_all(range, GUARD)
    }

    /// Takes the guards of `range` away; how many pages had one. What is no guard stays. Linux: `MADV_GUARD_REMOVE`.
    ///
    /// # Errors
    ///
    /// As [`AddressSpace::advise_free`].
    pub fn remove_guard(&self, range: AddressRange) -> Result<u64, VmaError> {
        let inner = &**self.inner();
        let _mapped = inner.map_lock.write();
        inner.check_anonymous(range)?;
        let mut removed = 0;
        let done = inner.for_each_span::<core::convert::Infallible>(range, |vpn, stop, span| {
            let mut emptied = false;
            if let Span::Small(mut table) = span {
                for at in index(vpn, 0)..=index(stop - 1, 0) {
                    if table.leaf(at) == GUARD {
                        table.set(at, Entry::NONE);
                        removed += 1;
                    }
                }
                emptied = table.is_empty();
            }
            if emptied {
                inner.table.prune(vpn);
            }
            Ok(())
        });
        let Ok(()) = done;
        Ok(removed)
    }

    /// The memory behind `address` is broken: its page is taken out, never to be used again, and each access there fails, as
    /// [`FaultError::Unserved`](crate::FaultError::Unserved), until the mapping ends or the place is
    /// [dropped](AddressSpace::advise_dont_need). Linux: `memory_failure()`, and `UFFDIO_POISON` where there was no page.
    ///
    /// Only here: other address spaces that share the page are told one by one. A large folio is not used again as a whole. A host page leaves a leaf that names it
    /// ([`LeafKind::HwPoison`](crate::LeafKind::HwPoison)); anything else a marker.
    ///
    /// # Errors
    ///
    /// As [`AddressSpace::install_guard`].
    pub fn poison(&self, address: Address) -> Result<(), VmaError> {
        let inner = &**self.inner();
        let range = AddressRange::page_of(address);
        let _mapped = inner.map_lock.write();
        inner.check_anonymous(range)?;
        inner.split_ends(range)?;
        let leaf = inner.table.peek(address.vpn()).leaf;
        // A page on its way is its mover's, who drops it: the place is poisoned, and what comes of the page is not.
        let broken = match named(leaf) {
            Some(Named { how: How::Present, target: Target::Host(pfn), .. }) if !inner.core().is_zero(leaf) => {
                // One reference stays out for good, so that nobody ever gets the memory again.
                let folio = inner.core().page(leaf).and_then(|page| page.try_get());
                mem::forget(folio);
                SoftLeaf::hwpoison(pfn)
            }
            _ => SoftLeaf::marker(PteMarker::POISONED),
        };
        inner.replace_all(range, broken)
    }
}

impl Inner<'_> {
    /// Puts `leaf`, which owns nothing, in the place of all that is in `range`. The caller holds `map_lock` exclusively.
    fn replace_all(&self, range: AddressRange, leaf: SoftLeaf) -> Result<(), VmaError> {
        self.split_ends(range)?;
        let _told = self.notifiers.begin(Invalidation { range, kind: InvalidationKind::Clear, owner: None });
        self.zap(range, |_| false);
        for vpn in range.first()..range.end() {
            if let Span::Small(mut table) = self.table.span_or_build(vpn)? {
                table.set_leaf(index(vpn, 0), leaf);
            }
        }
        Ok(())
    }

    /// Whether a leaf stays when its pages are dropped and its mapping is not.
    pub(super) fn outlives_pages(leaf: SoftLeaf) -> bool {
        leaf == GUARD
    }
}
