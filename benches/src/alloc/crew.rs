//! The threads, each on a processor of its own, as long as there are as many.
//!
//! They live as long as a row does: no thread is started or ended in a measured turn, and what an
//! allocator keeps for a thread stays with it from turn to turn. Runners are sent to them and come back.

use std::ops::Range;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, Scope};

use super::runner::{Runner, Tally};

/// What a crew is asked to do.
#[derive(Clone, Copy, Debug)]
pub enum Task {
    /// [`Runner::fill`].
    Fill,
    /// [`Runner::turn`] of `warm` steps by each on its own, then of `steps` by all at the same time.
    Turn {
        /// Not timed.
        warm: usize,
        /// Timed.
        steps: usize,
    },
    /// [`Runner::audit`].
    Audit,
    /// [`Runner::end`].
    End,
}

/// What came of a task, on one thread.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Nanoseconds a step.
    pub nanos: f64,
    /// What was held.
    pub pages: Vec<Range<u64>>,
    /// How it went.
    pub tally: Tally,
}

/// One thread's runner.
pub type Boxed<'env> = Box<dyn Runner + 'env>;

struct Call<'env> {
    runner: Boxed<'env>,
    task: Task,
    start: Arc<Start>,
}

/// The threads.
pub struct Crew<'env> {
    calls: Vec<Sender<Call<'env>>>,
    answers: Receiver<(usize, Boxed<'env>, Outcome)>,
}

impl<'env> Crew<'env> {
    /// Starts `nr_threads` threads, which end with the crew.
    pub fn new<'scope>(scope: &'scope Scope<'scope, 'env>, nr_threads: usize) -> Self {
        let (answer, answers) = channel();
        let calls = (0..nr_threads).map(|thread| {
            let (call, calls) = channel::<Call<'env>>();
            let answer = answer.clone();
            scope.spawn(move || {
                let _guard = EndWithPanic;
                pin(thread);
                for Call { mut runner, task, start } in calls {
                    let outcome = perform(&mut *runner, task, &start);
                    if answer.send((thread, runner, outcome)).is_err() {
                        break;
                    }
                }
            });
            call
        });
        Self { calls: calls.collect(), answers }
    }

    /// Has the first threads perform `task`, one for each of `runners`, and returns when all have.
    pub fn perform(&self, runners: &mut Vec<Boxed<'env>>, task: Task) -> Vec<Outcome> {
        let nr = runners.len();
        let start = Arc::new(Start { missing: AtomicUsize::new(nr) });
        for (runner, call) in runners.drain(..).zip(&self.calls) {
            call.send(Call { runner, task, start: Arc::clone(&start) }).expect("a living thread");
        }
        let mut answers: Vec<_> = self.answers.iter().take(nr).collect();
        answers.sort_unstable_by_key(|(thread, ..)| *thread);
        let (back, outcomes): (Vec<_>, Vec<_>) =
            answers.into_iter().map(|(_, runner, outcome)| (runner, outcome)).unzip();
        *runners = back;
        outcomes
    }
}

fn perform(runner: &mut dyn Runner, task: Task, start: &Start) -> Outcome {
    let mut outcome = Outcome::default();
    match task {
        Task::Fill => runner.fill(),
        Task::Turn { warm, steps } => {
            if warm > 0 {
                runner.turn(warm);
            }
            start.wait();
            outcome.nanos = runner.turn(steps);
        }
        Task::Audit => outcome.pages = runner.audit(),
        Task::End => outcome.tally = runner.end(),
    }
    outcome
}

/// A barrier that nobody sleeps at: all leave it within a fraction of a microsecond.
struct Start {
    missing: AtomicUsize,
}

impl Start {
    fn wait(&self) {
        self.missing.fetch_sub(1, SeqCst);
        let mut spins = 0u32;
        while self.missing.load(SeqCst) != 0 {
            spins += 1;
            if spins.is_multiple_of(1 << 12) {
                // There may be fewer processors than threads.
                thread::yield_now();
            }
            std::hint::spin_loop();
        }
    }
}

/// Ends the process when its thread panics: the others would wait for ever.
struct EndWithPanic;

impl Drop for EndWithPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            process::exit(101);
        }
    }
}

/// Binds this thread to a processor. Best effort: an unbound thread is only measured with more noise.
fn pin(thread: usize) {
    let nr_processors = thread::available_parallelism().map_or(1, usize::from);
    // SAFETY: All zeros is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: A plain bit operation on a set of our own; the number is far below the set's size.
    unsafe { libc::CPU_SET(thread % nr_processors, &mut set) };
    // SAFETY: The set lives across the call, and its size is told; 0 means this thread.
    unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
}
