//! The first phase: a slot for each page address, folios locked if nobody has them, migration entries put in.
#![forbid(unsafe_code)]

use super::single::single;
use super::slot::{Holder, Slot, source};
use super::{MigrateRequest, Migration};
use crate::device::Owner;
use crate::folio::{Folio, PageRef};
use crate::mm::address::{PAGES_PER_HUGE, huge_start};
use crate::mm::entry::Entry;
use crate::mm::inner::Inner;
use crate::mm::named::{How, Named, migration_of_named, named};
use crate::mm::page_table::{Cursor, Span, index};
use crate::mm::table::Locked;
use crate::mm::vma::Kind;
use crate::words::{MigrateEntry, Offset, OffsetRange, Order, SoftLeaf, Target};

/// Goes over a range and fills slots.
struct Collector<'x, 'a, 's> {
    migration: &'x mut Migration<'a, 's>,
    request: MigrateRequest,
    /// Whether a hole may be filled.
    takes_holes: bool,
    chosen: Chosen,
    /// The slot that last locked a large folio: the next pages may be of it.
    last_large: Option<u32>,
}

/// Whether the request selects pages of a range of offsets, of host pages or of devices: most of a batch are of one device.
#[derive(Clone, Copy)]
pub(super) struct Chosen {
    range: OffsetRange,
    on_device: bool,
    is_selected: bool,
}

impl Chosen {
    /// What is known of a page; `None` for one of another device.
    #[inline(always)]
    pub(super) fn knows(&self, on_device: bool, page: Offset) -> Option<bool> {
        (self.on_device == on_device && self.range.contains(page)).then_some(self.is_selected)
    }

    #[inline]
    pub(super) fn new(request: &MigrateRequest, range: OffsetRange, on_device: bool, owner: Option<Owner>) -> Chosen {
        let is_selected = match (on_device, owner) {
            (true, _) => request.device_private && owner == request.owner,
            (false, None) => request.system,
            (false, Some(_)) => request.host_visible && owner == request.owner,
        };
        Chosen { range, on_device, is_selected }
    }
}

impl<'a, 's> Migration<'a, 's> {
    /// `chosen`: what is known already of some pages. `kind`: the mapping's.
    #[inline(never)]
    pub(super) fn collect(&mut self, request: MigrateRequest, chosen: Chosen, kind: Kind) {
        let Some(place) = &self.place else { return };
        let (space, range, mut cursor) = (place.space, place.range, place.cursor);
        let takes_holes = request.system && kind == Kind::Anonymous;
        self.batch.slots.reserve(range.nr_pages() as usize);
        let mut collector = Collector { migration: self, request, takes_holes, chosen, last_large: None };
        let mut vpn = range.first();
        while vpn < range.end() {
            let stop = (huge_start(vpn) + PAGES_PER_HUGE).min(range.end());
            collector.run(space, &mut cursor, vpn, stop);
            vpn = stop;
        }
        if let Some(place) = &mut self.place {
            place.cursor = cursor;
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
    fn run(&mut self, space: &Inner<'s>, cursor: &mut Cursor<'_>, vpn: u64, stop: u64) {
        loop {
            match cursor.span(vpn) {
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

    /// No table: `nr_pages` holes, or one of 512 pages.
    fn empty(&mut self, nr_pages: u64) {
        let hole = if self.takes_holes { Slot::HOLE.src } else { MigrateEntry::EMPTY };
        self.migration.has_holes |= self.takes_holes;
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
            let takes_part = if is_zero { self.takes_holes } else { self.is_selected(leaf) };
            return if takes_part { Huge::ToSplit } else { Huge::Skipped };
        }
        let mut slot = Slot::EMPTY;
        if is_zero {
            if !self.takes_holes {
                return Huge::Skipped;
            }
            slot = Slot::HOLE;
            self.migration.has_holes = true;
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
    #[inline(always)]
    fn page(&mut self, table: &mut Locked<'_>, at: usize) {
        let leaf = table.leaf(at);
        match single(&self.migration.core, self.migration.fault, &self.chosen, leaf) {
            Some(slot) => {
                table.replace_leaf(at, slot.entry);
                self.slots().push(slot);
            }
            None => self.page_of_any_kind(table, at, leaf),
        }
    }

    /// The same for a leaf that is not of a single page.
    #[inline(never)]
    fn page_of_any_kind(&mut self, table: &mut Locked<'_>, at: usize, leaf: SoftLeaf) {
        let mut slot = Slot::EMPTY;
        if leaf == SoftLeaf::NONE || self.migration.core.is_zero(leaf) {
            if self.takes_holes {
                slot = Slot::HOLE;
                self.migration.has_holes = true;
            }
        } else if let Some(entry) = self.lock(leaf, &mut slot) {
            table.set_leaf(at, entry);
        }
        self.slots().push(slot);
    }

    /// Locks the folio of a page that is selected, fills the slot, and returns the migration entry to put in.
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
        self.migration.has_others = true;
        slot.src = source(target, access);
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
    fn is_selected_page(&mut self, target: Target, page: PageRef<'s>) -> bool {
        let on_device = matches!(target, Target::Device(_));
        self.chosen.knows(on_device, page.offset()).unwrap_or_else(|| {
            let device = page.device();
            let owner = (device != *self.migration.core.ram()).then(|| device.owner());
            self.chosen = Chosen::new(&self.request, device.range(), on_device, owner);
            self.chosen.is_selected
        })
    }
}
