//! After millions of random allocations and frees of mixed orders, does free memory lie in whole blocks?
//!
//! ```text
//! cargo bench --manifest-path benches/Cargo.toml --bench fragmentation
//! ```
//!
//! A device is filled to a mark; then every operation allocates, if that fits below the mark, or frees a
//! random folio. The share of free memory in wholly free blocks of 2 MiB is compared with that of a
//! sequential best fit, which takes the threads' operations in turn.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `FARPAGE_BENCH_OPERATIONS` | operations of a case, of all threads together | 10,000,000 |
//! | `FARPAGE_BENCH_PARTS` | beginnings of the names of the cases (`equal pages 50 % 2`), with commas between | all |
//! | `FARPAGE_BENCH_JSON` | write the table to this file (from `benches/` on) | nowhere |
//!
//! With `--test`, all of it runs at a tiny size, and each operation checks that no page is owned twice.
#![allow(missing_docs, reason = "a program, and the macro-free main of one")]
#![forbid(unsafe_code)]

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use farpage::{Device, DeviceConfig, Order, Space};
use farpage_benches::fragmentation::mix::Mix;
use farpage_benches::fragmentation::oracle::BestFit;
use farpage_benches::fragmentation::ours::{OnDevice, Owned};
use farpage_benches::fragmentation::stream::{Heap, Stream};
use farpage_benches::fragmentation::table::{Left, Line, POINTS, Table};
use farpage_benches::machine::Machine;
use farpage_benches::plan;
use farpage_benches::report::Report;

/// What is run.
struct Case<'m> {
    mix: &'m Mix,
    full: u32,
    nr_threads: usize,
    device_pages: u32,
    operations: u64,
    /// Whether every operation is checked.
    checked: bool,
}

fn main() {
    let quick = plan::is_quick();
    let operations = if quick { 20_000 } else { plan::number("FARPAGE_BENCH_OPERATIONS", 10_000_000) as u64 };
    let device_pages = if quick { 1 << 15 } else { 1 << 21 };
    let mut lines = Vec::new();
    for mix in &Mix::all() {
        for full in [50, 80] {
            for nr_threads in [1, 2, 8] {
                let name = format!("{} {full} % {nr_threads}", mix.name);
                if plan::chosen_by_prefix("FARPAGE_BENCH_PARTS", &name) {
                    let line = Case { mix, full, nr_threads, device_pages, operations, checked: quick }.run();
                    eprintln!("{line}  ({:.0} and {:.0} ns an operation)", line.ours.nanos, line.oracle.nanos);
                    lines.push(line);
                }
            }
        }
    }
    let command = "cargo bench --manifest-path benches/Cargo.toml --bench fragmentation".to_string();
    let tables = vec![Table { device_pages, operations, lines }];
    let report = Report { machine: Machine::probe(), command, tables };
    println!("{report}");
    if let Ok(path) = std::env::var("FARPAGE_BENCH_JSON") {
        report.write_json(&path).unwrap_or_else(|error| panic!("cannot write {path}: {error}"));
    }
}

impl Case<'_> {
    fn run(&self) -> Line {
        let (ours, oracle) = (self.on_farpage(), self.on_best_fit());
        let points = ours.percent() - oracle.percent();
        Line {
            mix: self.mix.name.into(),
            full: self.full,
            nr_threads: self.nr_threads,
            ours,
            oracle,
            points,
            met: (!self.checked).then_some(points >= -POINTS),
        }
    }

    fn stream<H: Heap>(&self, thread: usize) -> Stream<H> {
        let mark = u64::from(self.device_pages) * u64::from(self.full) / 100;
        Stream::new(self.mix, thread, mark / self.nr_threads as u64)
    }

    fn operations_of_each(&self) -> u64 {
        self.operations / self.nr_threads as u64
    }

    /// All threads at once.
    fn on_farpage(&self) -> Left {
        let space = Space::new().expect("address space for the metadata");
        let config = DeviceConfig::new(self.device_pages.into()).name("bench");
        let device = space.register(config).expect("a device in an empty space");
        let owned = self.checked.then(|| Owned::new(&device));
        let mut heap = OnDevice { device: &device, owned: owned.as_ref() };
        // Else the first threads would be done before the last have filled their part.
        let filled = Barrier::new(self.nr_threads);
        let start = Instant::now();
        let streams: Vec<_> = thread::scope(|scope| {
            let filled = &filled;
            let threads: Vec<_> = (0..self.nr_threads)
                .map(|thread| {
                    scope.spawn(move || {
                        let mut stream = self.stream(thread);
                        stream.fill(&mut heap);
                        filled.wait();
                        (0..self.operations_of_each()).for_each(|_| stream.step(&mut heap));
                        stream
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        let nanos = start.elapsed().as_secs_f64() * 1e9 / self.operations as f64;
        let left = self.look(&space, &device, &streams, nanos);
        for stream in streams {
            stream.end(&mut heap);
        }
        assert_eq!(device.nr_live_pages(), 0, "every page was freed");
        space.validate().expect("the space agrees with itself");
        left
    }

    /// Checks what the streams hold, and reports what they do not.
    fn look(&self, space: &Space, device: &Device<'_>, streams: &[Stream<OnDevice<'_, '_>>], nanos: f64) -> Left {
        let folios = streams.iter().flat_map(Stream::held).map(|(_, folio)| folio);
        let mut runs: Vec<_> = folios.map(|folio| (folio.offset().get(), folio.nr_pages())).collect();
        runs.sort_unstable();
        assert!(runs.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "two folios share a page");
        let held: u64 = runs.iter().map(|(_, nr_pages)| nr_pages).sum();
        assert_eq!(held, device.nr_live_pages(), "what is held is in use, and nothing else is");
        space.validate().expect("the space agrees with itself");
        let report = space.report();
        assert_eq!(report.free_pages + held, u64::from(self.device_pages), "no page is lost");
        let huge = usize::from(Order::HUGE.get());
        Left {
            free_pages: report.free_pages,
            whole_pages: report.free_runs.iter().enumerate().skip(huge).map(|(order, nr)| nr << order).sum(),
            failures: streams.iter().map(Stream::failures).sum(),
            nanos,
        }
    }

    /// The same streams in turn.
    fn on_best_fit(&self) -> Left {
        let mut heap = BestFit::new(self.device_pages);
        let start = Instant::now();
        let mut streams: Vec<_> = (0..self.nr_threads).map(|thread| self.stream(thread)).collect();
        for stream in &mut streams {
            stream.fill(&mut heap);
        }
        for _ in 0..self.operations_of_each() {
            for stream in &mut streams {
                stream.step(&mut heap);
            }
        }
        let nanos = start.elapsed().as_secs_f64() * 1e9 / self.operations as f64;
        let held: u64 = streams.iter().flat_map(Stream::held).map(|(order, _)| 1u64 << order).sum();
        assert_eq!(heap.free_pages() + held, u64::from(self.device_pages), "no page is lost");
        let left = Left {
            free_pages: heap.free_pages(),
            whole_pages: heap.free_pages_in_runs(Order::HUGE.get()),
            failures: streams.iter().map(Stream::failures).sum(),
            nanos,
        };
        for stream in streams {
            stream.end(&mut heap);
        }
        assert_eq!(heap.free_pages_in_runs(Order::HUGE.get()), u64::from(self.device_pages), "the oracle joins again");
        left
    }
}
