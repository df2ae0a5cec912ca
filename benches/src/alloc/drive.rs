//! The measured loops: generic over the rival, so that nobody has another loop than the others.
//!
//! A turn is of `steps` steps, rounded up to whole batches where the pattern has batches, and gives
//! nanoseconds a step. What a thread holds stays with its drive from turn to turn.

#![forbid(unsafe_code)]

use std::ops::Range;
use std::time::{Duration, Instant};

use super::rival::Rival;
use super::runner::{Runner, Tally};
use super::sizes::PowerLaw;
use crate::random::SplitMix;

/// What is done over and over. Numbers are those of all threads together, which share them evenly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pattern {
    /// Take one, give it back.
    Hot,
    /// Of so many that are held, give a random one back and take a new one.
    Random {
        /// How many.
        held: usize,
    },
    /// Each thread takes so many, then gives them back in random order. A step is one of them.
    Bulk {
        /// How many.
        batch: usize,
        /// By one call, or one by one.
        at_once: bool,
    },
    /// Each thread takes so many by one call, which alone is timed. A step is one of them.
    Batch {
        /// How many.
        batch: usize,
    },
    /// Runs of power-law lengths: give random ones back until there is room below the mark, then take a new one.
    Mixed {
        /// The mark, in hundredths of the device.
        percent: u32,
        /// See [`PowerLaw::new`].
        exponent: u32,
        /// The longest run.
        longest: u16,
    },
}

/// A pattern on a device.
#[derive(Clone, Copy, Debug)]
pub struct Course {
    /// What is done.
    pub pattern: Pattern,
    /// Pages of a run, where the pattern does not draw them.
    pub run_pages: u32,
    /// Pages of the device.
    pub device_pages: u32,
}

/// One thread's part of a course, on one rival.
pub struct Drive<'r, R: Rival> {
    rival: &'r R,
    /// Goes with the end.
    hand: Option<R::Hand<'r>>,
    course: Course,
    nr_threads: usize,
    held: Vec<R::Held>,
    random: SplitMix,
    mix: Mix,
    tally: Tally,
}

/// What a mixed course needs besides.
struct Mix {
    law: PowerLaw,
    /// The lengths of what is held, in the same order.
    lengths: Vec<u32>,
    filled: u64,
    mark: u64,
}

impl<'r, R: Rival> Drive<'r, R> {
    /// Thread number `thread`'s drive, out of `nr_threads`.
    pub fn new(rival: &'r R, course: Course, thread: usize, nr_threads: usize) -> Self {
        let mut random = SplitMix::new(0x616c_6c6f_6300 + thread as u64);
        let (percent, exponent, longest) = match course.pattern {
            Pattern::Mixed { percent, exponent, longest } => (percent, exponent, longest),
            _ => (0, 1, 1),
        };
        let mix = Mix {
            law: PowerLaw::new(exponent, longest, &mut random),
            lengths: Vec::new(),
            filled: 0,
            mark: u64::from(course.device_pages) * u64::from(percent) / 100 / nr_threads as u64,
        };
        let hand = Some(rival.hand(thread, nr_threads));
        Self { rival, hand, course, nr_threads, held: Vec::new(), random, mix, tally: Tally::default() }
    }

    /// Takes runs of the course's own length until `nr` are held.
    fn hold(&mut self, nr: usize) {
        let hand = self.hand.as_mut().expect("not ended");
        while self.held.len() < nr {
            self.held.push(self.rival.alloc(hand, self.course.run_pages).expect("a free run"));
        }
    }

    #[inline(never)]
    fn hot(&mut self, steps: usize) -> Duration {
        let hand = self.hand.as_mut().expect("not ended");
        let start = Instant::now();
        for _ in 0..steps {
            let held = self.rival.alloc(hand, self.course.run_pages).expect("a free run");
            self.rival.free(hand, held);
        }
        start.elapsed()
    }

    #[inline(never)]
    fn random(&mut self, steps: usize) -> Duration {
        let hand = self.hand.as_mut().expect("not ended");
        let nr = self.held.len();
        let start = Instant::now();
        for _ in 0..steps {
            let old = self.held.swap_remove(self.random.below(nr));
            self.rival.free(hand, old);
            self.held.push(self.rival.alloc(hand, self.course.run_pages).expect("a free run"));
        }
        start.elapsed()
    }

    #[inline(never)]
    fn bulk(&mut self, batches: usize, batch: usize, at_once: bool) -> Duration {
        let hand = self.hand.as_mut().expect("not ended");
        let mut elapsed = Duration::ZERO;
        for _ in 0..batches {
            let start = Instant::now();
            if at_once {
                self.rival.alloc_many(hand, self.course.run_pages, batch, &mut self.held);
            } else {
                for _ in 0..batch {
                    self.held.push(self.rival.alloc(hand, self.course.run_pages).expect("a free run"));
                }
            }
            elapsed += start.elapsed();
            self.random.shuffle(&mut self.held);
            let start = Instant::now();
            for held in self.held.drain(..) {
                self.rival.free(hand, held);
            }
            elapsed += start.elapsed();
        }
        elapsed
    }

    #[inline(never)]
    fn batch(&mut self, batches: usize, batch: usize) -> Duration {
        let hand = self.hand.as_mut().expect("not ended");
        let mut elapsed = Duration::ZERO;
        for _ in 0..batches {
            let start = Instant::now();
            self.rival.alloc_many(hand, self.course.run_pages, batch, &mut self.held);
            elapsed += start.elapsed();
            for held in self.held.drain(..) {
                self.rival.free(hand, held);
            }
        }
        elapsed
    }

    #[inline(never)]
    fn mixed(&mut self, steps: usize) -> Duration {
        let (hand, mix) = (self.hand.as_mut().expect("not ended"), &mut self.mix);
        let mut failures = 0;
        let start = Instant::now();
        for _ in 0..steps {
            let length = mix.law.draw();
            while mix.filled + u64::from(length) > mix.mark {
                let victim = self.random.below(self.held.len());
                mix.filled -= u64::from(mix.lengths.swap_remove(victim));
                self.rival.free(hand, self.held.swap_remove(victim));
            }
            match self.rival.alloc(hand, length) {
                Some(held) => {
                    self.held.push(held);
                    mix.lengths.push(length);
                    mix.filled += u64::from(length);
                }
                None => failures += 1,
            }
        }
        let elapsed = start.elapsed();
        self.tally.requests += steps as u64;
        self.tally.failures += failures;
        elapsed
    }
}

impl<R: Rival> Runner for Drive<'_, R> {
    fn fill(&mut self) {
        match self.course.pattern {
            Pattern::Random { held } => {
                let nr = held / self.nr_threads;
                self.held.reserve(nr);
                self.hold(nr);
                // Else the first turns would find neighbours in place to be neighbours in the vector.
                self.random.shuffle(&mut self.held);
            }
            Pattern::Mixed { .. } => {
                // Filled in order of place, then used for long enough that the order has been forgotten.
                let nr = self.mix.mark as f64 / self.mix.law.mean();
                self.mixed(3 * nr as usize);
                self.tally = Tally::default();
            }
            Pattern::Bulk { batch, .. } | Pattern::Batch { batch } => self.held.reserve(batch),
            Pattern::Hot => {}
        }
    }

    fn turn(&mut self, steps: usize) -> f64 {
        let (elapsed, steps) = match self.course.pattern {
            Pattern::Hot => (self.hot(steps), steps),
            Pattern::Random { .. } => (self.random(steps), steps),
            Pattern::Bulk { batch, at_once } => {
                let batches = steps.div_ceil(batch);
                (self.bulk(batches, batch, at_once), batches * batch)
            }
            Pattern::Batch { batch } => {
                let batches = steps.div_ceil(batch);
                (self.batch(batches, batch), batches * batch)
            }
            Pattern::Mixed { .. } => (self.mixed(steps), steps),
        };
        elapsed.as_secs_f64() * 1e9 / steps as f64
    }

    fn audit(&mut self) -> Vec<Range<u64>> {
        if self.held.is_empty() {
            let part = self.course.device_pages / self.course.run_pages / self.nr_threads as u32 / 2;
            self.hold(part.min(512) as usize);
        }
        let lengths = self.mix.lengths.iter().copied();
        let lengths = lengths.chain(std::iter::repeat(self.course.run_pages));
        self.held.iter().zip(lengths).map(|(held, length)| self.rival.pages(held, length)).collect()
    }

    fn end(&mut self) -> Tally {
        let hand = self.hand.as_mut().expect("not ended");
        for held in self.held.drain(..) {
            self.rival.free(hand, held);
        }
        self.hand = None;
        self.tally
    }
}
