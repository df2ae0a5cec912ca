//! [`Address`] and [`AddressRange`]: where a byte, or a run of pages, lies in an address space.
#![forbid(unsafe_code)]

use core::fmt;

use super::table::{LEVELS, TABLE_SHIFT};
use crate::geometry::BLOCK_SHIFT;

/// log2 of the bytes of a page.
pub const PAGE_SHIFT: u32 = 12;

/// Bytes of a page.
pub const PAGE_BYTES: u64 = 1 << PAGE_SHIFT;

/// Bits of a virtual page number.
pub(super) const VPN_BITS: u32 = LEVELS * TABLE_SHIFT;

/// Pages that one entry of the middle level maps: an order-9 folio.
pub(super) const PAGES_PER_HUGE: u64 = 1 << BLOCK_SHIFT;

/// A virtual address: counted in bytes, below 2^48.
///
/// ```
/// use farpage::Address;
///
/// let address = Address::new(0x1234).expect("below 2^48");
/// assert_eq!((address.page_start().get(), address.in_page()), (0x1000, 0x234));
/// assert_eq!(Address::new(1 << 48), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Address(u64);

impl Address {
    /// The address `bytes`, or `None` from 2^48 on.
    #[inline]
    pub const fn new(bytes: u64) -> Option<Address> {
        if bytes >> (VPN_BITS + PAGE_SHIFT) == 0 { Some(Address(bytes)) } else { None }
    }

    /// The number, in bytes.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The first byte of the page.
    #[inline]
    pub const fn page_start(self) -> Address {
        Address(self.0 & !(PAGE_BYTES - 1))
    }

    /// Bytes from the first one of the page: `0..4096`.
    #[inline]
    pub const fn in_page(self) -> u64 {
        self.0 & (PAGE_BYTES - 1)
    }

    /// The number of its page.
    #[inline]
    pub(super) const fn vpn(self) -> u64 {
        self.0 >> PAGE_SHIFT
    }

    /// The first byte of page `vpn`, which an address space has.
    #[inline]
    pub(super) const fn of_vpn(vpn: u64) -> Address {
        Address(vpn << PAGE_SHIFT)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A run of whole pages in an address space: its first byte and its length; never empty.
///
/// ```
/// use farpage::AddressRange;
///
/// let range = AddressRange::new(0x20_0000, 0x4000).expect("whole pages");
/// assert_eq!(range.nr_pages(), 4);
/// assert_eq!(AddressRange::new(0x20_0000, 5), None); // not whole pages
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddressRange {
    /// The number of the first page.
    first: u64,
    nr_pages: u64,
}

impl AddressRange {
    /// `bytes` bytes from `start` on; `None` unless both are multiples of the page size, there is a page, and the last
    /// lies below 2^48.
    pub const fn new(start: u64, bytes: u64) -> Option<AddressRange> {
        if (start | bytes) & (PAGE_BYTES - 1) != 0 {
            return None;
        }
        AddressRange::of_pages(start >> PAGE_SHIFT, bytes >> PAGE_SHIFT)
    }

    /// `nr_pages` pages from page number `first` on.
    pub(super) const fn of_pages(first: u64, nr_pages: u64) -> Option<AddressRange> {
        if nr_pages == 0 || nr_pages > 1 << VPN_BITS || first > (1 << VPN_BITS) - nr_pages {
            return None;
        }
        Some(AddressRange { first, nr_pages })
    }

    /// The page of `address`.
    pub const fn page_of(address: Address) -> AddressRange {
        AddressRange { first: address.vpn(), nr_pages: 1 }
    }

    /// The first byte.
    #[inline]
    pub const fn start(self) -> Address {
        Address::of_vpn(self.first)
    }

    /// How many bytes.
    #[inline]
    pub const fn nr_bytes(self) -> u64 {
        self.nr_pages << PAGE_SHIFT
    }

    /// How many pages.
    #[inline]
    pub const fn nr_pages(self) -> u64 {
        self.nr_pages
    }

    /// Whether the range has the page of `address`.
    #[inline]
    pub const fn contains(self, address: Address) -> bool {
        address.vpn().wrapping_sub(self.first) < self.nr_pages
    }

    /// Whether the range has page number `vpn`.
    #[inline]
    pub(super) const fn has_page(self, vpn: u64) -> bool {
        vpn.wrapping_sub(self.first) < self.nr_pages
    }

    /// The address of page `index` of the range; `None` beyond its last page.
    pub const fn page(self, index: u64) -> Option<Address> {
        if index < self.nr_pages { Some(Address::of_vpn(self.first + index)) } else { None }
    }

    /// The number of the first page.
    #[inline]
    pub(super) const fn first(self) -> u64 {
        self.first
    }

    /// The number of the page behind the last.
    #[inline]
    pub(super) const fn end(self) -> u64 {
        self.first + self.nr_pages
    }

    /// Whether both have a page in common.
    #[inline]
    pub(super) const fn overlaps(self, other: AddressRange) -> bool {
        self.first < other.end() && other.first < self.end()
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.first << PAGE_SHIFT, self.end() << PAGE_SHIFT)
    }
}

/// The first page of the run of an order-9 folio that `vpn` lies in.
#[inline]
pub(super) const fn huge_start(vpn: u64) -> u64 {
    vpn & !(PAGES_PER_HUGE - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_whole_pages_below_the_end() {
        assert!(AddressRange::new(0, 0).is_none());
        assert!(AddressRange::new(1, PAGE_BYTES).is_none());
        assert!(AddressRange::new(0, 1 << (VPN_BITS + PAGE_SHIFT)).is_some());
        assert!(AddressRange::new(PAGE_BYTES, 1 << (VPN_BITS + PAGE_SHIFT)).is_none());
        assert!(AddressRange::new(!(PAGE_BYTES - 1), PAGE_BYTES).is_none());
        assert!(AddressRange::new(0, !(PAGE_BYTES - 1)).is_none());
    }

    #[test]
    fn ranges_that_touch_do_not_overlap() {
        let range = |first, nr| AddressRange::of_pages(first, nr).unwrap();
        assert!(!range(0, 2).overlaps(range(2, 1)) && !range(2, 1).overlaps(range(0, 2)));
        assert!(range(0, 3).overlaps(range(2, 1)) && range(2, 1).overlaps(range(0, 3)));
        assert!(range(4, 2).contains(Address::of_vpn(5)) && !range(4, 2).contains(Address::of_vpn(6)));
    }
}
