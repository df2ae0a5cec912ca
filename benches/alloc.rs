//! A pair of allocation and free, and what it costs in uncontended atomic read-modify-writes.
//!
//! ```text
//! cargo bench --manifest-path benches/Cargo.toml --bench alloc
//! ```
//!
//! farpage pays for page metadata and reference counts in every row; its rivals have neither, but for
//! `sharded-slab`. Every row runs on one thread and on two. Read-modify-writes, allocators and numbers
//! of threads take turns in each round, and the ratios of a round are what is claimed: nanoseconds
//! change with the weather of a shared machine.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `FARPAGE_BENCH_PARTS` | beginnings of the names of the rows, with commas between | all |
//! | `FARPAGE_BENCH_CONTESTANTS` | beginnings of the names of the contestants | all |
//! | `FARPAGE_BENCH_ROUNDS` | rounds | 21 |
//! | `FARPAGE_BENCH_JSON` | write the tables to this file (from `benches/` on) | nowhere |
//!
//! With `--test`, all of it runs at a tiny size, and only the answers count: no page is owned twice,
//! all are given back, and the space agrees with itself.
#![allow(missing_docs, reason = "a program, and the macro-free main of one")]
#![forbid(unsafe_code)]

use farpage_benches::alloc::{race, row};
use farpage_benches::machine::Machine;
use farpage_benches::plan;
use farpage_benches::report::Report;

fn main() {
    let quick = plan::is_quick();
    let nr_rounds = if quick { 2 } else { plan::number("FARPAGE_BENCH_ROUNDS", 21) };
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
    let command = "cargo bench --manifest-path benches/Cargo.toml --bench alloc".to_string();
    let report = Report { machine, command, tables };
    println!("{report}");
    if let Ok(path) = std::env::var("FARPAGE_BENCH_JSON") {
        report.write_json(&path).unwrap_or_else(|error| panic!("cannot write {path}: {error}"));
    }
}
