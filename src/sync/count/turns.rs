//! [`Turns`]: which of the logical threads goes on.
//!
//! Each is a thread of the system that waits for its baton. One baton is out at a time, and only who has it decides who
//! is next, so the order of turns follows from the seed alone. Below: `random`. Above: `run`.

use super::random::Random;

/// See the [module](self).
pub(super) struct Turns {
    batons: Box<[Baton]>,
    dice: parking_lot::Mutex<Dice>,
}

/// Locked only for a moment, by whose turn it is.
struct Dice {
    random: Random,
    /// A turn takes this many accesses on average.
    mean: usize,
    /// Those who can go on.
    ready: Vec<usize>,
    /// Those who wait for all others to come to where they are.
    assembled: Vec<usize>,
}

#[derive(Default)]
struct Baton {
    is_here: parking_lot::Mutex<bool>,
    came: parking_lot::Condvar,
}

impl Turns {
    pub(super) fn new(threads: usize, seed: u64, mean: usize) -> Turns {
        let dice = Dice { random: Random::new(seed), mean, ready: (0..threads).collect(), assembled: Vec::new() };
        Turns { batons: (0..threads).map(|_| Baton::default()).collect(), dice: parking_lot::Mutex::new(dice) }
    }

    /// Gives the first turn to somebody. For who has made the turns, once.
    pub(super) fn begin(&self) {
        let first = self.dice.lock().any_ready();
        self.give(first);
    }

    /// Waits for the turn of `thread`.
    pub(super) fn wait(&self, thread: usize) {
        let baton = &self.batons[thread];
        let mut is_here = baton.is_here.lock();
        while !*is_here {
            baton.came.wait(&mut is_here);
        }
        *is_here = false;
    }

    /// Ends the turn of `thread` if the dice say so; returns when it has one.
    pub(super) fn maybe_pass(&self, thread: usize) {
        let mut dice = self.dice.lock();
        let mean = dice.mean;
        if dice.random.below(mean) == 0 {
            let next = dice.other_than(thread);
            drop(dice);
            self.hand_over(thread, next);
        }
    }

    /// Ends the turn of `thread`, unless nobody else can go on; returns when it has one again.
    pub(super) fn pass(&self, thread: usize) {
        let next = self.dice.lock().other_than(thread);
        self.hand_over(thread, next);
    }

    /// Waits until every thread that has not ended is here.
    pub(super) fn assemble(&self, thread: usize) {
        let next = {
            let mut dice = self.dice.lock();
            dice.leave(thread);
            dice.assembled.push(thread);
            dice.any_ready_or_assembled()
        };
        self.hand_over(thread, next.expect("this thread has assembled"));
    }

    /// Ends the last turn of `thread`.
    pub(super) fn end(&self, thread: usize) {
        let next = {
            let mut dice = self.dice.lock();
            dice.leave(thread);
            dice.any_ready_or_assembled()
        };
        if let Some(next) = next {
            self.give(next);
        }
    }

    fn hand_over(&self, thread: usize, next: usize) {
        if next != thread {
            self.give(next);
            self.wait(thread);
        }
    }

    fn give(&self, thread: usize) {
        *self.batons[thread].is_here.lock() = true;
        self.batons[thread].came.notify_one();
    }
}

impl Dice {
    fn any_ready(&mut self) -> usize {
        self.ready[self.random.below(self.ready.len())]
    }

    /// Anybody but `thread`, if there is somebody.
    fn other_than(&mut self, thread: usize) -> usize {
        if self.ready.len() < 2 {
            return thread;
        }
        // Whoever is drawn in this thread's place leaves it to the last, who is never drawn otherwise.
        let last = self.ready.len() - 1;
        let drawn = self.ready[self.random.below(last)];
        if drawn == thread { self.ready[last] } else { drawn }
    }

    fn leave(&mut self, thread: usize) {
        self.ready.retain(|&ready| ready != thread);
    }

    /// Anybody who can go on; when all have assembled that is everybody. `None` when all have ended.
    fn any_ready_or_assembled(&mut self) -> Option<usize> {
        if self.ready.is_empty() {
            core::mem::swap(&mut self.ready, &mut self.assembled);
        }
        if self.ready.is_empty() { None } else { Some(self.any_ready()) }
    }
}
