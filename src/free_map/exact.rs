//! The search that may fail for good: it looks at every block and into every stash, not at hints.
//!
//! It announces itself, and then makes every other thread pass a barrier. From then on a release tells it, whether into
//! the map or into a stash; and a claim that gives pages up again says beforehand that it is unsure of them, and tells it
//! afterwards. So no more pages can be free at the end than were seen free, were released, or were in the hands of
//! somebody unsure. If there were none of the last two, what it has seen is how it was at one moment: too little is
//! exhausted, enough is fragmented. Otherwise it looks again.
//!
//! A release that has not yet come to its end has not yet happened.
#![forbid(unsafe_code)]

use super::closure::ONE_SEARCH;
use super::{ClaimError, Claimer, FreeMap, GivenUp, Mixing, free_pages, largest_free_order};
use crate::geometry::{BLOCK_SHIFT, MODEL};
use crate::seat::{Oldest, Seat, orders};
use crate::sparse::NoMemory;
use crate::sync::{
    Backoff,
    Ordering::{Acquire, Relaxed},
    heavy_barrier,
};
use crate::words::Order;

/// How often an exact search for a run looks again because pages came and went.
const PATIENCE: u32 = 16;

/// How many runs are stolen for one heavy barrier.
const STEALS_AT_ONCE: usize = if MODEL { 2 } else { 64 };

/// What a look at every block has found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Census {
    /// Where there was room. If there was, the rest does not count.
    pub(super) room: Option<u64>,
    /// Pages seen free.
    pub(super) free: u64,
    /// Pages of the longest free run that could be had.
    pub(super) largest: u64,
}

/// What a claim asks for.
pub(crate) trait Request {
    fn nr_pages(&self) -> u64;

    /// Tries where hints say that there is room.
    fn by_hints(&self, map: &FreeMap, claimer: Claimer<'_>, given_up: &GivenUp) -> Result<Option<u64>, NoMemory>;

    /// Looks at every block, until it finds room.
    fn look(&self, map: &FreeMap, claimer: Claimer<'_>) -> Census;

    /// Tries at one place where `look` has seen room.
    fn attempt(
        &self,
        map: &FreeMap,
        claimer: Claimer<'_>,
        room: u64,
        given_up: &GivenUp,
    ) -> Result<Option<u64>, NoMemory>;
}

impl FreeMap {
    /// By hints, and if these fail, exactly.
    pub(super) fn claim_request(&self, claimer: Claimer<'_>, request: &impl Request) -> Result<u64, ClaimError> {
        match self.by_hints(claimer, request)? {
            Some(page) => Ok(page),
            None => self.search_exactly(claimer, request),
        }
    }

    fn by_hints(&self, claimer: Claimer<'_>, request: &impl Request) -> Result<Option<u64>, NoMemory> {
        self.while_unsure(claimer.seat, request.nr_pages(), |given_up| request.by_hints(self, claimer, given_up))
    }

    #[cold]
    pub(crate) fn search_exactly(&self, claimer: Claimer<'_>, request: &impl Request) -> Result<u64, ClaimError> {
        // Relaxed [verify]: the barrier orders it before all that follows, as whoever passes it sees.
        self.watchers.fetch_add(ONE_SEARCH, Relaxed);
        heavy_barrier();
        let result = self.search_until_sure(claimer, request);
        self.watchers.fetch_sub(ONE_SEARCH, Relaxed);
        result
    }

    fn search_until_sure(&self, claimer: Claimer<'_>, request: &impl Request) -> Result<u64, ClaimError> {
        let (backoff, nr_pages) = (Backoff::new(), request.nr_pages());
        let mut rounds = 0;
        loop {
            // Acquire [verify]: pages whose release is counted here are seen free below.
            let releases = self.releases.load(Acquire);
            let mut drained = 0;
            loop {
                let pages = self.drain_some(claimer);
                if pages == 0 {
                    break;
                }
                drained += pages;
                if let Some(page) = self.by_hints(claimer, request)? {
                    return Ok(page);
                }
            }
            let census = request.look(self, claimer);
            if let Some(room) = census.room {
                let attempt = |given_up: &GivenUp| request.attempt(self, claimer, room, given_up);
                match self.while_unsure(claimer.seat, nr_pages, attempt)? {
                    Some(page) => return Ok(page),
                    // Lost to another claim, which succeeded.
                    None => continue,
                }
            }
            // What was unsure first: when it no longer is, its giving up has been counted.
            let unsure = claimer.seats.unsure_pages().saturating_sub(claimer.unsure);
            // Acquire: after the census in program order, and the census acquires too. What we drained ourselves is no
            // news.
            let released = self.releases.load(Acquire).wrapping_sub(releases).wrapping_sub(drained);
            let (free, largest) = (census.free, census.largest);
            if unsure == 0 && released == 0 {
                return Err(if free < nr_pages {
                    ClaimError::Exhausted { free }
                } else {
                    ClaimError::Fragmented { free, largest }
                });
            }
            if claimer.unsure > 0 {
                return Err(ClaimError::Contended { free, largest });
            }
            // Under a constant coming and going, a run of several pages may never be there or be missing for sure. A
            // single free page is always a run, so there it is only a question of time.
            rounds += 1;
            if rounds >= PATIENCE && free >= nr_pages && nr_pages > 1 {
                return Err(ClaimError::Fragmented { free, largest });
            }
            backoff.snooze();
        }
    }

    /// Steals a run from each stash and order that has one, as far as one barrier reaches, and gives them to the map.
    /// Returns how many pages; 0 only when all stashes were empty, or what was in them has been taken by others.
    ///
    /// Whatever was in a stash when the search announced itself is seen here. What its owner takes out is no longer
    /// free; what another search steals, that search is unsure of.
    pub(crate) fn drain_some(&self, claimer: Claimer<'_>) -> u64 {
        let mut oldest: [Option<(&Seat, Order, Oldest)>; STEALS_AT_ONCE] = [None; STEALS_AT_ONCE];
        loop {
            let runs = claimer
                .seats
                .iter()
                .flat_map(|seat| orders().filter_map(move |order| Some((seat, order, seat.stash().oldest(order)?))));
            let nr = oldest.iter_mut().zip(runs).map(|(slot, run)| *slot = Some(run)).count();
            if nr == 0 {
                return 0;
            }
            heavy_barrier();
            let mut pages = 0;
            for (seat, order, run) in oldest[..nr].iter().flatten() {
                claimer.seat.begin_unsure(order.nr_pages());
                if let Some(page) = seat.stash().steal(*order, *run) {
                    self.release(claimer.blocks, claimer.seat, page, *order);
                    pages += order.nr_pages();
                }
                claimer.seat.end_unsure(order.nr_pages());
            }
            if pages > 0 {
                return pages;
            }
        }
    }

    /// Gives all that is kept in stashes to the map. For whoever ends the device: its owners have left and do not come back
    /// ([drain]), so each stash is emptied as they would, without a barrier for each run.
    pub(crate) fn drain_all(&self, claimer: Claimer<'_>) {
        for (seat, order) in claimer.seats.iter().flat_map(|seat| orders().map(move |order| (seat, order))) {
            while let Some(page) = seat.stash().pop(order) {
                self.release(claimer.blocks, claimer.seat, page, order);
            }
        }
    }
}

impl Request for Order {
    fn nr_pages(&self) -> u64 {
        Order::nr_pages(*self)
    }

    fn by_hints(&self, map: &FreeMap, claimer: Claimer<'_>, given_up: &GivenUp) -> Result<Option<u64>, NoMemory> {
        if self.is_whole_block() {
            map.search_whole(claimer, *self, given_up)
        } else {
            map.search_small(claimer, *self, given_up)
        }
    }

    fn attempt(
        &self,
        _: &FreeMap,
        claimer: Claimer<'_>,
        block: u64,
        given_up: &GivenUp,
    ) -> Result<Option<u64>, NoMemory> {
        if self.is_whole_block() {
            claimer.blocks.claim_whole(block, *self, given_up)
        } else {
            claimer.blocks.claim_in(block, *self, Mixing::Allowed, given_up)
        }
    }

    /// Where there was room: a block, the first of a run for large orders.
    fn look(&self, map: &FreeMap, claimer: Claimer<'_>) -> Census {
        let nr_blocks = (self.nr_pages() >> BLOCK_SHIFT).max(1);
        let mut census = Census::default();
        let mut empty_run = 0;
        for block in map.blocks() {
            let seen = claimer.blocks.use_of(block);
            if claimer.blocks.is_withheld(block, seen) {
                empty_run = 0;
                continue;
            }
            let bits = if seen.goes_by_bits() { claimer.blocks.bits_of(block) } else { Default::default() };
            let free = free_pages(&bits);
            census.free += free;
            if bits.iter().any(|&word| word != 0) {
                empty_run = 0;
                let largest = largest_free_order(&bits);
                if largest.is_some_and(|largest| largest >= *self) {
                    census.room = Some(block);
                    return census;
                }
                census.largest = census.largest.max(largest.map_or(0, Order::nr_pages));
                continue;
            }
            if !self.is_whole_block() {
                census.room = Some(block);
                return census;
            }
            empty_run += 1;
            // The longest aligned run that ends here: n blocks, up to a border that n divides.
            let mut n = 1;
            while n * 2 <= empty_run && (block + 1) % (n * 2) == 0 {
                n *= 2;
            }
            if n >= nr_blocks {
                census.room = Some(block + 1 - nr_blocks);
                return census;
            }
            census.largest = census.largest.max(n << BLOCK_SHIFT).min(Order::MAX.nr_pages());
        }
        census
    }
}
