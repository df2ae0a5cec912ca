//! [`run`]: logical threads that do some work in turns, and what their operations cost.
//!
//! A thread knows the part that it has in a run; whoever has none is let through. Below: `turns`, `ledger`.

use core::cell::RefCell;
use core::sync::atomic::{Ordering::SeqCst, fence};
use std::panic::resume_unwind;
use std::sync::Arc;

use super::ledger::{Access, Counts, Ledger, Site, SiteCounts};
use super::turns::Turns;

/// How a run is to go.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many logical threads; 1 to 1,024.
    pub threads: usize,
    /// Where turns end follows from this number.
    pub seed: u64,
    /// How many accesses a turn takes on average.
    pub mean_turn: usize,
}

impl Plan {
    /// So many threads, and turns of 20 accesses on average: about one operation.
    pub fn new(threads: usize, seed: u64) -> Plan {
        Plan { threads, seed, mean_turn: 20 }
    }
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome<R> {
    /// What the work returned in each thread.
    pub results: Vec<R>,
    /// All operations of all threads.
    pub totals: Counts,
    /// The places that they came through, the one with the most remote writes first.
    pub sites: Vec<SiteCounts>,
}

struct Run {
    turns: Turns,
    /// Locked only for a moment, by whose turn it is.
    ledger: parking_lot::Mutex<Ledger>,
}

/// A thread's part in a run.
struct Part {
    run: Arc<Run>,
    thread: usize,
}

thread_local! {
    static PART: RefCell<Option<Part>> = const { RefCell::new(None) };
}

/// Does `work` in as many logical threads as `plan` says, each called with its number.
///
/// # Panics
///
/// When the plan cannot be followed. If the work panics in one thread, the others go on; then the panic does.
pub fn run<R: Send>(plan: Plan, work: impl Fn(usize) -> R + Sync) -> Outcome<R> {
    let Plan { threads, seed, mean_turn } = plan;
    assert!((1..=1024).contains(&threads), "{threads} threads: there are numbers for 1 to 1024");
    assert!(mean_turn > 0, "a turn takes an access at least");
    let turns = Turns::new(threads, seed, mean_turn);
    let run = Arc::new(Run { turns, ledger: parking_lot::Mutex::new(Ledger::new(threads)) });
    let joined: Vec<_> = std::thread::scope(|scope| {
        let start = |thread| {
            let (run, work) = (Arc::clone(&run), &work);
            scope.spawn(move || {
                let _attendance = Attendance::begin(run, thread);
                work(thread)
            })
        };
        let handles: Vec<_> = (0..threads).map(start).collect();
        run.turns.begin();
        handles.into_iter().map(|handle| handle.join()).collect()
    });
    let results = joined.into_iter().map(|result| result.unwrap_or_else(|panic| resume_unwind(panic))).collect();
    let run = Arc::into_inner(run).expect("every thread has given its part back");
    let (totals, sites) = run.ledger.into_inner().close();
    Outcome { results, totals, sites }
}

/// Does one operation; what is done outside of operations is not counted. Also the operation's own counts, all 0 for a
/// thread that has no part in a run.
pub fn op<R>(operation: impl FnOnce() -> R) -> (R, Counts) {
    with_part(|part| part.run.ledger.lock().begin_op(part.thread));
    let result = operation();
    let counts = with_part(|part| part.run.ledger.lock().end_op(part.thread));
    (result, counts.unwrap_or_default())
}

/// Lets another logical thread go on: for a loop that waits for one.
pub fn pass() {
    with_part(|part| part.run.turns.pass(part.thread));
}

/// Waits until every thread of the run that has not ended is here.
pub fn rendezvous() {
    with_part(|part| part.run.turns.assemble(part.thread));
}

/// The number of the logical thread, or of the thread if it has no part in a run.
pub fn thread_slot() -> Option<usize> {
    with_part(|part| part.thread).or_else(crate::sync::slots::thread_slot)
}

/// The rare side of a pair of barriers.
pub fn heavy_barrier() {
    let counted = with_part(|part| {
        part.run.turns.maybe_pass(part.thread);
        part.run.ledger.lock().note_heavy_barrier(part.thread);
        // No other logical thread is in the middle of anything: passing the turn on has ordered what it did.
        fence(SeqCst);
    });
    if counted.is_none() {
        crate::sync::barrier::heavy_barrier();
    }
}

pub(super) fn is_logical() -> bool {
    with_part(|_| ()).is_some()
}

/// Makes an access to the word at `address`, when it is this thread's turn.
pub(super) fn touch<T>(address: usize, site: Site, access: impl FnOnce() -> (T, Access)) -> T {
    with_part(|part| part.run.turns.maybe_pass(part.thread));
    // The turn lasts until the next access, so what was done and what is written down are one step.
    let (value, access) = access();
    with_part(|part| part.run.ledger.lock().note(part.thread, address, site, access));
    value
}

/// `None` for a thread without a part, or at the very end of its life.
fn with_part<R>(then: impl FnOnce(&Part) -> R) -> Option<R> {
    PART.try_with(|part| part.borrow().as_ref().map(then)).ok().flatten()
}

/// A thread's part, from its first turn to its last, however that ends.
struct Attendance;

impl Attendance {
    fn begin(run: Arc<Run>, thread: usize) -> Attendance {
        run.turns.wait(thread);
        PART.set(Some(Part { run, thread }));
        Attendance
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        if let Some(Part { run, thread }) = PART.take() {
            run.turns.end(thread);
        }
    }
}
