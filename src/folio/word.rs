//! [`FolioWord`]: which page of which life of a folio a handle means, in one word.
#![forbid(unsafe_code)]

use core::fmt;
use core::hash::{Hash, Hasher};
use core::num::NonZeroU64;

use crate::page::State;
use crate::section_map::Place;
use crate::words::{Access, MAX_DIRECT_ORDER, Offset, Order, SoftLeaf, leaf_bits};

const ORDER_SHIFT: u32 = 40;
const ORDER: u64 = 31 << ORDER_SHIFT;

const _: () = assert!(ORDER & (leaf_bits::PAYLOAD | leaf_bits::GENERATION | leaf_bits::DIRECT) == 0);

/// A direct leaf as it is, or a word of the same fields with the folio's order where a leaf has its marks and kind.
///
/// The first kind is what a lookup has in hand anyway, and its metadata lies at its own offset. The second is for tails
/// and for folios of order 8 and more. Neither is ever 0: the one has its direct bit, the other an order above 0.
#[derive(Clone, Copy)]
pub(crate) struct FolioWord(NonZeroU64);

impl FolioWord {
    /// The word of the folio at `place`, by its head.
    #[inline]
    pub(crate) fn new(place: Place, state: State) -> FolioWord {
        FolioWord::of_page(place.head, place, state)
    }

    /// The word of the page `offset` of the folio at `place`.
    #[inline]
    pub(crate) fn of_page(offset: Offset, place: Place, state: State) -> FolioWord {
        if offset == place.head && place.order.get() <= MAX_DIRECT_ORDER {
            return FolioWord::of_direct_leaf(SoftLeaf::direct(offset, place.order, state.generation(), Access::Read));
        }
        let generation = state.generation() << leaf_bits::GENERATION_SHIFT;
        match NonZeroU64::new(offset.get() | u64::from(place.order.get()) << ORDER_SHIFT | generation) {
            Some(word) => FolioWord(word),
            None => unreachable!("a folio of order 0 has no tails"),
        }
    }

    /// The word of the page that a leaf of a tail or a block names, whose folio has `order` and is in `state`.
    #[inline(always)]
    pub(crate) fn of_ordered_leaf(leaf: SoftLeaf, order: Order, state: State) -> FolioWord {
        let generation = state.generation() << leaf_bits::GENERATION_SHIFT;
        let order = u64::from(order.get()) << ORDER_SHIFT;
        match NonZeroU64::new(leaf.bits() & leaf_bits::PAYLOAD | order | generation) {
            Some(word) => FolioWord(word),
            None => unreachable!("a folio of order 0 has no tails"),
        }
    }

    /// The word of a direct leaf.
    #[inline(always)]
    pub(crate) fn of_direct_leaf(leaf: SoftLeaf) -> FolioWord {
        match NonZeroU64::new(leaf.bits()) {
            Some(word) => FolioWord(word),
            None => unreachable!("a direct leaf has its direct bit"),
        }
    }

    /// The word of a single page, by its offset and its state, which is laid out as a direct leaf is from the order up.
    #[inline(always)]
    pub(crate) fn of_single(offset: Offset, state: State) -> FolioWord {
        let life = state.bits() >> leaf_bits::ORDER_SHIFT << leaf_bits::ORDER_SHIFT;
        FolioWord::of_direct_leaf(SoftLeaf::from_bits(life | offset.get()))
    }

    #[inline(always)]
    fn bits(self) -> u64 {
        self.0.get()
    }

    #[inline(always)]
    pub(crate) fn offset(self) -> Offset {
        Offset::from_low_bits(self.bits())
    }

    #[inline(always)]
    pub(crate) fn is_direct(self) -> bool {
        self.bits() & leaf_bits::DIRECT != 0
    }

    /// The folio's order.
    #[inline]
    pub(crate) fn order(self) -> Order {
        let order = if self.is_direct() {
            (self.bits() & leaf_bits::ORDER) >> leaf_bits::ORDER_SHIFT
        } else {
            (self.bits() & ORDER) >> ORDER_SHIFT
        };
        // Only an `Order` is ever put into either field; a leaf's was compared with the state's.
        Order::new(order as u8).unwrap_or(Order::MAX)
    }

    #[inline]
    pub(crate) fn generation(self) -> u64 {
        (self.bits() & leaf_bits::GENERATION) >> leaf_bits::GENERATION_SHIFT
    }

    /// Where the folio's metadata is.
    #[inline(always)]
    pub(crate) fn place(self) -> Place {
        // Of one page, as most are.
        if self.bits() & (leaf_bits::DIRECT | leaf_bits::ORDER) == leaf_bits::DIRECT {
            return Place { head: self.offset(), order: Order::ZERO };
        }
        self.place_of_large()
    }

    #[inline(always)]
    fn place_of_large(self) -> Place {
        Place::around(self.offset(), self.order())
    }

    /// The leaf of a handle's folio.
    #[inline]
    pub(crate) fn leaf(self, access: Access) -> SoftLeaf {
        if self.is_direct() {
            SoftLeaf::direct(self.offset(), self.order(), self.generation(), access)
        } else {
            SoftLeaf::device_private(self.offset(), self.order(), self.generation(), access)
        }
    }

    /// The leaf of page number `index` of a handle's folio; `None` if there are not so many.
    pub(crate) fn leaf_of(self, index: u64, access: Access) -> Option<SoftLeaf> {
        let Place { head, order } = self.place();
        match index {
            0 => Some(self.leaf(access)),
            _ if index >= order.nr_pages() => None,
            _ => {
                let offset = Offset::from_low_bits(head.get() + index);
                Some(SoftLeaf::device_private(offset, order, self.generation(), access))
            }
        }
    }

    /// What two words for the same page of the same life have in common. The order is part of it: folios of a block and
    /// of pages count their lives apart.
    fn identity(self) -> u64 {
        self.bits() & (leaf_bits::PAYLOAD | leaf_bits::GENERATION) | u64::from(self.order().get()) << ORDER_SHIFT
    }
}

impl PartialEq for FolioWord {
    /// Whether both mean the same page of the same life.
    fn eq(&self, other: &FolioWord) -> bool {
        self.identity() == other.identity()
    }
}

impl Hash for FolioWord {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

impl fmt::Debug for FolioWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page {:#x} of order {}, generation {}", self.offset().get(), self.order(), self.generation())
    }
}
