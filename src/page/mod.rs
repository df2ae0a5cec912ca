//! [`Page`]: the 16 bytes of metadata of a folio, and the state word in which everything about its life is decided.
//!
//! Which page lies where is not known here; see `section_map`. Who may initialise one is not known here either: the
//! free map says who owns a run. Above: `section_map`, `folio`. Edges: [init], [last-put], [map].
#![forbid(unsafe_code)]

mod link;
mod state;

pub(crate) use link::Link;
pub(crate) use state::{MAX_REFS, State};

use crate::sync::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
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
/// | being freed       | 0     | 0     | yes  | the thread whose put was the last                           |
///
/// free -> live by `init`. The last `put` leads live -> free by one exchange if it finds itself alone, and otherwise by
/// way of being freed.
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

    /// Takes a reference of the life of `generation`, unless that is over or there is no room for one more. Lock-free: another thread's success is the only reason to try again.
    #[inline]
    pub(crate) fn try_get(&self, generation: u64) -> Option<State> {
        // Edge [init]: the holder that we become reads the folio's fields.
        self.update(|state| state.is_life(generation).then(|| state.try_get()).flatten())
    }

    /// Takes one more reference, for a caller that holds one.
    ///
    /// # Panics
    ///
    /// When [`MAX_REFS`] references are out: the count must not run into the maps.
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

    /// Drops a reference; `true` means it was the last: the life has ended, lookups miss, and nobody else will touch the
    /// page until the caller has given it back.
    #[must_use = "the last put must free the folio"]
    #[inline]
    pub(crate) fn put(&self) -> bool {
        // Relaxed: a guess that the exchange checks.
        let seen = State::from_bits(self.state.load(Relaxed));
        if seen.count() == 1 {
            // Acquire [last-put]: joins every earlier put.
            // Relaxed, if somebody got a reference meanwhile: then this one is like any other.
            if self.state.compare_exchange(seen.bits(), seen.retired().bits(), Acquire, Relaxed).is_ok() {
                return true;
            }
        }
        self.put_one_of_many()
    }

    /// Takes the caller's reference away, which must be the only one and not a leaf's, so that nobody can get another; the
    /// state as it is if it is not. Linux: `folio_ref_freeze()`.
    pub(crate) fn freeze_sole(&self) -> Result<(), State> {
        let seen = State::from_bits(self.state.load(Relaxed));
        if seen.count() != 1 || seen.maps() != 0 {
            return Err(seen);
        }
        // Acquire [last-put]: as in `put`; what others did with the folio before they put it is behind us.
        let frozen = self.state.compare_exchange(seen.bits(), seen.bits() - State::ONE_REF, Acquire, Relaxed);
        frozen.map(|_| ()).map_err(State::from_bits)
    }

    /// Ends the life of a frozen folio whose pages have become others, with records elsewhere.
    pub(crate) fn thaw_to_free(&self) {
        // Relaxed: as in `put_one_of_many`.
        let state = State::from_bits(self.state.load(Relaxed));
        self.state.store(state.retired().bits(), Relaxed);
    }

    fn put_one_of_many(&self) -> bool {
        // Release [last-put]: our use of the folio ends before any later owner's begins.
        let old = State::from_bits(self.state.fetch_sub(State::ONE_REF, Release));
        debug_assert!(old.count() > 0, "a put of a free folio");
        if old.count() != 1 {
            return false;
        }
        // Acquire [last-put]: joins every earlier put. A load and not a fence, because ThreadSanitizer does not
        // follow fences.
        let last = State::from_bits(self.state.load(Acquire));
        debug_assert!(last.count() == 0 && last.maps() == 0, "{last:?} retired");
        // Relaxed: we are alone with the page since the last put, and the next owner's claim orders this store
        // ([claim]). A lookup that still sees the old word finds a count of 0.
        self.state.store(last.retired().bits(), Relaxed);
        true
    }

    /// Turns a reference of the caller's into one that a leaf word owns.
    #[inline]
    pub(crate) fn map(&self) {
        // Release [map]: pairs with the Acquire in `unmap`: whoever takes the leaf has our use of the folio behind it,
        // however the leaf travelled. (That it sees this map at all is up to whoever stored and loaded the leaf.) There
        // is room: every map owns a reference, and references stop at MAX_REFS.
        self.state.fetch_add(State::ONE_MAP, Release);
    }

    /// Turns a leaf word's reference of the life of `generation` back into one of the caller's, or says why not.
    #[inline]
    pub(crate) fn unmap(&self, generation: u64) -> Result<State, State> {
        // Edge [map]: what the handle did before `map` is behind us.
        self.update(|state| state.is_life(generation).then(|| state.unmapped()).flatten()).ok_or_else(|| self.state())
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

    /// Applies a pure transition by one compare-exchange; `None` as soon as it refuses. Returns the new state.
    #[inline]
    fn update(&self, transition: impl Fn(State) -> Option<State>) -> Option<State> {
        // Relaxed: only a guess that the exchange checks. A refusal reads nothing of the folio.
        let mut seen = self.state.load(Relaxed);
        loop {
            let next = transition(State::from_bits(seen))?;
            // Acquire [init], [map]: pairs with the Release of `init` and of `map`.
            match self.state.compare_exchange_weak(seen, next.bits(), Acquire, Relaxed) {
                Ok(_) => return Some(next),
                Err(now) => seen = now,
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
        assert!(!page.put() && !page.put() && page.put());
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
