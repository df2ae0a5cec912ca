//! [`PageSnapshot`]: what is known of one page, copied at one moment. [`Dump`]: a range in words.
#![forbid(unsafe_code)]

use core::fmt;

use super::address::{Address, AddressRange, PAGES_PER_HUGE, huge_start};
use super::address_space::AddressSpace;
use super::inner::Inner;
use super::page_table::{Span, index};
use crate::words::{LeafKind, Order, SoftLeaf, Target};

/// What is known of the page at an address, copied while its leaf was locked. Linux: `snapshot_page()`.
///
/// The kind names which space the page's number is of, so a number is never compared with one of the other's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PageSnapshot {
    /// The first byte.
    pub address: Address,
    /// The leaf; of 512 pages, the one for all of them.
    pub leaf: SoftLeaf,
    /// Its kind.
    pub kind: LeafKind,
    /// The page, if one is named.
    pub target: Option<Target>,
    /// Whether it is the zero page, or one of 512.
    pub is_zero: bool,
    /// The order of the mapping: 9 where one leaf maps 512 pages.
    pub map_order: Order,
    /// The order of the folio.
    pub folio_order: Order,
    /// References of the folio; 0 where there is none.
    pub refs: u32,
    /// How many of them leaves own.
    pub maps: u32,
    /// Whether somebody has the folio's lock.
    pub is_locked: bool,
}

impl<'s> AddressSpace<'s> {
    /// What is known of the page of `address`.
    ///
    /// The leaf is locked meanwhile, so the page is the one that it names; references, maps and lock are of one moment, behind which
    /// other leaves and handles may change them. Takes no reference, so that looking pins nothing.
    pub fn snapshot(&self, address: Address) -> PageSnapshot {
        let inner = &**self.inner();
        match inner.table.span(address.vpn()) {
            Span::Empty => inner.snapshot_of(address, SoftLeaf::NONE, false),
            Span::Huge(middle, at) => inner.snapshot_of(address, middle.leaf(at), true),
            Span::Small(table) => inner.snapshot_of(address, table.leaf(index(address.vpn(), 0)), false),
        }
    }

    /// A description of what is mapped in `range`, a line for each run of pages that are alike, made when it is formatted.
    pub fn dump(&self, range: AddressRange) -> Dump<'_, 's> {
        Dump { space: self, range }
    }

    /// A number that tells this address space from others of the machine.
    pub fn id(&self) -> u32 {
        self.inner().id()
    }
}

impl Inner<'_> {
    fn snapshot_of(&self, address: Address, leaf: SoftLeaf, is_huge: bool) -> PageSnapshot {
        let core = self.core();
        let further = if is_huge { address.vpn() - huge_start(address.vpn()) } else { 0 };
        // The leaf, which is locked, keeps the folio; its counts and its lock are one word, read once.
        let page = core.page(leaf);
        let (refs, maps, is_locked) = page.map_or((0, 0, false), |page| page.counts());
        PageSnapshot {
            address: address.page_start(),
            leaf,
            kind: leaf.kind(),
            target: leaf.target().and_then(|target| target.checked_add(further)),
            is_zero: core.is_zero(leaf),
            map_order: if is_huge { Order::HUGE } else { Order::ZERO },
            folio_order: page.map_or(Order::ZERO, |page| page.order()),
            refs,
            maps,
            is_locked,
        }
    }
}

/// A range in words; see [`AddressSpace::dump`].
pub struct Dump<'a, 's> {
    space: &'a AddressSpace<'s>,
    range: AddressRange,
}

impl fmt::Display for Dump<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &**self.space.inner();
        let mut vpn = self.range.first();
        while vpn < self.range.end() {
            let at = Address::of_vpn(vpn);
            let Some(vma) = inner.vma(vpn) else {
                let next = inner.next_mapped(vpn).unwrap_or(self.range.end()).min(self.range.end());
                writeln!(f, "{at:>16}  {:>8} pages  not mapped", next - vpn)?;
                vpn = next;
                continue;
            };
            let first = self.space.snapshot(at);
            let mut end = vpn + 1;
            if first.map_order == Order::HUGE {
                end = (huge_start(vpn) + PAGES_PER_HUGE).min(self.range.end());
            } else {
                while end < self.range.end().min(vma.range.end()) {
                    let next = self.space.snapshot(Address::of_vpn(end));
                    if !goes_on(&first, &next, end - vpn) {
                        break;
                    }
                    end += 1;
                }
            }
            write!(f, "{at:>16}  {:>8} pages  {:?}  {:?}", end - vpn, vma.protection, first.kind)?;
            match first.target {
                Some(_) if first.is_zero => write!(f, "  zero page")?,
                Some(target) => write!(f, "  {target}, order {}", first.folio_order)?,
                None => {}
            }
            if first.refs > 0 {
                write!(f, "  refs {} maps {}", first.refs, first.maps)?;
            }
            writeln!(f, "{}", if first.is_locked { "  locked" } else { "" })?;
            vpn = end;
        }
        Ok(())
    }
}

/// Whether a page `further` pages on is as the first.
fn goes_on(first: &PageSnapshot, next: &PageSnapshot, further: u64) -> bool {
    let follows = match (first.target, next.target) {
        (Some(from), Some(to)) => from.checked_add(further) == Some(to) || first.is_zero && next.is_zero,
        (None, None) => true,
        _ => false,
    };
    follows
        && next.map_order == Order::ZERO
        && (first.kind, first.refs, first.maps, first.folio_order, first.is_locked)
            == (next.kind, next.refs, next.maps, next.folio_order, next.is_locked)
}

impl Inner<'_> {
    /// The first page behind `vpn` that something is mapped at.
    fn next_mapped(&self, vpn: u64) -> Option<u64> {
        self.vmas.read().iter().map(|vma| vma.range.first()).find(|first| *first > vpn)
    }
}

impl fmt::Debug for Dump<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
