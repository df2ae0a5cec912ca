//! Splits of live folios: evenly, and around one page. Who else has references, what becomes of leaf words, and that
//! the parts' pages come together again.
#![cfg(not(loom))]

#[path = "support/rng.rs"]
mod rng;

use std::sync::{Arc, Mutex};

use farpage::{
    Access, AllocError, DeviceConfig, DeviceOps, Folio, FolioSplit, FreedFolio, Offset, Order, Owner, PageRef,
    RangeRequest, SoftLeaf, Space, SplitError, TakeError,
};
use rng::Rng;

fn order(order: u8) -> Order {
    Order::new(order).expect("at most 18")
}

fn space() -> Space {
    Space::builder().max_pages(1 << 20).cores(2).build().expect("address space")
}

/// Takes what is at random places of `folios` out until nothing is left.
fn drop_at_random(mut folios: Vec<Folio<'_>>, seed: u64) {
    let mut rng = Rng::seeded(seed);
    while !folios.is_empty() {
        drop(folios.swap_remove((rng.number() >> 16) as usize % folios.len()));
    }
}

/// From and to every kind of order: within a block, a block to pages, several blocks to blocks and to pages.
#[test]
fn every_order_splits_to_every_smaller_one() {
    let space = space();
    let device = space.register(DeviceConfig::new(1 << 14).owner(Owner::new(3))).unwrap();
    for whole in 1..=13 {
        for part in 0..whole {
            let folio = device.alloc(order(whole)).unwrap();
            folio.set_private(u64::from(whole) << 8 | u64::from(part));
            let (head, private) = (folio.offset().get(), folio.private());
            let parts: Vec<Folio<'_>> = folio.split(order(part)).unwrap().collect();
            assert_eq!(parts.len(), 1 << (whole - part));
            for (i, folio) in parts.iter().enumerate() {
                assert_eq!(folio.offset().get(), head + ((i as u64) << part));
                assert_eq!((folio.order(), folio.refs(), folio.maps()), (order(part), 1, 0));
                assert_eq!((folio.private(), folio.device().owner()), (private, Owner::new(3)));
                for page in [folio.offset().get(), folio.offset().get() + folio.nr_pages() - 1] {
                    let found = space.page(Offset::new(page).unwrap()).unwrap();
                    assert_eq!((found.folio_offset(), found.order()), (folio.offset(), folio.order()));
                }
            }
            assert_eq!(device.nr_live_pages(), 1 << whole);
            space.validate().unwrap();
            drop_at_random(parts, u64::from(whole));
            space.validate().unwrap();
            assert_eq!(device.nr_live_pages(), 0);
            let all = device.alloc_range(RangeRequest::new(1 << 14)).unwrap();
            assert_eq!(all.range(), device.range(), "all of it is one run again");
        }
    }
}

#[test]
fn around_a_page_the_rest_stays_in_the_largest_that_fit() {
    let space = space();
    let device = space.register(DeviceConfig::new(1 << 13)).unwrap();
    // Something else in the block, so that a split below order 9 has neighbours.
    let beside = device.alloc(order(8)).unwrap();
    for whole in [1, 4, 8, 9, 10, 12] {
        for part in 0..whole {
            for index in [0, 1, (1 << whole) / 3, (1 << whole) - 1] {
                let folio = device.alloc(order(whole)).unwrap();
                folio.set_private(index);
                let head = folio.offset().get();
                let parts: Vec<Folio<'_>> = folio.split_around(index, order(part)).unwrap().collect();
                let around = parts.iter().find(|folio| {
                    (folio.offset().get()..folio.offset().get() + folio.nr_pages()).contains(&(head + index))
                });
                assert_eq!(around.unwrap().order(), order(part));
                let mut orders: Vec<u8> = parts.iter().map(|folio| folio.order().get()).collect();
                orders.sort_unstable();
                assert_eq!(orders, std::iter::once(part).chain(part..whole).collect::<Vec<_>>());
                assert!(parts.iter().all(|folio| (folio.private(), folio.refs()) == (index, 1)));
                space.validate().unwrap();
                drop_at_random(parts, index);
                space.validate().unwrap();
            }
        }
    }
    drop(beside);
    assert_eq!(device.alloc_range(RangeRequest::new(1 << 13)).unwrap().range(), device.range());
}

#[test]
fn a_folio_that_others_use_is_given_back_with_the_numbers() {
    let space = space();
    let device = space.register(DeviceConfig::new(1 << 12)).unwrap();
    for whole in [1, 5, 9, 12] {
        let folio = device.alloc(order(whole)).unwrap();
        folio.set_private(9);
        let (other, leaf) = (folio.clone(), folio.clone().into_leaf(Access::Write));
        let generation_seen = space.lookup(leaf).unwrap();
        let folio = match folio.split(order(0)) {
            Err(SplitError::Busy { extra_refs: 2, maps: 1, folio }) => folio,
            other => panic!("{other:?}"),
        };
        // As it was: the same life, found through the same words.
        assert_eq!((folio.refs(), folio.maps(), folio.private(), folio.order()), (3, 1, 9, order(whole)));
        assert_eq!(space.lookup(leaf), Some(generation_seen));
        drop(other);
        let folio = match folio.split_around(1, order(0)) {
            Err(SplitError::Busy { extra_refs: 1, maps: 1, folio }) => folio,
            other => panic!("{other:?}"),
        };
        drop(space.take(leaf).unwrap());
        assert_eq!(folio.split(order(0)).unwrap().count(), 1 << whole);
        assert_eq!((device.nr_live_pages(), space.validate()), (0, Ok(())));
    }
}

#[test]
fn what_cannot_be_split_is_given_back() {
    let space = space();
    let device = space.register(DeviceConfig::new(1 << 12)).unwrap();
    for (whole, part) in [(0, 0), (3, 3), (3, 4), (9, 9), (9, 18), (12, 18)] {
        for is_even in [true, false] {
            let (folio, part) = (device.alloc(order(whole)).unwrap(), order(part));
            match if is_even { folio.split(part) } else { folio.split_around(0, part) } {
                Err(SplitError::OrderNotSmaller { requested, folio }) => {
                    assert_eq!((requested, folio.order(), folio.refs()), (part, order(whole), 1));
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(device.nr_live_pages(), 0);
        }
    }
    let folio = device.alloc(order(4)).unwrap();
    let error = folio.split_around(16, order(2)).unwrap_err();
    assert!(matches!(error, SplitError::OutOfRange { index: 16, .. }));
    assert_eq!(error.to_string(), "a folio of 16 pages has no page 16");
    assert_eq!(error.into_folio().refs(), 1);
}

/// A leaf word names an order and a generation, and no part has those of the whole: heads, tails, migration entries and
/// views are all refused, whichever part lies there now. Nor does an older word at a part's own place and order come to
/// life.
#[test]
fn words_from_before_the_split_are_refused() {
    let space = space();
    let device = space.register(DeviceConfig::new(1 << 12)).unwrap();
    for (whole, part) in [(1, 0), (3, 0), (8, 3), (9, 0), (9, 8), (10, 9), (12, 9), (12, 10), (12, 0)] {
        // Words of earlier lives at the parts' places.
        let mut older: Vec<SoftLeaf> = Vec::new();
        let mut folios = Vec::new();
        device.alloc_many(order(part), 1 << (12 - part), &mut folios).unwrap();
        for folio in folios.drain(..) {
            let leaf = folio.into_leaf(Access::Read);
            older.push(leaf);
            drop(space.take(leaf).unwrap());
        }
        let folio = device.alloc(order(whole)).unwrap();
        let (head, nr_pages) = (folio.offset().get(), folio.nr_pages());
        let leaf = folio.into_leaf(Access::Write);
        // A word that is not direct has the offset, head or tail, in its low bits; a direct one names its head alone.
        let nr_words = if whole < 8 { 1 } else { nr_pages };
        let words: Vec<SoftLeaf> = (0..nr_words).map(|index| SoftLeaf::from_bits(leaf.bits() + index)).collect();
        assert!(words.iter().all(|&word| space.lookup(word).is_some_and(|page| page.folio_offset().get() == head)));
        let view = |page| space.page(Offset::new(page).unwrap()).unwrap();
        let views: Vec<PageRef<'_>> = (head..head + nr_pages).map(view).collect();
        let folio = space.take(leaf).unwrap();
        let parts: Vec<Folio<'_>> = folio.split(order(part)).unwrap().collect();
        for view in views {
            assert_eq!(view.try_get(), None, "{view:?} was looked up before the split");
        }
        for word in words {
            for word in
                [word, word.with_access(Access::Read), word.to_migration(farpage::MigrationAccess::Read).unwrap()]
            {
                assert_eq!(space.lookup(word), None, "{word:?} names the whole, of order {whole}");
                let offset = word.offset().unwrap().get();
                assert_eq!(space.take(word), Err(TakeError::Stale { offset }));
                assert!((head..head + nr_pages).contains(&offset));
            }
        }
        for word in older {
            assert_eq!(space.lookup(word), None, "{word:?} is of a life before");
        }
        // And what is made of the parts leads to them.
        for folio in parts {
            let (offset, leaf) = (folio.offset(), folio.into_leaf(Access::Write));
            assert_eq!(space.lookup(leaf).map(|page| page.folio_offset()), Some(offset));
            drop(space.take(leaf).unwrap());
        }
        space.validate().unwrap();
    }
}

/// The largest order, to its last page, in random order; nothing but the bits and use words of the free map says that
/// it is one again.
#[test]
fn all_parts_of_a_gigabyte_become_one_again() {
    let space = space();
    let device = space.register(DeviceConfig::new(1 << 18)).unwrap();
    let folio = device.alloc(Order::MAX).unwrap();
    let parts: Vec<Folio<'_>> = folio.split(Order::ZERO).unwrap().collect();
    assert_eq!((parts.len(), device.nr_free_pages()), (1 << 18, 0));
    assert_eq!(device.alloc(Order::ZERO), Err(AllocError::Exhausted { requested: 1, free: 0 }));
    drop_at_random(parts, 1);
    let again = device.alloc(Order::MAX).unwrap();
    assert_eq!((again.refs(), again.private()), (1, 0));
    // Step by step as well: to blocks, some of these to pages.
    let mut parts: Vec<Folio<'_>> = again.split(order(12)).unwrap().collect();
    let block = parts.swap_remove(5).split(Order::HUGE).unwrap().nth(3).unwrap();
    parts.extend(block.split_around(77, order(3)).unwrap());
    space.validate().unwrap();
    drop_at_random(parts, 2);
    assert_eq!(device.alloc(Order::MAX).map(|folio| folio.nr_pages()), Ok(1 << 18));
    space.validate().unwrap();
}

/// Pages of a split folio are as good as any: allocated in part, in other orders, and by ranges across the parts.
#[test]
fn freed_parts_serve_other_orders() {
    let space = space();
    let device = space.register(DeviceConfig::new(1024)).unwrap();
    let parts: Vec<Folio<'_>> = device.alloc(order(10)).unwrap().split(order(0)).unwrap().collect();
    let kept: Vec<Folio<'_>> = parts.into_iter().filter(|folio| folio.offset().get() % 128 == 5).collect();
    space.validate().unwrap();
    assert_eq!(device.nr_free_pages(), 1024 - 8);
    let run = device.alloc_range(RangeRequest::new(127)).unwrap();
    let folios: Vec<Folio<'_>> = std::iter::from_fn(|| device.alloc(order(5)).ok()).collect();
    assert!(folios.len() >= 18, "each order 5 away from the pages that are kept, and the run");
    space.validate().unwrap();
    drop((run, folios, kept));
    assert!(device.alloc(order(10)).is_ok());
}

/// What the driver was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Part { whole: (u64, u8), part: (u64, u8), private: u64 },
    End { whole: (u64, u8) },
    Freed { offset: u64, order: u8, private: u64 },
}

#[derive(Default)]
struct Recorder(Mutex<Vec<Told>>);

impl DeviceOps for Recorder {
    fn folio_free(&self, folio: FreedFolio) {
        let (offset, order, private) = (folio.offset().get(), folio.order().get(), folio.private());
        self.0.lock().unwrap().push(Told::Freed { offset, order, private });
    }

    fn folio_split(&self, split: FolioSplit<'_>) {
        let whole = (split.offset().get(), split.order().get());
        self.0.lock().unwrap().push(match split.part() {
            Some(part) => {
                assert!(!split.is_end());
                assert_eq!(part.private(), split.private(), "a copy");
                // The driver slices its backing: each part has a word of its own.
                part.set_private(split.private() + part.offset().get());
                Told::Part { whole, part: (part.offset().get(), part.order().get()), private: part.private() }
            }
            None => Told::End { whole },
        });
    }
}

#[test]
fn the_driver_is_told_of_each_part_and_once_at_the_end() {
    let space = space();
    let log = Arc::new(Recorder::default());
    let device = space.register(DeviceConfig::new(1 << 12).ops(Arc::clone(&log))).unwrap();
    let base = device.range().start().get();
    for (whole, part, around) in [(10, 9, None), (9, 7, None), (3, 1, None), (10, 0, Some(600)), (4, 2, Some(3))] {
        let folio = device.alloc(order(whole)).unwrap();
        folio.set_private(1 << 40);
        let head = folio.offset().get();
        assert!(head >= base);
        let parts: Vec<Folio<'_>> = match around {
            None => folio.split(order(part)).unwrap().collect(),
            Some(index) => folio.split_around(index, order(part)).unwrap().collect(),
        };
        let place = |folio: &Folio<'_>| (folio.offset().get(), folio.order().get());
        let mut expected: Vec<Told> = parts
            .iter()
            .map(|folio| Told::Part {
                whole: (head, whole),
                part: place(folio),
                private: (1 << 40) + folio.offset().get(),
            })
            .collect();
        expected.push(Told::End { whole: (head, whole) });
        assert_eq!(std::mem::take(&mut *log.0.lock().unwrap()), expected);
        assert!(parts.iter().all(|folio| folio.private() == (1 << 40) + folio.offset().get()), "as the driver set it");
        let ends: Vec<Told> = parts
            .iter()
            .map(|folio| {
                let (offset, order) = place(folio);
                Told::Freed { offset, order, private: folio.private() }
            })
            .collect();
        drop(parts);
        assert_eq!(std::mem::take(&mut *log.0.lock().unwrap()), ends, "each part is a folio of its own at its end");
    }
    // A range that is cut divides the folio there by the same means.
    let (left, right) = device.alloc_range(RangeRequest::new(1024).align(1024)).unwrap().split_at(511).unwrap();
    let start = left.offset().get();
    let told = std::mem::take(&mut *log.0.lock().unwrap());
    assert_eq!(told.len(), 9 + 1 + 1 + 1, "orders 8 to 0, page 511, a block, and the end");
    assert_eq!(told.last(), Some(&Told::End { whole: (start, 10) }));
    drop((left, right));
}

/// What is not taken out of the iterator goes with it.
#[test]
fn parts_that_nobody_takes_are_freed() {
    let space = space();
    let log = Arc::new(Recorder::default());
    let device = space.register(DeviceConfig::new(1 << 12).ops(Arc::clone(&log))).unwrap();
    let mut parts = device.alloc(order(9)).unwrap().split(order(4)).unwrap();
    assert_eq!((parts.len(), parts.size_hint()), (32, (32, Some(32))));
    let kept: Vec<Folio<'_>> = parts.by_ref().skip(3).step_by(2).take(4).collect();
    assert_eq!(parts.len(), 32 - 3 - 7);
    drop(parts);
    assert_eq!((device.nr_live_pages(), kept.len()), (4 * 16, 4));
    space.validate().unwrap();
    let freed = log.0.lock().unwrap().iter().filter(|told| matches!(told, Told::Freed { .. })).count();
    assert_eq!(freed, 32 - 4);
    drop(kept);
    assert_eq!(device.nr_live_pages(), 0);
}

/// A device may be dying, and its folios be split all the same.
#[test]
fn a_dying_device_is_drained_of_parts() {
    let space = space();
    let device = space.register(DeviceConfig::new(1 << 10)).unwrap();
    let folio = device.alloc(order(10)).unwrap();
    device.kill();
    let parts: Vec<Folio<'_>> = folio.split(order(0)).unwrap().collect();
    assert_eq!(device.nr_live_pages(), 1024);
    drop_at_random(parts, 3);
    device.drain(std::time::Duration::ZERO).unwrap();
    device.unregister().unwrap();
}
