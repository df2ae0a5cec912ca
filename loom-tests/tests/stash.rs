//! Edges [stash], [steal]: `Stash::push` -> `Stash::steal` and back: the freer's use of a run comes before the thief's, and
//! the thief's look at a cell before it is written again. Each run has one taker, whether owner or thief.
//!
//! A stash keeps two runs of order 0 and one of order 1 here. Three seats at most have one; a model needs one of them.
//!
//! Shape: one owner pushes and pops, one or two steal, each with a look, a heavy barrier and an exchange.
//! Cost: 38 and 5,404 executions unbounded; 72 to 3,733 at bound 2, two thieves 21,493 (2 s); at bound 3 up to 29,895, two
//! thieves 300,991 (27 s).
//! Teeth: fails with the Release of `push` or `pop`, or the Acquire of `steal`, taken away; without the light barrier or the
//! second look at the bottom; with the last run taken without an exchange; with the cell read after the exchange, or one run
//! more than there are cells. [stash], the order of the thief's look at a cell before the owner's next write, has none: loom
//! moves no load behind a later store.

use farpage::model::{Stash, heavy_barrier};
use farpage_loom_tests::{Owned, bounded, unbounded};
use loom::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Release},
};
use loom::{sync::Arc, thread};

struct Shared {
    stash: Stash,
    /// A run of either order is named by its first page.
    owned: Owned,
}

impl Shared {
    /// A stash that keeps the runs of `order` that start at `pages`; all others are in use.
    fn new(order: u8, pages: &[u64]) -> Arc<Shared> {
        let shared = Shared { stash: Stash::new(), owned: Owned::new(8) };
        for page in (0..8).step_by(1 << order) {
            shared.owned.begin(page, 1);
        }
        for &page in pages {
            assert!(shared.push(order, page));
        }
        Arc::new(shared)
    }

    fn push(&self, order: u8, page: u64) -> bool {
        self.owned.end(page, 1);
        let is_kept = self.stash.push(order, page);
        if !is_kept {
            self.owned.begin(page, 1);
        }
        is_kept
    }

    fn pop(&self, order: u8) -> Option<u64> {
        let page = self.stash.pop(order)?;
        self.owned.begin(page, 1);
        Some(page)
    }

    fn steal(&self, order: u8) -> Option<u64> {
        let oldest = self.stash.oldest(order)?;
        heavy_barrier();
        let page = self.stash.steal(order, &oldest)?;
        self.owned.begin(page, 1);
        Some(page)
    }

    /// All runs of `order` have been taken out, each once.
    fn assert_taken(&self, order: u8, taken: impl IntoIterator<Item = Option<u64>>, pages: &[u64]) {
        let mut taken: Vec<u64> = taken.into_iter().flatten().collect();
        taken.extend(std::iter::from_fn(|| self.pop(order)));
        taken.sort_unstable();
        assert_eq!(taken, pages);
        assert_eq!(self.stash.pages(), 0);
    }
}

#[test]
fn the_last_run_has_one_taker() {
    unbounded("stash: last run", || {
        let shared = Shared::new(0, &[0]);
        let thief = shared.clone();
        let thief = thread::spawn(move || thief.steal(0));
        let popped = shared.pop(0);
        let stolen = thief.join().unwrap();
        assert!(popped.is_some() || stolen.is_some(), "nobody else was there");
        shared.assert_taken(0, [popped, stolen], &[0]);
    });
}

#[test]
fn a_stolen_run_comes_with_its_last_use() {
    unbounded("stash: push against steal", || {
        let shared = Shared::new(0, &[]);
        let thief = shared.clone();
        let thief = thread::spawn(move || thief.steal(0));
        assert!(shared.push(0, 0));
        let stolen = thief.join().unwrap();
        shared.assert_taken(0, [stolen], &[0]);
    });
}

/// The bottom that the thief sees may be one that a pop has set.
#[test]
fn a_run_below_a_popped_one_comes_with_its_last_use() {
    bounded("stash: two pushes and a pop against a steal", || {
        let shared = Shared::new(0, &[]);
        let thief = shared.clone();
        let thief = thread::spawn(move || thief.steal(0));
        assert!(shared.push(0, 0) && shared.push(0, 1));
        let popped = shared.pop(0);
        let stolen = thief.join().unwrap();
        shared.assert_taken(0, [popped, stolen], &[0, 1]);
    });
}

/// The owner pops the newest without an exchange, while the thief is after the oldest, which may be the same by then.
#[test]
fn the_newest_is_not_the_oldest() {
    bounded("stash: two pops against a steal", || {
        let shared = Shared::new(0, &[0, 1]);
        let thief = shared.clone();
        let thief = thread::spawn(move || thief.steal(0));
        let popped = [(); 2].map(|()| shared.pop(0));
        let stolen = thief.join().unwrap();
        shared.assert_taken(0, [popped[0], popped[1], stolen], &[0, 1]);
    });
}

/// Two looks, each with its own barrier, meet an owner that takes the newest run without an exchange.
#[test]
fn a_thief_looks_again_for_the_next_run() {
    bounded("stash: two steals against a pop", || {
        let shared = Shared::new(0, &[0, 1]);
        let thief = shared.clone();
        let thief = thread::spawn(move || [thief.steal(0), thief.steal(0)]);
        let popped = shared.pop(0);
        let stolen = thief.join().unwrap();
        shared.assert_taken(0, [popped, stolen[0], stolen[1]], &[0, 1]);
    });
}

/// The owner takes the newest run, uses it and gives it back to the same cell: the thief must have that use behind it, too.
#[test]
fn a_run_that_came_back_is_stolen_after_its_last_use() {
    bounded("stash: pop and push against two steals", || {
        let shared = Shared::new(0, &[0, 1]);
        let thief = shared.clone();
        let thief = thread::spawn(move || [thief.steal(0), thief.steal(0)]);
        let popped = shared.pop(0);
        if let Some(page) = popped {
            assert!(shared.push(0, page), "its cell is free");
        }
        let stolen = thief.join().unwrap();
        shared.assert_taken(0, stolen, &[0, 1]);
    });
}

/// Of order 1 there is one cell. What the thief read there is the run that it has won.
#[test]
fn a_cell_is_not_written_again_before_it_was_read() {
    bounded("stash: one cell", || {
        let shared = Shared::new(1, &[0]);
        let thief = shared.clone();
        let thief = thread::spawn(move || [thief.steal(1), thief.steal(1)]);
        let kept = [2, 4].map(|page| shared.push(1, page).then_some(page));
        let stolen = thief.join().unwrap();
        let pages: Vec<u64> = [Some(0), kept[0], kept[1]].into_iter().flatten().collect();
        shared.assert_taken(1, stolen, &pages);
    });
}

/// The owner takes a run from its one cell and keeps another there: the thief gets the one or the other, for what it is.
#[test]
fn a_cell_that_changed_is_stolen_as_what_it_is() {
    bounded("stash: one cell, popped", || {
        let shared = Shared::new(1, &[0]);
        let thief = shared.clone();
        let thief = thread::spawn(move || [thief.steal(1), thief.steal(1)]);
        let popped = shared.pop(1);
        let kept = shared.push(1, 2).then_some(2);
        let stolen = thief.join().unwrap();
        let pages: Vec<u64> = [Some(0), kept].into_iter().flatten().collect();
        shared.assert_taken(1, [popped, stolen[0], stolen[1]], &pages);
    });
}

#[test]
fn two_thieves_and_the_owner_take_each_run_once() {
    bounded("stash: two thieves", || {
        let shared = Shared::new(0, &[0, 1]);
        let thieves = [(); 2].map(|()| {
            let shared = shared.clone();
            thread::spawn(move || shared.steal(0))
        });
        let popped = shared.pop(0);
        if popped.is_some() {
            assert!(shared.push(0, 2), "there is room for two");
        }
        let stolen = thieves.map(|thief| thief.join().unwrap());
        let pages: &[u64] = if popped.is_some() { &[0, 1, 2] } else { &[0, 1] };
        shared.assert_taken(0, [popped, stolen[0], stolen[1]], pages);
    });
}

/// A thread ends, and the next of its number goes on with the stash: by the release and acquire of the number alone it has
/// all that the first one did there.
#[test]
fn the_next_owner_goes_on_where_the_last_one_ended() {
    bounded("stash: next owner", || {
        let shared = Arc::new((Shared::new(0, &[0]), AtomicBool::new(false)));
        let (first, next) = (shared.clone(), shared.clone());
        let first = thread::spawn(move || {
            let (shared, number) = &*first;
            let popped = shared.pop(0);
            assert!(shared.push(0, 1) && (popped.is_none() || shared.push(0, 2)));
            // As the end of a thread in `sync::slots`.
            number.store(true, Release);
            popped
        });
        let next = thread::spawn(move || {
            let (shared, number) = &*next;
            number.load(Acquire).then(|| {
                let popped = shared.pop(0);
                assert!(popped.is_none() || shared.push(0, 3));
                popped
            })
        });
        let stolen = shared.0.steal(0);
        let (first, next) = (first.join().unwrap(), next.join().unwrap());
        let mut pages = vec![0, 1];
        pages.extend(first.map(|_| 2));
        pages.extend(next.flatten().map(|_| 3));
        shared.0.assert_taken(0, [first, next.flatten(), stolen], &pages);
    });
}
