//! The yardstick: a plain array of 16-byte records, indexed as a slice.
//!
//! It checks its bounds, as any Rust slice does, and nothing else: no kind, no generation, no
//! liveness. Its memory comes straight from the kernel, aligned for huge pages and advised like the
//! metadata that it stands beside, so that neither side wins by its page table.

use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};

use serde::Serialize;

/// Bytes of a huge page.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Which pages the kernel is asked to put under a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PageAdvice {
    /// Base pages (4 KiB): `MADV_NOHUGEPAGE`.
    Base,
    /// Huge pages (2 MiB): `MADV_HUGEPAGE`.
    Huge,
}

impl PageAdvice {
    /// `base` or `huge`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Huge => "huge",
        }
    }

    fn madvise(self) -> libc::c_int {
        match self {
            Self::Base => libc::MADV_NOHUGEPAGE,
            Self::Huge => libc::MADV_HUGEPAGE,
        }
    }
}

/// As much as farpage keeps for a page, and no more: 16 bytes.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Record {
    /// Stands for the word that farpage checks.
    pub state: u64,
    /// The word that is read.
    pub private: u64,
}

const _: () = assert!(size_of::<Record>() == 16);

/// A mapped, populated `[Record]`.
#[derive(Debug)]
pub struct PlainArray {
    /// Start of the mapping.
    map: NonNull<libc::c_void>,
    map_bytes: usize,
    /// First record: the first huge-page boundary in the mapping.
    records: NonNull<Record>,
    len: usize,
}

impl PlainArray {
    /// Maps `len` records and touches them all.
    pub fn new(len: usize, advice: PageAdvice) -> io::Result<Self> {
        let bytes = (len * size_of::<Record>()).next_multiple_of(HUGE_PAGE_BYTES);
        let map_bytes = bytes + HUGE_PAGE_BYTES;
        // SAFETY: A fresh anonymous mapping at an address of the kernel's choice touches no memory
        // that anyone else uses.
        let map = unsafe {
            libc::mmap(
                ptr::null_mut(),
                map_bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if map == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let map = NonNull::new(map).expect("the kernel does not map page zero unasked");
        let skip = map.as_ptr().cast::<u8>().align_offset(HUGE_PAGE_BYTES);
        // SAFETY: The mapping is one huge page longer than `bytes`, and `skip` is less than that.
        let records = unsafe { map.byte_add(skip) }.cast::<Record>();
        let mut array = Self { map, map_bytes, records, len };
        // SAFETY: The range lies in the mapping above, which holds no data yet.
        if unsafe { libc::madvise(records.as_ptr().cast(), bytes, advice.madvise()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        array.fill(Record { state: 1, private: 0 });
        Ok(array)
    }
}

impl Deref for PlainArray {
    type Target = [Record];

    #[inline]
    fn deref(&self) -> &[Record] {
        // SAFETY: `records` is aligned, and `len` records fit in the mapping, which lives as long as
        // `self`. Fresh anonymous memory is zero, and zero is a valid `Record`.
        unsafe { std::slice::from_raw_parts(self.records.as_ptr(), self.len) }
    }
}

impl DerefMut for PlainArray {
    fn deref_mut(&mut self) -> &mut [Record] {
        // SAFETY: As in `deref`, and `&mut self` makes us the only one.
        unsafe { std::slice::from_raw_parts_mut(self.records.as_ptr(), self.len) }
    }
}

impl Drop for PlainArray {
    fn drop(&mut self) {
        // SAFETY: The mapping is ours alone, and no slice of it outlives `self`.
        unsafe { libc::munmap(self.map.as_ptr(), self.map_bytes) };
    }
}

/// Asks for huge pages under what the process has allocated so far, and has them built at once.
///
/// For the peers, whose memory comes from the ordinary allocator: beside a huge-page table they
/// would else be charged for page walks that are none of their doing. Best effort: what the kernel
/// refuses stays as it is, and the report says how many bytes it granted.
pub fn advise_heap() {
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else {
        return;
    };
    for range in maps.lines().filter_map(heap_range) {
        let start = range.start.next_multiple_of(HUGE_PAGE_BYTES);
        let end = range.end / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
        if start < end {
            for advice in [libc::MADV_HUGEPAGE, libc::MADV_COLLAPSE] {
                let start = ptr::without_provenance_mut(start);
                // SAFETY: Neither advice changes what the memory holds, only which pages back it.
                unsafe { libc::madvise(start, end - start.addr(), advice) };
            }
        }
    }
}

/// The addresses of a `/proc/self/maps` line, when it is anonymous memory that the heap may be in.
fn heap_range(line: &str) -> Option<std::ops::Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let writable = fields.next()? == "rw-p";
    let anonymous = matches!(fields.nth(3), None | Some("[heap]"));
    let address = |digits| usize::from_str_radix(digits, 16).ok();
    (writable && anonymous).then_some(address(start)?..address(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_aligned_and_populated() {
        for advice in [PageAdvice::Base, PageAdvice::Huge] {
            let array = PlainArray::new(1000, advice).unwrap();
            assert_eq!(array.len(), 1000);
            assert_eq!(array.as_ptr().addr() % HUGE_PAGE_BYTES, 0);
            assert!(array.iter().all(|record| record.state == 1));
        }
    }

    #[test]
    fn only_writable_anonymous_memory_is_heap() {
        let heap = "5500-7700 rw-p 00000000 00:00 0    [heap]";
        assert_eq!(heap_range(heap), Some(0x5500..0x7700));
        assert_eq!(heap_range("10-20 rw-p 00000000 00:00 0"), Some(0x10..0x20));
        assert_eq!(heap_range("10-20 rw-p 00000000 00:00 0 [stack]"), None);
        assert_eq!(heap_range("10-20 r--p 00000000 00:00 0"), None);
    }
}
