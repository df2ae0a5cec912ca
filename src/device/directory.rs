//! [`Directory`]: which device's range an offset lies in, whether or not anything was ever allocated there.
//!
//! Two arrays of device numbers, both found by arithmetic: one for each unit of the largest order (1 GiB), which says
//! whose it is, or that several share it; and one for each block, for those. So a device is entered by a word for each
//! unit that is all its own and one for each of at most two units' blocks, and an offset is looked up by two loads.
//!
//! A number is a hint: what the table of devices has under it says whether it is true. Below: `sparse`. Above: `table`.
#![forbid(unsafe_code)]

use core::ops::Range;

use crate::geometry::{BLOCK_SHIFT, MAX_ORDER, block_of, blocks_for};
use crate::sparse::{Layout, NoMemory, ReserveError, SparseArray};
use crate::sync::{AtomicU32, Ordering::Relaxed};
use crate::words::{Offset, OffsetRange};

/// log2 of the blocks of a unit.
const UNIT_SHIFT: u32 = MAX_ORDER as u32 - BLOCK_SHIFT;

/// In a unit's word: the words of its blocks say whose they are.
const SHARED: u32 = u32::MAX;

/// Numbers of devices by offset. 0 is nobody's.
pub(super) struct Directory {
    units: SparseArray<AtomicU32>,
    blocks: SparseArray<AtomicU32>,
}

/// A part of a device's range: one unit that is all its own, or some blocks of one.
struct Part {
    unit: u64,
    /// All blocks of the unit or fewer.
    blocks: Range<u64>,
}

impl Part {
    fn is_whole(&self) -> bool {
        self.blocks.end - self.blocks.start == 1 << UNIT_SHIFT
    }
}

/// The parts of `range`, which starts at a block and has its last block for itself.
fn parts_of(range: OffsetRange) -> impl Iterator<Item = Part> {
    let first = block_of(range.start().get());
    let end = first + blocks_for(range.nr_pages());
    (first >> UNIT_SHIFT..end.div_ceil(1 << UNIT_SHIFT))
        .map(move |unit| Part { unit, blocks: first.max(unit << UNIT_SHIFT)..end.min((unit + 1) << UNIT_SHIFT) })
}

impl Directory {
    pub(super) fn new(nr_pages: u64) -> Result<Directory, ReserveError> {
        let nr_blocks = blocks_for(nr_pages);
        let array = |len| SparseArray::new(Layout { len, chunk_bytes: 4096, huge: false });
        Ok(Directory { units: array(nr_blocks.div_ceil(1 << UNIT_SHIFT))?, blocks: array(nr_blocks)? })
    }

    /// Memory for the words of `range`, so that `enter` needs none.
    pub(super) fn populate(&self, range: OffsetRange) -> Result<(), NoMemory> {
        for part in parts_of(range) {
            self.units.populate(part.unit)?;
            if !part.is_whole() {
                for block in part.blocks {
                    self.blocks.populate(block)?;
                }
            }
        }
        Ok(())
    }

    /// Makes `range` known as that of device `number`. One caller at a time, after `populate`.
    pub(super) fn enter(&self, range: OffsetRange, number: u32) {
        self.write(range, number);
    }

    /// The same for a range that is nobody's any more.
    pub(super) fn leave(&self, range: OffsetRange) {
        self.write(range, 0);
    }

    fn write(&self, range: OffsetRange, number: u32) {
        for part in parts_of(range) {
            // Relaxed, here and below: a hint, as nothing is reached by a number but through the table.
            let is_whole = part.is_whole();
            for block in if is_whole { 0..0 } else { part.blocks } {
                if let Some(word) = self.blocks.get(block) {
                    word.store(number, Relaxed);
                }
            }
            if let Some(word) = self.units.get(part.unit) {
                // A unit that was shared stays so: its blocks may have other owners, now or soon.
                word.store(if is_whole { number } else { SHARED }, Relaxed);
            }
        }
    }

    /// The number of the device that `offset` was last seen to belong to.
    pub(super) fn number_at(&self, offset: Offset) -> Option<u32> {
        let block = block_of(offset.get());
        let number = match self.units.get(block >> UNIT_SHIFT)?.load(Relaxed) {
            SHARED => self.blocks.get(block)?.load(Relaxed),
            number => number,
        };
        (number != 0).then_some(number)
    }

    /// Bytes of metadata: reserved and populated.
    pub(super) fn bytes(&self) -> (u64, u64) {
        (
            self.units.reserved_bytes() + self.blocks.reserved_bytes(),
            self.units.populated_bytes() + self.blocks.populated_bytes(),
        )
    }

    /// Bytes of the populated ones that lie in memory; `None` where the system does not say.
    pub(super) fn resident_bytes(&self) -> Option<u64> {
        Some(self.units.resident_bytes()? + self.blocks.resident_bytes()?)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::geometry::PAGES_PER_BLOCK;

    const UNIT: u64 = PAGES_PER_BLOCK << UNIT_SHIFT;

    fn offset(page: u64) -> Offset {
        Offset::new(page).unwrap()
    }

    fn enter(directory: &Directory, start: u64, nr_pages: u64, number: u32) -> OffsetRange {
        let range = OffsetRange::new(offset(start), nr_pages).unwrap();
        directory.populate(range).unwrap();
        directory.enter(range, number);
        range
    }

    #[test]
    fn each_block_is_its_devices_and_units_come_and_go() {
        let directory = Directory::new(8 * UNIT).unwrap();
        let check = |expected: &[(u64, Option<u32>)]| {
            for &(page, number) in expected {
                assert_eq!(directory.number_at(offset(page)), number, "page {page:#x}");
            }
        };
        check(&[(0, None), (8 * UNIT - 1, None), (8 * UNIT, None), (1 << 39, None)]);
        // Two units and a little; its neighbour behind it; one across a border.
        let first = enter(&directory, 0, 2 * UNIT + 3, 1);
        let second = enter(&directory, 2 * UNIT + PAGES_PER_BLOCK, PAGES_PER_BLOCK, 2);
        let third = enter(&directory, 3 * UNIT + UNIT / 2, UNIT - 1, 3);
        let all = [
            (0, Some(1)),
            (2 * UNIT - 1, Some(1)),
            (2 * UNIT + 2, Some(1)),
            (2 * UNIT + PAGES_PER_BLOCK, Some(2)),
            (2 * UNIT + 2 * PAGES_PER_BLOCK, None),
            (3 * UNIT + UNIT / 2 - 1, None),
            (3 * UNIT + UNIT / 2, Some(3)),
            (4 * UNIT + UNIT / 2 - 1, Some(3)),
            (4 * UNIT + UNIT / 2, None),
        ];
        check(&all);
        directory.leave(first);
        check(&[(0, None), (2 * UNIT, None), (2 * UNIT + PAGES_PER_BLOCK, Some(2))]);
        directory.leave(second);
        // Units that were shared become one's own.
        let fourth = enter(&directory, UNIT, 2 * UNIT, 4);
        check(&[(UNIT, Some(4)), (2 * UNIT + PAGES_PER_BLOCK, Some(4)), (3 * UNIT - 1, Some(4)), (3 * UNIT, None)]);
        directory.leave(fourth);
        check(&[(UNIT, None), (2 * UNIT, None), (4 * UNIT, Some(3))]);
        directory.leave(third);
        check(&[(4 * UNIT, None)]);
    }

    #[test]
    fn a_terabyte_is_entered_in_a_page_of_words() {
        let directory = Directory::new(1 << 34).unwrap();
        enter(&directory, 0, 1 << 28, 1);
        assert_eq!(directory.bytes().1, 4096);
        enter(&directory, 1 << 28, (1 << 18) - 512, 2);
        assert_eq!(directory.bytes().1, 3 * 4096, "another page of units, and the words of one unit's blocks");
    }
}
