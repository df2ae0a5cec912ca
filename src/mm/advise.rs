//! What a program says of memory that it may not need again. Linux: `madvise()`.
#![forbid(unsafe_code)]

use super::address::{AddressRange, PAGES_PER_HUGE, huge_start};
use super::address_space::AddressSpace;
use super::entry::Entry;
use super::error::VmaError;
use super::gather::Gather;
use super::inner::Inner;
use super::notifier::{Invalidation, InvalidationKind};
use super::page_table::{Span, index};
use super::vma::Backing;
use crate::words::{Access, LeafKind, SoftLeaf};

impl AddressSpace<'_> {
    /// Drops the pages of `range`, which stay mapped: anonymous memory reads as zero again. Linux: `MADV_DONTNEED`.
    ///
    /// A page on a device goes like any other, and one on its way stays with whoever moves it.
    ///
    /// # Errors
    ///
    /// [`VmaError::NotMapped`] for a range with holes; others as [`AddressSpace::unmap`].
    pub fn advise_dont_need(&self, range: AddressRange) -> Result<(), VmaError> {
        let inner = &**self.inner();
        let _mapped = inner.map_lock.write();
        inner.vmas.read().check_mapped(range)?;
        inner.split_ends(range)?;
        let _told = inner.notifiers.begin(Invalidation { range, kind: InvalidationKind::Clear, owner: None });
        inner.zap(range, Inner::outlives_pages);
        Ok(())
    }

    /// Says that the content of `range` is not needed unless it is written again: until then
    /// [`AddressSpace::reclaim`] may drop its pages. Linux: `MADV_FREE`.
    ///
    /// Concerns host pages of anonymous mappings that nobody else has; each leaf loses its dirty and young marks. Pages
    /// on devices, on their way, or a device's own for a while are passed over, huge or not.
    ///
    /// # Errors
    ///
    /// As [`AddressSpace::advise_dont_need`]; [`VmaError::WrongBacking`] for mappings that are not anonymous.
    pub fn advise_free(&self, range: AddressRange) -> Result<(), VmaError> {
        let inner = &**self.inner();
        let _mapped = inner.map_lock.write();
        inner.check_anonymous(range)?;
        inner.split_freeable_ends(range)?;
        let _told = inner.notifiers.begin(Invalidation { range, kind: InvalidationKind::Clear, owner: None });
        let clean =
            |leaf: SoftLeaf| if inner.may_be_freed(leaf) { leaf.with_young(false).with_dirty(false) } else { leaf };
        inner.rewrite(range, clean);
        Ok(())
    }

    /// Drops the host pages of `range` that were not written since [`AddressSpace::advise_free`] was called on them; how
    /// many. Linux: reclaim of lazily freed pages.
    ///
    /// # Errors
    ///
    /// As [`AddressSpace::advise_free`].
    pub fn reclaim(&self, range: AddressRange) -> Result<u64, VmaError> {
        let inner = &**self.inner();
        let _mapped = inner.map_lock.write();
        inner.check_anonymous(range)?;
        inner.split_freeable_ends(range)?;
        let _told = inner.notifiers.begin(Invalidation { range, kind: InvalidationKind::Clear, owner: None });
        let mut gather = Gather::new(inner.core(), range.nr_pages());
        let mut dropped = 0;
        let done = inner.for_each_span::<core::convert::Infallible>(range, |vpn, stop, span| {
            let mut emptied = false;
            match span {
                Span::Empty => {}
                // One that the range cuts was not to be freed when the ends were looked at.
                Span::Huge(..) if stop - vpn < PAGES_PER_HUGE => {}
                Span::Huge(mut middle, at) => {
                    let leaf = middle.leaf(at);
                    if !leaf.is_dirty() && inner.may_be_freed(leaf) {
                        middle.set(at, Entry::NONE);
                        gather.push(leaf);
                        dropped += stop - vpn;
                    }
                }
                Span::Small(mut table) => {
                    for at in index(vpn, 0)..=index(stop - 1, 0) {
                        let leaf = table.leaf(at);
                        if !leaf.is_dirty() && inner.may_be_freed(leaf) {
                            table.set(at, Entry::NONE);
                            gather.push(leaf);
                            dropped += 1;
                        }
                    }
                    emptied = table.is_empty();
                }
            }
            if emptied {
                inner.table.prune(vpn);
            }
            gather.flush();
            Ok(())
        });
        let Ok(()) = done;
        Ok(dropped)
    }
}

impl Inner<'_> {
    pub(super) fn check_anonymous(&self, range: AddressRange) -> Result<(), VmaError> {
        let vmas = self.vmas.read();
        vmas.check_mapped(range)?;
        match vmas.overlapping(range).find(|vma| !matches!(vma.backing, Backing::Anonymous)) {
            Some(vma) => Err(VmaError::WrongBacking { address: vma.range.start().max(range.start()) }),
            None => Ok(()),
        }
    }

    /// Splits the huge leaves that `range` cuts, if they are to be freed; others are passed over whole, those of devices first of
    /// all. Linux: `madvise_free_huge_pmd()`, which skips a PMD that is not present.
    fn split_freeable_ends(&self, range: AddressRange) -> Result<(), VmaError> {
        for vpn in [range.first(), range.end()] {
            if vpn == huge_start(vpn) {
                continue;
            }
            if let Span::Huge(mut middle, at) = self.table.span(vpn) {
                if self.may_be_freed(middle.leaf(at)) {
                    self.split_locked(&mut middle, at)?;
                }
            }
        }
        Ok(())
    }

    /// Whether a leaf, which the caller has locked, maps host memory that nobody else has. It must allow writing, since
    /// every page that was written in an anonymous mapping does, or is shared.
    fn may_be_freed(&self, leaf: SoftLeaf) -> bool {
        leaf.kind() == LeafKind::Present(Access::Write)
            && leaf.pfn().is_some_and(|pfn| self.core().is_memory(pfn))
            && self.core().page(leaf).is_some_and(|page| page.refs() == 1)
    }
}
