//! [`State`]: what the state word of a page says, and the pure transitions between such words.
#![forbid(unsafe_code)]

use core::fmt;

use crate::geometry::{MAX_ORDER, MAX_REFS};
use crate::words::{DeviceWord, Order, SoftLeaf, leaf_bits};

const COUNT_BITS: u32 = 20;
pub(super) const COUNT: u64 = (1 << COUNT_BITS) - 1;
/// Next to the count, so that "some references, and not frozen" is one comparison.
pub(super) const FROZEN: u64 = 1 << COUNT_BITS;
const MAPS_SHIFT: u32 = COUNT_BITS + 1;
const MAPS_BITS: u32 = 19;
pub(super) const MAPS: u64 = ((1 << MAPS_BITS) - 1) << MAPS_SHIFT;
#[allow(dead_code, reason = "used in a constant, which Rust 1.85 does not count")]
const RESERVED: u64 = 1 << 40;
/// The upper two bits of the order.
const ORDER_HIGH_SHIFT: u32 = 41;
pub(super) const ORDER_HIGH: u64 = 3 << ORDER_HIGH_SHIFT;
pub(super) const LOCKED: u64 = 1 << 43;
pub(super) const WAITERS: u64 = 1 << 44;
pub(super) const ORDER_LOW: u64 = leaf_bits::ORDER;
const GENERATION: u64 = leaf_bits::GENERATION;
pub(super) const LIVE: u64 = leaf_bits::DIRECT;

const _: () = leaf_bits::assert_partition(&[
    COUNT, FROZEN, MAPS, RESERVED, ORDER_HIGH, LOCKED, WAITERS, ORDER_LOW, GENERATION, LIVE,
]);
const _: () = assert!(MAX_ORDER < 32, "an order fits its five bits");
// `Page::get` adds before it looks, so the count's field is at least twice as wide: that many threads would have to be
// between their addition and its undoing for the count to reach the frozen bit. Maps are references of leaf words, so
// they cannot be more.
const _: () = assert!(2 * (MAX_REFS as u64 + 1) <= COUNT + 1, "the count has room for additions that are undone");
const _: () = assert!((MAX_REFS as u64) < 1 << MAPS_BITS, "every reference may be a leaf word's");

/// A value of a page's state word.
///
/// | bits   | field      | meaning                                                              |
/// |--------|------------|----------------------------------------------------------------------|
/// | 0..20  | count      | references: of handles and of leaf words                             |
/// | 20     | frozen     | somebody has the folio for itself; see `Page::try_freeze`            |
/// | 21..40 | maps       | how many of the references leaf words own                            |
/// | 40     | (reserved) | 0                                                                    |
/// | 41..43 | order      | bits 3 and 4 of the folio's order                                    |
/// | 43     | locked     | somebody holds the folio's lock                                      |
/// | 44     | waiters    | somebody waits for it to be unlocked; see `wait`                     |
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
    /// The bits by themselves, for transitions that need to know nothing else.
    pub(crate) const FROZEN: u64 = FROZEN;
    pub(crate) const LOCKED: u64 = LOCKED;
    pub(crate) const WAITERS: u64 = WAITERS;

    #[inline(always)]
    pub(crate) const fn from_bits(bits: u64) -> State {
        State(bits)
    }

    #[inline(always)]
    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    /// The references, which are counted on while the folio is frozen.
    #[inline]
    pub(crate) const fn count(self) -> u32 {
        (self.0 & COUNT) as u32
    }

    /// Whether there are exactly `count` references (more than 0), and the folio is not frozen. One comparison.
    #[inline(always)]
    pub(crate) const fn has_count(self, count: u32) -> bool {
        self.0 & (COUNT | FROZEN) == count as u64
    }

    #[inline]
    pub(crate) const fn maps(self) -> u32 {
        ((self.0 & MAPS) >> MAPS_SHIFT) as u32
    }

    #[inline]
    pub(crate) const fn is_live(self) -> bool {
        self.0 & LIVE != 0
    }

    #[inline]
    pub(crate) const fn is_frozen(self) -> bool {
        self.0 & FROZEN != 0
    }

    #[inline(always)]
    pub(crate) const fn is_locked(self) -> bool {
        self.0 & LOCKED != 0
    }

    #[inline(always)]
    pub(crate) const fn has_waiters(self) -> bool {
        self.0 & WAITERS != 0
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

    /// Whether a leaf of a tail or a block, which names a folio of `order` and leads here, names this life. One comparison.
    #[inline(always)]
    pub(crate) const fn is_named_by_ordered(self, leaf: SoftLeaf, order: Order) -> bool {
        const UP: u32 = leaf_bits::LOW_GENERATION_SHIFT - leaf_bits::GENERATION_SHIFT;
        const LOOKED_AT: u64 = LIVE | leaf_bits::LOW_GENERATION >> UP | ORDER_LOW | ORDER_HIGH;
        let generation = (leaf.bits() & leaf_bits::LOW_GENERATION) >> UP;
        self.0 & LOOKED_AT == LIVE | generation | State::bits_of(order)
    }

    /// Where an order stands.
    #[inline(always)]
    const fn bits_of(order: Order) -> u64 {
        let order = order.get() as u64;
        order << leaf_bits::ORDER_SHIFT & ORDER_LOW | order >> leaf_bits::ORDER_BITS << ORDER_HIGH_SHIFT
    }

    /// Whether a leaf with these fields, which leads here, names this life.
    #[inline]
    pub(crate) const fn is_named_by(self, leaf: DeviceWord) -> bool {
        self.is_live() && self.order().get() == leaf.order.get() && leaf.has_generation(self.generation())
    }

    /// Whether this is a life of `generation`. One comparison.
    #[inline(always)]
    pub(crate) const fn is_life(self, generation: u64) -> bool {
        self.0 >> leaf_bits::GENERATION_SHIFT == LIVE >> leaf_bits::GENERATION_SHIFT | generation
    }

    /// free -> live: one reference, the next generation, nothing else kept.
    #[inline]
    pub(crate) const fn next_life(self, order: Order) -> State {
        let generation = leaf_bits::next_generation(self.generation()) << leaf_bits::GENERATION_SHIFT;
        State(LIVE | generation | State::bits_of(order) | 1)
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

    /// live -> live with one more reference, for whoever has none; `None` for a count of 0, which is free, for a full
    /// one, and for a frozen folio. One comparison.
    #[inline(always)]
    pub(crate) const fn try_get(self) -> Option<State> {
        let count = (self.0 & (COUNT | FROZEN)) as u32;
        if count.wrapping_sub(1) >= MAX_REFS - 1 { None } else { Some(State(self.0 + State::ONE_REF)) }
    }

    /// live -> live with one more reference, for whoever has one; `None` for a full count.
    #[inline]
    pub(crate) const fn one_more(self) -> Option<State> {
        if self.count() >= MAX_REFS { None } else { Some(State(self.0 + State::ONE_REF)) }
    }

    /// live -> live with one more reference, a leaf word's; `None` for a full count.
    #[inline]
    pub(crate) const fn one_more_mapped(self) -> Option<State> {
        if self.count() >= MAX_REFS { None } else { Some(State(self.0 + State::ONE_REF + State::ONE_MAP)) }
    }

    /// live -> live with one map fewer; `None` if no leaf word owns a reference, and for a frozen folio.
    #[inline]
    pub(crate) const fn unmapped(self) -> Option<State> {
        if self.maps() == 0 || self.is_frozen() { None } else { Some(State(self.0 - State::ONE_MAP)) }
    }

    /// live -> live with one map and one reference fewer, or free if that was the last; `None` as for `unmapped`.
    #[inline]
    pub(crate) const fn unmapped_and_put(self) -> Option<State> {
        match self.unmapped() {
            Some(_) if self.has_count(1) => Some(self.retired()),
            Some(state) => Some(State(state.0 - State::ONE_REF)),
            None => None,
        }
    }

    /// live -> frozen; `None` if there are more or fewer references than `expected`, and for a folio that is frozen.
    #[inline]
    pub(crate) const fn frozen(self, expected: u32) -> Option<State> {
        if self.has_count(expected) { Some(State(self.0 | FROZEN)) } else { None }
    }

    /// live -> locked by the caller, or else with its waiter's mark. For a caller in the table of waiters.
    #[inline]
    pub(crate) const fn locked_or_awaited(self) -> State {
        if self.is_locked() { State(self.0 | WAITERS) } else { State(self.0 | LOCKED) }
    }

    /// locked -> locked with a waiter's mark; `None` if there is nothing to wait for: the life of `generation` has ended,
    /// or the folio is not locked. One that is being freed has no waiters any more.
    #[inline]
    pub(crate) const fn awaited(self, generation: u64) -> Option<State> {
        let ends = self.0 & (COUNT | FROZEN) == 0;
        if !self.is_life(generation) || !self.is_locked() || ends { None } else { Some(State(self.0 | WAITERS)) }
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("count", &self.count())
            .field("maps", &self.maps())
            .field("order", &self.order().get())
            .field("live", &self.is_live())
            .field("frozen", &self.is_frozen())
            .field("locked", &self.is_locked())
            .field("waiters", &self.has_waiters())
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

    #[test]
    fn every_way_up_stops_at_the_most_and_disturbs_no_other_field() {
        let live = State::from_bits(0).next_life(Order::HUGE);
        let with = |count: u32, maps: u64| State::from_bits(live.bits() - 1 + u64::from(count) + maps * State::ONE_MAP);
        for (count, maps) in [(1, 0), (2, 2), (MAX_REFS - 1, 0), (MAX_REFS - 1, u64::from(MAX_REFS) - 1)] {
            let state = with(count, maps);
            assert_eq!(state.try_get(), Some(with(count + 1, maps)));
            assert_eq!(state.one_more(), Some(with(count + 1, maps)));
            assert_eq!(state.one_more_mapped(), Some(with(count + 1, maps + 1)));
        }
        // Beyond it as well: additions that will be undone.
        for count in [MAX_REFS, MAX_REFS + 1, 2 * MAX_REFS] {
            let state = with(count, u64::from(MAX_REFS));
            assert_eq!((state.try_get(), state.one_more(), state.one_more_mapped()), (None, None, None));
            assert_eq!((state.count(), state.maps(), state.is_frozen()), (count, MAX_REFS, false));
        }
        assert_eq!(with(0, 0).try_get(), None, "count 0 is free");
        assert_eq!((with(3, 0).unmapped(), with(3, 0).unmapped_and_put()), (None, None));
        assert_eq!(with(3, 2).unmapped_and_put(), Some(with(2, 1)));
        assert_eq!(with(1, 1).unmapped_and_put(), Some(live.retired()));
    }

    #[test]
    fn a_frozen_folio_refuses_whoever_has_no_handle() {
        let live = State::from_bits(0).next_life(Order::ZERO);
        let mapped = live.one_more_mapped().unwrap();
        assert_eq!((mapped.frozen(1), mapped.frozen(3), live.frozen(0)), (None, None, None));
        let frozen = mapped.frozen(2).unwrap();
        assert_eq!((frozen.count(), frozen.maps(), frozen.is_frozen()), (2, 1, true));
        assert!(!frozen.has_count(2) && mapped.has_count(2) && !live.has_count(2));
        assert_eq!((frozen.frozen(2), frozen.try_get()), (None, None));
        assert_eq!((frozen.unmapped(), frozen.unmapped_and_put()), (None, None));
        assert_eq!(frozen.one_more().map(|state| state.count()), Some(3), "a handle's own is counted");
        assert_eq!(frozen.bits() - State::FROZEN, mapped.bits());
        assert!(!frozen.next_life(Order::ZERO).is_frozen() && !frozen.retired().is_frozen());
    }

    #[test]
    fn only_a_locked_folio_is_awaited() {
        let live = State::from_bits(0).next_life(Order::new(3).unwrap());
        let life = live.generation();
        let locked = live.locked_or_awaited();
        assert!(locked.is_locked() && !locked.has_waiters());
        let awaited = locked.locked_or_awaited();
        assert_eq!(locked.awaited(life), Some(awaited));
        assert!(awaited.is_locked() && awaited.has_waiters());
        assert_eq!(awaited.awaited(life), Some(awaited));
        assert_eq!((live.awaited(life), locked.awaited(life + 1)), (None, None));
        assert_eq!(State::from_bits(locked.bits() - 1).awaited(life), None, "it is being freed");
        for next in [awaited.next_life(Order::ZERO), awaited.retired()] {
            assert!(!next.is_locked() && !next.has_waiters());
        }
        assert_eq!((awaited.order(), awaited.generation(), awaited.count()), (live.order(), life, 1));
    }
}
