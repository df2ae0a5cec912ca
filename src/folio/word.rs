//! [`FolioWord`]: which life of which folio a handle means, in one word.
#![forbid(unsafe_code)]

use core::fmt;

use crate::page::State;
use crate::section_map::Place;
use crate::words::{Access, Offset, Order, SoftLeaf, leaf_bits};

const ORDER_SHIFT: u32 = 40;
const ORDER: u64 = 31 << ORDER_SHIFT;

const _: () =
    assert!(ORDER & (leaf_bits::PAYLOAD | leaf_bits::DIRECT | leaf_bits::DEVICE | leaf_bits::GENERATION) == 0);

/// What of a leaf names a life of a folio: everything but kind and marks.
const LIFE: u64 = leaf_bits::PAYLOAD | leaf_bits::DIRECT | leaf_bits::DEVICE | leaf_bits::GENERATION;

/// A device leaf's word with the folio's order where the leaf has its marks and kind.
///
/// The offset is the page that is meant, head or tail. With the direct bit it is the head of a folio below order 9, so
/// that the metadata is found without knowing the order; a word taken straight from a leaf then has 0 for the order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct FolioWord(u64);

impl FolioWord {
    /// The word of the folio at `place`, by its head.
    pub(crate) fn new(place: Place, state: State) -> FolioWord {
        let direct = if place.order.is_whole_block() { 0 } else { leaf_bits::DIRECT };
        FolioWord(Self::of_page(place.head, place.order, state).0 | direct)
    }

    /// The word of the page `offset` in a folio of `order`.
    pub(crate) fn of_page(offset: Offset, order: Order, state: State) -> FolioWord {
        let life = state.bits() & (leaf_bits::DEVICE | leaf_bits::GENERATION);
        FolioWord(offset.get() | u64::from(order.get()) << ORDER_SHIFT | life)
    }

    /// The word of a leaf with the direct bit.
    #[inline(always)]
    pub(crate) fn of_direct_leaf(leaf: SoftLeaf) -> FolioWord {
        FolioWord(leaf.bits() & LIFE)
    }

    #[inline]
    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    #[inline(always)]
    pub(crate) fn offset(self) -> Offset {
        Offset::from_low_bits(self.0)
    }

    #[inline(always)]
    pub(crate) fn is_direct(self) -> bool {
        self.0 & leaf_bits::DIRECT != 0
    }

    /// The order in the word, see above.
    #[inline]
    pub(crate) fn order(self) -> Order {
        Order::new(((self.0 & ORDER) >> ORDER_SHIFT) as u8).unwrap_or(Order::MAX)
    }

    /// Where the folio's metadata is.
    #[inline(always)]
    pub(crate) fn place(self) -> Place {
        let order = self.order();
        if self.is_direct() {
            Place { head: self.offset(), order }
        } else {
            Place { head: Offset::from_low_bits(order.align_down(self.0 & leaf_bits::PAYLOAD)), order }
        }
    }

    /// The leaf of a handle's folio.
    #[inline]
    pub(crate) fn leaf(self, access: Access) -> SoftLeaf {
        let generation = (self.0 & leaf_bits::GENERATION) >> leaf_bits::GENERATION_SHIFT;
        SoftLeaf::device_private(self.offset(), generation, self.is_direct(), access)
    }
}

impl fmt::Debug for FolioWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, direct: {}", self.place(), self.is_direct())
    }
}
