//! Faults: an access that the table does not allow yet is made possible. Linux: `handle_mm_fault()`.
//!
//! | what is there | what is done |
//! |---|---|
//! | nothing | a zero page to read, a page of one's own to write; an object's page |
//! | a page that must not be written | written where nobody else has it, else copied |
//! | a page on a device | its driver brings it home, whatever the access |
//! | a page on its way, or locked | waited for, asleep and without a reference |
//! | a page that a device has for itself | taken back |
//!
//! Then it is looked at again, from the start, until the access is possible.
#![forbid(unsafe_code)]

use core::time::Duration;
use std::sync::Arc;

use super::address::Address;
use super::address_space::AddressSpace;
use super::driver::DeviceFault;
use super::error::FaultError;
use super::inner::Inner;
use super::named::{How, Named, marked, named};
use super::notifier::{Invalidation, InvalidationKind};
use super::page_table::{Cursor, Span, index};
use super::table::Locked;
use super::vma::{Area, Protection};
use crate::folio::{LockedFolio, PageRef};
use crate::mm::address::AddressRange;
use crate::words::{Access, LeafKind, SoftLeaf};

/// How often a driver may say that it has moved a page that it has not. Somebody may have a reference for a moment, which
/// pins it, and may lose the processor meanwhile: so the attempts are spread over a second.
pub(super) const ATTEMPTS: u32 = 128;

/// Lets whoever pins a page go on, longer each time, up to 10 ms.
pub(super) fn back_off(attempts: u32) {
    match attempts {
        0..4 => std::thread::yield_now(),
        _ => std::thread::sleep(Duration::from_micros(10 << (attempts.min(14) - 4))),
    }
}

/// What a look at the leaf came to.
pub(super) enum Step<'s> {
    /// The access is possible.
    Done,
    /// The folio that the leaf names is locked.
    Wait(SoftLeaf),
    /// The folio is on a device, and is locked by us.
    OnDevice(SoftLeaf, LockedFolio<'s>, bool),
    /// A device has the folio for itself; it is locked by us.
    Exclusive(SoftLeaf, LockedFolio<'s>),
    /// No page is there.
    Missing,
    /// The page must be copied to be written.
    Shared(SoftLeaf),
    /// The page of a run of 512 must be.
    SharedHuge(SoftLeaf),
}

impl<'s> AddressSpace<'s> {
    /// Makes an access to the page of `address` possible, as a CPU's page fault would.
    ///
    /// A page on a device comes home by its driver's
    /// [`migrate_to_ram`](crate::DeviceDriver::migrate_to_ram). Sleeps while the page is locked by whoever moves it. When it
    /// returns the access was possible at some moment; another thread may have taken the page away again since.
    ///
    /// # Errors
    ///
    /// [`FaultError`]: no mapping, no permission, no memory, or a driver that fails. The page is where it was.
    pub fn fault(&self, address: Address, access: Access) -> Result<(), FaultError> {
        let inner = self.inner();
        let vpn = address.vpn();
        let mut attempts = 0;
        loop {
            let mapped = inner.map_lock.read();
            let (area, mut cursor) = inner.area(&mapped, vpn).ok_or(FaultError::NotMapped { address })?;
            if !area.protection.allows(access) {
                return Err(FaultError::Protected { address });
            }
            match inner.look(&area, &mut cursor, address, access)? {
                Step::Done => return Ok(()),
                Step::Wait(leaf) => {
                    drop(mapped);
                    inner.wait_unlocked(leaf);
                }
                Step::OnDevice(leaf, folio, is_huge) => {
                    inner.bring_home(&area, &cursor, address, leaf, folio, is_huge)?;
                    let now = cursor.peek(vpn).leaf;
                    match named(now) {
                        Some(Named { how: How::Present, access: has, .. })
                            if has >= access && !now.is_write_protect() =>
                        {
                            return Ok(());
                        }
                        _ => {}
                    }
                    if now == leaf {
                        attempts += 1;
                        if attempts == ATTEMPTS {
                            return Err(FaultError::NotMoved { address, attempts });
                        }
                        drop(mapped);
                        back_off(attempts);
                    }
                }
                Step::Exclusive(leaf, folio) => inner.take_back(area.protection, vpn, leaf, &folio),
                missing_or_shared => {
                    // What there is to be put in, the mapping's object says.
                    let vma = inner.vma(vpn).ok_or(FaultError::NotMapped { address })?;
                    match missing_or_shared {
                        Step::Shared(leaf) => inner.copy_on_write(&vma, vpn, leaf)?,
                        Step::SharedHuge(leaf) => inner.copy_on_write_huge(&vma, vpn, leaf)?,
                        _ => inner.put_in(&vma, vpn, access)?,
                    }
                }
            }
        }
    }
}

impl<'s> Inner<'s> {
    /// Looks at the leaf, and does what can be done under the table's lock.
    #[inline]
    fn look(
        &self,
        area: &Area,
        cursor: &mut Cursor<'_>,
        address: Address,
        access: Access,
    ) -> Result<Step<'s>, FaultError> {
        let vpn = address.vpn();
        match cursor.span(vpn) {
            Span::Empty => Ok(Step::Missing),
            Span::Huge(mut middle, at) => self.look_at(area, address, access, &mut middle, at, true),
            Span::Small(mut table) => {
                let at = index(vpn, 0);
                let leaf = table.leaf(at);
                // A single page on a device, that nobody else has: nearly all that fault so.
                if leaf.is_direct() && !leaf.is_write_protect() {
                    if let Some(folio) = self.core().space().lock_direct(leaf) {
                        return Ok(Step::OnDevice(leaf, folio, false));
                    }
                }
                self.look_at(area, address, access, &mut table, at, false)
            }
        }
    }

    fn look_at(
        &self,
        area: &Area,
        address: Address,
        access: Access,
        table: &mut Locked<'_>,
        at: usize,
        is_huge: bool,
    ) -> Result<Step<'s>, FaultError> {
        let leaf = table.leaf(at);
        if access == Access::Write && leaf.is_write_protect() {
            return Err(FaultError::WriteProtected { address });
        }
        match leaf.kind() {
            LeafKind::None => Ok(Step::Missing),
            LeafKind::Present(has) if has >= access => {
                touch(table, at, leaf, access);
                Ok(Step::Done)
            }
            LeafKind::Present(_) if !area.kind.is_cow() || self.is_ours_alone(leaf) => {
                touch(table, at, leaf.with_access(Access::Write), access);
                Ok(Step::Done)
            }
            LeafKind::Present(_) if is_huge => Ok(Step::SharedHuge(leaf)),
            LeafKind::Present(_) => Ok(Step::Shared(leaf)),
            LeafKind::DevicePrivate(_) => Ok(match self.lock_for_fault(leaf) {
                Some(folio) => Step::OnDevice(leaf, folio, is_huge),
                None => Step::Wait(leaf),
            }),
            LeafKind::DeviceExclusive => Ok(match self.lock_for_fault(leaf) {
                Some(folio) => Step::Exclusive(leaf, folio),
                None => Step::Wait(leaf),
            }),
            LeafKind::Migration(_) => Ok(Step::Wait(leaf)),
            kind => Err(FaultError::Unserved { address, kind }),
        }
    }

    /// Whether the leaf, which the caller has locked and which allows reading, maps a page that nobody else has: then it
    /// may be written where it is. Nobody can get at it meanwhile but by this leaf. Linux: `wp_can_reuse_anon_folio()`.
    fn is_ours_alone(&self, leaf: SoftLeaf) -> bool {
        let Some(page) = self.core().page(leaf) else { return false };
        page.refs() == 1 && self.core().home_at(leaf, page.folio_offset()).is_some_and(|home| home.is_anon)
    }

    /// The leaf's folio, locked; `None` if somebody has the lock. No reference is taken of a folio that is seen locked, so that
    /// a fault does not pin what is being moved.
    pub(super) fn lock_for_fault(&self, leaf: SoftLeaf) -> Option<LockedFolio<'s>> {
        let page: PageRef<'s> = self.core().page(leaf)?;
        if !page.wait_unlocked(Duration::ZERO) {
            return None;
        }
        page.try_get()?.try_lock_owned().ok()
    }

    /// Has the driver bring a page home.
    #[inline(always)]
    fn bring_home(
        self: &Arc<Self>,
        area: &Area,
        cursor: &Cursor<'_>,
        address: Address,
        leaf: SoftLeaf,
        folio: LockedFolio<'s>,
        is_huge: bool,
    ) -> Result<(), FaultError> {
        let Some(page) = named(leaf).and_then(|named| named.target.offset()) else { return Ok(()) };
        let attached = self.core().driver_at(page).ok_or(FaultError::NoDriver { address })?;
        let page = if is_huge {
            page.checked_add(address.vpn() - super::address::huge_start(address.vpn()))
        } else {
            Some(page)
        };
        let Some(page) = page else { return Ok(()) };
        let device = (attached.range, attached.owner);
        let fault = DeviceFault { space: self, address, page, folio: &folio, is_huge, area, cursor, device };
        attached.driver.migrate_to_ram(&fault).map_err(|error| FaultError::Device { address, error })
    }

    /// Takes a page back that a device has for itself: it is mapped as before, and the device is told.
    pub(super) fn take_back(&self, protection: Protection, vpn: u64, leaf: SoftLeaf, _locked: &LockedFolio<'s>) {
        let range = AddressRange::page_of(Address::of_vpn(vpn));
        let _told = self.notifiers.begin(Invalidation { range, kind: InvalidationKind::Exclusive, owner: None });
        let Span::Small(mut table) = self.table.span(vpn) else { return };
        let now = table.leaf(index(vpn, 0));
        // Its marks may have changed, not what it is: we have the lock.
        let access = if protection.allows(Access::Write) { Access::Write } else { Access::Read };
        if now.pfn() == leaf.pfn() {
            if let Some(present) = now.from_exclusive(access) {
                table.set_leaf(index(vpn, 0), present);
            }
        }
    }
}

/// Marks what an access leaves behind.
#[inline]
pub(super) fn touch(table: &mut Locked<'_>, at: usize, leaf: SoftLeaf, access: Access) {
    let touched = marked(leaf, access);
    if touched != table.leaf(at) {
        table.set_leaf(at, touched);
    }
}
