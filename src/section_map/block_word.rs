//! [`BlockWord`]: which order a block serves and whose it is, as readers see it.
#![forbid(unsafe_code)]

use crate::class::{CHANGES_BITS, Class, ClassChange};

const CHANGES_SHIFT: u32 = Class::BITS;
const DEVICE_SHIFT: u32 = 32;

const _: () = assert!(CHANGES_SHIFT + CHANGES_BITS <= DEVICE_SHIFT);

/// The readers' word of a block.
///
/// | bits   | field   | meaning                                               |
/// |--------|---------|-------------------------------------------------------|
/// | 0..5   | class   | the order that the block serves, or mixed             |
/// | 5..21  | changes | how often the class had changed, from the free map    |
/// | 32..64 | device  | the number of the device whose range the block is in  |
///
/// All zero is a block in which nothing was ever allocated. While a folio lives in the block, the word names its device
/// and its order (or "mixed"); before and after, it may lag behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockWord(u64);

impl BlockWord {
    pub(crate) const fn new(change: ClassChange, device: u32) -> BlockWord {
        BlockWord(
            change.class.to_bits() as u64 | (change.changes as u64) << CHANGES_SHIFT | (device as u64) << DEVICE_SHIFT,
        )
    }

    pub(crate) const fn from_bits(bits: u64) -> BlockWord {
        BlockWord(bits)
    }

    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    #[inline]
    pub(crate) const fn class(self) -> Class {
        Class::from_bits(self.0 as u32)
    }

    #[inline]
    pub(crate) const fn device(self) -> u32 {
        (self.0 >> DEVICE_SHIFT) as u32
    }
}
