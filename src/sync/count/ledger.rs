//! [`Ledger`]: who holds a copy of each cache line, and what the operations of a run cost.
//!
//! As in a cache that never evicts: a write leaves its thread with the only copy of the line, a read adds one. No clock
//! and no threads are known here; see `turns`. Above: `run`.

use core::ops::AddAssign;
use core::panic::Location;
use std::collections::{BTreeMap, HashMap};

/// Bytes of a cache line, as a power of two.
const LINE_SHIFT: u32 = 6;

/// What operations cost. The [module](super) says what each number counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Operations that these are the counts of.
    pub ops: u64,
    /// Read-modify-writes, those that failed included.
    pub rmws: u64,
    /// Compare-exchanges that failed.
    pub failed_rmws: u64,
    /// Writes, read-modify-writes included.
    pub writes: u64,
    /// Lines written, each once an operation.
    pub lines_written: u64,
    /// Writes to a line that another thread was the last to write.
    pub remote_writes: u64,
    /// Remote writes of another word than the last writer's.
    pub neighbour_writes: u64,
    /// Reads of a line that another thread has written since this one last saw it.
    pub contended_reads: u64,
    /// Heavy barriers.
    pub heavy_barriers: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.ops += other.ops;
        self.rmws += other.rmws;
        self.failed_rmws += other.failed_rmws;
        self.writes += other.writes;
        self.lines_written += other.lines_written;
        self.remote_writes += other.remote_writes;
        self.neighbour_writes += other.neighbour_writes;
        self.contended_reads += other.contended_reads;
        self.heavy_barriers += other.heavy_barriers;
    }
}

/// What one place in the source has cost, in all operations of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteCounts {
    /// Where the access is: `file:line`, the file relative to this package where it is of this package.
    pub site: String,
    /// `ops`, `lines_written` and `heavy_barriers` are 0: they belong to no place.
    pub counts: Counts,
}

/// One access to a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Store,
    Rmw,
    /// A compare-exchange that changed nothing.
    FailedRmw,
}

pub(super) type Site = &'static Location<'static>;

/// See the [module](self).
pub(super) struct Ledger {
    lines: HashMap<usize, Line>,
    /// The operation that each thread is in.
    open: Box<[Option<OpenOp>]>,
    totals: Counts,
    sites: BTreeMap<Site, Counts>,
}

#[derive(Default)]
struct Line {
    last_write: Option<LastWrite>,
    /// The threads whose copy is good, a bit each.
    holders: Box<[u64]>,
}

struct LastWrite {
    thread: usize,
    address: usize,
}

#[derive(Default)]
struct OpenOp {
    counts: Counts,
    lines_written: Vec<usize>,
}

impl Ledger {
    pub(super) fn new(threads: usize) -> Ledger {
        Ledger {
            lines: HashMap::new(),
            open: (0..threads).map(|_| None).collect(),
            totals: Counts::default(),
            sites: BTreeMap::new(),
        }
    }

    /// `thread` begins an operation. One that it was in, and left by a panic, is forgotten.
    pub(super) fn begin_op(&mut self, thread: usize) {
        self.open[thread] = Some(OpenOp::default());
    }

    /// `thread` ends its operation, which has cost what is returned.
    pub(super) fn end_op(&mut self, thread: usize) -> Counts {
        let Some(op) = self.open[thread].take() else { return Counts::default() };
        let counts = Counts { ops: 1, lines_written: op.lines_written.len() as u64, ..op.counts };
        self.totals += counts;
        counts
    }

    /// `thread` has accessed the word at `address`.
    pub(super) fn note(&mut self, thread: usize, address: usize, site: Site, access: Access) {
        let line_nr = address >> LINE_SHIFT;
        let nr_words = self.open.len().div_ceil(64);
        let line = self.lines.entry(line_nr).or_insert_with(|| Line::new(nr_words));
        let cost = line.access(thread, address, access);
        // Who holds which line is kept up all the time; what that costs is somebody's only in an operation.
        let Some(op) = &mut self.open[thread] else { return };
        if access != Access::Read && !op.lines_written.contains(&line_nr) {
            op.lines_written.push(line_nr);
        }
        op.counts += cost;
        *self.sites.entry(site).or_default() += cost;
    }

    pub(super) fn note_heavy_barrier(&mut self, thread: usize) {
        if let Some(op) = &mut self.open[thread] {
            op.counts.heavy_barriers += 1;
        }
    }

    /// All that was counted, and where: the costliest first.
    pub(super) fn close(self) -> (Counts, Vec<SiteCounts>) {
        let mut sites: Vec<_> =
            self.sites.into_iter().map(|(site, counts)| SiteCounts { site: name(site), counts }).collect();
        let rank = |counts: Counts| (counts.remote_writes, counts.contended_reads, counts.writes);
        sites.sort_by(|a, b| rank(b.counts).cmp(&rank(a.counts)).then_with(|| a.site.cmp(&b.site)));
        (self.totals, sites)
    }
}

impl Line {
    fn new(nr_words: usize) -> Line {
        Line { last_write: None, holders: vec![0; nr_words].into_boxed_slice() }
    }

    fn access(&mut self, thread: usize, address: usize, access: Access) -> Counts {
        let (word, bit) = (thread / 64, 1 << (thread % 64));
        let mut cost = Counts::default();
        if access == Access::Read {
            // Before the first write that is known of nobody's copy is out of date.
            cost.contended_reads = u64::from(self.last_write.is_some() && self.holders[word] & bit == 0);
        } else {
            let remote = self.last_write.as_ref().filter(|last| last.thread != thread);
            cost = Counts {
                writes: 1,
                rmws: u64::from(access != Access::Store),
                failed_rmws: u64::from(access == Access::FailedRmw),
                remote_writes: u64::from(remote.is_some()),
                neighbour_writes: u64::from(remote.is_some_and(|last| last.address != address)),
                ..cost
            };
            self.last_write = Some(LastWrite { thread, address });
            self.holders.fill(0);
        }
        self.holders[word] |= bit;
        cost
    }
}

fn name(site: Site) -> String {
    let file = site.file();
    let file = file.strip_prefix(concat!(env!("CARGO_MANIFEST_DIR"), "/")).unwrap_or(file);
    format!("{file}:{}", site.line())
}
