//! The last phases: what moves is settled, and the entries become leaves.
#![forbid(unsafe_code)]

use super::slot::Slot;
use super::unmap::{moving, part_of, restored};
use super::{Migration, Phase, folio_of};
use crate::folio::Folio;
use crate::mm::address::{PAGES_PER_HUGE, huge_start};
use crate::mm::entry::Entry;
use crate::mm::home::Home;
use crate::mm::inner::Inner;
use crate::mm::notifier::{Invalidation, InvalidationKind};
use crate::mm::page_table::{Span, index};
use crate::mm::table::Locked;
use crate::mm::walk::{Part, Site, Tell};
use crate::words::{Order, SoftLeaf};

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
        let _told = match &self.place {
            Some(place) if self.has_holes => {
                let invalidation =
                    Invalidation { range: place.range, kind: InvalidationKind::Migrate, owner: self.owner };
                Some(place.space.notifiers.begin(invalidation))
            }
            _ => None,
        };
        let mut moved = 0;
        for index in 0..self.nr_slots() {
            let slot = &mut self.batch.slots[index];
            if slot.is_single && slot.settle_single(&self.core, self.fault) {
                moved += 1;
            } else if slot.is_moving() {
                moved += self.settle(index);
            }
        }
        moved
    }

    /// Settles slot `index`, which is to move; how many pages do.
    #[inline(never)]
    fn settle(&mut self, index: usize) -> u64 {
        let slot = &self.batch.slots[index];
        let nr_pages = if slot.is_compound() { PAGES_PER_HUGE } else { 1 };
        if slot.is_part && slot.index == 0 {
            self.take_leaves_apart(index);
        }
        let moves = if self.batch.slots[index].is_hole() { self.fill(index) } else { self.rehome(index) };
        if moves {
            return nr_pages;
        }
        let slot = &mut self.batch.slots[index];
        slot.src = slot.src.with_migrate(false);
        slot.dst = None;
        0
    }

    /// Ends the migration: every page is where it belongs, unlocked, and sources that moved are freed to their drivers.
    #[inline]
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
        let home = Home { space: place.space.id(), index: place.first_index + index as u64, is_anon: true };
        let access = place.access;
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
        if self.finish_one() {
            return;
        }
        self.finish_all();
    }

    #[inline(never)]
    fn finish_all(&mut self) {
        self.restore_own();
        if self.has_others {
            for index in 0..self.nr_slots() {
                self.restore_others(index);
            }
        }
        self.release();
    }

    /// The entries of the range itself, with each table locked once.
    fn restore_own(&mut self) {
        let Some(place) = &mut self.place else { return };
        let (core, slots) = (&**self.core, &mut self.batch.slots);
        let mut first = 0;
        while first < slots.len() {
            let vpn = place.range.first() + first as u64;
            let behind = (first + (huge_start(vpn) + PAGES_PER_HUGE - vpn) as usize).min(slots.len());
            if slots[first..behind].iter().any(|slot| slot.is_unmapped) {
                match place.cursor.span(vpn) {
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
                            if slots[slot].is_single && slots[slot].restore_single(core, &mut table, at) {
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

    /// The same for the entry of one slot, at `vpn`.
    pub(super) fn restore_page(&self, vpn: u64, slot: &Slot<'s>, folio: Option<&Folio<'s>>) {
        match self.table.span(vpn) {
            Span::Empty => {}
            Span::Huge(mut middle, at) => self.restore(&mut middle, at, 0, slot, folio),
            Span::Small(mut table) => self.restore(&mut table, index_of(vpn), 0, slot, folio),
        }
    }
}
