//! A row's contestants in interleaved rounds, on one thread and on two.
//!
//! Every contestant has an allocator of its own for each number of threads, so that none meets what
//! another left behind; all of them stay for the whole row, which costs caches. Answers are checked
//! before and after the rounds, outside of what is timed.

#![forbid(unsafe_code)]

use std::ops::Range;
use std::thread;

use farpage::Space;

use super::crew::{Boxed, Crew, Task};
use super::drive::{Course, Drive, Pattern};
use super::ours::OnDevice;
use super::ours::{Cached, Ranges};
use super::peers::{Bitmap, FreeList, LockedExtents, LockedOffsets, Records};
use super::rival::{Nothing, Rival};
use super::row::{Field, Row};
use super::runner::{Arithmetic, ReadModifyWrite, Runner, Tally};
use super::table::{Figure, Line, Run, Table};
use crate::plan;
use crate::ratio::Rounds;
use crate::report::Wanted;

/// How many threads each row is run on.
const THREADS: [usize; 2] = [1, 2];

/// With that many more threads, a step takes at most so much longer.
const QUOTIENT: f64 = 1.25;

/// Nanoseconds that a timed turn is to take.
const TURN: f64 = 5e6;

const YARDSTICK: &str = "read-modify-write";
const OURS: &str = "farpage";
const CACHE: &str = "farpage Cache";

/// An allocator at the start.
trait Contestant {
    fn name(&self) -> &'static str;
    fn runners(&self, course: Course, nr_threads: usize) -> Vec<Boxed<'_>>;
    fn assert_all_free(&self);
}

struct Entrant<R> {
    name: &'static str,
    rival: R,
}

impl<R: Rival> Contestant for Entrant<R> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn runners(&self, course: Course, nr_threads: usize) -> Vec<Boxed<'_>> {
        let drive = |thread| Box::new(Drive::new(&self.rival, course, thread, nr_threads)) as Boxed<'_>;
        (0..nr_threads).map(drive).collect()
    }

    fn assert_all_free(&self) {
        self.rival.assert_all_free();
    }
}

/// What runs beside the allocators, and is none.
struct Bystander<T> {
    name: &'static str,
    make: fn() -> T,
}

impl<T: Runner + 'static> Contestant for Bystander<T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn runners(&self, _: Course, nr_threads: usize) -> Vec<Boxed<'_>> {
        (0..nr_threads).map(|_| Box::new((self.make)()) as Boxed<'_>).collect()
    }

    fn assert_all_free(&self) {}
}

/// A contestant under way.
struct Team<'env> {
    runners: Vec<Boxed<'env>>,
    /// Steps of a turn.
    steps: usize,
}

/// Runs a row.
pub fn run(row: &Row, nr_rounds: usize, quick: bool) -> Table {
    let spaces: Vec<Space> =
        (0..2 * THREADS.len()).map(|_| Space::new().expect("address space for the metadata")).collect();
    let mut free_spaces = spaces.iter();
    // Indexed by contestant, then by number of threads.
    let mut contestants: Vec<Box<dyn Contestant + '_>> = Vec::new();
    let fields = THREADS.map(|nr_threads| field(row, nr_threads, &mut free_spaces));
    let nr_contestants = fields[0].len();
    let mut fields = fields.map(Vec::into_iter);
    for _ in 0..nr_contestants {
        contestants.extend(fields.iter_mut().filter_map(Iterator::next));
    }
    let (rounds, tallies) = thread::scope(|scope| {
        let crew = Crew::new(scope, THREADS[THREADS.len() - 1]);
        let mut teams: Vec<_> = contestants
            .iter()
            .enumerate()
            .map(|(at, contestant)| {
                let mut runners = contestant.runners(row.course, THREADS[at % THREADS.len()]);
                crew.perform(&mut runners, Task::Fill);
                let steps = if quick { 256 } else { calibrate(&crew, &mut runners) };
                Team { runners, steps }
            })
            .collect();
        let rounds = Rounds::run(nr_rounds, teams.len(), |at, _| {
            let Team { runners, steps } = &mut teams[at];
            turn(&crew, runners, *steps * row.warm_turns, *steps)
        });
        let tallies: Vec<_> = teams.iter_mut().map(|team| end(&crew, &mut team.runners)).collect();
        (rounds, tallies)
    });
    for contestant in &contestants {
        contestant.assert_all_free();
    }
    let names: Vec<_> = contestants.iter().step_by(THREADS.len()).map(|contestant| contestant.name()).collect();
    Table {
        row: row.name.clone(),
        step: row.step.into(),
        device_pages: row.course.device_pages,
        nr_rounds,
        lines: names.iter().enumerate().map(|(at, name)| line(row, at, name, &rounds, &tallies, quick)).collect(),
    }
}

/// One turn of all threads; the mean of their nanoseconds a step.
fn turn<'env>(crew: &Crew<'env>, runners: &mut Vec<Boxed<'env>>, warm: usize, steps: usize) -> f64 {
    let outcomes = crew.perform(runners, Task::Turn { warm, steps });
    outcomes.iter().map(|outcome| outcome.nanos).sum::<f64>() / outcomes.len() as f64
}

/// How many steps fill a turn.
fn calibrate<'env>(crew: &Crew<'env>, runners: &mut Vec<Boxed<'env>>) -> usize {
    let mut steps = 1 << 8;
    loop {
        let nanos = turn(crew, runners, 0, steps);
        if nanos * steps as f64 >= TURN / 4.0 {
            return (TURN / nanos) as usize + 1;
        }
        steps *= 4;
    }
}

/// Checks what is held, then has all of it given back.
fn end<'env>(crew: &Crew<'env>, runners: &mut Vec<Boxed<'env>>) -> Tally {
    let outcomes = crew.perform(runners, Task::Audit);
    let mut pages: Vec<Range<u64>> = outcomes.into_iter().flat_map(|outcome| outcome.pages).collect();
    pages.sort_unstable_by_key(|pages| pages.start);
    for pair in pages.windows(2) {
        assert!(pair[0].end <= pair[1].start, "{:?} and {:?} are both held", pair[0], pair[1]);
    }
    let outcomes = crew.perform(runners, Task::End);
    outcomes.into_iter().map(|outcome| outcome.tally).fold(Tally::default(), |all, tally| all + tally)
}

fn line(row: &Row, at: usize, name: &str, rounds: &Rounds, tallies: &[Tally], quick: bool) -> Line {
    let at = at * THREADS.len();
    let judged = name.starts_with(OURS) && !quick;
    // A cache is judged in its own row only.
    let priced = judged && (name == OURS || row.field == Field::Cache);
    let run = |index: usize| {
        let tally = tallies[at + index];
        let wanted = (priced && index == 0).then_some(Wanted::AtMost(row.wanted));
        Run {
            nr_threads: THREADS[index],
            nanos: rounds.nanos(at + index),
            ratio: Figure::new(rounds.ratio(at + index, 0), wanted),
            tally,
            never_failed: (judged && row.never_fails).then_some(tally.failures == 0),
        }
    };
    let quotient = rounds.ratio(at + THREADS.len() - 1, at);
    Line {
        contestant: name.into(),
        runs: (0..THREADS.len()).map(run).collect(),
        quotient: Figure::new(quotient, judged.then_some(Wanted::AtMost(QUOTIENT))),
    }
}

/// The contestants of a row, the yardstick first.
fn field<'s>(
    row: &Row,
    nr_threads: usize,
    spaces: &mut impl Iterator<Item = &'s Space>,
) -> Vec<Box<dyn Contestant + 's>> {
    let Course { pattern, run_pages, device_pages } = row.course;
    let mut field = Entrants(vec![
        Box::new(Bystander { name: YARDSTICK, make: ReadModifyWrite::default }),
        Box::new(Bystander { name: "(arithmetic alone)", make: Arithmetic::default }),
    ]);
    let mut space = || spaces.next().expect("a space for each device");
    match row.field {
        Field::Cache => {
            field.add(CACHE, || Cached::new(space(), device_pages, run_pages));
        }
        Field::Pages | Field::Folios => {
            field.add(OURS, || OnDevice::new(space(), device_pages, run_pages));
            if pattern != Pattern::Hot {
                field.add(CACHE, || Cached::new(space(), device_pages, run_pages));
            }
        }
        Field::Ranges => {
            field.add(OURS, || Ranges::new(space(), device_pages));
        }
    }
    if row.field == Field::Pages {
        field.add("sbitmap", || Bitmap::new(device_pages));
        field.add("sharded-slab", Records::default);
        field.add("ArrayQueue", || FreeList::new(device_pages));
    }
    if row.field != Field::Cache {
        field.add("Mutex<offset-allocator>", || LockedOffsets::new(device_pages, most_held(row.course, nr_threads)));
        field.add("Mutex<BTreeMap> of extents", || LockedExtents::new(device_pages));
    }
    if matches!(pattern, Pattern::Random { .. } | Pattern::Mixed { .. }) {
        field.add("(the loop alone)", || Nothing);
    }
    field.0
}

struct Entrants<'s>(Vec<Box<dyn Contestant + 's>>);

impl<'s> Entrants<'s> {
    /// Builds a contestant, if it is to take part.
    fn add<R: Rival + 's>(&mut self, name: &'static str, build: impl FnOnce() -> R) {
        if plan::chosen_by_prefix("FARPAGE_BENCH_CONTESTANTS", name) {
            self.0.push(Box::new(Entrant { name, rival: build() }));
        }
    }
}

/// More runs than are ever held at once.
fn most_held(course: Course, nr_threads: usize) -> u32 {
    match course.pattern {
        Pattern::Hot => 512 * nr_threads as u32,
        Pattern::Random { held } => held as u32,
        Pattern::Bulk { batch, .. } | Pattern::Batch { batch } => (batch * nr_threads) as u32,
        Pattern::Mixed { .. } => course.device_pages / 2,
    }
}
