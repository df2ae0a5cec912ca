//! The work: bytes into the region, a hash a chunk, an in-place sort, the hashes again; and each
//! answer beside that of the same bytes in plain memory.
//! How it is shown, and what is counted, is not known here.

use std::time::{Duration, Instant};

use farpage_region::Region;
use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use crate::progress::{Phase, Progress};
use crate::sort::{self, Records};
use crate::stop::{Stop, Stopped, catch};

/// What is sorted: 16 bytes, compared as one number.
pub(crate) type Record = u128;
pub(crate) const RECORD_BYTES: usize = size_of::<Record>();

/// Bytes in a chunk: what one hash is over.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;
/// Bytes that a worker moves between looks at the stop flag and steps of the progress bar.
const STEP_BYTES: usize = 64 << 10;
const _: () = assert!(CHUNK_BYTES % STEP_BYTES == 0 && STEP_BYTES % RECORD_BYTES == 0);

/// A chunk whose bytes are not what they are in plain memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) phase: Phase,
    /// The first differing chunk's number, and its bytes.
    pub(crate) chunk: usize,
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) region_hash: u64,
    pub(crate) plain_hash: u64,
}

pub(crate) enum End {
    Equal,
    Different(Difference),
    /// Asked to stop, in this phase.
    Stopped(Phase),
}

/// How long the same work took in plain memory.
#[derive(Default)]
pub(crate) struct PlainTimes {
    pub(crate) hash: Option<Duration>,
    pub(crate) sort: Option<Duration>,
}

/// The region as the job uses it.
enum Memory<'a> {
    /// Ordinary memory: real faults.
    Slice(&'a mut [u8]),
    /// Behind the accessor.
    Accessor(&'a Region<'a>),
}

/// Does all the work on `region`; `plain` has the input, and is sorted afterwards.
pub(crate) fn run(
    region: &mut Region<'_>,
    plain: &mut [Record],
    progress: &Progress<'_>,
    stop: &Stop,
) -> (End, PlainTimes) {
    let mut times = PlainTimes::default();
    // Two borrows one after the other, since a slice in hand rules out the accessor.
    let end = if region.as_mut_bytes().is_some() {
        let bytes = region.as_mut_bytes().expect("it was there a moment ago");
        Job::new(Memory::Slice(bytes), progress, stop).run(plain, &mut times)
    } else {
        Job::new(Memory::Accessor(region), progress, stop).run(plain, &mut times)
    };
    let end = end.unwrap_or_else(|Stopped| End::Stopped(progress.phase()));
    (end, times)
}

struct Job<'a> {
    memory: Memory<'a>,
    progress: &'a Progress<'a>,
    stop: &'a Stop,
}

impl<'a> Job<'a> {
    fn new(memory: Memory<'a>, progress: &'a Progress<'a>, stop: &'a Stop) -> Job<'a> {
        Job { memory, progress, stop }
    }

    fn run(mut self, plain: &mut [Record], times: &mut PlainTimes) -> Result<End, Stopped> {
        self.progress.begin(Phase::Load);
        self.load(bytemuck::cast_slice(plain))?;

        let begun = Instant::now();
        let expected = hashes(bytemuck::cast_slice(plain));
        times.hash = Some(begun.elapsed());
        self.progress.begin(Phase::Hash);
        if let Some(difference) = compare(Phase::Hash, &self.hashes(plain)?, &expected, plain) {
            return Ok(End::Different(difference));
        }

        self.progress.begin(Phase::Sort);
        self.sort(plain.len())?;
        self.progress.step(size_of_val(plain));

        // The plain copy is sorted after the region, so that the region's time is its own.
        self.progress.begin(Phase::Plain);
        let begun = Instant::now();
        let stop = self.stop;
        catch(|| sort_slice(plain, stop))?;
        times.sort = Some(begun.elapsed());
        let expected = hashes(bytemuck::cast_slice(plain));

        self.progress.begin(Phase::Check);
        let end = match compare(Phase::Check, &self.hashes(plain)?, &expected, plain) {
            Some(difference) => End::Different(difference),
            None => End::Equal,
        };
        self.progress.end();
        Ok(end)
    }

    fn load(&mut self, plain: &[u8]) -> Result<(), Stopped> {
        let (progress, stop) = (self.progress, self.stop);
        let step = |len| {
            progress.step(len);
            stop.check()
        };
        match &mut self.memory {
            Memory::Slice(bytes) => {
                bytes.par_chunks_mut(STEP_BYTES).zip(plain.par_chunks(STEP_BYTES)).try_for_each(|(to, from)| {
                    to.copy_from_slice(from);
                    step(from.len())
                })
            }
            Memory::Accessor(region) => plain.par_chunks(STEP_BYTES).enumerate().try_for_each(|(number, from)| {
                let written = region.write(number * STEP_BYTES, from);
                written.map_err(|_| Stopped)?;
                step(from.len())
            }),
        }
    }

    /// A hash a chunk of the region.
    fn hashes(&self, plain: &[Record]) -> Result<Vec<u64>, Stopped> {
        let len = size_of_val(plain);
        match &self.memory {
            Memory::Slice(bytes) => bytes[..len]
                .par_chunks(CHUNK_BYTES)
                .map(|chunk| {
                    self.stop.check()?;
                    let hash = xxh3_64(chunk);
                    self.progress.step(chunk.len());
                    Ok(hash)
                })
                .collect(),
            Memory::Accessor(region) => (0..len.div_ceil(CHUNK_BYTES))
                .into_par_iter()
                .map_init(
                    || vec![0; CHUNK_BYTES],
                    |buffer, number| {
                        self.stop.check()?;
                        let at = number * CHUNK_BYTES;
                        let chunk = &mut buffer[..CHUNK_BYTES.min(len - at)];
                        region.read(at, chunk).map_err(|_| Stopped)?;
                        self.progress.step(chunk.len());
                        Ok(xxh3_64(chunk))
                    },
                )
                .collect(),
        }
    }

    fn sort(&mut self, nr_records: usize) -> Result<(), Stopped> {
        let stop = self.stop;
        match &mut self.memory {
            Memory::Slice(bytes) => {
                let records = bytemuck::cast_slice_mut(&mut bytes[..nr_records * RECORD_BYTES]);
                catch(|| sort_slice(records, stop))
            }
            Memory::Accessor(region) => sort::sort(&Accessed { region, stop }, 0, nr_records),
        }
    }
}

/// The sort that both memories go through: nothing but the standard parallel sort of a slice.
fn sort_slice(records: &mut [Record], stop: &Stop) {
    records.par_sort_unstable_by(|a, b| {
        stop.check_or_unwind();
        a.cmp(b)
    });
}

struct Accessed<'a> {
    region: &'a Region<'a>,
    stop: &'a Stop,
}

impl Records for Accessed<'_> {
    // An error means that the region has failed; its end will say how.
    fn read(&self, at: usize, records: &mut [Record]) -> Result<(), Stopped> {
        self.stop.check()?;
        let bytes = bytemuck::cast_slice_mut(records);
        self.region.read(at * RECORD_BYTES, bytes).map_err(|_| Stopped)
    }

    fn write(&self, at: usize, records: &[Record]) -> Result<(), Stopped> {
        let bytes = bytemuck::cast_slice(records);
        self.region.write(at * RECORD_BYTES, bytes).map_err(|_| Stopped)
    }
}

/// A hash a chunk of plain memory.
fn hashes(bytes: &[u8]) -> Vec<u64> {
    bytes.par_chunks(CHUNK_BYTES).map(xxh3_64).collect()
}

fn compare(phase: Phase, region: &[u64], expected: &[u64], plain: &[Record]) -> Option<Difference> {
    let chunk = region.iter().zip(expected).position(|(a, b)| a != b)?;
    let start = chunk * CHUNK_BYTES;
    Some(Difference {
        phase,
        chunk,
        start,
        end: (start + CHUNK_BYTES).min(size_of_val(plain)),
        region_hash: region[chunk],
        plain_hash: expected[chunk],
    })
}

#[cfg(test)]
mod tests {
    use super::{CHUNK_BYTES, compare};
    use crate::progress::Phase;

    #[test]
    fn the_first_difference_is_found_and_nothing_where_there_is_none() {
        let plain = vec![0; 3 * CHUNK_BYTES / 32];
        assert_eq!(compare(Phase::Hash, &[1, 2], &[1, 2], &plain), None);
        let found = compare(Phase::Hash, &[1, 3], &[1, 2], &plain).unwrap();
        assert_eq!((found.chunk, found.region_hash, found.plain_hash), (1, 3, 2));
        assert_eq!((found.start, found.end), (CHUNK_BYTES, 3 * CHUNK_BYTES / 2));
    }
}
