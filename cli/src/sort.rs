//! An in-place parallel quicksort of records that can only be read and written in blocks.
//! For memory that ordinary slices cannot reach; with real faults the job sorts a slice instead.

use crate::job::Record;
use crate::stop::Stopped;

/// Records in a block: what a partition holds of each side at a time.
const BLOCK: usize = 4096;
/// So few records are read, sorted in plain memory and written back.
const LEAF: usize = 1 << 16;
const _: () = assert!(2 * BLOCK <= LEAF, "a partition needs a block on each side");
/// Records whose median is the pivot.
const SAMPLES: usize = 31;

/// Records behind an accessor. Disjoint records may be used by several threads at once.
pub(crate) trait Records: Sync {
    /// Reads the records from number `at`; an error ends the sort.
    fn read(&self, at: usize, records: &mut [Record]) -> Result<(), Stopped>;
    /// Writes the records from number `at`; an error ends the sort.
    fn write(&self, at: usize, records: &[Record]) -> Result<(), Stopped>;
}

/// Sorts the records `start..end`.
pub(crate) fn sort(records: &impl Records, start: usize, end: usize) -> Result<(), Stopped> {
    if end - start <= LEAF {
        let mut leaf = vec![0; end - start];
        records.read(start, &mut leaf)?;
        leaf.sort_unstable();
        return records.write(start, &leaf);
    }
    let mut samples = [0; SAMPLES];
    for (number, sample) in samples.iter_mut().enumerate() {
        let at = start + (end - start) / SAMPLES * number;
        records.read(at, core::slice::from_mut(sample))?;
    }
    samples.sort_unstable();
    let pivot = samples[SAMPLES / 2];
    let below = partition(records, start, end, |record| record < pivot)?;
    // Many equal records would be sorted again and again, and with a pivot that is the smallest
    // record nothing went below: part the equal ones off, they are in their place.
    let repeated = samples.iter().filter(|sample| **sample == pivot).count() > 1;
    let above =
        if below == start || repeated { partition(records, below, end, |record| record <= pivot)? } else { below };
    let (low, high) = rayon::join(|| sort(records, start, below), || sort(records, above, end));
    low.and(high)
}

/// Moves the records that `goes_left` to the front of `start..end`; the number of the first other.
///
/// A block of each end is held at a time, and records that stand wrong in the two are swapped.
fn partition(
    records: &impl Records,
    start: usize,
    end: usize,
    goes_left: impl Fn(Record) -> bool,
) -> Result<usize, Stopped> {
    // Everything before `low` is known to go left, everything from `high` on to go right.
    let (mut low, mut high) = (start, end);
    if high - low > 2 * BLOCK {
        let (mut left, mut right) = (vec![0; BLOCK], vec![0; BLOCK]);
        records.read(low, &mut left)?;
        records.read(high - BLOCK, &mut right)?;
        // Known of the left block, from its front; unknown of the right block, from its front.
        let (mut done, mut open) = (0, BLOCK);
        loop {
            while done < BLOCK && goes_left(left[done]) {
                done += 1;
            }
            while open > 0 && !goes_left(right[open - 1]) {
                open -= 1;
            }
            if done < BLOCK && open > 0 {
                core::mem::swap(&mut left[done], &mut right[open - 1]);
                continue;
            }
            if done == BLOCK {
                records.write(low, &left)?;
                low += BLOCK;
                if high - BLOCK - low < BLOCK {
                    records.write(high - BLOCK, &right)?;
                    high -= BLOCK - open;
                    break;
                }
                records.read(low, &mut left)?;
                done = 0;
            }
            if open == 0 {
                records.write(high - BLOCK, &right)?;
                high -= BLOCK;
                if high - low - BLOCK < BLOCK {
                    records.write(low, &left)?;
                    low += done;
                    break;
                }
                records.read(high - BLOCK, &mut right)?;
                open = BLOCK;
            }
        }
    }
    let mut rest = vec![0; high - low];
    records.read(low, &mut rest)?;
    let mut left = 0;
    for at in 0..rest.len() {
        if goes_left(rest[at]) {
            rest.swap(at, left);
            left += 1;
        }
    }
    records.write(low, &rest)?;
    Ok(low + left)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::{BLOCK, LEAF, Record, Records, partition, sort};
    use crate::stop::Stopped;

    impl Records for Mutex<Vec<Record>> {
        fn read(&self, at: usize, records: &mut [Record]) -> Result<(), Stopped> {
            records.copy_from_slice(&self.lock().unwrap()[at..][..records.len()]);
            Ok(())
        }
        fn write(&self, at: usize, records: &[Record]) -> Result<(), Stopped> {
            self.lock().unwrap()[at..][..records.len()].copy_from_slice(records);
            Ok(())
        }
    }

    /// Few or many different values, scattered by a multiplier.
    fn records(len: usize, distinct: u64) -> Vec<Record> {
        let scatter = |at: usize| (at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 7;
        (0..len).map(|at| (scatter(at) % distinct).into()).collect()
    }

    #[test]
    fn any_length_and_any_number_of_equal_records_is_sorted() {
        for len in [0, 1, LEAF, LEAF + 1, 3 * LEAF + 17, 5 * LEAF] {
            for distinct in [1, 2, 1000, u64::MAX] {
                let mut plain = records(len, distinct);
                let accessed = Mutex::new(plain.clone());
                sort(&accessed, 0, len).unwrap();
                plain.sort_unstable();
                assert!(*accessed.lock().unwrap() == plain, "{len} of {distinct}");
            }
        }
    }

    #[test]
    fn a_partition_parts_at_every_length_around_its_blocks() {
        for len in (0..6 * BLOCK).step_by(BLOCK / 2).flat_map(|len| [len, len + 1]) {
            for limit in [0, 3, 500, 1000] {
                let accessed = Mutex::new(records(len, 1000));
                let mid = partition(&accessed, 0, len, |record| record < limit).unwrap();
                let after = accessed.into_inner().unwrap();
                assert!(after[..mid].iter().all(|record| *record < limit));
                assert!(after[mid..].iter().all(|record| *record >= limit));
                let (mut after, mut before) = (after, records(len, 1000));
                after.sort_unstable();
                before.sort_unstable();
                assert!(after == before);
            }
        }
    }
}
