//! Moving a mapping: each leaf goes to another address, and goes on to name its page. Linux: `mremap()`.
#![forbid(unsafe_code)]

use super::address::{Address, AddressRange, PAGES_PER_HUGE, huge_start};
use super::address_space::AddressSpace;
use super::entry::Entry;
use super::error::VmaError;
use super::inner::Inner;
use super::notifier::{Invalidation, InvalidationKind};
use super::page_table::{Span, index};
use super::table::ENTRIES;
use super::vma::Vma;
use crate::words::SoftLeaf;

impl<'s> AddressSpace<'s> {
    /// Moves what is mapped at `range` to `to`, where nothing may be mapped; the old range is unmapped, or with `keep` stays
    /// mapped, without pages.
    ///
    /// A page stays where it is, on the host or on a device, and its leaf keeps its marks. A huge leaf stays one if the
    /// old and the new address are both aligned to its 512 pages; otherwise it is taken apart. Linux: `mremap()` with
    /// `MREMAP_FIXED`, and `MREMAP_DONTUNMAP`.
    ///
    /// # Errors
    ///
    /// [`VmaError::NotMapped`] for a range with holes, [`VmaError::Overlap`] if something is mapped at `to` or the ranges
    /// overlap, [`VmaError::OutOfRange`] if it does not fit there; others as [`AddressSpace::unmap`]. Nothing has changed then, but
    /// that huge leaves may have been taken apart.
    pub fn remap(&self, range: AddressRange, to: Address, keep: bool) -> Result<(), VmaError> {
        let inner = &**self.inner();
        if to.in_page() != 0 {
            return Err(VmaError::OutOfRange);
        }
        let target = AddressRange::of_pages(to.vpn(), range.nr_pages()).ok_or(VmaError::OutOfRange)?;
        let _mapped = inner.map_lock.write();
        // Held for all of it: who looks for a folio's mappings sees them before or behind the move.
        let mut vmas = inner.vmas.write();
        vmas.check_mapped(range)?;
        if range.overlaps(target) {
            return Err(VmaError::Overlap { address: to.max(range.start()) });
        }
        vmas.check_free(target)?;
        inner.split_ends(range)?;
        if let Err(error) = inner.prepare_move(range, target) {
            inner.prune_range(target);
            return Err(error);
        }
        let _told = inner.notifiers.begin(Invalidation { range, kind: InvalidationKind::Unmap, owner: None });
        inner.move_leaves(range, target);
        inner.prune_range(target);
        for vma in vmas.remove(range) {
            let first = target.first() + (vma.range.first() - range.first());
            if let Some(moved) = AddressRange::of_pages(first, vma.range.nr_pages()) {
                vmas.insert(Vma { range: moved, ..vma.clone() });
            }
            if keep {
                vmas.insert(vma);
            }
        }
        Ok(())
    }
}

/// Whether runs of 512 pages lie alike in both ranges.
fn is_aligned_alike(range: AddressRange, target: AddressRange) -> bool {
    (range.first() ^ target.first()) & (PAGES_PER_HUGE - 1) == 0
}

impl Inner<'_> {
    /// Does what can fail: takes huge leaves apart that cannot stay so, and has tables made for what comes.
    fn prepare_move(&self, range: AddressRange, target: AddressRange) -> Result<(), VmaError> {
        let alike = is_aligned_alike(range, target);
        let mut vpn = range.first();
        while let Some(at) = self.table.next_used(vpn, range.end()) {
            let stop = (huge_start(at) + PAGES_PER_HUGE).min(range.end());
            let is_huge = matches!(self.table.span(at), Span::Huge(..));
            let (first, last) = (target.first() + (at - range.first()), target.first() + (stop - 1 - range.first()));
            if is_huge && alike {
                drop(self.table.huge(first)?);
            } else {
                self.split(at)?;
                drop(self.table.span_or_build(first)?);
                drop(self.table.span_or_build(last)?);
            }
            vpn = stop;
        }
        Ok(())
    }

    /// Takes out the tables of `range` that were made for leaves that did not come.
    fn prune_range(&self, range: AddressRange) {
        let mut vpn = range.first();
        while let Some(at) = self.table.next_used(vpn, range.end()) {
            self.table.prune(at);
            vpn = huge_start(at) + PAGES_PER_HUGE;
        }
    }

    /// Moves every leaf. Between the two tables a leaf stands in neither: nobody looks who may rely on it.
    fn move_leaves(&self, range: AddressRange, target: AddressRange) {
        let mut leaves = [SoftLeaf::NONE; ENTRIES];
        let done = self.for_each_span::<core::convert::Infallible>(range, |vpn, stop, span| {
            let first = target.first() + (vpn - range.first());
            let mut emptied = false;
            match span {
                Span::Empty => {}
                Span::Huge(mut middle, at) => {
                    let leaf = middle.leaf(at);
                    middle.set(at, Entry::NONE);
                    drop(middle);
                    self.put_huge(first, leaf);
                }
                Span::Small(mut table) => {
                    for (leaf, at) in leaves.iter_mut().zip(index(vpn, 0)..=index(stop - 1, 0)) {
                        *leaf = table.leaf(at);
                        table.set(at, Entry::NONE);
                    }
                    emptied = table.is_empty();
                    drop(table);
                    self.put(first, &leaves[..(stop - vpn) as usize]);
                }
            }
            if emptied {
                self.table.prune(vpn);
            }
            Ok(())
        });
        let Ok(()) = done;
    }

    fn put_huge(&self, vpn: u64, leaf: SoftLeaf) {
        // A table that an earlier unmapping left, or `prepare_move` made for a neighbour, is empty.
        self.table.prune(vpn);
        if let Ok((mut middle, at)) = self.table.huge(vpn) {
            debug_assert!(middle.entry(at) == Entry::NONE, "page {vpn:#x} is mapped");
            middle.set_leaf(at, leaf);
        }
    }

    /// Leaves from page `vpn` on, in one table or two.
    fn put(&self, mut vpn: u64, mut leaves: &[SoftLeaf]) {
        while !leaves.is_empty() {
            let here = ((huge_start(vpn) + PAGES_PER_HUGE - vpn) as usize).min(leaves.len());
            let (now, later) = leaves.split_at(here);
            if let Ok(Span::Small(mut table)) = self.table.span_or_build(vpn) {
                for (leaf, at) in now.iter().zip(index(vpn, 0)..) {
                    table.set_leaf(at, *leaf);
                }
            }
            (vpn, leaves) = (vpn + here as u64, later);
        }
    }
}
