//! A run comes home: the one way for a fault the CPU raised and for one the accessor noticed.
//! Who goes to make room is in `evict`. Who reads the events is in `handlers`.
//! Below: `pager`'s parts, `evict`. Above: `handlers`, `region`.
//!
//! Lock order: a fault waits for its own run's lock while it holds no other. While it
//! holds that one it takes others (its victims') only if they are free. So no cycle of waiting can
//! form, and a fault that finds its run being evicted simply waits until that is over.
#![forbid(unsafe_code)]

use std::thread;
use std::time::Instant;

use farpage::{Access, LeafKind};

use crate::budget::Seat;
use crate::error::RegionError;
use crate::pager::{Pager, Paging};
use crate::runs::{LockedRun, Mark, Run};
use crate::stats::Counters;

impl Pager<'_> {
    /// Serves one fault event: whatever it was about, its run is resident and writable when the
    /// threads that wait for it go on.
    ///
    /// Events come late and more than once: two threads miss the same page, a writer meets an
    /// eviction, a page is evicted between a fault and its turn here. None of that is told apart.
    /// The run says what is true now, and a thread woken for nothing faults again.
    pub(crate) fn serve(&self, address: u64) {
        let begun = Instant::now();
        let mut counters = Counters::default();
        let run = self.mapping.run_at(address);
        let run = run.unwrap_or_else(|| panic!("a fault at {address:#x}, outside the region"));
        let mut locked = match self.make_resident(run, &mut counters) {
            Ok(locked) => locked,
            // There is no page to give and no way to tell the thread: as when a swap-in fails.
            Err(error) => panic!("cannot bring a page home: {error}"),
        };
        if counters.faults == 0 {
            // Still under the lock, so the run is not being evicted: no page of it is missing,
            // and none is write-protected. Whoever made it so woke the range too; once more does
            // no harm, and then no thread's progress hangs on the order of two wake-ups.
            let uffd = self.mapping.uffd().expect("events come from userfaultfd");
            let woken = uffd.wake(self.mapping.span(run));
            woken.unwrap_or_else(|error| panic!("cannot wake a thread that faulted: {error}"));
            locked.mark_young();
            drop(locked);
            counters.spurious_faults = 1;
            self.tallies.add(counters, None);
        } else {
            drop(locked);
            self.tallies.add(counters, Some(begun.elapsed()));
        }
    }

    /// [`Paging::touch`].
    pub(crate) fn touch_resident(&self, run: Run) -> Result<LockedRun<'_>, RegionError> {
        let begun = Instant::now();
        let mut counters = Counters::default();
        let mut locked = self.make_resident(run, &mut counters)?;
        if counters != Counters::default() {
            // Without a fault there was only waiting, for a run that came home by another thread.
            let latency = (counters.faults > 0).then(|| begun.elapsed());
            self.tallies.add(counters, latency);
        }
        locked.mark_young();
        Ok(locked)
    }

    /// Locks the run and brings it home if it is away.
    fn make_resident(&self, run: Run, counters: &mut Counters) -> Result<LockedRun<'_>, RegionError> {
        let mut seat = None;
        loop {
            let locked = self.runs.lock(run);
            if locked.is_resident() {
                // Somebody else was faster. A seat that we waited for goes back by its drop.
                return Ok(locked);
            }
            if seat.is_none() {
                seat = self.try_seat(counters)?;
            }
            if let Some(seat) = seat {
                return self.install(locked, seat, counters);
            }
            // Every possible victim is locked. Wait for one, but holding nothing: its holder may
            // itself be about to want our run.
            drop(locked);
            seat = Some(self.wait_seat(counters)?);
        }
    }

    /// Makes the run's leaves present, and its pages with them, from wherever the bytes are.
    fn install<'p>(
        &'p self,
        mut locked: LockedRun<'p>,
        seat: Seat<'_>,
        counters: &mut Counters,
    ) -> Result<LockedRun<'p>, RegionError> {
        let (run, run_pages) = (locked.run(), self.runs.run_pages());
        let (mut fresh, mut away) = (false, false);
        for (address, page) in self.leaves_of(run, 1) {
            match self.leaves.leaf(address).0.kind() {
                LeafKind::None => {
                    self.leaves.fault(address, Access::Write)?;
                    let (leaf, _) = self.leaves.leaf(address);
                    let pfn = leaf.pfn().unwrap_or_else(|| panic!("{leaf:?} behind a fault of the region"));
                    self.frames.place(pfn, page, self.leaf_order.nr_pages() as usize);
                    fresh = true;
                }
                // The driver brings all of the run home, and the bytes into place.
                LeafKind::DevicePrivate(_) => {
                    self.leaves.fault(address, Access::Write)?;
                    away = true;
                }
                // It came with the one before.
                LeafKind::Present(_) => {}
                kind => panic!("{kind:?} in the page table: only the region writes it"),
            }
        }
        if fresh {
            // Without real faults there is nothing to do: the kernel's own zeros are still to
            // come. With them, a copy of zeros and not UFFDIO_ZEROPAGE: that maps the shared
            // zero page, which is no page of ours and costs another fault at the first write.
            if let Some(uffd) = self.mapping.uffd() {
                uffd.copy(self.mapping.span(run), self.mapping.zeros())?;
            }
            counters.zero_filled_pages += run_pages;
        }
        if away {
            counters.lookups += 1;
            counters.pages_home += run_pages;
        }
        seat.occupy();
        locked.mark(Mark::Young);
        counters.faults += 1;
        Ok(locked)
    }

    /// A seat without waiting, by evicting if need be; `None` if every victim is locked.
    fn try_seat(&self, counters: &mut Counters) -> Result<Option<Seat<'_>>, RegionError> {
        if let Some(seat) = self.budget.try_seat() {
            return Ok(Some(seat));
        }
        if self.failure().is_none() {
            let Some(victim) = self.clock.try_pick(&self.runs) else {
                return Ok(None);
            };
            match self.evict(victim, counters) {
                Ok(seat) => return Ok(Some(seat)),
                Err(error) => self.fail(error),
            }
        }
        self.seat_after_failure().map(Some)
    }

    /// A seat, waiting as long as it takes; the caller holds no lock.
    ///
    /// It ends: a run that is locked belongs to somebody who waits for nobody, so its lock comes
    /// free; and while none is resident, the threads that hold the seats are about to install.
    fn wait_seat(&self, counters: &mut Counters) -> Result<Seat<'_>, RegionError> {
        loop {
            if let Some(seat) = self.try_seat(counters)? {
                return Ok(seat);
            }
            let Some(victim) = self.clock.wait_pick(&self.runs) else {
                thread::yield_now();
                continue;
            };
            match self.evict(victim, counters) {
                Ok(seat) => return Ok(seat),
                Err(error) => self.fail(error),
            }
        }
    }

    /// What a region that can no longer evict does with a fault.
    ///
    /// A thread that faulted cannot be handed an error, and memory must not change under it; so it
    /// gets its bytes, over the budget, and the region's end reports the failure. The accessor
    /// can be handed one.
    fn seat_after_failure(&self) -> Result<Seat<'_>, RegionError> {
        match (self.mapping.uffd(), self.failure()) {
            (None, Some(error)) => Err(error),
            _ => Ok(self.budget.overdraw()),
        }
    }
}
