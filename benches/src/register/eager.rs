//! A record of 64 bytes for every page, all of them written at registration: `struct page`, as `memremap_pages()` does it.

#![forbid(unsafe_code)]

use std::hint::black_box;

/// As large as Linux's, with the fields that its initialisation of device-private pages writes.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct StructPage {
    /// Zone, node and section.
    pub flags: u64,
    /// Which device it is of.
    pub pgmap: u64,
    /// The driver's word.
    pub zone_device_data: u64,
    /// Address space and index; unused here.
    pub mapping: [u64; 2],
    /// Mappings, less one.
    pub mapcount: i32,
    /// References: 0 is free.
    pub refcount: i32,
    /// Memory control group, and padding.
    pub rest: [u64; 2],
}

const _: () = assert!(size_of::<StructPage>() == 64);

impl StructPage {
    fn of_device(page: u64, pgmap: u64) -> Self {
        // Node and section in the upper bits, as `set_page_links()` leaves them: so they differ from page to page.
        let flags = (page >> 15) << 46 | 1 << 11;
        Self { flags, pgmap, zone_device_data: 0, mapping: [0; 2], mapcount: -1, refcount: 0, rest: [0; 2] }
    }
}

/// A registered device: its pages.
#[derive(Debug)]
pub struct Eager(Vec<StructPage>);

impl Eager {
    /// Memory for every page, and each page written.
    pub fn register(nr_pages: u64) -> Self {
        let mut pages = Vec::with_capacity(usize::try_from(nr_pages).expect("it fits"));
        pages.extend((0..nr_pages).map(|page| StructPage::of_device(page, 1)));
        Self(black_box(pages))
    }

    /// The same in the memory of a device that has gone: without the system's part of it.
    pub fn register_again(&mut self, pgmap: u64) {
        for (at, page) in self.0.iter_mut().enumerate() {
            *page = StructPage::of_device(at as u64, pgmap);
        }
        black_box(&mut self.0);
    }

    /// Whether every page is free and of device `pgmap`.
    pub fn holds(&self, pgmap: u64) -> bool {
        self.0.iter().all(|page| (page.pgmap, page.refcount, page.mapcount) == (pgmap, 0, -1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_is_written() {
        let mut device = Eager::register(100_000);
        assert_eq!(device.0.len(), 100_000);
        assert!(device.holds(1));
        device.register_again(2);
        assert!(device.holds(2) && !device.holds(1));
        assert_ne!(device.0[0].flags, device.0[99_999].flags);
    }
}
