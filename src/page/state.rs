//! [`State`]: what the state word of a page says, and the pure transitions between such words.
#![forbid(unsafe_code)]

use core::fmt;

use crate::geometry::MAX_ORDER;
use crate::words::{DeviceWord, Order, SoftLeaf, leaf_bits};

const COUNT_BITS: u32 = 21;
const COUNT: u64 = (1 << COUNT_BITS) - 1;
const MAPS_SHIFT: u32 = COUNT_BITS;
const MAPS_BITS: u32 = 20;
const MAPS: u64 = ((1 << MAPS_BITS) - 1) << MAPS_SHIFT;
/// The upper two bits of the order; reserved beside them: a folio's lock and its waiters.
const ORDER_HIGH_SHIFT: u32 = 41;
const ORDER_HIGH: u64 = 3 << ORDER_HIGH_SHIFT;
#[allow(dead_code, reason = "used in a constant, which Rust 1.85 does not count")]
const LOCK_BITS: u64 = 3 << 43;
const ORDER_LOW: u64 = leaf_bits::ORDER;
const GENERATION: u64 = leaf_bits::GENERATION;
const LIVE: u64 = leaf_bits::DIRECT;

/// The most references that a folio can have: 2^20 - 1.
///
/// The count's field is one bit wider than that. `Page::get` adds before it looks, so as many threads as there are
/// references left in that bit would have to be between their addition and its undoing for the field to overflow.
/// Maps are references of leaf words, so they cannot be more.
pub(crate) const MAX_REFS: u32 = (1 << MAPS_BITS) - 1;

const _: () = leaf_bits::assert_partition(&[COUNT, MAPS, ORDER_HIGH, LOCK_BITS, ORDER_LOW, GENERATION, LIVE]);
const _: () = assert!(MAX_ORDER < 32, "an order fits its five bits");

/// A value of a page's state word.
///
/// | bits   | field      | meaning                                                              |
/// |--------|------------|----------------------------------------------------------------------|
/// | 0..21  | count      | references: of handles and of leaf words                             |
/// | 21..41 | maps       | how many of the references leaf words own                            |
/// | 41..43 | order      | bits 3 and 4 of the folio's order                                    |
/// | 43..45 | (reserved) | lock, waiters; 0                                                     |
/// | 45..48 | order      | bits 0 to 2                                                          |
/// | 48..63 | generation | counts allocations at this place: 24,576 values, then from the first |
/// | 63     | live       | set from allocation to the end of the last put                       |
///
/// From bit 45 on it is laid out as a direct leaf word, where the direct bit stands for live.
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
        let low = (self.0 & ORDER_LOW) >> leaf_bits::ORDER_SHIFT;
        let high = (self.0 & ORDER_HIGH) >> ORDER_HIGH_SHIFT;
        match Order::new((high << leaf_bits::ORDER_BITS | low) as u8) {
            Some(order) => order,
            // Only `next_life` writes the field, from an `Order`.
            None => Order::MAX,
        }
    }

    #[inline]
    pub(crate) const fn generation(self) -> u64 {
        (self.0 & GENERATION) >> leaf_bits::GENERATION_SHIFT
    }

    /// Whether a direct leaf names this life: live, of the same generation and order. One comparison.
    #[inline(always)]
    pub(crate) const fn is_named_by_direct(self, leaf: SoftLeaf) -> bool {
        (self.0 ^ leaf.bits()) >> leaf_bits::ORDER_SHIFT == 0
    }

    /// Whether a leaf with these fields, which leads here, names this life.
    #[inline]
    pub(crate) const fn is_named_by(self, leaf: DeviceWord) -> bool {
        self.is_live() && self.order().get() == leaf.order.get() && leaf.has_generation(self.generation())
    }

    /// Whether this is a life of `generation`.
    #[inline]
    pub(crate) const fn is_life(self, generation: u64) -> bool {
        self.is_live() && self.generation() == generation
    }

    /// free -> live: one reference, the next generation, nothing else kept.
    #[inline]
    pub(crate) const fn next_life(self, order: Order) -> State {
        let generation = leaf_bits::next_generation(self.generation()) << leaf_bits::GENERATION_SHIFT;
        let order = order.get() as u64;
        let low = order << leaf_bits::ORDER_SHIFT & ORDER_LOW;
        let high = order >> leaf_bits::ORDER_BITS << ORDER_HIGH_SHIFT;
        State(LIVE | generation | low | high | 1)
    }

    /// being freed -> free: only the generation stays.
    #[inline]
    pub(crate) const fn retired(self) -> State {
        State(self.0 & GENERATION)
    }

    /// absent -> free, as after a life of `generation`.
    pub(crate) const fn free_after(generation: u64) -> State {
        State(generation << leaf_bits::GENERATION_SHIFT & GENERATION)
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
    use crate::words::{Access, MAX_DIRECT_ORDER, Offset};

    #[test]
    fn a_generation_repeats_after_all_others() {
        let first = State::from_bits(0).next_life(Order::ZERO);
        let mut state = first.retired();
        let mut lives = 1;
        loop {
            let next = state.next_life(Order::ZERO);
            if next.is_life(first.generation()) {
                break;
            }
            assert!(leaf_bits::is_generation(next.generation()));
            assert!(!next.retired().is_life(next.generation()), "a free page is no life");
            lives += 1;
            state = next.retired();
        }
        assert_eq!(lives, 24_576);
    }

    #[test]
    fn what_a_device_leaf_keeps_of_a_generation_repeats_after_thousands() {
        let (mut state, mut last_seen) = (State::from_bits(0), [None; 1 << leaf_bits::LOW_GENERATION_BITS]);
        let mut shortest = u32::MAX;
        for life in 0..100_000u32 {
            state = state.next_life(Order::HUGE);
            let seen = &mut last_seen[state.generation() as usize % (1 << leaf_bits::LOW_GENERATION_BITS)];
            shortest = shortest.min(seen.replace(life).map_or(u32::MAX, |before| life - before));
        }
        assert_eq!(shortest, 4096);
    }

    #[test]
    fn a_direct_leaf_names_one_life_and_no_other() {
        let offset = Offset::new(128).unwrap();
        let orders = || (0..=MAX_DIRECT_ORDER.min(MAX_ORDER)).map(|order| Order::new(order).unwrap());
        for (named, order) in orders().flat_map(|a| orders().map(move |b| (a, b))) {
            let state = State::from_bits(0x1041 << leaf_bits::GENERATION_SHIFT).next_life(order);
            for generation in [0, 0x1041, 0x1042, 0x1043] {
                let leaf = SoftLeaf::direct(offset, named, generation, Access::Write).with_young(true);
                assert_eq!(state.is_named_by_direct(leaf), named == order && generation == 0x1042);
                let is_named = |state: State| leaf.device_word().is_some_and(|word| state.is_named_by(word));
                assert_eq!(is_named(state), named == order && generation == 0x1042);
                assert!(!state.retired().is_named_by_direct(leaf) && !is_named(state.retired()));
            }
        }
        for order in (0..=MAX_ORDER).filter_map(Order::new) {
            assert!(!State::from_bits(0).next_life(order).is_named_by_direct(SoftLeaf::NONE));
        }
    }

    #[test]
    fn every_order_is_kept_and_nothing_else_is() {
        for order in 0..=MAX_ORDER {
            let order = Order::new(order).unwrap();
            let state = State::from_bits(u64::MAX).next_life(order);
            assert_eq!((state.order(), state.count(), state.maps(), state.generation()), (order, 1, 0, 0x1000));
            assert!(state.is_live());
        }
    }
}
