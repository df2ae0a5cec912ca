//! The region's own addresses: a range of anonymous memory whose pages come and go.
//! Which pages are there is not known here; see `runs`. When they go, neither; see `evict`.
//! Below: `span`, `uffd`, `runs`, `device_memory` (for the proof that bytes are saved).
//! Above: `frames`, `driver`, `pager`.
//!
//! Two kinds of code touch these bytes, and never in one mapping. With real faults it is the
//! embedder, through the one [`Window`]. Without them it is the accessor, under the lock of
//! the run. Which of the two is settled when the mapping is made, and asserted here.

use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};

use crate::PAGE_BYTES;
use crate::device_memory::Saved;
use crate::error::{OsError, RegionError};
use crate::runs::{LockedRun, Run};
use crate::span::Span;
use crate::uffd::Uffd;

/// Anonymous memory of one protection, unmapped on drop.
struct Anonymous {
    start: NonNull<u8>,
    len: usize,
}

impl Anonymous {
    fn new(len: usize, protection: libc::c_int) -> Result<Anonymous, OsError> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: A new mapping at an address of the kernel's choice replaces nothing of ours.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(OsError::last("mmap(region)"));
        }
        Ok(Anonymous { start: NonNull::new(start.cast()).expect("mmap gives no null mapping"), len })
    }

    fn advise(&self, advice: libc::c_int, name: &'static str) -> Result<(), OsError> {
        // SAFETY: Our own mapping; both pieces of advice given here leave its bytes alone.
        match unsafe { libc::madvise(self.start.as_ptr().cast(), self.len, advice) } {
            0 => Ok(()),
            _ => Err(OsError::last(name)),
        }
    }
}

impl Drop for Anonymous {
    fn drop(&mut self) {
        // SAFETY: Ours, mapped once in `new`; whatever points into it borrows from our owner.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// The end of a system call that moves `len` bytes, or fails.
fn whole(moved: isize, len: usize, call: &'static str) -> Result<(), OsError> {
    match usize::try_from(moved) {
        Ok(moved) if moved == len => Ok(()),
        Ok(_) => Err(OsError::new(call, libc::EFAULT)),
        Err(_) => Err(OsError::last(call)),
    }
}

/// Bytes in a page of this machine.
pub(crate) fn host_page_bytes() -> u64 {
    // SAFETY: Asks for a number.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as u64 }
}

/// `nr_runs` runs of virtual memory, the first aligned to a run.
pub(crate) struct Mapping {
    start: NonNull<u8>,
    nr_runs: usize,
    run_bytes: usize,
    /// There with real faults: all of the mapping is registered with it, for as long as it stands.
    uffd: Option<Uffd>,
    /// The window has been given out.
    opened: AtomicBool,
    /// One run that reads as zeros and never has memory of its own.
    zeros: Anonymous,
    /// What `start` points into; unmapped last, by being dropped.
    _whole: Anonymous,
}

// SAFETY: Anonymous memory is not bound to a thread. Who may touch its bytes is said at the top of
// the file, and each method that touches them says how it keeps to that.
unsafe impl Send for Mapping {}
// SAFETY: As for `Send`.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// With `uffd`, faults in the mapping are real; without, nobody is told of a missing page.
    pub(crate) fn new(nr_runs: usize, run_bytes: usize, uffd: Option<Uffd>) -> Result<Mapping, RegionError> {
        let too_long = OsError::new("mmap(region)", libc::ENOMEM);
        let len = nr_runs.checked_mul(run_bytes).ok_or(too_long)?;
        let padded = len.checked_add(run_bytes).ok_or(too_long)?;
        let whole = Anonymous::new(padded, libc::PROT_READ | libc::PROT_WRITE)?;
        // A huge page would come and go as one, whatever we call a run.
        whole.advise(libc::MADV_NOHUGEPAGE, "madvise(MADV_NOHUGEPAGE)")?;
        // A child of fork has no handlers: its missing pages would read as zeros. Better a fault.
        whole.advise(libc::MADV_DONTFORK, "madvise(MADV_DONTFORK)")?;
        let skip = whole.start.align_offset(run_bytes);
        // SAFETY: `skip` is below `run_bytes`, which the mapping was padded by.
        let start = unsafe { whole.start.add(skip) };
        let mapping = Mapping {
            start,
            nr_runs,
            run_bytes,
            uffd,
            opened: AtomicBool::new(false),
            zeros: Anonymous::new(run_bytes, libc::PROT_READ)?,
            _whole: whole,
        };
        if let Some(uffd) = &mapping.uffd {
            uffd.register(mapping.all())?;
        }
        Ok(mapping)
    }

    /// The descriptor that real faults come through.
    pub(crate) fn uffd(&self) -> Option<&Uffd> {
        self.uffd.as_ref()
    }

    /// The way to the bytes with real faults; given out once.
    pub(crate) fn open(&self) -> Option<Window<'_>> {
        // Relaxed: only which call was first matters.
        let first = self.uffd.is_some() && !self.opened.swap(true, Relaxed);
        first.then_some(Window { mapping: self })
    }

    pub(crate) fn len(&self) -> usize {
        self.nr_runs * self.run_bytes
    }

    pub(crate) fn run_bytes(&self) -> usize {
        self.run_bytes
    }

    /// The run that holds the byte at `address`, if it is one of ours.
    pub(crate) fn run_at(&self, address: u64) -> Option<Run> {
        let byte = address.checked_sub(self.all().address())?;
        let run = usize::try_from(byte).ok()? / self.run_bytes;
        (run < self.nr_runs).then(|| Run::new(run))
    }

    /// The page that holds the byte at `address`, if it is one of ours.
    pub(crate) fn page_at(&self, address: u64) -> Option<usize> {
        let byte = usize::try_from(address.checked_sub(self.all().address())?).ok()?;
        (byte < self.len()).then_some(byte / PAGE_BYTES as usize)
    }

    /// The bytes of `nr_pages` pages from `page` on.
    pub(crate) fn pages(&self, page: usize, nr_pages: usize) -> Span<'_> {
        let all = self.len() / PAGE_BYTES as usize;
        assert!(page <= all && nr_pages <= all - page, "{nr_pages} pages at {page} of {all}");
        // SAFETY: The page is inside the mapping, or right behind it.
        let start = unsafe { self.start.add(page * PAGE_BYTES as usize) };
        // SAFETY: All of the pages are, and they stay mapped until we drop, which outlasts the borrow.
        unsafe { Span::new(start, nr_pages * PAGE_BYTES as usize) }
    }

    /// All of it.
    pub(crate) fn all(&self) -> Span<'_> {
        // SAFETY: All of it stays mapped until we drop, which outlasts the borrow.
        unsafe { Span::new(self.start, self.len()) }
    }

    /// The bytes of one run.
    pub(crate) fn span(&self, run: Run) -> Span<'_> {
        assert!(run.index() < self.nr_runs);
        // SAFETY: The run is inside the mapping.
        let start = unsafe { self.start.add(run.index() * self.run_bytes) };
        // SAFETY: All of the run is, and it stays mapped until we drop, which outlasts the borrow.
        unsafe { Span::new(start, self.run_bytes) }
    }

    /// A run of zeros to copy from.
    pub(crate) fn zeros(&self) -> Span<'_> {
        // SAFETY: All of it stays mapped until we drop, which outlasts the borrow.
        unsafe { Span::new(self.zeros.start, self.zeros.len) }
    }

    /// Gives the memory of a run back; its bytes are in the device.
    ///
    /// The caller holds the run's lock and has published its leaf, so whoever misses
    /// the pages now finds the bytes through the leaf once the lock is free.
    pub(crate) fn discard(&self, saved: Saved<'_>) -> Result<(), OsError> {
        let span = saved.into_span();
        // SAFETY: The pages are replaced by missing ones, and nobody reads a missing page as
        // anything but what the pager brings home: with real faults the reader stops until it
        // has, since all of the mapping is registered with a descriptor that we own; without them
        // every reader asks the table first. What comes home is what was `saved`, and `evict`,
        // the only caller, kept writers out since before it was saved; so no byte is lost.
        let advised = unsafe { libc::madvise(span.start().as_ptr().cast(), span.len(), libc::MADV_DONTNEED) };
        match advised {
            0 => Ok(()),
            _ => Err(OsError::last("madvise(MADV_DONTNEED)")),
        }
    }

    /// Fills pages from `from`, without userfaultfd: the lock of their run, which the caller has, keeps everybody out.
    pub(crate) fn fill(&self, page: usize, from: Span<'_>) {
        assert!(self.uffd.is_none(), "with real faults the window has the bytes");
        let to = self.pages(page, from.len() / PAGE_BYTES as usize).start();
        // SAFETY: Both are mapped and as long as `from`, and in different mappings. `to` is our caller's: without real faults there is no
        // window, and all other ways to a run's bytes lead through its lock, which a fault that is served has. The only caller is `driver`, on
        // behalf of `Pager::install` and `Pager::restore`. The device's bytes belong to folios that are locked or of leaves in that run, so nobody writes them.
        unsafe { to.copy_from_nonoverlapping(from.start(), from.len()) };
    }

    /// Has the kernel read bytes of pages that are there, whoever writes them meanwhile; a missing page is `EFAULT`.
    pub(crate) fn peek(&self, byte: usize, out: &mut [u8]) -> Result<(), OsError> {
        let ours = libc::iovec { iov_base: out.as_mut_ptr().cast(), iov_len: out.len() };
        let there = self.iovec(byte, out.len());
        let pid = std::process::id() as libc::pid_t;
        // SAFETY: The kernel writes `out`, which is the caller's, and copies from memory that is mapped while we are borrowed.
        let read = unsafe { libc::process_vm_readv(pid, &ours, 1, &there, 1, 0) };
        whole(read, out.len(), "process_vm_readv(region)")
    }

    /// Has the kernel write bytes of pages that are there; otherwise as [`Mapping::peek`].
    pub(crate) fn poke(&self, byte: usize, data: &[u8]) -> Result<(), OsError> {
        let ours = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
        let there = self.iovec(byte, data.len());
        let pid = std::process::id() as libc::pid_t;
        // SAFETY: The kernel reads `data`, and copies to memory that is mapped while we are borrowed. That nobody takes the change amiss is
        // up to the owner of the host page, as with every write by its number.
        let wrote = unsafe { libc::process_vm_writev(pid, &ours, 1, &there, 1, 0) };
        whole(wrote, data.len(), "process_vm_writev(region)")
    }

    fn iovec(&self, byte: usize, len: usize) -> libc::iovec {
        assert!(byte <= self.len() && len <= self.len() - byte, "{len} bytes at {byte} of {}", self.len());
        // SAFETY: `byte` is inside the mapping, or right behind it with no bytes to follow.
        let start = unsafe { self.start.add(byte) };
        libc::iovec { iov_base: start.as_ptr().cast(), iov_len: len }
    }

    /// Reads from a resident run under its lock, without real faults.
    pub(crate) fn read_locked(&self, run: &LockedRun<'_>, at: usize, bytes: &mut [u8]) {
        let from = self.locked_bytes(run, at, bytes.len());
        let to = NonNull::from(bytes);
        // SAFETY: In bounds; `from` is ours while the run is locked, `to` is the caller's own.
        unsafe { to.cast().copy_from_nonoverlapping(from, to.len()) };
    }

    /// Writes to a resident run under its lock, without real faults.
    pub(crate) fn write_locked(&self, run: &LockedRun<'_>, at: usize, bytes: &[u8]) {
        let to = self.locked_bytes(run, at, bytes.len());
        // SAFETY: In bounds; `to` is ours while the run is locked, `bytes` is the caller's own.
        unsafe { to.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
    }

    /// Bytes of a locked run that are the caller's while it is locked: without real faults there
    /// is no window, and all other ways to a run's bytes lead through its lock.
    fn locked_bytes(&self, run: &LockedRun<'_>, at: usize, len: usize) -> NonNull<u8> {
        assert!(self.uffd.is_none(), "with real faults the window has the bytes");
        assert!(at <= self.run_bytes && len <= self.run_bytes - at);
        // SAFETY: `at` is inside the run.
        unsafe { self.span(run.run()).start().add(at) }
    }
}

/// The embedder's way to the bytes of a mapping with real faults. There is one, so an exclusive
/// borrow of it is an exclusive borrow of the bytes.
pub(crate) struct Window<'m> {
    mapping: &'m Mapping,
}

impl Window<'_> {
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.mapping.start
    }

    /// The bytes, as the ordinary memory that they are to every instruction.
    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        let start = self.mapping.start.as_ptr();
        // SAFETY: Mapped while the borrowed mapping is, long enough, and any byte is a valid `u8`.
        // This is the only window and we have it exclusively, so nobody else in Rust has the
        // bytes. That pages come and go does not show, as with swapping: the pager has the kernel
        // move whole pages and gives each back as it left, and a thread that meets a missing one
        // stops, since the mapping stays registered as long as it stands. (Whoever uses a raw
        // pointer from `Region::as_ptr` has promised to keep out.)
        unsafe { core::slice::from_raw_parts_mut(start, self.mapping.len()) }
    }

    /// Copies bytes out. No lock keeps other readers and writers away, so each byte is an atomic.
    pub(crate) fn read(&self, at: usize, bytes: &mut [u8]) {
        let cells = &self.cells()[at..][..bytes.len()];
        for (byte, cell) in bytes.iter_mut().zip(cells) {
            *byte = cell.load(Relaxed);
        }
    }

    /// Copies bytes in. No lock keeps other readers and writers away, so each byte is an atomic.
    pub(crate) fn write(&self, at: usize, bytes: &[u8]) {
        let cells = &self.cells()[at..][..bytes.len()];
        for (byte, cell) in bytes.iter().zip(cells) {
            cell.store(*byte, Relaxed);
        }
    }

    fn cells(&self) -> &[AtomicU8] {
        let start = self.mapping.start.cast().as_ptr();
        // SAFETY: As for `as_mut_slice`, but shared: while we are borrowed so, no slice exists,
        // and every access is one of these atomics, all of one size.
        unsafe { core::slice::from_raw_parts(start, self.mapping.len()) }
    }
}
