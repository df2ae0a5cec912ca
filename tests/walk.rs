//! Walks over live folios: what is met, what is not, and that others may do as they like meanwhile.
//!
//! The orderings are shown by the model `walk`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::thread;
use std::time::{Duration, Instant};

use farpage::{
    Access, AllocError, Cache, Device, DeviceConfig, DeviceOps, Folio, FreedFolio, Offset, OffsetRange, Order,
    RangeRequest, SoftLeaf, Space,
};

#[path = "support/rng.rs"]
mod rng;
use rng::Rng;

const LONG: Duration = Duration::from_secs(60);

fn space(max_pages: u64) -> Space {
    Space::builder().max_pages(max_pages).build().expect("address space")
}

fn device_of(space: &Space, nr_pages: u64) -> Device<'_> {
    space.register(DeviceConfig::new(nr_pages)).expect("it fits")
}

fn order(order: u8) -> Order {
    Order::new(order).expect("at most 18")
}

fn range(start: u64, nr_pages: u64) -> OffsetRange {
    OffsetRange::new(Offset::new(start).expect("an offset"), nr_pages).expect("a range")
}

/// First page and order of each folio.
fn met<'s>(folios: impl Iterator<Item = Folio<'s>>) -> Vec<(u64, u8)> {
    folios.map(|folio| (folio.offset().get(), folio.order().get())).collect()
}

fn at(device: &Device<'_>, page: u64, order: u8) -> (u64, u8) {
    (device.range().start().get() + page, order)
}

#[test]
fn each_live_folio_is_met_once_in_the_order_of_offsets() {
    let space = space(1 << 21);
    let _neighbour = device_of(&space, 300).alloc(Order::ZERO).unwrap();
    let device = device_of(&space, (1 << 20) + 77);
    assert_eq!(met(device.live_folios()), []);
    let mut rng = Rng::seeded(1);
    let mut folios: Vec<_> = (0..=18).map(|n| device.alloc(order(n)).unwrap()).collect();
    folios.extend((0..1500).map(|_| device.alloc(order((rng.number() % 11) as u8)).unwrap()));
    folios.extend(device.alloc_range(RangeRequest::new(1357).top_down()).unwrap().into_folios());
    for round in 0..6 {
        let mut expected: Vec<_> = folios.iter().map(|folio| (folio.offset().get(), folio.order().get())).collect();
        expected.sort_unstable();
        assert_eq!(met(device.live_folios()), expected, "round {round}");
        assert!(folios.iter().all(|folio| folio.refs() == 1), "the walk's references are gone");
        assert!(device.live_folios().all(|folio| folio.refs() == 2 && folio.device() == device));
        // Others are freed, into caches and into the map, and some come again.
        folios.retain(|_| rng.number() % 2 == 0);
        folios.extend((0..200).filter_map(|_| device.alloc(order((rng.number() % 4) as u8)).ok()));
    }
    drop(folios);
    assert_eq!(met(device.live_folios()), [], "what caches keep is not alive");
    assert_eq!((device.nr_live_pages(), space.validate()), (0, Ok(())));
}

#[test]
fn a_range_has_the_folios_with_a_page_in_it() {
    let space = space(1 << 14);
    let device = device_of(&space, 1 << 14);
    let base = device.range().start().get();
    let at_page = |page, nr_pages| {
        let request = RangeRequest::new(nr_pages).at(Offset::new(base + page).unwrap());
        device.alloc_range(request).unwrap().into_folios().collect::<Vec<_>>()
    };
    // 8..16; 100; 1024..2048; the last page.
    let _folios = [at_page(8, 8), at_page(100, 1), at_page(1024, 1024), at_page((1 << 14) - 1, 1)];
    let (eight, one) = (at(&device, 8, 3), at(&device, 100, 0));
    let (large, last) = (at(&device, 1024, 10), at(&device, (1 << 14) - 1, 0));
    let in_range = |start, nr_pages| met(device.live_folios_in(range(base + start, nr_pages)));
    for (start, nr_pages, expected) in [
        (0, 8, vec![]),
        (0, 9, vec![eight]),
        (8, 1, vec![eight]),
        (15, 1, vec![eight]),
        (15, 86, vec![eight, one]),
        (16, 84, vec![]),
        (100, 1, vec![one]),
        (101, 923, vec![]),
        (101, 924, vec![large]),
        (1500, 1, vec![large]),
        (1536, 512, vec![large]),
        (2047, 1, vec![large]),
        (2048, 1 << 13, vec![]),
        (1500, 1 << 20, vec![large, last]),
        ((1 << 14) - 1, 1, vec![last]),
        (1 << 14, 5, vec![]),
        (0, 1 << 14, vec![eight, one, large, last]),
    ] {
        assert_eq!(in_range(start, nr_pages), expected, "{nr_pages} pages from {start} on");
    }
    assert_eq!(met(device.live_folios_in(OffsetRange::EMPTY)), []);
    // In another device there is nothing of this one.
    let mut walk = device.live_folios();
    assert!(walk.size_hint().1.unwrap() >= 4);
    assert_eq!((walk.by_ref().count(), walk.size_hint(), walk.next()), (4, (0, Some(0)), None));
}

#[test]
fn the_parts_of_a_divided_folio_are_met() {
    let space = space(1 << 12);
    let device = device_of(&space, 1 << 12);
    let whole = device.alloc_range(RangeRequest::new(2048).align(2048)).unwrap();
    let first = whole.offset().get();
    let (left, right) = whole.split_at(700).unwrap();
    let mut expected: Vec<_> = [&left, &right]
        .iter()
        .flat_map(|part| part.folios())
        .map(|page| (page.folio_offset().get(), page.order().get()))
        .collect();
    expected.sort_unstable();
    assert_eq!(met(device.live_folios()), expected);
    assert_eq!(met(device.live_folios_in(range(first + 701, 1))).len(), 1);
    drop(left);
    assert!(met(device.live_folios()).iter().all(|&(head, _)| head >= first + 700));
    drop(right);
}

#[test]
fn a_terabyte_with_two_folios_is_walked_in_a_moment() {
    let space = Space::new().unwrap();
    let device = device_of(&space, 1 << 28);
    let first = device.alloc(Order::ZERO).unwrap();
    let last = device.alloc_range(RangeRequest::new(1).at(Offset::new((1 << 28) - 1).unwrap())).unwrap();
    let start = Instant::now();
    assert_eq!(met(device.live_folios()), [(first.offset().get(), 0), (last.offset().get(), 0)]);
    // Half a million blocks, of which two have metadata. Microseconds; the limit is for a machine that is busy.
    assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
}

#[test]
fn a_folio_without_room_for_a_reference_is_passed_over() {
    let space = space(512);
    let device = device_of(&space, 512);
    let (full, next) = (device.alloc(Order::ZERO).unwrap(), device.alloc(Order::ZERO).unwrap());
    let clones: Vec<_> = std::iter::from_fn(|| full.try_clone().ok()).collect();
    assert!(clones.len() > 1 << 18);
    assert_eq!(met(device.live_folios()), [(next.offset().get(), 0)]);
    drop(clones);
    assert_eq!(device.live_folios().count(), 2);
}

#[test]
fn a_frozen_folio_is_passed_over_and_its_neighbours_are_met() {
    let space = space(2048);
    let device = device_of(&space, 2048);
    for n in [3, 9] {
        let folios = [(); 3].map(|()| device.alloc(order(n)).unwrap());
        let heads = folios.each_ref().map(|folio| (folio.offset().get(), n));
        let [first, second, third] = folios;
        let frozen = second.try_freeze(1).unwrap();
        assert_eq!(met(device.live_folios()), [heads[0], heads[2]]);
        let second = frozen.unfreeze();
        assert_eq!(met(device.live_folios()), heads);
        drop((first, second, third));
    }
}

#[test]
fn a_walk_ends_with_its_device_and_meets_nothing_of_the_next() {
    for n in [0, 3, 9] {
        let space = space(2048);
        let device = device_of(&space, 2048);
        let folios = [device.alloc(order(n)).unwrap(), device.alloc(order(n)).unwrap()];
        let mut walk = device.live_folios();
        assert_eq!(walk.next().map(|folio| folio.offset().get()), Some(0));
        drop(folios);
        device.clone().unregister().unwrap();
        let next = device_of(&space, 2048);
        assert_eq!(next.range(), device.range());
        let others: Vec<_> = (0..3).map(|_| next.alloc(order(n)).unwrap()).collect();
        assert_eq!(walk.next(), None);
        assert_eq!(met(device.live_folios()), [], "a handle on a device that is gone");
        assert_eq!(next.live_folios().count(), 3);
        assert!(others.iter().all(|folio| folio.refs() == 1));
    }
}

/// One that runs its callback when the walk's handle is the last, and unwinds.
#[test]
fn a_panic_in_a_callback_that_the_walk_runs_loses_no_page() {
    struct Panics;
    impl DeviceOps for Panics {
        fn folio_free(&self, _: FreedFolio) {
            std::panic::resume_unwind(Box::new("the driver's"));
        }
    }
    let space = space(512);
    let device = space.register(DeviceConfig::new(512).ops(Panics)).unwrap();
    let mut folios: Vec<_> = (0..3).map(|_| device.alloc(Order::ZERO).unwrap()).collect();
    folios.sort_by_key(|folio| folio.offset());
    let mut walk = device.live_folios();
    let first = walk.next().unwrap();
    drop(folios.remove(0));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(first))).is_err());
    assert_eq!(walk.count(), 2);
    assert_eq!((device.nr_live_pages(), space.validate()), (2, Ok(())));
    folios.into_iter().for_each(|folio| _ = folio.into_leaf(Access::Read));
}

/// While others allocate, free and divide as they like: folios that live all the time are met once in each walk, and what
/// is met does not overlap, so nothing is met twice.
#[test]
fn what_lives_all_the_time_is_met_once_and_nothing_twice() {
    const NR_PAGES: u64 = 24 * 512 + 99;
    for seed in 0..3 {
        let space = Space::builder().max_pages(NR_PAGES).cores(4).build().unwrap();
        let device = device_of(&space, NR_PAGES);
        let mut rng = Rng::seeded(seed);
        // Every third of those that were allocated among others stays.
        let mut all: Vec<_> = (0..600).filter_map(|_| device.alloc(order((rng.number() % 10) as u8)).ok()).collect();
        let mut i = 0;
        all.retain(|_| {
            i += 1;
            i % 3 == 0
        });
        let stay: Vec<(u64, u8)> = {
            let mut stay = met(all.iter().cloned());
            stay.sort_unstable();
            stay
        };
        let (done, walks, met_others) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|scope| {
            for number in 0..3u64 {
                let (device, done) = (&device, &done);
                let mut rng = Rng::seeded(seed << 8 | number);
                scope.spawn(move || {
                    let (mut mine, mut cache) = (Vec::new(), device.cache());
                    while !done.load(Relaxed) {
                        busy_with(device, &mut cache, &mut mine, &mut rng);
                    }
                });
            }
            let walked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let start = Instant::now();
                while start.elapsed() < Duration::from_millis(700) {
                    // All are held to the end: nothing that was met is free, and comes again, meanwhile.
                    let folios: Vec<_> = device.live_folios().collect();
                    let heads = met(folios.iter().cloned());
                    for pair in heads.windows(2) {
                        assert!(pair[0].0 + (1 << pair[0].1) <= pair[1].0, "{pair:?} overlap, or are not ascending");
                    }
                    let heads: std::collections::BTreeSet<_> = heads.into_iter().collect();
                    for folio in &stay {
                        assert!(heads.contains(folio), "{folio:?} lives all the time, and was not met");
                    }
                    met_others.fetch_add((heads.len() - stay.len()) as u64, Relaxed);
                    walks.fetch_add(1, Relaxed);
                }
            }));
            done.store(true, Relaxed);
            walked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
        assert!(walks.into_inner() > 5 && met_others.into_inner() > 100, "others come and go");
        drop(all);
        assert_eq!((device.nr_live_pages(), space.validate()), (0, Ok(())));
    }
}

fn busy_with<'s>(device: &Device<'s>, cache: &mut Cache<'s>, mine: &mut Vec<Folio<'s>>, rng: &mut Rng) {
    let number = rng.number();
    match number % 8 {
        0..=2 => mine.extend(device.alloc(order((number >> 8) as u8 % 10))),
        3 => mine.extend(cache.alloc(order((number >> 8) as u8 % 4))),
        4 => {
            let pages = 2 + (number >> 8) % 700;
            let Ok(range) = device.alloc_range(RangeRequest::new(pages)) else { return };
            match range.split_at(1 + (number >> 32) % (pages - 1)) {
                Ok((left, _right)) => mine.extend(left.into_folios()),
                // The walk has a reference.
                Err(error) => drop(error),
            }
        }
        _ if mine.is_empty() => {}
        5 => cache.put(mine.swap_remove(number as usize % mine.len())),
        _ => drop(mine.swap_remove(number as usize % mine.len())),
    }
    if mine.len() > 100 {
        mine.truncate(50);
    }
}

/// What a driver does whose device goes under load: kill, walk and bring home what is met until nothing is left.
#[test]
fn a_device_under_load_is_emptied_by_walks() {
    const NR_PAGES: u64 = 4096;
    for seed in 0..20 {
        let space = Space::builder().max_pages(NR_PAGES).cores(4).build().unwrap();
        let device = device_of(&space, NR_PAGES);
        // The page table: a leaf for each page that begins a folio, under its lock.
        let table: Vec<Mutex<SoftLeaf>> = (0..NR_PAGES).map(|_| Mutex::new(SoftLeaf::NONE)).collect();
        let clear = |head: Offset| {
            let leaf = std::mem::replace(&mut *table[head.get() as usize].lock().unwrap(), SoftLeaf::NONE);
            (leaf != SoftLeaf::NONE).then(|| space.take(leaf).expect("the table has its reference"))
        };
        thread::scope(|scope| {
            for number in 0..4u64 {
                let (device, table, clear) = (&device, &table, &clear);
                let mut rng = Rng::seeded(seed << 8 | number);
                scope.spawn(move || {
                    loop {
                        match device.alloc(order((rng.number() % 7) as u8)) {
                            Ok(folio) => {
                                let mut entry = table[folio.offset().get() as usize].lock().unwrap();
                                assert_eq!(*entry, SoftLeaf::NONE);
                                *entry = folio.into_leaf(Access::Write);
                            }
                            Err(AllocError::Dying) => break,
                            // Full: something goes by itself.
                            Err(_) => _ = clear(Offset::new(rng.number() % NR_PAGES).unwrap()),
                        }
                    }
                });
            }
            thread::sleep(Duration::from_millis(2 * (seed % 5)));
            device.kill();
            // A folio that was allocated and is not in the table yet takes one more walk.
            let start = Instant::now();
            while device.drain(Duration::ZERO).is_err() {
                device.live_folios().for_each(|folio| drop(clear(folio.offset())));
                assert!(start.elapsed() < LONG, "{} pages are left", device.nr_live_pages());
            }
        });
        assert_eq!(device.live_folios().count(), 0);
        assert_eq!(space.validate(), Ok(()));
        device.unregister().expect("it is drained");
    }
}
