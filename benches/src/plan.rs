//! What to run, from the environment and the command line.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `FARPAGE_BENCH_MAX_PAGES` | leave larger sizes out | all |
//! | `FARPAGE_BENCH_PEER_MAX_PAGES` | the same for the published crates | 1 Mi |
//! | `FARPAGE_BENCH_ADVICE` | `huge`, `base` or both: pages under the tables | both |
//! | `FARPAGE_BENCH_ROUNDS` | rounds in the tables | 21 |
//! | `FARPAGE_BENCH_PARTS` | `criterion`, `tables` or both | both |
//! | `FARPAGE_BENCH_JSON` | write the tables to this file (from `benches/` on) | nowhere |
//!
//! Variables and not flags, as criterion refuses flags that it does not know.

#![forbid(unsafe_code)]

use std::env;

use crate::chain::RUN;
use crate::plain::PageAdvice;

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Pages, from few to many.
    pub sizes: Vec<usize>,
    /// Pages under the tables, in the order of measurement: base pages first, as the allocator keeps pieces of a heap
    /// that was once advised to be huge.
    pub advices: Vec<PageAdvice>,
    /// The published crates take part up to here.
    pub peer_max_pages: usize,
    /// Interleaved rounds.
    pub nr_rounds: usize,
    /// Whether criterion's rows are wanted.
    pub criterion: bool,
    /// Whether the tables of ratios are wanted.
    pub tables: bool,
    /// Where the tables go besides.
    pub json: Option<String>,
    /// Only see that all of it works: tiny, once, and no figure is judged.
    pub quick: bool,
}

impl Plan {
    /// What was asked for, out of all `sizes`. Panics on a variable that is no number.
    pub fn from_environment(sizes: &[usize]) -> Self {
        let quick = is_quick();
        let max_pages = number("FARPAGE_BENCH_MAX_PAGES", usize::MAX);
        let sizes = if quick { &[2 * RUN] } else { sizes };
        Self {
            sizes: sizes.iter().copied().filter(|&nr_pages| nr_pages <= max_pages).collect(),
            advices: [PageAdvice::Base, PageAdvice::Huge]
                .into_iter()
                .filter(|advice| chosen("FARPAGE_BENCH_ADVICE", advice.name()))
                .collect(),
            peer_max_pages: number("FARPAGE_BENCH_PEER_MAX_PAGES", 1 << 20),
            nr_rounds: if quick { 2 } else { number("FARPAGE_BENCH_ROUNDS", 21) },
            criterion: chosen("FARPAGE_BENCH_PARTS", "criterion"),
            tables: chosen("FARPAGE_BENCH_PARTS", "tables") && !given("--list"),
            json: env::var("FARPAGE_BENCH_JSON").ok(),
            quick,
        }
    }
}

/// Whether only to see that all of it works. Cargo passes `--bench` for a measurement, and leaves it out under
/// `cargo test`.
pub fn is_quick() -> bool {
    !given("--bench") || given("--test") || given("--list")
}

fn given(flag: &str) -> bool {
    env::args().any(|argument| argument == flag)
}

/// Whether a list names a beginning of `one`; a list that is not there names all.
pub fn chosen_by_prefix(name: &str, one: &str) -> bool {
    env::var(name).map_or(true, |list| list.split(',').any(|item| one.starts_with(item.trim())))
}

/// Whether a list names `one` of its things; a list that is not there names all.
fn chosen(name: &str, one: &str) -> bool {
    env::var(name).map_or(true, |list| list.split(',').any(|item| item == one))
}

/// The number that a variable is. Panics when it is none.
pub fn number(name: &str, default: usize) -> usize {
    env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}
