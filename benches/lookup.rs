//! From a leaf word to the page's private word, beside a plain array, published crates and a tree.
//!
//! ```text
//! cargo bench --manifest-path benches/Cargo.toml --bench lookup
//! ```
//!
//! Patterns: independent lookups at random and in sequence, one by one and in groups, and a chase in
//! which each private word names the next leaf. Sizes: metadata in L2 (16 Ki pages), at the edge of
//! the last cache (1 Mi), and far beyond it (64 Mi). Pages under the metadata and under the array:
//! huge (the headline), then base. Every answer is asserted.
//!
//! Criterion's rows come first, in nanoseconds; compare them with care, as a shared machine changes
//! under them. The tables at the end are interleaved rounds, and their ratios are what is claimed.
//!
//! [`plan`](farpage_benches::plan) lists the variables that leave parts out or write JSON.
//! With `--test`, all of it runs once at a tiny size.
#![allow(missing_docs, reason = "a program, and the macro-free main of one")]
#![forbid(unsafe_code)]

use std::time::Duration;

use criterion::{BenchmarkId, Criterion};
use farpage_benches::chain::{Chain, RUN};
use farpage_benches::course::{Pattern, Race, Racer};
use farpage_benches::machine::{self, Machine};
use farpage_benches::ours::{self, GROUP, Many, OneByOne, Populated};
use farpage_benches::peers::{IdrEbr, IdrEbrPinned, LockedTree, Plain, ShardedSlab};
use farpage_benches::plain::{self, PageAdvice, PlainArray};
use farpage_benches::plan::Plan;
use farpage_benches::ratio::{Rounds, Spread};
use farpage_benches::report::{Line, Report, Table, Wanted};

const KI: usize = 1 << 10;
const MI: usize = 1 << 20;

const PLAIN: &str = "plain array";
const LOOKUP: &str = "farpage lookup";
const LOOKUP_MANY: &str = "farpage lookup_many";
const SHARDED_SLAB: &str = "sharded-slab";
const IDR_EBR: &str = "idr-ebr";
const IDR_EBR_PINNED: &str = "idr-ebr, pinned once";
const TREE: &str = "RwLock<BTreeMap> of ranges";

/// The published crates among the contestants.
const CRATES: [&str; 3] = [SHARDED_SLAB, IDR_EBR, IDR_EBR_PINNED];

fn main() {
    let plan = Plan::from_environment(&[16 * KI, MI, 64 * MI]);
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1000))
        .sample_size(10)
        .configure_from_args();
    let machine = Machine::probe();
    println!("{machine}\n");
    let mut tables = Vec::new();
    for &advice in &plan.advices {
        let races = plan.sizes.iter().filter_map(|&nr_pages| race(&plan, nr_pages, advice, &mut criterion));
        // The headline first, which is measured last.
        tables.splice(0..0, races.collect::<Vec<_>>());
    }
    criterion.final_summary();
    if plan.tables {
        let command = "cargo bench --manifest-path benches/Cargo.toml --bench lookup".to_string();
        let report = Report { machine, command, tables };
        println!("{report}");
        if let Some(path) = &plan.json {
            report.write_json(path).unwrap_or_else(|error| panic!("cannot write {path}: {error}"));
        }
    }
}

/// Builds every contestant for `nr_pages` pages, and runs what the plan asks for.
fn race(plan: &Plan, nr_pages: usize, advice: PageAdvice, criterion: &mut Criterion) -> Option<Table> {
    let mut notes = Vec::new();
    let chain = Chain::new(nr_pages);
    let peers = (nr_pages <= plan.peer_max_pages).then(|| (ShardedSlab::new(&chain), IdrEbr::new(&chain)));
    if peers.is_none() {
        notes.push(format!(
            "no published crates: they would take gigabytes more; FARPAGE_BENCH_PEER_MAX_PAGES={nr_pages} runs them"
        ));
    }
    if advice == PageAdvice::Huge {
        plain::advise_heap();
    }
    let mut array = PlainArray::new(nr_pages, advice).expect("memory for the plain array");
    let plain_keys = Plain::link(&mut array, &chain);
    let space = ours::space(advice, None);
    let populated = Populated::new(&space, &chain);
    drop(chain);
    let (huge, resident) = machine::huge_and_resident_bytes();
    notes.push(format!("{} MiB resident, of it {} MiB on huge pages", resident >> 20, huge >> 20));

    let mut racers: Vec<Box<dyn Race + '_>> = vec![
        Box::new(Racer::new(PLAIN, Plain(&array), &plain_keys)),
        Box::new(Racer::new(LOOKUP, OneByOne(&space), populated.keys())),
        Box::new(Racer::batched(LOOKUP_MANY, Many(&space), populated.keys())),
        Box::new(Racer::new(TREE, LockedTree::new(&array), &plain_keys)),
    ];
    if let Some(((slab, slab_keys), (idr, idr_keys))) = &peers {
        racers.push(Box::new(Racer::new(SHARDED_SLAB, slab, slab_keys)));
        racers.push(Box::new(Racer::new(IDR_EBR, idr, idr_keys)));
        racers.push(Box::new(Racer::new(IDR_EBR_PINNED, IdrEbrPinned::new(idr), idr_keys)));
    }

    if plan.criterion {
        criterion_rows(nr_pages, advice, &racers, criterion);
    }
    let table = plan.tables.then(|| table(plan, nr_pages, advice, &racers, notes));
    drop(racers);
    populated.free();
    table
}

/// Criterion's own rows; an iteration is a lookup.
fn criterion_rows(nr_pages: usize, advice: PageAdvice, racers: &[Box<dyn Race + '_>], criterion: &mut Criterion) {
    for pattern in Pattern::ALL {
        let mut group =
            criterion.benchmark_group(format!("lookup/{}/{}/{}", advice.name(), size(nr_pages), pattern.name()));
        for racer in racers.iter().filter(|racer| racer.runs(pattern)) {
            let mut at = 0;
            group.bench_function(BenchmarkId::from_parameter(racer.name()), |bencher| {
                bencher.iter_custom(|iterations| {
                    let nr_runs = (iterations as usize).div_ceil(RUN);
                    let elapsed = racer.run(pattern, at, nr_runs);
                    at += nr_runs;
                    elapsed.mul_f64(iterations as f64 / (nr_runs * RUN) as f64)
                });
            });
        }
        group.finish();
    }
}

/// The interleaved rounds.
fn table(plan: &Plan, nr_pages: usize, advice: PageAdvice, racers: &[Box<dyn Race + '_>], notes: Vec<String>) -> Table {
    let all_runs = nr_pages / RUN;
    // Enough for milliseconds a turn. The warm-up brings the contestant's own data back into the caches after its
    // rivals' turns, as far as they hold it.
    let (warm_runs, nr_runs) = match nr_pages {
        _ if plan.quick => (0, 1),
        ..MI => (all_runs, 4 * MI / RUN),
        MI => (all_runs, 2 * MI / RUN),
        _ => (16, MI / RUN),
    };
    let mut lines = Vec::new();
    for pattern in Pattern::ALL {
        let racers: Vec<_> = racers.iter().filter(|racer| racer.runs(pattern)).collect();
        let rounds = Rounds::run(plan.nr_rounds, racers.len(), |racer, round| {
            let from = round * (warm_runs + nr_runs);
            racers[racer].run(pattern, from, warm_runs);
            let elapsed = racers[racer].run(pattern, from + warm_runs, nr_runs);
            elapsed.as_secs_f64() * 1e9 / (nr_runs * RUN) as f64
        });
        let find = |name: &str| racers.iter().position(|racer| racer.name() == name);
        let yardstick = find(PLAIN).expect("it runs every pattern");
        for (at, racer) in racers.iter().enumerate() {
            let ratio = rounds.ratio(at, yardstick);
            let wanted = wanted(racer.name(), pattern, nr_pages);
            let contestant =
                if racer.name() == LOOKUP_MANY { format!("{LOOKUP_MANY}, {GROUP}") } else { racer.name().to_string() };
            lines.push(line(pattern, contestant, Some(rounds.nanos(at)), ratio, wanted));
        }
        let crates: Vec<_> = CRATES.iter().filter_map(|name| find(name)).collect();
        for name in [LOOKUP, LOOKUP_MANY] {
            let (Some(ours), false) = (find(name), crates.is_empty()) else { continue };
            let faster = rounds.ratio_to_quickest(ours, &crates).inverted();
            let judged = pattern == Pattern::Random && name == LOOKUP && !plan.quick;
            let wanted = judged.then_some(Wanted::AtLeast(4.0));
            let contestant = format!("best crate / {name}");
            lines.push(line(pattern, contestant, None, faster, wanted));
        }
    }
    Table {
        title: format!("{} pages, {} pages under the metadata", size(nr_pages), advice.name()),
        nr_pages,
        nr_rounds: plan.nr_rounds,
        notes,
        lines,
    }
}

fn line(pattern: Pattern, contestant: String, nanos: Option<Spread>, ratio: Spread, wanted: Option<Wanted>) -> Line {
    let met = wanted.map(|wanted| wanted.is_met_by(ratio));
    Line { pattern: pattern.name().to_string(), contestant, nanos, ratio, wanted, met }
}

/// The promise, against the plain array.
fn wanted(contestant: &str, pattern: Pattern, nr_pages: usize) -> Option<Wanted> {
    const SMALL: usize = 16 * KI;
    const LARGE: usize = 64 * MI;
    let limit = match (contestant, pattern, nr_pages) {
        (LOOKUP, Pattern::Chase, SMALL) => 1.5,
        (LOOKUP, Pattern::Chase, MI) => 1.35,
        (LOOKUP, Pattern::Chase, LARGE) => 1.15,
        (LOOKUP, Pattern::Random, SMALL) => 3.2,
        (LOOKUP, Pattern::Random, MI) => 3.0,
        (LOOKUP, Pattern::Random, LARGE) => 2.0,
        (LOOKUP_MANY, Pattern::Random, MI) => 2.0,
        (LOOKUP_MANY, Pattern::Random, LARGE) => 1.5,
        _ => return None,
    };
    Some(Wanted::AtMost(limit))
}

/// `16Ki`, `1Mi`.
fn size(nr_pages: usize) -> String {
    match nr_pages {
        _ if nr_pages.is_multiple_of(MI) => format!("{}Mi", nr_pages / MI),
        _ => format!("{}Ki", nr_pages / KI),
    }
}
