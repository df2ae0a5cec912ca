//! [`Inner`]: one address space: its mappings, its tables, its locks, and what every operation does to its leaves.
//!
//! | lock       | held shared by                               | held exclusively by                          |
//! |------------|----------------------------------------------|----------------------------------------------|
//! | `map_lock` | faults, migrations, snapshots, accesses      | map, unmap, protect, remap, fork, teardown   |
//! | `vmas`     | whoever looks for a folio's mappings from outside; for a look, whoever holds `map_lock` | the same, while they change mappings or move leaves |
//! | a table's  |                                              | whoever relies on a leaf in it, or changes it |
//!
//! In this order: `map_lock`, a folio's lock, `vmas`, a middle table's, a table's below it. A folio's lock is only waited for without
//! any of those behind it, and without `map_lock` exclusively (but for `fork`, see there); inside a batch it is tried. Drivers'
//! callbacks run under `map_lock` shared at most, or, of notifiers, under any of the first three.
#![forbid(unsafe_code)]

use std::sync::Arc;

use super::address::{AddressRange, PAGES_PER_HUGE, huge_start};
use super::entry::Entry;
use super::error::{MachineError, VmaError};
use super::gather::Gather;
use super::lock::{MapLock, Mapped, RwLock};
use super::machine::Core;
use super::notifier::Notifiers;
use super::page_table::{Cursor, PageTable, Span, index};
use super::pages::offset_of;
use super::table::{ENTRIES, Locked};
use super::vma::{Area, Vma, Vmas};
use crate::error::TooManyRefs;
use crate::words::{Access, LeafKind, SoftLeaf};

/// See the [module](self).
pub(super) struct Inner<'s> {
    core: Arc<Core<'s>>,
    id: u32,
    pub(super) table: PageTable,
    pub(super) map_lock: MapLock,
    pub(super) vmas: RwLock<Vmas<'s>>,
    pub(super) notifiers: Notifiers,
}

impl<'s> Inner<'s> {
    pub(super) fn new(core: &Arc<Core<'s>>) -> Result<Inner<'s>, MachineError> {
        Ok(Inner {
            core: Arc::clone(core),
            id: core.next_id(),
            table: PageTable::new()?,
            map_lock: MapLock::new(),
            vmas: RwLock::new(Vmas::default()),
            notifiers: Notifiers::new(),
        })
    }

    #[inline]
    pub(super) fn core(&self) -> &Arc<Core<'s>> {
        &self.core
    }

    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// The mapping of page `vpn`. For a holder of `map_lock`, for whom it stays what it is.
    #[inline]
    pub(super) fn vma(&self, vpn: u64) -> Option<Vma<'s>> {
        self.vmas.read().find(vpn).cloned()
    }

    /// The same without its object, and where to look for its leaves, mostly from what the caller's part of the lock remembers.
    #[inline]
    pub(super) fn area(&self, mapped: &Mapped<'_>, vpn: u64) -> Option<(Area, Cursor<'_>)> {
        let (area, trace) = mapped.look(vpn, || self.vmas.read().find(vpn).map(Vma::area), || self.table.trace(vpn))?;
        Some((area, self.table.cursor(trace)))
    }

    /// Calls `each` with what stands in each run of 512 pages that `range` has pages of, and the pages of the range there.
    /// What has no table is passed over.
    pub(super) fn for_each_span<E>(
        &self,
        range: AddressRange,
        mut each: impl FnMut(u64, u64, Span<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut vpn = range.first();
        while let Some(at) = self.table.next_used(vpn, range.end()) {
            let stop = (huge_start(at) + PAGES_PER_HUGE).min(range.end());
            each(at, stop, self.table.span(at))?;
            vpn = stop;
        }
        Ok(())
    }

    /// Takes all leaves of `range` out that are not to be kept, and drops their references. Huge leaves that it cuts must have
    /// been split.
    pub(super) fn zap(&self, range: AddressRange, is_kept: impl Fn(SoftLeaf) -> bool) {
        let mut gather = Gather::new(&self.core, range.nr_pages());
        let done = self.for_each_span::<core::convert::Infallible>(range, |vpn, stop, span| {
            let mut emptied = false;
            match span {
                Span::Empty => {}
                Span::Huge(mut middle, at) => {
                    gather.push(middle.leaf(at));
                    middle.set(at, Entry::NONE);
                }
                Span::Small(mut table) => {
                    for at in index(vpn, 0)..=index(stop - 1, 0) {
                        let leaf = table.leaf(at);
                        if leaf != SoftLeaf::NONE && !is_kept(leaf) {
                            table.set(at, Entry::NONE);
                            gather.push(leaf);
                        }
                    }
                    emptied = table.is_empty();
                }
            }
            if emptied {
                self.table.prune(vpn);
            }
            gather.flush();
            Ok(())
        });
        let Ok(()) = done;
    }

    /// Splits the huge leaves that begin before `range` or end behind it.
    pub(super) fn split_ends(&self, range: AddressRange) -> Result<(), VmaError> {
        for vpn in [range.first(), range.end()] {
            if vpn != huge_start(vpn) {
                self.split(vpn)?;
            }
        }
        Ok(())
    }

    /// Replaces the huge leaf around `vpn`, if there is one, by 512 leaves of its pages. The folio stays whole: it has 511
    /// more references, each a leaf's. Linux: `__split_huge_pmd()`.
    pub(super) fn split(&self, vpn: u64) -> Result<(), VmaError> {
        if let Span::Huge(mut middle, at) = self.table.span(vpn) {
            self.split_locked(&mut middle, at)?;
        }
        Ok(())
    }

    pub(super) fn split_locked(&self, middle: &mut Locked<'_>, at: usize) -> Result<(), VmaError> {
        let huge = middle.leaf(at);
        let mut refused = None;
        self.table.attach(middle, at, |table| {
            let split = self.pages_of_huge(huge, table);
            let is_split = split.is_ok();
            refused = split.err();
            is_split
        })?;
        match refused {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    /// Writes the 512 leaves that `huge` is replaced by into an empty table; on failure it is empty again. The first is the
    /// huge leaf itself, whose reference it goes on to own. Every mark rides along.
    fn pages_of_huge(&self, huge: SoftLeaf, table: &mut Locked<'_>) -> Result<(), TooManyRefs> {
        let core = &*self.core;
        if core.is_zero(huge) {
            let zero = SoftLeaf::present(core.zero(), Access::Read).with_marks_of(huge);
            (0..ENTRIES).for_each(|at| table.set_leaf(at, zero));
            return Ok(());
        }
        let Some(folio) = core.page(huge).and_then(|page| page.try_get()) else { return Err(TooManyRefs::met()) };
        let access = huge.access().unwrap_or(Access::Read);
        table.set_leaf(0, huge);
        for at in 1..ENTRIES {
            let leaf = match core.map_page(&folio, at as u64, access) {
                Ok(leaf) => leaf.with_marks_of(huge),
                Err(error) => {
                    for at in 1..at {
                        let leaf = table.leaf(at);
                        table.set(at, Entry::NONE);
                        // Not the last: the huge leaf and our handle have one each.
                        core.unmap(leaf);
                    }
                    table.set(0, Entry::NONE);
                    return Err(error);
                }
            };
            let leaf = match huge.kind() {
                LeafKind::Migration(access) => leaf.to_migration(access).unwrap_or(leaf),
                _ => leaf,
            };
            table.set_leaf(at, leaf);
        }
        Ok(())
    }

    /// Waits until the folio that `leaf` names is not locked, without a reference. The caller looked at the leaf under its
    /// lock, has let go of it, and will look again.
    pub(super) fn wait_unlocked(&self, leaf: SoftLeaf) {
        const LIMIT: core::time::Duration = core::time::Duration::from_secs(1);
        // A limit only so that nobody sleeps for good beside a leaf that has changed for another reason.
        match (leaf.offset(), leaf.pfn()) {
            (Some(_), _) => drop(self.core.space().wait_unlocked(leaf, LIMIT)),
            (None, Some(pfn)) => {
                if let Some(page) = self.core.frames().page(offset_of(pfn)) {
                    page.wait_unlocked(LIMIT);
                }
            }
            _ => {}
        }
    }
}

impl Drop for Inner<'_> {
    /// What an unwinding teardown left.
    fn drop(&mut self) {
        if let Some(all) = AddressRange::of_pages(0, 1 << super::address::VPN_BITS) {
            self.zap(all, |_| false);
        }
    }
}
