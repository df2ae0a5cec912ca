//! Edges [lock], [map] and [last-put], where several changes are one operation: `Page::lock_from_leaf`, `try_lock_sole`,
//! `unlock_into_leaf` and `let_go`, by which a migration moves a page that one leaf has and nobody else.
//!
//! Whoever takes a page from its leaf has what was done before the leaf was made, by whatever way it learnt of the leaf; of two
//! one takes it; who puts a reference meanwhile is ordered before who frees the page; and who waits for the lock is woken.
//!
//! Shape: one makes a leaf or lets the page go, the other takes it, has a reference, or waits.
//! Cost: printed by each. Teeth: fails with the Release of `unlock_into_leaf`, the Acquire of `lock_from_leaf` or of
//! `try_lock_sole`, either of `let_go` taken away, and when `let_go` passes by who waits.

use farpage::model::{Folio, Waits};
use farpage_loom_tests::{Witness, unbounded};
use loom::sync::atomic::{AtomicU64, Ordering::Relaxed};
use loom::{sync::Arc, thread};

/// A page, what is done to it, and a table of one relaxed word. The waits live in a box that outlives the page.
struct Shared {
    page: Option<Folio<'static>>,
    life: u64,
    /// What is done under the lock.
    witness: Witness,
    /// What is read with a reference, and written when the page has ended.
    bytes: Witness,
    leaf: AtomicU64,
    waits: *mut Waits,
}

// SAFETY: The pointer is only for `drop`, which has the only `Shared`.
unsafe impl Send for Shared {}
// SAFETY: As above.
unsafe impl Sync for Shared {}

impl Shared {
    fn new(refs: u32) -> Arc<Shared> {
        let waits = Box::into_raw(Box::new(Waits::new()));
        // SAFETY: Freed in `drop`, behind the page.
        let table: &'static Waits = unsafe { &*waits };
        let page = table.folio(0, refs);
        let life = page.state().generation;
        Arc::new(Shared {
            page: Some(page),
            life,
            witness: Witness::new(0),
            bytes: Witness::new(0),
            leaf: AtomicU64::new(0),
            waits,
        })
    }

    /// A page that one leaf has.
    fn mapped() -> Arc<Shared> {
        let shared = Shared::new(1);
        shared.page().map();
        shared
    }

    fn page(&self) -> &Folio<'static> {
        self.page.as_ref().expect("until it is dropped")
    }

    /// Takes the page from its leaf, uses it, and lets it go; whether it was taken, and whether it ended.
    fn migrate(&self) -> (bool, bool) {
        if !self.page().lock_from_leaf(self.life) {
            return (false, false);
        }
        self.witness.write(self.witness.read() + 1);
        self.bytes.read();
        let ended = self.page().let_go(self.life);
        if ended {
            self.bytes.write(1);
        }
        (true, ended)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.page = None;
        // SAFETY: From a box; the page that borrowed it is gone.
        drop(unsafe { Box::from_raw(self.waits) });
    }
}

fn spawn<T: 'static>(shared: &Arc<Shared>, work: impl FnOnce(&Shared) -> T + 'static) -> thread::JoinHandle<T> {
    let shared = shared.clone();
    thread::spawn(move || work(&shared))
}

#[test]
fn a_page_brings_what_was_done_before_its_leaf() {
    unbounded("sole: leaf", || {
        let shared = Shared::new(1);
        let maker = spawn(&shared, |shared| {
            assert!(shared.page().try_lock_sole());
            shared.witness.write(1);
            shared.page().unlock_into_leaf();
            shared.leaf.store(shared.life, Relaxed);
        });
        let (taken, ended) = if shared.leaf.load(Relaxed) == 0 { (false, false) } else { shared.migrate() };
        assert_eq!(taken, ended, "nobody else has it");
        maker.join().unwrap();
        assert_eq!(shared.witness.read(), if ended { 2 } else { 1 });
    });
}

#[test]
fn of_two_one_takes_it() {
    unbounded("sole: two", || {
        let shared = Shared::mapped();
        let other = spawn(&shared, Shared::migrate);
        let here = shared.migrate();
        let there = other.join().unwrap();
        assert_eq!((here.0 != there.0, here.1 != there.1), (true, true));
        assert!(!shared.page().state().live);
    });
}

/// Somebody has a reference for a while: the page is refused, or ends with the last of both, who has what the other did.
#[test]
fn whoever_ends_it_has_what_the_others_did() {
    unbounded("sole: get", || {
        let shared = Shared::mapped();
        let other = spawn(&shared, |shared| {
            if shared.page().try_get(shared.life).is_none() {
                return false;
            }
            shared.bytes.read();
            let ended = shared.page().put();
            if ended {
                shared.bytes.write(2);
            }
            ended
        });
        let (taken, ended) = shared.migrate();
        let other_ended = other.join().unwrap();
        assert!(!(ended && other_ended));
        assert_eq!(taken, ended || other_ended, "a page that was taken ends, and any other stays");
        assert_eq!(shared.page().state().live, !taken);
    });
}

/// One puts what it has used; the other has the page alone then, or is refused.
#[test]
fn a_sole_handle_has_what_was_put_before() {
    unbounded("sole: put", || {
        let shared = Shared::new(2);
        let other = spawn(&shared, |shared| {
            shared.witness.write(1);
            assert!(!shared.page().put());
        });
        if shared.page().try_lock_sole() {
            assert_eq!(shared.witness.read(), 1);
            shared.page().unlock();
        }
        other.join().unwrap();
    });
}

/// Who waits without a reference sees what was done under the lock, whichever way it is let go.
#[test]
fn who_waits_is_woken() {
    unbounded("sole: wait", || {
        let shared = Shared::mapped();
        assert!(shared.page().lock_from_leaf(shared.life));
        let waiting = spawn(&shared, |shared| {
            shared.page().wait_unlocked(shared.life);
            assert_eq!(shared.witness.read(), 1);
        });
        shared.witness.write(1);
        assert!(shared.page().let_go(shared.life));
        waiting.join().unwrap();
        let state = shared.page().state();
        assert!(!state.live && !state.locked && !state.waiters, "{state:?}");
    });
}

#[test]
fn who_waits_for_a_leaf_is_woken() {
    unbounded("sole: wait for a leaf", || {
        let shared = Shared::new(1);
        assert!(shared.page().try_lock_sole());
        let waiting = spawn(&shared, |shared| {
            shared.page().wait_unlocked(shared.life);
            assert_eq!(shared.witness.read(), 1);
        });
        shared.witness.write(1);
        shared.page().unlock_into_leaf();
        waiting.join().unwrap();
        let state = shared.page().state();
        assert!(state.live && !state.locked && !state.waiters, "{state:?}");
    });
}
