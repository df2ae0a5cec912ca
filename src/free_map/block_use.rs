//! [`BlockUse`]: what a block is used for, in one word.
#![forbid(unsafe_code)]

use core::fmt;

use crate::class::{CHANGES_BITS, Class, ClassChange};
use crate::words::Order;

/// The use word of a block: who decides over its pages, as claimers and releasers agree.
///
/// | bits   | field    | meaning                                                                      |
/// |--------|----------|------------------------------------------------------------------------------|
/// | 0..5   | class    | the order that the block serves; kept when it empties                          |
/// | 5..21  | changes  | how often the class has changed                                              |
/// | 21     | taken    | the block is part of a folio of order 9 or more                              |
/// | 22     | sealed   | somebody looks whether all pages of the small folios here are free           |
/// | 23     | partial  | the device ends in the block: it never serves order 9 or more                |
/// | 24     | reserved | a thread takes its small folios from here; a hint to the others              |
/// | 25     | present  | the word has memory; only then can it be changed                              |
/// | 26     | closed   | an eviction lets nobody begin anything here; never together with taken        |
/// | 32..64 | seals    | how often the block was sealed, so that no seal is taken for an earlier one   |
///
/// What it says decides by the class:
///
/// | class            | whose the pages are                                                            |
/// |------------------|--------------------------------------------------------------------------------|
/// | unused           | nobody's, but those that a partial block lacks                                  |
/// | order 9 and more | one folio's if `taken`, else nobody's                                          |
/// | below, or mixed  | the free bits say so                                                            |
///
/// All zero is a block whose word has no memory: nobody uses it. Nothing exchanges such a word, which may have been given
/// back to the system after it was read: a claim gives the word memory first, and then finds it present. What was known of
/// the block is gone; but seals go on from where no block near it had come before, so that no late sealer takes another's
/// seal for its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockUse(u64);

const CHANGES_SHIFT: u32 = Class::BITS;
const CHANGES: u64 = (1 << CHANGES_BITS) - 1;
const TAKEN: u64 = 1 << 21;
const SEALED: u64 = 1 << 22;
const PARTIAL: u64 = 1 << 23;
const RESERVED: u64 = 1 << 24;
const PRESENT: u64 = 1 << 25;
const CLOSED: u64 = 1 << 26;
const SEALS_SHIFT: u32 = 32;
const ONE_SEAL: u64 = 1 << SEALS_SHIFT;

const _: () = assert!(CHANGES_SHIFT + CHANGES_BITS <= 21);

/// Whether a claim may put folios of different orders into one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mixing {
    Refused,
    Allowed,
}

impl BlockUse {
    pub(crate) const fn from_bits(bits: u64) -> BlockUse {
        BlockUse(bits)
    }

    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    /// A block that nobody uses, whose seals go on behind what [`BlockUse::keep`] said of those before.
    pub(crate) const fn begin(kept: u32) -> BlockUse {
        BlockUse(PRESENT | (kept as u64) << (SEALS_SHIFT + 1))
    }

    /// What a later word must begin with to have more seals than this one.
    pub(crate) const fn keep(self) -> u32 {
        // In steps of two, so that it needs one bit less than the seals have.
        (self.0 >> (SEALS_SHIFT + 1)) as u32 + 1
    }

    /// Whether the word has memory, and can be changed.
    pub(crate) const fn is_present(self) -> bool {
        self.0 & PRESENT != 0
    }

    pub(crate) const fn class(self) -> Class {
        Class::from_bits(self.0 as u32)
    }

    /// Whether the block belongs to a folio of order 9 or more.
    pub(crate) const fn is_taken(self) -> bool {
        self.0 & TAKEN != 0
    }

    /// Whether an eviction has the block: claims refuse it.
    pub(crate) const fn is_closed(self) -> bool {
        self.0 & CLOSED != 0
    }

    pub(crate) const fn is_partial(self) -> bool {
        self.0 & PARTIAL != 0
    }

    pub(crate) const fn is_reserved(self) -> bool {
        self.0 & RESERVED != 0
    }

    /// Whether the free bits say which pages are taken.
    pub(crate) const fn goes_by_bits(self) -> bool {
        match self.class() {
            Class::Unused => self.is_partial(),
            Class::Uniform(order) => !order.is_whole_block(),
            Class::Mixed => true,
        }
    }

    /// Whether all of it is free for a folio of order 9 or more, whatever the free bits say.
    pub(crate) const fn is_whole_and_free(self) -> bool {
        self.0 & (TAKEN | CLOSED) == 0 && !self.goes_by_bits()
    }

    /// Whether a folio of `order` (below 9) whose bits are taken lives here for sure.
    pub(crate) fn serves(self, order: Order) -> bool {
        self.0 & (SEALED | CLOSED) == 0
            && match self.class() {
                Class::Uniform(now) => now == order,
                Class::Mixed => true,
                Class::Unused => false,
            }
    }

    /// Whether folios of any orders below 9 whose bits are taken live here for sure.
    pub(crate) fn serves_all(self) -> bool {
        self.0 & (SEALED | CLOSED) == 0 && self.class() == Class::Mixed
    }

    /// Whether a folio that lives here for sure may become folios of any orders below 9.
    pub(crate) fn is_mixed(self) -> bool {
        self.0 & SEALED == 0 && self.class() == Class::Mixed
    }

    /// Serves all orders below 9, whether or not it is closed: for who has pages here already. Breaks a seal.
    pub(crate) fn mixed(self) -> BlockUse {
        BlockUse(self.with_class(Class::Mixed).0 & !SEALED)
    }

    /// The class and its change counter, for the readers' copy.
    pub(crate) const fn change(self) -> ClassChange {
        ClassChange { class: self.class(), changes: (self.0 >> CHANGES_SHIFT & CHANGES) as u32 }
    }

    /// The same block when only its first pages exist: no order has been served in it.
    pub(crate) fn ended(self) -> BlockUse {
        BlockUse(self.with_class(Class::Unused).0 | PARTIAL)
    }

    /// The same block, all of whose pages exist and are free.
    pub(crate) fn unended(self) -> BlockUse {
        BlockUse(self.with_class(Class::Unused).0 & !PARTIAL)
    }

    /// Serves `order` (below 9), beside others if mixing is allowed. Breaks a seal, whose owner then fails. `None` if the
    /// block belongs to a large folio, is closed, or serves another order and mixing is refused.
    pub(crate) fn serving(self, order: Order, mixing: Mixing) -> Option<BlockUse> {
        if self.0 & (TAKEN | CLOSED) != 0 {
            return None;
        }
        let class = match self.class() {
            Class::Uniform(now) if now == order => Class::Uniform(order),
            Class::Mixed => Class::Mixed,
            _ if !self.goes_by_bits() || self.class() == Class::Unused => Class::Uniform(order),
            _ if mixing == Mixing::Refused => return None,
            _ => Class::Mixed,
        };
        Some(BlockUse(self.with_class(class).0 & !SEALED))
    }

    /// Serves all orders below 9. As [`BlockUse::serving`] otherwise.
    pub(crate) fn serving_all(self) -> Option<BlockUse> {
        (self.0 & (TAKEN | CLOSED) == 0).then(|| self.mixed())
    }

    /// Seals a block that goes by its bits, so that a claim in it is noticed.
    pub(crate) const fn sealed(self) -> BlockUse {
        BlockUse((self.0 | SEALED).wrapping_add(ONE_SEAL))
    }

    pub(crate) const fn unsealed(self) -> BlockUse {
        BlockUse(self.0 & !SEALED)
    }

    /// The same block, of which no large folio has any part, closed. Breaks a seal.
    pub(crate) const fn closed(self) -> BlockUse {
        BlockUse((self.0 | CLOSED) & !SEALED)
    }

    pub(crate) const fn opened(self) -> BlockUse {
        BlockUse(self.0 & !CLOSED)
    }

    /// A block whose pages are all free, for small folios of `order`.
    pub(crate) fn emptied_for(self, order: Order) -> BlockUse {
        BlockUse(self.with_class(Class::Uniform(order)).0 & !(SEALED | RESERVED | CLOSED))
    }

    /// A block whose pages are all free, as part of a folio of `order` (9 or more).
    pub(crate) fn taken_for(self, order: Order) -> BlockUse {
        BlockUse(self.emptied_for(order).0 | TAKEN)
    }

    /// The large folio has gone.
    pub(crate) const fn given_back(self) -> BlockUse {
        BlockUse(self.0 & !TAKEN)
    }

    /// The large folio has become small ones, which have all of its pages: of one order, or mixed ones.
    pub(crate) fn divided(self, class: Class) -> BlockUse {
        BlockUse(self.given_back().with_class(class).0)
    }

    pub(crate) const fn reserved(self, is_reserved: bool) -> BlockUse {
        BlockUse(if is_reserved { self.0 | RESERVED } else { self.0 & !RESERVED })
    }

    fn with_class(self, class: Class) -> BlockUse {
        let old = self.change();
        if class == old.class {
            return self;
        }
        let changes = u64::from(old.changes.wrapping_add(1)) & CHANGES;
        let rest = self.0 & !((CHANGES << CHANGES_SHIFT) | ((1 << Class::BITS) - 1));
        BlockUse(rest | u64::from(class.to_bits()) | changes << CHANGES_SHIFT)
    }
}

impl fmt::Debug for BlockUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockUse")
            .field("change", &self.change())
            .field("taken", &self.is_taken())
            .field("sealed", &(self.0 & SEALED != 0))
            .field("partial", &self.is_partial())
            .field("reserved", &self.is_reserved())
            .field("present", &self.is_present())
            .field("closed", &self.is_closed())
            .field("seals", &(self.0 >> SEALS_SHIFT))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: BlockUse = BlockUse::begin(0);

    fn order(order: u8) -> Order {
        Order::new(order).unwrap()
    }

    #[test]
    fn a_block_serves_one_order_until_mixing_is_allowed() {
        let block = NEW.serving(order(3), Mixing::Refused).unwrap();
        assert_eq!(block.change(), ClassChange { class: Class::Uniform(order(3)), changes: 1 });
        assert!(block.serves(order(3)) && !block.serves(order(0)) && block.goes_by_bits());
        assert_eq!(block.serving(order(0), Mixing::Refused), None);
        let mixed = block.serving(order(0), Mixing::Allowed).unwrap();
        assert_eq!(mixed.change(), ClassChange { class: Class::Mixed, changes: 2 });
        assert!(mixed.serves(order(3)) && mixed.serves(order(0)));
        assert_eq!(mixed.emptied_for(order(0)).class(), Class::Uniform(order(0)));
    }

    #[test]
    fn a_whole_block_comes_and_goes_and_serves_small_folios_again() {
        assert!(NEW.is_whole_and_free());
        let whole = NEW.taken_for(Order::HUGE);
        assert!(whole.is_taken() && !whole.is_whole_and_free() && !whole.goes_by_bits());
        assert_eq!(whole.serving(Order::ZERO, Mixing::Allowed), None);
        let free = whole.given_back();
        assert!(free.is_whole_and_free());
        assert!(free.serving(Order::ZERO, Mixing::Refused).unwrap().serves(Order::ZERO));
    }

    #[test]
    fn a_seal_is_broken_by_a_claim_and_never_comes_again() {
        let block = NEW.serving(order(0), Mixing::Refused).unwrap().reserved(true);
        let sealed = block.sealed();
        assert!(!sealed.serves(order(0)) && sealed.goes_by_bits());
        assert_eq!(sealed.serving(order(0), Mixing::Refused), Some(sealed.unsealed()));
        assert_ne!(sealed.unsealed().sealed(), sealed);
        assert!(sealed.unsealed().serves(order(0)));
        let emptied = sealed.emptied_for(order(1));
        assert!(emptied.serves(order(1)) && !emptied.is_reserved());
    }

    #[test]
    fn a_word_that_begins_again_has_seals_that_no_earlier_one_had() {
        let mut sealed = NEW.serving(order(0), Mixing::Refused).unwrap();
        for _ in 0..9 {
            sealed = sealed.sealed().unsealed();
            let again = BlockUse::begin(sealed.keep());
            assert!(again.is_present() && again.is_whole_and_free() && again.class() == Class::Unused);
            assert!(again.serving(order(0), Mixing::Refused).unwrap().bits() >> 32 > sealed.bits() >> 32);
        }
        assert!(!BlockUse::from_bits(0).is_present() && BlockUse::from_bits(0).is_whole_and_free());
    }

    #[test]
    fn the_end_of_a_device_is_in_a_block_that_is_never_whole() {
        let ended = NEW.taken_for(Order::HUGE).given_back().ended();
        assert_eq!((ended.class(), ended.is_whole_and_free()), (Class::Unused, false));
        assert!(ended.goes_by_bits());
        let serving = ended.serving(Order::ZERO, Mixing::Refused).unwrap();
        assert!(serving.serves(Order::ZERO) && serving.is_partial());
        assert!(serving.unended().is_whole_and_free());
        assert_ne!(serving.unended().change(), serving.change(), "and readers are told so");
    }

    #[test]
    fn a_closed_block_serves_nobody_until_it_is_opened_or_claimed_by_who_closed_it() {
        let small = NEW.serving(order(0), Mixing::Refused).unwrap();
        let mixed = small.mixed();
        for block in [NEW, small, mixed, mixed.sealed(), NEW.taken_for(Order::HUGE).given_back(), NEW.ended()] {
            let closed = block.closed();
            assert!(closed.is_closed() && !closed.is_whole_and_free());
            assert!(!closed.serves(order(0)) && !closed.serves_all());
            assert_eq!((closed.serving(order(0), Mixing::Allowed), closed.serving_all()), (None, None));
            assert_eq!((closed.goes_by_bits(), closed.change()), (block.goes_by_bits(), block.change()));
            assert_eq!(closed.opened(), block.unsealed());
            assert!(closed.mixed().is_mixed() && closed.mixed().is_closed(), "a folio that lives there is divided");
            let taken = closed.sealed().taken_for(Order::HUGE);
            assert!(taken.is_taken() && !taken.is_closed());
        }
    }

    #[test]
    fn the_change_counter_wraps_inside_its_field() {
        let mut block = NEW;
        for i in 0..70_000u32 {
            let order = order((i % 2) as u8);
            block = block.emptied_for(order);
            let changes = (i + 1) & CHANGES as u32;
            assert_eq!(block.change(), ClassChange { class: Class::Uniform(order), changes });
        }
    }
}
