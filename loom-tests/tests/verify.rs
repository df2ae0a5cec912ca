//! Edge [verify]: `FreeMap::search_exactly` -> `FreeMap::release` and back: a search fails only if at one moment there
//! was no room. In each model a thread frees one run before it takes another, so that there is always room.
//!
//! Shape: one moves a hole behind the search, one searches; two search; a claim of two blocks is undone meanwhile.
//! Cost: 70 to 910 executions at bound 2, up to 6,835 at bound 3, where three of the models begin to bite; the undone claim, of three threads,
//! takes 24 s at bound 2, the first at which it has teeth; 3 was not done after 8 minutes, so 2 is all it gets.
//! Teeth: fails with the read-modify-write of `look_closely` made a load, with its Release, the Acquire of a release's own or
//! the Release of a claim's own taken away, and without the announcement, the count of releases, or the count of what is unsettled.

use farpage::model::{Map, Tried};
use farpage_loom_tests::{bounded, bounded_more};
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
    bounded("verify: half-made claim", || {
        let map = map(8, &[]);
        let other = map.clone();
        let large = thread::spawn(move || matches!(other.seat(0).claim_in(0, 3), Tried::Claimed(_)));
        let small = matches!(map.seat(1).claim_in(1, 0), Tried::Claimed(_));
        let block = map.seat(1).claim_exactly(2).is_ok();
        let large = large.join().unwrap();
        assert!(block || large, "the first block was free all the time; small: {small}");
    });
}
