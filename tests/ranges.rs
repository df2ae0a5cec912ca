//! Ranges: pages in one run, of any length.
#![cfg(not(loom))]

use farpage::{
    Access, AllocError, DeviceConfig, Offset, OffsetRange, Order, RangeHandle, RangeRequest, Space, SplitRangeError,
};

fn space() -> Space {
    Space::builder().max_pages(1 << 20).cores(2).build().expect("address space")
}

fn overlap(a: OffsetRange, b: OffsetRange) -> bool {
    let ends = |range: OffsetRange| (range.start().get(), range.start().get() + range.nr_pages());
    let ((a_start, a_end), (b_start, b_end)) = (ends(a), ends(b));
    a_start < b_end && b_start < a_end
}

#[test]
fn ranges_of_all_lengths_lie_apart_and_come_back() {
    let space = space();
    let device = space.register(DeviceConfig::new(100_000)).unwrap();
    let lengths =
        [1u64, 2, 3, 5, 7, 16, 17, 63, 64, 65, 100, 255, 256, 300, 511, 512, 513, 1000, 1024, 4095, 4096, 5000];
    let mut ranges: Vec<RangeHandle<'_>> = Vec::new();
    for _ in 0..3 {
        for nr_pages in lengths {
            let range = device.alloc_range(RangeRequest::new(nr_pages)).unwrap();
            assert_eq!((range.nr_pages(), range.range().nr_pages()), (nr_pages, nr_pages));
            assert!(ranges.iter().all(|other| !overlap(other.range(), range.range())));
            for index in [0, nr_pages / 2, nr_pages - 1] {
                let page = range.page(index).unwrap();
                assert_eq!(page.offset().get(), range.offset().get() + index);
                assert_eq!((page.refs(), space.page(page.offset())), (1, Some(page)));
            }
            assert!(range.page(nr_pages).is_none());
            assert_eq!(range.folios().map(|folio| folio.order().nr_pages()).sum::<u64>(), nr_pages);
            ranges.push(range);
            space.validate().unwrap();
        }
        let mut nth = 0;
        ranges.retain(|_| {
            nth += 1;
            nth % 2 == 0
        });
        space.validate().unwrap();
    }
    ranges.clear();
    space.validate().unwrap();
    assert_eq!(device.nr_live_pages(), 0);
    let all = device.alloc_range(RangeRequest::new(100_000)).unwrap();
    assert_eq!(all.range(), device.range());
}

#[test]
fn conditions_are_met_or_refused_with_the_numbers() {
    let space = space();
    let device = space.register(DeviceConfig::new(5000)).unwrap();
    let base = device.range().start().get();
    let at = |page: u64| Offset::new(base + page).unwrap();
    let middle = device.alloc_range(RangeRequest::new(10).at(at(2000))).unwrap();
    assert_eq!(middle.offset(), at(2000));
    assert!(matches!(
        device.alloc_range(RangeRequest::new(10).at(at(2005))),
        Err(AllocError::Fragmented { requested: 10, free: 4990, largest: 2990 })
    ));
    let last = device.alloc_range(RangeRequest::new(3).top_down()).unwrap();
    assert_eq!(last.offset(), at(4997));
    let first = device.alloc_range(RangeRequest::new(3).bottom_up()).unwrap();
    assert_eq!(first.offset(), at(0));
    let window = OffsetRange::new(at(1990), 30).unwrap();
    let within = device.alloc_range(RangeRequest::new(8).within(window).top_down()).unwrap();
    assert_eq!(within.offset(), at(2012));
    let aligned = device.alloc_range(RangeRequest::new(700).align(1024)).unwrap();
    assert_eq!(aligned.offset().get() % 1024, 0);
    assert!(matches!(device.alloc_range(RangeRequest::new(0)), Err(AllocError::BadRange { nr_pages: 0, align: 1 })));
    assert!(matches!(
        device.alloc_range(RangeRequest::new(1).align(3)),
        Err(AllocError::BadRange { nr_pages: 1, align: 3 })
    ));
    assert!(matches!(device.alloc_range(RangeRequest::new(5001)), Err(AllocError::TooLarge)));
    assert!(matches!(
        device.alloc_range(RangeRequest::new(4).at(at(4998))),
        Err(AllocError::OutsideWindow { nr_pages: 4, align: 1 })
    ));
    space.validate().unwrap();
    drop((middle, last, first, within, aligned));
    let folios: Vec<_> = device.alloc_range(RangeRequest::new(7).at(at(3))).unwrap().into_folios().collect();
    assert_eq!(folios.iter().map(|folio| folio.order().get()).collect::<Vec<_>>(), [0, 2, 1]);
    drop(folios);
    assert_eq!(device.nr_live_pages(), 0);
    let _ = device.alloc(Order::ZERO).unwrap();
    space.validate().unwrap();
}

#[test]
fn the_lowest_place_is_the_lowest_also_when_a_cache_has_it() {
    let space = Space::builder().max_pages(2048).cores(2).cache_percent(100).build().expect("address space");
    let device = space.register(DeviceConfig::new(2048)).unwrap();
    let folio = device.alloc(Order::ZERO).unwrap();
    let first = folio.offset();
    drop(folio);
    assert!(first == device.range().start() && device.nr_cached_pages() > 0);
    assert_eq!(device.alloc_range(RangeRequest::new(1).bottom_up()).unwrap().offset(), first);
}

#[test]
fn the_highest_place_is_the_highest_also_when_a_cache_has_it() {
    let space = Space::builder().max_pages(2048).cores(2).cache_percent(100).build().expect("address space");
    let device = space.register(DeviceConfig::new(2048)).unwrap();
    let mut folios = Vec::new();
    device.alloc_many(Order::ZERO, 2048, &mut folios).unwrap();
    folios.retain(|folio| ![0, 2047].contains(&folio.offset().get()));
    assert_eq!(device.nr_free_pages(), 2);
    assert_eq!(device.alloc_range(RangeRequest::new(1).top_down()).unwrap().offset().get(), 2047);
}

#[test]
fn an_alignment_that_no_page_of_the_device_has_is_outside_it() {
    let space = space();
    let _first = space.register(DeviceConfig::new(512)).unwrap();
    let second = space.register(DeviceConfig::new(512)).unwrap();
    assert_eq!(second.range().start().get(), 512);
    let refused = second.alloc_range(RangeRequest::new(4).align(1024)).map(|range| range.offset());
    assert_eq!(refused, Err(AllocError::OutsideWindow { nr_pages: 4, align: 1024 }));
}

#[test]
fn a_range_is_divided_anywhere_and_each_part_is_whole() {
    let space = space();
    let device = space.register(DeviceConfig::new(8192)).unwrap();
    for (nr_pages, index) in [(2, 1), (7, 3), (16, 5), (512, 1), (600, 512), (2048, 1), (2048, 1024), (3000, 1537)] {
        let range = device.alloc_range(RangeRequest::new(nr_pages)).unwrap();
        let (start, stale) = (range.offset().get(), range.page(index).unwrap());
        range.folios().for_each(|folio| folio.try_get().unwrap().set_private(7));
        let (left, right) = range.split_at(index).unwrap();
        assert_eq!((left.offset().get(), left.nr_pages()), (start, index));
        assert_eq!((right.offset().get(), right.nr_pages()), (start + index, nr_pages - index));
        for part in [&left, &right] {
            assert_eq!(part.folios().map(|folio| folio.order().nr_pages()).sum::<u64>(), part.nr_pages());
            assert!(part.folios().all(|folio| (folio.refs(), folio.private()) == (1, 7)));
            for index in [0, part.nr_pages() / 2, part.nr_pages() - 1] {
                let page = part.page(index).unwrap();
                assert_eq!(space.page(page.offset()), Some(page));
            }
        }
        if stale.index() != 0 {
            assert!(stale.try_get().is_none(), "what was divided is another folio now");
        }
        space.validate().unwrap();
        drop(left);
        assert_eq!(device.nr_live_pages(), nr_pages - index);
        space.validate().unwrap();
        drop(right);
        space.validate().unwrap();
        assert_eq!(device.nr_live_pages(), 0);
    }
    let all: Vec<_> = (0..16).map(|_| device.alloc(Order::HUGE).unwrap()).collect();
    assert_eq!(all.len(), 16, "all of it is whole again");
}

#[test]
fn a_range_that_others_use_is_given_back_undivided() {
    let space = space();
    let device = space.register(DeviceConfig::new(4096)).unwrap();
    let range = device.alloc_range(RangeRequest::new(1024).align(1024)).unwrap();
    let leaf = range.page(0).unwrap().try_get().unwrap().into_leaf(Access::Read);
    let Err(SplitRangeError::Busy { extra_refs: 1, maps: 1, range, .. }) = range.split_at(100) else {
        panic!("a leaf has a reference")
    };
    drop(space.take(leaf).unwrap());
    let Err(SplitRangeError::OutOfRange { index: 1024, range }) = range.split_at(1024) else { panic!("out of range") };
    let (left, right) = range.split_at(100).unwrap();
    space.validate().unwrap();
    drop((left, right));
    assert_eq!(device.nr_live_pages(), 0);
    space.validate().unwrap();
}
