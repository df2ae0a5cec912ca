//! What is done with ranges: pages in one run, on both sides.

use super::*;

impl<'s> Oracle<'s> {
    pub(super) fn alloc_range(&mut self, device: u8, wanted: Wanted) {
        let Some(i) = pick(device, self.devices.len()) else { return };
        let device = self.devices[i].device.clone();
        let (request, window) = self.request(&device, wanted);
        match (device.alloc_range(request), self.range_refusal(&device, wanted, window)) {
            (Ok(range), None) => self.begin_range(&device, range, wanted, window),
            (Err(error), Some(expected)) => {
                assert_eq!(error, expected);
                self.check_refused(&device, error, None);
                self.stats.refused_ranges += 1;
            }
            (answer, expected) => panic!("{answer:?}, where the refusal should have been {expected:?}"),
        }
    }

    /// The request, and the pages of the device in which it wants to be, from and to.
    fn request(&self, device: &Device<'s>, wanted: Wanted) -> (RangeRequest, (u64, u64)) {
        let Wanted { nr_pages, align, place, way } = wanted;
        let at = |part: u16| (u64::from(part) * (self.model.max_pages + self.model.max_pages / 4)) >> 16;
        let request = RangeRequest::new(nr_pages).align(align);
        let request = match way {
            Way::Any => request,
            Way::BottomUp => request.bottom_up(),
            Way::TopDown => request.top_down(),
        };
        let start = device.range().start().get();
        let end = start + device.range().nr_pages();
        let (request, (from, to)) = match place {
            Place::Anywhere => (request, (start, end)),
            Place::At(part) => (request.at(offset(at(part))), (at(part), at(part).saturating_add(nr_pages))),
            Place::Within(part, length) => {
                let window = OffsetRange::new(offset(at(part)), at(length)).expect("a space of a test is small");
                (request.within(window), (at(part), at(part) + at(length)))
            }
        };
        (request, (from.max(start), to.min(end)))
    }

    /// Why an allocation of a range must fail, if it must.
    fn range_refusal(&self, device: &Device<'s>, wanted: Wanted, (from, to): (u64, u64)) -> Option<AllocError> {
        let Wanted { nr_pages, align, .. } = wanted;
        let start = device.range().start().get();
        if self.room(device).is_none_or(|room| room.dying) {
            return Some(AllocError::Dying);
        }
        if nr_pages == 0 || !align.is_power_of_two() {
            return Some(AllocError::BadRange { nr_pages, align });
        }
        if nr_pages > device.range().nr_pages() {
            return Some(AllocError::TooLarge);
        }
        let first = from.checked_next_multiple_of(align);
        if first.is_none_or(|first| first > to || to - first < nr_pages) {
            return Some(AllocError::OutsideWindow { nr_pages, align });
        }
        if self.model.places(start, nr_pages, align, (from, to)).is_some() {
            return None;
        }
        let free = device.range().nr_pages() - self.model.live_pages(start);
        Some(if free < nr_pages {
            AllocError::Exhausted { requested: nr_pages, free }
        } else {
            AllocError::Fragmented { requested: nr_pages, free, largest: self.model.longest(start) }
        })
    }

    fn begin_range(&mut self, device: &Device<'s>, range: RangeHandle<'s>, wanted: Wanted, window: (u64, u64)) {
        let (start, nr_pages) = (range.offset().get(), range.nr_pages());
        assert_eq!(
            (nr_pages, range.range().start(), range.range().nr_pages()),
            (wanted.nr_pages, range.offset(), nr_pages)
        );
        assert!(
            start % wanted.align == 0 && window.0 <= start && start + nr_pages <= window.1,
            "{range:?} is misplaced"
        );
        let places = self.model.places(device.range().start().get(), nr_pages, wanted.align, window);
        let (lowest, highest) = places.expect("there was a place");
        match wanted.way {
            Way::Any => {}
            Way::BottomUp => assert_eq!(start, lowest, "the lowest place"),
            Way::TopDown => assert_eq!(start, highest, "the highest place"),
        }
        assert!(range.device() == *device);
        let folios: Vec<(u64, Order)> =
            range.folios().map(|folio| (folio.folio_offset().get(), folio.order())).collect();
        self.begin_folios(device, &folios, range);
    }

    /// A new range begins, of these folios.
    pub(super) fn begin_folios(&mut self, device: &Device<'s>, folios: &[(u64, Order)], range: RangeHandle<'s>) {
        assert_eq!(folios, folios_of(range.offset().get(), range.offset().get() + range.nr_pages()));
        for &(head, order) in folios {
            self.model.begin(device.range().start().get(), head, order);
            self.check_page(head, self.space.page(offset(head)));
        }
        self.stats.ranges += 1;
        self.ranges.push(range);
    }

    pub(super) fn range_page(&mut self, range: u16, index: u16, get: bool) {
        let Some(i) = pick(range, self.ranges.len()) else { return };
        let range = &self.ranges[i];
        let index = u64::from(index) % (range.nr_pages() + 1);
        let page = range.page(index);
        assert_eq!(page.is_some(), index < range.nr_pages());
        let Some(page) = page else { return };
        self.check_page(range.offset().get() + index, Some(page));
        if get {
            let folio = page.try_get().expect("the range has a reference");
            self.life_mut(folio.offset()).refs += 1;
            self.handles.push(folio);
        }
    }

    pub(super) fn split_into_folios(&mut self, range: u16, take: u8) {
        let Some(i) = pick(range, self.ranges.len()) else { return };
        let range = self.ranges.swap_remove(i);
        let (start, end) = (range.offset().get(), range.offset().get() + range.nr_pages());
        let mut folios = range.into_folios();
        for (n, (head, order)) in folios_of(start, end).into_iter().enumerate() {
            if n < usize::from(take) {
                let folio = folios.next().expect("there are as many");
                assert_eq!((folio.offset().get(), folio.order()), (head, order));
                self.handles.push(folio);
            } else {
                self.end(head);
            }
        }
    }

    pub(super) fn split_range(&mut self, range: u16, index: u16) {
        let Some(i) = pick(range, self.ranges.len()) else { return };
        let range = self.ranges.swap_remove(i);
        let (start, nr_pages) = (range.offset().get(), range.nr_pages());
        let (index, end) = (u64::from(index) % (nr_pages + 2), start + nr_pages);
        let at = start + index;
        let divided = self.model.covering(at).filter(|&(head, _)| head != at);
        let is_within = index > 0 && index < nr_pages;
        match range.split_at(index) {
            Ok((left, right)) => {
                assert!(is_within, "both parts have pages");
                let ends = [&left, &right].map(|part| (part.offset().get(), part.nr_pages()));
                assert_eq!(ends, [(start, index), (at, nr_pages - index)]);
                if let Some((head, life)) = divided {
                    assert_eq!((life.refs, life.maps), (1, 0), "nobody else uses it");
                    let end = head + life.order.nr_pages();
                    let parts: Vec<(u64, Order)> = folios_of(head, at).into_iter().chain(folios_of(at, end)).collect();
                    self.expect_split(head, life, &parts);
                    self.model.divide(head, parts.into_iter());
                }
                for (part, (from, to)) in [(&left, (start, at)), (&right, (at, end))] {
                    let folios: Vec<(u64, Order)> =
                        part.folios().map(|folio| (folio.folio_offset().get(), folio.order())).collect();
                    assert_eq!(folios, folios_of(from, to));
                    folios.iter().for_each(|&(head, _)| self.check_page(head, self.space.page(offset(head))));
                }
                self.stats.splits += 1;
                self.ranges.extend([left, right]);
            }
            Err(SplitRangeError::OutOfRange { index: seen, range }) => {
                assert!(!is_within && seen == index);
                self.ranges.push(range);
            }
            Err(SplitRangeError::Busy { offset, extra_refs, maps, range }) => {
                let (head, life) = divided.expect("a folio is divided");
                assert_eq!((offset.get(), extra_refs, maps), (head, life.refs - 1, life.maps));
                assert!(is_within && life.refs > 1);
                self.ranges.push(range);
            }
            Err(error) => panic!("{error}"),
        }
        let total: u64 = self
            .ranges
            .iter()
            .filter(|part| (start..end).contains(&part.offset().get()))
            .map(RangeHandle::nr_pages)
            .sum();
        assert_eq!(total, nr_pages, "no page of it is lost");
    }

    pub(super) fn drop_range(&mut self, range: u16) {
        let Some(i) = pick(range, self.ranges.len()) else { return };
        let range = self.ranges.swap_remove(i);
        let (start, end) = (range.offset().get(), range.offset().get() + range.nr_pages());
        drop(range);
        folios_of(start, end).into_iter().for_each(|(head, _)| self.end(head));
    }
}
