//! The rows: which pair, on how many objects, who takes part, and what is wanted of farpage.

#![forbid(unsafe_code)]

/// What is done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// One more reference by a holder, and one fewer. The yardstick is `Arc`.
    Clone,
    /// A reference by whoever has none, and one fewer. The yardstick is a bare compare-exchange and subtraction.
    Get,
    /// Locked and unlocked. The yardstick is `parking_lot`'s mutex.
    Lock,
}

/// A row of the benchmark: it becomes a table, with a line for each contestant.
#[derive(Clone, Debug)]
pub struct Row {
    /// What parts are chosen by.
    pub name: String,
    /// What a step is.
    pub what: What,
    /// On one, or on many at random.
    pub nr_objects: usize,
    /// How many times as long as the yardstick farpage may take on one thread; none where nothing was promised.
    pub wanted: Option<f64>,
}

/// All rows, as promised or tiny.
pub fn rows(quick: bool) -> Vec<Row> {
    let many = if quick { 1 << 8 } else { 1 << 20 };
    let sizes = [("same", 1), ("random in L2", if quick { 1 << 6 } else { 1 << 13 }), ("random", many)];
    let whats = [("clone", What::Clone, Some(1.0)), ("get", What::Get, Some(1.15)), ("lock", What::Lock, None)];
    let row = |(what, size): ((&str, What, Option<f64>), (&str, usize))| Row {
        name: format!("{} {}", what.0, size.0),
        what: what.1,
        nr_objects: size.1,
        wanted: what.2.filter(|_| !quick),
    };
    whats.into_iter().flat_map(|what| sizes.map(|size| (what, size))).map(row).collect()
}
