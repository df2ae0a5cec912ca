use super::*;
use crate::class::Class;
use crate::words::Offset;

fn range(first_block: u64, nr_pages: u64) -> OffsetRange {
    OffsetRange::new(Offset::new(first_block * PAGES_PER_BLOCK).unwrap(), nr_pages).unwrap()
}

fn order(order: u8) -> Order {
    Order::new(order).unwrap()
}

fn map(nr_pages: u64) -> (Blocks, FreeMap) {
    let blocks = Blocks::new(1 << 12).unwrap();
    let map = FreeMap::new(range(0, nr_pages));
    map.begin(&blocks).unwrap();
    (blocks, map)
}

fn claim_all(blocks: &Blocks, map: &FreeMap, order: Order) -> Vec<u64> {
    std::iter::from_fn(|| map.claim(blocks, order).ok()).collect()
}

#[test]
fn every_order_takes_all_that_is_there_and_gives_it_back() {
    const PAGES: u64 = (1 << 20) + 300; // four runs of 1 GiB, and 300 pages
    for n in 0..=18 {
        let (blocks, map) = map(PAGES);
        let mut starts = claim_all(&blocks, &map, order(n));
        assert_eq!(starts.len() as u64, PAGES >> n, "order {n}");
        let failed = map.claim(&blocks, order(n)).unwrap_err();
        assert_eq!(failed, ClaimError::Exhausted { free: PAGES % (1 << n) });
        starts.sort_unstable();
        starts.dedup();
        assert_eq!(starts.len() as u64, PAGES >> n, "each once");
        assert!(starts.iter().all(|&start| start % (1 << n) == 0 && start + (1 << n) <= PAGES));
        for start in starts {
            map.release(&blocks, start, order(n));
        }
        let whole = claim_all(&blocks, &map, Order::MAX);
        assert_eq!(whole.len(), 4, "order {n} merged again");
    }
}

#[test]
fn fragmented_says_what_is_there() {
    let (blocks, map) = map(4 * PAGES_PER_BLOCK);
    let pages = claim_all(&blocks, &map, Order::ZERO);
    for &page in pages.iter().filter(|&&page| page % 2 == 0) {
        map.release(&blocks, page, Order::ZERO);
    }
    assert_eq!(map.claim(&blocks, order(1)), Err(ClaimError::Fragmented { free: 1024, largest: 1 }));
    assert_eq!(map.claim(&blocks, Order::HUGE), Err(ClaimError::Fragmented { free: 1024, largest: 1 }));
    assert_eq!(map.claim(&blocks, order(11)), Err(ClaimError::Exhausted { free: 1024 }));
    for page in (1..16).step_by(2) {
        map.release(&blocks, page, Order::ZERO);
    }
    assert_eq!(map.claim(&blocks, order(5)), Err(ClaimError::Fragmented { free: 1032, largest: 16 }));
    assert_eq!(map.claim(&blocks, order(4)), Ok(0));
}

#[test]
fn the_last_page_is_found_wherever_it_is() {
    let (blocks, map) = map(200 * PAGES_PER_BLOCK + 77);
    let pages = claim_all(&blocks, &map, Order::ZERO);
    assert_eq!(pages.len() as u64, 200 * PAGES_PER_BLOCK + 77);
    for page in [0, 1, 511, 512, 70_000, 200 * PAGES_PER_BLOCK + 76] {
        map.release(&blocks, page, Order::ZERO);
        assert_eq!(map.claim(&blocks, Order::ZERO), Ok(page));
        assert_eq!(map.claim(&blocks, Order::ZERO), Err(ClaimError::Exhausted { free: 0 }));
    }
}

#[test]
fn orders_mix_in_a_block_only_when_nothing_else_is_left() {
    let (blocks, map) = map(2 * PAGES_PER_BLOCK);
    let zero = map.claim(&blocks, Order::ZERO).unwrap();
    let three = map.claim(&blocks, order(3)).unwrap();
    assert_ne!(block_of(zero), block_of(three), "a block serves one order");
    assert_eq!(blocks.change_of(block_of(three)).class, Class::Uniform(order(3)));
    let five = map.claim(&blocks, order(5)).unwrap();
    assert_eq!(blocks.change_of(block_of(five)).class, Class::Mixed);
}

#[test]
fn neighbours_do_not_touch_each_other() {
    let blocks = Blocks::new(1 << 12).unwrap();
    let (left, right) = (FreeMap::new(range(0, 700)), FreeMap::new(range(2, 700)));
    left.begin(&blocks).unwrap();
    right.begin(&blocks).unwrap();
    assert_eq!(claim_all(&blocks, &left, Order::ZERO).len(), 700);
    let pages = claim_all(&blocks, &right, Order::ZERO);
    assert!(pages.len() == 700 && pages.iter().all(|page| (1024..1724).contains(page)));
    for page in pages {
        right.release(&blocks, page, Order::ZERO);
    }
    right.retire(&blocks);
    let again = FreeMap::new(range(2, 2 * PAGES_PER_BLOCK));
    again.begin(&blocks).unwrap();
    assert_eq!(claim_all(&blocks, &again, Order::HUGE), [1024, 1536]);
}

/// Each thread never asks for more than its share, so a page is free whenever one asks.
#[test]
fn a_share_is_always_there_under_contention() {
    for n in [0, 3, 6, 7, 8, 9, 10] {
        const THREADS: u64 = 4;
        const SHARE: u64 = 3;
        let (blocks, map) = map((THREADS * SHARE) << n.max(1));
        let order = order(n);
        // Twice the share exists for order 0, exactly the share otherwise: take the rest away.
        let rest: Vec<u64> =
            if n == 0 { (0..12).map(|_| map.claim(&blocks, order).unwrap()).collect() } else { vec![] };
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (blocks, map) = (&blocks, &map);
                scope.spawn(move || {
                    let mut held = Vec::new();
                    for step in 0..4000u64 {
                        if held.len() < SHARE as usize && (step * 7 + thread) % 5 < 3 {
                            held.push(map.claim(blocks, order).expect("a share is free"));
                        } else if let Some(page) = held.pop() {
                            map.release(blocks, page, order);
                        }
                    }
                    for page in held {
                        map.release(blocks, page, order);
                    }
                });
            }
        });
        for page in rest {
            map.release(&blocks, page, order);
        }
        for block in map.blocks() {
            assert!(blocks.use_of(block).taken() == PAGES_PER_BLOCK - map.pages_in(block), "order {n}, block {block}");
        }
    }
}
