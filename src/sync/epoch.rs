//! [`Epochs`]: when what was shared, and cannot be reached any more, may be dropped. RCU by epochs.
//!
//! Who reads what may go at any moment *pins* itself meanwhile. Who takes it away makes it unreachable first, and then
//! *retires* it: it is dropped when everybody has been unpinned who was pinned at that time. After K. Fraser, "Practical
//! lock-freedom" (2004), by `crossbeam_epoch`, with a collector for each space: nobody waits for the readers of another.
//!
//! Below: nothing. Above: `device`. Under loom `epoch_model` stands in.
#![forbid(unsafe_code)]

use core::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use crossbeam_epoch::{Collector, LocalHandle};

/// Proof that the caller is pinned. Cannot leave [`Epochs::pin`], so it never outlives the collector or a handle of it.
pub(crate) type Guard = crossbeam_epoch::Guard;

/// One collector, and what it has to drop.
pub(crate) struct Epochs {
    collector: Collector,
    /// Goes with us: how the handles of other threads know that they are of no use any more.
    in_use: Arc<()>,
    /// One reference beside ours for each piece of garbage.
    waiting: Arc<()>,
}

/// A thread's part in a collector.
struct Participant {
    collector_in_use: Weak<()>,
    handle: Rc<LocalHandle>,
}

thread_local! {
    /// Of each collector that this thread was ever pinned in, and that is in use.
    static PARTICIPANTS: RefCell<Vec<Participant>> = const { RefCell::new(Vec::new()) };
}

impl Epochs {
    pub(crate) fn new() -> Epochs {
        Epochs { collector: Collector::new(), in_use: Arc::new(()), waiting: Arc::new(()) }
    }

    /// Runs `work` pinned: what it can reach when it is called is not dropped before it has returned.
    ///
    /// Nothing of the caller's callers may run in it. It may drop what others have retired, before `work`.
    #[inline]
    pub(crate) fn pin<R>(&self, work: impl FnOnce(&Guard) -> R) -> R {
        let handle = self.handle();
        work(&handle.pin())
    }

    /// Drops `garbage`, which nobody can reach any more who is not pinned now, when nobody is who was. At once, if nobody
    /// is.
    ///
    /// It is dropped on any thread that is pinned later, so its drop must run no code of an embedder's.
    pub(crate) fn retire(&self, garbage: impl Send + 'static) {
        let (handle, waiting) = (self.handle(), Arc::clone(&self.waiting));
        handle.pin().defer(move || drop((garbage, waiting)));
        // It goes two epochs later. Each of these goes one further if everybody pinned is in the latest.
        for _ in 0..3 {
            handle.pin().flush();
        }
    }

    fn handle(&self) -> Rc<LocalHandle> {
        let find = |participants: &RefCell<Vec<Participant>>| {
            let known = participants.try_borrow().ok()?;
            let participant = known.iter().find(|participant| *participant.handle.collector() == self.collector)?;
            Some(Rc::clone(&participant.handle))
        };
        PARTICIPANTS.try_with(find).ok().flatten().unwrap_or_else(|| self.participate())
    }

    /// A new handle, kept for this thread's next time unless the thread is being torn down.
    #[cold]
    fn participate(&self) -> Rc<LocalHandle> {
        let handle = Rc::new(self.collector.register());
        let participant = Participant { collector_in_use: Arc::downgrade(&self.in_use), handle: Rc::clone(&handle) };
        // What cannot be kept is of use this once.
        let _ = PARTICIPANTS.try_with(|participants| {
            if let Ok(mut participants) = participants.try_borrow_mut() {
                participants.retain(|participant| participant.collector_in_use.strong_count() > 0);
                participants.push(participant);
            }
        });
        handle
    }
}

impl Drop for Epochs {
    /// Drops what is left, as nobody is pinned any more. The handles of other threads have a part in the collector, and may
    /// keep it for long.
    fn drop(&mut self) {
        let handle = self.handle();
        // Each of these goes an epoch further, and drops a few. But for a thread that happens to end, and to leave the
        // collector, at this moment, all of them do; the limit is for one that never comes to that end.
        for _ in 0..10_000 {
            if Arc::strong_count(&self.waiting) == 1 {
                break;
            }
            handle.pin().flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{
        AtomicU32,
        Ordering::{Acquire, Relaxed, Release},
    };

    use super::*;

    /// Counts its drops.
    struct Counted(Arc<AtomicU32>);

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn garbage_that_nobody_can_see_is_dropped_at_once() {
        let (epochs, drops) = (Epochs::new(), Arc::new(AtomicU32::new(0)));
        for nr in 1..=300 {
            epochs.retire(Counted(Arc::clone(&drops)));
            assert_eq!(drops.load(Relaxed), nr);
        }
    }

    #[test]
    fn garbage_waits_for_who_was_pinned_and_goes_with_the_epochs_at_the_latest() {
        let (epochs, drops) = (Epochs::new(), Arc::new(AtomicU32::new(0)));
        let (is_pinned, may_go) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                epochs.pin(|_| {
                    is_pinned.store(1, Release);
                    while may_go.load(Acquire) == 0 {
                        std::thread::yield_now();
                    }
                    assert_eq!(drops.load(Relaxed), 0);
                });
            });
            while is_pinned.load(Acquire) == 0 {
                std::thread::yield_now();
            }
            for _ in 0..100 {
                epochs.retire(Counted(Arc::clone(&drops)));
            }
            may_go.store(1, Release);
        });
        drop(epochs);
        assert_eq!(drops.load(Relaxed), 100, "though this thread's own handle has the collector still");
    }

    #[test]
    fn a_thread_forgets_the_collectors_that_have_gone() {
        for _ in 0..100 {
            Epochs::new().pin(|_| ());
        }
        let kept = PARTICIPANTS.with(|participants| participants.borrow().len());
        assert!(kept <= 2, "{kept} participants, and no more than one collector at a time");
    }

    #[test]
    fn a_thread_that_is_being_torn_down_is_pinned_all_the_same() {
        struct Last(Arc<Epochs>);
        impl Drop for Last {
            fn drop(&mut self) {
                assert_eq!(self.0.pin(|_| 7), 7);
                self.0.retire(7);
            }
        }
        thread_local!(static LAST: RefCell<Option<Last>> = const { RefCell::new(None) });
        let epochs = Arc::new(Epochs::new());
        let other = Arc::clone(&epochs);
        let thread = std::thread::spawn(move || {
            // Made before the participants, so dropped after them.
            LAST.with(|last| *last.borrow_mut() = Some(Last(other)));
            LAST.with(|last| last.borrow().as_ref().map(|last| last.0.pin(|_| 7)))
        });
        assert_eq!(thread.join().expect("no panic"), Some(7));
        epochs.retire(1);
    }
}
