//! [`SparseArray`]: an array as long as the space, of which only the populated chunks cost memory.
//!
//! An element that was never populated reads as all zero, which every element type takes to mean *absent*. Elements
//! are atomics: the array is shared, and it is type-stable, i.e. an element's address never becomes anything else
//! while the array lives. A chunk may be given back, and then reads as zero again; a word of what its owner wants to
//! remember of it is kept. Two implementations behind one face: `reserved` (Linux: address space reserved once, an
//! element found by arithmetic) and `heap` (elsewhere, and in models: chunks of ordinary memory that stay).
//!
//! Below: `vm`. Above: `section_map`, `free_map`, `device`. Edges: [publish] in `heap`,
//! [populate].

#[cfg(any(not(target_os = "linux"), farpage_heap, all(loom, feature = "loom")))]
mod heap;
#[cfg(all(target_os = "linux", not(farpage_heap), not(all(loom, feature = "loom"))))]
mod reserved;

use core::fmt;

#[cfg(any(not(target_os = "linux"), farpage_heap, all(loom, feature = "loom")))]
pub(crate) use heap::{GIVES_BACK, SparseArray};
#[cfg(all(target_os = "linux", not(farpage_heap), not(all(loom, feature = "loom"))))]
pub(crate) use reserved::{GIVES_BACK, SparseArray};

use crate::sync::{AtomicPtr, AtomicU32, AtomicU64, Ordering::Release};

/// An element of a [`SparseArray`].
///
/// # Safety
///
/// All-zero bytes must be a valid value, the one that `absent` returns (under loom, where atomics are not plain
/// bytes, only `absent` is used), and the type must have no drop glue, since populated elements are never dropped
/// one by one.
pub(crate) unsafe trait Zeroed: Sync {
    /// The value that all-zero bytes are. Reserved memory is born with it; only `heap` writes it.
    #[allow(dead_code, reason = "not called where memory is reserved")]
    fn absent() -> Self;

    /// Makes the element absent again, as memory that the system has taken back is; only where a model does that.
    #[allow(dead_code, reason = "not called where memory is reserved")]
    fn vanish(&self) {
        unreachable!("an element that is never given back");
    }
}

// SAFETY: A zero integer, without drop glue.
unsafe impl Zeroed for AtomicU32 {
    fn absent() -> AtomicU32 {
        AtomicU32::new(0)
    }
}

// SAFETY: A zero integer, without drop glue.
unsafe impl Zeroed for AtomicU64 {
    fn absent() -> AtomicU64 {
        AtomicU64::new(0)
    }

    fn vanish(&self) {
        // Release: whoever sees the zero sees that the chunk is no longer populated, as after the system's own work.
        self.store(0, Release);
    }
}

// SAFETY: A null pointer is all zero on every platform that Rust has; dropping it drops nothing.
unsafe impl<T> Zeroed for AtomicPtr<T> {
    fn absent() -> AtomicPtr<T> {
        AtomicPtr::new(core::ptr::null_mut())
    }
}

/// How one array is laid out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// How many elements.
    pub(crate) len: u64,
    /// How many bytes one populate covers at least; a power of two.
    pub(crate) chunk_bytes: usize,
    /// Whether the array itself should lie in huge pages.
    #[allow(dead_code, reason = "heap memory has no pages to choose")]
    pub(crate) huge: bool,
}

/// In the word of a chunk: whether it is populated.
const POPULATED: u32 = 1 << 31;
/// In the word of a chunk: what its owner keeps of it while it is not.
pub(crate) const KEPT: u32 = POPULATED - 1;

/// The elements that are populated together.
pub(crate) struct Chunk<'a, T> {
    /// The index of the first.
    pub(crate) first: u64,
    pub(crate) elements: &'a [T],
    /// What was kept when it was given back last; 0 if it never was.
    pub(crate) kept: u32,
}

/// How often chunks were populated, how often of these again, and given back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) populates: u64,
    pub(crate) again: u64,
    pub(crate) give_backs: u64,
}

impl core::ops::Add for Counts {
    type Output = Counts;

    fn add(self, other: Counts) -> Counts {
        Counts {
            populates: self.populates + other.populates,
            again: self.again + other.again,
            give_backs: self.give_backs + other.give_backs,
        }
    }
}

/// No memory for a chunk of metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoMemory {
    /// How much was wanted.
    pub(crate) bytes: u64,
}

/// Address space for an array was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReserveError {
    /// How much was wanted.
    pub(crate) bytes: u64,
    /// The system's error number.
    pub(crate) os_error: i32,
}

/// Asks for `bytes` of heap memory in one piece, and gives them back.
///
/// For what is about to be made of small pieces that cannot be refused in stable Rust (an `Arc`, a node of a map): if
/// memory has run out, this is an error, where they would abort the process. Another thread may still take the memory in between.
pub(crate) fn probe_heap(bytes: usize) -> Result<(), NoMemory> {
    let mut probe = Vec::<u8>::new();
    probe.try_reserve_exact(bytes).map_err(|_| NoMemory { bytes: bytes as u64 })?;
    // So that the compiler does not make nothing of it.
    core::hint::black_box(&mut probe);
    Ok(())
}

impl fmt::Display for NoMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no memory for {} bytes of metadata", self.bytes)
    }
}

/// Memory that runs out when a test says so.
#[cfg(test)]
pub(crate) mod shortage {
    use core::cell::Cell;

    use super::NoMemory;

    /// Which of this thread's populates fail.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Shortage {
        /// All but so many first ones.
        After(u32),
        /// One, before which so many succeed.
        Once(u32),
    }

    thread_local! {
        static SHORTAGE: Cell<Option<Shortage>> = const { Cell::new(None) };
        static FAILED: Cell<u32> = const { Cell::new(0) };
    }

    /// Lets this thread populate `nr` more chunks (any number, with `None`).
    pub(crate) fn after(nr: Option<u32>) {
        SHORTAGE.set(nr.map(Shortage::After));
    }

    /// Runs `work` while populates of this thread fail; how many did.
    pub(crate) fn during<R>(shortage: Shortage, work: impl FnOnce() -> R) -> (R, u32) {
        SHORTAGE.set(Some(shortage));
        FAILED.set(0);
        let result = work();
        SHORTAGE.set(None);
        (result, FAILED.get())
    }

    pub(super) fn meet() -> Result<(), NoMemory> {
        let shortage = SHORTAGE.get();
        SHORTAGE.set(match shortage {
            Some(Shortage::After(left)) => Some(Shortage::After(left.saturating_sub(1))),
            Some(Shortage::Once(left)) => left.checked_sub(1).map(Shortage::Once),
            None => return Ok(()),
        });
        match shortage {
            Some(Shortage::After(0) | Shortage::Once(0)) => {
                FAILED.set(FAILED.get() + 1);
                Err(NoMemory { bytes: 4096 })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Ordering::Relaxed;

    fn array(len: u64, chunk_bytes: usize) -> SparseArray<AtomicU64> {
        SparseArray::new(Layout { len, chunk_bytes, huge: false }).expect("address space")
    }

    #[test]
    fn an_array_costs_nothing_until_populated() {
        let array = array(1 << 34, 64 << 10);
        assert_eq!(array.populated_bytes(), 0);
        assert!(array.get(1 << 33).is_none_or(|word| word.load(Relaxed) == 0));
        assert!(array.get_populated(1 << 33).is_none());
        array.populate(1 << 33).expect("64 KiB").store(9, Relaxed);
        assert_eq!(array.get(1 << 33).expect("populated").load(Relaxed), 9);
        assert_eq!(array.get_populated((1 << 33) + 1).expect("same chunk").load(Relaxed), 0);
        assert!(array.get_populated((1 << 33) + (8 << 10)).is_none(), "the next chunk");
        assert_eq!(array.populated_bytes(), 64 << 10);
    }

    #[test]
    fn the_next_populated_element_is_found_over_whole_chunks() {
        let array = array(10_000, 4096);
        assert_eq!(array.next_populated(0..u64::MAX), None);
        array.populate(1000).expect("a page");
        array.populate(9_999).expect("a page");
        for (from, next) in [(0, 512), (512, 512), (700, 700), (1023, 1023), (1024, 9728), (9_999, 9_999)] {
            assert_eq!(array.next_populated(from..u64::MAX), Some(next), "from {from}");
            assert_eq!(array.next_populated(from..next + 1), Some(next), "from {from}");
            assert_eq!(array.next_populated(from..next), None, "from {from}");
        }
        assert_eq!(array.next_populated(10_000..20_000), None);
    }

    #[test]
    fn an_index_beyond_the_array_is_none() {
        let array = array(100, 4096);
        assert!(array.get(100).is_none() && array.get(u64::MAX).is_none());
        assert!(array.get_populated(100).is_none());
        array.populate(99).expect("a page").store(1, Relaxed);
        assert!(array.populate(100).is_err());
    }

    #[test]
    fn a_chunk_that_was_given_back_is_zero_and_begins_again_with_what_was_kept() {
        let array = array(3000, 4096);
        let per_chunk = array.elements_per_chunk();
        for index in [0, per_chunk] {
            array.populate(index).expect("a page").store(9, Relaxed);
        }
        assert_eq!(array.give_back(per_chunk * 2, |_| Some(1)), 0, "was never populated");
        assert_eq!(array.give_back(3, |_| None), 0, "its owner keeps it");
        assert_eq!(array.get(0).expect("populated").load(Relaxed), 9);
        if GIVES_BACK {
            let bytes = array.give_back(3, |chunk| {
                assert_eq!((chunk.first, chunk.elements.len() as u64, chunk.kept), (0, per_chunk, 0));
                Some(chunk.elements[0].load(Relaxed) as u32)
            });
            assert_eq!(bytes, per_chunk * 8);
            assert!(array.get_populated(1).is_none() && array.get(0).is_none_or(|word| word.load(Relaxed) == 0));
            assert_eq!(array.get(per_chunk).expect("its neighbour").load(Relaxed), 9);
            assert_eq!(array.give_back(3, |_| Some(0)), 0, "already");
            let again = array.populate_by(5, |chunk| {
                assert_eq!((chunk.first, chunk.kept), (0, 9));
                chunk.elements.iter().for_each(|word| word.store(chunk.kept.into(), Relaxed));
            });
            assert_eq!(again.expect("a page").load(Relaxed), 9);
            assert_eq!(array.counts(), Counts { populates: 3, again: 1, give_backs: 1 });
        }
        assert_eq!(array.populated_bytes(), 2 * per_chunk * 8);
    }

    #[test]
    fn racing_populates_agree() {
        for _ in 0..50 {
            let array = array(1 << 20, 4096);
            std::thread::scope(|scope| {
                for thread in 0..4u64 {
                    let array = &array;
                    scope.spawn(move || {
                        for chunk in 0..16 {
                            array.populate(chunk * 512 + thread).expect("a page").fetch_add(1, Relaxed);
                        }
                    });
                }
            });
            for chunk in 0..16 {
                for thread in 0..4 {
                    assert_eq!(array.get(chunk * 512 + thread).expect("populated").load(Relaxed), 1);
                }
            }
            assert_eq!(array.populated_bytes(), 16 * 4096);
        }
    }
}
