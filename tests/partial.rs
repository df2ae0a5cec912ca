//! Pages that their holders give up before the folio ends: counted, remembered through splits, and freed as soon as a
//! part consists of nothing else.
#![cfg(not(loom))]

#[path = "support/rng.rs"]
mod rng;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use farpage::{
    Access, DeviceConfig, DeviceOps, Folio, FreedFolio, GiveUpError, Offset, Order, RangeRequest, Space, SplitError,
};
use rng::Rng;

fn order(order: u8) -> Order {
    Order::new(order).expect("at most 18")
}

fn space() -> Space {
    Space::builder().max_pages(1 << 20).cores(2).build().expect("address space")
}

#[derive(Default)]
struct Freed(Mutex<Vec<(u64, u8, u64)>>);

impl DeviceOps for Freed {
    fn folio_free(&self, folio: FreedFolio) {
        self.0.lock().unwrap().push((folio.offset().get(), folio.order().get(), folio.private()));
    }
}

impl Freed {
    fn take(&self) -> Vec<(u64, u8, u64)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[test]
fn pages_are_given_up_once_and_stay_usable() {
    let space = space();
    let device = space.register(DeviceConfig::new(1 << 12)).unwrap();
    for n in [0, 1, 6, 9, 12] {
        let folio = device.alloc(order(n)).unwrap();
        let nr_pages = folio.nr_pages();
        assert_eq!((folio.given_up(), folio.give_up(0..0)), (0, Ok(0)));
        assert_eq!(folio.give_up(nr_pages / 2..nr_pages), Ok(nr_pages - nr_pages / 2));
        assert_eq!(folio.give_up(nr_pages / 2..nr_pages), Ok(0), "once");
        assert!(folio.is_given_up(nr_pages - 1) && !folio.is_given_up(nr_pages));
        assert_eq!(folio.is_given_up(0), nr_pages == 1);
        // Nothing is taken away by it.
        let page = space.page(Offset::new(folio.offset().get() + nr_pages - 1).unwrap()).unwrap();
        assert_eq!(page.folio_offset(), folio.offset());
        let leaf = page.try_get().unwrap().into_leaf(Access::Write);
        assert_eq!(space.lookup(leaf).unwrap().refs(), 2);
        drop(space.take(leaf).unwrap());
        assert_eq!((device.nr_live_pages(), device.nr_given_up_pages()), (nr_pages, folio.given_up()));
        assert_eq!(folio.give_up(0..nr_pages), Ok(nr_pages / 2));
        assert_eq!(folio.given_up(), nr_pages);
        space.validate().unwrap();
        // All of it given up is not the end: a handle is left.
        assert_eq!(device.nr_live_pages(), nr_pages);
        drop(folio);
        assert_eq!((device.nr_live_pages(), device.nr_given_up_pages()), (0, 0));
    }
}

#[test]
fn what_is_not_there_cannot_be_given_up() {
    let space = space();
    let device = space.register(DeviceConfig::new(1 << 10)).unwrap();
    let folio = device.alloc(order(3)).unwrap();
    #[allow(clippy::reversed_empty_ranges, reason = "the caller's mistake")]
    let ranges = [0..9, 8..9, 5..3, 9..9, 0..u64::MAX, u64::MAX..u64::MAX];
    for range in ranges {
        let (start, end) = (range.start, range.end);
        assert_eq!(folio.give_up(range), Err(GiveUpError::OutOfRange { start, end, nr_pages: 8 }));
    }
    assert_eq!((folio.given_up(), folio.give_up(8..8)), (0, Ok(0)));
}

/// Whatever ends the folio: the next one at the place begins with nothing given up.
#[test]
fn a_new_life_has_given_nothing_up() {
    let space = space();
    let device = space.register(DeviceConfig::new(512)).unwrap();
    let mut cache = device.cache();
    for (n, round) in [(0, 0), (0, 1), (8, 0), (9, 1), (9, 2)].into_iter().cycle().take(50) {
        let folio = device.alloc(order(n)).unwrap();
        assert_eq!((folio.given_up(), device.nr_given_up_pages()), (0, 0));
        folio.give_up(0..folio.nr_pages()).unwrap();
        match round {
            0 => drop(folio),
            1 => cache.put(folio),
            _ => drop(space.take(folio.into_leaf(Access::Read)).unwrap()),
        }
    }
    let range = device.alloc_range(RangeRequest::new(300)).unwrap();
    let page = range.page(299).unwrap().try_get().unwrap();
    assert_eq!(page.give_up(0..1), Ok(1));
    drop((range, page));
    assert_eq!(device.nr_given_up_pages(), 0);
}

/// Against a set of page numbers: random pages are given up, the folio is split this way and that, and its parts split
/// again.
#[test]
fn a_part_without_a_needed_page_is_freed_at_once() {
    let space = space();
    let freed = Arc::new(Freed::default());
    let device = space.register(DeviceConfig::new(1 << 12).ops(Arc::clone(&freed))).unwrap();
    let mut rng = Rng::seeded(5);
    let mut below = |end: u64| (rng.number() >> 16) % end;
    let mut nr_freed = 0;
    for round in 0..300 {
        let whole = 1 + below(12) as u8;
        let mut folios = vec![device.alloc(order(whole)).unwrap()];
        let mut given_up: BTreeSet<u64> = BTreeSet::new();
        folios[0].set_private(round);
        while let Some(folio) = folios.pop() {
            let (head, nr_pages, n) = (folio.offset().get(), folio.nr_pages(), folio.order().get());
            for _ in 0..below(4) {
                let from = below(nr_pages);
                let to = from + below(nr_pages - from + 1);
                let before = given_up.len() as u64;
                given_up.extend(head + from..head + to);
                assert_eq!(folio.give_up(from..to), Ok(given_up.len() as u64 - before));
            }
            assert_eq!(folio.given_up(), given_up.range(head..head + nr_pages).count() as u64);
            assert_eq!(device.nr_given_up_pages(), given_up.len() as u64);
            let index = below(nr_pages);
            assert_eq!(folio.is_given_up(index), given_up.contains(&(head + index)));
            if n == 0 {
                drop(folio);
                given_up.remove(&head);
                continue;
            }
            let part = below(u64::from(n)) as u8;
            let live = device.nr_live_pages();
            freed.take();
            let parts = if below(2) == 0 { folio.split(order(part)) } else { folio.split_around(index, order(part)) };
            let parts: Vec<Folio<'_>> = parts.unwrap().collect();
            // What is missing among the parts was freed, with the driver's word, and had been given up to the last page.
            let mut at = head;
            let mut expected = Vec::new();
            for (offset, n, private) in freed.take() {
                assert_eq!(private, round);
                expected.push((offset, 1u64 << n));
                assert!((offset..offset + (1 << n)).all(|page| given_up.remove(&page)), "{offset:#x} was needed");
                nr_freed += 1;
            }
            assert_eq!(device.nr_live_pages(), live - expected.iter().map(|(_, nr_pages)| nr_pages).sum::<u64>());
            expected.extend(parts.iter().map(|part| (part.offset().get(), part.nr_pages())));
            expected.sort_unstable();
            for (offset, nr_pages) in expected {
                assert_eq!(offset, at, "each page is in one part");
                at += nr_pages;
            }
            assert_eq!(at, head + nr_pages);
            for part in &parts {
                assert!(part.given_up() < part.nr_pages(), "{part:?} is not needed, and was not freed");
            }
            folios.extend(parts);
            if folios.len() > 40 {
                for folio in folios.drain(..39) {
                    let (head, end) = (folio.offset().get(), folio.offset().get() + folio.nr_pages());
                    drop(folio);
                    given_up.retain(|page| !(head..end).contains(page));
                }
                freed.take();
            }
        }
        space.validate().unwrap();
        assert_eq!((device.nr_live_pages(), device.nr_given_up_pages()), (0, 0));
        freed.take();
    }
    assert!(nr_freed > 1000, "{nr_freed}");
}

#[test]
fn a_folio_given_up_as_a_whole_has_no_parts() {
    let space = space();
    let device = space.register(DeviceConfig::new(1 << 12)).unwrap();
    for (whole, part) in [(12, 0), (12, 9), (9, 3), (3, 0)] {
        let folio = device.alloc(order(whole)).unwrap();
        folio.give_up(0..folio.nr_pages()).unwrap();
        let mut parts = folio.split(order(part)).unwrap();
        assert_eq!((parts.len(), device.nr_live_pages(), device.nr_given_up_pages()), (0, 0, 0));
        assert!(parts.next().is_none());
        space.validate().unwrap();
    }
}

#[test]
fn a_refused_split_forgets_nothing() {
    let space = space();
    let device = space.register(DeviceConfig::new(1 << 12)).unwrap();
    let folio = device.alloc(order(9)).unwrap();
    folio.give_up(0..256).unwrap();
    let other = folio.clone();
    assert_eq!(other.give_up(255..300), Ok(44), "any holder may");
    let Err(SplitError::Busy { folio, .. }) = folio.split(order(8)) else { panic!("another handle is there") };
    assert_eq!((folio.given_up(), device.nr_live_pages()), (300, 512));
    drop(other);
    let parts: Vec<Folio<'_>> = folio.split(order(8)).unwrap().collect();
    assert_eq!(parts.iter().map(Folio::given_up).collect::<Vec<_>>(), [44]);
    assert_eq!((device.nr_live_pages(), device.nr_given_up_pages()), (256, 44));
}

/// The ranges of `RangeHandle::split_at` keep their folios, needed or not.
#[test]
fn a_range_that_is_cut_keeps_all_of_its_folios() {
    let space = space();
    let device = space.register(DeviceConfig::new(1 << 12)).unwrap();
    let range = device.alloc_range(RangeRequest::new(1024).align(1024)).unwrap();
    let folio = range.page(0).unwrap().try_get().unwrap();
    assert_eq!(folio.give_up(0..600), Ok(600));
    drop(folio);
    let (left, right) = range.split_at(512).unwrap();
    assert_eq!((device.nr_live_pages(), device.nr_given_up_pages()), (1024, 600));
    drop(left);
    assert_eq!((device.nr_live_pages(), device.nr_given_up_pages()), (512, 88));
    let folio = right.into_folios().next().unwrap();
    assert_eq!(folio.given_up(), 88);
    assert_eq!(folio.split(order(3)).unwrap().len(), 64 - 11);
    assert_eq!((device.nr_live_pages(), device.nr_given_up_pages()), (0, 0));
}
