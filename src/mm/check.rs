//! [`Machine::validate`]: every leaf counted from the bottom, and compared with what folios believe.
#![forbid(unsafe_code)]

use core::error::Error;
use core::fmt;
use std::collections::HashMap;

use super::address::{Address, AddressRange, VPN_BITS};
use super::inner::Inner;
use super::machine::Machine;
use super::page_table::{Span, index};
use crate::words::{Offset, SoftLeaf, Target};

/// What a [`Machine::validate`] found that must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MachineViolation {
    /// A leaf names a page that does not live.
    Stale {
        /// Where the leaf is.
        address: Address,
        /// The leaf.
        leaf: SoftLeaf,
    },
    /// A leaf is of a kind that may not stand where it stands, or nothing is mapped there.
    Misplaced {
        /// Where the leaf is.
        address: Address,
        /// The leaf.
        leaf: SoftLeaf,
    },
    /// A folio has other maps than leaves.
    Maps {
        /// Its first page.
        folio: Target,
        /// Maps that it has.
        maps: u32,
        /// Leaves that name it.
        leaves: u32,
    },
    /// A folio has fewer references than maps.
    Refs {
        /// Its first page.
        folio: Target,
        /// Its references.
        refs: u32,
        /// Its maps.
        maps: u32,
    },
}

impl fmt::Display for MachineViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            MachineViolation::Stale { address, leaf } => write!(f, "at {address} a leaf is stale: {leaf:?}"),
            MachineViolation::Misplaced { address, leaf } => write!(f, "at {address} a leaf is misplaced: {leaf:?}"),
            MachineViolation::Maps { folio, maps, leaves } => {
                write!(f, "the folio at {folio} has {maps} maps, and {leaves} leaves name it")
            }
            MachineViolation::Refs { folio, refs, maps } => {
                write!(f, "the folio at {folio} has {refs} references and {maps} maps")
            }
        }
    }
}

impl Error for MachineViolation {}

/// Leaves of each folio, by its first page.
type Leaves = HashMap<Target, u32>;

impl<'s> Machine<'s> {
    /// Counts the leaves of every address space, and compares them with the maps of their folios; and the other way round for
    /// every page of host memory and of the devices that have drivers.
    ///
    /// For tests and for a doubtful moment. Only while no other thread uses the machine.
    ///
    /// # Errors
    ///
    /// The first [`MachineViolation`] found.
    pub fn validate(&self) -> Result<(), MachineViolation> {
        let mut leaves = Leaves::new();
        for space in self.core().listed().iter().filter_map(std::sync::Weak::upgrade) {
            space.count_leaves(&mut leaves)?;
        }
        let core = self.core();
        let check = |offset: Offset, target: fn(Offset) -> Target, space: &'s crate::space::Space| {
            let Some(page) = space.page(offset).filter(|page| page.index() == 0) else { return Ok(()) };
            let Some(folio) = page.try_get() else { return Ok(()) };
            let (at, maps, refs) = (target(offset), folio.maps(), folio.refs() - 1);
            let counted = leaves.get(&at).copied().unwrap_or(0);
            if maps != counted {
                return Err(MachineViolation::Maps { folio: at, maps, leaves: counted });
            }
            if refs < maps {
                return Err(MachineViolation::Refs { folio: at, refs, maps });
            }
            Ok(())
        };
        let host = |offset| Target::Host(super::pages::pfn_of(offset));
        // Of devices that the host can map, those folios that have leaves.
        for folio in leaves.keys() {
            match *folio {
                Target::Host(pfn) => check(super::pages::offset_of(pfn), host, core.frames())?,
                Target::Device(offset) => check(offset, Target::Device, core.space())?,
            }
        }
        core.ram().range().iter().try_for_each(|offset| check(offset, host, core.frames()))?;
        for range in core.driven_ranges() {
            range.iter().try_for_each(|offset| check(offset, Target::Device, core.space()))?;
        }
        Ok(())
    }
}

impl Inner<'_> {
    fn count_leaves(&self, leaves: &mut Leaves) -> Result<(), MachineViolation> {
        let Some(all) = AddressRange::of_pages(0, 1 << VPN_BITS) else { return Ok(()) };
        self.for_each_span(all, |vpn, stop, span| match span {
            Span::Empty => Ok(()),
            Span::Huge(middle, at) => self.count_leaf(vpn, middle.leaf(at), true, leaves),
            Span::Small(table) => {
                let mut nr = 0;
                for vpn in vpn..stop {
                    let leaf = table.leaf(index(vpn, 0));
                    nr += u32::from(leaf != SoftLeaf::NONE);
                    self.count_leaf(vpn, leaf, false, leaves)?;
                }
                debug_assert_eq!(nr, table.nr_used(), "a table counts its leaves");
                Ok(())
            }
        })
    }

    fn count_leaf(&self, vpn: u64, leaf: SoftLeaf, is_huge: bool, leaves: &mut Leaves) -> Result<(), MachineViolation> {
        let (core, address) = (self.core(), Address::of_vpn(vpn));
        if leaf == SoftLeaf::NONE || core.is_zero(leaf) {
            return Ok(());
        }
        if self.vma(vpn).is_none() || is_huge && !leaf.is_valid_huge() {
            return Err(MachineViolation::Misplaced { address, leaf });
        }
        if leaf.target().is_none() || leaf.is_hwpoison() {
            return Ok(());
        }
        let page = core.page(leaf).ok_or(MachineViolation::Stale { address, leaf })?;
        let head = page.folio_offset();
        let folio = if leaf.pfn().is_some() { Target::Host(super::pages::pfn_of(head)) } else { Target::Device(head) };
        *leaves.entry(folio).or_default() += 1;
        Ok(())
    }
}
