//! The region's host memory, as an address space of the library sees it: which page of the region a host page's bytes are at.
//! When pages come and go is not known here.
//! Below: `mapping`. Above: `pager`, `driver`.
//!
//! A host page is given its **place** when it is mapped, and loses it when it is freed. Until it has one it is fresh, and reads as zeros.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::Arc;

use farpage::{DeviceOps, FreedFolio, HostMemory, PAGE_BYTES, Pfn};

use crate::mapping::Mapping;

const PAGE: usize = PAGE_BYTES as usize;
const NOWHERE: usize = usize::MAX;

/// The pages of the region that are in RAM, by host page number.
pub(crate) struct Frames {
    mapping: Arc<Mapping>,
    /// By host page number, the page of the region.
    places: Box<[AtomicUsize]>,
}

impl Frames {
    pub(crate) fn new(mapping: Arc<Mapping>, nr_frames: u64) -> Frames {
        Frames { mapping, places: (0..nr_frames).map(|_| AtomicUsize::new(NOWHERE)).collect() }
    }

    /// `nr_pages` host pages from `pfn` on are those of the region from `page` on.
    ///
    /// The caller has the lock of the run that the pages are of, and a reference of the host pages.
    pub(crate) fn place(&self, pfn: Pfn, page: usize, nr_pages: usize) {
        for nr in 0..nr_pages {
            // Relaxed: whoever asks has a reference of the host page, from somebody who had it after us.
            self.places[pfn.get() as usize + nr].store(page + nr, Relaxed);
        }
    }

    /// Where in the region a byte of a host page is.
    fn byte(&self, pfn: Pfn, at: usize) -> Option<usize> {
        // Relaxed: see `place`.
        match self.places[pfn.get() as usize].load(Relaxed) {
            NOWHERE => None,
            page => Some(page * PAGE + at),
        }
    }
}

impl HostMemory for Frames {
    fn read(&self, pfn: Pfn, at: usize, out: &mut [u8]) {
        match self.byte(pfn, at) {
            None => out.fill(0),
            Some(byte) => {
                let done = self.mapping.peek(byte, out);
                done.unwrap_or_else(|error| panic!("reading page {}: {error}", pfn.get()));
            }
        }
    }

    fn write(&self, pfn: Pfn, at: usize, data: &[u8]) {
        let byte = self.byte(pfn, at).unwrap_or_else(|| panic!("page {} is nowhere in the region", pfn.get()));
        let done = self.mapping.poke(byte, data);
        done.unwrap_or_else(|error| panic!("writing page {}: {error}", pfn.get()));
    }

    fn copy(&self, from: Pfn, to: Pfn, nr_pages: u64) {
        let mut bytes = [0; PAGE];
        for page in 0..nr_pages {
            let (Some(from), Some(to)) = (from.checked_add(page), to.checked_add(page)) else { return };
            self.read(from, 0, &mut bytes);
            self.write(to, 0, &bytes);
        }
    }

    fn zero(&self, pfn: Pfn, nr_pages: u64) {
        for page in 0..nr_pages {
            let Some(pfn) = pfn.checked_add(page) else { return };
            // A page without a place is fresh, and the region's page that it is going to be is made of zeros then.
            if self.byte(pfn, 0).is_some() {
                self.write(pfn, 0, &[0; PAGE]);
            }
        }
    }
}

impl DeviceOps for Frames {
    fn folio_free(&self, folio: FreedFolio) {
        for nr in 0..folio.order().nr_pages() {
            // Relaxed: nobody has a reference, and who allocates the page comes after us.
            self.places[(folio.offset().get() + nr) as usize].store(NOWHERE, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use farpage::{DeviceConfig, HostMemory, Order, Pfn, Space};

    use super::{Frames, PAGE};
    use crate::mapping::Mapping;

    #[test]
    fn a_host_page_has_the_bytes_of_its_place_until_it_is_freed() {
        let mapping = Arc::new(Mapping::new(4, PAGE, None).unwrap());
        let frames = Arc::new(Frames::new(Arc::clone(&mapping), 512));
        let host_pages = Space::new().unwrap();
        let ram = host_pages.register(DeviceConfig::new(512).ops(Arc::clone(&frames))).unwrap();
        let (one, other) = (ram.alloc(Order::ZERO).unwrap(), ram.alloc(Order::ZERO).unwrap());
        let [pfn, next] = [&one, &other].map(|folio| Pfn::new(folio.offset().get()).unwrap());
        let read = |pfn| {
            let mut out = [9; 3];
            frames.read(pfn, 7, &mut out);
            out
        };
        assert_eq!(read(pfn), [0; 3], "fresh");
        frames.place(pfn, 2, 1);
        frames.place(next, 0, 1);
        frames.write(pfn, 7, b"one");
        frames.copy(pfn, next, 1);
        let mut bytes = [0; 3];
        mapping.peek(2 * PAGE + 7, &mut bytes).unwrap();
        assert_eq!((&bytes, read(next)), (b"one", *b"one"));
        frames.zero(pfn, 1);
        assert_eq!((read(pfn), read(next)), ([0; 3], *b"one"));
        drop(other);
        assert_eq!(read(next), [0; 3], "freed");
    }
}
