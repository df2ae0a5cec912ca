//! [`Vma`]: a run of pages mapped alike. [`Vmas`]: all of one address space, in order.
//!
//! Pure bookkeeping: no leaf is touched here. Linux: `struct vm_area_struct`.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::address::{Address, AddressRange};
use super::error::VmaError;
use super::object::Object;
use crate::words::Access;

/// What a mapping allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protection {
    /// No access. Linux: `PROT_NONE`.
    None,
    /// Reading. Linux: `PROT_READ`.
    Read,
    /// Reading and writing. Linux: `PROT_READ | PROT_WRITE`.
    ReadWrite,
}

impl Protection {
    /// Whether it allows `access`.
    #[inline]
    pub const fn allows(self, access: Access) -> bool {
        matches!((self, access), (Protection::ReadWrite, _) | (Protection::Read, Access::Read))
    }
}

/// Where the pages of a mapping come from, and whose they are.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Backing<'s> {
    /// Zeros, this address space's own; copied when written after a fork. These are the pages that move to devices.
    Anonymous,
    /// The object's pages themselves, shared by all who map it: a shared file mapping, shared anonymous memory. They do not
    /// move.
    Shared(Object<'s>),
    /// The object's pages, until they are written: then a copy, which is as an anonymous page.
    FilePrivate(Object<'s>),
    /// Pages that a driver puts in by [`AddressSpace::insert_frame`](crate::AddressSpace::insert_frame); they do not move.
    /// Linux: `VM_MIXEDMAP`.
    Special,
}

impl<'s> Backing<'s> {
    fn is_same(&self, other: &Backing<'s>) -> bool {
        match (self, other) {
            (Backing::Anonymous, Backing::Anonymous) | (Backing::Special, Backing::Special) => true,
            (Backing::Shared(a), Backing::Shared(b)) | (Backing::FilePrivate(a), Backing::FilePrivate(b)) => a == b,
            _ => false,
        }
    }

    /// Whether a fork gives the child pages of its own when they are written.
    pub(super) fn is_cow(&self) -> bool {
        matches!(self, Backing::Anonymous | Backing::FilePrivate(_))
    }
}

/// A mapping about to be [made](crate::AddressSpace::map).
///
/// ```
/// use farpage::{AddressRange, Mapping, Protection};
///
/// let range = AddressRange::new(0x40_0000, 0x40_0000).unwrap();
/// let mapping = Mapping::new(range).protection(Protection::Read).huge(true);
/// ```
#[derive(Clone, Debug)]
pub struct Mapping<'s> {
    pub(super) range: AddressRange,
    pub(super) protection: Protection,
    pub(super) backing: Backing<'s>,
    pub(super) first_index: u64,
    pub(super) huge: bool,
}

impl<'s> Mapping<'s> {
    /// Anonymous memory at `range`, to read and to write, in single pages.
    pub fn new(range: AddressRange) -> Mapping<'s> {
        Mapping {
            range,
            protection: Protection::ReadWrite,
            backing: Backing::Anonymous,
            first_index: range.first(),
            huge: false,
        }
    }

    /// What it allows.
    #[must_use]
    pub fn protection(mut self, protection: Protection) -> Mapping<'s> {
        self.protection = protection;
        self
    }

    /// Pages of `backing`; of an object's, from its page number `first_page` on.
    #[must_use]
    pub fn backing(mut self, backing: Backing<'s>, first_page: u64) -> Mapping<'s> {
        self.first_index = match backing {
            Backing::Shared(_) | Backing::FilePrivate(_) => first_page,
            Backing::Anonymous | Backing::Special => self.range.first(),
        };
        self.backing = backing;
        self
    }

    /// Whether a fault may put in 512 pages at once where the mapping has them, aligned. Linux: `MADV_HUGEPAGE`.
    #[must_use]
    pub fn huge(mut self, huge: bool) -> Mapping<'s> {
        self.huge = huge;
        self
    }
}

/// A run of pages mapped alike.
#[derive(Clone, Debug)]
pub(super) struct Vma<'s> {
    pub(super) range: AddressRange,
    /// The index of the first page: in its object, or for anonymous memory the page number where it was first mapped,
    /// which it keeps wherever it is moved. A folio's mappings are found by it. Linux: `vm_pgoff`.
    pub(super) first_index: u64,
    pub(super) protection: Protection,
    pub(super) backing: Backing<'s>,
    pub(super) huge: bool,
}

/// What a mapping is, but for the object behind it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Area {
    pub(super) range: AddressRange,
    pub(super) first_index: u64,
    pub(super) protection: Protection,
    pub(super) kind: Kind,
}

/// What kind of [`Backing`] a mapping has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Anonymous,
    Shared,
    FilePrivate,
    Special,
}

impl Kind {
    /// Whether a fork gives the child pages of its own when they are written.
    #[inline]
    pub(super) fn is_cow(self) -> bool {
        matches!(self, Kind::Anonymous | Kind::FilePrivate)
    }
}

impl Area {
    /// The index of page `vpn`, which is in the mapping.
    #[inline]
    pub(super) fn index_of(&self, vpn: u64) -> u64 {
        self.first_index + (vpn - self.range.first())
    }
}

impl<'s> Vma<'s> {
    /// The mapping without its object.
    pub(super) fn area(&self) -> Area {
        let kind = match self.backing {
            Backing::Anonymous => Kind::Anonymous,
            Backing::Shared(_) => Kind::Shared,
            Backing::FilePrivate(_) => Kind::FilePrivate,
            Backing::Special => Kind::Special,
        };
        Area { range: self.range, first_index: self.first_index, protection: self.protection, kind }
    }

    /// The index of page `vpn`, which is in the mapping.
    #[inline]
    pub(super) fn index_of(&self, vpn: u64) -> u64 {
        self.first_index + (vpn - self.range.first())
    }

    /// Whether all 512 pages around `vpn` that a huge leaf would map are in the mapping.
    pub(super) fn has_huge(&self, vpn: u64) -> bool {
        let start = super::address::huge_start(vpn);
        start >= self.range.first() && start + super::address::PAGES_PER_HUGE <= self.range.end()
    }

    fn continues(&self, before: &Vma<'s>) -> bool {
        before.range.end() == self.range.first()
            && before.first_index + before.range.nr_pages() == self.first_index
            && before.protection == self.protection
            && before.huge == self.huge
            && before.backing.is_same(&self.backing)
    }
}

/// All mappings of an address space, none of which overlap, by their first page.
#[derive(Default, Debug)]
pub(super) struct Vmas<'s>(BTreeMap<u64, Vma<'s>>);

impl<'s> Vmas<'s> {
    /// The mapping of page `vpn`.
    #[inline]
    pub(super) fn find(&self, vpn: u64) -> Option<&Vma<'s>> {
        let (_, vma) = self.0.range(..=vpn).next_back()?;
        (vpn < vma.range.end()).then_some(vma)
    }

    /// The mappings that have pages of `range`, in order.
    pub(super) fn overlapping(&self, range: AddressRange) -> impl Iterator<Item = &Vma<'s>> {
        let first = self.find(range.first()).map_or(range.first(), |vma| vma.range.first());
        self.0.range(first..range.end()).map(|(_, vma)| vma)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Vma<'s>> {
        self.0.values()
    }

    /// An error with the first page of `range` that nothing is mapped at.
    pub(super) fn check_mapped(&self, range: AddressRange) -> Result<(), VmaError> {
        let mut next = range.first();
        for vma in self.overlapping(range) {
            if vma.range.first() > next {
                break;
            }
            next = vma.range.end();
        }
        if next < range.end() { Err(VmaError::NotMapped { address: Address::of_vpn(next) }) } else { Ok(()) }
    }

    /// An error with the first page of `range` that something is mapped at.
    pub(super) fn check_free(&self, range: AddressRange) -> Result<(), VmaError> {
        match self.overlapping(range).next() {
            Some(vma) => Err(VmaError::Overlap { address: Address::of_vpn(vma.range.first().max(range.first())) }),
            None => Ok(()),
        }
    }

    /// Adds a mapping where nothing is mapped, joined with its neighbours where they go on alike.
    pub(super) fn insert(&mut self, mut vma: Vma<'s>) {
        debug_assert!(self.check_free(vma.range).is_ok(), "mappings overlap");
        if let Some(before) = vma.range.first().checked_sub(1).and_then(|vpn| self.find(vpn)) {
            if vma.continues(before) {
                vma.first_index = before.first_index;
                vma.range = joined(before.range, vma.range);
                self.0.remove(&vma.range.first());
            }
        }
        if let Some(behind) = self.0.get(&vma.range.end()) {
            if behind.continues(&vma) {
                let end = behind.range;
                self.0.remove(&end.first());
                vma.range = joined(vma.range, end);
            }
        }
        self.0.insert(vma.range.first(), vma);
    }

    /// Takes everything out that is mapped in `range`; mappings that it cuts keep what is outside.
    pub(super) fn remove(&mut self, range: AddressRange) -> Vec<Vma<'s>> {
        self.split_at(range.first());
        self.split_at(range.end());
        let firsts: Vec<u64> = self.0.range(range.first()..range.end()).map(|(first, _)| *first).collect();
        firsts.iter().filter_map(|first| self.0.remove(first)).collect()
    }

    /// Changes what is mapped in `range`, in pieces.
    pub(super) fn change(&mut self, range: AddressRange, change: impl Fn(&mut Vma<'s>)) {
        for mut vma in self.remove(range) {
            change(&mut vma);
            self.insert(vma);
        }
    }

    fn split_at(&mut self, vpn: u64) {
        let Some(vma) = self.find(vpn) else { return };
        let whole = vma.range;
        if whole.first() == vpn {
            return;
        }
        let mut behind = vma.clone();
        behind.first_index = vma.index_of(vpn);
        let parts = (
            AddressRange::of_pages(whole.first(), vpn - whole.first()),
            AddressRange::of_pages(vpn, whole.end() - vpn),
        );
        let (Some(first), Some(second)) = parts else { unreachable!("page {vpn} divides {whole}") };
        behind.range = second;
        if let Some(vma) = self.0.get_mut(&whole.first()) {
            vma.range = first;
        }
        self.0.insert(vpn, behind);
    }
}

fn joined(first: AddressRange, second: AddressRange) -> AddressRange {
    match AddressRange::of_pages(first.first(), first.nr_pages() + second.nr_pages()) {
        Some(range) => range,
        None => unreachable!("{first} and {second} are of one address space"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vma(first: u64, nr: u64, protection: Protection) -> Vma<'static> {
        let range = AddressRange::of_pages(first, nr).unwrap();
        Vma { range, first_index: first, protection, backing: Backing::Anonymous, huge: false }
    }

    fn shape(vmas: &Vmas<'_>) -> Vec<(u64, u64, u64, Protection)> {
        vmas.iter().map(|v| (v.range.first(), v.range.nr_pages(), v.first_index, v.protection)).collect()
    }

    #[test]
    fn neighbours_that_go_on_alike_are_one() {
        let mut vmas = Vmas::default();
        vmas.insert(vma(10, 5, Protection::Read));
        vmas.insert(vma(20, 5, Protection::Read));
        vmas.insert(vma(15, 5, Protection::Read));
        assert_eq!(shape(&vmas), [(10, 15, 10, Protection::Read)]);
        let mut moved = vma(25, 2, Protection::Read);
        moved.first_index = 100;
        vmas.insert(moved);
        assert_eq!(shape(&vmas).len(), 2, "its pages have other indices");
    }

    #[test]
    fn a_change_cuts_and_joins_again() {
        let mut vmas = Vmas::default();
        vmas.insert(vma(0, 10, Protection::ReadWrite));
        let part = AddressRange::of_pages(3, 4).unwrap();
        vmas.change(part, |vma| vma.protection = Protection::Read);
        let (rw, r) = (Protection::ReadWrite, Protection::Read);
        assert_eq!(shape(&vmas), [(0, 3, 0, rw), (3, 4, 3, r), (7, 3, 7, rw)]);
        assert_eq!(vmas.find(6).unwrap().index_of(6), 6);
        vmas.change(part, |vma| vma.protection = rw);
        assert_eq!(shape(&vmas), [(0, 10, 0, rw)]);
    }

    #[test]
    fn holes_are_told() {
        let mut vmas = Vmas::default();
        vmas.insert(vma(0, 2, Protection::Read));
        vmas.insert(vma(4, 2, Protection::Read));
        let range = |first, nr| AddressRange::of_pages(first, nr).unwrap();
        let at = |vpn| Address::of_vpn(vpn);
        assert_eq!(vmas.check_mapped(range(0, 6)), Err(VmaError::NotMapped { address: at(2) }));
        assert_eq!(vmas.check_mapped(range(1, 1)), Ok(()));
        assert_eq!(vmas.check_mapped(range(5, 3)), Err(VmaError::NotMapped { address: at(6) }));
        assert_eq!(vmas.check_free(range(2, 2)), Ok(()));
        assert_eq!(vmas.check_free(range(1, 4)), Err(VmaError::Overlap { address: at(1) }));
        assert_eq!(vmas.remove(range(1, 4)).len(), 2);
        assert_eq!(vmas.check_free(range(1, 4)), Ok(()));
    }
}
