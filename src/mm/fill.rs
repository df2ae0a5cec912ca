//! The pages that faults put in, and the copies that they make.
#![forbid(unsafe_code)]

use super::address::{Address, AddressRange, PAGES_PER_HUGE, huge_start};
use super::error::FaultError;
use super::gather::Gather;
use super::home::Home;
use super::inner::Inner;
use super::named::marked;
use super::notifier::{Invalidation, InvalidationKind};
use super::page_table::{Span, index};
use super::pages::pfn_of;
use super::vma::{Backing, Vma};
use crate::folio::Folio;
use crate::words::{Access, LeafKind, Order, SoftLeaf};

impl<'s> Inner<'s> {
    /// Puts a page in where none is. Somebody else may have been faster: then nothing changes.
    pub(super) fn put_in(&self, vma: &Vma<'s>, vpn: u64, access: Access) -> Result<(), FaultError> {
        let core = self.core();
        match &vma.backing {
            Backing::Anonymous => {
                if vma.huge && vma.has_huge(vpn) && self.put_in_huge(vma, vpn, access)? {
                    return Ok(());
                }
                match access {
                    Access::Read => self
                        .set_if_missing(vpn, |_| Some(SoftLeaf::present(core.zero(), Access::Read).with_young(true))),
                    Access::Write => {
                        let folio = core.alloc_zeroed(Order::ZERO)?;
                        self.put_in_anon(vma, vpn, folio)
                    }
                }
            }
            Backing::Shared(object) => {
                let folio = object.page(vma.index_of(vpn))?;
                let allowed = if vma.protection.allows(Access::Write) { Access::Write } else { Access::Read };
                self.set_if_missing(vpn, |_| Some(marked(core.leaf_of(folio, allowed), access)))
            }
            Backing::FilePrivate(object) => {
                let folio = object.page(vma.index_of(vpn))?;
                match access {
                    Access::Read => {
                        self.set_if_missing(vpn, |_| Some(marked(core.leaf_of(folio, Access::Read), access)))
                    }
                    Access::Write => {
                        let copy = core.ram().alloc(Order::ZERO)?;
                        core.memory().copy(pfn_of(folio.offset()), pfn_of(copy.offset()), 1);
                        self.put_in_anon(vma, vpn, copy)
                    }
                }
            }
            Backing::Special => Err(FaultError::Unserved { address: Address::of_vpn(vpn), kind: LeafKind::None }),
        }
    }

    /// Puts a page of this address space's own in, to be written.
    fn put_in_anon(&self, vma: &Vma<'s>, vpn: u64, folio: Folio<'s>) -> Result<(), FaultError> {
        self.core().set_home(&folio, Home { space: self.id(), index: vma.index_of(vpn), is_anon: true })?;
        self.set_if_missing(vpn, |core| Some(marked(core.leaf_of(folio, Access::Write), Access::Write)))
    }

    /// Sets a leaf where none is. If there is one, `leaf` is dropped, behind the lock.
    fn set_if_missing(
        &self,
        vpn: u64,
        leaf: impl FnOnce(&super::machine::Core<'s>) -> Option<SoftLeaf>,
    ) -> Result<(), FaultError> {
        // `span` is a temporary of the whole match: `leaf`, and the folio in it, are dropped behind it.
        if let Span::Small(mut table) = self.table.span_or_build(vpn)? {
            let at = index(vpn, 0);
            if table.leaf(at) == SoftLeaf::NONE {
                if let Some(leaf) = leaf(self.core()) {
                    table.set_leaf(at, leaf);
                }
            }
        }
        Ok(())
    }

    /// Puts 512 pages in at once, or the huge zero page; `false` if that cannot be done here now.
    fn put_in_huge(&self, vma: &Vma<'s>, vpn: u64, access: Access) -> Result<bool, FaultError> {
        let (core, start) = (self.core(), huge_start(vpn));
        let fresh = match access {
            Access::Read => None,
            Access::Write => match core.alloc_zeroed(Order::HUGE) {
                Ok(folio) => {
                    core.set_home(&folio, Home { space: self.id(), index: vma.index_of(start), is_anon: true })?;
                    Some(folio)
                }
                // Single pages may be left.
                Err(_) => return Ok(false),
            },
        };
        let zero = match access {
            Access::Read => match core.huge_zero() {
                Ok(zero) => Some(zero),
                Err(_) => return Ok(false),
            },
            Access::Write => None,
        };
        let (mut middle, at) = self.table.huge(start)?;
        if middle.entry(at) != super::entry::Entry::NONE {
            // A table: its pages are faulted one by one. A leaf: it is looked at again.
            return Ok(matches!(middle.entry(at).decode(), super::entry::Decoded::Leaf(_)));
        }
        let leaf = match (fresh, zero) {
            (Some(folio), _) => core.leaf_of(folio, Access::Write),
            (None, Some(zero)) => SoftLeaf::present(zero, Access::Read),
            (None, None) => return Ok(false),
        };
        middle.set_leaf(at, marked(leaf, access));
        Ok(true)
    }

    /// Replaces the page that `leaf` maps, and others have too, by a copy to be written. Linux: `wp_page_copy()`.
    pub(super) fn copy_on_write(&self, vma: &Vma<'s>, vpn: u64, leaf: SoftLeaf) -> Result<(), FaultError> {
        let core = self.core();
        let copy = core.ram().alloc(Order::ZERO)?;
        core.set_home(&copy, Home { space: self.id(), index: vma.index_of(vpn), is_anon: true })?;
        let range = AddressRange::page_of(Address::of_vpn(vpn));
        let _told = self.notifiers.begin(Invalidation { range, kind: InvalidationKind::Clear, owner: None });
        let mut gather = Gather::new(core, 1);
        if let Span::Small(mut table) = self.table.span(vpn) {
            let at = index(vpn, 0);
            let now = table.leaf(at);
            // What was read is what is copied: the leaf keeps its page while we have the lock, and nobody writes a page
            // that several have.
            if now.kind() == LeafKind::Present(Access::Read) && now.pfn() == leaf.pfn() {
                let (Some(from), to) = (leaf.pfn(), pfn_of(copy.offset())) else { return Ok(()) };
                if core.is_zero(now) {
                    core.memory().zero(to, 1);
                } else {
                    core.memory().copy(from, to, 1);
                }
                let fresh = core.leaf_of(copy, Access::Write).with_marks_of(now);
                table.set_leaf(at, marked(fresh, Access::Write));
                gather.push(now);
            }
        }
        gather.flush();
        Ok(())
    }

    /// The same for 512 pages: of the huge zero page, 512 fresh ones if they can be had; otherwise the leaf is taken
    /// apart, so that the one page that is written can be copied. Linux: `do_huge_pmd_wp_page()`.
    pub(super) fn copy_on_write_huge(&self, vma: &Vma<'s>, vpn: u64, leaf: SoftLeaf) -> Result<(), FaultError> {
        let (core, start) = (self.core(), huge_start(vpn));
        if core.is_zero(leaf) {
            if let Ok(fresh) = core.alloc_zeroed(Order::HUGE) {
                core.set_home(&fresh, Home { space: self.id(), index: vma.index_of(start), is_anon: true })?;
                let range = AddressRange::of_pages(start, PAGES_PER_HUGE).unwrap_or(vma.range);
                let kind = InvalidationKind::Clear;
                let _told = self.notifiers.begin(Invalidation { range, kind, owner: None });
                if let Span::Huge(mut middle, at) = self.table.span(start) {
                    let now = middle.leaf(at);
                    if core.is_zero(now) {
                        let fresh = core.leaf_of(fresh, Access::Write).with_marks_of(now);
                        middle.set_leaf(at, marked(fresh, Access::Write));
                    }
                }
                return Ok(());
            }
        }
        self.split(vpn).map_err(|error| match error {
            super::error::VmaError::TooManyRefs { limit } => FaultError::TooManyRefs { limit },
            _ => FaultError::NoMemory,
        })
    }
}
