//! The slots of nearly all pages: of order 0, mapped by the leaf that was collected and by no other, and had by nobody else. They go
//! through each phase by themselves, by one atomic operation for each folio and phase.
//!
//! Whatever is not so when it is looked at, takes the general way; so does a slot whose entry somebody has changed meanwhile.
#![forbid(unsafe_code)]

use super::Migration;
use super::collect::Chosen;
use super::slot::{Holder, Slot, source};
use crate::folio::{Folio, LockedFolio};
use crate::mm::machine::Core;
use crate::mm::named::{How, Named, dirtied, is_alike, migration_of_named, named, with_marks_of};
use crate::mm::page_table::{Span, index};
use crate::mm::pages::offset_of;
use crate::mm::table::Locked;
use crate::words::{SoftLeaf, Target};

/// The slot of a single page that is selected, locked, with the entry that is to be put in.
#[inline(always)]
pub(super) fn single<'s>(
    core: &Core<'s>,
    fault: Option<&LockedFolio<'s>>,
    chosen: &Chosen,
    leaf: SoftLeaf,
) -> Option<Slot<'s>> {
    let named = named(leaf)?;
    let holder = match named {
        Named { how: How::Present, target: Target::Host(pfn), .. } => {
            let page = offset_of(pfn);
            if !(chosen.knows(false, page)? && core.is_host_anon(page)) {
                return None;
            }
            // The zero page has no leaf's reference.
            Holder::Own(core.frames().lock_single(page)?)
        }
        Named { how: How::Private, target: Target::Device(page), .. } if leaf.is_direct() => {
            if !(chosen.knows(true, page)? && core.is_device_anon(page)) {
                return None;
            }
            match fault {
                Some(fault) if fault.offset() == page => {
                    if !fault.is_locked_of_one_leaf() {
                        return None;
                    }
                    Holder::Fault
                }
                _ => Holder::Own(core.space().lock_direct(leaf)?),
            }
        }
        _ => return None,
    };
    Some(Slot {
        src: source(named.target, named.access),
        entry: migration_of_named(leaf, named, true)?,
        holder,
        is_unmapped: true,
        is_single: true,
        ..Slot::EMPTY
    })
}

impl<'s> Migration<'_, 's> {
    /// Collects a range of one page, if that is single; otherwise `false`, and nothing has changed.
    #[inline(always)]
    pub(super) fn collect_one(&mut self, chosen: &Chosen) -> bool {
        let Some(place) = &mut self.place else { return false };
        let vpn = place.range.first();
        let Span::Small(mut table) = place.cursor.span(vpn) else { return false };
        let at = index(vpn, 0);
        let Some(slot) = single(&self.core, self.fault, chosen, table.leaf(at)) else { return false };
        table.replace_leaf(at, slot.entry);
        self.batch.slots.push(slot);
        true
    }

    /// Ends a migration of one page that is single and has moved; otherwise `false`, and nothing has changed.
    #[inline(always)]
    pub(super) fn finish_one(&mut self) -> bool {
        let (Some(place), [slot]) = (&mut self.place, &mut self.batch.slots[..]) else { return false };
        if !slot.is_single {
            return false;
        }
        let vpn = place.range.first();
        let Span::Small(mut table) = place.cursor.span(vpn) else { return false };
        if !slot.restore_single(&self.core, &mut table, index(vpn, 0)) {
            return false;
        }
        drop(table);
        // No lock of ours is held any more.
        match core::mem::replace(&mut slot.holder, Holder::Nobody) {
            Holder::Own(src) => src.let_go_alone(),
            _ => _ = self.fault.is_some_and(|src| src.unmap_one()),
        }
        true
    }
}

impl<'s> Slot<'s> {
    /// The source of a single page.
    #[inline(always)]
    fn single_source<'x>(&'x self, fault: Option<&'x LockedFolio<'s>>) -> Option<&'x Folio<'s>> {
        match &self.holder {
            Holder::Own(folio) => Some(folio),
            Holder::Fault => fault.map(|folio| &**folio),
            _ => None,
        }
    }

    /// Whether a single page goes to its destination, which is then known to be mapped where the page is.
    #[inline(always)]
    pub(super) fn settle_single(&self, core: &Core<'s>, fault: Option<&LockedFolio<'s>>) -> bool {
        let (Some(src), Some(dst)) = (self.single_source(fault), &self.dst) else { return false };
        src.is_locked_of_one_leaf() && core.move_home(src, dst)
    }

    /// The entry of a single page becomes a leaf of the destination, whose own reference moves into it. `false` if there is
    /// no destination, or another entry.
    #[inline(always)]
    pub(super) fn restore_single(&mut self, core: &Core<'s>, table: &mut Locked<'_>, at: usize) -> bool {
        let entry = table.leaf(at);
        if !is_alike(entry, self.entry) {
            return false;
        }
        let Some(dst) = self.dst.take() else { return false };
        // What comes from a device may have been written there, and nothing marks that in a leaf.
        let is_home = self.is_on_device() && core.is_host(&dst);
        // Nobody waits for a folio that no leaf has named yet; who waits for the page waits for the source.
        let leaf = with_marks_of(core.leaf_of_locked(dst, self.access()), entry);
        table.replace_leaf(at, if is_home { dirtied(leaf) } else { leaf });
        self.is_moved = true;
        true
    }
}

impl Migration<'_, '_> {
    /// Unlocks and puts the sources, which wakes who waits, and destinations that are left; sources that end so do it together.
    /// Under no lock of ours, since drivers are called.
    pub(super) fn release(&mut self) {
        let core = &**self.core;
        let mut endings = core.endings();
        for slot in self.batch.slots.drain(..) {
            match slot.holder {
                Holder::Own(src) => {
                    let endings = if core.is_host(&src) { &mut endings.host } else { &mut endings.device };
                    if slot.is_moved { src.let_go(endings) } else { src.put_into(endings) }
                }
                Holder::Fault if slot.is_moved => {
                    let had = self.fault.is_some_and(|src| src.unmap_one());
                    debug_assert!(had, "the entry owned a reference of its folio");
                }
                _ => {}
            }
            if let Some(dst) = slot.dst {
                let endings = if core.is_host(&dst) { &mut endings.host } else { &mut endings.device };
                dst.put_into(endings);
            }
        }
        endings.finish();
    }
}
