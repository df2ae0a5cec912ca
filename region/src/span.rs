//! A stretch of mapped memory that is handed to the kernel and never turned into a reference.
//! Made by `mapping` and `device_memory` alone, which know what they mapped; used by system calls.
//! Below: nothing. Above: `uffd`, `device_memory`, `mapping`.

use core::marker::PhantomData;
use core::ptr::NonNull;

/// Bytes that stay mapped for `'a`; an address and a length for a system call.
///
/// Having one gives no right to read or write the bytes from Rust: in a region that takes real
/// faults they belong to whoever holds the region's slice, and a missing page would have the
/// pager wait for itself. The kernel copies them instead, as it does when it swaps.
#[derive(Clone, Copy)]
pub(crate) struct Span<'a> {
    start: NonNull<u8>,
    len: usize,
    mapped: PhantomData<&'a ()>,
}

impl<'a> Span<'a> {
    /// Names `len` bytes from `start`.
    ///
    /// # Safety
    ///
    /// The bytes must be mapped, and stay so for `'a`.
    pub(crate) unsafe fn new(start: NonNull<u8>, len: usize) -> Span<'a> {
        Span { start, len, mapped: PhantomData }
    }

    /// The stretch of both, the second of which must begin where the first ends.
    pub(crate) fn join(self, next: Span<'a>) -> Span<'a> {
        assert_eq!(self.start.addr().get() + self.len, next.start.addr().get(), "adjacent spans");
        Span { len: self.len + next.len, ..self }
    }

    pub(crate) fn start(self) -> NonNull<u8> {
        self.start
    }

    /// The address as the kernel's structures want it.
    pub(crate) fn address(self) -> u64 {
        self.start.as_ptr().expose_provenance() as u64
    }

    pub(crate) fn len(self) -> usize {
        self.len
    }
}
