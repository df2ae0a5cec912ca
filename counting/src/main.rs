//! Counts what operations cost, prints it, and says whether it is what farpage promises.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use farpage_counting::row::Row;
use farpage_counting::stage::Effort;
use farpage_counting::{limits, pin, table, workloads};

/// A promise is broken.
const EXIT_BROKEN: u8 = 1;
/// The arguments cannot work.
const EXIT_USAGE: u8 = 2;

/// Counts read-modify-writes, lines written and lines that move between threads, for each operation of farpage.
///
/// Threads are logical: one at a time goes on, and before each access to an atomic the turn may go to another, as the
/// seed says. So the counts are those of as many cores as there are threads, on any machine, and equal seeds give equal
/// counts. An operation is one allocation, one free or one lookup.
#[derive(Debug, Parser)]
#[command(
    name = "counting",
    after_help = "Exit status: 0; 1 with --assert when a promise is broken; 2 the arguments \
                                           cannot work."
)]
struct Cli {
    /// How many threads
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "1,4,16,64,256",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Vec<u16>,

    /// Only workloads whose name contains this
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,

    /// Counted operations of each thread
    #[arg(long, value_name = "N", default_value_t = 512)]
    ops: usize,

    /// Operations of each thread before it is counted
    #[arg(long, value_name = "N", default_value_t = 512)]
    warm_up: usize,

    /// All choices follow from it
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Accesses to atomics between two changes of thread, on average
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    mean_turn: u16,

    /// Also say which places in the source the remote writes and contended reads come from, so many for each row
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "8")]
    lines: Option<usize>,

    /// Print one JSON array, and nothing else, on standard output
    #[arg(long)]
    json: bool,

    /// Exit with 1 unless the counts are as promised; needs rows for 16 and 256 threads
    #[arg(long)]
    assert: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let threads: Vec<usize> = cli.threads.iter().copied().map(usize::from).collect();
    if cli.assert && ![limits::FLAT_FROM, limits::AT].iter().all(|wanted| threads.contains(wanted)) {
        eprintln!("counting: --assert compares {} with {} threads: count both", limits::FLAT_FROM, limits::AT);
        return ExitCode::from(EXIT_USAGE);
    }
    let effort = Effort { ops: cli.ops, warm_up: cli.warm_up, seed: cli.seed, mean_turn: usize::from(cli.mean_turn) };

    pin::to_one_core();
    let mut rows = Vec::new();
    for workload in workloads::ALL.iter().filter(|workload| workload.name.contains(&cli.only)) {
        for &threads in threads.iter().filter(|&&threads| threads >= workload.min_threads) {
            rows.push(Row::count(workload, threads, effort));
        }
    }
    if rows.is_empty() {
        eprintln!("counting: no workload with that name and number of threads");
        return ExitCode::from(EXIT_USAGE);
    }
    if cli.json {
        println!("{}", serde_json::to_string_pretty(&rows).expect("rows are plain numbers and texts"));
    } else {
        println!("{}", table::figures(&rows));
        if let Some(most) = cli.lines {
            println!("\n{}", table::sites(&rows, most));
        }
    }

    let broken = limits::broken(&rows);
    for clause in broken.iter().filter(|_| cli.assert) {
        eprintln!("counting: {clause}");
    }
    if cli.assert && !broken.is_empty() { ExitCode::from(EXIT_BROKEN) } else { ExitCode::SUCCESS }
}
