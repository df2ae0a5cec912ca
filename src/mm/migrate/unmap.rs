//! The second phase: entries at the other mappings of what was collected, and the pin check.
#![forbid(unsafe_code)]

use super::slot::{Holder, Slot};
use super::{Migration, folio_of};
use crate::folio::Folio;
use crate::mm::machine::Core;
use crate::mm::named::{How, Named, dirtied, migration_of, named, with_marks_of};
use crate::mm::notifier::InvalidationKind;
use crate::mm::walk::{Part, Site, Tell};
use crate::words::{Access, MigrateEntry, Order, SoftLeaf};

/// References of a folio that are ours: the handle that holds its lock.
const OURS: u32 = 1;

/// The pages of a folio that a slot is about: all, if it is compound or the folio is one page.
pub(super) fn part_of(slot: &Slot<'_>, folio: &Folio<'_>) -> Part {
    if folio.order() == Order::ZERO || slot.is_compound() { Part::whole(folio) } else { Part::page(slot.index.into()) }
}

impl<'s> Migration<'_, 's> {
    /// Puts entries in at every other mapping, and gives up what is pinned.
    pub(super) fn unmap(&mut self) {
        let mut index = 0;
        while index < self.nr_slots() {
            if self.batch.slots[index].is_single || matches!(self.batch.slots[index].holder, Holder::Nobody) {
                index += 1;
                continue;
            }
            let behind = self.same_folio_until(index);
            if let Some(folio) = self.folio_of(index) {
                // Each slot's own leaf is an entry already, if there is one.
                let own = if self.place.is_some() { (behind - index) as u32 } else { 0 };
                let has_others = folio.maps() > own;
                let is_free = (!has_others || self.unmap_others(index, behind)) && self.is_unpinned(index);
                for slot in index..behind {
                    self.batch.slots[slot].has_others = has_others;
                    if !is_free {
                        self.refuse(slot);
                    }
                }
            }
            index = behind;
        }
    }

    /// The first slot behind `index` that is not for a page of the same folio.
    fn same_folio_until(&self, index: usize) -> usize {
        let slots = &self.batch.slots;
        let root = |slot: usize| match slots[slot].holder {
            Holder::Slot(other) => other as usize,
            // Slots whose lock is the fault's are all of one folio.
            Holder::Fault => usize::MAX,
            _ => slot,
        };
        let first = root(index);
        (index + 1..slots.len()).find(|&slot| root(slot) != first).unwrap_or(slots.len())
    }

    /// Puts entries in wherever else the pages of slots `index..behind` are mapped; `false` if one cannot be.
    fn unmap_others(&self, index: usize, behind: usize) -> bool {
        let Some(folio) = self.folio_of(index) else { return false };
        let tell = Tell::Everybody(InvalidationKind::Migrate, self.owner);
        (index..behind).all(|slot| {
            let part = part_of(&self.batch.slots[slot], folio);
            let is_whole = part == Part::whole(folio);
            let (mut all, mut left) = (true, false);
            let found = self.core.walk(folio, part, u32::MAX, &tell, |site: Site<'_, '_, 's>| {
                if named(site.leaf).is_some_and(|named| named.how == How::Migration) {
                    return;
                }
                // A huge leaf elsewhere, of whose pages we move some: it is taken apart there, and looked at again.
                if site.is_huge && !is_whole {
                    left |= site.space.split_locked(site.table, site.at).is_ok();
                    all &= left;
                    return;
                }
                match migration_of(site.leaf, false) {
                    Some(entry) => site.table.set_leaf(site.at, entry),
                    None => all = false,
                }
            });
            if left {
                return all && self.unmap_others(slot, slot + 1);
            }
            // Whoever maps the folio where the walk does not come to (nobody does) pins it.
            all && (!is_whole || found >= folio.maps())
        })
    }

    /// Whether nobody has a reference of the slot's folio but leaves and we.
    pub(super) fn is_unpinned(&self, index: usize) -> bool {
        self.folio_of(index).is_some_and(|folio| folio.extra_refs(OURS) == 0)
    }

    /// Puts the page of slot `index` back, and the slot is empty.
    fn refuse(&mut self, index: usize) {
        if let Some(place) = &self.place {
            let vpn = place.range.first() + index as u64;
            place.space.restore_page(vpn, &self.batch.slots[index], self.folio_of(index));
        }
        self.restore_others(index);
        let slot = &mut self.batch.slots[index];
        slot.src = MigrateEntry::EMPTY;
        slot.is_unmapped = false;
        // The lock goes at once, unless slots behind it are for the same folio. It is not the last reference: there is a
        // leaf, or somebody who pins.
        let is_shared = folio_of(&self.batch.slots, None, index).is_some_and(|folio| folio.order() > Order::ZERO);
        if !is_shared {
            self.batch.slots[index].holder = Holder::Nobody;
        }
    }
}

/// What a migration entry becomes: a leaf of page `dst.1` of `dst.0`, or what it was.
#[inline]
pub(super) fn restored<'s>(
    core: &Core<'s>,
    entry: SoftLeaf,
    access: Access,
    src: &Folio<'s>,
    dst: Option<(&Folio<'s>, u64)>,
) -> Option<SoftLeaf> {
    if let Some((dst, index)) = dst {
        // Full only if half a million leaves are to map it: then those beyond stay with the source, which has the same bytes.
        if let Ok(leaf) = core.map_page(dst, index, access) {
            let had = src.unmap_one();
            debug_assert!(had, "{entry:?} owned a reference of its folio");
            return Some(moved_leaf(core, leaf, entry, src, dst));
        }
    }
    entry.from_migration()
}

/// A leaf of the destination, with the marks of the entry. What comes from a device may have been written there, and nothing
/// marks that in a leaf.
#[inline]
pub(super) fn moved_leaf<'s>(
    core: &Core<'s>,
    leaf: SoftLeaf,
    entry: SoftLeaf,
    src: &Folio<'s>,
    dst: &Folio<'s>,
) -> SoftLeaf {
    let leaf = with_marks_of(leaf, entry);
    if !core.is_host(src) && core.is_host(dst) { dirtied(leaf) } else { leaf }
}

/// What a leaf allowed whose migration entry this is, and the page; `None` for every other word.
#[inline]
pub(super) fn moving(entry: SoftLeaf) -> Option<Named> {
    named(entry).filter(|named| named.how == How::Migration)
}
