//! [`State`]: what the state word of a page says, and the pure transitions between such words.
#![forbid(unsafe_code)]

use core::fmt;

use crate::words::{Order, leaf_bits};

const COUNT_BITS: u32 = 21;
const COUNT: u64 = (1 << COUNT_BITS) - 1;
const MAPS_SHIFT: u32 = COUNT_BITS;
const MAPS_BITS: u32 = 20;
const MAPS: u64 = ((1 << MAPS_BITS) - 1) << MAPS_SHIFT;
/// Reserved for a folio's lock and its waiters.
const LOCK_BITS: u64 = 3 << 41;
const ORDER_SHIFT: u32 = 43;
const ORDER: u64 = 31 << ORDER_SHIFT;
const LIVE: u64 = leaf_bits::DEVICE;
const GENERATION: u64 = leaf_bits::GENERATION;

/// The most references that a folio can have: 2^20 - 1.
///
/// The count's field is one bit wider than that. `Page::get` adds before it looks, so as many threads as there are
/// references left in that bit would have to be between their addition and its undoing for the field to overflow.
/// Maps are references of leaf words, so they cannot be more.
pub(crate) const MAX_REFS: u32 = (1 << MAPS_BITS) - 1;

const _: () = {
    const FIELDS: [u64; 6] = [COUNT, MAPS, LOCK_BITS, ORDER, LIVE, GENERATION];
    let (mut all, mut i) = (0u64, 0);
    while i < FIELDS.len() {
        assert!(all & FIELDS[i] == 0, "two fields of the state word overlap");
        all |= FIELDS[i];
        i += 1;
    }
    assert!(all == u64::MAX, "a bit of the state word belongs to no field");
    assert!(LIVE << 1 == GENERATION & GENERATION.wrapping_neg(), "live is the bit below the generation");
};

/// A value of a page's state word.
///
/// | bits   | field      | meaning                                                              |
/// |--------|------------|----------------------------------------------------------------------|
/// | 0..21  | count      | references: of handles and of leaf words                             |
/// | 21..41 | maps       | how many of the references leaf words own                            |
/// | 41..43 | (reserved) | lock, waiters; 0                                                     |
/// | 43..48 | order      | of the folio                                                         |
/// | 48     | live       | set from allocation to the end of the last put                       |
/// | 49..64 | generation | how often the place was allocated, modulo 2^15                       |
///
/// Live and generation lie where a leaf word has its device bit (always set) and its generation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct State(u64);

impl State {
    pub(crate) const ONE_REF: u64 = 1;
    pub(crate) const ONE_MAP: u64 = 1 << MAPS_SHIFT;

    #[inline(always)]
    pub(crate) const fn from_bits(bits: u64) -> State {
        State(bits)
    }

    #[inline(always)]
    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    #[inline]
    pub(crate) const fn count(self) -> u32 {
        (self.0 & COUNT) as u32
    }

    #[inline]
    pub(crate) const fn maps(self) -> u32 {
        ((self.0 & MAPS) >> MAPS_SHIFT) as u32
    }

    #[inline]
    pub(crate) const fn is_live(self) -> bool {
        self.0 & LIVE != 0
    }

    /// The order; of a word that was never written, order 0.
    #[inline]
    pub(crate) const fn order(self) -> Order {
        match Order::new(((self.0 & ORDER) >> ORDER_SHIFT) as u8) {
            Some(order) => order,
            // Only `next_life` writes the field, from an `Order`.
            None => Order::MAX,
        }
    }

    #[inline]
    pub(crate) const fn generation(self) -> u64 {
        (self.0 & GENERATION) >> leaf_bits::GENERATION_SHIFT
    }

    /// Whether this state is live and of the generation in `word`, which is a device leaf or laid out like one: one
    /// comparison, since the device bit, always set there, lies where the live bit lies here.
    #[inline(always)]
    pub(crate) const fn is_life_of(self, word: u64) -> bool {
        (self.0 ^ word) >> LIVE.trailing_zeros() == 0
    }

    /// free -> live: one reference, the next generation, nothing else kept.
    pub(crate) const fn next_life(self, order: Order) -> State {
        let generation = self.0.wrapping_add(1 << leaf_bits::GENERATION_SHIFT) & GENERATION;
        State(generation | LIVE | (order.get() as u64) << ORDER_SHIFT | 1)
    }

    /// being freed -> free: only the generation stays.
    pub(crate) const fn retired(self) -> State {
        State(self.0 & GENERATION)
    }

    /// live -> live with one more reference; `None` for a count of 0, which is free, and for a full count.
    #[inline]
    pub(crate) const fn try_get(self) -> Option<State> {
        let count = self.count();
        if count == 0 || count >= MAX_REFS { None } else { Some(State(self.0 + State::ONE_REF)) }
    }

    /// live -> live with one map fewer; `None` if no leaf word owns a reference.
    #[inline]
    pub(crate) const fn unmapped(self) -> Option<State> {
        if self.maps() == 0 { None } else { Some(State(self.0 - State::ONE_MAP)) }
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("count", &self.count())
            .field("maps", &self.maps())
            .field("order", &self.order().get())
            .field("live", &self.is_live())
            .field("generation", &self.generation())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_repeats_after_all_others() {
        let first = State::from_bits(0).next_life(Order::ZERO);
        let mut state = first.retired();
        let mut lives = 1;
        loop {
            let next = state.next_life(Order::ZERO);
            if next.is_life_of(first.bits()) {
                break;
            }
            assert!(!next.retired().is_life_of(next.bits()), "a free page is no life");
            lives += 1;
            state = next.retired();
        }
        assert_eq!(lives, 1 << leaf_bits::GENERATION_BITS);
    }

    #[test]
    fn every_order_is_kept_and_nothing_else_is() {
        for order in 0..=crate::geometry::MAX_ORDER {
            let order = Order::new(order).unwrap();
            let state = State::from_bits(u64::MAX).next_life(order);
            assert_eq!((state.order(), state.count(), state.maps(), state.generation()), (order, 1, 0, 0));
            assert!(state.is_live());
        }
    }
}
