//! [`RealMemory`]: host pages that this process can map: the pages of a memfd, by their numbers.
//! Where they are mapped is not known here; see `window`.
//! Below: `error`. Above: `window`.
//!
//! The bytes are read and written through the descriptor, by the kernel, as a device reads and writes memory: programs may load and store
//! them at the same time through a window, and no Rust access here races with theirs.

use core::fmt;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};

use farpage::{DeviceOps, FreedFolio, HostMemory, PAGE_BYTES, Pfn};

use crate::error::{OsError, RegionError};
use crate::mapping::host_page_bytes;

/// Real host pages, for a [`Machine`](farpage::Machine): page `n` is the `n`th page of a file in memory, which a
/// [`Window`](crate::Window) maps where the software page table says.
///
/// A page takes memory from its first use until it is freed, if this is registered as the callbacks of the device that the pages are
/// of. The bytes go by system calls.
///
/// # Panics
///
/// Its methods panic when the system has no memory left for a page, for which [`HostMemory`] has no error, and for a page beyond the
/// last.
///
/// ```
/// use farpage::{HostMemory, Pfn};
/// use farpage_region::RealMemory;
///
/// let memory = RealMemory::new(1 << 20)?; // 4 GiB of addresses
/// memory.write(Pfn::new(77).unwrap(), 10, b"bytes");
/// let mut out = [0; 6];
/// memory.read(Pfn::new(77).unwrap(), 10, &mut out);
/// assert_eq!((&out, memory.nr_used()?), (b"bytes\0", 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RealMemory {
    file: File,
    nr_pages: u64,
}

impl RealMemory {
    /// Pages 0 to `nr_pages`, all zero, none of which takes memory yet.
    ///
    /// # Errors
    ///
    /// [`RegionError::Os`] where the system gives no file of that size; [`RegionError::HostPage`] on a machine of other pages
    /// than 4 KiB.
    pub fn new(nr_pages: u64) -> Result<RealMemory, RegionError> {
        let page_bytes = host_page_bytes();
        if page_bytes != PAGE_BYTES {
            return Err(RegionError::HostPage { page_bytes, run_bytes: PAGE_BYTES });
        }
        // SAFETY: A literal string and flags in, a descriptor out.
        let raw = unsafe { libc::memfd_create(c"farpage-memory".as_ptr(), libc::MFD_CLOEXEC) };
        if raw < 0 {
            return Err(OsError::last("memfd_create").into());
        }
        // SAFETY: The kernel has just given us `raw`; nobody else knows its number.
        let file = File::from(unsafe { OwnedFd::from_raw_fd(raw) });
        let too_large = OsError::new("ftruncate(memory)", libc::EFBIG);
        let bytes = nr_pages.checked_mul(PAGE_BYTES).filter(|bytes| i64::try_from(*bytes).is_ok()).ok_or(too_large)?;
        let sized = file.set_len(bytes);
        sized.map_err(|error| OsError::new("ftruncate(memory)", error.raw_os_error().unwrap_or(0)))?;
        Ok(RealMemory { file, nr_pages })
    }

    /// How many pages there are.
    pub fn nr_pages(&self) -> u64 {
        self.nr_pages
    }

    /// How many pages take memory.
    ///
    /// # Errors
    ///
    /// [`RegionError::Os`] if the system does not say.
    pub fn nr_used(&self) -> Result<u64, RegionError> {
        let data = self.file.metadata();
        let data = data.map_err(|error| OsError::new("fstat(memory)", error.raw_os_error().unwrap_or(0)))?;
        Ok(data.blocks() * 512 / PAGE_BYTES)
    }

    /// The descriptor, and where in it a page is.
    pub(crate) fn place(&self, pfn: Pfn) -> (i32, libc::off_t) {
        self.check(pfn, 1);
        (self.file.as_raw_fd(), (pfn.get() * PAGE_BYTES) as libc::off_t)
    }

    /// Another descriptor of the same pages.
    pub(crate) fn share(&self) -> Result<RealMemory, OsError> {
        let file = self.file.try_clone();
        let file = file.map_err(|error| OsError::new("dup(memory)", error.raw_os_error().unwrap_or(0)))?;
        Ok(RealMemory { file, nr_pages: self.nr_pages })
    }

    /// Gives a page memory, if it has none; it reads as before.
    pub(crate) fn populate(&self, pfn: Pfn) -> Result<(), OsError> {
        self.allocate(0, pfn, 1)
    }

    fn allocate(&self, mode: libc::c_int, pfn: Pfn, nr_pages: u64) -> Result<(), OsError> {
        let (fd, at) = self.place(pfn);
        loop {
            // SAFETY: A descriptor and three numbers. Pages that go read as zeros from now on: the caller owns them.
            if unsafe { libc::fallocate(fd, mode, at, (nr_pages * PAGE_BYTES) as libc::off_t) } == 0 {
                return Ok(());
            }
            match OsError::last("fallocate(memory)") {
                error if error.errno() == libc::EINTR => {}
                error => return Err(error),
            }
        }
    }

    /// Takes the memory of pages away, which read as zeros then.
    fn clear(&self, pfn: Pfn, nr_pages: u64) {
        self.check(pfn, nr_pages);
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        self.allocate(mode, pfn, nr_pages).unwrap_or_else(|error| panic!("page {}: {error}", pfn.get()));
    }

    fn check(&self, pfn: Pfn, nr_pages: u64) {
        let end = pfn.get().saturating_add(nr_pages);
        assert!(end <= self.nr_pages, "pages {}..{end} of a memory of {} pages", pfn.get(), self.nr_pages);
    }

    fn byte(&self, pfn: Pfn, at: usize, len: usize) -> u64 {
        self.check(pfn, 1);
        assert!(at as u64 <= PAGE_BYTES && len as u64 <= PAGE_BYTES - at as u64, "{len} bytes at {at} of a page");
        pfn.get() * PAGE_BYTES + at as u64
    }
}

impl HostMemory for RealMemory {
    fn read(&self, pfn: Pfn, at: usize, out: &mut [u8]) {
        let done = self.file.read_exact_at(out, self.byte(pfn, at, out.len()));
        done.unwrap_or_else(|error| panic!("reading page {}: {error}", pfn.get()));
    }

    fn write(&self, pfn: Pfn, at: usize, data: &[u8]) {
        let done = self.file.write_all_at(data, self.byte(pfn, at, data.len()));
        done.unwrap_or_else(|error| panic!("writing page {}: {error}", pfn.get()));
    }

    fn copy(&self, from: Pfn, to: Pfn, nr_pages: u64) {
        let mut bytes = [0; PAGE_BYTES as usize];
        for page in 0..nr_pages {
            let (Some(from), Some(to)) = (from.checked_add(page), to.checked_add(page)) else { return };
            self.read(from, 0, &mut bytes);
            self.write(to, 0, &bytes);
        }
    }

    fn zero(&self, pfn: Pfn, nr_pages: u64) {
        self.clear(pfn, nr_pages);
    }
}

impl DeviceOps for RealMemory {
    fn folio_free(&self, folio: FreedFolio) {
        if let Some(pfn) = Pfn::new(folio.offset().get()) {
            self.clear(pfn, folio.order().nr_pages());
        }
    }
}

impl fmt::Debug for RealMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RealMemory").field("nr_pages", &self.nr_pages).finish_non_exhaustive()
    }
}
