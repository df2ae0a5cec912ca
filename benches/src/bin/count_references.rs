//! Does one kind of pair a given number of times, for an instruction counter around it; see `references.sh`.
//!
//! `count_references KIND STEPS`: all that surrounds the steps is the same for every number of them, so the difference of
//! two counts is steps and nothing else.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use farpage_benches::alloc::runner::Runner;
use farpage_benches::folio::ours::{CloneDrop, Folios, LockUnlock, MapUnmap, TryGetDrop, UpgradeDrop};
use farpage_benches::folio::pair::{Pair, Walk};
use farpage_benches::folio::peers::{self, AddSub, ArcCloneDrop, ArcUpgradeDrop, ExchangeSub, MutexLockUnlock};
use farpage_benches::ours;
use farpage_benches::plain::PageAdvice;

/// A space that an instruction counter's own memory map has room for.
const MAX_PAGES: u64 = 1 << 20;
const NR_OBJECTS: usize = 64;
const SEED: u64 = 3;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let (kind, steps) = match arguments.as_slice() {
        [kind, steps] => (kind.as_str(), steps.parse::<usize>().ok()),
        _ => ("", None),
    };
    let Some(steps) = steps else {
        eprintln!("usage: count_references KIND STEPS");
        return ExitCode::from(2);
    };
    let space = ours::space(PageAdvice::Base, Some(MAX_PAGES));
    let folios = || Folios::new(&space, NR_OBJECTS, SEED);
    let (records, locks) = (peers::records(NR_OBJECTS), peers::locks(NR_OBJECTS));
    let arcs = || peers::arcs(NR_OBJECTS, SEED);
    match kind {
        "empty" => walk(&Empty, steps),
        "clone" => walk(&CloneDrop(folios()), steps),
        "clone-arc" => walk(&ArcCloneDrop(arcs()), steps),
        "clone-bare" => walk(&AddSub::new(&records, SEED), steps),
        "try_get" => walk(&TryGetDrop::new(folios()), steps),
        "try_get-bare" => walk(&ExchangeSub::new(&records, SEED), steps),
        "upgrade" => walk(&UpgradeDrop::new(folios()), steps),
        "upgrade-arc" => walk(&ArcUpgradeDrop::new(arcs()), steps),
        "map" => walk(&MapUnmap(folios()), steps),
        "lock" => walk(&LockUnlock(folios()), steps),
        "lock-parking_lot" => walk(&MutexLockUnlock::new(&locks, SEED), steps),
        _ => {
            eprintln!("count_references: {kind} is no kind of pair");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn walk<P: Pair>(pair: &P, steps: usize) {
    let mut walk = Walk::new(pair, 0, 1);
    walk.turn(steps);
    walk.audit();
}

/// The loop alone.
struct Empty;

impl Pair for Empty {
    fn nr_objects(&self) -> usize {
        NR_OBJECTS
    }

    #[inline]
    fn step(&self, at: usize) {
        std::hint::black_box(at);
    }

    fn assert_unchanged(&self) {}
}
