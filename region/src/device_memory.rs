//! A memfd that stands for a device's memory: bytes, addressed by nothing but farpage offsets.
//! Which of them are in use is not known here; the [`Device`] knows. Bytes go in by `pwrite` and
//! come out through a read-only mapping, as a copy engine would move them.
//! Below: `span`, `error`. Above: `driver`, `pager`.
//!
//! [`Device`]: farpage::Device

use core::ptr::{self, NonNull};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use farpage::Offset;

use crate::PAGE_BYTES;
use crate::error::OsError;
use crate::span::Span;

/// The memory of a device of `nr_pages` pages whose first offset is `first`.
pub(crate) struct DeviceMemory {
    fd: OwnedFd,
    /// Read-only, `nr_pages` long, mapped until `Drop`.
    mapping: NonNull<u8>,
    nr_pages: u64,
}

// SAFETY: The mapping is read-only and belongs to this value until `Drop`; nothing in it is bound
// to a thread. Its bytes are read by the kernel, or by `Mapping::fill`, which says why it may.
unsafe impl Send for DeviceMemory {}
// SAFETY: As for `Send`; every method is a system call on a descriptor, which threads may share.
unsafe impl Sync for DeviceMemory {}

/// Proof that the bytes of a span are in the device's memory, so the pages may go.
#[must_use = "the pages are still there: discard them, or say why they stay"]
pub(crate) struct Saved<'a>(Span<'a>);

impl<'a> Saved<'a> {
    /// One proof for two stretches, this one right behind the other.
    pub(crate) fn after(self, before: Saved<'a>) -> Saved<'a> {
        Saved(before.0.join(self.0))
    }

    pub(crate) fn into_span(self) -> Span<'a> {
        self.0
    }
}

/// A page of the device, counted from the device's own start: what its hardware would call it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct DevicePage(u64);

impl DevicePage {
    /// Where `offset` is in a device that starts at `first`. The one place that turns one into the other.
    pub(crate) fn of(offset: Offset, first: Offset) -> DevicePage {
        DevicePage(offset.get() - first.get())
    }

    /// The page that is `nr_pages` behind.
    pub(crate) fn plus(self, nr_pages: usize) -> DevicePage {
        DevicePage(self.0 + nr_pages as u64)
    }

    fn byte(self) -> u64 {
        self.0 * PAGE_BYTES
    }
}

impl DeviceMemory {
    pub(crate) fn new(nr_pages: u64) -> Result<DeviceMemory, OsError> {
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        // SAFETY: A literal string and flags in, a descriptor out.
        let raw = unsafe { libc::memfd_create(c"farpage-device".as_ptr(), flags) };
        if raw < 0 {
            return Err(OsError::last("memfd_create"));
        }
        // SAFETY: The kernel has just given us `raw`; nobody else knows its number.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        let len = nr_pages
            .checked_mul(PAGE_BYTES)
            .and_then(|bytes| libc::off_t::try_from(bytes).ok())
            .ok_or(OsError::new("ftruncate(device memory)", libc::EFBIG))?;
        // SAFETY: A descriptor and a length.
        if unsafe { libc::ftruncate(fd.as_raw_fd(), len) } < 0 {
            return Err(OsError::last("ftruncate(device memory)"));
        }
        // Sealed against shrinking, so that the mapping below has a byte behind every address for
        // as long as it stands, whatever another holder of the descriptor may try.
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        // SAFETY: A descriptor and a word.
        if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) } < 0 {
            return Err(OsError::last("fcntl(F_ADD_SEALS)"));
        }
        // SAFETY: A new mapping at an address of the kernel's choice replaces nothing of ours.
        let mapping = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len as usize,
                libc::PROT_READ,
                libc::MAP_SHARED | libc::MAP_NORESERVE,
                fd.as_raw_fd(),
                0,
            )
        };
        if mapping == libc::MAP_FAILED {
            return Err(OsError::last("mmap(device memory)"));
        }
        Ok(DeviceMemory { fd, mapping: NonNull::new(mapping.cast()).expect("mmap gives no null mapping"), nr_pages })
    }

    /// Copies the bytes of `from` to `page` and what follows it.
    ///
    /// The kernel reads `from`, so pages of it must be present: a missing one is `EFAULT`, because
    /// our userfaultfd serves user-mode faults only.
    pub(crate) fn save<'a>(&self, from: Span<'a>, page: DevicePage) -> Result<Saved<'a>, OsError> {
        self.check(page, from.len());
        let mut done = 0;
        while done < from.len() {
            // SAFETY: `done` is inside the span, so the address is.
            let source = unsafe { from.start().add(done) };
            // SAFETY: The rest of `from` stays mapped, by its type, and the kernel only reads it.
            let wrote = unsafe {
                libc::pwrite(
                    self.fd.as_raw_fd(),
                    source.as_ptr().cast(),
                    from.len() - done,
                    page.byte() as libc::off_t + done as libc::off_t,
                )
            };
            match usize::try_from(wrote) {
                Ok(0) => return Err(OsError::new("pwrite(device memory)", libc::EIO)),
                Ok(bytes) => done += bytes,
                Err(_) => match OsError::last("pwrite(device memory)") {
                    error if error.errno() == libc::EINTR => {}
                    error => return Err(error),
                },
            }
        }
        Ok(Saved(from))
    }

    /// The bytes of `page` and what follows it, as a source for the kernel to copy from.
    pub(crate) fn span(&self, page: DevicePage, len: usize) -> Span<'_> {
        self.check(page, len);
        // SAFETY: `check` has just found the last byte inside the mapping.
        let start = unsafe { self.mapping.add(page.byte() as usize) };
        // SAFETY: The same, and the mapping stands until `Drop`, which outlasts the borrow.
        unsafe { Span::new(start, len) }
    }

    /// A page outside the device would be a wrong offset: a bug that must not reach memory.
    fn check(&self, page: DevicePage, len: usize) {
        let end = page.0.saturating_add((len as u64).div_ceil(PAGE_BYTES));
        assert!(end <= self.nr_pages, "pages {}..{end} are outside a device of {} pages", page.0, self.nr_pages);
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        let len = (self.nr_pages * PAGE_BYTES) as usize;
        // SAFETY: Ours, mapped once in `new`; every `Span` of it borrowed from us and is gone.
        unsafe { libc::munmap(self.mapping.as_ptr().cast(), len) };
    }
}
