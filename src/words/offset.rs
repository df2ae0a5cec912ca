//! [`Offset`] and [`OffsetRange`]: where a page lies in the device-private space.
#![forbid(unsafe_code)]

use core::fmt;

use crate::geometry::OFFSET_BITS;

/// Set in a tagged offset and in no page frame number that exists.
const TAG: u64 = 1 << 63;

/// A page's number in the device-private space: counted in pages, never bytes, never a host pfn.
///
/// ```
/// use farpage::Offset;
///
/// let offset = Offset::new(42).expect("below 2^40");
/// assert_eq!(Offset::from_tagged(offset.to_tagged()), Some(offset));
/// assert_eq!(Offset::from_tagged(42), None); // a bare number is a pfn, never an offset
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Offset(u64);

impl Offset {
    /// The largest offset, 2^40 - 1.
    pub const MAX: Offset = Offset((1 << OFFSET_BITS) - 1);

    /// The offset `page`, or `None` above 2^40 - 1.
    #[inline]
    pub const fn new(page: u64) -> Option<Offset> {
        if page >> OFFSET_BITS == 0 { Some(Offset(page)) } else { None }
    }

    /// The number, in pages.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The offset as a page frame number that can never be valid: the top bit is set.
    ///
    /// For interfaces that carry a host pfn or a device offset in one integer, as the reviewers of the kernel
    /// series asked for: `pfn_valid()` refuses it, and [`Offset::from_tagged`] accepts nothing else.
    #[inline]
    pub const fn to_tagged(self) -> u64 {
        self.0 | TAG
    }

    /// Undoes [`Offset::to_tagged`]; `None` for any value that it never returns.
    #[inline]
    pub const fn from_tagged(tagged: u64) -> Option<Offset> {
        if tagged & TAG == 0 { None } else { Offset::new(tagged & !TAG) }
    }

    /// The offset `nr_pages` further on, or `None` above 2^40 - 1.
    #[inline]
    pub const fn checked_add(self, nr_pages: u64) -> Option<Offset> {
        match self.0.checked_add(nr_pages) {
            Some(page) => Offset::new(page),
            None => None,
        }
    }

    /// The offset that the low bits of `word` hold, whatever stands above them.
    #[inline]
    pub(crate) const fn from_low_bits(word: u64) -> Offset {
        Offset(word & Offset::MAX.0)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "offset {:#x}", self.0)
    }
}

/// A run of offsets: its first page and how many pages it has.
///
/// ```
/// use farpage::{Offset, OffsetRange};
///
/// let range = OffsetRange::new(Offset::new(8).unwrap(), 4).unwrap();
/// assert!(range.contains(Offset::new(11).unwrap()));
/// assert_eq!(range.iter().count(), 4);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OffsetRange {
    start: Offset,
    nr_pages: u64,
}

impl OffsetRange {
    /// No page.
    pub const EMPTY: OffsetRange = OffsetRange { start: Offset(0), nr_pages: 0 };

    /// `nr_pages` pages from `start` on, or `None` where the last would lie above 2^40 - 1.
    pub const fn new(start: Offset, nr_pages: u64) -> Option<OffsetRange> {
        if nr_pages > Offset::MAX.0 - start.0 + 1 { None } else { Some(OffsetRange { start, nr_pages }) }
    }

    /// The first page.
    #[inline]
    pub const fn start(self) -> Offset {
        self.start
    }

    /// How many pages.
    #[inline]
    pub const fn nr_pages(self) -> u64 {
        self.nr_pages
    }

    /// Whether the range has no page.
    pub const fn is_empty(self) -> bool {
        self.nr_pages == 0
    }

    /// Whether `offset` lies in the range.
    #[inline]
    pub const fn contains(self, offset: Offset) -> bool {
        offset.0.wrapping_sub(self.start.0) < self.nr_pages
    }

    /// The offsets of the range, in order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = Offset> + DoubleEndedIterator + Clone {
        // `new` made sure that every page of the range is an offset. A range of u64 has no exact size, so count in
        // usize, which holds 2^40 wherever a space of that size can be reserved.
        (0..self.nr_pages as usize).map(move |i| Offset(self.start.0 + i as u64))
    }
}

impl fmt::Display for OffsetRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "offsets {:#x}..{:#x}", self.start.0, self.start.0 + self.nr_pages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_fits_forty_bits() {
        assert_eq!(Offset::new((1 << 40) - 1), Some(Offset::MAX));
        assert_eq!(Offset::new(1 << 40), None);
        assert_eq!(Offset::new(u64::MAX), None);
    }

    #[test]
    fn no_untagged_value_parses_as_an_offset() {
        for bit in 0..63 {
            assert_eq!(Offset::from_tagged(1 << bit), None, "bit {bit}");
            let tagged = 1 << 63 | 1u64 << bit;
            assert_eq!(Offset::from_tagged(tagged).is_some(), bit < 40, "tag and bit {bit}");
        }
        assert_eq!(Offset::from_tagged(u64::MAX), None);
    }

    #[test]
    fn a_range_ends_where_offsets_end() {
        assert!(OffsetRange::new(Offset::MAX, 1).is_some());
        assert!(OffsetRange::new(Offset::MAX, 2).is_none());
        assert!(OffsetRange::new(Offset(0), 1 << 40).is_some());
        assert!(OffsetRange::new(Offset(0), u64::MAX).is_none());
    }

    #[test]
    fn a_range_contains_what_it_iterates() {
        let range = OffsetRange::new(Offset(5), 3).unwrap();
        assert_eq!(range.iter().map(Offset::get).collect::<Vec<_>>(), [5, 6, 7]);
        for page in 0..12 {
            assert_eq!(range.contains(Offset(page)), range.iter().any(|o| o.get() == page));
        }
    }
}
