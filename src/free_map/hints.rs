//! [`Hints`]: which blocks may be worth a look. The search that must be exact does not ask them.
//!
//! A release takes a block out of a set without looking twice, and only if it is in it: the sets' lines are mostly read.
//! Whoever puts a block in looks at the block once more, so that a release in between does not leave it hidden for long.
#![forbid(unsafe_code)]

use super::summary::Summary;
use crate::sparse::{NoMemory, ReserveError};

/// Two sets of blocks.
pub(crate) struct Hints {
    /// Blocks without a free page.
    full: Summary,
    /// Blocks with a taken page.
    taken: Summary,
}

impl Hints {
    pub(super) fn new(nr_blocks: u64) -> Result<Hints, ReserveError> {
        Ok(Hints { full: Summary::new(nr_blocks)?, taken: Summary::new(nr_blocks)? })
    }

    pub(super) fn populate(&self, block: u64) -> Result<(), NoMemory> {
        self.full.populate(block)?;
        self.taken.populate(block)
    }

    /// The first block of `from..end` that may have a free page.
    pub(crate) fn next_with_room(&self, from: u64, end: u64) -> Option<u64> {
        self.full.next_absent(from, end)
    }

    /// The first block of `from..end` that may have no taken page.
    pub(crate) fn next_free(&self, from: u64, end: u64) -> Option<u64> {
        self.taken.next_absent(from, end)
    }

    /// `block` has a taken page, unless `is_free` says so after it was noted.
    pub(super) fn note_taken(&self, block: u64, is_free: impl FnOnce() -> bool) {
        if self.taken.insert(block) && is_free() {
            self.taken.remove(block);
        }
    }

    /// `block` has no taken page.
    pub(super) fn note_free(&self, block: u64) {
        if self.taken.contains(block) {
            self.taken.remove(block);
        }
    }

    /// `block` has no free page, if `is_full` says so after it was noted, too.
    pub(super) fn note_full(&self, block: u64, is_full: impl Fn() -> bool) {
        if is_full() && self.full.insert(block) && !is_full() {
            self.full.remove(block);
        }
    }

    /// `block` has a free page.
    pub(super) fn note_room(&self, block: u64) {
        if self.full.contains(block) {
            self.full.remove(block);
        }
    }

    /// Bytes of metadata: reserved and populated.
    pub(super) fn bytes(&self) -> (u64, u64) {
        let (full, taken) = (self.full.bytes(), self.taken.bytes());
        (full.0 + taken.0, full.1 + taken.1)
    }
}
