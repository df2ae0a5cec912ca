//! Bytes of an address space, as a CPU reads and writes them; and pins, as a device does that reads and writes host memory.
#![forbid(unsafe_code)]

use super::address::{Address, AddressRange, PAGE_BYTES, huge_start};
use super::address_space::AddressSpace;
use super::error::{AccessError, FaultError};
use super::fault::{ATTEMPTS, back_off, touch};
use super::host::Frame;
use super::inner::Inner;
use super::migrate::{MigrateBatch, MigrateRequest};
use super::page_table::{Span, index};
use crate::device::Owner;
use crate::words::{Access, LeafKind, Order, Pfn, SoftLeaf, Target};

impl<'s> AddressSpace<'s> {
    /// Reads bytes from `address` on, faulting pages in.
    ///
    /// Each page is read at one moment, at which it was mapped so; two pages at two moments.
    ///
    /// # Errors
    ///
    /// [`AccessError`] with the first fault that cannot be served, and how many bytes were read before it.
    pub fn read(&self, address: Address, out: &mut [u8]) -> Result<(), AccessError> {
        let len = out.len();
        let memory = self.inner().core().memory();
        self.each_page(address, len, Access::Read, |pfn, at, begin, end| memory.read(pfn, at, &mut out[begin..end]))
    }

    /// Writes bytes from `address` on, faulting pages in.
    ///
    /// # Errors
    ///
    /// As [`AddressSpace::read`]; the bytes before it are written.
    pub fn write(&self, address: Address, data: &[u8]) -> Result<(), AccessError> {
        let memory = self.inner().core().memory();
        self.each_page(address, data.len(), Access::Write, |pfn, at, begin, end| {
            memory.write(pfn, at, &data[begin..end]);
        })
    }

    /// A reference of the host page at `address`, which pins it: it is not moved while the handle lives. A page on a device
    /// comes home first. Linux: `pin_user_pages()`.
    ///
    /// # Errors
    ///
    /// As [`AddressSpace::fault`]. A page that is to be read and was never written is the zero page.
    pub fn pin(&self, address: Address, access: Access) -> Result<Frame<'s>, FaultError> {
        let core = self.inner().core();
        loop {
            let mut pinned = None;
            self.with_page(address, access, |leaf, _| pinned = core.page(leaf).and_then(|page| page.try_get()))?;
            if let Some(folio) = pinned {
                return Ok(Frame::new(folio));
            }
            if core.is_zero(self.leaf(address).0) {
                return Ok(Frame::new(core.zero_folio()?));
            }
        }
    }

    /// The same, without faulting: `None` if the page is not there for that access at this moment, or the leaf is the zero page's.
    /// Linux: `pin_user_pages_fast_only()`.
    pub fn try_pin(&self, address: Address, access: Access) -> Option<Frame<'s>> {
        let mut pinned = None;
        let look = &mut |leaf, _| pinned = self.inner().core().page(leaf).and_then(|page| page.try_get());
        self.inner().try_with_page(address, access, look).ok()?;
        pinned.map(Frame::new)
    }

    /// As [`AddressSpace::pin`], for a handle that is kept for long: never of a page of a device that the host can map, which
    /// the device would not get back. Such a page is copied home first. Linux: `FOLL_LONGTERM`.
    ///
    /// # Errors
    ///
    /// As [`AddressSpace::pin`]; [`FaultError::NotMoved`] if somebody else pins the page where it is.
    pub fn pin_long_term(&self, address: Address, access: Access) -> Result<Frame<'s>, FaultError> {
        for attempts in 0..ATTEMPTS {
            let frame = self.pin(address, access)?;
            if self.inner().core().is_memory(frame.pfn()) {
                return Ok(frame);
            }
            let owner = frame.as_folio().device().owner();
            // Our own reference would be in the way.
            drop(frame);
            self.bring_visible_home(address, owner)?;
            back_off(attempts);
        }
        Err(FaultError::NotMoved { address, attempts: ATTEMPTS })
    }

    /// Moves the page of `address` from a device of `owner` that the host can map to the machine's memory, if nobody pins it.
    fn bring_visible_home(&self, address: Address, owner: Owner) -> Result<(), FaultError> {
        let mut batch = MigrateBatch::new();
        let request = MigrateRequest::new(AddressRange::page_of(address)).host_visible(owner);
        // What was mapped otherwise meanwhile is looked at again.
        let Ok(mut migration) = self.migrate(&mut batch, request) else { return Ok(()) };
        let src = migration.src(0);
        if let (true, Some(Target::Host(from))) = (src.is_migrate(), src.target()) {
            let frame = migration.machine().alloc_frame(Order::ZERO)?;
            self.inner().core().memory().copy(from, frame.pfn(), 1);
            // Refused is as not moved.
            _ = migration.set_dst(0, frame);
            migration.pages();
        }
        Ok(())
    }

    fn each_page(
        &self,
        address: Address,
        len: usize,
        access: Access,
        mut each: impl FnMut(Pfn, usize, usize, usize),
    ) -> Result<(), AccessError> {
        let mut done = 0;
        while done < len {
            let failed = |fault| AccessError { done: done as u64, fault };
            let at = address.get().checked_add(done as u64).and_then(Address::new);
            let at = at.ok_or(failed(FaultError::NotMapped { address }))?;
            let within = at.in_page() as usize;
            let end = len.min(done + PAGE_BYTES as usize - within);
            self.with_page(at, access, |_, pfn| each(pfn, within, done, end)).map_err(failed)?;
            done = end;
        }
        Ok(())
    }

    /// Calls `each` with the page of `address` while its leaf allows the access and is locked.
    fn with_page(
        &self,
        address: Address,
        access: Access,
        mut each: impl FnMut(SoftLeaf, Pfn),
    ) -> Result<(), FaultError> {
        let inner = self.inner();
        while !inner.try_with_page(address, access, &mut each)? {
            self.fault(address, access)?;
        }
        Ok(())
    }
}

impl Inner<'_> {
    fn try_with_page(
        &self,
        address: Address,
        access: Access,
        each: &mut impl FnMut(SoftLeaf, Pfn),
    ) -> Result<bool, FaultError> {
        let vpn = address.vpn();
        let _mapped = self.map_lock.read();
        {
            let vmas = self.vmas.read();
            let vma = vmas.find(vpn).ok_or(FaultError::NotMapped { address })?;
            if !vma.protection.allows(access) {
                return Err(FaultError::Protected { address });
            }
        }
        let (mut table, at, further) = match self.table.span(vpn) {
            Span::Empty => return Ok(false),
            Span::Huge(middle, at) => (middle, at, vpn - huge_start(vpn)),
            Span::Small(table) => (table, index(vpn, 0), 0),
        };
        let leaf = table.leaf(at);
        let allows = matches!(leaf.kind(), LeafKind::Present(has) if has >= access);
        let (true, Some(pfn)) = (allows, leaf.pfn().and_then(|pfn| pfn.checked_add(further))) else { return Ok(false) };
        if access == Access::Write && leaf.is_write_protect() {
            return Err(FaultError::WriteProtected { address });
        }
        touch(&mut table, at, leaf, access);
        each(leaf, pfn);
        Ok(true)
    }
}
