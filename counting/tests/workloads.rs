//! Every workload, small: it gives back all that it took, and the same seed gives the same counts to the last one.

use farpage_counting::row::Row;
use farpage_counting::stage::Effort;
use farpage_counting::workloads::{ALL, Kind};
use farpage_counting::{limits, table};

const EFFORT: Effort = Effort { ops: 32, warm_up: 32, seed: 42, mean_turn: 20 };

#[test]
fn the_same_seed_gives_the_same_counts() {
    for workload in ALL {
        let row = Row::count(workload, 4, EFFORT);
        assert!(row.ops >= 4 * 32, "{}: {} operations", row.workload, row.ops);
        assert_eq!(row, Row::count(workload, 4, EFFORT));
    }
}

#[test]
fn alone_nothing_is_remote() {
    for workload in ALL.iter().filter(|workload| workload.min_threads == 1) {
        let row = Row::count(workload, 1, EFFORT);
        assert_eq!((row.remote_writes, row.contended_reads, row.failed_rmws), (0.0, 0.0, 0.0), "{}", row.workload);
        assert_eq!(row.writes > 0.0, workload.kind != Kind::Lookup, "{}", row.workload);
    }
}

#[test]
fn a_lookup_writes_nothing_whoever_else_is_there() {
    for workload in ALL.iter().filter(|workload| workload.kind == Kind::Lookup) {
        let row = Row::count(workload, 64, EFFORT);
        assert_eq!((row.writes, row.contended_reads), (0.0, 0.0), "{}", row.workload);
        assert!(limits::broken(&[row]).is_empty());
    }
}

#[test]
fn a_broken_promise_is_named() {
    let mut row = Row::count(&ALL[0], 1, EFFORT);
    let good = Row { threads: 16, remote_writes: 0.01, ..row.clone() };
    row = Row { threads: 256, remote_writes: 0.03, cached_pages: 1 << 16, ..row };
    assert_eq!(limits::broken(std::slice::from_ref(&good)), [""; 0]);
    assert_eq!(
        limits::broken(&[good.clone(), row.clone()]),
        [
            "hot pair, order 0, 256 threads: 0.030 remote writes an operation, 0.010 with 16 threads: they grow",
            "hot pair, order 0, 256 threads: 65536 pages in caches, more than 41943",
        ]
    );
    row = Row { remote_writes: 0.06, cached_pages: 0, ..row };
    let grown = Row { remote_writes: 0.05, ..good };
    assert_eq!(
        limits::broken(&[grown, row.clone()]),
        ["hot pair, order 0, 256 threads: 0.060 remote writes an operation, more than 0.05"]
    );
    assert!(table::figures(&[row]).to_string().contains("0.060"));
}
