//! Address space from the operating system: reserve it once, commit parts of it, give it back at the end.
//!
//! Linux only; the one file of the library with system calls. Above: `sparse`.

use core::ops::Range;
use core::ptr::{self, NonNull};

use crate::sparse::NoMemory;

/// A huge page of the metadata itself.
const HUGE_BYTES: usize = 2 << 20;

/// A range of address space that reads as zero until it is written, and costs no memory until then.
pub(crate) struct Reservation {
    /// What `mmap` returned, for `munmap`.
    mapping: NonNull<u8>,
    mapping_bytes: usize,
    /// The first usable byte, aligned for the pages that were asked for.
    base: NonNull<u8>,
}

// SAFETY: The reservation is address space without an owner thread; every access to what it holds goes through
// atomics that `sparse` lays over it.
unsafe impl Send for Reservation {}
// SAFETY: As above; the methods that take `&self` only pass a range to the kernel.
unsafe impl Sync for Reservation {}

impl Reservation {
    /// Reserves `bytes` bytes, to be backed by huge pages or by base pages only. The error is the system's number.
    pub(crate) fn new(bytes: usize, huge: bool) -> Result<Reservation, i32> {
        let slack = if huge { HUGE_BYTES } else { 0 };
        let mapping_bytes = bytes.checked_add(slack).ok_or(libc::ENOMEM)?.max(1);
        // SAFETY: An anonymous private mapping at an address of the kernel's choice: no memory of ours is involved.
        // MAP_NORESERVE, since otherwise the whole range would be charged as if it were used.
        let mapping = unsafe {
            libc::mmap(
                ptr::null_mut(),
                mapping_bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if mapping == libc::MAP_FAILED {
            return Err(last_error());
        }
        let mapping = NonNull::new(mapping.cast::<u8>()).expect("mmap without MAP_FIXED never returns null");
        let base = if huge {
            let skip = mapping.addr().get().next_multiple_of(HUGE_BYTES) - mapping.addr().get();
            // SAFETY: `skip` is below HUGE_BYTES, the slack that was added above.
            unsafe { mapping.add(skip) }
        } else {
            mapping
        };
        let advice = if huge { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE };
        // SAFETY: The range is the one just mapped. Advice changes no content. A kernel without huge pages refuses
        // it, which is harmless: then there are only base pages.
        unsafe { libc::madvise(base.as_ptr().cast(), bytes, advice) };
        Ok(Reservation { mapping, mapping_bytes, base })
    }

    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Gives the memory behind the bytes `start..start + len`, whole pages of the system, back to it: they read as zero
    /// from then on. Whether the system took it.
    pub(crate) fn give_back(&self, start: usize, len: usize) -> bool {
        // SAFETY: Callers pass a range of the reservation, which `base` is the first byte of.
        let from = unsafe { self.base.add(start) };
        // MADV_DONTNEED_LOCKED, of Linux 5.18 and later, for a process that has locked its memory.
        [libc::MADV_DONTNEED, libc::MADV_DONTNEED_LOCKED].into_iter().any(|advice| {
            // SAFETY: The range lies in this mapping. What was in it is lost, as the caller wants: those who race with
            // this see the old values or zeroes, through atomics.
            unsafe { libc::madvise(from.as_ptr().cast(), len, advice) == 0 }
        })
    }

    /// Backs the bytes `start..start + len` with memory, so that a shortage is an error here and not a signal later.
    /// What is in them stays. The range is widened to whole pages of the system.
    pub(crate) fn commit(&self, start: usize, len: usize) -> Result<(), NoMemory> {
        let first = self.base.addr().get() + start;
        let page_bytes = page_bytes();
        let aligned = first & !(page_bytes - 1);
        let len = (first + len).next_multiple_of(page_bytes) - aligned;
        // Within the mapping: `mmap` maps whole pages, so widening to whole pages never leaves it.
        let from = self.mapping.as_ptr().with_addr(aligned);
        // SAFETY: The range lies in this mapping, see above. Populating keeps what is in the pages.
        if unsafe { libc::madvise(from.cast(), len, libc::MADV_POPULATE_WRITE) } == 0 {
            return Ok(());
        }
        match last_error() {
            // Linux before 5.14 does not know the call: pages appear at the first write, and a shortage then is the
            // kernel's to resolve.
            libc::EINVAL => Ok(()),
            _ => Err(NoMemory { bytes: len as u64 }),
        }
    }

    /// Calls `each` with the parts of `range`, in bytes from the base, that lie in memory just now, page by page in ascending
    /// order. `None` if the system does not say.
    ///
    /// What was only read counts too: it is one page of zeroes for all. What is swapped out does not.
    pub(crate) fn for_each_resident(&self, range: Range<usize>, mut each: impl FnMut(Range<usize>)) -> Option<()> {
        let page_bytes = page_bytes();
        let mut present = [0u8; 4096];
        let mut at = range.start & !(page_bytes - 1);
        while at < range.end {
            let nr_pages = (range.end - at).div_ceil(page_bytes).min(present.len());
            let from = self.base.as_ptr().wrapping_add(at);
            // SAFETY: The system writes a byte for each of `nr_pages` pages, of which `present` has room for as many. Of the
            // pages themselves nothing is read, and if they were not mapped, the call would say so.
            if unsafe { libc::mincore(from.cast(), nr_pages * page_bytes, present.as_mut_ptr()) } != 0 {
                return None;
            }
            for (nr, flags) in present[..nr_pages].iter().enumerate() {
                if flags & 1 != 0 {
                    let start = at + nr * page_bytes;
                    each(start.max(range.start)..(start + page_bytes).min(range.end));
                }
            }
            at += nr_pages * page_bytes;
        }
        Some(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // SAFETY: `new` mapped exactly this range, and whoever borrowed from it borrowed from `self`.
        unsafe { libc::munmap(self.mapping.as_ptr().cast(), self.mapping_bytes) };
    }
}

fn last_error() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::ENOMEM)
}

/// A page of the system.
pub(crate) fn page_bytes() -> usize {
    // SAFETY: Reads a constant of the system.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_memory_reads_zero_and_commit_keeps_what_is_there() {
        for huge in [false, true] {
            let reservation = Reservation::new(64 << 30, huge).expect("64 GiB of address space");
            if huge {
                assert_eq!(reservation.base().addr().get() % HUGE_BYTES, 0);
            }
            // SAFETY: In the reservation.
            let mut byte = unsafe { reservation.base().add(5000) };
            // SAFETY: Mapped, readable and writable; no other thread has it.
            let byte = unsafe { byte.as_mut() };
            assert_eq!(*byte, 0);
            *byte = 7;
            reservation.commit(4096, 4096).expect("a page of memory");
            assert_eq!(*byte, 7);
        }
    }

    #[test]
    fn what_is_given_back_reads_as_zero_and_its_neighbours_stay() {
        let reservation = Reservation::new(1 << 20, false).expect("a megabyte of address space");
        let page = page_bytes();
        let byte_at = |at: usize| {
            // SAFETY: In the reservation.
            let byte = unsafe { reservation.base().add(at) };
            // SAFETY: Mapped, readable and writable; atomics, as everybody uses there.
            unsafe { byte.cast::<core::sync::atomic::AtomicU8>().as_ref() }
        };
        for at in [0, page, 2 * page] {
            byte_at(at).store(7, core::sync::atomic::Ordering::Relaxed);
        }
        assert!(reservation.give_back(page, page));
        let read = |at| byte_at(at).load(core::sync::atomic::Ordering::Relaxed);
        assert_eq!((read(0), read(page), read(2 * page)), (7, 0, 7));
    }

    #[test]
    fn only_what_was_written_or_committed_is_resident() {
        let (reservation, page) = (Reservation::new(1 << 30, false).expect("address space"), page_bytes());
        let resident = |range| {
            let mut parts = Vec::new();
            reservation.for_each_resident(range, |part| parts.push(part)).expect("the system says");
            parts
        };
        assert_eq!(resident(0..1 << 30), []);
        // More than one question apart, and in the midst of pages.
        let far = 20_000 * page;
        reservation.commit(3 * page, 2 * page).expect("two pages");
        reservation.commit(far + 5, 1).expect("a page");
        let all = [3 * page..4 * page, 4 * page..5 * page, far..far + page];
        assert_eq!(resident(0..1 << 30), all);
        assert_eq!(resident(3 * page + 1..4 * page + 7), [3 * page + 1..4 * page, 4 * page..4 * page + 7]);
        assert_eq!(resident(far + 9..far + 12).first(), Some(&(far + 9..far + 12)));
        assert_eq!((resident(0..3 * page), resident(4 * page..4 * page)), (Vec::new(), Vec::new()));
    }

    #[test]
    fn what_the_system_refuses_is_an_error() {
        assert_eq!(Reservation::new(1 << 60, false).err(), Some(libc::ENOMEM));
        assert_eq!(Reservation::new(usize::MAX, true).err(), Some(libc::ENOMEM));
    }
}
