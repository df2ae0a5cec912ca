//! From a leaf word that names a tail of a large folio to the folio, beside words that name heads.
//!
//! ```text
//! cargo bench --manifest-path benches/Cargo.toml --bench tails
//! ```
//!
//! In blocks of folios of one order, which say where each folio begins, and in mixed ones, whose pages do. The sets take turns in
//! each round, and the ratio to heads of the same round is what is claimed.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `FARPAGE_BENCH_ROUNDS` | rounds | 21 |
//! | `FARPAGE_BENCH_JSON` | write the tables to this file (from `benches/` on) | nowhere |
//!
//! With `--test`, all of it runs a few times at a tiny size, and only the answers count.
#![allow(missing_docs, reason = "a program, and the macro-free main of one")]
#![forbid(unsafe_code)]

use farpage::{DeviceConfig, MetadataPages, Space};
use farpage_benches::machine::Machine;
use farpage_benches::plan;
use farpage_benches::ratio::Rounds;
use farpage_benches::report::{Compared, Report};
use farpage_benches::tails::{Pattern, Set, Table};

fn main() {
    let quick = plan::is_quick();
    let nr_rounds = if quick { 2 } else { plan::number("FARPAGE_BENCH_ROUNDS", 21) };
    let mut tables = Vec::new();
    for nr_folios in if quick { vec![256] } else { vec![1 << 10, 1 << 14] } {
        let space = Space::builder().metadata_pages(MetadataPages::Huge).build().expect("address space");
        let device = space.register(DeviceConfig::new(256 * nr_folios as u64)).expect("a device in an empty space");
        let sets = Set::all(&space, &device, nr_folios);
        space.validate().expect("the space agrees with itself");
        for (pattern, name) in [
            (Pattern::Independent, "independent"),
            (Pattern::Chase, "each from the one before"),
            (Pattern::Page, "by offset"),
        ] {
            let rounds = Rounds::run(nr_rounds, sets.len(), |at, _| sets[at].time(&space, pattern));
            let line = |(at, set): (usize, &Set<'_>)| {
                let (name, wanted) = set.name_and_wanted();
                Compared::new(name, rounds.nanos(at), rounds.ratio(at, set.yardstick()), wanted.filter(|_| !quick))
            };
            let lines = sets.iter().enumerate().map(line).collect();
            tables.push(Table { pattern: name, nr_folios, nr_rounds, lines });
        }
        drop(sets);
        assert_eq!(device.nr_live_pages(), 0, "every page was freed");
    }
    let command = "cargo bench --manifest-path benches/Cargo.toml --bench tails".to_string();
    let report = Report { machine: Machine::probe(), command, tables };
    println!("{report}");
    if let Ok(path) = std::env::var("FARPAGE_BENCH_JSON") {
        report.write_json(&path).unwrap_or_else(|error| panic!("cannot write {path}: {error}"));
    }
}
