//! [`Home`]: where a folio was first mapped, one word a folio: what its mappings are found by.
//!
//! Linux keeps `mapping` and `index` in the folio. Here a folio's metadata has one spare word, and that is the driver's; so the word stands
//! in an array of the machine's own, by the folio's first page. It is written before the folio's first leaf can be seen, so who comes
//! from a leaf finds it; what a freed folio left is overwritten then.
#![forbid(unsafe_code)]

use super::address::VPN_BITS;
use crate::sparse::{Layout, NoMemory, ReserveError, SparseArray};
use crate::sync::{
    AtomicU64,
    Ordering::{Acquire, Release},
};
use crate::words::Offset;

/// log2 of the bytes of the array that are backed by memory together.
const CHUNK_BYTES: usize = 64 << 10;

const INDEX_BITS: u32 = if VPN_BITS < 36 { 36 } else { VPN_BITS };
const SPACE_BITS: u32 = 24;
const ANON: u64 = 1 << 62;
const KNOWN: u64 = 1 << 63;

/// The most address spaces that are numbered; later ones have the number of an earlier, which makes a search for a
/// folio's mappings slower and nothing else.
const SPACES: u32 = 1 << SPACE_BITS;

/// Where a folio was first mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Home {
    /// The number of the address space; a hint.
    pub(super) space: u32,
    /// The index of its first page, in the terms of `Vma::index_of`. Every mapping of it is at this index of a mapping of
    /// its address space.
    pub(super) index: u64,
    /// Whether it is anonymous memory's, or a copy that is as such: what can move to a device.
    pub(super) is_anon: bool,
}

impl Home {
    fn to_bits(self) -> u64 {
        let anon = if self.is_anon { ANON } else { 0 };
        KNOWN | anon | u64::from(self.space % SPACES) << INDEX_BITS | self.index & ((1 << INDEX_BITS) - 1)
    }

    fn from_bits(bits: u64) -> Option<Home> {
        if bits & KNOWN == 0 {
            return None;
        }
        Some(Home {
            space: (bits >> INDEX_BITS) as u32 & (SPACES - 1),
            index: bits & ((1 << INDEX_BITS) - 1),
            is_anon: bits & ANON != 0,
        })
    }

    /// Whether `space` is the address space, as far as the number tells.
    pub(super) fn is_of(self, space: u32) -> bool {
        self.space == space % SPACES
    }
}

const _: () = assert!(INDEX_BITS + SPACE_BITS <= 62);

/// The homes of all folios of a space.
pub(super) struct Homes(SparseArray<AtomicU64>);

impl Homes {
    pub(super) fn new(max_pages: u64) -> Result<Homes, ReserveError> {
        Ok(Homes(SparseArray::new(Layout { len: max_pages, chunk_bytes: CHUNK_BYTES, huge: false })?))
    }

    #[inline]
    pub(super) fn get(&self, head: Offset) -> Option<Home> {
        // Acquire [home]: pairs with the Release of `set`; a search that follows the word finds the address space in the
        // registry.
        Home::from_bits(self.0.get(head.get())?.load(Acquire))
    }

    /// Whether a folio with this first page is anonymous memory's.
    #[inline(always)]
    pub(super) fn is_anon(&self, head: Offset) -> bool {
        // Acquire [home]: as in `get`, though nobody goes on from here.
        self.0.get(head.get()).is_some_and(|word| word.load(Acquire) & ANON != 0)
    }

    /// Makes the home of `to`, in these or others, that of `from`. `false` if that has none, or there is no memory.
    #[inline(always)]
    pub(super) fn copy(&self, from: Offset, homes: &Homes, to: Offset) -> bool {
        // Acquire [home]: as in `get`, and Release as in `set`.
        let home = self.0.get(from.get()).map_or(0, |word| word.load(Acquire));
        let Ok(word) = homes.0.populate(to.get()) else { return false };
        word.store(home, Release);
        home & KNOWN != 0
    }

    #[inline]
    pub(super) fn set(&self, head: Offset, home: Home) -> Result<(), NoMemory> {
        // Release [home]: see `get`.
        self.0.populate(head.get())?.store(home.to_bits(), Release);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_one_word() {
        for space in [0, 1, SPACES - 1] {
            for index in [0, 77, (1 << 36) - 1] {
                for is_anon in [false, true] {
                    let home = Home { space, index, is_anon };
                    assert_eq!(Home::from_bits(home.to_bits()), Some(home));
                }
            }
        }
        assert_eq!(Home::from_bits(0), None);
        assert!(Home { space: 3, index: 0, is_anon: true }.is_of(SPACES + 3));
    }
}
