//! [`SparseArray`] on the heap: a table of chunk pointers. Chunks stay until the array goes.
//!
//! For platforms without the system calls that `reserved` needs, and for models, in which every atomic must be built
//! by loom. Edges: [publish].

use core::ops::Range;
use core::ptr;

use super::{Layout, NoMemory, ReserveError, Zeroed};
use crate::sync::{
    AtomicPtr, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// See the [module](super).
pub(crate) struct SparseArray<T> {
    chunks: Box<[AtomicPtr<T>]>,
    len: u64,
    shift: u32,
    populated: AtomicU64,
}

impl<T: Zeroed> SparseArray<T> {
    pub(crate) fn new(layout: Layout) -> Result<SparseArray<T>, ReserveError> {
        let size = size_of::<T>().next_power_of_two();
        // A chunk of a model holds two elements, so that two chunks are few enough to explore.
        let shift = if crate::geometry::MODEL { 1 } else { (layout.chunk_bytes / size).trailing_zeros() };
        let nr_chunks = layout.len.div_ceil(1 << shift);
        let refused = ReserveError { bytes: nr_chunks.saturating_mul(8), os_error: 0 };
        let mut chunks = Vec::new();
        chunks.try_reserve_exact(usize::try_from(nr_chunks).map_err(|_| refused)?).map_err(|_| refused)?;
        chunks.extend((0..nr_chunks).map(|_| AtomicPtr::new(ptr::null_mut())));
        Ok(SparseArray { chunks: chunks.into(), len: layout.len, shift, populated: AtomicU64::new(0) })
    }

    /// The element `index` if it is populated; `None` beyond the end too.
    #[inline]
    pub(crate) fn get(&self, index: u64) -> Option<&T> {
        if index >= self.len {
            return None;
        }
        // Acquire [publish]: pairs with the Release in `populate_chunk`, so that the chunk's zeroes are there before
        // we index into it.
        let chunk = self.chunks[(index >> self.shift) as usize].load(Acquire);
        if chunk.is_null() {
            return None;
        }
        let within = index & ((1 << self.shift) - 1);
        // SAFETY: A non-null slot holds a chunk of `1 << shift` elements that `populate_chunk` published once and that
        // only `drop` frees.
        unsafe { chunk.add(within as usize).as_ref() }
    }

    /// Does nothing here: where an element is takes a load to know.
    #[inline(always)]
    pub(crate) fn prefetch(&self, _index: u64) {}

    /// The same as [`SparseArray::get`] here, where what is not populated does not exist.
    #[inline]
    pub(crate) fn get_populated(&self, index: u64) -> Option<&T> {
        self.get(index)
    }

    /// The first index of `range` whose chunk is populated. A look at each chunk before it.
    pub(crate) fn next_populated(&self, range: Range<u64>) -> Option<u64> {
        let chunk_len = 1 << self.shift;
        let (mut at, end) = (range.start, range.end.min(self.len));
        while at < end {
            if self.get(at).is_some() {
                return Some(at);
            }
            at = (at & !(chunk_len - 1)) + chunk_len;
        }
        None
    }

    /// The element `index`, its chunk allocated.
    #[inline]
    pub(crate) fn populate(&self, index: u64) -> Result<&T, NoMemory> {
        match self.get(index) {
            Some(element) => Ok(element),
            None => self.populate_chunk(index),
        }
    }

    #[cold]
    fn populate_chunk(&self, index: u64) -> Result<&T, NoMemory> {
        #[cfg(test)]
        super::shortage::meet()?;
        let slot = self.chunks.get((index >> self.shift) as usize).ok_or(NoMemory { bytes: 0 })?;
        if index >= self.len {
            return Err(NoMemory { bytes: 0 });
        }
        let nr = 1usize << self.shift;
        let bytes = (nr * size_of::<T>()) as u64;
        let mut chunk = Vec::new();
        chunk.try_reserve_exact(nr).map_err(|_| NoMemory { bytes })?;
        chunk.extend((0..nr).map(|_| T::absent()));
        let fresh = Box::into_raw(chunk.into_boxed_slice());
        // Release [publish] on success: pairs with the Acquire in `get`.
        // Relaxed on failure: the loser reads the winner's chunk through `get`.
        match slot.compare_exchange(ptr::null_mut(), fresh.cast(), Release, Relaxed) {
            Ok(_) => {
                self.populated.fetch_add(bytes, Relaxed);
            }
            // SAFETY: We lost, so `fresh` was never shared; this is its only owner.
            Err(_) => drop(unsafe { Box::from_raw(fresh) }),
        }
        self.get(index).ok_or(NoMemory { bytes })
    }

    /// Bytes of the table of chunks.
    pub(crate) fn reserved_bytes(&self) -> u64 {
        (self.chunks.len() * size_of::<AtomicPtr<T>>()) as u64
    }

    /// Bytes of the chunks.
    pub(crate) fn populated_bytes(&self) -> u64 {
        self.populated.load(Relaxed)
    }
}

impl<T> Drop for SparseArray<T> {
    fn drop(&mut self) {
        for slot in &self.chunks {
            // Relaxed: `&mut self` came here through whatever ordered the last use before it.
            let chunk = slot.load(Relaxed);
            if !chunk.is_null() {
                // SAFETY: `populate_chunk` made it from a box of this many elements, and nobody else has the array.
                drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(chunk, 1 << self.shift)) });
            }
        }
    }
}
