//! [`RangeFault`]: which page is at each address of a range, for a device that mirrors it. Linux: `hmm_range_fault()`.
#![forbid(unsafe_code)]

use super::address::{Address, AddressRange, PAGES_PER_HUGE, huge_start};
use super::address_space::AddressSpace;
use super::error::{FaultError, RangeError};
use super::fault::touch;
use super::inner::Inner;
use super::notifier::{Interval, SequenceNumber};
use super::page_table::{Span, index};
use super::table::Locked;
use super::vma::Vma;
use crate::device::Owner;
use crate::words::{Access, LeafKind, Offset, OffsetRange, Order, RangeEntry, SoftLeaf, leaf_bits};

/// A question for every page of a range.
///
/// ```
/// use farpage::{Access, AddressRange, Owner, RangeFault};
///
/// let range = AddressRange::new(0x20_0000, 0x8000).unwrap();
/// let read = RangeFault::new(range).owner(Owner::new(7)).request(Access::Read); // fault all pages in
/// let look = RangeFault::new(range).owner(Owner::new(7)); // as they are
/// ```
#[derive(Clone, Copy, Debug)]
pub struct RangeFault<'i, 's> {
    range: AddressRange,
    owner: Option<Owner>,
    request: Option<Access>,
    interval: Option<(&'i Interval<'s>, SequenceNumber)>,
}

impl<'i, 's> RangeFault<'i, 's> {
    /// What is in `range`, without faulting anything in; of no device.
    pub const fn new(range: AddressRange) -> RangeFault<'i, 's> {
        RangeFault { range, owner: None, request: None, interval: None }
    }

    /// Whose pages are reported where they are, instead of being brought home. Linux: `dev_private_owner`.
    #[must_use]
    pub const fn owner(mut self, owner: Owner) -> Self {
        self.owner = Some(owner);
        self
    }

    /// What is asked of every page, beside what its own entry asks. Linux: `default_flags`.
    #[must_use]
    pub const fn request(mut self, access: Access) -> Self {
        self.request = Some(access);
        self
    }

    /// Ends with [`RangeError::Busy`] when the interval's number is no longer `sequence`.
    #[must_use]
    pub const fn under(mut self, interval: &'i Interval<'s>, sequence: SequenceNumber) -> Self {
        self.interval = Some((interval, sequence));
        self
    }
}

/// What a page needs before it can be reported.
enum Need {
    Fault(u64, Access),
    Wait(SoftLeaf),
}

/// Goes over the range.
struct Walk<'w, 's> {
    space: &'w Inner<'s>,
    owner: Option<Owner>,
    request: Option<Access>,
    /// A range of offsets whose pages are `owner`'s.
    own: OffsetRange,
}

impl<'s> AddressSpace<'s> {
    /// Answers for each page of the range, in `entries`, one an address.
    ///
    /// Each entry is read first for what it asks of its page ([`RangeEntry::request`]); its sticky bits stay. A page that
    /// is asked for is faulted in. One on a device of the request's owner is reported as it is; one on another
    /// device comes home if it is asked for. Pages on their way are waited for. What a huge leaf maps is reported with its
    /// order, page by page. A host page that is asked for to be written is marked as written, since nothing tells when a device
    /// does; one with the write-protect mark is not to be had so.
    ///
    /// The answer was true page by page at some moment each. A device that goes on to use it subscribes to the range and
    /// checks the sequence number, as [`Interval`] describes.
    ///
    /// # Errors
    ///
    /// [`RangeError::Busy`] when the sequence number has moved on: begin again. [`RangeError::Fault`] when a page that is
    /// asked for cannot be had; entries before it are answered. [`RangeError::WrongLength`] if there is not one entry for each
    /// page.
    pub fn range_fault(&self, request: &RangeFault<'_, 's>, entries: &mut [RangeEntry]) -> Result<(), RangeError> {
        let range = request.range;
        if entries.len() as u64 != range.nr_pages() {
            return Err(RangeError::WrongLength { nr_pages: range.nr_pages(), nr_entries: entries.len() });
        }
        let inner = &**self.inner();
        let mut walk = Walk { space: inner, owner: request.owner, request: request.request, own: OffsetRange::EMPTY };
        let mut vpn = range.first();
        while vpn < range.end() {
            if request.interval.is_some_and(|(interval, sequence)| interval.read_retry(sequence)) {
                return Err(RangeError::Busy);
            }
            let mapped = inner.map_lock.read();
            let need = walk.from(&mut vpn, range, entries)?;
            drop(mapped);
            match need {
                None => {}
                Some(Need::Wait(leaf)) => inner.wait_unlocked(leaf),
                Some(Need::Fault(vpn, access)) => self.fault(Address::of_vpn(vpn), access)?,
            }
        }
        Ok(())
    }
}

impl Walk<'_, '_> {
    /// Answers from page `vpn` on, which is moved on behind the last that is answered, until one needs something.
    fn from(
        &mut self,
        vpn: &mut u64,
        range: AddressRange,
        entries: &mut [RangeEntry],
    ) -> Result<Option<Need>, RangeError> {
        while *vpn < range.end() {
            let vma = self.space.vma(*vpn);
            let end = vma.as_ref().map_or(*vpn + 1, |vma| vma.range.end().min(range.end()));
            let slots = |from: u64, to: u64| (from - range.first()) as usize..(to - range.first()) as usize;
            let Some(vma) = vma.filter(|vma| vma.protection.allows(Access::Read)) else {
                let is_mapped = self.space.vma(*vpn).is_some();
                self.refuse(*vpn, is_mapped, &mut entries[slots(*vpn, end)])?;
                *vpn = end;
                continue;
            };
            while *vpn < end {
                let stop = (huge_start(*vpn) + PAGES_PER_HUGE).min(end);
                if let Some(need) = self.span(&vma, vpn, stop, &mut entries[slots(*vpn, stop)])? {
                    return Ok(Some(need));
                }
            }
        }
        Ok(None)
    }

    /// Entries that nothing can be had for.
    fn refuse(&self, vpn: u64, is_mapped: bool, entries: &mut [RangeEntry]) -> Result<(), RangeError> {
        for (vpn, entry) in (vpn..).zip(entries) {
            let address = Address::of_vpn(vpn);
            if entry.requested().max(self.request).is_some() {
                let fault =
                    if is_mapped { FaultError::Protected { address } } else { FaultError::NotMapped { address } };
                return Err(fault.into());
            }
            *entry = entry.answer(RangeEntry::ERROR);
        }
        Ok(())
    }

    fn span(
        &mut self,
        vma: &Vma<'_>,
        vpn: &mut u64,
        stop: u64,
        entries: &mut [RangeEntry],
    ) -> Result<Option<Need>, RangeError> {
        let first = *vpn;
        match self.space.table.span(first) {
            Span::Small(mut table) => self.small(vma, vpn, &mut table, entries),
            Span::Empty => {
                for entry in entries {
                    if let Some(need) = self.page(vma, *vpn, SoftLeaf::NONE, entry)? {
                        return Ok(Some(need));
                    }
                    *vpn += 1;
                }
                Ok(None)
            }
            Span::Huge(mut middle, at) => {
                let leaf = middle.leaf(at);
                // The strongest of all requests is what the one leaf needs.
                let asked = entries.iter().map(|entry| entry.requested()).max().flatten();
                let mut whole = RangeEntry::request(asked);
                if let Some(need) = self.page(vma, first, leaf, &mut whole)? {
                    return Ok(Some(need));
                }
                mark_written(&mut middle, at, leaf, asked.max(self.request));
                let whole = whole.with_map_order(Order::HUGE);
                for (page, entry) in (first - huge_start(first)..).zip(entries) {
                    *entry = entry.answer(whole.for_page(page).unwrap_or(whole));
                }
                *vpn = stop;
                Ok(None)
            }
        }
    }

    #[inline]
    fn small(
        &mut self,
        vma: &Vma<'_>,
        vpn: &mut u64,
        table: &mut Locked<'_>,
        entries: &mut [RangeEntry],
    ) -> Result<Option<Need>, RangeError> {
        let (mut at, mut left) = (index(*vpn, 0), entries);
        loop {
            // By far the most: pages of our own device, as the last one was.
            let nr_own = self.answer_own(table.leaves(at), left);
            (at, *vpn, left) = (at + nr_own, *vpn + nr_own as u64, &mut left[nr_own..]);
            let Some((entry, behind)) = left.split_first_mut() else { return Ok(None) };
            let leaf = table.leaf(at);
            let asked = entry.requested().max(self.request);
            if let Some(need) = self.page(vma, *vpn, leaf, entry)? {
                return Ok(Some(need));
            }
            mark_written(table, at, leaf, asked);
            (at, *vpn, left) = (at + 1, *vpn + 1, behind);
        }
    }

    /// Answers for those leaves, up to the first other, that name single pages of `own`; how many there were.
    #[inline]
    fn answer_own(&self, leaves: impl Iterator<Item = SoftLeaf>, entries: &mut [RangeEntry]) -> usize {
        let own = self.own;
        let mut nr = 0;
        for (leaf, entry) in leaves.zip(entries) {
            let offset = Offset::from_low_bits(leaf.bits());
            if !(leaf.is_direct() && own.contains(offset)) {
                break;
            }
            let access = if leaf.bits() & leaf_bits::WRITE != 0 { Access::Write } else { Access::Read };
            *entry = entry.answer(RangeEntry::device(offset, allowed(leaf, access)));
            nr += 1;
        }
        nr
    }

    /// Answers for the page of one leaf, which is locked.
    fn page(
        &mut self,
        vma: &Vma<'_>,
        vpn: u64,
        leaf: SoftLeaf,
        entry: &mut RangeEntry,
    ) -> Result<Option<Need>, RangeError> {
        let asked = entry.requested().max(self.request);
        let address = Address::of_vpn(vpn);
        let answer = match leaf.kind() {
            LeafKind::DevicePrivate(access) if self.is_own(leaf) => {
                leaf.offset().map(|offset| RangeEntry::device(offset, allowed(leaf, access)))
            }
            LeafKind::Present(access) if asked <= Some(allowed(leaf, access)) => {
                leaf.pfn().map(|pfn| RangeEntry::host(pfn, allowed(leaf, access)))
            }
            LeafKind::HwPoison | LeafKind::Unknown => {
                if asked.is_some() {
                    return Err(FaultError::Unserved { address, kind: leaf.kind() }.into());
                }
                Some(RangeEntry::ERROR)
            }
            _ => None,
        };
        match (answer, asked) {
            (Some(answer), _) => *entry = entry.answer(answer),
            (None, None) => *entry = entry.answer(RangeEntry::HOLE),
            (None, Some(_)) if leaf.is_migration() => return Ok(Some(Need::Wait(leaf))),
            (None, Some(access)) => {
                if !vma.protection.allows(access) {
                    return Err(FaultError::Protected { address }.into());
                }
                return Ok(Some(Need::Fault(vpn, access)));
            }
        }
        Ok(None)
    }

    /// Whether a device-private leaf is of a device of the request's owner.
    fn is_own(&mut self, leaf: SoftLeaf) -> bool {
        let (Some(page), Some(owner)) = (self.space.core().page(leaf), self.owner) else { return false };
        if self.own.contains(page.offset()) {
            return true;
        }
        let device = page.device();
        let is_own = device.owner() == owner;
        if is_own {
            self.own = device.range();
        }
        is_own
    }
}

/// What a device may do with a page whose leaf allows `access`: not write it while it has the write-protect mark.
#[inline]
fn allowed(leaf: SoftLeaf, access: Access) -> Access {
    if leaf.is_write_protect() { Access::Read } else { access }
}

/// Who asks to write a host page is taken to write it: nothing tells when a device does.
#[inline]
fn mark_written(table: &mut Locked<'_>, at: usize, leaf: SoftLeaf, asked: Option<Access>) {
    if asked == Some(Access::Write) && leaf.is_present() {
        touch(table, at, leaf, Access::Write);
    }
}
