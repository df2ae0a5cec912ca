//! [`SparseArray`]: an array as long as the space, of which only the populated chunks cost memory.
//!
//! An element that was never populated reads as all zero, which every element type takes to mean *absent*. Elements
//! are atomics: the array is shared, and it is type-stable, i.e. an element's address never becomes anything else
//! while the array lives. Two implementations behind one face: `reserved` (Linux: address space reserved once, an
//! element found by arithmetic) and `heap` (elsewhere, and in models: chunks of ordinary memory that stay).
//!
//! Below: `vm`. Above: `section_map`, `free_map`, `device`. Edges: [publish] in `heap`.

#[cfg(any(not(target_os = "linux"), farpage_heap, all(loom, feature = "loom")))]
mod heap;
#[cfg(all(target_os = "linux", not(farpage_heap), not(all(loom, feature = "loom"))))]
mod reserved;

use core::fmt;

#[cfg(any(not(target_os = "linux"), farpage_heap, all(loom, feature = "loom")))]
pub(crate) use heap::SparseArray;
#[cfg(all(target_os = "linux", not(farpage_heap), not(all(loom, feature = "loom"))))]
pub(crate) use reserved::SparseArray;

use crate::sync::{AtomicPtr, AtomicU32, AtomicU64};

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

    thread_local! {
        static POPULATES_LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    }

    /// Lets this thread populate `nr` more chunks (any number, with `None`).
    pub(crate) fn after(nr: Option<u32>) {
        POPULATES_LEFT.set(nr);
    }

    pub(super) fn meet() -> Result<(), NoMemory> {
        match POPULATES_LEFT.get() {
            Some(0) => Err(NoMemory { bytes: 4096 }),
            left => {
                POPULATES_LEFT.set(left.map(|left| left - 1));
                Ok(())
            }
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
