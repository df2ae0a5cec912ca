//! Splits of a block into pages, and what else has 512 pages to do with: the ways that are compared, checked and timed.

#![forbid(unsafe_code)]

use std::fmt;
use std::time::Instant;

use farpage::{Device, Folio, Order};
use serde::Serialize;

use crate::report::{Compared, Judged, Wanted};

/// Pages of a block.
pub const PAGES: usize = 512;

/// A way to have 512 pages, and to give them back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// 512 allocations and 512 frees: the yardstick.
    OneByOne,
    /// `alloc_many`, and 512 frees.
    Many,
    /// A block, split into 512 folios, which are freed one by one.
    Split,
    /// A block, split into 512 folios, which are freed together with the iterator.
    SplitTogether,
    /// A block, split around its middle page; ten folios.
    Around,
    /// A block, and that is all.
    Whole,
}

impl Way {
    /// All of them, the yardstick first.
    pub const ALL: [Way; 6] = [Way::OneByOne, Way::Many, Way::Split, Way::SplitTogether, Way::Around, Way::Whole];

    /// What tables and command lines call it.
    pub fn name(self) -> &'static str {
        match self {
            Way::OneByOne => "allocations",
            Way::Many => "alloc_many",
            Way::Split => "split",
            Way::SplitTogether => "split-together",
            Way::Around => "split-around",
            Way::Whole => "whole",
        }
    }

    /// What is wanted of it, in times the yardstick.
    pub fn wanted(self) -> Option<Wanted> {
        matches!(self, Way::Split | Way::SplitTogether).then_some(Wanted::AtMost(1.0))
    }

    /// Has the pages once, in `folios`, and gives them back.
    #[inline]
    pub fn run<'s>(self, device: &Device<'s>, folios: &mut Vec<Folio<'s>>) {
        let block = || device.alloc(Order::HUGE).expect("a free block");
        match self {
            Way::OneByOne => folios.extend((0..PAGES).map(|_| device.alloc(Order::ZERO).expect("free pages"))),
            Way::Many => device.alloc_many(Order::ZERO, PAGES, folios).expect("free pages"),
            Way::Split => folios.extend(block().split(Order::ZERO).expect("nobody else has it")),
            Way::SplitTogether => drop(block().split(Order::ZERO).expect("nobody else has it")),
            Way::Around => folios.extend(block().split_around(256, Order::ZERO).expect("nobody else has it")),
            Way::Whole => folios.push(block()),
        }
        folios.clear();
    }

    /// Does what it says, once.
    pub fn check(self, device: &Device<'_>) {
        let mut folios = Vec::new();
        let block = || device.alloc(Order::HUGE).expect("a free block");
        let nr = match self {
            Way::OneByOne | Way::Many => return self.run(device, &mut folios),
            Way::Split | Way::SplitTogether => {
                folios.extend(block().split(Order::ZERO).expect("nobody else has it"));
                PAGES
            }
            Way::Around => {
                folios.extend(block().split_around(256, Order::ZERO).expect("nobody else has it"));
                10
            }
            Way::Whole => {
                folios.push(block());
                1
            }
        };
        assert_eq!((folios.len(), device.nr_live_pages()), (nr, PAGES as u64));
        let pages: u64 = folios.iter().map(Folio::nr_pages).sum();
        assert_eq!(pages, PAGES as u64, "each page is in one part");
    }

    /// Nanoseconds of one run, over `runs`.
    pub fn time(self, device: &Device<'_>, runs: usize) -> f64 {
        let mut folios = Vec::with_capacity(PAGES);
        (0..runs.div_ceil(4)).for_each(|_| self.run(device, &mut folios));
        let start = Instant::now();
        (0..runs).for_each(|_| self.run(device, &mut folios));
        start.elapsed().as_nanos() as f64 / runs as f64
    }
}

/// All ways.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// Rounds that each median is of.
    pub nr_rounds: usize,
    /// In the order of [`Way::ALL`].
    pub lines: Vec<Compared>,
}

impl Judged for Table {
    fn verdicts(&self) -> Vec<bool> {
        self.lines.iter().filter_map(|line| line.met).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n512 pages, had and given back; {} rounds, median (quartiles)", self.nr_rounds)?;
        writeln!(f, "  {:<18}{:>28}{:>24}  wanted", "way", "ns", "x 512 allocations")?;
        for line in &self.lines {
            writeln!(f, "  {:<18}{:>28.0}{:>24.2}  {}", line.name, line.nanos, line.ratio, line.verdict())?;
        }
        Ok(())
    }
}
