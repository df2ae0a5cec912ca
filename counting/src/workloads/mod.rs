//! What is counted. One operation is one allocation, one free, or one lookup.

pub mod apart;
pub mod cache;
pub mod lookup;
pub mod private;

use crate::stage::Stage;

/// What farpage promises of a workload; see [`limits`](crate::limits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Each thread allocates and frees for itself: threads should not notice each other.
    Private,
    /// Nothing is to be written.
    Lookup,
    /// What one thread allocates another frees: lines must move, and the row says how many.
    Apart,
}

/// One workload.
#[derive(Clone, Copy)]
pub struct Workload {
    /// As the table has it.
    pub name: &'static str,
    /// What is promised.
    pub kind: Kind,
    /// With fewer threads it is not done.
    pub min_threads: usize,
    /// What each thread does, called with its number: prepares itself, comes to the rendezvous, and does its counted
    /// operations. What it holds at the end is given back uncounted.
    pub work: fn(&Stage<'_>, usize),
}

/// All of them, in the order of the table.
pub const ALL: &[Workload] = &[
    Workload { name: "hot pair, order 0", kind: Kind::Private, min_threads: 1, work: private::hot_pair::<0> },
    Workload { name: "hot pair, order 0, cache", kind: Kind::Private, min_threads: 1, work: cache::hot_pair },
    Workload { name: "random, order 0", kind: Kind::Private, min_threads: 1, work: private::random::<0, 200> },
    Workload { name: "bulk of 1,024, order 0", kind: Kind::Private, min_threads: 1, work: private::bulk },
    Workload { name: "hot pair, order 3", kind: Kind::Private, min_threads: 1, work: private::hot_pair::<3> },
    Workload { name: "hot pair, order 9", kind: Kind::Private, min_threads: 1, work: private::hot_pair::<9> },
    Workload { name: "random, order 9", kind: Kind::Private, min_threads: 1, work: private::random::<9, 8> },
    Workload { name: "lookup, own leaves", kind: Kind::Lookup, min_threads: 1, work: lookup::own },
    Workload { name: "lookup, others' leaves", kind: Kind::Lookup, min_threads: 2, work: lookup::others },
    Workload { name: "alloc here, free there", kind: Kind::Apart, min_threads: 2, work: apart::parcels },
];
