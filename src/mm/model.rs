//! What `loom-tests` reaches of address spaces: thin faces, as in `crate::model`. Nothing here synchronises anything.
#![allow(missing_docs, reason = "no part of the public face")]
#![allow(clippy::new_without_default, reason = "as above")]

use core::time::Duration;

use super::entry::Entry;
use super::notifier::Sequence;
use super::page_table::{PageTable, Span, index};
use super::table::ENTRIES;
use crate::words::SoftLeaf;

/// Pages of one table of the last level.
pub const TABLE_PAGES: u64 = ENTRIES as u64;

/// The tables of an address space.
pub struct Tree(PageTable);

impl Tree {
    pub fn new() -> Tree {
        Tree(PageTable::new().ok().expect("memory"))
    }

    /// Sets the leaf of a page under its table's lock, with a table put in if need be.
    pub fn set(&self, vpn: u64, leaf: SoftLeaf) {
        match self.0.span_or_build(vpn) {
            Ok(Span::Small(mut table)) => table.set_leaf(index(vpn, 0), leaf),
            _ => unreachable!("no model has huge leaves"),
        }
    }

    /// Clears the leaf of a page, and takes its table out of the tree if it is empty.
    pub fn clear(&self, vpn: u64) {
        if let Span::Small(mut table) = self.0.span(vpn) {
            table.set(index(vpn, 0), Entry::NONE);
        }
        self.0.prune(vpn);
    }

    /// The leaf of a page, without a lock.
    pub fn peek(&self, vpn: u64) -> SoftLeaf {
        self.0.peek(vpn).leaf
    }

    /// The leaf of a page, under its table's lock.
    pub fn locked(&self, vpn: u64) -> SoftLeaf {
        match self.0.span(vpn) {
            Span::Small(table) => table.leaf(index(vpn, 0)),
            _ => SoftLeaf::NONE,
        }
    }

    /// Tables in the tree, and tables made.
    pub fn nr_tables(&self) -> (u32, u32) {
        self.0.nr_tables()
    }
}

/// The sequence number of an interval.
pub struct Interval(Sequence);

impl Interval {
    pub fn new() -> Interval {
        Interval(Sequence::new())
    }

    pub fn begin(&self) {
        self.0.begin();
    }

    pub fn end(&self) {
        self.0.end();
    }

    pub fn read_begin(&self) -> u64 {
        self.0.read_begin(Duration::MAX).expect("time stands still in a model")
    }

    pub fn read_retry(&self, seen: u64) -> bool {
        self.0.read_retry(seen)
    }
}
