//! Evictions from their beginning to their end, with an allocation in between.

use super::*;

/// Pages of a block, which is closed as a whole.
const BLOCK: u64 = 512;

impl<'s> Oracle<'s> {
    pub(super) fn evict(&mut self, device: u8, from: u8, nr_pages: u16, order: Order, end: u8) {
        let Some(i) = pick(device, self.devices.len()) else { return };
        let Registered { ref device, start, gone, .. } = self.devices[i];
        let (device, all) = (device.clone(), device.range());
        let from = start + all.nr_pages() * u64::from(from) / 256;
        // Now and then beyond the end, or nothing.
        let nr_pages = (all.nr_pages() - (from - start)) * u64::from(nr_pages) / 60_000;
        let range = OffsetRange::new(offset(from), nr_pages).expect("a space of a test is small");
        let mut ticket = match device.evict(range) {
            Ok(ticket) => ticket,
            Err(EvictError::Gone) => return assert!(gone),
            Err(error) => {
                assert!(nr_pages == 0 || from + nr_pages > start + all.nr_pages(), "{error}");
                return assert_eq!(error, EvictError::OutsideDevice { range, device: all });
            }
        };
        assert!(!gone);
        let first = from / BLOCK * BLOCK;
        let last = (from + nr_pages).next_multiple_of(BLOCK).min(start + all.nr_pages());
        assert_eq!((ticket.range().start().get(), ticket.range().nr_pages()), (first, last - first));
        assert_eq!(device.evict(range).err(), Some(EvictError::Overlaps { range: ticket.range() }));

        // Beside the closed blocks all is as before, and in them there is nothing.
        let (oracle, mut model) = (&*self, self.model.clone());
        let expected = model.while_withheld(start, (first, last), |model| oracle.refusal_by(model, &device, order, 1));
        let folio = device.alloc(order);
        if let Ok(folio) = &folio {
            let at = folio.offset().get();
            assert!(at + order.nr_pages() <= first || at >= last, "{folio:?} in the closed {:?}", ticket.range());
        }
        self.check_alloc_against(&device, folio, order, expected);

        match end % 5 {
            4 => self.check_moving_walk(&mut ticket, (first, last)),
            _ => self.check_walk(&mut ticket, (first, last), u32::from(end % 3)),
        }
        let empty = self.empty_blocks(first, last);
        match end % 8 {
            0 => ticket.abort(),
            1 => assert_eq!(ticket.release_evicted(), empty.iter().map(|(from, to)| to - from).sum::<u64>()),
            _ => match ticket.commit() {
                Err(AllocError::Dying) => assert!(self.room(&device).is_some_and(|room| room.dying)),
                Err(error) => panic!("{error}"),
                Ok(ranges) => self.begin_evicted(&device, ranges, empty),
            },
        }
        self.stats.evictions += 1;
    }

    /// Each folio that lives in the closed blocks is handed out once a round, locked.
    fn check_walk(&mut self, ticket: &mut EvictTicket<'s>, (first, last): (u64, u64), retries: u32) {
        let lives: Vec<u64> =
            self.model.lives_between(first, last).filter(|(_, life)| !life.ended).map(|(head, _)| head).collect();
        let nr_empty = self.empty_blocks(first, last).len() as u64;
        let mut handed = Vec::new();
        let evicted = ticket.evict(retries, |folio| {
            assert!(folio.is_locked());
            handed.push(folio.offset().get());
        });
        let nr_blocks = (last - first).div_ceil(BLOCK);
        assert_eq!((evicted.nr_evicted, evicted.nr_busy), (nr_empty, nr_blocks - nr_empty));
        assert_eq!(evicted.rounds, if evicted.nr_busy == 0 { 1 } else { 1 + retries });
        assert_eq!(evicted.nr_handed, handed.len() as u64);
        let rounds: Vec<u64> = (0..evicted.rounds).flat_map(|_| lives.iter().copied()).collect();
        assert_eq!(handed, rounds);
        for busy in ticket.busy() {
            let (from, to) = (busy.block.start().get(), busy.block.start().get() + busy.block.nr_pages());
            match self.model.lives_between(from, to).find(|(_, life)| !life.ended) {
                Some((head, life)) => {
                    assert_eq!((busy.offset.get(), busy.refs, busy.maps), (head, life.refs, life.maps));
                }
                None => assert_eq!((busy.offset.get(), busy.refs), (from, 0), "it waits for its driver"),
            }
            assert!(!busy.is_locked);
        }
    }

    /// The driver takes every leaf of the folios away, as if it had copied them: who has no handle on any is gone.
    fn check_moving_walk(&mut self, ticket: &mut EvictTicket<'s>, (first, last): (u64, u64)) {
        let lives: Vec<u64> =
            self.model.lives_between(first, last).filter(|(_, life)| !life.ended).map(|(head, _)| head).collect();
        let mut handed = Vec::new();
        let evicted = ticket.evict(0, |folio| {
            let head = folio.offset().get();
            handed.push(head);
            self.model.life_mut(head).refs += 1;
            for leaf in 0..self.leaves.len() {
                let is_of_folio = self.leaves[leaf].head == head;
                if is_of_folio && self.life_of(leaf).is_some_and(|life| life.maps > 0) {
                    self.space.unmap(self.leaves[leaf].word).expect("it owns a reference");
                    self.model.life_mut(head).maps -= 1;
                    self.end(head);
                    self.stats.unmapped += 1;
                }
            }
            let life = *self.model.life_mut(head);
            assert_eq!((folio.refs(), folio.maps()), (life.refs, life.maps));
            drop(folio);
            self.end(head);
        });
        assert_eq!(handed, lives);
        let nr_empty = self.empty_blocks(first, last).len() as u64;
        assert_eq!((evicted.nr_evicted, evicted.nr_busy), (nr_empty, (last - first).div_ceil(BLOCK) - nr_empty));
        self.stats.moved += handed.iter().filter(|&&head| self.model.life(head).is_none()).count() as u64;
    }

    /// The blocks of `first..last` in which nothing is taken, from and to.
    fn empty_blocks(&self, first: u64, last: u64) -> Vec<(u64, u64)> {
        let blocks = (first..last).step_by(BLOCK as usize).map(|from| (from, (from + BLOCK).min(last)));
        blocks.filter(|&(from, to)| self.model.lives_between(from, to).next().is_none()).collect()
    }

    /// The committed ranges are the runs of empty blocks, and each page of them lives now.
    fn begin_evicted(&mut self, device: &Device<'s>, ranges: Vec<RangeHandle<'s>>, empty: Vec<(u64, u64)>) {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for (from, to) in empty {
            match runs.last_mut() {
                Some(run) if run.1 == from => run.1 = to,
                _ => runs.push((from, to)),
            }
        }
        let got = ranges.iter().map(|range| (range.offset().get(), range.offset().get() + range.nr_pages()));
        assert_eq!(got.collect::<Vec<_>>(), runs);
        for range in ranges {
            let folios: Vec<(u64, Order)> =
                range.folios().map(|folio| (folio.folio_offset().get(), folio.order())).collect();
            self.begin_folios(device, &folios, range);
        }
    }
}
