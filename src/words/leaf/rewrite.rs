//! What page tables do to a [`SoftLeaf`]: another access, a migration entry and back, exclusive and back, one page of a
//! huge leaf. Each rewrite keeps what the leaf names and all of its marks, but for what it is called after.
#![forbid(unsafe_code)]

use super::device::{DeviceKind, DeviceWord};
use super::host::{HostKind, HostWord};
use super::{Access, Fields, MigrationAccess, SoftLeaf};
use crate::words::{Order, Pfn, SwapSlot, leaf_bits as bits};

impl SoftLeaf {
    /// The same page with this access: what `mprotect` and `fork` do to an entry. The target, its generation and the
    /// marks never change; a kind that has no access is returned as it is.
    ///
    /// A migration entry of an exclusive page that is made readable forgets that it is exclusive, as it must in a
    /// fork; an `mprotect` that knows better uses [`SoftLeaf::to_migration`]. Linux: `copy_nonpresent_pte()`,
    /// `change_softleaf_pte()`.
    #[inline]
    pub const fn with_access(self, access: Access) -> SoftLeaf {
        if self.is_direct() {
            let write = (access as u64) << bits::WRITE.trailing_zeros();
            return if self.is_device_private() { SoftLeaf(self.0 & !bits::WRITE | write) } else { self };
        }
        match self.fields() {
            Fields::Device(word) => {
                let kind = match word.kind {
                    DeviceKind::Private(_) => DeviceKind::Private(access),
                    DeviceKind::Migration(_) => DeviceKind::Migration(MigrationAccess::shared(access)),
                };
                self.with_device(DeviceWord { kind, ..word })
            }
            Fields::Host(word) => match word.kind {
                HostKind::Present(_) => self.with_host(word.payload, HostKind::Present(access)),
                HostKind::Migration(_) => {
                    self.with_host(word.payload, HostKind::Migration(MigrationAccess::shared(access)))
                }
                _ => self,
            },
            Fields::None | Fields::Unknown => self,
        }
    }

    /// The migration entry for the page that this leaf names, with its target, order, generation and marks, or `None`
    /// for a leaf that names no page that could move: only device-private and present leaves do, and migration entries,
    /// whose access alone changes. Linux: `make_writable_migration_entry()` and its kin.
    ///
    /// The entry owns the reference that the leaf owned, and leads to the same folio.
    #[inline(always)]
    pub const fn to_migration(self, access: MigrationAccess) -> Option<SoftLeaf> {
        // A page alone on a device, as most are.
        if self.0 & (bits::DIRECT | bits::ORDER) == bits::DIRECT {
            if let Some(word) = DeviceWord::decode_single(self.0) {
                return Some(SoftLeaf(word.encode_moving(access) | self.0 & bits::MARKS));
            }
        }
        self.to_migration_of_any(access)
    }

    const fn to_migration_of_any(self, access: MigrationAccess) -> Option<SoftLeaf> {
        match self.fields() {
            Fields::Device(word) => Some(self.with_device(DeviceWord { kind: DeviceKind::Migration(access), ..word })),
            Fields::Host(HostWord { payload, kind: HostKind::Present(_) | HostKind::Migration(_) }) => {
                Some(self.with_host(payload, HostKind::Migration(access)))
            }
            _ => None,
        }
    }

    /// The leaf that a migration entry stands for: present or device-private, with the entry's target, access, order,
    /// generation and marks; `None` for every other kind.
    ///
    /// What puts the page back that did not move. It undoes [`SoftLeaf::to_migration`] to the bit, if that was given the
    /// leaf's access (read-exclusive stands for read). Where the page did move, the leaf of its new place takes
    /// [`SoftLeaf::with_marks_of`] the entry. Linux: `remove_migration_pte()`.
    #[inline]
    pub const fn from_migration(self) -> Option<SoftLeaf> {
        match self.fields() {
            Fields::Device(word) => match word.kind {
                DeviceKind::Migration(access) => {
                    Some(self.with_device(DeviceWord { kind: DeviceKind::Private(access.access()), ..word }))
                }
                DeviceKind::Private(_) => None,
            },
            Fields::Host(HostWord { payload, kind: HostKind::Migration(access) }) => {
                Some(self.with_host(payload, HostKind::Present(access.access())))
            }
            _ => None,
        }
    }

    /// The leaf of a mapped host page that a device gets for itself; `None` for every other kind. Linux:
    /// `make_device_exclusive()`, which has made the mapping writable first.
    #[inline]
    pub const fn to_exclusive(self) -> Option<SoftLeaf> {
        match self.fields() {
            Fields::Host(HostWord { payload, kind: HostKind::Present(_) }) => {
                Some(self.with_host(payload, HostKind::Exclusive))
            }
            _ => None,
        }
    }

    /// The leaf of the page that the device gives back, mapped again with `access`, which the mapping may have lost
    /// meanwhile: an exclusive leaf does not hold it. `None` for every other kind. Linux: `restore_exclusive_pte()`.
    #[inline]
    pub const fn from_exclusive(self, access: Access) -> Option<SoftLeaf> {
        match self.fields() {
            Fields::Host(HostWord { payload, kind: HostKind::Exclusive }) => {
                Some(self.with_host(payload, HostKind::Present(access)))
            }
            _ => None,
        }
    }

    /// The leaf of a mapped host page whose content was written to `slot`; `None` for every other kind. Linux:
    /// `try_to_unmap_one()`.
    pub const fn to_swap(self, slot: SwapSlot) -> Option<SoftLeaf> {
        match self.fields() {
            Fields::Host(HostWord { kind: HostKind::Present(_), .. }) => {
                Some(self.with_host(slot.offset(), HostKind::Swap(slot.swap_type())))
            }
            _ => None,
        }
    }

    /// The leaf of a page that was read back, into `pfn`; `None` for every kind but [`LeafKind::Swap`](super::LeafKind).
    /// Linux: `do_swap_page()`.
    pub const fn from_swap(self, pfn: Pfn, access: Access) -> Option<SoftLeaf> {
        match self.fields() {
            Fields::Host(HostWord { kind: HostKind::Swap(_), .. }) => {
                Some(self.with_host(pfn.get(), HostKind::Present(access)))
            }
            _ => None,
        }
    }

    /// The leaf of a host page that this one names, and whose memory turned out broken; `None` for leaves that name no
    /// host page. Linux: `memory_failure()`.
    pub const fn to_hwpoison(self) -> Option<SoftLeaf> {
        match self.pfn() {
            Some(pfn) => Some(self.with_host(pfn.get(), HostKind::HwPoison)),
            None => None,
        }
    }

    /// The leaf of the page `index` pages further on: for the entries that take the place of a huge one, and for those
    /// that map the pages of a folio one by one. Marks, access, order and generation are this leaf's. Linux:
    /// `__split_huge_pmd_locked()`.
    ///
    /// `None` where the page is not of the same folio, or, of a leaf that names a host page and so holds no order, not of
    /// the same naturally aligned 2 MiB; and for leaves that no huge entry holds, but for device-private, present and
    /// migration.
    ///
    /// Not to be called for an entry of the level of pages that maps a host page alone: it would name a page beside it.
    ///
    /// ```
    /// use farpage::{Access, DeviceConfig, Order, Space};
    ///
    /// let space = Space::new()?;
    /// let device = space.register(DeviceConfig::new(1024))?;
    /// let huge = device.alloc(Order::HUGE)?.into_leaf(Access::Write);
    /// let third = huge.for_page(2).unwrap();
    /// assert_eq!(space.lookup(third).unwrap().index(), 2);
    /// assert_eq!(huge.for_page(512), None);
    /// # drop(space.take(huge)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub const fn for_page(self, index: u64) -> Option<SoftLeaf> {
        match self.fields() {
            Fields::Device(word) => match word.further(index) {
                Some(word) => Some(self.with_device(word)),
                None => None,
            },
            Fields::Host(HostWord { payload, kind: kind @ (HostKind::Present(_) | HostKind::Migration(_)) })
                if index < Order::HUGE.nr_pages() - (payload - Order::HUGE.align_down(payload)) =>
            {
                Some(self.with_host(payload + index, kind))
            }
            _ => None,
        }
    }

    /// Whether the leaf may stand at the level above pages, for 512 pages at once: none, or a present page, a
    /// device-private page or a migration entry whose target is aligned to them and, if it lies on a device, is of a
    /// folio of order 9 or more. Linux: `pmd_is_valid_softleaf()`.
    pub const fn is_valid_huge(self) -> bool {
        match self.fields() {
            Fields::None => true,
            Fields::Device(DeviceWord { offset, order, .. }) => {
                order.get() >= Order::HUGE.get() && Order::HUGE.align_down(offset.get()) == offset.get()
            }
            Fields::Host(HostWord { payload, kind: HostKind::Present(_) | HostKind::Migration(_) }) => {
                Order::HUGE.align_down(payload) == payload
            }
            Fields::Host(_) | Fields::Unknown => false,
        }
    }

    /// Other fields under the same marks.
    #[inline]
    const fn with_device(self, word: DeviceWord) -> SoftLeaf {
        SoftLeaf(word.encode() | self.0 & bits::MARKS)
    }

    /// Other fields under the same marks.
    #[inline]
    const fn with_host(self, payload: u64, kind: HostKind) -> SoftLeaf {
        SoftLeaf(HostWord { payload, kind }.encode() | self.0 & bits::MARKS)
    }
}
