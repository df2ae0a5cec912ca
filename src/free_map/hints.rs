//! [`Hints`]: which blocks may be worth a look. The search that must be exact does not ask them.
//!
//! A release changes a set only when a block goes from "nothing" to "something", so the sets' lines are mostly read.
//! Whoever says that a block has nothing looks at the block once more, so that a release in between does not leave it
//! hidden for long.
#![forbid(unsafe_code)]

use super::index::Index;
use crate::class::Class;
use crate::geometry::BLOCK_SHIFT;
use crate::sparse::{NoMemory, ReserveError};

/// Orders below a block, and mixed ones.
const NR_CLASSES: usize = BLOCK_SHIFT as usize + 1;

/// Sets of blocks.
pub(crate) struct Hints {
    /// For each class, blocks of it with a free page.
    room: [Index<false>; NR_CLASSES],
    /// Blocks without a taken page.
    free: Index<true>,
}

/// The number of a class that goes by its bits.
fn number(class: Class) -> Option<usize> {
    match class {
        Class::Uniform(order) => Some(usize::from(order.get())).filter(|&order| order < NR_CLASSES - 1),
        Class::Mixed => Some(NR_CLASSES - 1),
        Class::Unused => None,
    }
}

impl Hints {
    pub(super) fn new(nr_blocks: u64) -> Result<Hints, ReserveError> {
        let mut room = Vec::new();
        for _ in 0..NR_CLASSES {
            room.push(Index::new(nr_blocks)?);
        }
        let Ok(room) = room.try_into() else { unreachable!("an index for each class") };
        Ok(Hints { room, free: Index::new(nr_blocks)? })
    }

    pub(super) fn populate(&self, block: u64) -> Result<(), NoMemory> {
        self.free.populate(block)
    }

    /// Makes room to note a block of `class`.
    pub(super) fn populate_class(&self, block: u64, class: Class) -> Result<(), NoMemory> {
        number(class).map_or(Ok(()), |class| self.room[class].populate(block))
    }

    /// The first block of `from..end` that may be of `class` and have a free page.
    pub(crate) fn next_with_room(&self, class: Class, from: u64, end: u64) -> Option<u64> {
        self.room[number(class)?].next(from, end)
    }

    /// The first block of `from..end` that may have no taken page.
    pub(crate) fn next_free(&self, from: u64, end: u64) -> Option<u64> {
        self.free.next(from, end)
    }

    /// `block` has a taken page, unless `is_free` says so after it was noted.
    pub(super) fn note_taken(&self, block: u64, is_free: impl FnOnce() -> bool) {
        if self.free.remove(block) && is_free() {
            self.free.insert(block);
        }
    }

    /// `block` has no taken page.
    pub(super) fn note_free(&self, block: u64) {
        self.free.insert(block);
    }

    /// `block`, of `class`, has a free page.
    pub(super) fn note_room(&self, block: u64, class: Class) {
        if let Some(class) = number(class) {
            self.room[class].insert(block);
        }
    }

    /// `block` is not of `class`, or has no free page, unless `has_room` says so after it was noted.
    pub(super) fn note_no_room(&self, block: u64, class: Class, has_room: impl FnOnce() -> bool) {
        if let Some(class) = number(class) {
            if self.room[class].remove(block) && has_room() {
                self.room[class].insert(block);
            }
        }
    }

    /// Bytes of metadata: reserved and populated.
    pub(super) fn bytes(&self) -> (u64, u64) {
        let room = self.room.iter().map(Index::bytes);
        room.fold(self.free.bytes(), |sum, bytes| (sum.0 + bytes.0, sum.1 + bytes.1))
    }
    /// Bytes of the populated ones that lie in memory; `None` where the system does not say.
    pub(super) fn resident_bytes(&self) -> Option<u64> {
        let room: Option<u64> = self.room.iter().map(Index::resident_bytes).sum();
        Some(room? + self.free.resident_bytes()?)
    }
}
