//! What can be asked of a folio and its mappings, and done to all of them. Linux: `mm/rmap.c`.
#![forbid(unsafe_code)]

use super::address::Address;
use super::entry::Entry;
use super::gather::Gather;
use super::host::Frame;
use super::machine::Machine;
use super::notifier::InvalidationKind;
use super::walk::{Part, Site, Tell};
use crate::folio::{Folio, LockedFolio};
use crate::words::{Access, SoftLeaf};

/// A folio of either space: what a walk takes instead of a number.
pub trait AnyFolio<'s>: sealed::Sealed<'s> {}

mod sealed {
    use super::{Folio, Frame, LockedFolio};

    pub trait Sealed<'s> {
        fn folio(&self) -> &Folio<'s>;
    }

    impl<'s> Sealed<'s> for Folio<'s> {
        fn folio(&self) -> &Folio<'s> {
            self
        }
    }

    impl<'s> Sealed<'s> for LockedFolio<'s> {
        fn folio(&self) -> &Folio<'s> {
            self
        }
    }

    impl<'s> Sealed<'s> for Frame<'s> {
        fn folio(&self) -> &Folio<'s> {
            self.as_folio()
        }
    }
}

impl<'s> AnyFolio<'s> for Folio<'s> {}
impl<'s> AnyFolio<'s> for LockedFolio<'s> {}
impl<'s> AnyFolio<'s> for Frame<'s> {}

/// A place where a folio is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FolioMapping {
    /// The number of the address space: [`AddressSpace::id`](crate::AddressSpace::id).
    pub space: u32,
    /// The page there.
    pub address: Address,
    /// The leaf.
    pub leaf: SoftLeaf,
    /// Which page of the folio it maps; of a huge leaf, the first.
    pub index: u64,
    /// Whether the leaf maps 512 pages.
    pub is_huge: bool,
}

impl<'s> Machine<'s> {
    /// Which page of `folio` the leaf maps, if it maps one. Linux: `check_pte()`.
    ///
    /// Kind and number are compared together: a leaf of a host page never maps a device's folio. For a leaf whose table is
    /// held, or that nobody changes.
    pub fn maps_page_of(&self, leaf: SoftLeaf, folio: &impl AnyFolio<'s>) -> Option<u64> {
        let (core, folio) = (self.core(), folio.folio());
        // Of the same life, too: a leaf without a table may be stale.
        let page = core.page(leaf)?;
        (page.folio_offset() == folio.offset()).then(|| core.index_in(leaf, folio)).flatten()
    }

    /// Every place where `folio` is mapped, in any address space, at this moment. Complete for a folio that is locked and is not
    /// being forked. Linux: `rmap_walk()`.
    pub fn mappings(&self, folio: &impl AnyFolio<'s>) -> Vec<FolioMapping> {
        let mut all = Vec::new();
        let folio = folio.folio();
        self.core().walk(folio, Part::whole(folio), u32::MAX, &Tell::Nobody, |site: Site<'_, '_, 's>| {
            all.push(FolioMapping {
                space: site.space.id(),
                address: Address::of_vpn(site.vpn),
                leaf: site.leaf,
                index: site.index,
                is_huge: site.is_huge,
            });
        });
        all
    }

    /// Takes every leaf of `folio` away; how many. What was anonymous reads as zero again, what was an object's is found there
    /// again. Linux: `unmap_mapping_folio()`.
    pub fn unmap_all(&self, folio: &impl AnyFolio<'s>) -> u32 {
        let (core, folio) = (self.core(), folio.folio());
        let mut gather = Gather::new(core, folio.maps().into());
        let tell = Tell::Everybody(InvalidationKind::Unmap, None);
        let nr = core.walk(folio, Part::whole(folio), u32::MAX, &tell, |site: Site<'_, '_, 's>| {
            site.table.set(site.at, Entry::NONE);
            gather.push(site.leaf);
        });
        gather.flush();
        nr
    }

    /// Makes every leaf of `folio` one that allows only reading; how many changed. The next write of each faults. Linux:
    /// `folio_mkclean()`.
    pub fn write_protect_all(&self, folio: &impl AnyFolio<'s>) -> u32 {
        let (core, folio) = (self.core(), folio.folio());
        let tell = Tell::Everybody(InvalidationKind::Protect, None);
        let mut changed = 0;
        core.walk(folio, Part::whole(folio), u32::MAX, &tell, |site: Site<'_, '_, 's>| {
            let protected = site.leaf.with_access(Access::Read);
            if protected != site.leaf {
                site.table.set_leaf(site.at, protected);
                changed += 1;
            }
        });
        changed
    }
}
