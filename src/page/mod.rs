//! [`Page`]: the 16 bytes of metadata of a folio, and the state word in which everything about its life is decided.
//!
//! Which page lies where is not known here; see `section_map`. Who may initialise one is not known here either: the
//! free map says who owns a run. Nor does a page know who waits for it; see `wait`. Above: `section_map`, `wait`, `folio`.
//! Edges: [init], [last-put], [map], [lock], [freeze].
#![forbid(unsafe_code)]

mod link;
mod sole;
mod state;

pub(crate) use link::Link;
pub(crate) use state::State;

use crate::geometry::MAX_REFS;
use crate::sync::{
    AtomicU64, Ordering,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use crate::words::Order;

/// Metadata of one folio: of order 0 to 8 in the array of pages, at the place of its head; of order 9 and more in the
/// array of blocks.
///
/// | state             | count | maps  | live | who may write                                               |
/// |-------------------|-------|-------|------|-------------------------------------------------------------|
/// | absent (all zero) | 0     | 0     | no   | whoever claimed the run in the free map                     |
/// | free              | 0     | 0     | no   | whoever claimed the run in the free map                     |
/// | live              | 1..   | 0..   | yes  | any holder, by atomic read-modify-write                     |
/// | frozen            | 1..   | 0..   | yes  | whoever froze it; holders of other handles, by the same     |
/// | being freed       | 0     | 0     | yes  | the thread whose put was the last                           |
///
/// free -> live by `init`. The last `put` leads live -> being freed -> free. live -> frozen by `try_freeze`, and back by `unfreeze`. Locked and awaited are marks of a live or
/// frozen folio, whatever else happens to it; they end with its life.
#[repr(C, align(16))]
pub(crate) struct Page {
    state: AtomicU64,
    private: AtomicU64,
}

const _: () = assert!(crate::geometry::MODEL || size_of::<Page>() == 16, "16 bytes of metadata a page");

impl Page {
    #[allow(dead_code, reason = "see `Zeroed::absent`")]
    pub(crate) fn absent() -> Page {
        Page { state: AtomicU64::new(0), private: AtomicU64::new(0) }
    }

    /// The state now. Acquire [init]: what `init` wrote before it is visible with it.
    #[inline(always)]
    pub(crate) fn state(&self) -> State {
        State::from_bits(self.state.load(Acquire))
    }

    /// The state now, for a look without a reference. Relaxed: nothing else is read because of it. Whoever holds the
    /// leaf is ordered after `init` by how the leaf came to it; who does not must take a reference, which acquires
    /// [init]. An Acquire would cost no instruction itself, but makes the compiler load the array's base and length
    /// again, and compare again, for the next field.
    #[inline(always)]
    pub(crate) fn peek(&self) -> State {
        State::from_bits(self.state.load(Relaxed))
    }

    /// Brings a page to life with one reference and this driver's word: what the last owner left is gone, and the generation
    /// is the next.
    ///
    /// Only for the thread that has claimed the run: nobody else writes a page that is not live.
    #[inline]
    pub(crate) fn init(&self, order: Order, private: u64) -> State {
        // Relaxed: the last writer's store came to us through the claim of the run ([claim]).
        let state = State::from_bits(self.state.load(Relaxed)).next_life(order);
        self.private.store(private, Relaxed);
        // Release [init]: pairs with the Acquire of `state` and `try_get`; whoever sees the new life sees its fields.
        self.state.store(state.bits(), Release);
        state
    }

    /// Makes a page that was absent free, after a life of `generation`. Only before anybody finds it.
    pub(crate) fn resume(&self, generation: u64) {
        // Relaxed [populate]: released with the section.
        self.state.store(State::free_after(generation).bits(), Relaxed);
    }

    /// Absent again; only where a model gives memory back.
    pub(crate) fn vanish(&self) {
        self.private.store(0, Release);
        self.state.store(0, Release);
    }

    /// Takes a reference of the life of `generation`, unless that is over, the folio is frozen, or there is no room for
    /// one more. Lock-free: another thread's success is the only reason to try again.
    #[inline]
    pub(crate) fn try_get(&self, generation: u64) -> Option<State> {
        // Acquire [init], [freeze]: the holder that we become reads the folio's fields, as `init` left them, or whoever
        // had the folio frozen.
        let got = self.update(Acquire, |state| if state.is_life(generation) { state.try_get() } else { None });
        got.ok().map(|(_, state)| state)
    }

    /// Takes one more reference, for a caller that holds one. Of a frozen folio too: who froze it has counted the caller's.
    ///
    /// # Panics
    ///
    /// When [`MAX_REFS`] references are out: the count must not run into the other fields.
    #[inline]
    pub(crate) fn get(&self) {
        // Relaxed: the caller's own reference already ordered everything that it may read.
        let old = State::from_bits(self.state.fetch_add(State::ONE_REF, Relaxed));
        if old.count() >= MAX_REFS {
            self.undo_get();
        }
    }

    #[cold]
    #[inline(never)]
    fn undo_get(&self) {
        // Relaxed: this reference was never used. It is not the last, since the caller holds another.
        self.state.fetch_sub(State::ONE_REF, Relaxed);
        panic!(
            "a folio has {MAX_REFS} references, the most that it can count; use `try_clone` to meet this as an error"
        );
    }

    /// The same, or `false` where `get` panics.
    pub(crate) fn get_one_more(&self) -> bool {
        // Relaxed: as in `get`.
        self.update(Relaxed, State::one_more).is_ok()
    }

    /// Takes one more reference, a leaf word's, for a caller that holds one; `false` if there is no room.
    ///
    /// By an exchange and not by an addition that may have to be undone: a leaf that was taken before could be taken again
    /// by the map that is about to go.
    #[inline]
    pub(crate) fn get_mapped(&self) -> bool {
        // Release [map]: as in `map`.
        self.update(Release, State::one_more_mapped).is_ok()
    }

    /// Drops a reference. If it was the last, the life has ended, lookups miss, and nobody else will touch the page until
    /// the caller has given it back.
    ///
    /// Of a frozen folio, it is never the last: who froze it holds one.
    ///
    /// One subtraction, as of `Arc`, and no look before it: that would wait for the last read-modify-write, and bring the
    /// line in twice where others share the folio.
    #[must_use = "the last put must free the folio"]
    #[inline(always)]
    pub(crate) fn put(&self) -> Put {
        // Release [last-put]: our use of the folio ends before any later owner's begins.
        let old = State::from_bits(self.state.fetch_sub(State::ONE_REF, Release));
        debug_assert!(old.count() > 0, "a put of a free folio");
        if old.has_count(1) { self.retire(old) } else { Put::Shared }
    }

    /// Ends a life whose count has just come from 1, in state `last`, to 0.
    #[inline]
    fn retire(&self, last: State) -> Put {
        debug_assert!(last.maps() == 0, "{last:?} retired");
        // Acquire [last-put]: joins every earlier put. A load and not a fence, because ThreadSanitizer does not
        // follow fences.
        self.state.load(Acquire);
        // Relaxed: we are alone with the page since the last put, and the next owner's claim orders this store
        // ([claim]). A lookup that still sees the old word finds a count of 0. Nobody who waits has left a mark since:
        // a folio that is being freed has no waiters (`State::awaited`).
        self.state.store(last.retired().bits(), Relaxed);
        Put::last(last)
    }

    /// Freezes the folio, if it has exactly `expected` references, one of them the caller's, and is not frozen: nobody gets
    /// a reference any more who has none, and no leaf word's is taken. What other handles do is counted on; whether there
    /// are any, is for the caller to know, or to see in the state before (which is returned, either way). Linux:
    /// `folio_ref_freeze()`, without a count of 0, so that a put while frozen cannot run below it.
    pub(crate) fn try_freeze(&self, expected: u32) -> Result<State, State> {
        self.freeze_if(|state| state.frozen(expected))
    }

    /// The same for a caller that has the only reference, and that one is not a leaf's.
    pub(crate) fn freeze_sole(&self) -> Result<State, State> {
        self.freeze_if(|state| if state.maps() == 0 { state.frozen(1) } else { None })
    }

    /// The same on any condition. Maps do not become fewer while frozen, and more only by other handles: so if the state
    /// before had `1 + maps` references, nobody else has a handle until it is unfrozen.
    pub(crate) fn freeze_if(&self, transition: impl Fn(State) -> Option<State>) -> Result<State, State> {
        // Acquire [last-put]: what others did with the folio before they put it is behind us.
        self.update(Acquire, transition).map(|(old, _)| old)
    }

    /// Undoes `try_freeze`.
    pub(crate) fn unfreeze(&self) {
        // Release [freeze]: pairs with the Acquire of `try_get` and `unmap`: who gets in now sees what we did meanwhile.
        let old = State::from_bits(self.state.fetch_sub(State::FROZEN, Release));
        debug_assert!(old.is_frozen(), "{old:?} unfrozen");
    }

    /// Ends the life of a frozen folio of which the caller has the only reference; before its pages become others.
    #[must_use = "who waits for the folio must be woken"]
    pub(crate) fn retire_frozen(&self) -> Put {
        // Relaxed: only the generation is used, which stays.
        let seen = State::from_bits(self.state.load(Relaxed));
        debug_assert!(seen.is_frozen() && seen.count() == 1, "{seen:?} retired");
        // Relaxed: as in `retire`. By an exchange, since a waiter may still leave its mark.
        Put::last(State::from_bits(self.state.swap(seen.retired().bits(), Relaxed)))
    }

    /// Turns a reference of the caller's into one that a leaf word owns.
    #[inline]
    pub(crate) fn map(&self) {
        // Release [map]: pairs with the Acquire in `unmap`: whoever takes the leaf has our use of the folio behind it,
        // however the leaf travelled. (That it sees this map at all is up to whoever stored and loaded the leaf.) There
        // is room: every map owns a reference, and references stop at MAX_REFS.
        self.state.fetch_add(State::ONE_MAP, Release);
    }

    /// Turns a leaf word's reference of the life of `generation` back into one of the caller's, or returns the state that
    /// refuses it: the life is over, there is no map, or the folio is frozen.
    #[inline]
    pub(crate) fn unmap(&self, generation: u64) -> Result<State, State> {
        // Acquire [map], [freeze]: what the handle did before `map` is behind us, and what was done while frozen.
        let unmapped = self.update(Acquire, |state| if state.is_life(generation) { state.unmapped() } else { None });
        unmapped.map(|(_, state)| state)
    }

    /// Drops a leaf word's reference of the life of `generation`; refused as `unmap` is.
    #[inline(always)]
    pub(crate) fn unmap_and_put(&self, generation: u64) -> Result<Put, State> {
        let transition = |state: State| if state.is_life(generation) { state.unmapped_and_put() } else { None };
        // Release [last-put]: pairs with the Acquire of the last put; what the leaf's holder did ends before that.
        // Acquire [last-put], [map]: if it is the last: joins every earlier put, and what was done before `map`.
        let (old, new) = self.update(AcqRel, transition)?;
        Ok(if new.is_live() { Put::Shared } else { Put::last(old) })
    }

    /// Locks the folio for a caller that holds a reference, unless it is locked.
    #[inline]
    pub(crate) fn try_lock(&self) -> bool {
        // Acquire [lock]: pairs with the Release in `unlock`: what was done under the lock is behind us.
        !State::from_bits(self.state.fetch_or(State::LOCKED, Acquire)).is_locked()
    }

    /// The same, or else marks it as awaited. For a caller in the table of waiters.
    pub(crate) fn try_lock_or_await(&self) -> bool {
        // Acquire [lock]: as in `try_lock`.
        self.update(Acquire, |state| Some(state.locked_or_awaited())).is_ok_and(|(old, _)| !old.is_locked())
    }

    /// Marks a locked folio as awaited, if the life of `generation` is not over; `false` if there is nothing to wait for.
    /// For a caller in the table of waiters, without a reference.
    pub(crate) fn try_await(&self, generation: u64) -> bool {
        // Acquire [lock]: if it has been unlocked, what was done under the lock is behind us.
        let mut seen = self.state.load(Acquire);
        while let Some(next) = State::from_bits(seen).awaited(generation) {
            // Relaxed on success: a mark, by which nothing is read.
            match self.state.compare_exchange_weak(seen, next.bits(), Relaxed, Acquire) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    /// Unlocks the folio; `true` if somebody may wait for that. By an addition, which is one instruction and leaves the
    /// waiters' mark to `clear_waiters`.
    #[must_use = "who waits must be woken"]
    #[inline]
    pub(crate) fn unlock(&self) -> bool {
        // Release [lock]: pairs with the Acquire in `try_lock` and its like.
        let old = State::from_bits(self.state.fetch_sub(State::LOCKED, Release));
        debug_assert!(old.is_locked(), "{old:?} unlocked");
        old.has_waiters()
    }

    /// Takes the waiters' mark away, for whoever is about to wake them all. For a holder, in the table of waiters.
    pub(crate) fn clear_waiters(&self) {
        // Relaxed: the table's lock orders it.
        self.state.fetch_and(!State::WAITERS, Relaxed);
    }

    /// The driver's word. Relaxed: a word of its own, ordered by how the caller came to the folio.
    #[inline(always)]
    pub(crate) fn private(&self) -> u64 {
        self.private.load(Relaxed)
    }

    #[inline]
    pub(crate) fn set_private(&self, value: u64) {
        self.private.store(value, Relaxed);
    }

    /// Applies a pure transition by one compare-exchange: the states before and after, or the one that it refused.
    #[inline(always)]
    fn update(&self, success: Ordering, transition: impl Fn(State) -> Option<State>) -> Result<(State, State), State> {
        // Relaxed: only a guess that the exchange checks. A refusal reads nothing of the folio.
        let mut seen = self.state.load(Relaxed);
        loop {
            let Some(next) = transition(State::from_bits(seen)) else { return Err(State::from_bits(seen)) };
            match self.state.compare_exchange_weak(seen, next.bits(), success, Relaxed) {
                Ok(_) => return Ok((State::from_bits(seen), next)),
                Err(now) => seen = now,
            }
        }
    }
}

/// What a put leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    /// Other references.
    Shared,
    /// Nothing: it was the last, and the caller ends the folio.
    Last,
    /// The same, and somebody who waits for the folio to be unlocked.
    LastAwaited,
}

impl Put {
    #[inline(always)]
    fn last(state: State) -> Put {
        if state.has_waiters() { Put::LastAwaited } else { Put::Last }
    }

    /// Whether it was the last. Who waits for the folio is woken by `wake`.
    #[inline(always)]
    pub(crate) fn is_last(self, wake: impl FnOnce()) -> bool {
        match self {
            Put::Shared => false,
            Put::Last => true,
            Put::LastAwaited => {
                wake();
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life_of(page: &Page) -> u64 {
        page.state().generation()
    }

    #[test]
    fn a_life_from_init_to_retire() {
        let page = Page::absent();
        assert!(!page.state().is_live());
        assert!(page.try_get(life_of(&page)).is_none(), "a free page has no references to share");
        let order = Order::new(3).unwrap();
        page.init(order, 0);
        page.set_private(77);
        let life = life_of(&page);
        assert_eq!((page.state().count(), page.state().order(), page.private()), (1, order, 77));
        page.get();
        assert!(page.try_get(life).is_some());
        assert_eq!(page.state().count(), 3);
        assert_eq!([page.put(), page.put(), page.put()], [Put::Shared, Put::Shared, Put::Last]);
        assert!(page.try_get(life).is_none(), "count 0 is free");
        assert!(!page.state().is_live());
        page.init(Order::ZERO, 0);
        assert_eq!(page.private(), 0, "nothing of the last owner shows through");
        assert_eq!(page.state().order(), Order::ZERO);
        assert!(page.try_get(life).is_none(), "another life");
    }

    #[test]
    fn a_leaf_gives_its_reference_back_once() {
        let page = Page::absent();
        page.init(Order::ZERO, 0);
        let life = life_of(&page);
        assert!(page.unmap(life).is_err(), "no leaf was made");
        page.map();
        page.map();
        assert_eq!(page.state().maps(), 2);
        assert!(page.unmap(life).is_ok() && page.unmap(life).is_ok());
        assert_eq!(page.unmap(life).unwrap_err().maps(), 0);
        assert_eq!(page.state().count(), 1, "references do not change");
        assert!(page.unmap(life + 1).is_err(), "another generation");
    }

    #[test]
    fn the_count_stops_before_it_runs_over() {
        let page = Page::absent();
        page.init(Order::ZERO, 0);
        let life = life_of(&page);
        for _ in 1..MAX_REFS {
            page.get();
        }
        assert!(page.try_get(life).is_none());
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| page.get())).is_err());
        assert_eq!((page.state().count(), page.state().maps()), (MAX_REFS, 0));
        for _ in 0..MAX_REFS {
            page.map();
        }
        assert_eq!((page.state().count(), page.state().maps()), (MAX_REFS, MAX_REFS));
        let state = page.state();
        assert!(state.is_life(life) && state.order() == Order::ZERO, "the other fields stand: {state:?}");
    }
}
