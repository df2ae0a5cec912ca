//! [`HostMemory`]: the bytes of host pages, whoever has them. [`Frame`]: a counted host folio. [`HeapMemory`]: simulated ones.
//!
//! Host pages are a [`Device`](crate::Device) too, of a space whose offsets *are* page frame numbers: so they are allocated, counted, locked and
//! freed by the same code, and [`Space::validate`](crate::Space::validate) checks them. The two spaces are never one, and
//! a leaf's kind says of which it speaks, so a number of the one cannot pass for one of the other.
#![forbid(unsafe_code)]

use core::fmt;
use std::sync::Arc;

use super::address::PAGE_BYTES;
use crate::device::{DeviceOps, FreedFolio};
use crate::folio::Folio;
use crate::sync::Mutex;
use crate::words::{Order, Pfn};

/// The bytes of host pages, by their number.
///
/// The caller owns a reference of the pages, or the page-table lock of a leaf that does, so that none is freed or given to
/// somebody else during a call. Several threads may read and write one page at once, as CPUs do.
pub trait HostMemory: Send + Sync {
    /// Reads bytes of a page, from `at` on; `at + out.len()` is at most 4096.
    fn read(&self, pfn: Pfn, at: usize, out: &mut [u8]);

    /// Writes bytes of a page, from `at` on; `at + data.len()` is at most 4096.
    fn write(&self, pfn: Pfn, at: usize, data: &[u8]);

    /// Copies `nr_pages` whole pages, from `from` on, to `to` on. They do not overlap.
    fn copy(&self, from: Pfn, to: Pfn, nr_pages: u64);

    /// Fills `nr_pages` whole pages from `pfn` on with zeros.
    fn zero(&self, pfn: Pfn, nr_pages: u64);
}

impl<T: HostMemory + ?Sized> HostMemory for Arc<T> {
    fn read(&self, pfn: Pfn, at: usize, out: &mut [u8]) {
        (**self).read(pfn, at, out);
    }

    fn write(&self, pfn: Pfn, at: usize, data: &[u8]) {
        (**self).write(pfn, at, data);
    }

    fn copy(&self, from: Pfn, to: Pfn, nr_pages: u64) {
        (**self).copy(from, to, nr_pages);
    }

    fn zero(&self, pfn: Pfn, nr_pages: u64) {
        (**self).zero(pfn, nr_pages);
    }
}

/// A reference of a host folio: what [`Folio`] is for device pages. Linux: `struct folio`, of ordinary memory.
///
/// Its pages are numbered by [`Pfn`]s. Cloning takes a reference, dropping puts it.
#[derive(Clone, PartialEq, Eq)]
#[must_use = "dropping the last handle frees the folio"]
pub struct Frame<'s>(Folio<'s>);

impl<'s> Frame<'s> {
    pub(super) fn new(folio: Folio<'s>) -> Frame<'s> {
        Frame(folio)
    }

    pub(super) fn as_folio(&self) -> &Folio<'s> {
        &self.0
    }

    pub(super) fn into_folio(self) -> Folio<'s> {
        self.0
    }

    /// The first page.
    #[inline]
    pub fn pfn(&self) -> Pfn {
        super::pages::pfn_of(self.0.offset())
    }

    /// The order.
    #[inline]
    pub fn order(&self) -> Order {
        self.0.order()
    }

    /// How many references the folio has, of handles and of leaves.
    pub fn refs(&self) -> u32 {
        self.0.refs()
    }

    /// How many leaves map it.
    pub fn maps(&self) -> u32 {
        self.0.maps()
    }
}

impl fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("pfn", &self.pfn().get())
            .field("order", &self.order().get())
            .field("refs", &self.refs())
            .field("maps", &self.maps())
            .finish()
    }
}

const PAGE: usize = PAGE_BYTES as usize;

/// The bytes of one page; none while they are all zero.
type Bytes = Option<Box<[u8]>>;

/// Simulated host pages, on the heap: a page costs memory from its first write until it is freed.
///
/// Registered as the callbacks of the device that its pages are of, it drops a page's bytes when the page is freed.
///
/// ```
/// use farpage::{HeapMemory, HostMemory, Pfn};
///
/// let memory = HeapMemory::new(16);
/// let pfn = Pfn::new(3).unwrap();
/// memory.write(pfn, 10, b"bytes");
/// let mut out = [0; 6];
/// memory.read(pfn, 10, &mut out);
/// assert_eq!(&out, b"bytes\0");
/// ```
pub struct HeapMemory {
    pages: Box<[Mutex<Bytes>]>,
}

impl HeapMemory {
    /// Pages 0 to `nr_pages`, all zero.
    pub fn new(nr_pages: u64) -> HeapMemory {
        HeapMemory { pages: (0..nr_pages).map(|_| Mutex::new(None)).collect() }
    }

    /// How many pages have bytes.
    pub fn nr_used(&self) -> u64 {
        self.pages.iter().filter(|page| page.lock().is_some()).count() as u64
    }

    fn page(&self, number: u64) -> &Mutex<Bytes> {
        &self.pages[number as usize]
    }

    fn forget(&self, first: u64, nr_pages: u64) {
        for page in first..first + nr_pages {
            drop(self.page(page).lock().take());
        }
    }
}

impl HostMemory for HeapMemory {
    fn read(&self, pfn: Pfn, at: usize, out: &mut [u8]) {
        match &*self.page(pfn.get()).lock() {
            Some(bytes) => out.copy_from_slice(&bytes[at..at + out.len()]),
            None => out.fill(0),
        }
    }

    fn write(&self, pfn: Pfn, at: usize, data: &[u8]) {
        let mut page = self.page(pfn.get()).lock();
        let bytes = page.get_or_insert_with(|| vec![0; PAGE].into_boxed_slice());
        bytes[at..at + data.len()].copy_from_slice(data);
    }

    fn copy(&self, from: Pfn, to: Pfn, nr_pages: u64) {
        for page in 0..nr_pages {
            // One lock at a time, so that two copies the other way round do not wait for each other.
            let bytes = self.page(from.get() + page).lock().clone();
            *self.page(to.get() + page).lock() = bytes;
        }
    }

    fn zero(&self, pfn: Pfn, nr_pages: u64) {
        self.forget(pfn.get(), nr_pages);
    }
}

impl DeviceOps for HeapMemory {
    fn folio_free(&self, folio: FreedFolio) {
        self.forget(folio.offset().get(), folio.order().nr_pages());
    }
}

impl fmt::Debug for HeapMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeapMemory").field("pages", &self.pages.len()).finish_non_exhaustive()
    }
}
