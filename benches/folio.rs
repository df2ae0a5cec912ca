//! References and locks: what a pair of get and put costs beside `Arc` and bare atomics, and of lock and unlock beside
//! `parking_lot`.
//!
//! ```text
//! cargo bench --manifest-path benches/Cargo.toml --bench folio
//! ```
//!
//! On one object, on 8 Ki in random order (records in L2), and on 1 Mi; each on one thread, and on two that share the objects.
//! All contestants run the same loop, and take turns in each round. Ratios are to the first line of a table, on as many
//! threads in the same round, and only they are claimed. `benches/references.sh` counts instructions.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `FARPAGE_BENCH_PARTS` | beginnings of the names of the rows, with commas between | all |
//! | `FARPAGE_BENCH_CONTESTANTS` | beginnings of the names of the contestants, the first line's aside | all |
//! | `FARPAGE_BENCH_ROUNDS` | rounds | 41 |
//! | `FARPAGE_BENCH_JSON` | write the tables to this file (from `benches/` on) | nowhere |
//!
//! With `--test`, all of it runs at a tiny size, and only the answers count: every object ends as it began.
#![allow(missing_docs, reason = "a program, and the macro-free main of one")]
#![forbid(unsafe_code)]

use farpage_benches::folio::{race, row};
use farpage_benches::machine::Machine;
use farpage_benches::plan;
use farpage_benches::report::Report;

fn main() {
    let quick = plan::is_quick();
    let nr_rounds = if quick { 2 } else { plan::number("FARPAGE_BENCH_ROUNDS", 41) };
    let all = row::rows(quick);
    let rows: Vec<_> = all.iter().filter(|row| plan::chosen_by_prefix("FARPAGE_BENCH_PARTS", &row.name)).collect();
    if rows.is_empty() {
        let names: Vec<_> = all.iter().map(|row| row.name.as_str()).collect();
        eprintln!("FARPAGE_BENCH_PARTS names none of the rows: {}", names.join(", "));
        return;
    }
    let machine = Machine::probe();
    let mut tables = Vec::new();
    for row in rows {
        eprintln!("{} ...", row.name);
        tables.push(race::run(row, nr_rounds, quick));
    }
    let command = "cargo bench --manifest-path benches/Cargo.toml --bench folio".to_string();
    let report = Report { machine, command, tables };
    println!("{report}");
    if let Ok(path) = std::env::var("FARPAGE_BENCH_JSON") {
        report.write_json(&path).unwrap_or_else(|error| panic!("cannot write {path}: {error}"));
    }
}
