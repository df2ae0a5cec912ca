//! Threads that fault and migrate beside each other: in address spaces of their own, and in one, in ranges of their own; and one
//! large batch in parts, on pools of one thread and of two.
//! Ratios to one thread alone, from one run; `--test` does everything once and measures nothing.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use farpage::AddressSpace;
use farpage_mm_benches::{Bench, Room, Spaces, fault_home};
use rayon::{ThreadPool, ThreadPoolBuilder};

/// Pages of a thread.
const PAGES: u64 = 4096;

/// To the device in batches, and home by faults, `rounds` times.
fn there_and_back<'s>(bench: &Bench<'s>, space: &AddressSpace<'s>, first: u64, rounds: u32) {
    let mut room = Room::default();
    for _ in 0..rounds {
        bench.migrate_in(space, &mut room, first, PAGES, 512);
        fault_home(space, first, PAGES);
    }
}

/// The time of the slowest of threads that start together, each with its address space and first page; the best of several.
fn best<'s>(bench: &Bench<'s>, lanes: &[(&AddressSpace<'s>, u64)], rounds: u32, repeats: u32) -> Duration {
    let run = || {
        let start = Barrier::new(lanes.len());
        thread::scope(|scope| {
            let threads: Vec<_> = lanes
                .iter()
                .map(|&(space, first)| {
                    let start = &start;
                    scope.spawn(move || {
                        start.wait();
                        let begun = Instant::now();
                        there_and_back(bench, space, first, rounds);
                        begun.elapsed()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).max().unwrap_or_default()
        })
    };
    (0..repeats).map(|_| run()).min().unwrap_or_default()
}

/// The time of one batch that moves `PAGES` pages to the device and of one that moves them home, on a pool; the best of several.
fn best_parts<'s>(
    bench: &Bench<'s>,
    space: &AddressSpace<'s>,
    pool: &ThreadPool,
    rounds: u32,
    repeats: u32,
) -> Duration {
    let run = || {
        let begun = Instant::now();
        for _ in 0..rounds {
            pool.install(|| bench.migrate_in_parts(space, PAGES));
            pool.install(|| bench.migrate_out_parts(space, PAGES));
        }
        begun.elapsed()
    };
    (0..repeats).map(|_| run()).min().unwrap_or_default()
}

fn main() {
    let is_test = std::env::args().any(|argument| argument == "--test");
    let (rounds, repeats) = if is_test { (1, 1) } else { (20, 7) };
    let spaces = Spaces::new();
    let bench = Bench::new(&spaces);
    let (one, two, shared) = (bench.space(PAGES), bench.space(PAGES), bench.space(2 * PAGES));
    let best = |lanes: &[_]| best(&bench, lanes, rounds, repeats);
    let alone = best(&[(&one, 0)]);
    let apart = best(&[(&one, 0), (&two, 0)]);
    let disjoint = best(&[(&shared, 0), (&shared, PAGES)]);
    let pool = |threads| ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    let parts = [1, 2].map(|threads| best_parts(&bench, &one, &pool(threads), rounds, repeats));
    bench.machine.validate().expect("every leaf is counted");
    if is_test {
        println!("mm: ok");
        return;
    }
    let per_page = |time: Duration| time.as_nanos() as f64 / f64::from(rounds) / PAGES as f64;
    let row = |name: &str, time: Duration, wanted: &str| {
        println!("{name:<44} {:>8.0} ns {:>6.2} {wanted:>8}", per_page(time), time.as_secs_f64() / alone.as_secs_f64());
    };
    println!("{:<44} {:>11} {:>6} {:>8}", "a page to the device and home", "", "ratio", "wanted");
    row("one thread", alone, "");
    row("two, each its own address space", apart, "1.25");
    row("two in one address space, disjoint ranges", disjoint, "1.40");
    println!("{:<44} {:>11} {:>6}", "a page there and back, in one batch each way", "", "ratio");
    for (name, time) in [("in parts, a pool of one thread", parts[0]), ("in parts, a pool of two", parts[1])] {
        println!("{name:<44} {:>8.0} ns {:>6.2}", per_page(time), time.as_secs_f64() / parts[0].as_secs_f64());
    }
}
