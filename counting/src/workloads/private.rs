//! Each thread allocates and frees for itself, by `Device::alloc` and by dropping the folio.

use farpage::{Order, count};

use crate::stage::{Stage, counted_free};

/// Allocates a folio of `ORDER` and frees it, again and again.
pub fn hot_pair<const ORDER: u8>(stage: &Stage<'_>, _thread: usize) {
    let order = order::<ORDER>();
    for _ in 0..stage.effort.warm_up / 2 {
        drop(stage.alloc(order));
    }
    count::rendezvous();
    for _ in 0..pairs(stage) {
        counted_free(stage.counted_alloc(order));
    }
}

/// Holds `HELD` folios of `ORDER`; frees any one of them and allocates another.
pub fn random<const ORDER: u8, const HELD: usize>(stage: &Stage<'_>, thread: usize) {
    let order = order::<ORDER>();
    let mut random = stage.random(thread);
    let mut held: Vec<_> = (0..HELD).map(|_| stage.alloc(order)).collect();
    for _ in 0..stage.effort.warm_up / 2 {
        drop(held.swap_remove(random.below(HELD)));
        held.push(stage.alloc(order));
    }
    count::rendezvous();
    for _ in 0..pairs(stage) {
        counted_free(held.swap_remove(random.below(HELD)));
        held.push(stage.counted_alloc(order));
    }
    count::rendezvous();
    drop(held);
}

/// Allocates 1,024 pages, then frees them in any order. One such round before counting, and whole rounds counted.
pub fn bulk(stage: &Stage<'_>, thread: usize) {
    const PAGES: usize = 1024;
    let mut random = stage.random(thread);
    let mut held: Vec<_> = (0..PAGES).map(|_| stage.alloc(Order::ZERO)).collect();
    random.shuffle(&mut held);
    held.clear();
    count::rendezvous();
    for _ in 0..(pairs(stage) / PAGES).max(1) {
        held.extend((0..PAGES).map(|_| stage.counted_alloc(Order::ZERO)));
        random.shuffle(&mut held);
        for folio in held.drain(..) {
            counted_free(folio);
        }
    }
}

fn order<const ORDER: u8>() -> Order {
    Order::new(ORDER).expect("the table names orders that exist")
}

fn pairs(stage: &Stage<'_>) -> usize {
    (stage.effort.ops / 2).max(1)
}
