//! The first phase: a slot for each page address, folios locked if nobody has them, migration entries put in.
#![forbid(unsafe_code)]

use super::slot::{Holder, Slot};
use super::{MigrateRequest, Migration};
use crate::device::Owner;
use crate::folio::{Folio, PageRef};
use crate::mm::address::{PAGES_PER_HUGE, huge_start};
use crate::mm::entry::Entry;
use crate::mm::inner::Inner;
use crate::mm::named::{How, Named, migration_of_named, named};
use crate::mm::notifier::{Invalidation, InvalidationKind};
use crate::mm::page_table::{Span, index};

use crate::mm::table::Locked;
use crate::mm::vma::{Backing, Vma};
use crate::words::{Access, MigrateEntry, OffsetRange, Order, SoftLeaf, Target};

/// Goes over a range and fills slots.
struct Collector<'x, 'a, 's> {
    migration: &'x mut Migration<'a, 's>,
    request: MigrateRequest,
    vma: Vma<'s>,
    /// Whose the pages of a range of offsets are, host's or device's: most of a batch are of one device.
    owner_of: Option<(OffsetRange, bool, Option<Owner>)>,
    /// The slot that last locked a large folio: the next pages may be of it.
    last_large: Option<u32>,
}

impl<'a, 's> Migration<'a, 's> {
    /// `device`: offsets of a device that are known to be an owner's.
    pub(super) fn collect(&mut self, request: MigrateRequest, device: Option<(OffsetRange, Owner)>) {
        let Some(place) = &self.place else { return };
        let (space, range, vma) = (place.space, place.range, place.vma.clone());
        let _told =
            space.notifiers.begin(Invalidation { range, kind: InvalidationKind::Migrate, owner: request.owner });
        self.batch.slots.reserve(range.nr_pages() as usize);
        let owner_of = device.map(|(range, owner)| (range, true, Some(owner)));
        let mut collector = Collector { migration: self, request, vma, owner_of, last_large: None };
        let mut vpn = range.first();
        while vpn < range.end() {
            let stop = (huge_start(vpn) + PAGES_PER_HUGE).min(range.end());
            collector.run(space, vpn, stop);
            vpn = stop;
        }
    }
}

/// What became of a huge leaf.
enum Huge {
    Collected,
    Skipped,
    /// It is to be collected page by page.
    ToSplit,
}

impl<'s> Collector<'_, '_, 's> {
    /// Pages `vpn..stop`, for which there is one word in the middle table.
    fn run(&mut self, space: &Inner<'s>, vpn: u64, stop: u64) {
        loop {
            match space.table.span(vpn) {
                Span::Empty => return self.empty(stop - vpn),
                Span::Small(mut table) => {
                    return (vpn..stop).for_each(|vpn| self.page(&mut table, index(vpn, 0)));
                }
                Span::Huge(mut middle, at) => match self.huge(&mut middle, at, stop - vpn) {
                    Huge::Collected => return,
                    Huge::Skipped => return self.skip(stop - vpn),
                    Huge::ToSplit => {}
                },
            }
            // The lock is gone: others may split it, too, or take it away.
            if space.split(vpn).is_err() {
                return self.skip(stop - vpn);
            }
        }
    }

    fn skip(&mut self, nr_pages: u64) {
        (0..nr_pages).for_each(|_| self.slots().push(Slot::EMPTY));
    }

    fn slots(&mut self) -> &mut Vec<Slot<'s>> {
        &mut self.migration.batch.slots
    }

    /// Whether a hole may be filled.
    fn takes_holes(&self) -> bool {
        self.request.system && matches!(self.vma.backing, Backing::Anonymous)
    }

    /// No table: `nr_pages` holes, or one of 512 pages.
    fn empty(&mut self, nr_pages: u64) {
        let hole = if self.takes_holes() { Slot::hole(SoftLeaf::NONE).src } else { MigrateEntry::EMPTY };
        let whole = nr_pages == PAGES_PER_HUGE && self.request.compound;
        self.migration.has_compound |= whole;
        for page in 0..nr_pages {
            let src = match (whole, page) {
                (true, 0) => hole.with_compound(true),
                (true, _) => MigrateEntry::EMPTY,
                (false, _) => hole,
            };
            self.slots().push(Slot { src, ..Slot::EMPTY });
        }
    }

    /// One leaf for 512 pages, `nr_pages` of them in the range.
    fn huge(&mut self, middle: &mut Locked<'_>, at: usize, nr_pages: u64) -> Huge {
        let leaf = middle.leaf(at);
        let is_zero = self.migration.core.is_zero(leaf);
        if nr_pages < PAGES_PER_HUGE || !self.request.compound {
            // One that takes no part need not be taken apart for that.
            let takes_part = if is_zero { self.takes_holes() } else { self.is_selected(leaf) };
            return if takes_part { Huge::ToSplit } else { Huge::Skipped };
        }
        let mut slot = Slot::EMPTY;
        if is_zero {
            if !self.takes_holes() {
                return Huge::Skipped;
            }
            slot = Slot::hole(leaf);
        } else {
            if self.migration.core.page(leaf).map(PageRef::order) != Some(Order::HUGE) {
                return Huge::Skipped;
            }
            let Some(entry) = self.lock(leaf, &mut slot) else { return Huge::Skipped };
            middle.set(at, Entry::leaf(entry));
        }
        slot.src = slot.src.with_compound(true);
        self.migration.has_compound = true;
        self.slots().push(slot);
        self.skip(PAGES_PER_HUGE - 1);
        Huge::Collected
    }

    /// One page.
    #[inline]
    fn page(&mut self, table: &mut Locked<'_>, at: usize) {
        let leaf = table.leaf(at);
        let mut slot = Slot::EMPTY;
        if leaf == SoftLeaf::NONE || self.migration.core.is_zero(leaf) {
            if self.takes_holes() {
                slot = Slot::hole(leaf);
            }
        } else if let Some(entry) = self.lock(leaf, &mut slot) {
            table.set_leaf(at, entry);
        }
        self.slots().push(slot);
    }

    /// Locks the folio of a page that is selected, fills the slot, and returns the migration entry to put in.
    #[inline]
    fn lock(&mut self, leaf: SoftLeaf, slot: &mut Slot<'s>) -> Option<SoftLeaf> {
        let named = named(leaf)?;
        let Named { how: How::Present | How::Private, access, target } = named else { return None };
        let page = match target {
            Target::Device(_) => self.migration.core.space().lookup(leaf)?,
            Target::Host(pfn) => self.migration.core.host_page(pfn)?,
        };
        if !self.is_selected_page(target, page) {
            return None;
        }
        let folio = page.try_get()?;
        if !self.migration.core.home(&folio).is_some_and(|home| home.is_anon) {
            return None;
        }
        let is_alone = folio.maps() == 1;
        slot.holder = match folio.try_lock_owned() {
            Ok(locked) => {
                if locked.order() > Order::ZERO {
                    self.last_large = Some(self.migration.batch.slots.len() as u32);
                }
                Holder::Own(locked)
            }
            Err(folio) => self.locked_already(&folio)?,
        };
        slot.src = MigrateEntry::page(target).with_migrate(true).with_write(access == Access::Write);
        slot.leaf = leaf;
        slot.index = page.index() as u32;
        slot.is_unmapped = true;
        migration_of_named(leaf, named, is_alone)
    }

    /// Who of us has locked a folio that is locked: the fault, or an earlier slot for another of its pages.
    fn locked_already(&self, folio: &Folio<'s>) -> Option<Holder<'s>> {
        if self.migration.fault.is_some_and(|fault| **fault == *folio) {
            return Some(Holder::Fault);
        }
        let last = self.last_large?;
        let is_same = self.migration.folio_of(last as usize).is_some_and(|locked| locked == folio);
        is_same.then_some(Holder::Slot(last))
    }

    fn is_selected(&mut self, leaf: SoftLeaf) -> bool {
        match (named(leaf), self.migration.core.page(leaf)) {
            (Some(named), Some(page)) => self.is_selected_page(named.target, page),
            _ => false,
        }
    }

    /// Whether the request selects a page by where it lies and whose that is.
    #[inline]
    fn is_selected_page(&mut self, target: Target, page: PageRef<'s>) -> bool {
        let on_device = matches!(target, Target::Device(_));
        let owner = match self.owner_of {
            Some((range, of_device, owner)) if of_device == on_device && range.contains(page.offset()) => owner,
            _ => {
                let device = page.device();
                let owner = (device != *self.migration.core.ram()).then(|| device.owner());
                self.owner_of = Some((device.range(), on_device, owner));
                owner
            }
        };
        match (on_device, owner) {
            (true, _) => self.request.device_private && owner == self.request.owner,
            (false, None) => self.request.system,
            (false, Some(_)) => self.request.host_visible && owner == self.request.owner,
        }
    }
}
