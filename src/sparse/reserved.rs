//! [`SparseArray`] on reserved address space: an element's address is `base + index`, with no pointer to follow.

use core::marker::PhantomData;
use core::ops::Range;
use core::ptr::NonNull;

use super::{Chunk, Counts, KEPT, Layout, NoMemory, POPULATED, ReserveError, Zeroed};
use crate::sync::{
    AtomicU32, AtomicU64, Mutex,
    Ordering::{Acquire, Relaxed, Release},
};
use crate::vm::{Reservation, page_bytes};

/// Whether chunks can be given back at all.
pub(crate) const GIVES_BACK: bool = true;

/// As many bytes as one question to the system about memory covers, with pages of 4 KiB.
const ASKED_AT_ONCE: usize = 16 << 20;

/// See the [module](super).
pub(crate) struct SparseArray<T> {
    /// Read by every lookup, together with `len_bytes`.
    base: NonNull<T>,
    len_bytes: u64,
    len: u64,
    chunks: Box<Chunks>,
    elements: PhantomData<T>,
}

/// What only populating and reporting touch.
struct Chunks {
    reservation: Reservation,
    /// A word a chunk, itself reserved: whether the chunk is backed by memory, and what was kept of it if it was given
    /// back.
    flags: Reservation,
    shift: u32,
    /// Held by whoever populates a chunk, or gives one back.
    changing: Mutex<()>,
    populates: AtomicU64,
    again: AtomicU64,
    give_backs: AtomicU64,
    reserved_bytes: u64,
}

// SAFETY: The array owns its reservation and hands out only shared references to `T`, which is `Sync` by `Zeroed`.
unsafe impl<T: Zeroed + Send> Send for SparseArray<T> {}
// SAFETY: As above.
unsafe impl<T: Zeroed> Sync for SparseArray<T> {}

impl<T: Zeroed> SparseArray<T> {
    pub(crate) fn new(layout: Layout) -> Result<SparseArray<T>, ReserveError> {
        let size = size_of::<T>();
        debug_assert!(size.is_power_of_two() && layout.chunk_bytes.is_power_of_two() && layout.chunk_bytes >= size);
        // Whole pages of the system, so that a chunk can be given back without its neighbours.
        let chunk_bytes = layout.chunk_bytes.max(page_bytes());
        let refused = |bytes: u64| move |os_error| ReserveError { bytes, os_error };
        let too_long = ReserveError { bytes: u64::MAX, os_error: libc::ENOMEM };
        let bytes = layout.len.checked_mul(size as u64).ok_or(too_long)?;
        let bytes = bytes.checked_next_multiple_of(chunk_bytes as u64).ok_or(too_long)?;
        let shift = (chunk_bytes / size).trailing_zeros();
        let reservation = Reservation::new(bytes as usize, layout.huge).map_err(refused(bytes))?;
        let flag_bytes = ((layout.len >> shift) + 1) * size_of::<AtomicU32>() as u64;
        let flags = Reservation::new(flag_bytes as usize, false).map_err(refused(flag_bytes))?;
        Ok(SparseArray {
            base: reservation.base().cast(),
            len_bytes: layout.len * size as u64,
            len: layout.len,
            chunks: Box::new(Chunks {
                reservation,
                flags,
                shift,
                changing: Mutex::new(()),
                populates: AtomicU64::new(0),
                again: AtomicU64::new(0),
                give_backs: AtomicU64::new(0),
                reserved_bytes: bytes + flag_bytes,
            }),
            elements: PhantomData,
        })
    }

    /// The element `index`, populated or not; `None` beyond the end. Wait-free, one comparison, nothing written.
    #[inline(always)]
    pub(crate) fn get(&self, index: u64) -> Option<&T> {
        // In bytes, so that the index is scaled once, for the comparison and for every field that is read. Where the
        // index is known to have 40 bits, as an offset has, the check for overflow compiles to nothing.
        match index.checked_mul(size_of::<T>() as u64) {
            // SAFETY: A multiple of an element's size, and below the length.
            Some(at) if at < self.len_bytes => Some(unsafe { self.element_at(at) }),
            _ => None,
        }
    }

    /// Starts to bring the element `index`, if there is one, into the caches. Never waits.
    #[inline(always)]
    pub(crate) fn prefetch(&self, index: u64) {
        let element = self.base.as_ptr().wrapping_add(index as usize).cast_const();
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        // SAFETY: A prefetch of any address is harmless, and every x86-64 has the instruction.
        unsafe {
            core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(element.cast());
        }
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        let _ = element; // No stable intrinsic: the checks that follow overlap their loads as far as the core can.
    }

    /// The element `index` if its chunk is populated.
    #[inline]
    pub(crate) fn get_populated(&self, index: u64) -> Option<&T> {
        // Acquire [populate]: what the elements began with, and, of a chunk that is not populated any more, all that was
        // before.
        if index < self.len && self.chunks.flag(index).load(Acquire) & POPULATED != 0 { self.get(index) } else { None }
    }

    /// The first index of `range` whose chunk is populated. A look at each chunk before it.
    pub(crate) fn next_populated(&self, range: Range<u64>) -> Option<u64> {
        let chunk_len = 1 << self.chunks.shift;
        let (mut at, end) = (range.start, range.end.min(self.len));
        while at < end {
            // Relaxed: a hint, for whoever looks at the elements then.
            if self.chunks.flag(at).load(Relaxed) & POPULATED != 0 {
                return Some(at);
            }
            at = (at & !(chunk_len - 1)) + chunk_len;
        }
        None
    }

    /// The element `index`, its chunk backed by memory.
    #[inline]
    pub(crate) fn populate(&self, index: u64) -> Result<&T, NoMemory> {
        self.populate_by(index, |_| ())
    }

    /// The same, for elements that begin as something else than zero: `begin` writes that, before anybody finds them.
    #[inline]
    pub(crate) fn populate_by(&self, index: u64, begin: impl FnOnce(Chunk<'_, T>)) -> Result<&T, NoMemory> {
        match self.get_populated(index) {
            Some(element) => Ok(element),
            None => self.populate_chunk(index, begin),
        }
    }

    #[cold]
    fn populate_chunk(&self, index: u64, begin: impl FnOnce(Chunk<'_, T>)) -> Result<&T, NoMemory> {
        #[cfg(test)]
        super::shortage::meet()?;
        let element = self.get(index).ok_or(NoMemory { bytes: 0 })?;
        let chunks = &*self.chunks;
        let bytes = size_of::<T>() << chunks.shift;
        let chunk = (index >> chunks.shift) as usize;
        let _changing = chunks.changing.lock();
        chunks.flags.commit(chunk * size_of::<AtomicU32>(), size_of::<AtomicU32>())?;
        let flag = chunks.flag(index);
        let seen = flag.load(Relaxed);
        if seen & POPULATED == 0 {
            chunks.reservation.commit(chunk * bytes, bytes)?;
            begin(self.chunk(index, seen & KEPT));
            chunks.populates.fetch_add(1, Relaxed);
            chunks.again.fetch_add(u64::from(seen & KEPT != 0), Relaxed);
            // Release [populate]: pairs with the Acquire of `get_populated`.
            flag.store(POPULATED | seen & KEPT, Release);
        }
        Ok(element)
    }

    /// Gives the memory of the chunk that `index` lies in back, if it is populated: its elements read as zero, and
    /// `keep` says what of them to remember, to be handed to `begin` when it is populated again. `None` from it keeps the
    /// chunk. Returns how many bytes were given back.
    ///
    /// For whoever can tell that nobody writes an element but in a loop that fails on zero, until this returns. Readers
    /// see the old elements, or zeroes.
    pub(crate) fn give_back(&self, index: u64, keep: impl FnOnce(Chunk<'_, T>) -> Option<u32>) -> u64 {
        let chunks = &*self.chunks;
        let _changing = chunks.changing.lock();
        if self.get_populated(index).is_none() {
            return 0;
        }
        let (flag, bytes) = (chunks.flag(index), size_of::<T>() << chunks.shift);
        let seen = flag.load(Relaxed);
        let Some(kept) = keep(self.chunk(index, seen & KEPT)) else { return 0 };
        // Before the elements become zero: whoever finds zeroes finds this too, after the system's work on the page
        // tables of every core that has the chunk mapped.
        flag.store(kept & KEPT, Release);
        if !chunks.reservation.give_back((index >> chunks.shift) as usize * bytes, bytes) {
            flag.store(seen, Release);
            return 0;
        }
        chunks.give_backs.fetch_add(1, Relaxed);
        bytes as u64
    }

    /// The elements of the chunk that `index`, below the length, lies in.
    fn chunk(&self, index: u64, kept: u32) -> Chunk<'_, T> {
        let first = index >> self.chunks.shift << self.chunks.shift;
        let nr = (self.len - first).min(self.elements_per_chunk());
        // Within the reservation, and so never out of bounds of it.
        let start = self.base.as_ptr().wrapping_add(first as usize);
        // SAFETY: `first` and the `nr` elements from it on are below the length; as in `element_at`.
        let elements = unsafe { core::slice::from_raw_parts(start, nr as usize) };
        Chunk { first, elements, kept }
    }

    /// The first elements of the chunks that lie within `elements`.
    pub(crate) fn chunks_within(&self, elements: Range<u64>) -> impl Iterator<Item = u64> + use<T> {
        let (nr, len) = (self.elements_per_chunk(), self.len);
        (elements.start.next_multiple_of(nr)..len)
            .step_by(nr as usize)
            .take_while(move |first| (first + nr).min(len) <= elements.end)
    }

    /// How many elements are populated together.
    pub(crate) fn elements_per_chunk(&self) -> u64 {
        1 << self.chunks.shift
    }

    /// Bytes of address space, bookkeeping included.
    pub(crate) fn reserved_bytes(&self) -> u64 {
        self.chunks.reserved_bytes
    }

    /// Bytes backed by memory, bookkeeping excluded.
    pub(crate) fn populated_bytes(&self) -> u64 {
        self.chunks.populated_chunks() * ((size_of::<T>() as u64) << self.chunks.shift)
    }

    /// How often a chunk was populated, and given back.
    pub(crate) fn counts(&self) -> Counts {
        let Chunks { populates, again, give_backs, .. } = &*self.chunks;
        Counts { populates: populates.load(Relaxed), again: again.load(Relaxed), give_backs: give_backs.load(Relaxed) }
    }

    /// Bytes of the populated ones that lie in memory, as the system says; `None` if it does not.
    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        self.chunks.resident_bytes(self.len, size_of::<T>())
    }

    /// # Safety
    ///
    /// `at` must be a multiple of the size of `T` and below `len_bytes`.
    #[inline(always)]
    unsafe fn element_at(&self, at: u64) -> &T {
        // SAFETY: Below `len_bytes` by the caller's word, so inside the reservation, which `new` made that long.
        let element = unsafe { self.base.byte_add(at as usize) };
        // SAFETY: The reservation lives as long as `self`, is aligned to a system page, reads as zero where nothing
        // was written (valid by `Zeroed`), and is only ever seen as `T`.
        unsafe { element.as_ref() }
    }
}

impl Chunks {
    /// What was never populated is not asked about: of what was only read there, the system says that it is in memory, as it
    /// is all one page of zeroes.
    fn resident_bytes(&self, len: u64, size: usize) -> Option<u64> {
        let (chunk_bytes, nr_chunks) = (size << self.shift, len.div_ceil(1 << self.shift) as usize);
        let populated = self.populated_chunks() * chunk_bytes as u64;
        let is_populated = |chunk: usize| self.flag((chunk as u64) << self.shift).load(Relaxed) & POPULATED != 0;
        // Chunks to be asked about at once: populated ones, with what little lies between; and the bytes of the former.
        let runs_in = |parts: &[Range<usize>]| {
            let (mut found, mut runs) = (0, Vec::<Range<usize>>::new());
            for chunk in parts.iter().cloned().flatten().filter(|&chunk| is_populated(chunk)) {
                found += chunk_bytes as u64;
                match runs.last_mut() {
                    Some(run) if (chunk - run.end) * chunk_bytes <= ASKED_AT_ONCE => run.end = chunk + 1,
                    _ => runs.push(chunk..chunk + 1),
                }
            }
            (found, runs)
        };
        // Most flags were never touched, and are not to be now.
        let mut touched = Vec::new();
        const WORD: usize = size_of::<AtomicU32>();
        self.flags.for_each_resident(0..nr_chunks * WORD, |part| {
            touched.push(part.start / WORD..part.end.div_ceil(WORD));
        })?;
        let (found, mut runs) = runs_in(&touched);
        if found < populated {
            // Some flags themselves are swapped out, or chunks were given back just now.
            (_, runs) = runs_in(core::slice::from_ref(&(0..nr_chunks)));
        }
        let mut resident = 0;
        for run in runs {
            self.reservation.for_each_resident(run.start * chunk_bytes..run.end * chunk_bytes, |bytes| {
                for chunk in bytes.start / chunk_bytes..bytes.end.div_ceil(chunk_bytes) {
                    if is_populated(chunk) {
                        let (start, end) = (chunk * chunk_bytes, (chunk + 1) * chunk_bytes);
                        resident += (bytes.end.min(end) - bytes.start.max(start)) as u64;
                    }
                }
            })?;
        }
        Some(resident)
    }

    fn populated_chunks(&self) -> u64 {
        self.populates.load(Relaxed).saturating_sub(self.give_backs.load(Relaxed))
    }

    fn flag(&self, index: u64) -> &AtomicU32 {
        // SAFETY: Callers pass an index below the array's length, and `new` reserved a word for each chunk of it.
        let flag = unsafe { self.flags.base().cast::<AtomicU32>().add((index >> self.shift) as usize) };
        // SAFETY: In the reservation, which lives as long as `self`; an atomic word may be any bits.
        unsafe { flag.as_ref() }
    }
}
