//! Base pages against huge pages for the metadata itself, and what it costs that it comes and goes.
//!
//! ```text
//! cargo bench --manifest-path benches/Cargo.toml --bench metadata
//! ```
//!
//! Three tables, each with both kinds of pages in turn in every round: lookups at random and as a chase, with all metadata
//! there; the life of metadata (populated by a first allocation, used again, given back by a call and by itself, populated
//! again), for a whole device; and a device that is used thinly, one page in each 512 MiB.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `FARPAGE_BENCH_MAX_PAGES` | leave larger sizes of the first table out | all |
//! | `FARPAGE_BENCH_ROUNDS` | rounds; a third as many for the second table | 21 |
//! | `FARPAGE_BENCH_JSON` | write the tables to this file (from `benches/` on) | nowhere |
//!
//! With `--test`, all of it runs at a tiny size, and only the answers count.
#![allow(missing_docs, reason = "a program, and the macro-free main of one")]
#![forbid(unsafe_code)]

use farpage_benches::chain::{Chain, RUN};
use farpage_benches::course::{Pattern, Race, Racer};
use farpage_benches::machine::{self, Machine};
use farpage_benches::metadata::life::{self, Step};
use farpage_benches::metadata::table::{Line, Table};
use farpage_benches::metadata::thin::{Thin, use_thinly};
use farpage_benches::ours::{self, Many, OneByOne, Populated};
use farpage_benches::plain::PageAdvice;
use farpage_benches::plan;
use farpage_benches::ratio::{Rounds, Spread};
use farpage_benches::report::Report;

const MI: usize = 1 << 20;
const ADVICES: [PageAdvice; 2] = [PageAdvice::Base, PageAdvice::Huge];

fn main() {
    let quick = plan::is_quick();
    let nr_rounds = if quick { 2 } else { plan::number("FARPAGE_BENCH_ROUNDS", 21) };
    let sizes = if quick { vec![2 * RUN] } else { vec![MI, 16 * MI, 64 * MI] };
    let max_pages = plan::number("FARPAGE_BENCH_MAX_PAGES", usize::MAX);
    let mut tables: Vec<Table> = Vec::new();
    for nr_pages in sizes.into_iter().filter(|&nr_pages| nr_pages <= max_pages) {
        tables.push(lookups(nr_pages, nr_rounds, quick));
    }
    tables.push(lives(if quick { MI } else { 4 * MI }, nr_rounds.div_ceil(3)));
    tables.push(thinly(if quick { 2 } else { 256 }, nr_rounds));
    let command = "cargo bench --manifest-path benches/Cargo.toml --bench metadata".to_string();
    let report = Report { machine: Machine::probe(), command, tables };
    println!("{report}");
    if let Ok(path) = std::env::var("FARPAGE_BENCH_JSON") {
        report.write_json(&path).unwrap_or_else(|error| panic!("cannot write {path}: {error}"));
    }
}

/// A line of `rounds`, in which contestants `base` and `huge` did the same.
fn line(what: &str, rounds: &Rounds, base: usize, huge: usize) -> Line {
    Line {
        what: what.into(),
        base: rounds.nanos(base),
        huge: rounds.nanos(huge),
        base_to_huge: rounds.ratio(base, huge),
        to_yardstick: None,
    }
}

/// All metadata is there, and looked up.
fn lookups(nr_pages: usize, nr_rounds: usize, quick: bool) -> Table {
    let chain = Chain::new(nr_pages);
    let spaces = ADVICES.map(|advice| ours::space(advice, None));
    let populated = [&spaces[0], &spaces[1]].map(|space| Populated::new(space, &chain));
    drop(chain);
    let (huge, _) = machine::huge_and_resident_bytes();
    let mut racers: Vec<Box<dyn Race + '_>> = Vec::new();
    for (space, populated) in spaces.iter().zip(&populated) {
        racers.push(Box::new(Racer::new("lookup", OneByOne(space), populated.keys())));
    }
    for (space, populated) in spaces.iter().zip(&populated) {
        racers.push(Box::new(Racer::batched("lookup_many", Many(space), populated.keys())));
    }
    let all_runs = nr_pages / RUN;
    let (warm_runs, nr_runs) = match nr_pages {
        _ if quick => (0, 1),
        MI => (all_runs, 2 * MI / RUN),
        _ => (16, MI / RUN),
    };
    let mut lines = Vec::new();
    for pattern in Pattern::ALL {
        let racers: Vec<_> = racers.iter().filter(|racer| racer.runs(pattern)).collect();
        let rounds = Rounds::run(nr_rounds, racers.len(), |racer, round| {
            let from = round * (warm_runs + nr_runs);
            racers[racer].run(pattern, from, warm_runs);
            let elapsed = racers[racer].run(pattern, from + warm_runs, nr_runs);
            elapsed.as_secs_f64() * 1e9 / (nr_runs * RUN) as f64
        });
        for base in (0..racers.len()).step_by(2) {
            let what = format!("{}, {}", racers[base].name(), pattern.name());
            lines.push(line(&what, &rounds, base, base + 1));
        }
    }
    drop(racers);
    populated.into_iter().for_each(Populated::free);
    Table {
        title: format!("lookups in {nr_pages} pages ({} MiB on huge pages)", huge >> 20),
        unit: "ns a lookup".into(),
        yardstick: String::new(),
        nr_rounds,
        lines,
    }
}

/// Metadata that comes and goes.
fn lives(nr_pages: usize, nr_rounds: usize) -> Table {
    // The first life brings code and the allocator's memory in. It has 8 sections of huge pages: of fewer, none would go by itself.
    ADVICES.iter().for_each(|&advice| _ = life::live(advice, nr_pages.min(MI)));
    let mut samples = vec![Vec::new(); 2 * Step::ALL.len()];
    for round in 0..nr_rounds {
        for turn in 0..2 {
            let advice = (round + turn) % 2;
            let nanos = life::live(ADVICES[advice], nr_pages);
            nanos.iter().enumerate().for_each(|(step, &nanos)| samples[2 * step + advice].push(nanos));
        }
    }
    let ratio = |of: &[f64], to: &[f64]| Spread::of(of.iter().zip(to).map(|(of, to)| of / to).collect());
    let line = |step: Step| {
        let of = |step: Step, advice: usize| &samples[2 * step.index() + advice][..];
        let to_yardstick = |advice| ratio(of(step, advice), of(step.yardstick(), advice));
        Line {
            what: step.name().into(),
            base: Spread::of(of(step, 0).to_vec()),
            huge: Spread::of(of(step, 1).to_vec()),
            base_to_huge: ratio(of(step, 0), of(step, 1)),
            to_yardstick: Some([to_yardstick(0), to_yardstick(1)]),
        }
    };
    Table {
        title: format!("the metadata of {nr_pages} pages; a section is 4,096 of them, or 131,072 with huge pages"),
        unit: "ns a page".into(),
        yardstick: "x allocated (or freed) with metadata kept".into(),
        nr_rounds,
        lines: Step::ALL.into_iter().map(line).collect(),
    }
}

/// One page here and there.
fn thinly(nr: usize, nr_rounds: usize) -> Table {
    let mut samples: [Vec<Thin>; 2] = [Vec::new(), Vec::new()];
    for round in 0..nr_rounds {
        for turn in 0..2 {
            let advice = (round + turn) % 2;
            samples[advice].push(use_thinly(ADVICES[advice], nr));
        }
    }
    let line = |what: &str, of: fn(&Thin) -> f64| {
        let [base, huge] = [0, 1].map(|advice| samples[advice].iter().map(of).collect::<Vec<f64>>());
        let ratios = base.iter().zip(&huge).map(|(base, huge)| base / huge).collect();
        Line {
            what: what.into(),
            base: Spread::of(base),
            huge: Spread::of(huge),
            base_to_huge: Spread::of(ratios),
            to_yardstick: None,
        }
    };
    let lines = vec![
        line("the first page there, microseconds", |thin| thin.first_micros),
        line("the same page again, microseconds", |thin| thin.again_micros),
        line("KiB resident by the first", |thin| thin.resident_kib),
    ];
    Table {
        title: format!("a page in each of {nr} devices of 512 MiB"),
        unit: "a page".into(),
        yardstick: String::new(),
        nr_rounds,
        lines,
    }
}
