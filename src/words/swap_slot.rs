//! [`SwapSlot`]: where the content of a page was written to.
#![forbid(unsafe_code)]

use core::fmt;

use crate::geometry::OFFSET_BITS;

/// A place in a swap area: which area, and which page of it.
///
/// The number of the page is not an [`Offset`](crate::Offset): that one is of device memory. Linux: `swp_entry()`.
///
/// ```
/// use farpage::{SoftLeaf, SwapSlot};
///
/// let slot = SwapSlot::new(1, 77).unwrap();
/// assert_eq!(SoftLeaf::swap(slot).swap_slot(), Some(slot));
/// assert_eq!(SwapSlot::new(1, 1 << 40), None); // would not fit a leaf
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SwapSlot {
    swap_type: u8,
    offset: u64,
}

impl SwapSlot {
    /// The page `offset` of the area `swap_type`, or `None` above page 2^40 - 1.
    pub const fn new(swap_type: u8, offset: u64) -> Option<SwapSlot> {
        if offset >> OFFSET_BITS == 0 { Some(SwapSlot { swap_type, offset }) } else { None }
    }

    /// Which area: any of 256. Linux: `swp_type()`.
    #[inline]
    pub const fn swap_type(self) -> u8 {
        self.swap_type
    }

    /// Which page of it. Linux: `swp_offset()`.
    #[inline]
    pub const fn offset(self) -> u64 {
        self.offset
    }
}

impl fmt::Display for SwapSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "swap slot {}:{:#x}", self.swap_type, self.offset)
    }
}
