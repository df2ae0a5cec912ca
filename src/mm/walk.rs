//! All mappings of a folio, in every address space: the reverse map. Linux: `rmap_walk()`, `page_vma_mapped_walk()`.
//!
//! A walk takes a folio, never a number, and asks of each leaf whether it names a page of *that* folio, kind and place
//! together, so that a number of the one space cannot match one of the other. A huge leaf is handed out under its lock, looked at
//! again there, as a small one is.
//!
//! **Complete.** The list of address spaces is held for the length of a walk, and each one's mappings while it is looked
//! at. A fork lists the child before it copies the first leaf, and holds the child's mappings until the last: so of a walk
//! and a fork either the walk comes to the child when all is copied, or the leaves are copied behind the walk, as it left them.
//! Leaves are moved (`remap`) with the mappings held, too. So a walk misses no leaf that is there when it begins and when it
//! ends.
//!
//! **Cost.** The mappings of the home are looked at first, and a walk that is told how many there are ends when it has seen them. Otherwise it
//! asks every mapping of every address space for the folio's index: linear in their number.
#![forbid(unsafe_code)]

use std::sync::Arc;

use super::address::{AddressRange, huge_start};
use super::inner::Inner;
use super::machine::Core;
use super::notifier::{Invalidation, InvalidationKind};
use super::page_table::{Span, index};
use super::table::Locked;
use crate::device::Owner;
use crate::folio::Folio;
use crate::words::SoftLeaf;

/// Which pages of a folio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) first: u64,
    pub(super) nr_pages: u64,
}

impl Part {
    pub(super) fn whole(folio: &Folio<'_>) -> Part {
        Part { first: 0, nr_pages: folio.nr_pages() }
    }

    pub(super) fn page(index: u64) -> Part {
        Part { first: index, nr_pages: 1 }
    }
}

/// A place where a page of the folio is mapped, with the lock of its table.
pub(super) struct Site<'w, 't, 's> {
    pub(super) space: &'w Inner<'s>,
    pub(super) table: &'w mut Locked<'t>,
    /// Where in the table.
    pub(super) at: usize,
    pub(super) leaf: SoftLeaf,
    /// The page number there.
    pub(super) vpn: u64,
    /// Which page of the folio; of a huge leaf, the first.
    pub(super) index: u64,
    /// Whether the leaf stands for 512 pages.
    pub(super) is_huge: bool,
}

/// Whether interested devices are told before leaves change.
pub(super) enum Tell {
    Nobody,
    Everybody(InvalidationKind, Option<Owner>),
}

impl<'s> Core<'s> {
    /// Calls `each` for every leaf that maps a page of `part` of the folio; at most for `most` of them. How many there were.
    ///
    /// The caller holds no table's lock, and no `vmas` of any address space. A huge leaf counts for the part if it has any page of it.
    pub(super) fn walk(
        &self,
        folio: &Folio<'s>,
        part: Part,
        most: u32,
        tell: &Tell,
        mut each: impl FnMut(Site<'_, '_, 's>),
    ) -> u32 {
        let Some(home) = self.home(folio) else { return 0 };
        let first = home.index + part.first;
        let mut found = 0;
        let spaces = self.listed();
        let all = || spaces.iter().filter_map(std::sync::Weak::upgrade);
        // The home first, by its number, which others may have too.
        let homes = all().filter(|space| home.is_of(space.id()));
        for space in homes.chain(all().filter(|space| !home.is_of(space.id()))) {
            if found >= most {
                break;
            }
            found += self.walk_space(&space, folio, first, part, most - found, tell, &mut each);
        }
        found
    }

    #[expect(clippy::too_many_arguments, reason = "the inner half of one function")]
    fn walk_space(
        &self,
        space: &Arc<Inner<'s>>,
        folio: &Folio<'s>,
        first: u64,
        part: Part,
        most: u32,
        tell: &Tell,
        each: &mut impl FnMut(Site<'_, '_, 's>),
    ) -> u32 {
        let mut found = 0;
        let vmas = space.vmas.read();
        for vma in vmas.iter() {
            let Some(range) = part_of(vma.first_index, vma.range, first, part.nr_pages) else { continue };
            if found >= most {
                break;
            }
            let _told = match *tell {
                Tell::Nobody => None,
                Tell::Everybody(kind, owner) => Some(space.notifiers.begin(Invalidation { range, kind, owner })),
            };
            let done = space.for_each_span::<core::convert::Infallible>(range, |vpn, stop, span| {
                found += self.walk_span(space, folio, part, (vpn, stop), span, each);
                Ok(())
            });
            let Ok(()) = done;
        }
        found
    }

    fn walk_span(
        &self,
        space: &Inner<'s>,
        folio: &Folio<'s>,
        part: Part,
        (vpn, stop): (u64, u64),
        span: Span<'_>,
        each: &mut impl FnMut(Site<'_, '_, 's>),
    ) -> u32 {
        let mut found = 0;
        match span {
            Span::Empty => {}
            Span::Huge(mut middle, at) => {
                let leaf = middle.leaf(at);
                if let Some(index) = self.index_in(leaf, folio) {
                    let vpn = huge_start(vpn);
                    each(Site { space, table: &mut middle, at, leaf, vpn, index, is_huge: true });
                    found += 1;
                }
            }
            Span::Small(mut table) => {
                for vpn in vpn..stop {
                    let at = index(vpn, 0);
                    let leaf = table.leaf(at);
                    let Some(index) = self.index_in(leaf, folio) else { continue };
                    if index.wrapping_sub(part.first) < part.nr_pages {
                        each(Site { space, table: &mut table, at, leaf, vpn, index, is_huge: false });
                        found += 1;
                    }
                }
                let emptied = found > 0 && table.is_empty();
                drop(table);
                if emptied {
                    space.table.prune(vpn);
                }
            }
        }
        found
    }
}

/// Where the pages with indices `first..first + nr_pages` lie in a mapping of `range` that begins with `first_index`.
fn part_of(first_index: u64, range: AddressRange, first: u64, nr_pages: u64) -> Option<AddressRange> {
    let begin = first.max(first_index);
    let end = (first + nr_pages).min(first_index + range.nr_pages());
    (begin < end).then(|| AddressRange::of_pages(range.first() + (begin - first_index), end - begin)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_of_a_mapping_is_where_its_indices_are() {
        let range = |first, nr| AddressRange::of_pages(first, nr).unwrap();
        assert_eq!(part_of(100, range(500, 10), 102, 3), Some(range(502, 3)));
        assert_eq!(part_of(100, range(500, 10), 95, 10), Some(range(500, 5)));
        assert_eq!(part_of(100, range(500, 10), 108, 512), Some(range(508, 2)));
        assert_eq!(part_of(100, range(500, 10), 110, 1), None);
        assert_eq!(part_of(100, range(500, 10), 0, 100), None);
    }
}
