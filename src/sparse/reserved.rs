//! [`SparseArray`] on reserved address space: an element's address is `base + index`, with no pointer to follow.

use core::marker::PhantomData;
use core::ops::Range;
use core::ptr::NonNull;

use super::{Layout, NoMemory, ReserveError, Zeroed};
use crate::sync::{AtomicU8, AtomicU64, Ordering::Relaxed};
use crate::vm::Reservation;

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
    /// One byte a chunk, itself reserved: 1 once the chunk is backed by memory.
    flags: Reservation,
    shift: u32,
    populated: AtomicU64,
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
        let refused = |bytes: u64| move |os_error| ReserveError { bytes, os_error };
        let too_long = ReserveError { bytes: u64::MAX, os_error: libc::ENOMEM };
        let bytes = layout.len.checked_mul(size as u64).ok_or(too_long)?;
        let bytes = bytes.checked_next_multiple_of(layout.chunk_bytes as u64).ok_or(too_long)?;
        let shift = (layout.chunk_bytes / size).trailing_zeros();
        let reservation = Reservation::new(bytes as usize, layout.huge).map_err(refused(bytes))?;
        let flag_bytes = (layout.len >> shift) + 1;
        let flags = Reservation::new(flag_bytes as usize, false).map_err(refused(flag_bytes))?;
        Ok(SparseArray {
            base: reservation.base().cast(),
            len_bytes: layout.len * size as u64,
            len: layout.len,
            chunks: Box::new(Chunks {
                reservation,
                flags,
                shift,
                populated: AtomicU64::new(0),
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
        // Relaxed: the flag guards no data. An element is zero before and after its chunk is backed, and what was
        // written into it since is ordered by the element itself.
        if index < self.len && self.chunks.flag(index).load(Relaxed) != 0 { self.get(index) } else { None }
    }

    /// The first index of `range` whose chunk is populated. A look at each chunk before it.
    pub(crate) fn next_populated(&self, range: Range<u64>) -> Option<u64> {
        let chunk_len = 1 << self.chunks.shift;
        let (mut at, end) = (range.start, range.end.min(self.len));
        while at < end {
            // Relaxed: see `get_populated`.
            if self.chunks.flag(at).load(Relaxed) != 0 {
                return Some(at);
            }
            at = (at & !(chunk_len - 1)) + chunk_len;
        }
        None
    }

    /// The element `index`, its chunk backed by memory.
    #[inline]
    pub(crate) fn populate(&self, index: u64) -> Result<&T, NoMemory> {
        match self.get_populated(index) {
            Some(element) => Ok(element),
            None => self.populate_chunk(index),
        }
    }

    #[cold]
    fn populate_chunk(&self, index: u64) -> Result<&T, NoMemory> {
        #[cfg(test)]
        super::shortage::meet()?;
        let element = self.get(index).ok_or(NoMemory { bytes: 0 })?;
        let chunks = &*self.chunks;
        let bytes = size_of::<T>() << chunks.shift;
        let chunk = (index >> chunks.shift) as usize;
        chunks.flags.commit(chunk, 1)?;
        chunks.reservation.commit(chunk * bytes, bytes)?;
        // Two threads may both have come here: committing twice is harmless, and one of them counts it. Relaxed: see
        // `get_populated`.
        if chunks.flag(index).swap(1, Relaxed) == 0 {
            chunks.populated.fetch_add(bytes as u64, Relaxed);
        }
        Ok(element)
    }

    /// Bytes of address space, bookkeeping included.
    pub(crate) fn reserved_bytes(&self) -> u64 {
        self.chunks.reserved_bytes
    }

    /// Bytes backed by memory, bookkeeping excluded.
    pub(crate) fn populated_bytes(&self) -> u64 {
        self.chunks.populated.load(Relaxed)
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
    fn flag(&self, index: u64) -> &AtomicU8 {
        // SAFETY: Callers pass an index below the array's length, and `new` reserved a byte for each chunk of it.
        let flag = unsafe { self.flags.base().add((index >> self.shift) as usize) };
        // SAFETY: In the reservation, which lives as long as `self`; an atomic byte may be any byte.
        unsafe { flag.cast().as_ref() }
    }
}
