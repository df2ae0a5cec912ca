//! Edge [drain]: `Live::exit` of each user -> `Live::drain`: every use of the device, before it is taken away.
//!
//! Shape: one or two come in, use it and leave, by one copy of the count or another; one closes and drains.
//! Cost: 101 executions unbounded; 28 to 1,855 at bound 2, up to 14,012 at bound 3.
//! Teeth: fails with the Release of `exit` or `close` or the Acquire of `is_closed` taken away, with the Acquire of both
//! `close` and `sum` (either alone is enough where who drains has closed), without the wake-up, and without the gate. The
//! Release of `exit_closed` has none: the gate's lock gives the same.

use farpage::model::Live;
use farpage_loom_tests::{Witness, bounded, unbounded};
use loom::{sync::Arc, thread};

struct Shared {
    live: Live,
    /// The device: read by who is in, taken away by who drained.
    device: Witness,
}

impl Shared {
    fn new(nr_copies: usize) -> Arc<Shared> {
        Arc::new(Shared { live: Live::new(nr_copies), device: Witness::new(1) })
    }

    fn use_and_exit(&self, slot: usize) {
        assert_eq!(self.device.read(), 1);
        self.live.exit_at(slot, 1);
    }

    fn kill_and_drain(&self) {
        self.live.close();
        self.live.drain();
        self.device.write(0);
    }
}

/// Either refused, or waited for.
#[test]
fn who_comes_in_while_it_closes_is_waited_for() {
    unbounded("drain: enter against close", || {
        let shared = Shared::new(1);
        let other = shared.clone();
        let user = thread::spawn(move || {
            if other.live.enter_at(0, 1) {
                other.use_and_exit(0);
            }
        });
        shared.kill_and_drain();
        user.join().unwrap();
        assert!(!shared.live.enter_at(0, 1));
    });
}

/// In by one copy of the count and out by another, which closes before or after.
#[test]
fn who_leaves_by_another_copy_is_waited_for() {
    bounded("drain: two copies", || {
        let shared = Shared::new(2);
        let other = shared.clone();
        let user = thread::spawn(move || {
            if other.live.enter_at(1, 1) {
                other.use_and_exit(0);
            }
        });
        shared.kill_and_drain();
        user.join().unwrap();
    });
}

/// Nobody's wake-up is lost: loom calls that a deadlock.
#[test]
fn the_last_of_two_wakes_who_waits() {
    bounded("drain: two leave", || {
        let shared = Shared::new(2);
        assert!(shared.live.enter_at(0, 2));
        let users = [0, 1].map(|slot| {
            let shared = shared.clone();
            thread::spawn(move || shared.use_and_exit(slot))
        });
        shared.kill_and_drain();
        users.into_iter().for_each(|user| user.join().unwrap());
    });
}

/// One thread kills, another sees that and drains.
#[test]
fn who_sees_it_closed_may_drain_it() {
    bounded("drain: another kills", || {
        let shared = Shared::new(2);
        let user = shared.clone();
        let user = thread::spawn(move || {
            if user.live.enter_at(0, 1) {
                user.use_and_exit(1);
            }
        });
        let killer = shared.clone();
        let killer = thread::spawn(move || killer.live.close());
        if shared.live.is_closed() {
            shared.live.drain();
            shared.device.write(0);
        }
        user.join().unwrap();
        assert!(killer.join().unwrap());
    });
}

/// What `Entry::retire` asks instead of waiting.
#[test]
fn who_finds_it_drained_is_alone() {
    bounded("drain: is_drained", || {
        let shared = Shared::new(2);
        assert!(shared.live.enter_at(0, 1));
        let other = shared.clone();
        let user = thread::spawn(move || other.use_and_exit(1));
        shared.live.close();
        if shared.live.is_drained() {
            shared.device.write(0);
        }
        user.join().unwrap();
        assert!(shared.live.is_drained());
    });
}
