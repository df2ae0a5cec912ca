//! Edge [verify]: `FreeMap::search_exactly` -> `FreeMap::note_released` and back, by barriers, and `Seat::end_unsure` -> the
//! search: it fails only if at one moment there was no room. In each model a thread frees one run, into the map or into a
//! stash, before it takes another, or gives up what it could not take: so that there is always room.
//!
//! Shape: one moves a hole behind the search, one searches; two search; a claim of two blocks, a span of two words or a page
//! of a block is undone meanwhile; a cache is dropped.
//! Cost: 110 to 15,723 executions at bound 2, up to 121,077 (12 s) at bound 3; one more preemption where it says so. Two
//! searches of one stash and the claim of two blocks, 50,000 to 72,000 (5 to 7 s) at bound 2, are explored no further.
//! Teeth: fails without either barrier, the announcement, the count of releases or that of who is unsure, with the Release or
//! the Acquire of any of the words that a search reads taken away, and when stashes are not drained or what was given up is
//! not told.

use farpage::model::{Map, Tried};
use farpage_loom_tests::{Owned, bounded, bounded_by, bounded_more};
use loom::{sync::Arc, thread};

/// A device of `nr_pages`, with memory for everything, and the runs in `taken` (page, order) claimed.
fn map(nr_pages: u64, taken: &[(u64, u8)]) -> Arc<Map> {
    let map = Map::new(nr_pages);
    map.warm_up();
    for &(page, order) in taken {
        assert_eq!(map.claim_in(page / 4, order), Tried::Claimed(page));
    }
    Arc::new(map)
}

/// The hole moves from the second word to the first, which the searcher has passed.
#[test]
fn a_hole_that_moves_behind_the_search_is_found() {
    bounded("verify: order 0", || {
        let map = map(4, &[(0, 0), (1, 0)]);
        let other = map.clone();
        let searcher = thread::spawn(move || other.claim_exactly(0).is_ok());
        map.release(1, 0);
        // Fails if the searcher was there first.
        map.claim_in(0, 1);
        assert!(searcher.join().unwrap(), "a page was free all the time");
    });
}

/// The hole is a block, and moves from the second block to the first.
#[test]
fn a_block_that_is_freed_behind_the_search_is_found() {
    bounded_more("verify: order 2", || {
        let map = map(8, &[(0, 2)]);
        let other = map.clone();
        let searcher = thread::spawn(move || other.claim_exactly(2).is_ok());
        map.release(0, 2);
        map.claim_in(1, 2);
        assert!(searcher.join().unwrap(), "a block was free all the time");
    });
}

/// The hole is a page, and moves from the second block to the first, which the searcher has passed.
#[test]
fn a_page_that_moves_to_a_block_behind_the_search_is_found() {
    bounded_more("verify: order 0, two blocks", || {
        let map = map(8, &[(0, 1), (2, 1), (4, 1), (6, 0)]);
        let other = map.clone();
        let searcher = thread::spawn(move || other.claim_exactly(0).is_ok());
        map.release(2, 1);
        map.claim_in(1, 0);
        assert!(searcher.join().unwrap(), "a page was free all the time");
    });
}

/// A page is found in a block that was one large folio when the search passed it.
#[test]
fn a_page_of_a_freed_block_is_found() {
    bounded_more("verify: order 0 after 2", || {
        let map = map(8, &[(0, 2)]);
        let other = map.clone();
        let searcher = thread::spawn(move || other.claim_exactly(0).is_ok());
        map.release(0, 2);
        map.claim_in(1, 2);
        assert!(searcher.join().unwrap(), "a page was free all the time");
    });
}

/// Two searchers and room for both.
#[test]
fn two_searchers_find_two_pages() {
    bounded("verify: two searchers", || {
        let map = map(4, &[(0, 0), (1, 0), (2, 0)]);
        let other = map.clone();
        let searcher = thread::spawn(move || other.claim_exactly(0).is_ok());
        map.release(1, 0);
        let here = map.claim_exactly(0).is_ok();
        // One page was free before, one was freed: whoever fails did so before the release, i.e. only the other one.
        assert!(here, "a page was freed before this search");
        assert!(searcher.join().unwrap(), "a page was free all the time");
    });
}

/// The failure that is right: nothing was free until the release, which may come too late.
#[test]
fn a_search_that_fails_has_seen_nothing_free() {
    bounded("verify: exhausted", || {
        let map = map(4, &[(0, 2)]);
        let other = map.clone();
        let releaser = thread::spawn(move || other.release(0, 2));
        let found = map.claim_exactly(0);
        releaser.join().unwrap();
        match found {
            Ok(page) => assert!(page < 4),
            Err(error) => assert_eq!(error, farpage::model::Refused::Exhausted { free: 0 }),
        }
        map.claim_exactly(0).expect("it was released");
    });
}

/// A claim of two blocks takes the first, finds the second taken, and gives the first back: to a search meanwhile the
/// first looks taken, though no claim ever gets it.
#[test]
fn a_claim_that_is_undone_hides_no_block() {
    bounded_by(2, "verify: half-made claim", || {
        let map = map(8, &[]);
        let other = map.clone();
        let large = thread::spawn(move || matches!(other.seat(0).claim_in(0, 3), Tried::Claimed(_)));
        let small = matches!(map.seat(1).claim_in(1, 0), Tried::Claimed(_));
        let block = map.seat(1).claim_exactly(2).is_ok();
        let large = large.join().unwrap();
        assert!(block || large, "the first block was free all the time; small: {small}");
    });
}

/// As `map`, with stashes; each thread has a seat of its own.
fn map_with_stashes(nr_pages: u64, taken: &[(u64, u8)]) -> Arc<Map> {
    let map = Map::with_stashes(nr_pages);
    map.warm_up();
    for &(page, order) in taken {
        assert_eq!(map.claim_in(page / 4, order), Tried::Claimed(page));
    }
    Arc::new(map)
}

/// All pages of a small device are taken one by one.
const FULL: &[(u64, u8)] = &[(0, 0), (1, 0), (2, 0), (3, 0)];

/// The hole moves from the map into a stash, which the searcher has passed.
#[test]
fn a_page_that_is_freed_into_a_stash_is_found() {
    bounded("verify: hole into stash", || {
        let map = map_with_stashes(4, FULL);
        map.release(1, 0);
        let other = map.clone();
        let searcher = thread::spawn(move || other.seat(1).claim_exactly(0).is_ok());
        map.seat(0).give_back(0, 0);
        // Fails if the searcher was there first.
        map.seat(0).claim_in(0, 0);
        assert!(searcher.join().unwrap(), "a page was free all the time");
    });
}

/// The hole moves from a stash into the map.
#[test]
fn a_page_that_is_freed_while_another_leaves_a_stash_is_found() {
    bounded("verify: hole out of stash", || {
        let map = map_with_stashes(4, FULL);
        map.seat(0).give_back(0, 0);
        let other = map.clone();
        let searcher = thread::spawn(move || other.seat(1).claim_exactly(0).is_ok());
        map.seat(0).release(1, 0);
        map.seat(0).pop(0);
        assert!(searcher.join().unwrap(), "a page was free all the time");
    });
}

/// The hole moves within a stash: another page is pushed before the first is popped from under the searcher's look.
#[test]
fn a_page_that_changes_places_in_a_stash_is_found() {
    bounded("verify: hole within stash", || {
        let map = map_with_stashes(4, FULL);
        map.seat(0).give_back(0, 0);
        let other = map.clone();
        let searcher = thread::spawn(move || other.seat(1).claim_exactly(0).is_ok());
        map.seat(0).give_back(1, 0);
        map.seat(0).pop(0);
        assert!(searcher.join().unwrap(), "a page was free all the time");
    });
}

/// The hole moves from one stash to another, that the searcher has looked into before.
#[test]
fn a_page_that_is_freed_into_an_earlier_stash_is_found() {
    bounded("verify: hole to an earlier stash", || {
        let map = map_with_stashes(4, FULL);
        map.seat(2).give_back(0, 0);
        let other = map.clone();
        let searcher = thread::spawn(move || other.seat(1).claim_exactly(0).is_ok());
        // One thread after the other has both seats.
        map.seat(0).give_back(1, 0);
        map.seat(2).pop(0);
        assert!(searcher.join().unwrap(), "a page was free all the time");
    });
}

/// What is in a stash has one taker: the owner, or the search.
#[test]
fn a_page_in_a_stash_goes_to_its_owner_or_to_the_search() {
    bounded("verify: owner or search", || {
        let map = map_with_stashes(4, FULL);
        let owned = Arc::new(Owned::new(4));
        (0..4).for_each(|page| owned.begin(page, 1));
        (0..2).for_each(|page| {
            owned.end(page, 1);
            map.seat(0).give_back(page, 0);
        });
        let (other, theirs) = (map.clone(), owned.clone());
        let searcher = thread::spawn(move || other.seat(1).claim_exactly(0).map(|page| theirs.begin(page, 1)).is_ok());
        let popped = [(); 2].map(|()| map.seat(0).pop(0).map(|page| owned.begin(page, 1)).is_some());
        let found = searcher.join().unwrap();
        assert!(found || popped == [true; 2], "a page was left");
        assert!(!found || popped != [true; 2], "two pages, three takers");
    });
}

/// A search steals twice, each time after a look and a barrier: two pages that together are a run.
#[test]
fn a_run_is_found_or_a_page_of_it_popped() {
    bounded("verify: order 1 or a page of it", || {
        let map = map_with_stashes(4, FULL);
        let owned = Arc::new(Owned::new(4));
        (0..4).for_each(|page| owned.begin(page, 1));
        (0..2).for_each(|page| {
            owned.end(page, 1);
            map.seat(0).give_back(page, 0);
        });
        let (other, theirs) = (map.clone(), owned.clone());
        let searcher = thread::spawn(move || other.seat(1).claim_exactly(1).map(|page| theirs.begin(page, 2)).is_ok());
        let popped = map.seat(0).pop(0).map(|page| owned.begin(page, 1)).is_some();
        assert!(popped != searcher.join().unwrap(), "one of two gets it");
    });
}

/// One search steals what the other sees no more: it is unsure of it, and gives the second page back.
#[test]
fn what_another_search_has_stolen_is_waited_for() {
    bounded_by(2, "verify: two searchers, one stash", || {
        let map = map_with_stashes(4, FULL);
        map.seat(0).give_back(0, 0);
        map.seat(0).give_back(1, 0);
        let other = map.clone();
        let searcher = thread::spawn(move || other.seat(1).claim_exactly(0).is_ok());
        assert!(map.seat(2).claim_exactly(0).is_ok(), "two pages for two");
        assert!(searcher.join().unwrap(), "two pages for two");
    });
}

/// One search steals a page that is of no use to it, and which the other must not miss on its way into the map.
#[test]
fn what_another_search_steals_in_vain_is_found() {
    bounded_by(2, "verify: stolen in vain", || {
        let map = map_with_stashes(4, FULL);
        map.seat(0).give_back(0, 0);
        let other = map.clone();
        let searcher = thread::spawn(move || other.seat(1).claim_exactly(1));
        assert!(map.seat(2).claim_exactly(0).is_ok(), "a page was free all the time");
        assert!(searcher.join().unwrap().is_err(), "one page is no run");
    });
}

/// A cache is dropped: its page is in nobody's hands for a moment.
#[test]
fn what_a_dropped_cache_gives_back_is_found() {
    bounded("verify: dropped cache", || {
        let map = map_with_stashes(4, FULL);
        map.seat(0).give_back(0, 0);
        let other = map.clone();
        let searcher = thread::spawn(move || other.seat(1).claim_exactly(0).is_ok());
        map.seat(0).drain();
        assert!(searcher.join().unwrap(), "a page was free all the time");
    });
}

/// A run of two from a stash, for a search that needs one page.
#[test]
fn a_run_of_a_dropped_cache_is_found() {
    bounded("verify: dropped cache, order 1", || {
        let map = map_with_stashes(4, &[(0, 1), (2, 1)]);
        map.seat(0).give_back(0, 1);
        let other = map.clone();
        let searcher = thread::spawn(move || other.seat(1).claim_exactly(0).is_ok());
        map.seat(0).drain();
        assert!(searcher.join().unwrap(), "two pages were free all the time");
    });
}

/// The failure that is right: nothing was free until a page came into the stash, perhaps too late.
#[test]
fn a_search_that_fails_has_seen_an_empty_stash() {
    bounded("verify: exhausted, stash", || {
        let map = map_with_stashes(4, FULL);
        let other = map.clone();
        let freer = thread::spawn(move || other.seat(0).give_back(2, 0));
        let found = map.seat(1).claim_exactly(0);
        freer.join().unwrap();
        match found {
            Ok(page) => assert_eq!(page, 2),
            Err(error) => {
                assert_eq!(error, farpage::model::Refused::Exhausted { free: 0 });
                assert_eq!(map.seat(1).claim_exactly(0), Ok(2), "it was freed");
            }
        }
        assert_eq!(map.cached_pages(), 0);
    });
}

/// A span of two words takes the page in the first, finds the second taken, and gives the first back.
#[test]
fn a_span_that_is_undone_hides_no_page() {
    bounded("verify: half-made span", || {
        let map = map(4, &[(0, 0), (1, 0), (2, 0), (3, 0)]);
        map.release(1, 0);
        map.release(2, 0);
        let other = map.clone();
        let span = thread::spawn(move || other.seat(0).claim_span(0, 1, 2));
        let page = map.seat(1).claim_span(0, 2, 1);
        let found = map.seat(1).claim_exactly(0).is_ok();
        let span = span.join().unwrap();
        assert!(found || span, "the other page was free all the time; page: {page}");
    });
}

/// A page is taken in a block that has become a whole one meanwhile, and is given back: to a search it looks taken in a
/// block that serves small folios again.
#[test]
fn a_small_claim_that_is_undone_hides_no_block() {
    bounded("verify: half-made small claim", || {
        let map = map(4, &[]);
        let other = map.clone();
        let small = thread::spawn(move || matches!(other.seat(0).claim_in(0, 0), Tried::Claimed(_)));
        let whole = matches!(map.seat(1).claim_in(0, 2), Tried::Claimed(_));
        if whole {
            map.seat(1).release(0, 2);
        }
        let found = map.seat(1).claim_exactly(2).is_ok();
        let small = small.join().unwrap();
        assert!(found || small, "the block was free all the time; whole: {whole}");
    });
}
