//! What stands for [`Epochs`] in a model: it keeps the collector's promise and no more, in a few steps.
//!
//! Garbage is dropped as soon as everybody has been unpinned who was pinned when it was retired; whoever is pinned later
//! gains nothing. Who is pinned is noted where loom does not see it, so that it orders nothing; the order that the
//! collector gives is modelled by a light barrier of who is pinned, a heavy one of who retires, and a word from the end
//! of each pinning to the drop.
#![forbid(unsafe_code)]

use std::sync::Mutex;

use super::{AtomicU64, Ordering::AcqRel, heavy_barrier, light_barrier};

/// Proof that the caller is pinned.
pub(crate) struct Guard(());

/// See the [module](self).
pub(crate) struct Epochs {
    /// Whoever is unpinned has done what it did before whoever drops.
    ends: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    pinned: Vec<u64>,
    garbage: Vec<Garbage>,
}

struct Garbage {
    /// Who was pinned when it was retired, and is.
    seen_by: Vec<u64>,
    drop: Box<dyn FnOnce() + Send>,
}

impl Epochs {
    pub(crate) fn new() -> Epochs {
        Epochs { ends: AtomicU64::new(0), state: Mutex::default() }
    }

    pub(crate) fn pin<R>(&self, work: impl FnOnce(&Guard) -> R) -> R {
        let me = self.with(|state| {
            state.next += 1;
            state.pinned.push(state.next);
            state.next
        });
        // Of a retiring that is to come, the heavy barrier comes after this; of one that has been, we see what it made
        // unreachable.
        light_barrier();
        let result = work(&Guard(()));
        self.ends.fetch_add(1, AcqRel);
        let dead = self.with(|state| {
            state.pinned.retain(|pinned| *pinned != me);
            state.garbage.iter_mut().for_each(|garbage| garbage.seen_by.retain(|pinned| *pinned != me));
            let (dead, kept) = core::mem::take(&mut state.garbage).into_iter().partition(|one| one.seen_by.is_empty());
            state.garbage = kept;
            dead
        });
        self.drop_all(dead);
        result
    }

    pub(crate) fn retire(&self, garbage: impl Send + 'static) {
        heavy_barrier();
        let garbage = Box::new(move || drop(garbage));
        let dead = self.with(|state| {
            let garbage = Garbage { seen_by: state.pinned.clone(), drop: garbage };
            if garbage.seen_by.is_empty() {
                return vec![garbage];
            }
            state.garbage.push(garbage);
            Vec::new()
        });
        self.drop_all(dead);
    }

    fn drop_all(&self, dead: Vec<Garbage>) {
        if !dead.is_empty() {
            self.ends.fetch_add(1, AcqRel);
        }
        dead.into_iter().for_each(|garbage| (garbage.drop)());
    }

    /// Nothing in `work` lets another thread of the model go on, so the lock is always free.
    fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        work(&mut self.state.lock().expect("no model unwinds with the lock held"))
    }
}
