//! [`BlockUse`]: how much of a block is taken and which order it serves, in one word.
#![forbid(unsafe_code)]

use core::fmt;

use crate::class::{CHANGES_BITS, Class, ClassChange};
use crate::geometry::PAGES_PER_BLOCK;
use crate::words::Order;

/// The use word of a block: what is taken of it, as claimers and releasers agree.
///
/// | bits   | field   | meaning                                                                   |
/// |--------|---------|---------------------------------------------------------------------------|
/// | 0..10  | taken   | pages taken, `0..=512`; all of them while the block is part of a large run |
/// | 10..15 | class   | the order that the block serves; kept when it empties                     |
/// | 15..31 | changes | how often the class has changed                                           |
///
/// All zero is a block that was never used: all of it is free.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockUse(u32);

const TAKEN: u32 = (1 << 10) - 1;
const CLASS_SHIFT: u32 = 10;
const CHANGES_SHIFT: u32 = CLASS_SHIFT + Class::BITS;
const CHANGES: u32 = (1 << CHANGES_BITS) - 1;

const _: () = assert!(CHANGES_SHIFT + CHANGES_BITS <= 32);
const _: () = assert!(PAGES_PER_BLOCK <= TAKEN as u64);

/// Whether a claim may put folios of different orders into one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mixing {
    Refused,
    Allowed,
}

impl BlockUse {
    pub(crate) const fn from_bits(bits: u32) -> BlockUse {
        BlockUse(bits)
    }

    pub(crate) const fn bits(self) -> u32 {
        self.0
    }

    pub(crate) const fn taken(self) -> u64 {
        (self.0 & TAKEN) as u64
    }

    pub(crate) const fn free(self) -> u64 {
        PAGES_PER_BLOCK - self.taken()
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.taken() == 0
    }

    pub(crate) const fn class(self) -> Class {
        Class::from_bits(self.0 >> CLASS_SHIFT)
    }

    /// Whether the block belongs to a folio of order 9 or more.
    pub(crate) const fn is_whole(self) -> bool {
        !self.is_empty() && matches!(self.class(), Class::Uniform(order) if order.is_whole_block())
    }

    /// The class and its change counter, for the readers' copy.
    pub(crate) const fn change(self) -> ClassChange {
        ClassChange { class: self.class(), changes: self.0 >> CHANGES_SHIFT & CHANGES }
    }

    /// The same empty block when only its first `exist` pages exist: the others are taken for good, and no order has
    /// been served in it.
    pub(crate) fn ending_after(self, exist: u64) -> BlockUse {
        let taken = (PAGES_PER_BLOCK - exist) as u32;
        BlockUse(self.with_class(Class::Unused).0 & !TAKEN | taken)
    }

    /// Counts a run of `order` (below 9) whose free bits the caller has taken. `None` if there is no room in the
    /// count, i.e. a large run holds the block, or if the block serves another order and mixing is refused.
    pub(crate) fn with_run(self, order: Order, mixing: Mixing) -> Option<BlockUse> {
        if self.free() < order.nr_pages() {
            return None;
        }
        let class = match self.class() {
            Class::Uniform(now) if now == order => Class::Uniform(order),
            Class::Unused => Class::Uniform(order),
            _ if self.is_empty() => Class::Uniform(order),
            _ if mixing == Mixing::Refused => return None,
            _ => Class::Mixed,
        };
        Some(BlockUse(self.with_class(class).0 + order.nr_pages() as u32))
    }

    /// Takes the whole block for a run of `order` (9 or more); `None` unless it is empty.
    pub(crate) fn with_whole(self, order: Order) -> Option<BlockUse> {
        if !self.is_empty() {
            return None;
        }
        Some(BlockUse(self.with_class(Class::Uniform(order)).0 + PAGES_PER_BLOCK as u32))
    }

    fn with_class(self, class: Class) -> BlockUse {
        let old = self.change();
        if class == old.class {
            return self;
        }
        let changes = old.changes.wrapping_add(1) & CHANGES;
        BlockUse(self.0 & TAKEN | class.to_bits() << CLASS_SHIFT | changes << CHANGES_SHIFT)
    }
}

impl fmt::Debug for BlockUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} taken, {:?}", self.taken(), self.change())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_serves_one_order_until_mixing_is_allowed() {
        let (zero, three) = (Order::ZERO, Order::new(3).unwrap());
        let block = BlockUse::from_bits(0).with_run(three, Mixing::Refused).unwrap();
        assert_eq!((block.taken(), block.change()), (8, ClassChange { class: Class::Uniform(three), changes: 1 }));
        assert_eq!(block.with_run(zero, Mixing::Refused), None);
        let mixed = block.with_run(zero, Mixing::Allowed).unwrap();
        assert_eq!((mixed.taken(), mixed.change()), (9, ClassChange { class: Class::Mixed, changes: 2 }));
        assert_eq!(mixed.with_run(zero, Mixing::Refused), None);
        let emptied = BlockUse::from_bits(mixed.bits() - 9);
        assert_eq!(emptied.with_run(zero, Mixing::Refused).unwrap().class(), Class::Uniform(zero));
    }

    #[test]
    fn a_whole_block_is_taken_only_when_empty() {
        let whole = BlockUse::from_bits(0).with_whole(Order::HUGE).unwrap();
        assert!(whole.is_whole() && whole.free() == 0);
        assert_eq!(whole.with_whole(Order::HUGE), None);
        assert_eq!(whole.with_run(Order::ZERO, Mixing::Allowed), None);
        let emptied = BlockUse::from_bits(whole.bits() - PAGES_PER_BLOCK as u32);
        assert!(!emptied.is_whole() && emptied.with_whole(Order::MAX).is_some());
    }

    #[test]
    fn the_end_of_a_device_is_in_a_block_that_serves_no_order_yet() {
        let whole = BlockUse::from_bits(0).with_whole(Order::HUGE).unwrap();
        let emptied = BlockUse::from_bits(whole.bits() - PAGES_PER_BLOCK as u32);
        let ended = emptied.ending_after(PAGES_PER_BLOCK - 1);
        assert_eq!((ended.taken(), ended.class(), ended.is_whole()), (1, Class::Unused, false));
        assert_ne!(ended.change(), emptied.change(), "and readers are told so");
        assert_eq!(ended.with_run(Order::ZERO, Mixing::Refused).unwrap().class(), Class::Uniform(Order::ZERO));
    }

    #[test]
    fn the_change_counter_wraps_inside_its_field() {
        let mut block = BlockUse::from_bits(0);
        for i in 0..70_000u32 {
            let order = Order::new((i % 2) as u8).unwrap();
            block = block.with_run(order, Mixing::Refused).unwrap();
            assert_eq!(block.change(), ClassChange { class: Class::Uniform(order), changes: (i + 1) & CHANGES });
            block = BlockUse::from_bits(block.bits() - order.nr_pages() as u32);
            assert!(block.is_empty());
        }
    }
}
