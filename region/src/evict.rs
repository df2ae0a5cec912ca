//! Runs go away: their bytes to the device, leaves in their slots, their memory back to the system.
//! Who goes first is the `clock`'s choice; when, that of `fault`.
//! Below: `pager`'s parts. Above: `fault`.
#![forbid(unsafe_code)]

use farpage::{AllocError, Folio, MigrateBatch, MigrateRequest};

use crate::budget::Seat;
use crate::device_memory::{DevicePage, Saved};
use crate::error::RegionError;
use crate::pager::Pager;
use crate::runs::{LockedRun, Mark};
use crate::span::Span;
use crate::stats::Counters;

impl<'s> Pager<'s> {
    /// Evicts a resident run and a few old ones right behind it, and gives the first one's seat;
    /// those of the others are free again. Waits for no lock.
    ///
    /// The victims' locks are held throughout. Whoever touches a victim meanwhile raises a fault
    /// whose handler waits for the lock, and then finds the run away. On error nothing has changed:
    /// the victims are resident and writable.
    pub(crate) fn evict(&self, victim: LockedRun<'_>, counters: &mut Counters) -> Result<Seat<'_>, RegionError> {
        let mut victims = vec![victim];
        self.clock.extend(&self.runs, &mut victims, self.batch_runs);
        let folios = self.room_for(victims.len())?;
        victims.truncate(folios.len() / self.leaves_a_run());
        let Some(span) = victims.iter().map(|victim| self.mapping.span(victim.run())).reduce(Span::join) else {
            unreachable!("the first victim has room");
        };

        // Readers may go on, writers wait: what is copied is the last word.
        let protected = self.mapping.uffd().map_or(Ok(()), |uffd| uffd.write_protect(span));
        if let Err(error) = protected.map_err(RegionError::from).and_then(|()| self.send_away(&mut victims, folios)) {
            if let Some(uffd) = self.mapping.uffd() {
                let undone = uffd.write_unprotect(span);
                undone.unwrap_or_else(|error| panic!("cannot let writers go on: {error}"));
            }
            return Err(error);
        }
        // Nobody is woken here: each thread that met the protection has an event of its own, and
        // the handler that serves it brings the run home once we let go of the lock.
        counters.evictions += victims.len() as u64;
        counters.pages_to_device += victims.len() as u64 * self.runs.run_pages();
        for _ in 1..victims.len() {
            drop(self.budget.inherit());
        }
        Ok(self.budget.inherit())
    }

    /// Folios, and leaves, of one run.
    fn leaves_a_run(&self) -> usize {
        (self.runs.run_pages() / self.leaf_order.nr_pages()) as usize
    }

    /// Folios for up to `count` runs, whole ones; an error if there are none for even one.
    fn room_for(&self, count: usize) -> Result<Vec<Folio<'s>>, RegionError> {
        let mut folios = Vec::with_capacity(count * self.leaves_a_run());
        for _ in 0..count {
            match self.room_for_one(&mut folios) {
                Ok(()) => {}
                Err(error) if folios.is_empty() => {
                    return Err(RegionError::Device {
                        error,
                        device_pages: self.device.range().nr_pages(),
                        live_pages: self.device.nr_live_pages(),
                    });
                }
                Err(_) => break,
            }
        }
        Ok(folios)
    }

    /// Folios for one run: adjacent ones, so that its bytes travel in one piece, while the device has them.
    fn room_for_one(&self, folios: &mut Vec<Folio<'s>>) -> Result<(), AllocError> {
        if self.leaf_order < self.runs.order() {
            let whole = self.device.alloc(self.runs.order());
            if let Ok(Ok(parts)) = whole.map(|whole| whole.split(self.leaf_order)) {
                folios.extend(parts);
                return Ok(());
            }
        }
        self.device.alloc_many(self.leaf_order, self.leaves_a_run(), folios)
    }

    /// Copies, migrates, drops: in this order, so the bytes are never out of the table's reach.
    fn send_away(&self, victims: &mut [LockedRun<'_>], folios: Vec<Folio<'s>>) -> Result<(), RegionError> {
        let Some(first) = victims.first().map(LockedRun::run) else { return Ok(()) };
        let saved = self.save(first.index() * self.runs.run_pages() as usize, &folios)?;

        let range = self.range(first, victims.len());
        let mut batch = MigrateBatch::new();
        let request = MigrateRequest::new(range).system(true).compound(true).owner(self.device.owner());
        let migration = self.leaves.migrate(&mut batch, request);
        let mut migration = migration.unwrap_or_else(|error| panic!("the region is mapped: {error}"));
        for (leaf, folio) in folios.into_iter().enumerate() {
            // A slot that refuses is one that does not move.
            let _ = migration.set_dst(leaf * self.leaf_order.nr_pages() as usize, folio);
        }
        let moved = migration.pages();
        migration.finalize();
        if moved < range.nr_pages() {
            self.take_back(victims);
            return Err(RegionError::NotMoved { nr_pages: range.nr_pages() - moved });
        }
        if let Err(error) = self.mapping.discard(saved) {
            self.restore(victims)?;
            self.take_back(victims);
            return Err(error.into());
        }
        for victim in victims {
            victim.mark(Mark::Away);
        }
        Ok(())
    }

    /// Copies the bytes of the region, from `page` on, to the pages of the folios: to adjacent ones at once.
    fn save(&self, page: usize, folios: &[Folio<'s>]) -> Result<Saved<'_>, RegionError> {
        let (first, pages) = (self.device.range().start(), self.leaf_order.nr_pages() as usize);
        let at = |leaf: usize| DevicePage::of(folios[leaf].offset(), first);
        let (mut saved, mut begin) = (None, 0);
        for end in 1..=folios.len() {
            if end < folios.len() && at(end) == at(begin).plus((end - begin) * pages) {
                continue;
            }
            let piece = self.mapping.pages(page + begin * pages, (end - begin) * pages);
            let piece = self.memory.save(piece, at(begin))?;
            saved = Some(match saved {
                None => piece,
                Some(before) => piece.after(before),
            });
            begin = end;
        }
        Ok(saved.unwrap_or_else(|| panic!("no folio to save page {page} in")))
    }

    /// Puts back what has gone already of victims whose memory was not all to be had, as where some of it is locked into RAM.
    fn restore(&self, victims: &[LockedRun<'_>]) -> Result<(), RegionError> {
        let Some(first) = victims.first().map(LockedRun::run) else { return Ok(()) };
        for (address, page) in self.leaves_of(first, victims.len()) {
            let (leaf, _) = self.leaves.leaf(address);
            let offset = leaf.offset().unwrap_or_else(|| panic!("{leaf:?} behind a migration to the device"));
            let begin = DevicePage::of(offset, self.device.range().start());
            for nr in 0..self.leaf_order.nr_pages() as usize {
                match self.driver.bring_piece(page + nr, begin.plus(nr), 1) {
                    // It is there still.
                    Err(error) if error.errno() == libc::EEXIST => {}
                    done => done?,
                }
            }
        }
        Ok(())
    }

    /// The leaves of victims whose memory is still there name it again; what they had of the device goes.
    fn take_back(&self, victims: &[LockedRun<'_>]) {
        let Some(first) = victims.first().map(LockedRun::run) else { return };
        let range = self.range(first, victims.len());
        let mut batch = MigrateBatch::new();
        let request = MigrateRequest::new(range).compound(true).device_private(self.device.owner());
        let migration = self.leaves.migrate(&mut batch, request);
        let mut migration = migration.unwrap_or_else(|error| panic!("the region is mapped: {error}"));
        let given = self.driver.give_frames(&mut migration);
        migration.pages();
        migration.finalize();
        // Else a leaf would say that the device has bytes which are going to change here.
        let left =
            self.leaves_of(first, victims.len()).find(|(address, _)| self.leaves.leaf(*address).0.pfn().is_none());
        assert!(left.is_none(), "cannot take page {left:?} back from the device: {given:?}");
    }
}
