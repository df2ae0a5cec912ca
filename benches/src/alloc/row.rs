//! The rows: which course, who takes part, and what is wanted of farpage on it.

#![forbid(unsafe_code)]

use super::drive::{Course, Pattern};

/// Who takes part, besides the yardstick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// farpage's `Cache` alone; its rivals are those of the row without a cache.
    Cache,
    /// Whoever can allocate single pages.
    Pages,
    /// Whoever can allocate runs of one length.
    Folios,
    /// Whoever can allocate runs of any length.
    Ranges,
}

/// A row of the benchmark: it becomes a table, with a line for each contestant.
#[derive(Clone, Debug)]
pub struct Row {
    /// What parts are chosen by.
    pub name: String,
    /// What a step is.
    pub step: &'static str,
    /// What is run.
    pub course: Course,
    /// By whom.
    pub field: Field,
    /// The most that farpage may take on one thread, in read-modify-writes.
    pub wanted: f64,
    /// Whether a request for which there is no run is a miss.
    pub never_fails: bool,
    /// How long a contestant runs untimed before each timed turn, in turns: what it holds, its rivals have driven
    /// from the caches.
    pub warm_turns: usize,
}

const PAIR: &str = "a pair of alloc and free";

/// All rows, as promised or tiny.
pub fn rows(quick: bool) -> Vec<Row> {
    let mut rows = vec![
        Row { field: Field::Cache, ..row("cache order 0 hot", Pattern::Hot, 0, 3.0, quick) },
        row("order 0 hot", Pattern::Hot, 0, 4.5, quick),
        random("order 0 random", 0, if quick { 2000 } else { 400_000 }, 9.0, quick),
        row("order 0 bulk", Pattern::Bulk { batch: 4096, at_once: false }, 0, 4.0, quick),
        row("order 0 bulk by alloc_many", Pattern::Bulk { batch: 4096, at_once: true }, 0, 4.0, quick),
        Row {
            step: "a page allocated by alloc_many (rivals: one by one)",
            ..row("alloc_many 512", Pattern::Batch { batch: 512 }, 0, 1.0, quick)
        },
    ];
    for order in 1..=9 {
        rows.push(row(&format!("order {order} hot"), Pattern::Hot, order, 6.0, quick));
    }
    let half = device_pages(quick) as usize >> 9 >> 1;
    rows.push(random("order 9 random at half full", 9, half, 12.0, quick));
    for percent in [50, 80] {
        for exponent in [1, 2] {
            let longest = if quick { 64 } else { 4096 };
            let name = format!("range mixed {percent} % 1/n^{exponent}");
            let pattern = Pattern::Mixed { percent, exponent, longest };
            rows.push(Row {
                field: Field::Ranges,
                warm_turns: 3,
                never_fails: percent == 80,
                ..row(&name, pattern, 0, 12.0, quick)
            });
        }
    }
    rows
}

fn row(name: &str, pattern: Pattern, order: u8, wanted: f64, quick: bool) -> Row {
    Row {
        name: name.into(),
        step: PAIR,
        course: Course { pattern, run_pages: 1 << order, device_pages: device_pages(quick) },
        field: if order == 0 { Field::Pages } else { Field::Folios },
        wanted,
        never_fails: false,
        warm_turns: 1,
    }
}

fn random(name: &str, order: u8, held: usize, wanted: f64, quick: bool) -> Row {
    Row { warm_turns: 3, ..row(name, Pattern::Random { held }, order, wanted, quick) }
}

/// 8 GiB of 4 KiB pages.
fn device_pages(quick: bool) -> u32 {
    if quick { 1 << 14 } else { 1 << 21 }
}
