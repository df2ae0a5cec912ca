//! A block split into its 512 pages and back, beside 512 allocations.
//!
//! ```text
//! cargo bench --manifest-path benches/Cargo.toml --bench split
//! ```
//!
//! All ways take turns in each round, on a device that is otherwise empty, and the ratio to 512
//! allocations of the same round is what is claimed.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `FARPAGE_BENCH_ROUNDS` | rounds | 21 |
//! | `FARPAGE_BENCH_JSON` | write the table to this file (from `benches/` on) | nowhere |
//!
//! With `--test`, each way runs a few times, and only the answers count.
#![allow(missing_docs, reason = "a program, and the macro-free main of one")]
#![forbid(unsafe_code)]

use farpage::{DeviceConfig, Space};
use farpage_benches::machine::Machine;
use farpage_benches::plan;
use farpage_benches::ratio::Rounds;
use farpage_benches::report::{Compared, Report};
use farpage_benches::split::{Table, Way};

fn main() {
    let quick = plan::is_quick();
    let (nr_rounds, runs) = if quick { (2, 8) } else { (plan::number("FARPAGE_BENCH_ROUNDS", 21), 2000) };
    let space = Space::new().expect("address space for the metadata");
    let device = space.register(DeviceConfig::new(1 << 16).name("bench")).expect("a device in an empty space");
    for way in Way::ALL {
        way.check(&device);
        assert_eq!(device.nr_live_pages(), 0, "every page was freed");
        space.validate().expect("the space agrees with itself");
    }
    let rounds = Rounds::run(nr_rounds, Way::ALL.len(), |at, _| Way::ALL[at].time(&device, runs));
    let line = |(at, way): (usize, Way)| {
        Compared::new(way.name(), rounds.nanos(at), rounds.ratio(at, 0), way.wanted().filter(|_| !quick))
    };
    let lines = Way::ALL.into_iter().enumerate().map(line).collect();
    assert_eq!(device.nr_live_pages(), 0, "every page was freed");
    space.validate().expect("the space agrees with itself");
    let command = "cargo bench --manifest-path benches/Cargo.toml --bench split".to_string();
    let report = Report { machine: Machine::probe(), command, tables: vec![Table { nr_rounds, lines }] };
    println!("{report}");
    if let Ok(path) = std::env::var("FARPAGE_BENCH_JSON") {
        report.write_json(&path).unwrap_or_else(|error| panic!("cannot write {path}: {error}"));
    }
}
