//! Edge [drain]: `Seat::count` of each user -> `Live::drain`: every use of the device, before it is taken away. And after
//! its last page has left, nobody touches a seat of it: only the doors and the bell stay.
//!
//! Shape: one or two come in, use it and leave, by one seat or another; one closes and drains, takes the device away and
//! frees the seats. Whoever comes in has a handle, which keeps the seats; whoever only leaves has none.
//! Cost: 128 to 4,026 executions unbounded; 71 to 1,332 at bound 2, up to 12,732 (1 s) at bound 3.
//! Teeth: fails with the Release of a count, or the Acquire of its reader, taken away; without either light barrier or the
//! heavy one; when only one door is closed, or who is refused stays counted; without the wake-up, and without the gate; and
//! when a seat is looked at after the count.

use farpage::model::Live;
use farpage_loom_tests::{Witness, bounded, bounded_less, unbounded};
use loom::{sync::Arc, thread};

struct Shared {
    live: Live,
    /// The device: read by who is in, taken away by who drained.
    device: Witness,
}

impl Shared {
    fn new() -> Arc<Shared> {
        Arc::new(Shared { live: Live::new(), device: Witness::new(1) })
    }

    fn use_and_exit(&self, seat: Option<usize>) {
        assert_eq!(self.device.read(), 1);
        self.live.exit(seat, 1);
    }

    fn enter_and_exit(&self, enter: Option<usize>, exit: Option<usize>) {
        if self.live.enter(enter, 1) {
            self.use_and_exit(exit);
        }
    }

    fn kill_and_drain(&self) {
        self.live.close();
        self.live.drain();
        self.device.write(0);
    }

    /// Nobody has a handle any more.
    fn free_seats(&self) {
        // SAFETY: The device is drained.
        unsafe { self.live.end_seats() };
    }
}

/// Either refused, or waited for.
fn enter_against_close(name: &str, seat: Option<usize>) {
    unbounded(name, move || {
        let shared = Shared::new();
        let other = shared.clone();
        let user = thread::spawn(move || other.enter_and_exit(seat, seat));
        shared.kill_and_drain();
        user.join().unwrap();
        shared.free_seats();
    });
}

#[test]
fn who_comes_in_while_it_closes_is_waited_for() {
    enter_against_close("drain: enter against close", Some(0));
}

#[test]
fn who_comes_in_by_the_shared_seat_is_waited_for() {
    enter_against_close("drain: enter against close, shared", None);
}

/// In by one seat and out by another, of which the drainer reads either first: the counts are seen at different moments.
fn in_by_one_and_out_by_another(name: &str, enter: usize, exit: usize) {
    bounded(name, move || {
        let shared = Shared::new();
        let other = shared.clone();
        let user = thread::spawn(move || other.enter_and_exit(Some(enter), Some(exit)));
        shared.kill_and_drain();
        user.join().unwrap();
        shared.free_seats();
    });
}

#[test]
fn who_leaves_by_an_earlier_seat_is_waited_for() {
    in_by_one_and_out_by_another("drain: in by 1, out by 0", 1, 0);
}

#[test]
fn who_leaves_by_a_later_seat_is_waited_for() {
    in_by_one_and_out_by_another("drain: in by 0, out by 1", 0, 1);
}

/// Two in, of which one passes the other's page out: no seat's count is its own.
#[test]
fn two_that_leave_by_each_others_seats_are_waited_for() {
    bounded_less(1, "drain: crossed seats", || {
        let shared = Shared::new();
        assert!(shared.live.enter(Some(0), 1));
        let users = [(0, 1), (1, 2)].map(|(exit, enter)| {
            let shared = shared.clone();
            thread::spawn(move || {
                if exit == 0 {
                    shared.use_and_exit(Some(exit));
                } else {
                    shared.enter_and_exit(Some(enter), Some(exit));
                }
            })
        });
        shared.kill_and_drain();
        users.into_iter().for_each(|user| user.join().unwrap());
        shared.free_seats();
    });
}

/// Nobody's wake-up is lost: loom calls that a deadlock. And nobody who leaves touches a seat of a device that is gone.
#[test]
fn the_last_of_two_wakes_who_waits() {
    bounded("drain: two leave", || {
        let shared = Shared::new();
        assert!(shared.live.enter(None, 2));
        let users = [0, 1].map(|seat| {
            let shared = shared.clone();
            thread::spawn(move || shared.use_and_exit(Some(seat)))
        });
        shared.kill_and_drain();
        shared.free_seats();
        users.into_iter().for_each(|user| user.join().unwrap());
    });
}

/// The same by the seat that threads share.
#[test]
fn the_last_of_two_that_share_a_seat_wakes_who_waits() {
    bounded("drain: two leave, shared", || {
        let shared = Shared::new();
        assert!(shared.live.enter(Some(0), 2));
        let users = [(); 2].map(|()| {
            let shared = shared.clone();
            thread::spawn(move || shared.use_and_exit(None))
        });
        shared.kill_and_drain();
        shared.free_seats();
        users.into_iter().for_each(|user| user.join().unwrap());
    });
}

/// What `Entry::retire` asks instead of waiting.
#[test]
fn who_finds_it_drained_is_alone() {
    unbounded("drain: is_drained", || {
        let shared = Shared::new();
        assert!(shared.live.enter(Some(0), 1));
        let other = shared.clone();
        let user = thread::spawn(move || other.use_and_exit(Some(1)));
        shared.live.close();
        let is_drained = shared.live.is_drained();
        if is_drained {
            shared.device.write(0);
            shared.free_seats();
        }
        user.join().unwrap();
        if !is_drained {
            assert!(shared.live.is_drained());
            shared.free_seats();
        }
    });
}

/// An unregistration that is refused opens the doors again: whoever came meanwhile is in, or was turned away and is not
/// counted; and nobody is lost to the next one.
#[test]
fn a_door_that_opens_again_has_lost_nobody() {
    bounded("drain: reopened", || {
        let shared = Shared::new();
        assert!(shared.live.enter(Some(0), 1));
        let other = shared.clone();
        let user = thread::spawn(move || other.enter_and_exit(Some(1), Some(1)));
        shared.live.close();
        assert!(!shared.live.is_drained(), "one is in");
        shared.live.reopen();
        shared.live.exit(Some(2), 1);
        shared.kill_and_drain();
        user.join().unwrap();
        shared.free_seats();
    });
}
