//! A row's contestants in interleaved rounds, on one thread and on two.
//!
//! The threads of a contestant share its objects: on one object, they contend for it.

#![forbid(unsafe_code)]

use std::thread;

use farpage::Space;

use super::ours::{CloneDrop, Folios, LockUnlock, MapUnmap, TryGetDrop, UpgradeDrop};
use super::pair::{Pair, Walk};
use super::peers::{self, AddSub, ArcCloneDrop, ArcUpgradeDrop, ExchangeSub, MutexLockUnlock};
use super::row::{Row, What};
use super::table::{Line, Table};
use crate::alloc::crew::{Boxed, Crew, Task};
use crate::alloc::table::Figure;
use crate::plan;
use crate::ratio::Rounds;
use crate::report::Wanted;

/// How many threads each row is run on.
const THREADS: [usize; 2] = [1, 2];

/// Nanoseconds that a timed turn is to take.
const TURN: f64 = 5e6;

/// What the order of objects is drawn from: the same for all.
const SEED: u64 = 3;

/// A contestant with its name.
struct Entrant<P> {
    name: &'static str,
    pair: P,
}

trait Contestant {
    fn name(&self) -> &'static str;
    fn runners(&self, nr_threads: usize) -> Vec<Boxed<'_>>;
}

impl<P: Pair> Contestant for Entrant<P> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn runners(&self, nr_threads: usize) -> Vec<Boxed<'_>> {
        (0..nr_threads).map(|thread| Box::new(Walk::new(&self.pair, thread, nr_threads)) as Boxed<'_>).collect()
    }
}

/// Runs a row.
pub fn run(row: &Row, nr_rounds: usize, quick: bool) -> Table {
    let spaces: Vec<Space> = (0..3).map(|_| Space::new().expect("address space for the metadata")).collect();
    let (records, locks) = (peers::records(row.nr_objects), peers::locks(row.nr_objects));
    let folios = |space: usize| Folios::new(&spaces[space], row.nr_objects, SEED);
    let arcs = || peers::arcs(row.nr_objects, SEED);
    // The yardstick first.
    let mut field = Field(Vec::new());
    match row.what {
        What::Clone => {
            field.add("Arc clone, drop", ArcCloneDrop(arcs()));
            field.add("farpage clone, drop", CloneDrop(folios(0)));
            field.add("bare add, sub", AddSub::new(&records, SEED));
        }
        What::Get => {
            field.add("bare exchange, sub", ExchangeSub::new(&records, SEED));
            field.add("farpage try_get, drop", TryGetDrop::new(folios(0)));
            field.add("farpage upgrade, drop", UpgradeDrop::new(folios(1)));
            field.add("Weak upgrade, drop", ArcUpgradeDrop::new(arcs()));
            field.add("farpage map, unmap", MapUnmap(folios(2)));
        }
        What::Lock => {
            field.add("parking_lot lock, unlock", MutexLockUnlock::new(&locks, SEED));
            field.add("farpage lock, unlock", LockUnlock(folios(0)));
        }
    }
    let contestants = field.0;
    let rounds = thread::scope(|scope| {
        let crew = Crew::new(scope, THREADS[THREADS.len() - 1]);
        // Indexed by contestant, then by number of threads.
        let mut teams: Vec<_> = contestants
            .iter()
            .flat_map(|contestant| THREADS.map(|nr_threads| contestant.runners(nr_threads)))
            .map(|mut runners| {
                let steps = if quick { 256 } else { calibrate(&crew, &mut runners) };
                (runners, steps)
            })
            .collect();
        let rounds = Rounds::run(nr_rounds, teams.len(), |at, _| {
            let (runners, steps) = &mut teams[at];
            turn(&crew, runners, *steps / 4, *steps)
        });
        for (runners, _) in &mut teams {
            crew.perform(runners, Task::Audit);
        }
        rounds
    });
    let names: Vec<_> = contestants.iter().map(|contestant| contestant.name()).collect();
    let line = |(at, &name): (usize, &&'static str)| {
        let judged = at > 0 && OURS.contains(&name);
        let run = |index: usize| {
            let (this, yardstick) = (at * THREADS.len() + index, index);
            let wanted = row.wanted.filter(|_| judged && index == 0).map(Wanted::AtMost);
            (rounds.nanos(this), Figure::new(rounds.ratio(this, yardstick), wanted))
        };
        Line { contestant: name.into(), runs: (0..THREADS.len()).map(run).collect() }
    };
    Table {
        row: row.name.clone(),
        nr_objects: row.nr_objects,
        nr_rounds,
        nr_threads: THREADS.to_vec(),
        lines: names.iter().enumerate().map(line).collect(),
    }
}

/// Those of ours for which something was promised.
const OURS: [&str; 2] = ["farpage clone, drop", "farpage try_get, drop"];

/// One turn of all threads; the mean of their nanoseconds a step.
fn turn<'env>(crew: &Crew<'env>, runners: &mut Vec<Boxed<'env>>, warm: usize, steps: usize) -> f64 {
    let outcomes = crew.perform(runners, Task::Turn { warm, steps });
    outcomes.iter().map(|outcome| outcome.nanos).sum::<f64>() / outcomes.len() as f64
}

/// How many steps fill a turn.
fn calibrate<'env>(crew: &Crew<'env>, runners: &mut Vec<Boxed<'env>>) -> usize {
    let mut steps = 1 << 10;
    loop {
        let nanos = turn(crew, runners, 0, steps);
        if nanos * steps as f64 >= TURN / 4.0 {
            return (TURN / nanos) as usize + 1;
        }
        steps *= 4;
    }
}

struct Field<'a>(Vec<Box<dyn Contestant + 'a>>);

impl<'a> Field<'a> {
    /// Adds a contestant; the first is the yardstick, and takes part whatever was chosen.
    fn add<P: Pair + 'a>(&mut self, name: &'static str, pair: P) {
        if self.0.is_empty() || plan::chosen_by_prefix("FARPAGE_BENCH_CONTESTANTS", name) {
            self.0.push(Box::new(Entrant { name, pair }));
        }
    }
}
