//! Edge [seal]: whoever makes an empty block a whole one, or gives it to another order, and `Blocks::claim_small`: either the
//! sealer's look at the bits sees the claim, or the claim sees the seal, or what came of it.
//!
//! Blocks of 4 pages in two words; orders 0 and 1 are small, 2 is the block, 3 two of them. Each thread has a seat of its own,
//! as most have.
//!
//! Shape: two or three threads try once or twice each in one block, or in two, that have served order 0 before. Each claim
//! is used and given back, or kept to the end.
//! Cost: 555 to 21,651 executions at bound 2, 102,201 (11 s) with two sealers and a claim; at bound 3 up to 182,343 (13 s), of
//! the models with two threads. Those with three are explored no further than 1 and 2.
//! Teeth: fails without the second look of a claim, without the look at the bits or with plain loads for it, with either side
//! of the edge weakened, and without the seal, its counter, or a claim's heed of it.

use farpage::model::{Map, Seat, Tried};
use farpage_loom_tests::{Owned, bounded, bounded_by, bounded_less};
use loom::sync::atomic::{AtomicU64, Ordering::Relaxed};
use loom::{sync::Arc, thread};

struct Shared {
    map: Map,
    owned: Owned,
    /// Folios of order 0, and of order 1, that live in block 0. Relaxed, so that it orders nothing.
    living: [AtomicU64; 2],
}

#[derive(Clone, Copy)]
enum Work {
    /// Claims, uses and gives back, as often as said, in a block of one order or of several.
    Cycle(u64, u8, u32),
    /// The same where the block must serve the order alone.
    Unmixed(u64, u8, u32),
    /// The same with the `nr` pages from one of block 0 on, for folios of any orders.
    Span(u64, u64),
    /// Gives the block to another order if it is empty, and then as `Unmixed`.
    Exchange(u64, u8),
    /// Only the first half of that.
    Empty(u64, u8),
    /// Claims, and keeps it until all threads are done.
    Keep(u64, u8),
}

use Work::{Cycle, Empty, Exchange, Keep, Span, Unmixed};

/// What a thread has got.
#[derive(Default)]
struct Done {
    served: u32,
    kept: Option<(u64, u8)>,
}

impl Shared {
    /// Blocks that have served order 0 and are empty again.
    fn new(nr_pages: u64) -> Arc<Shared> {
        let map = Map::new(nr_pages);
        map.warm_up();
        Arc::new(Shared { map, owned: Owned::new(nr_pages), living: [AtomicU64::new(0), AtomicU64::new(0)] })
    }

    fn work(&self, number: usize, work: Work) -> Done {
        let seat = self.map.seat(number);
        let mut done = Done::default();
        match work {
            Cycle(block, order, times) => {
                (0..times).for_each(|_| done.served += self.cycle(&seat, seat.claim_in(block, order), order));
            }
            Unmixed(block, order, times) => (0..times).for_each(|_| done.served += self.unmixed(&seat, block, order)),
            Span(start, nr_pages) => {
                if seat.claim_span(0, start, nr_pages) {
                    self.owned.begin(start, nr_pages);
                    self.owned.end(start, nr_pages);
                    seat.release_span(0, start, nr_pages);
                    done.served = 1;
                }
            }
            Exchange(block, order) => {
                if seat.empty_for(block, order) {
                    done.served = self.unmixed(&seat, block, order);
                }
            }
            Empty(block, order) => _ = seat.empty_for(block, order),
            Keep(block, order) => {
                if let Tried::Claimed(page) = seat.claim_in(block, order) {
                    self.owned.begin(page, 1 << order);
                    (done.kept, done.served) = (Some((page, order)), 1);
                }
            }
        }
        done
    }

    fn cycle(&self, seat: &Seat<'_>, tried: Tried, order: u8) -> u32 {
        let Tried::Claimed(page) = tried else { return 0 };
        assert_eq!(page % (1 << order), 0, "aligned");
        self.owned.begin(page, 1 << order);
        self.owned.end(page, 1 << order);
        seat.release(page, order);
        1
    }

    fn unmixed(&self, seat: &Seat<'_>, block: u64, order: u8) -> u32 {
        let tried = seat.claim_unmixed(block, order);
        if tried == Tried::NoRoom {
            return 0;
        }
        let living = &self.living[usize::from(order)];
        living.fetch_add(1, Relaxed);
        assert_eq!(self.living[usize::from(1 - order)].fetch_add(0, Relaxed), 0, "a block of one order has another");
        let Tried::Claimed(page) = tried else { unreachable!() };
        self.owned.begin(page, 1 << order);
        self.owned.end(page, 1 << order);
        living.fetch_sub(1, Relaxed);
        seat.release(page, order);
        1
    }
}

fn race<const N: usize>(nr_pages: u64, work: [Work; N], served: u32) {
    let shared = Shared::new(nr_pages);
    let others: Vec<_> = (1..N)
        .map(|number| {
            let shared = shared.clone();
            thread::spawn(move || shared.work(number, work[number]))
        })
        .collect();
    let here = shared.work(0, work[0]);
    let mut done: Vec<Done> = others.into_iter().map(|other| other.join().unwrap()).collect();
    done.push(here);
    assert!(done.iter().map(|done| done.served).sum::<u32>() >= served, "a claim was refused that had room");
    for (page, order) in done.into_iter().filter_map(|done| done.kept) {
        shared.owned.end(page, 1 << order);
        shared.map.release(page, order);
    }
    let largest = if nr_pages == 4 { 2 } else { 3 };
    assert_eq!(shared.map.claim_in(0, largest), Tried::Claimed(0), "nothing is left behind");
}

#[test]
fn a_small_claim_breaks_a_seal_or_goes_without() {
    bounded("seal: order 2 against 0 twice", || race(4, [Cycle(0, 2, 1), Cycle(0, 0, 2)], 1));
}

#[test]
fn a_word_is_claimed_or_its_block() {
    bounded("seal: order 2 against 1", || race(4, [Cycle(0, 2, 1), Cycle(0, 1, 1)], 1));
}

#[test]
fn a_block_that_was_whole_meanwhile_serves_again_or_not() {
    bounded("seal: order 0 against 2 twice", || race(4, [Cycle(0, 0, 1), Cycle(0, 2, 2)], 1));
}

/// The block changes from order 0 to order 1, and never holds both.
#[test]
fn a_block_changes_its_order_only_when_it_is_empty() {
    bounded("seal: order 0 against change to 1", || race(4, [Unmixed(0, 0, 2), Exchange(0, 1)], 0));
}

#[test]
fn a_block_changes_its_order_and_back() {
    bounded("seal: change to 1 against change to 0", || race(4, [Exchange(0, 1), Exchange(0, 0)], 1));
}

#[test]
fn of_two_sealers_one_gets_the_block() {
    bounded("seal: order 2 against change to 1", || race(4, [Cycle(0, 2, 1), Exchange(0, 1)], 1));
}

/// A seal that was broken, and set again by another, is not the first one.
#[test]
fn a_seal_is_not_taken_for_a_later_one() {
    bounded_less(1, "seal: two sealers and a claim", || race(4, [Cycle(0, 2, 1), Empty(0, 1), Keep(0, 0)], 1));
}

#[test]
fn two_sealers_and_a_page_that_comes_and_goes() {
    bounded_by(1, "seal: order 2, change to 1, and 0", || {
        race(4, [Cycle(0, 2, 1), Exchange(0, 1), Cycle(0, 0, 1)], 1);
    });
}

#[test]
fn a_run_of_blocks_or_a_page_of_its_second() {
    bounded("seal: order 3 against 0", || race(8, [Cycle(0, 3, 1), Cycle(1, 0, 1)], 1));
}

#[test]
fn a_run_of_blocks_or_a_page_of_its_first() {
    bounded("seal: order 3 against 0 of the first", || race(8, [Cycle(0, 3, 1), Keep(0, 0)], 1));
}

#[test]
fn a_span_over_two_words_or_the_block() {
    bounded("seal: span against 2", || race(4, [Span(1, 2), Cycle(0, 2, 1)], 1));
}

#[test]
fn of_two_spans_that_overlap_one_is_served() {
    bounded("seal: two spans", || race(4, [Span(0, 3), Span(1, 3)], 1));
}

#[test]
fn a_span_and_a_page_of_it() {
    bounded("seal: span against 0", || race(4, [Span(0, 3), Cycle(0, 0, 1)], 1));
}

/// A span makes the block a mixed one: whoever wants it for one order alone has it before or not at all.
#[test]
fn a_span_takes_a_block_of_one_order() {
    bounded("seal: span against order 1 alone", || race(4, [Span(0, 3), Unmixed(0, 1, 1)], 0));
}
