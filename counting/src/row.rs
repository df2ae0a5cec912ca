//! [`Row`]: what one workload cost with one number of threads.

use farpage::Device;
use farpage::count::{self, Counts, Plan};
use serde::Serialize;

use crate::stage::{Effort, Stage, space};
use crate::workloads::{Kind, Workload};

/// See the [module](self). Figures are an operation's, on average.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The workload's name.
    pub workload: &'static str,
    /// What is promised of it.
    #[serde(skip)]
    pub kind: Kind,
    /// Logical threads.
    pub threads: usize,
    /// Counted operations of all threads.
    pub ops: u64,
    /// Read-modify-writes, failed ones included.
    pub rmws: f64,
    /// Compare-exchanges that failed.
    pub failed_rmws: f64,
    /// Writes, read-modify-writes included.
    pub writes: f64,
    /// Lines written.
    pub lines_written: f64,
    /// Writes to a line that another thread was the last to write.
    pub remote_writes: f64,
    /// Those of them that are to another word.
    pub neighbour_writes: f64,
    /// Reads of a line that another thread has written since.
    pub contended_reads: f64,
    /// Heavy barriers.
    pub heavy_barriers: f64,
    /// Pages that lie in caches when the workload has ended.
    pub cached_pages: u64,
    /// The places that remote writes and contended reads came from.
    pub sites: Vec<Site>,
}

/// What one place in the source cost an operation, on average.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Site {
    /// `file:line`.
    pub site: String,
    /// Writes that others' caches notice.
    pub remote_writes: f64,
    /// Those of them that are to another word.
    pub neighbour_writes: f64,
    /// Reads that notice others' writes.
    pub contended_reads: f64,
}

impl Row {
    /// Runs `workload` with `threads` threads on a new device.
    ///
    /// # Panics
    ///
    /// When the workload does, or leaves pages behind.
    pub fn count(workload: &Workload, threads: usize, effort: Effort) -> Row {
        let space = space(threads);
        let stage = Stage::new(&space.0, threads, effort);
        let plan = Plan { threads, seed: effort.seed, mean_turn: effort.mean_turn };
        let outcome = count::run(plan, |thread| (workload.work)(&stage, thread));
        assert_eq!(stage.device.nr_live_pages(), 0, "{} keeps nothing", workload.name);
        if let Err(violation) = space.0.validate() {
            panic!("after {}: {violation}", workload.name);
        }
        let Counts { ops, .. } = outcome.totals;
        let per_op = |count: u64| count as f64 / ops as f64;
        let sites = outcome.sites.iter().filter(|site| site.counts.remote_writes + site.counts.contended_reads > 0);
        Row {
            workload: workload.name,
            kind: workload.kind,
            threads,
            ops,
            rmws: per_op(outcome.totals.rmws),
            failed_rmws: per_op(outcome.totals.failed_rmws),
            writes: per_op(outcome.totals.writes),
            lines_written: per_op(outcome.totals.lines_written),
            remote_writes: per_op(outcome.totals.remote_writes),
            neighbour_writes: per_op(outcome.totals.neighbour_writes),
            contended_reads: per_op(outcome.totals.contended_reads),
            heavy_barriers: per_op(outcome.totals.heavy_barriers),
            cached_pages: cached_pages(&stage.device),
            sites: sites
                .map(|site| Site {
                    site: site.site.clone(),
                    remote_writes: per_op(site.counts.remote_writes),
                    neighbour_writes: per_op(site.counts.neighbour_writes),
                    contended_reads: per_op(site.counts.contended_reads),
                })
                .collect(),
        }
    }
}

/// Pages that no folio has and that yet are not in the free map, but in some thread's cache. The device does not report
/// them yet: this is the one place that has to ask it.
fn cached_pages(device: &Device<'_>) -> u64 {
    device.nr_cached_pages()
}
