//! [`Live`]: how many pages of a device are in use, and whether new ones are let in.
//!
//! Each seat counts for itself, in plain stores; a seat's count alone may be negative, as pages leave by another seat than
//! they came in by. Killing closes the device's two [`Door`]s, and from then on the sum only falls. Pages come in by a door
//! that is the device's own, which stays closed for whoever has a handle when the device has gone. They leave by one that
//! is the slot's in the table of devices, and stays there: whoever lets the last page go looks at it afterwards.
//! Linux: `percpu_ref`.
//!
//! Below: `seat`. Above: `device`. Edges: [drain].
#![forbid(unsafe_code)]

use core::time::Duration;
use std::time::Instant;

use crate::seat::{Seat, Seats};
use crate::sync::{AtomicU64, Condvar, Mutex, Ordering::Relaxed, heavy_barrier, light_barrier, wait_for};

/// Whether pages are let into a device. Read by every allocation and free, written when a device ends.
pub(crate) struct Door(AtomicU64);

const OPEN: u64 = 0;
const CLOSED: u64 = 1;

/// What those wait at who drain a device of the space.
pub(crate) struct Bell {
    /// Held by whoever decides that a device is empty, and by whoever may have made it so: the last one to leave is seen.
    gate: Mutex<()>,
    rung: Condvar,
}

/// | doors  | enter      | exit                          |
/// |--------|------------|-------------------------------|
/// | open   | counts     | counts                        |
/// | closed | is refused | counts, and wakes who drains  |
#[derive(Clone, Copy)]
pub(crate) struct Live<'a> {
    pub(crate) entrance: &'a Door,
    pub(crate) exit: &'a Door,
    pub(crate) seats: &'a Seats,
    pub(crate) bell: &'a Bell,
}

/// The door is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed;

impl Door {
    #[allow(dead_code, reason = "see `Zeroed::absent`")]
    pub(crate) fn open() -> Door {
        Door(AtomicU64::new(OPEN))
    }

    /// Lets `nr_pages` in, unless the door is closed.
    #[inline]
    pub(crate) fn enter(&self, bell: &Bell, seat: &Seat, nr_pages: u64) -> Result<(), Closed> {
        // Relaxed: whoever is plainly late is not even counted for a moment.
        if self.0.load(Relaxed) != OPEN {
            return Err(Closed);
        }
        seat.count(nr_pages as i64);
        // A `close` whose heavy barrier comes after this one counts us; of one whose barrier came before, we see the door
        // closed.
        light_barrier();
        if self.0.load(Relaxed) == OPEN {
            return Ok(());
        }
        self.exit(bell, seat, nr_pages);
        Err(Closed)
    }

    /// Lets `nr_pages` go. When they are the last, the device may be gone before this returns; of it, only the door and the
    /// bell are touched then.
    #[inline]
    pub(crate) fn exit(&self, bell: &Bell, seat: &Seat, nr_pages: u64) {
        seat.count(-(nr_pages as i64));
        // As in `enter`: who drains sees our count, or we see the door closed.
        light_barrier();
        if self.0.load(Relaxed) != OPEN {
            bell.ring();
        }
    }
}

impl Bell {
    pub(crate) fn new() -> Bell {
        Bell { gate: Mutex::new(()), rung: Condvar::new() }
    }

    #[cold]
    fn ring(&self) {
        // Under the lock: who waits has looked before, and waits by now, or will look after this.
        let gate = self.gate.lock();
        self.rung.notify_all();
        drop(gate);
    }
}

impl Live<'_> {
    /// Lets nobody in any more. When this returns, the sum only falls.
    pub(crate) fn close(self) {
        self.exit.0.store(CLOSED, Relaxed);
        self.entrance.0.store(CLOSED, Relaxed);
        heavy_barrier();
    }

    /// Lets pages in again, after a `close`.
    pub(crate) fn reopen(self) {
        self.exit.0.store(OPEN, Relaxed);
        self.entrance.0.store(OPEN, Relaxed);
    }

    /// How many pages are in. Exact when nobody enters or leaves; behind a closed door never lower than it is when this
    /// returns.
    pub(crate) fn pages(self) -> u64 {
        u64::try_from(self.seats.live_pages()).unwrap_or(0)
    }

    /// Whether a closed device is empty. Then all that its users did has happened before.
    pub(crate) fn is_drained(self) -> bool {
        let _gate = self.bell.gate.lock();
        self.seats.live_pages() == 0
    }

    /// Waits until a closed device is empty; `Err` is the number of pages that are still in after `limit`.
    pub(crate) fn drain(self, limit: Duration) -> Result<(), u64> {
        let start = Instant::now();
        let mut gate = self.bell.gate.lock();
        loop {
            if self.seats.live_pages() == 0 {
                return Ok(());
            }
            // An end too far away to be a time is none.
            let left = limit.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Err(self.pages());
            }
            (gate, _) = wait_for(&self.bell.rung, gate, left);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::seat::Seating;

    fn parts() -> (Door, Door, Seats, Bell) {
        crate::sync::prepare_barriers();
        (Door::open(), Door::open(), Seats::new(Seating { cores: 4, cached_pages: 0 }).unwrap(), Bell::new())
    }

    #[test]
    fn a_closed_door_lets_out_and_not_in() {
        let (door, exit, seats, bell) = parts();
        let live = Live { entrance: &door, exit: &exit, seats: &seats, bell: &bell };
        door.enter(&bell, seats.seat(0), 5).unwrap();
        door.enter(&bell, seats.seat(1), 2).unwrap();
        exit.exit(&bell, seats.seat(2), 5);
        assert_eq!(live.pages(), 2);
        live.close();
        assert_eq!(door.enter(&bell, seats.seat(3), 1), Err(Closed));
        assert_eq!(live.drain(Duration::from_millis(1)), Err(2));
        exit.exit(&bell, seats.of_this_thread(), 2);
        assert!(live.is_drained());
        assert_eq!(live.drain(Duration::ZERO), Ok(()));
        live.reopen();
        assert_eq!(door.enter(&bell, seats.seat(0), 1), Ok(()));
    }

    #[test]
    fn draining_ends_with_the_last_to_leave() {
        for round in 0..200 {
            let (door, exit, seats, bell) = parts();
            let live = Live { entrance: &door, exit: &exit, seats: &seats, bell: &bell };
            door.enter(&bell, seats.seat(0), 3).unwrap();
            std::thread::scope(|scope| {
                for number in 0..3 {
                    let (exit, seats, bell) = (&exit, &seats, &bell);
                    scope.spawn(move || exit.exit(bell, seats.seat(number), 1));
                }
                if round % 2 == 0 {
                    std::thread::yield_now();
                }
                live.close();
                assert_eq!(live.drain(Duration::from_secs(60)), Ok(()));
            });
        }
    }
}
