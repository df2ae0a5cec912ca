//! Edge [lock]: `Page::unlock` -> `Page::try_lock`, `try_lock_or_await`, `try_await`: what was done under the lock. And no
//! wake-up is lost: a model in which somebody sleeps for ever is a deadlock, which loom reports.
//!
//! Shape: two or three who lock and unlock; one who waits without a reference, while another unlocks, puts, and begins the
//! next life at the same place, locked again; a life that ends locked (a guard was forgotten), by each way there is; waiters of
//! two folios in one queue.
//! Cost: 11 to 70,294 executions unbounded (8 s in all), 117 to 525 at bound 2.
//! Teeth: fails without the Release of `unlock` or either Acquire, without a wake-up, its mutex, or with one for one waiter
//! only, when a mark is set without looking at the lock, when a life that ends wakes nobody, and when a folio that is being
//! freed is waited for.

use farpage::model::{Folio, Waits};
use farpage_loom_tests::{Witness, bounded, unbounded};
use loom::{sync::Arc, thread};

/// What the threads of a model share. The table lives in a box that outlives the folios.
struct Shared {
    folios: Vec<Folio<'static>>,
    witness: Witness,
    waits: *mut Waits,
}

// SAFETY: The pointer is only for `drop`, which has the only `Shared`.
unsafe impl Send for Shared {}
// SAFETY: As above.
unsafe impl Sync for Shared {}

impl Shared {
    /// Folios of so many references each, all in one queue.
    fn new<const N: usize>(refs: [u32; N]) -> Arc<Shared> {
        let waits = Box::into_raw(Box::new(Waits::new()));
        // SAFETY: Freed in `drop`, behind the folios.
        let table: &'static Waits = unsafe { &*waits };
        let folios = refs.into_iter().map(|refs| table.folio(0, refs)).collect();
        Arc::new(Shared { folios, witness: Witness::new(0), waits })
    }

    fn folio(&self) -> &Folio<'static> {
        &self.folios[0]
    }

    /// Locks, works and unlocks.
    fn work(&self) {
        self.folio().lock();
        self.witness.write(self.witness.read() + 1);
        self.folio().unlock();
    }

    fn assert_quiet(&self) {
        let life = self.folio().state();
        assert!(!life.locked && !life.waiters, "{life:?}");
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.folios.clear();
        // SAFETY: From a box; the folios that borrowed it are gone.
        drop(unsafe { Box::from_raw(self.waits) });
    }
}

fn spawn(shared: &Arc<Shared>, work: impl FnOnce(&Shared) + 'static) -> thread::JoinHandle<()> {
    let shared = shared.clone();
    thread::spawn(move || work(&shared))
}

#[test]
fn the_lock_goes_from_hand_to_hand() {
    unbounded("lock: two", || {
        let shared = Shared::new([2]);
        let other = spawn(&shared, Shared::work);
        shared.work();
        other.join().unwrap();
        assert_eq!(shared.witness.read(), 2);
        shared.assert_quiet();
    });
}

#[test]
fn of_three_each_gets_the_lock() {
    bounded("lock: three", || {
        let shared = Shared::new([3]);
        let others = [spawn(&shared, Shared::work), spawn(&shared, Shared::work)];
        shared.work();
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(shared.witness.read(), 3);
        shared.assert_quiet();
    });
}

/// Somebody who never sleeps comes in between.
#[test]
fn who_only_tries_keeps_nobody_asleep() {
    bounded("lock: and a try", || {
        let shared = Shared::new([3]);
        let sleeper = spawn(&shared, Shared::work);
        let other = spawn(&shared, |shared| {
            if shared.folio().try_lock() {
                shared.witness.write(shared.witness.read() + 1);
                shared.folio().unlock();
            }
        });
        shared.work();
        sleeper.join().unwrap();
        other.join().unwrap();
        assert!(shared.witness.read() >= 2);
        shared.assert_quiet();
    });
}

#[test]
fn a_wait_without_a_reference_has_the_holders_work_behind_it() {
    unbounded("lock: wait", || {
        let shared = Shared::new([1]);
        let life = shared.folio().state().generation;
        assert!(shared.folio().try_lock());
        let waiter = spawn(&shared, move |shared| {
            assert!(shared.folio().wait_unlocked(life));
            assert_eq!(shared.witness.read(), 1);
        });
        shared.witness.write(1);
        shared.folio().unlock();
        waiter.join().unwrap();
        shared.assert_quiet();
    });
}

/// The holder unlocks and puts, and the next life at the place is locked for good: the waiter is not its.
#[test]
fn a_wait_ends_with_its_life_and_not_with_the_next() {
    unbounded("lock: wait, reuse", || {
        let shared = Shared::new([1]);
        let life = shared.folio().state().generation;
        assert!(shared.folio().try_lock());
        let waiter = spawn(&shared, move |shared| assert!(shared.folio().wait_unlocked(life)));
        shared.folio().unlock();
        assert!(shared.folio().put());
        let next = shared.folio().init(0);
        assert!(!next.locked && !next.waiters && shared.folio().try_lock());
        waiter.join().unwrap();
    });
}

/// A waiter, and a life that ends locked.
fn forgotten(name: &str, refs: u32, end: impl Fn(&Arc<Shared>) + Send + Sync + 'static) {
    unbounded(name, move || {
        let shared = Shared::new([refs]);
        let life = shared.folio().state().generation;
        assert!(shared.folio().try_lock());
        let waiter = spawn(&shared, move |shared| assert!(shared.folio().wait_unlocked(life)));
        end(&shared);
        assert!(shared.folio().state().generation == life && !shared.folio().state().live);
        shared.folio().init(0);
        assert!(shared.folio().try_lock(), "the next life begins unlocked");
        waiter.join().unwrap();
    });
}

#[test]
fn a_last_put_wakes_who_waits() {
    forgotten("lock: forgotten, put", 1, |shared| assert!(shared.folio().put()));
}

#[test]
fn a_last_unmap_wakes_who_waits() {
    forgotten("lock: forgotten, unmap", 1, |shared| {
        let folio = shared.folio();
        folio.map();
        assert_eq!(folio.unmap_and_put(folio.state().generation), Ok(true));
    });
}

#[test]
fn a_division_wakes_who_waits() {
    forgotten("lock: forgotten, divided", 1, |shared| {
        assert!(shared.folio().freeze_sole());
        shared.folio().retire_frozen();
    });
}

#[test]
fn the_last_of_two_puts_wakes_who_waits() {
    bounded("lock: forgotten, two puts", || {
        let shared = Shared::new([2]);
        let life = shared.folio().state().generation;
        assert!(shared.folio().try_lock());
        let waiter = spawn(&shared, move |shared| assert!(shared.folio().wait_unlocked(life)));
        let other = spawn(&shared, |shared| _ = shared.folio().put());
        shared.folio().put();
        other.join().unwrap();
        waiter.join().unwrap();
        assert!(!shared.folio().state().live);
    });
}

/// Two folios share a queue: who is woken for the one is not who waits for the other.
#[test]
fn waiters_of_two_folios_are_woken_each_for_its_own() {
    bounded("lock: two folios", || {
        let shared = Shared::new([1, 1]);
        let lives = [0, 1].map(|at| shared.folios[at].state().generation);
        shared.folios.iter().for_each(|folio| assert!(folio.try_lock()));
        let waiters =
            [0, 1].map(|at| spawn(&shared, move |shared| assert!(shared.folios[at].wait_unlocked(lives[at]))));
        shared.folios[1].unlock();
        shared.folios[0].unlock();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    });
}
