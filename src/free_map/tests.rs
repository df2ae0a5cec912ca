use super::*;
use crate::class::Class;
use crate::seat::Seating;
use crate::words::Offset;

fn range(first_block: u64, nr_pages: u64) -> OffsetRange {
    OffsetRange::new(Offset::new(first_block * PAGES_PER_BLOCK).unwrap(), nr_pages).unwrap()
}

fn order(order: u8) -> Order {
    Order::new(order).unwrap()
}

/// A free map with all that goes with it.
struct Map<'a> {
    blocks: &'a Blocks,
    map: FreeMap,
    seats: Seats,
}

impl Map<'_> {
    fn at(blocks: &Blocks, first_block: u64, nr_pages: u64) -> Map<'_> {
        crate::sync::prepare_barriers();
        let map = FreeMap::new(range(first_block, nr_pages));
        map.begin(blocks).unwrap();
        Map { blocks, map, seats: Seats::new(Seating { cores: 4, cached_pages: 0 }).unwrap() }
    }

    fn claim(&self, order: Order) -> Result<u64, ClaimError> {
        let seat = self.seats.of_this_thread();
        self.map.claim(Claimer { blocks: self.blocks, seats: &self.seats, seat, unsure: 0 }, order)
    }

    fn release(&self, page: u64, order: Order) {
        self.map.release(self.blocks, self.seats.of_this_thread(), page, order);
    }

    fn claim_all(&self, order: Order) -> Vec<u64> {
        std::iter::from_fn(|| self.claim(order).ok()).collect()
    }

    fn free_pages(&self) -> u64 {
        let free =
            |block| if self.blocks.use_of(block).is_taken() { 0 } else { free_pages(&self.blocks.bits_of(block)) };
        self.map.blocks().map(free).sum()
    }
}

fn blocks() -> Blocks {
    Blocks::new(1 << 12, 8).unwrap()
}

#[test]
fn every_order_takes_all_that_is_there_and_gives_it_back() {
    const PAGES: u64 = (1 << 20) + 300; // four runs of 1 GiB, and 300 pages
    for n in 0..=18 {
        let blocks = blocks();
        let map = Map::at(&blocks, 0, PAGES);
        let mut starts = map.claim_all(order(n));
        assert_eq!(starts.len() as u64, PAGES >> n, "order {n}");
        let failed = map.claim(order(n)).unwrap_err();
        assert_eq!(failed, ClaimError::Exhausted { free: PAGES % (1 << n) });
        starts.sort_unstable();
        starts.dedup();
        assert_eq!(starts.len() as u64, PAGES >> n, "each once");
        assert!(starts.iter().all(|&start| start % (1 << n) == 0 && start + (1 << n) <= PAGES));
        for start in starts {
            map.release(start, order(n));
        }
        let whole = map.claim_all(Order::MAX);
        assert_eq!(whole.len(), 4, "order {n} merged again");
    }
}

#[test]
fn fragmented_says_what_is_there() {
    let blocks = blocks();
    let map = Map::at(&blocks, 0, 4 * PAGES_PER_BLOCK);
    let pages = map.claim_all(Order::ZERO);
    for &page in pages.iter().filter(|&&page| page % 2 == 0) {
        map.release(page, Order::ZERO);
    }
    assert_eq!(map.claim(order(1)), Err(ClaimError::Fragmented { free: 1024, largest: 1 }));
    assert_eq!(map.claim(Order::HUGE), Err(ClaimError::Fragmented { free: 1024, largest: 1 }));
    assert_eq!(map.claim(order(11)), Err(ClaimError::Exhausted { free: 1024 }));
    for page in (1..16).step_by(2) {
        map.release(page, Order::ZERO);
    }
    assert_eq!(map.claim(order(5)), Err(ClaimError::Fragmented { free: 1032, largest: 16 }));
    assert_eq!(map.claim(order(4)), Ok(0));
}

#[test]
fn the_last_page_is_found_wherever_it_is() {
    let blocks = blocks();
    let map = Map::at(&blocks, 0, 200 * PAGES_PER_BLOCK + 77);
    let pages = map.claim_all(Order::ZERO);
    assert_eq!(pages.len() as u64, 200 * PAGES_PER_BLOCK + 77);
    for page in [0, 1, 511, 512, 70_000, 200 * PAGES_PER_BLOCK + 76] {
        map.release(page, Order::ZERO);
        assert_eq!(map.claim(Order::ZERO), Ok(page));
        assert_eq!(map.claim(Order::ZERO), Err(ClaimError::Exhausted { free: 0 }));
    }
}

#[test]
fn orders_mix_in_a_block_only_when_nothing_else_is_left() {
    let blocks = blocks();
    let map = Map::at(&blocks, 0, 2 * PAGES_PER_BLOCK);
    let zero = map.claim(Order::ZERO).unwrap();
    let three = map.claim(order(3)).unwrap();
    assert_ne!(block_of(zero), block_of(three), "a block serves one order");
    assert_eq!(blocks.change_of(block_of(three)).class, Class::Uniform(order(3)));
    let five = map.claim(order(5)).unwrap();
    assert_eq!(blocks.change_of(block_of(five)).class, Class::Mixed);
}

#[test]
fn neighbours_do_not_touch_each_other() {
    let blocks = blocks();
    let (left, right) = (Map::at(&blocks, 0, 700), Map::at(&blocks, 2, 700));
    assert_eq!(left.claim_all(Order::ZERO).len(), 700);
    let pages = right.claim_all(Order::ZERO);
    assert!(pages.len() == 700 && pages.iter().all(|page| (1024..1724).contains(page)));
    for page in pages {
        right.release(page, Order::ZERO);
    }
    right.map.retire(&blocks);
    let again = Map::at(&blocks, 2, 2 * PAGES_PER_BLOCK);
    assert_eq!(again.claim_all(Order::HUGE), [1024, 1536]);
}

/// Each thread never asks for more than its share, so a page is free whenever one asks.
#[test]
fn a_share_is_always_there_under_contention() {
    for n in [0, 3, 6, 7, 8, 9, 10] {
        const THREADS: u64 = 4;
        const SHARE: u64 = 3;
        let blocks = blocks();
        let map = Map::at(&blocks, 0, (THREADS * SHARE) << n.max(1));
        let order = order(n);
        // Twice the share exists for order 0, exactly the share otherwise: take the rest away.
        let rest: Vec<u64> = if n == 0 { (0..12).map(|_| map.claim(order).unwrap()).collect() } else { vec![] };
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let map = &map;
                scope.spawn(move || {
                    let mut held = Vec::new();
                    for step in 0..4000u64 {
                        if held.len() < SHARE as usize && (step * 7 + thread) % 5 < 3 {
                            held.push(map.claim(order).expect("a share is free"));
                        } else if let Some(page) = held.pop() {
                            map.release(page, order);
                        }
                    }
                    for page in held {
                        map.release(page, order);
                    }
                });
            }
        });
        for page in rest {
            map.release(page, order);
        }
        assert_eq!(map.free_pages(), (THREADS * SHARE) << n.max(1), "order {n}");
    }
}
