//! `farpage demo`: from arguments to an exit status. What the job is, is in `job`.

use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use farpage::{Order, Space};
use farpage_region::{Config, Mode, PAGE_BYTES, Region, run as run_region, userfaultfd_available};
use rayon::ThreadPoolBuilder;

use crate::args::{DemoArgs, EXIT_DIFFERENT, EXIT_EQUAL, EXIT_INTERRUPTED};
use crate::input;
use crate::job::{self, End, RECORD_BYTES};
use crate::output::{self, bytes};
use crate::progress::Progress;
use crate::report::{Asked, Report};
use crate::stop::Stop;

/// Runs the demo and gives the exit status; an error is a message for the user.
pub(crate) fn run(args: &DemoArgs) -> Result<u8, String> {
    let stop = Stop::on_interrupt()?;
    let order = Order::new(args.order).ok_or("the order is too large")?;
    let threads =
        args.threads.map_or_else(|| thread::available_parallelism().map_or(1, |cores| cores.get()), usize::from);
    let run_bytes = order.nr_pages() * PAGE_BYTES;
    let size = args
        .size
        .checked_next_multiple_of(run_bytes)
        .ok_or_else(|| format!("a size of {} bytes is too large", args.size))?;
    if size != args.size {
        note(&format!("the size of {} bytes is rounded up to {size}, whole runs of {run_bytes} bytes", args.size));
    }
    let budget = args.budget.unwrap_or_else(|| {
        let quarter = size / 4;
        let needed = Config::min_budget_bytes(order, threads);
        if quarter < needed {
            note(&format!(
                "a quarter of the size is too small a budget for {threads} threads and runs of \
                 {run_bytes} bytes: it is {needed} bytes instead"
            ));
        }
        quarter.max(needed)
    });

    let (mode, faults_refused) = match (args.software, userfaultfd_available()) {
        (true, _) => (Mode::Software, None),
        (false, Ok(())) => (Mode::Faults, None),
        (false, Err(refused)) => {
            note(&format!("no real page faults: {refused}"));
            note("the same job runs through an accessor instead, as with --software");
            (Mode::Software, Some(refused.to_string()))
        }
    };
    let config = Config::new(size, budget).order(order).handlers(threads).mode(mode);
    config.check().map_err(|error| error.to_string())?;

    let nr_records = usize::try_from(size).map_err(|_| "the size is too large")? / RECORD_BYTES;
    let mut input = input::read(&args.input, nr_records)?;
    if input.cut && !args.input.is_empty() {
        note(&format!(
            "the input is larger than {}: only so much of it is used, give a larger --size for all",
            bytes(size)
        ));
    }
    let asked = Asked {
        input_bytes: input.read_bytes,
        size_bytes: size,
        budget_bytes: budget / run_bytes * run_bytes,
        order: args.order,
        threads,
        faults_refused,
    };

    let pool = ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|error| format!("cannot start {threads} threads: {error}"))?;
    let space = Space::new().map_err(|error| error.to_string())?;
    let work = |region: &mut Region<'_>| {
        let progress = Progress::new(region.monitor(), size);
        let finished = AtomicBool::new(false);
        let (end, times) = thread::scope(|scope| {
            let watcher = scope.spawn(|| progress.watch(&finished, &stop));
            // However the work ends, the watcher must too: the scope waits for it.
            let _finish = OnDrop(|| {
                finished.store(true, Relaxed);
                watcher.thread().unpark();
            });
            pool.install(|| job::run(region, &mut input.records, &progress, &stop))
        });
        (end, times, progress.finish())
    };
    let ((end, times, phases), stats) = run_region(&space, &config, work).map_err(|error| error.to_string())?;

    let report = Report::new(asked, &end, &stats, &phases, &times);
    print(&report, args.json).map_err(|error| format!("cannot print the report: {error}"))?;
    Ok(match end {
        End::Equal => EXIT_EQUAL,
        End::Different(_) => EXIT_DIFFERENT,
        End::Stopped(_) => EXIT_INTERRUPTED,
    })
}

/// Tables, or the same as JSON alone; a bad end is also said on standard error.
fn print(report: &Report, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, report)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{}", output::tables(report))?;
        if report.outcome == "equal" {
            writeln!(out, "{}", output::verdict(report))?;
        }
    }
    out.flush()?;
    if report.outcome != "equal" {
        eprintln!("{}", output::verdict(report));
    }
    Ok(())
}

fn note(text: &str) {
    eprintln!("note: {text}");
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
