//! What is done to a folio that only its owner knows, or only one leaf: several changes by one atomic operation.
//!
//! A migration takes most pages from one leaf, which is all that refers to them, and gives the leaf a page that nobody else has
//! seen. Whatever is not so, each of these refuses without a change, and its caller goes step by step.
//!
//! Edges: [last-put], [map], [lock].
#![forbid(unsafe_code)]

use super::state::{COUNT, FROZEN, LIVE, LOCKED, MAPS, ORDER_HIGH, ORDER_LOW, WAITERS};
use super::{Page, Put, State};
use crate::sync::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// What tells how many have a folio, and who holds it.
const HOLDERS: u64 = COUNT | FROZEN | MAPS | LOCKED;
/// What tells, beside, that it lives and is one page.
const SINGLE: u64 = LIVE | ORDER_LOW | ORDER_HIGH;

impl State {
    /// Whether it is one page, with a reference of one leaf's and none else, unlocked and unfrozen. One comparison.
    #[inline(always)]
    pub(crate) const fn is_of_one_leaf(self) -> bool {
        self.bits() & (HOLDERS | SINGLE) == LIVE | State::ONE_REF | State::ONE_MAP
    }

    /// Whether it is one page, locked, with a reference of one leaf's and one beside. One comparison.
    #[inline(always)]
    pub(crate) const fn is_locked_of_one_leaf(self) -> bool {
        self.bits() & (HOLDERS | SINGLE) == LIVE | LOCKED | State::ONE_MAP | (2 * State::ONE_REF)
    }

    /// of one leaf -> the same, locked, with a reference beside the leaf's.
    #[inline(always)]
    const fn locked_from_leaf(self) -> Option<State> {
        if self.is_of_one_leaf() { Some(State::from_bits(self.bits() + State::ONE_REF + LOCKED)) } else { None }
    }

    /// live with one reference, not a leaf's -> the same, locked. `None` if it is locked, or frozen.
    #[inline(always)]
    const fn locked_sole(self) -> Option<State> {
        if self.bits() & HOLDERS == State::ONE_REF { Some(State::from_bits(self.bits() + LOCKED)) } else { None }
    }

    /// locked -> unlocked, without the caller's reference and without one that a leaf owned: free, if that were all. `None` if
    /// somebody waits for it, who must be woken before the caller's reference goes.
    #[inline(always)]
    const fn let_go(self) -> Option<State> {
        if self.bits() & WAITERS != 0 {
            None
        } else if self.has_count(2) {
            Some(self.retired())
        } else {
            Some(State::from_bits(self.bits() - 2 * State::ONE_REF - State::ONE_MAP - LOCKED))
        }
    }
}

impl Page {
    /// Takes a reference of a single page that one leaf has and nobody else, and the lock; `false` for all other states, and for
    /// any but `seen`. For a caller that has read `seen` and knows that it is the leaf's life.
    #[inline(always)]
    pub(crate) fn lock_from_leaf(&self, seen: State) -> bool {
        let Some(next) = seen.locked_from_leaf() else { return false };
        // Acquire [init], [freeze], [lock]: as in `try_get` and `try_lock`.
        self.state.compare_exchange(seen.bits(), next.bits(), Acquire, Relaxed).is_ok()
    }

    /// Locks a folio of which the caller has the only reference; `false` if there is another, or it is locked.
    #[inline(always)]
    pub(crate) fn try_lock_sole(&self) -> bool {
        // Acquire [lock]: as in `try_lock`. Acquire [last-put]: whoever had it before has put it.
        self.update(Acquire, State::locked_sole).is_ok()
    }

    /// Unlocks the folio, and turns the caller's reference into one that a leaf word owns; `true` if somebody may wait.
    #[must_use = "who waits must be woken"]
    #[inline(always)]
    pub(crate) fn unlock_into_leaf(&self) -> bool {
        // Release [lock], [map]: as in `unlock` and `map`.
        let old = State::from_bits(self.state.fetch_add(State::ONE_MAP.wrapping_sub(LOCKED), Release));
        debug_assert!(old.is_locked(), "{old:?} unlocked");
        old.has_waiters()
    }

    /// Unlocks the folio, drops the caller's reference, and one that a leaf owned which the caller has taken out. `None` if
    /// somebody waits for it: then nothing has changed.
    #[inline(always)]
    pub(crate) fn let_go(&self) -> Option<Put> {
        // Release [lock], [last-put]: as in `unlock` and `put`. Acquire [last-put], [map]: as in `unmap_and_put`.
        let (old, new) = self.update(AcqRel, State::let_go).ok()?;
        debug_assert!(old.is_locked() && old.maps() > 0, "{old:?} let go");
        Some(if new.is_live() { Put::Shared } else { Put::Last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::Order;

    fn live(order: Order) -> (Page, State) {
        let page = Page::absent();
        let state = page.init(order, 0);
        (page, state)
    }

    #[test]
    fn a_page_goes_from_its_leaf_and_ends() {
        let (page, _) = live(Order::ZERO);
        assert!(!page.lock_from_leaf(page.state()), "no leaf has it");
        page.map();
        assert!(page.lock_from_leaf(page.state()) && page.state().is_locked_of_one_leaf());
        assert!(!page.lock_from_leaf(page.state()), "it is locked");
        assert_eq!(page.let_go(), Some(Put::Last));
        assert!(!page.state().is_live() && !page.state().is_locked());
    }

    #[test]
    fn whoever_else_has_it_is_in_the_way() {
        let (page, _) = live(Order::ZERO);
        page.map();
        let stale = page.state();
        page.get();
        assert!(!page.lock_from_leaf(stale) && !page.lock_from_leaf(page.state()));
        assert!(page.try_lock());
        page.get();
        assert!(!page.state().is_locked_of_one_leaf());
        assert_eq!(page.let_go(), Some(Put::Shared));
        assert_eq!((page.state().count(), page.state().maps(), page.state().is_locked()), (1, 0, false));
        let (large, _) = live(Order::HUGE);
        large.map();
        assert!(!large.lock_from_leaf(large.state()));
    }

    #[test]
    fn who_waits_is_not_passed_by() {
        let (page, state) = live(Order::ZERO);
        page.map();
        assert!(page.lock_from_leaf(page.state()));
        assert!(page.try_await(state.generation()));
        let before = page.state();
        assert!(page.let_go().is_none() && page.state() == before);
    }

    #[test]
    fn a_fresh_page_is_locked_and_given_to_a_leaf() {
        let (page, _) = live(Order::ZERO);
        assert!(page.try_lock_sole() && !page.try_lock_sole());
        assert!(!page.unlock_into_leaf());
        assert!(page.state().is_of_one_leaf());
        assert!(!page.try_lock_sole(), "a leaf has it");
    }
}
