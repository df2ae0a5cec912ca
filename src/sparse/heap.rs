//! [`SparseArray`] on the heap: a table of chunk pointers. Chunks stay until the array goes.
//!
//! For platforms without the system calls that `reserved` needs, and for models, in which every atomic must be built
//! by loom. Only in a model can a chunk be given back: its elements become zero one by one, where the system takes whole
//! pages, and its pointer is marked. Edges: [publish], [populate].

use core::ops::Range;
use core::ptr;

use super::{Chunk, Counts, KEPT, Layout, NoMemory, ReserveError, Zeroed};
use crate::geometry::MODEL;
use crate::sync::{
    AtomicPtr, AtomicU32, AtomicU64, Mutex,
    Ordering::{Acquire, Relaxed, Release},
};

/// Whether chunks can be given back at all.
pub(crate) const GIVES_BACK: bool = MODEL;

/// In the pointer to a chunk: it was given back.
const GIVEN_BACK: usize = 1;

/// See the [module](super).
pub(crate) struct SparseArray<T> {
    chunks: Box<[AtomicPtr<T>]>,
    len: u64,
    shift: u32,
    /// For each chunk, what was kept of it when it was given back. Changed with the pointer's mark, under the lock.
    kept: Box<[AtomicU32]>,
    changing: Mutex<()>,
    populates: AtomicU64,
    again: AtomicU64,
    give_backs: AtomicU64,
}

impl<T: Zeroed> SparseArray<T> {
    pub(crate) fn new(layout: Layout) -> Result<SparseArray<T>, ReserveError> {
        let size = size_of::<T>().next_power_of_two();
        // A chunk of a model holds two elements, so that two chunks are few enough to explore.
        let shift = if MODEL { 1 } else { (layout.chunk_bytes / size).trailing_zeros() };
        let nr_chunks = layout.len.div_ceil(1 << shift);
        let refused = ReserveError { bytes: nr_chunks.saturating_mul(8), os_error: 0 };
        let nr = usize::try_from(nr_chunks).map_err(|_| refused)?;
        let (mut chunks, mut kept) = (Vec::new(), Vec::new());
        chunks.try_reserve_exact(nr).map_err(|_| refused)?;
        chunks.extend((0..nr_chunks).map(|_| AtomicPtr::new(ptr::null_mut())));
        if GIVES_BACK {
            kept.try_reserve_exact(nr).map_err(|_| refused)?;
            kept.extend((0..nr_chunks).map(|_| AtomicU32::new(0)));
        }
        Ok(SparseArray {
            chunks: chunks.into(),
            len: layout.len,
            shift,
            kept: kept.into(),
            changing: Mutex::new(()),
            populates: AtomicU64::new(0),
            again: AtomicU64::new(0),
            give_backs: AtomicU64::new(0),
        })
    }

    /// The element `index` if it was ever populated; `None` beyond the end too.
    #[inline]
    pub(crate) fn get(&self, index: u64) -> Option<&T> {
        let slot = self.slot(index)?;
        // Acquire [publish]: pairs with the Release in `populate_chunk`, so that the chunk's first contents are there
        // before we index into it.
        self.element(slot.load(Acquire).map_addr(|address| address & !GIVEN_BACK), index)
    }

    /// Does nothing here: where an element is takes a load to know.
    #[inline(always)]
    pub(crate) fn prefetch(&self, _index: u64) {}

    /// The element `index` if its chunk is populated.
    #[inline]
    pub(crate) fn get_populated(&self, index: u64) -> Option<&T> {
        // Acquire [publish], as in `get`; and [populate]: what the elements began with, and, of a chunk that is not
        // populated any more, all that was before.
        let chunk = self.slot(index)?.load(Acquire);
        if chunk.addr() & GIVEN_BACK == 0 { self.element(chunk, index) } else { None }
    }

    fn slot(&self, index: u64) -> Option<&AtomicPtr<T>> {
        if index < self.len { self.chunks.get((index >> self.shift) as usize) } else { None }
    }

    fn element(&self, chunk: *mut T, index: u64) -> Option<&T> {
        if chunk.is_null() {
            return None;
        }
        let within = index & ((1 << self.shift) - 1);
        // SAFETY: A slot that is not null holds, but for its mark, which callers have cleared, a chunk of `1 << shift`
        // elements that `populate_chunk` published once and that only `drop` frees.
        unsafe { chunk.add(within as usize).as_ref() }
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
        let slot = self.slot(index).ok_or(NoMemory { bytes: 0 })?;
        let nr = 1usize << self.shift;
        let bytes = (nr * size_of::<T>()) as u64;
        let _changing = self.changing.lock();
        // Relaxed: whoever changed it did so under the lock.
        let seen = slot.load(Relaxed);
        let first = index >> self.shift << self.shift;
        if seen.is_null() {
            let mut chunk = Vec::new();
            chunk.try_reserve_exact(nr).map_err(|_| NoMemory { bytes })?;
            chunk.extend((0..nr).map(|_| T::absent()));
            begin(Chunk { first, elements: &chunk, kept: 0 });
            self.populates.fetch_add(1, Relaxed);
            // Release [publish], [populate]: pairs with the Acquire in `get` and `get_populated`.
            slot.store(Box::into_raw(chunk.into_boxed_slice()).cast(), Release);
        } else if seen.addr() & GIVEN_BACK != 0 {
            let chunk = seen.map_addr(|address| address & !GIVEN_BACK);
            begin(self.chunk(chunk, first, self.kept[(index >> self.shift) as usize].load(Relaxed)));
            self.populates.fetch_add(1, Relaxed);
            self.again.fetch_add(1, Relaxed);
            // Release [populate]: as above.
            slot.store(chunk, Release);
        }
        self.get(index).ok_or(NoMemory { bytes })
    }

    /// Gives the memory of the chunk that `index` lies in back, as on reserved address space; only in a model.
    pub(crate) fn give_back(&self, index: u64, keep: impl FnOnce(Chunk<'_, T>) -> Option<u32>) -> u64 {
        let _changing = self.changing.lock();
        let Some(slot) = self.slot(index).filter(|_| GIVES_BACK && self.get_populated(index).is_some()) else {
            return 0;
        };
        let (chunk, first) = (slot.load(Relaxed), index >> self.shift << self.shift);
        let kept = &self.kept[(index >> self.shift) as usize];
        let Some(keeps) = keep(self.chunk(chunk, first, kept.load(Relaxed))) else { return 0 };
        kept.store(keeps & KEPT, Relaxed);
        // Before the elements become zero: whoever finds zeroes finds this too.
        slot.store(chunk.map_addr(|address| address | GIVEN_BACK), Release);
        for element in self.chunk(chunk, first, keeps).elements {
            element.vanish();
        }
        self.give_backs.fetch_add(1, Relaxed);
        (size_of::<T>() as u64) << self.shift
    }

    /// What is at `chunk`, which holds the elements from `first` on.
    fn chunk(&self, chunk: *mut T, first: u64, kept: u32) -> Chunk<'_, T> {
        // SAFETY: As in `element`.
        Chunk { first, elements: unsafe { core::slice::from_raw_parts(chunk, 1 << self.shift) }, kept }
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
        1 << self.shift
    }

    /// Bytes of the table of chunks.
    pub(crate) fn reserved_bytes(&self) -> u64 {
        (self.chunks.len() * size_of::<AtomicPtr<T>>()) as u64
    }

    /// Bytes of the chunks.
    pub(crate) fn populated_bytes(&self) -> u64 {
        let Counts { populates, give_backs, .. } = self.counts();
        populates.saturating_sub(give_backs) * ((size_of::<T>() as u64) << self.shift)
    }

    /// How often a chunk was populated, and given back.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            populates: self.populates.load(Relaxed),
            again: self.again.load(Relaxed),
            give_backs: self.give_backs.load(Relaxed),
        }
    }

    /// How many of them lie in memory: nobody says, of the heap.
    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        None
    }
}

impl<T> Drop for SparseArray<T> {
    fn drop(&mut self) {
        for slot in &self.chunks {
            // Relaxed: `&mut self` came here through whatever ordered the last use before it.
            let chunk = slot.load(Relaxed).map_addr(|address| address & !GIVEN_BACK);
            if !chunk.is_null() {
                // SAFETY: `populate_chunk` made it from a box of this many elements, and nobody else has the array.
                drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(chunk, 1 << self.shift)) });
            }
        }
    }
}
