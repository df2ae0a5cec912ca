//! Lookups of tails and of heads: the folios that are looked up, and in which order.

#![forbid(unsafe_code)]

use std::fmt;
use std::time::Instant;

use farpage::{Access, Device, Folio, Order, SoftLeaf, Space};
use serde::Serialize;

use crate::random::SplitMix;
use crate::report::{Compared, Judged, Wanted};

/// Passes over a set that are timed at once.
const PASSES: usize = 16;

/// Folios, a leaf word of each, and whether the words are of tails. The private word of each folio is the leaf word that is
/// looked up next.
#[derive(Debug)]
pub struct Set<'s> {
    name: &'static str,
    folios: Vec<Folio<'s>>,
    /// In the order in which they are looked up.
    leaves: Vec<SoftLeaf>,
    /// The set that it is compared with, and what is wanted.
    yardstick: usize,
    wanted: Option<Wanted>,
}

/// What the lookups have to do with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Nothing.
    Independent,
    /// Each is of the leaf that the one before has found.
    Chase,
    /// Nothing, and they are by `Space::page`, of offsets, without a word that says what is there.
    Page,
}

fn order(order: u8) -> Order {
    Order::new(order).expect("an order below 18")
}

impl<'s> Set<'s> {
    fn new(space: &Space, name: &'static str, mut folios: Vec<Folio<'s>>, is_tails: bool) -> Self {
        let mut random = SplitMix::new(0x7461_696c);
        random.shuffle(&mut folios);
        let leaves = folios.iter().map(|folio| {
            // The words alone are wanted; the handles keep the folios.
            let head = folio.clone().into_leaf(Access::Write);
            drop(space.take(head).expect("it was just made"));
            let page = if is_tails { 1 + random.below(folio.nr_pages() as usize - 1) } else { 0 };
            head.for_page(page as u64).expect("a page of the folio")
        });
        let leaves = leaves.collect();
        Set { name, folios, leaves, yardstick: 0, wanted: None }
    }

    fn against(self, yardstick: usize, most: f64) -> Self {
        Set { yardstick, wanted: Some(Wanted::AtMost(most)), ..self }
    }

    /// All sets of `nr_folios` each, on an empty device of at least 64 pages a folio. Heads and tails of a pair of sets have folios
    /// laid out alike.
    pub fn all(space: &Space, device: &Device<'s>, nr_folios: usize) -> Vec<Set<'s>> {
        let many = |n: u8, nr: usize| {
            let mut folios = Vec::new();
            device.alloc_many(order(n), nr, &mut folios).expect("room");
            folios
        };
        let nr_huge = (nr_folios / 32).max(1);
        let mut sets = vec![
            Set::new(space, "heads, order 4", many(4, nr_folios), false),
            Set::new(space, "tails, order 4", many(4, nr_folios), true).against(0, 1.3),
            Set::new(space, "heads, order 9", many(9, nr_huge), false),
            Set::new(space, "tails, order 9", many(9, nr_huge), true).against(2, 1.3),
        ];
        sets[2].yardstick = 2;
        for (name, is_tails) in [("heads, mixed block", false), ("tails, mixed block", true)] {
            sets.push(Set::new(space, name, mixed(device, nr_folios), is_tails).against(0, 2.5));
        }
        sets
    }

    /// Links the folios into a cycle in the set's order.
    fn link(&self) -> u64 {
        let next = self.leaves.iter().cycle().skip(1);
        for (folio, next) in self.folios.iter().zip(next) {
            folio.set_private(next.bits());
        }
        self.leaves.iter().fold(0, |sum: u64, leaf| sum.wrapping_add(leaf.bits()))
    }

    /// Nanoseconds a lookup.
    pub fn time(&self, space: &Space, pattern: Pattern) -> f64 {
        let expected = self.link();
        let private = |leaf| space.lookup(leaf).expect("a live leaf").private();
        self.time_passes(|| match pattern {
            Pattern::Independent => {
                let sum = self.leaves.iter().fold(0u64, |sum, &leaf| sum.wrapping_add(private(leaf)));
                assert_eq!(sum, expected, "each lookup led to its folio");
            }
            Pattern::Page => {
                let private = |leaf: &SoftLeaf| {
                    leaf.offset().and_then(|offset| space.page(offset)).expect("a live page").private()
                };
                let sum = self.leaves.iter().fold(0u64, |sum, leaf| sum.wrapping_add(private(leaf)));
                assert_eq!(sum, expected, "each lookup led to its folio");
            }
            Pattern::Chase => {
                let first = self.leaves[0];
                let last = (0..self.leaves.len()).fold(first, |leaf, _| SoftLeaf::from_bits(private(leaf)));
                assert_eq!(last, first, "once round");
            }
        })
    }

    fn time_passes(&self, pass: impl Fn()) -> f64 {
        // As many lookups for sets of fewer folios.
        let passes = PASSES * (1 << 14) / self.leaves.len();
        pass();
        let start = Instant::now();
        (0..passes.max(1)).for_each(|_| pass());
        start.elapsed().as_nanos() as f64 / (passes.max(1) * self.leaves.len()) as f64
    }

    /// What it is called, and what is wanted of it.
    pub fn name_and_wanted(&self) -> (&'static str, Option<Wanted>) {
        (self.name, self.wanted)
    }

    /// The set that it is compared with.
    pub fn yardstick(&self) -> usize {
        self.yardstick
    }
}

/// Folios of order 4 in blocks that have others of order 2: whose runs are known only from the pages' own words.
fn mixed<'s>(device: &Device<'s>, nr_folios: usize) -> Vec<Folio<'s>> {
    let per_block = 512 / 16;
    let mut all: Vec<Folio<'s>> = Vec::new();
    for _ in 0..(2 * nr_folios).div_ceil(per_block) {
        // A block in parts of order 4, every other of them in parts of order 2.
        let block = device.alloc(Order::HUGE).expect("room");
        for (at, part) in block.split(order(4)).expect("nobody else has it").enumerate() {
            match at % 2 {
                0 => all.push(part),
                _ => drop(part.split(order(2)).expect("nobody else has it").step_by(2).last()),
            }
        }
    }
    all.truncate(nr_folios);
    all
}

/// All sets in one pattern.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// What the lookups have to do with each other.
    pub pattern: &'static str,
    /// Folios of a set.
    pub nr_folios: usize,
    /// Rounds that each median is of.
    pub nr_rounds: usize,
    /// In the order of [`Set::all`].
    pub lines: Vec<Compared>,
}

impl Judged for Table {
    fn verdicts(&self) -> Vec<bool> {
        self.lines.iter().filter_map(|line| line.met).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Table { pattern, nr_folios, nr_rounds, .. } = self;
        writeln!(f, "\nlookups of {nr_folios} folios, {pattern}; {nr_rounds} rounds, median (quartiles)")?;
        writeln!(f, "  {:<20}{:>24}{:>24}  wanted", "words of", "ns", "x heads")?;
        for line in &self.lines {
            writeln!(f, "  {:<20}{:>24.2}{:>24.2}  {}", line.name, line.nanos, line.ratio, line.verdict())?;
        }
        Ok(())
    }
}
