//! Bursts on ranges: each page is owned once, by a range or by a folio, wherever the range was wanted.

use std::sync::atomic::{AtomicU64, Ordering::*};

use farpage::{AllocError, Folio, Offset, OffsetRange, Order, RangeHandle, RangeRequest};

use crate::owners::*;
use crate::rng::Rng;

/// What a request asks for, to compare with what it got.
struct Wanted {
    request: RangeRequest,
    nr_pages: u64,
    align: u64,
    window: OffsetRange,
}

impl Wanted {
    /// A random one that an empty device could meet.
    fn random(rng: &mut Rng, device: OffsetRange) -> Wanted {
        let longest = [4, 40, 300, 1500][below(rng, 4)];
        let (nr_pages, align) = (1 + below(rng, longest) as u64, 1 << [0, 0, 0, 3, 6, 9][below(rng, 6)]);
        let request = RangeRequest::new(nr_pages).align(align);
        let (start, length) = (device.start().get(), device.nr_pages());
        let window =
            |from: u64, nr_pages| OffsetRange::new(Offset::new(from).expect("small"), nr_pages).expect("small");
        let (request, window) = match below(rng, 8) {
            0..=4 => (request, device),
            5 => {
                let at = start + below(rng, ((length - nr_pages) / align) as usize + 1) as u64 * align;
                (request.at(Offset::new(at).expect("small")), window(at, nr_pages))
            }
            _ => {
                let needs = nr_pages + align;
                let from = below(rng, (length - needs) as usize) as u64;
                let within = window(start + from, needs + below(rng, (length - needs - from) as usize) as u64);
                (request.within(within), within)
            }
        };
        let request = match below(rng, 4) {
            0 => request.top_down(),
            1 => request.bottom_up(),
            _ => request,
        };
        Wanted { request, nr_pages, align, window }
    }

    fn assert_met_by(&self, range: &RangeHandle<'_>) {
        let (start, end) = (range.offset().get(), range.offset().get() + range.nr_pages());
        assert_eq!((range.nr_pages(), start % self.align), (self.nr_pages, 0), "{range:?}");
        let window = self.window;
        assert!(window.start().get() <= start && end <= window.start().get() + window.nr_pages(), "{range:?}");
    }
}

/// Threads allocate and free ranges and folios, each within its share of pages, so that nothing is ever exhausted.
pub(crate) fn burst_of_ranges(nr_threads: usize, seed: u64) {
    const SHARE: u64 = 4 * 512 + 37;
    let (space, owners, config) = space_of(SHARE * nr_threads as u64);
    let device = space.register(config).expect("it fits");
    let (served, fragmented) = (AtomicU64::new(0), AtomicU64::new(0));
    on_threads(nr_threads, seed, |_, mut rng| {
        let (mut ranges, mut folios) = (Vec::<RangeHandle<'_>>::new(), Vec::<Folio<'_>>::new());
        for _ in 0..4000 {
            let held =
                ranges.iter().map(RangeHandle::nr_pages).sum::<u64>() + folios.iter().map(Folio::nr_pages).sum::<u64>();
            match below(&mut rng, 16) {
                0..=7 => {
                    let wanted = Wanted::random(&mut rng, device.range());
                    if held + wanted.nr_pages > SHARE {
                        ranges.truncate(ranges.len() / 2);
                        continue;
                    }
                    match device.alloc_range(wanted.request) {
                        Ok(range) => {
                            owners.enter_range(&range);
                            wanted.assert_met_by(&range);
                            ranges.push(range);
                            served.fetch_add(1, Relaxed);
                        }
                        Err(AllocError::Fragmented { requested, free, .. }) => {
                            assert!(requested == wanted.nr_pages && free >= requested);
                            fragmented.fetch_add(1, Relaxed);
                        }
                        Err(error) => panic!("{error}, and a share is always there"),
                    }
                }
                8..=9 if held + 256 <= SHARE => match device.alloc(order(below(&mut rng, 9) as u8)) {
                    Ok(folio) => {
                        owners.enter(&folio);
                        folios.push(folio);
                    }
                    Err(AllocError::Fragmented { requested, .. }) => assert!(requested > 1),
                    Err(error) => panic!("{error}, and a share is always there"),
                },
                10..=12 if !ranges.is_empty() => {
                    let range = ranges.swap_remove(below(&mut rng, ranges.len()));
                    owners.check_range(&range);
                }
                13 if !ranges.is_empty() => {
                    // Some of its folios go on alone, the rest with the iterator.
                    let range = ranges.swap_remove(below(&mut rng, ranges.len()));
                    folios.extend(range.into_folios().take(below(&mut rng, 4)));
                }
                14 if !ranges.is_empty() => {
                    // A folio of it outlives the range.
                    let range = ranges.swap_remove(below(&mut rng, ranges.len()));
                    let page = range.page(below(&mut rng, range.nr_pages() as usize) as u64).expect("within");
                    let folio = page.try_get().expect("the range has a reference");
                    drop(range);
                    owners.check(&folio);
                    folios.push(folio);
                }
                _ if !folios.is_empty() => {
                    let folio = folios.swap_remove(below(&mut rng, folios.len()));
                    owners.check(&folio);
                }
                _ => {}
            }
        }
    });
    assert!(served.load(Relaxed) > 100 * nr_threads as u64, "{served:?} ranges, {fragmented:?} refused");
    assert_all_came_back(&space, device, &owners);
}

/// Some threads ask for more pages in one run than are free; the others always get their one page, or their few.
pub(crate) fn burst_of_failing_ranges(nr_threads: usize, seed: u64) {
    const NR_PAGES: u64 = 4 * 512;
    let (space, owners, config) = space_of(NR_PAGES);
    let device = space.register(config).expect("it fits");
    let middle = RangeRequest::new(1).at(Offset::new(device.range().start().get() + 1000).expect("small"));
    let middle = device.alloc_range(middle).expect("it is free");
    owners.enter_range(&middle);
    let refusals = AtomicU64::new(0);
    on_threads(nr_threads, seed, |number, mut rng| {
        while refusals.load(Relaxed) < 10_000 {
            if number % 2 == 0 {
                owners.enter(&device.alloc(Order::ZERO).expect("a page is there"));
                let range =
                    device.alloc_range(RangeRequest::new(1 + below(&mut rng, 4) as u64)).expect("a few are there");
                owners.enter_range(&range);
                continue;
            }
            let requested = [NR_PAGES, NR_PAGES - 1, NR_PAGES - 100, 1048][below(&mut rng, 4)];
            let refused = device.alloc_range(RangeRequest::new(requested)).map(|range| range.range());
            match refused {
                Err(AllocError::Exhausted { free, .. }) => assert!(free < requested),
                Err(AllocError::Fragmented { free, largest, .. }) => assert!(free >= requested && largest < requested),
                answer => panic!("{answer:?}, and no such run was ever free"),
            }
            refusals.fetch_add(1, Relaxed);
        }
    });
    drop(middle);
    assert_all_came_back(&space, device, &owners);
}
