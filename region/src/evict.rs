//! Runs go away: their bytes to the device, leaves in their slots, their memory back to the system.
//! Who goes first is the `clock`'s choice; when, that of `fault`.
//! Below: `pager`'s parts. Above: `fault`.
#![forbid(unsafe_code)]

use farpage::{Access, Folio, SoftLeaf};

use crate::budget::Seat;
use crate::device_memory::DevicePage;
use crate::error::{OsError, RegionError};
use crate::pager::Pager;
use crate::span::Span;
use crate::stats::Counters;
use crate::table::LockedRun;

impl<'s> Pager<'s> {
    /// Evicts a resident run and a few old ones right behind it, and gives the first one's seat;
    /// those of the others are free again. Waits for no lock.
    ///
    /// The victims' locks are held throughout. Whoever touches a victim meanwhile raises a fault
    /// whose handler waits for the lock, and then finds the leaf. On error nothing has changed:
    /// the victims are resident and writable.
    pub(crate) fn evict(&self, victim: LockedRun<'_>, counters: &mut Counters) -> Result<Seat<'_>, RegionError> {
        let mut victims = vec![victim];
        self.clock.extend(&self.table, &mut victims, self.batch_runs);
        let folios = self.room_for(victims.len())?;
        victims.truncate(folios.len());
        let Some(span) = victims.iter().map(|victim| self.mapping.span(victim.run())).reduce(Span::join) else {
            unreachable!("the first victim has room");
        };

        // Readers may go on, writers wait: what is copied is the last word.
        let protected = self.mapping.uffd().map_or(Ok(()), |uffd| uffd.write_protect(span));
        if let Err(error) = protected.and_then(|()| self.send_away(&mut victims, folios)) {
            if let Some(uffd) = self.mapping.uffd() {
                let undone = uffd.write_unprotect(span);
                undone.unwrap_or_else(|error| panic!("cannot let writers go on: {error}"));
            }
            return Err(error.into());
        }
        // Nobody is woken here: each thread that met the protection has an event of its own, and
        // the handler that serves it brings the run home once we let go of the lock.
        counters.evictions += victims.len() as u64;
        counters.pages_to_device += victims.len() as u64 * self.table.run_pages();
        for _ in 1..victims.len() {
            drop(self.budget.inherit());
        }
        Ok(self.budget.inherit())
    }

    /// Folios for up to `count` runs; an error if there is none for even one.
    fn room_for(&self, count: usize) -> Result<Vec<Folio<'s>>, RegionError> {
        let mut folios = Vec::with_capacity(count);
        while folios.len() < count {
            match self.device.alloc(self.order) {
                Ok(folio) => folios.push(folio),
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

    /// Copies, publishes, drops: in this order, so the bytes are never out of the table's reach.
    fn send_away(&self, victims: &mut [LockedRun<'_>], folios: Vec<Folio<'s>>) -> Result<(), OsError> {
        let first = self.device.range().start();
        let mut saved = None;
        for (victim, folio) in victims.iter().zip(&folios) {
            let page = DevicePage::of(folio.offset(), first);
            let run = self.memory.save(self.mapping.span(victim.run()), page)?;
            saved = Some(match saved {
                None => run,
                Some(before) => run.after(before),
            });
        }
        let Some(saved) = saved else { return Ok(()) };

        let resident: Vec<SoftLeaf> = victims.iter().map(LockedRun::leaf).collect();
        for (victim, folio) in victims.iter_mut().zip(folios) {
            victim.set_leaf(folio.into_leaf(Access::Write));
        }
        self.mapping.discard(saved).inspect_err(|_| {
            // The memory stayed, so the runs are resident as before, and the folios go again.
            for (victim, resident) in victims.iter_mut().zip(resident) {
                let away = victim.leaf();
                victim.set_leaf(resident);
                drop(self.space.take(away));
            }
        })
    }
}
