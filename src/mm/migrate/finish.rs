//! The last phases: what moves is settled, and the entries become leaves.
#![forbid(unsafe_code)]

use super::slot::{Holder, Slot};
use super::unmap::{moving, part_of, restored};
use super::{Migration, Phase, folio_of};
use crate::folio::{Folio, LockedFolio};
use crate::mm::address::{PAGES_PER_HUGE, huge_start};
use crate::mm::entry::Entry;
use crate::mm::home::Home;
use crate::mm::inner::Inner;
use crate::mm::named::{dirtied, with_marks_of};
use crate::mm::notifier::{Invalidation, InvalidationKind};
use crate::mm::page_table::{Span, index};
use crate::mm::table::Locked;
use crate::mm::walk::{Part, Site, Tell};
use crate::words::{Access, Order, SoftLeaf};

impl<'s> Migration<'_, 's> {
    /// Settles what moves: each page that has a destination and is not pinned, and each hole that is one still. How many
    /// pages that is, those of holes and of compound slots included.
    ///
    /// The bytes must have been copied. Filled holes can be accessed from now on, and wait for the end; pages that move are
    /// at their new place at the end. The slots' migrate flags ([`Migration::src`]) tell which. Does nothing when called again.
    pub fn pages(&mut self) -> u64 {
        if self.phase != Phase::Collected {
            return 0;
        }
        self.phase = Phase::Moved;
        let range = self.place.as_ref().map(|place| place.range);
        let has_holes = self.batch.slots.iter().any(|slot| slot.is_hole() && slot.dst.is_some());
        let told = match (&self.place, range) {
            (Some(place), Some(range)) if has_holes => {
                let kind = InvalidationKind::Migrate;
                Some(place.space.notifiers.begin(Invalidation { range, kind, owner: self.owner }))
            }
            _ => None,
        };
        let mut moved = 0;
        for slot in 0..self.nr_slots() {
            if !self.batch.slots[slot].is_moving() {
                continue;
            }
            let nr_pages = if self.batch.slots[slot].is_compound() { PAGES_PER_HUGE } else { 1 };
            if self.batch.slots[slot].is_part && self.batch.slots[slot].index == 0 {
                self.take_leaves_apart(slot);
            }
            let moves = if self.batch.slots[slot].is_hole() { self.fill(slot) } else { self.rehome(slot) };
            if moves {
                moved += nr_pages;
            } else {
                let slot = &mut self.batch.slots[slot];
                slot.src = slot.src.with_migrate(false);
                slot.dst = None;
            }
        }
        drop(told);
        moved
    }

    /// Ends the migration: every page is where it belongs, unlocked, and sources that moved are freed to their drivers.
    pub fn finalize(mut self) {
        self.finish();
    }

    /// The head of a compound slot that goes page by page: its huge entries are replaced by 512, wherever they are. Where there is no
    /// memory for that, nothing of it moves.
    fn take_leaves_apart(&mut self, head: usize) {
        let mut done = true;
        if let Some(place) = &self.place {
            done &= place.space.split(place.range.first() + head as u64).is_ok();
        }
        if let (true, Some(folio)) = (self.batch.slots[head].has_others, self.folio_of(head)) {
            self.core.walk(folio, Part::whole(folio), u32::MAX, &Tell::Nobody, |site: Site<'_, '_, 's>| {
                done &= !site.is_huge || site.space.split_locked(site.table, site.at).is_ok();
            });
        }
        if !done {
            for slot in &mut self.batch.slots[head..head + PAGES_PER_HUGE as usize] {
                slot.dst = None;
            }
        }
    }

    /// Whether the page of a slot goes to its destination, which is then known to be mapped where the page is.
    fn rehome(&mut self, index: usize) -> bool {
        let slot = &self.batch.slots[index];
        let (Some(folio), Some(dst)) = (self.folio_of(index), &slot.dst) else { return false };
        let Some(home) = self.core.home(folio) else { return false };
        self.is_unpinned(index)
            && self.core.set_home(dst, Home { index: home.index + u64::from(slot.index), ..home }).is_ok()
    }

    /// Maps the destination of a hole, if it still is one.
    fn fill(&mut self, index: usize) -> bool {
        let (Some(place), Some(dst)) = (&self.place, &self.batch.slots[index].dst) else { return false };
        let vpn = place.range.first() + index as u64;
        let home = Home { space: place.space.id(), index: place.vma.index_of(vpn), is_anon: true };
        let access = if place.vma.protection.allows(Access::Write) { Access::Write } else { Access::Read };
        if self.core.set_home(dst, home).is_err() {
            return false;
        }
        let is_hole = |leaf: SoftLeaf| leaf == SoftLeaf::NONE || self.core.is_zero(leaf);
        let (mut table, at) = if dst.order() == Order::HUGE {
            match place.space.table.huge(vpn) {
                Ok(locked) => locked,
                Err(_) => return false,
            }
        } else {
            match place.space.table.span_or_build(vpn) {
                Ok(Span::Small(table)) => (table, index_of(vpn)),
                _ => return false,
            }
        };
        // A table below is no hole: somebody has put something in.
        if !is_hole(table.leaf(at)) {
            return false;
        }
        let Ok(leaf) = self.core.map_page(dst, 0, access) else { return false };
        let before = table.leaf(at);
        table.set_leaf(at, leaf.with_marks_of(before));
        true
    }

    /// Every entry becomes a leaf again, and then locks and references go.
    pub(super) fn finish(&mut self) {
        if self.phase == Phase::Collected {
            // Nothing was settled, so nothing moves.
            self.batch.slots.iter_mut().for_each(|slot| slot.dst = None);
        }
        if self.phase == Phase::Done {
            return;
        }
        self.phase = Phase::Done;
        self.restore_own();
        for index in 0..self.nr_slots() {
            self.restore_others(index);
        }
        // Unlocks and puts the sources, which wakes who waits, and the destinations; last of all, and under no lock of ours,
        // since drivers are called.
        self.batch.slots.clear();
    }

    /// The entries of the range itself, with each table locked once.
    fn restore_own(&mut self) {
        let Some(place) = &self.place else { return };
        let slots = &mut self.batch.slots;
        let mut first = 0;
        while first < slots.len() {
            let vpn = place.range.first() + first as u64;
            let behind = (first + (huge_start(vpn) + PAGES_PER_HUGE - vpn) as usize).min(slots.len());
            if slots[first..behind].iter().any(|slot| slot.is_unmapped) {
                match place.space.table.span(vpn) {
                    Span::Empty => {}
                    Span::Huge(mut middle, at) => {
                        let folio = folio_of(slots, self.fault, first);
                        place.space.restore(&mut middle, at, 0, &slots[first], folio);
                    }
                    Span::Small(mut table) => {
                        for slot in first..behind {
                            if !slots[slot].is_unmapped {
                                continue;
                            }
                            let at = index_of(vpn + (slot - first) as u64);
                            if place.space.restore_single(&mut table, at, &mut slots[slot], self.fault) {
                                continue;
                            }
                            let folio = folio_of(slots, self.fault, slot);
                            // The entry of a compound slot may have been taken apart.
                            let pages = if slots[slot].is_compound() { PAGES_PER_HUGE } else { 1 };
                            for page in 0..pages {
                                place.space.restore(&mut table, at + page as usize, page, &slots[slot], folio);
                            }
                        }
                    }
                }
            }
            first = behind;
        }
    }

    /// The entries of slot `index` elsewhere.
    pub(super) fn restore_others(&self, index: usize) {
        let slot = &self.batch.slots[index];
        let (true, true, Some(folio)) = (slot.is_unmapped, slot.has_others, self.folio_of(index)) else { return };
        self.core.walk(folio, part_of(slot, folio), u32::MAX, &Tell::Nobody, |site: Site<'_, '_, 's>| {
            let page = site.index.wrapping_sub(slot.index.into());
            site.space.restore(site.table, site.at, page, slot, Some(folio));
        });
    }
}

#[inline]
fn index_of(vpn: u64) -> usize {
    index(vpn, 0)
}

impl<'s> Inner<'s> {
    /// The entry at `at`, if it is one of the slot's folio, becomes a leaf of page `page` of the slot's destination, or what it was.
    pub(super) fn restore(
        &self,
        table: &mut Locked<'_>,
        at: usize,
        page: u64,
        slot: &Slot<'s>,
        folio: Option<&Folio<'s>>,
    ) {
        let (Some(folio), entry) = (folio, table.leaf(at)) else { return };
        let Some(moving) = moving(entry) else { return };
        if self.core().index_of(moving.target, folio).is_none() {
            return;
        }
        let dst = slot.dst.as_ref().map(|dst| (&**dst, page));
        if let Some(leaf) = restored(self.core(), entry, moving.access, folio, dst) {
            table.set(at, Entry::leaf(leaf));
        }
    }

    /// The same for a slot whose one leaf is all that there is: the destination's own reference moves into it. `false` for all
    /// other slots.
    #[inline]
    fn restore_single(
        &self,
        table: &mut Locked<'_>,
        at: usize,
        slot: &mut Slot<'s>,
        fault: Option<&LockedFolio<'s>>,
    ) -> bool {
        let src = match (&slot.holder, fault) {
            (Holder::Own(src), _) | (Holder::Fault, Some(src)) => src,
            _ => return false,
        };
        if slot.has_others || slot.is_compound() {
            return false;
        }
        let entry = table.leaf(at);
        let Some(moving) = moving(entry).filter(|moving| self.core().index_of(moving.target, src).is_some()) else {
            return false;
        };
        let Some(dst) = slot.dst.take() else { return false };
        // Nobody waits for a folio that no leaf has named yet; who waits for the page waits for the source.
        let dst = dst.unlock();
        let is_home = self.core().is_host(&dst) && !self.core().is_host(src);
        let leaf = with_marks_of(self.core().leaf_of(dst, moving.access), entry);
        table.set_leaf(at, if is_home { dirtied(leaf) } else { leaf });
        let had = src.unmap_one();
        debug_assert!(had, "{entry:?} owned a reference of its folio");
        true
    }

    /// The same for the entry of one slot, at `vpn`.
    pub(super) fn restore_page(&self, vpn: u64, slot: &Slot<'s>, folio: Option<&Folio<'s>>) {
        match self.table.span(vpn) {
            Span::Empty => {}
            Span::Huge(mut middle, at) => self.restore(&mut middle, at, 0, slot, folio),
            Span::Small(mut table) => self.restore(&mut table, index_of(vpn), 0, slot, folio),
        }
    }
}
