//! [`Pfn`]: the number of a page of host memory.
#![forbid(unsafe_code)]

use core::fmt;

use crate::geometry::OFFSET_BITS;

/// The number of a page of **host** memory: counted in pages, never bytes, never a device offset.
///
/// It appears only where an entry names host memory. Linux: `swp_offset_pfn()`.
///
/// ```
/// use farpage::Pfn;
///
/// assert_eq!(Pfn::new(7).map(Pfn::get), Some(7));
/// assert_eq!(Pfn::new(1 << 40), None); // would not fit an entry
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Pfn(u64);

impl Pfn {
    /// The page frame `pfn`, or `None` above 2^40 - 1, which an entry cannot hold.
    pub const fn new(pfn: u64) -> Option<Pfn> {
        if pfn >> OFFSET_BITS == 0 { Some(Pfn(pfn)) } else { None }
    }

    /// The number, in pages.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The page frame `nr_pages` further on, or `None` above 2^40 - 1.
    #[inline]
    pub const fn checked_add(self, nr_pages: u64) -> Option<Pfn> {
        match self.0.checked_add(nr_pages) {
            Some(pfn) => Pfn::new(pfn),
            None => None,
        }
    }

    /// The page frame that the low bits of `word` hold, whatever stands above them.
    #[inline]
    pub(crate) const fn from_low_bits(word: u64) -> Pfn {
        Pfn(word & ((1 << OFFSET_BITS) - 1))
    }
}

impl fmt::Display for Pfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pfn {:#x}", self.0)
    }
}
