//! What is done with parts of folios: split, and given up, on both sides.

use super::*;

/// Handles, above which parts are dropped at once.
const MAX_HANDLES: usize = 4000;

impl<'s> Oracle<'s> {
    /// A handle, mostly on a folio above `order` if there is one.
    fn pick_larger(&self, handle: u16, order: Order) -> Option<usize> {
        let (first, nr) = (pick(handle, self.handles.len())?, self.handles.len());
        let mut after = (0..nr).map(|i| (first + i) % nr);
        after.find(|&i| handle % 4 == 0 || self.handles[i].order() > order).or(Some(first))
    }

    /// Evenly, or around a page.
    pub(super) fn split(&mut self, handle: u16, order: Order, around: Option<u16>) {
        let Some(i) = self.pick_larger(handle, order) else { return };
        let folio = self.handles.swap_remove(i);
        let (head, life) = (folio.offset().get(), *self.life_mut(folio.offset()));
        // One page beyond the last as well.
        let index = around.map(|index| u64::from(index) % (life.order.nr_pages() + 1));
        let answer = match index {
            None => folio.split(order),
            Some(index) => folio.split_around(index, order),
        };
        match answer {
            Ok(parts) => {
                assert!(order < life.order && index.is_none_or(|index| index < life.order.nr_pages()));
                assert_eq!((life.refs, life.maps), (1, 0), "nobody else uses it");
                self.stats.folio_splits += 1;
                let expected = match index {
                    Some(index) => halves_around(head, life.order.get(), head + index, order.get()),
                    None => {
                        (0..life.order.nr_pages() >> order.get()).map(|i| (head + (i << order.get()), order)).collect()
                    }
                };
                self.expect_split(head, life, &expected);
                self.model.divide(head, expected.iter().copied());
                let is_needed =
                    |&(head, order): &(u64, Order)| self.model.given_up_in(head, order.nr_pages()) < order.nr_pages();
                let (needed, freed): (Vec<_>, Vec<_>) = expected.into_iter().partition(is_needed);
                self.stats.freed_parts += freed.len() as u64;
                freed.into_iter().for_each(|(head, _)| self.end(head));
                assert_eq!(parts.len(), needed.len());
                let parts: Vec<Folio<'s>> = parts.collect();
                let seen = parts.iter().map(|part| (part.offset().get(), part.order()));
                assert!(seen.eq(needed), "{parts:?}");
                for part in parts {
                    assert_eq!((part.refs(), part.maps(), part.private()), (1, 0, life.private));
                    let (head, last) = (part.offset().get(), part.offset().get() + part.nr_pages() - 1);
                    self.check_page(last, self.space.page(offset(last)));
                    assert_eq!(part.given_up(), self.model.given_up_in(head, part.nr_pages()));
                    if self.handles.len() < MAX_HANDLES {
                        self.handles.push(part);
                    } else {
                        self.put(part);
                    }
                }
            }
            Err(error) => {
                self.stats.refused_splits += 1;
                match error {
                    SplitError::OrderNotSmaller { requested, .. } => assert!(requested == order && order >= life.order),
                    SplitError::OutOfRange { index: seen, .. } => {
                        assert!(order < life.order && index == Some(seen) && seen >= life.order.nr_pages());
                    }
                    SplitError::Busy { extra_refs, maps, .. } => {
                        assert!(order < life.order && life.refs > 1);
                        assert_eq!((extra_refs, maps), (life.refs - 1, life.maps));
                    }
                    ref error => panic!("{error}"),
                }
                let folio = error.into_folio();
                assert_eq!((folio.offset().get(), folio.order(), folio.refs()), (head, life.order, life.refs));
                assert_eq!((folio.maps(), folio.private()), (life.maps, life.private), "it is as it was");
                self.handles.push(folio);
            }
        }
    }

    pub(super) fn give_up(&mut self, handle: u16, from: u8, to: u8) {
        let Some(i) = self.pick_larger(handle, Order::ZERO) else { return };
        let (head, nr_pages) = (self.handles[i].offset().get(), self.handles[i].nr_pages());
        // Up to a little more than the folio has.
        let page = |part: u8| (u64::from(part) * (nr_pages + nr_pages / 16 + 1)) >> 8;
        let (start, end) = (page(from), page(to));
        let before = self.model.given_up_in(head, nr_pages);
        let answer = self.handles[i].give_up(start..end);
        if start <= end && end <= nr_pages {
            self.model.given_up.extend(head + start..head + end);
            assert_eq!(answer, Ok(self.model.given_up_in(head, nr_pages) - before));
        } else {
            assert_eq!(answer, Err(GiveUpError::OutOfRange { start, end, nr_pages }));
        }
        let folio = &self.handles[i];
        assert_eq!(folio.given_up(), self.model.given_up_in(head, nr_pages));
        for index in [start, end, nr_pages] {
            assert_eq!(folio.is_given_up(index), index < nr_pages && self.model.given_up.contains(&(head + index)));
        }
    }
}
