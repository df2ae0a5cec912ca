//! What it takes to register a device, beside a record of 64 bytes for every page that is written at registration.
//!
//! ```text
//! cargo bench --manifest-path benches/Cargo.toml --bench register
//! ```
//!
//! Time and resident memory (as the system counts it) of single registrations, contestants in turn: of farpage the first
//! device of a new space; of the rival, which is what Linux does, once with the system's part of its memory and once in
//! memory that is there. The rival registers the smaller device only: 1 TiB would take it 16 GiB. Then, how many devices
//! come and go in a second.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `FARPAGE_BENCH_ROUNDS` | rounds | 21 |
//! | `FARPAGE_BENCH_JSON` | write the table to this file (from `benches/` on) | nowhere |
//!
//! With `--test`, all of it runs at a tiny size, and only the answers count: a device is there, as large as it was asked
//! for, and gone afterwards.
#![allow(missing_docs, reason = "a program, and the macro-free main of one")]
#![forbid(unsafe_code)]

use farpage_benches::machine::Machine;
use farpage_benches::plan;
use farpage_benches::ratio::Spread;
use farpage_benches::register::course::{Between, Contestant, Sample, pairs_per_second};
use farpage_benches::register::table::{Line, Pairs, Table, size};
use farpage_benches::report::{Report, Wanted};

const GIB: u64 = 1 << 18;

/// What is promised of 1 TiB.
const WANTED_MICROS: f64 = 100.0;
const WANTED_KIB: f64 = 64.0;

fn main() {
    let quick = plan::is_quick();
    let nr_rounds = if quick { 2 } else { plan::number("FARPAGE_BENCH_ROUNDS", 21) };
    let small = if quick { GIB / 64 } else { 16 * GIB };
    let registrations = [
        (Contestant::Farpage, small),
        (Contestant::Eager, small),
        (Contestant::EagerAgain, small),
        (Contestant::Farpage, 1024 * GIB),
    ];
    let table = Table { nr_rounds, lines: lines(&registrations, nr_rounds, quick), pairs: pairs(nr_rounds, quick) };
    let command = "cargo bench --manifest-path benches/Cargo.toml --bench register".to_string();
    let report = Report { machine: Machine::probe(), command, tables: vec![table] };
    println!("{report}");
    if let Ok(path) = std::env::var("FARPAGE_BENCH_JSON") {
        report.write_json(&path).unwrap_or_else(|error| panic!("cannot write {path}: {error}"));
    }
}

fn lines(registrations: &[(Contestant, u64)], nr_rounds: usize, quick: bool) -> Vec<Line> {
    // The first of each brings code and the allocator's first pages in.
    registrations.iter().for_each(|(contestant, nr_pages)| _ = contestant.register(*nr_pages));
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); registrations.len()];
    for round in 0..nr_rounds {
        for turn in 0..registrations.len() {
            let at = (round + turn) % registrations.len();
            let (contestant, nr_pages) = registrations[at];
            samples[at].push(contestant.register(nr_pages));
        }
    }
    let line = |(&(contestant, nr_pages), samples): (&(Contestant, u64), &Vec<Sample>)| {
        let judged = contestant == Contestant::Farpage && nr_pages == 1024 * GIB && !quick;
        Line {
            contestant: contestant.name().into(),
            nr_pages,
            micros: Spread::of(samples.iter().map(|sample| sample.elapsed.as_secs_f64() * 1e6).collect()),
            resident_kib: Spread::of(samples.iter().map(|sample| sample.resident_bytes as f64 / 1024.0).collect()),
            wanted_micros: judged.then_some(Wanted::AtMost(WANTED_MICROS)),
            wanted_kib: judged.then_some(Wanted::AtMost(WANTED_KIB)),
        }
    };
    registrations.iter().zip(&samples).map(line).collect()
}

fn pairs(nr_rounds: usize, quick: bool) -> Vec<Pairs> {
    let nr_pairs = if quick { 100 } else { 5_000 };
    let mut pairs = Vec::new();
    for (nr_pages, between, what) in [
        (16 * GIB, Between::Nothing, "nothing else"),
        (700, Between::Nothing, "nothing else"),
        (16 * GIB, Between::OnePage, "a page allocated and freed"),
        (1024 * GIB, Between::Nothing, "nothing else"),
    ] {
        for nr_threads in [1, 2] {
            let rates = (0..nr_rounds).map(|_| pairs_per_second(nr_pages, between, nr_threads, nr_pairs));
            let what = format!("{}, {what}", size(nr_pages));
            pairs.push(Pairs { what, nr_threads, per_second: Spread::of(rates.collect()) });
        }
    }
    pairs
}
