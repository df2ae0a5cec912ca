//! farpage as a rival: through `Device`, through a `Cache`, and by ranges.
//!
//! The address space is the default one, and so are the bounds.

#![forbid(unsafe_code)]

use std::ops::Range;

use farpage::{Cache, RangeHandle, RangeRequest};
use farpage::{Device, DeviceConfig, Folio, Order, Space};

use super::rival::Rival;

/// One device in a space of its own.
#[derive(Debug)]
struct Registered<'s> {
    space: &'s Space,
    device: Device<'s>,
}

impl<'s> Registered<'s> {
    fn new(space: &'s Space, nr_pages: u32) -> Self {
        let config = DeviceConfig::new(nr_pages.into()).name("bench");
        Self { space, device: space.register(config).expect("a device in an empty space") }
    }

    fn pages_of(&self, folio: &Folio<'s>, nr_pages: u32) -> Range<u64> {
        assert_eq!((folio.nr_pages(), folio.refs()), (nr_pages.into(), 1), "a folio is as it was asked for");
        let start = folio.offset().get();
        assert_eq!(start % folio.nr_pages(), 0, "a folio is naturally aligned");
        self.checked(start..start + folio.nr_pages())
    }

    fn checked(&self, pages: Range<u64>) -> Range<u64> {
        let range = self.device.range();
        let end = range.start().get() + range.nr_pages();
        assert!(range.start().get() <= pages.start && pages.end <= end, "{pages:?} are not of the device");
        pages
    }

    fn assert_all_free(&self) {
        assert_eq!(self.device.nr_live_pages(), 0, "every page was freed");
        self.space.validate().expect("the space agrees with itself");
    }
}

/// The order whose folios have `nr_pages` pages.
fn order(nr_pages: u32) -> Order {
    assert!(nr_pages.is_power_of_two(), "a folio of {nr_pages} pages");
    Order::new(nr_pages.ilog2() as u8).expect("a small order")
}

/// `Device::alloc`, `Device::alloc_many`, and drop.
#[derive(Debug)]
pub struct OnDevice<'s> {
    registered: Registered<'s>,
    order: Order,
}

impl<'s> OnDevice<'s> {
    /// A device of `nr_pages` for folios of `folio_pages`.
    pub fn new(space: &'s Space, nr_pages: u32, folio_pages: u32) -> Self {
        Self { registered: Registered::new(space, nr_pages), order: order(folio_pages) }
    }
}

impl<'s> Rival for OnDevice<'s> {
    type Hand<'r>
        = ()
    where
        's: 'r;
    type Held = Folio<'s>;

    fn hand(&self, _: usize, _: usize) {}

    #[inline]
    fn alloc(&self, (): &mut (), _: u32) -> Option<Folio<'s>> {
        self.registered.device.alloc(self.order).ok()
    }

    #[inline]
    fn free(&self, (): &mut (), folio: Folio<'s>) {
        drop(folio);
    }

    #[inline]
    fn alloc_many(&self, (): &mut (), _: u32, n: usize, folios: &mut Vec<Folio<'s>>) {
        self.registered.device.alloc_many(self.order, n, folios).expect("free pages");
    }

    fn pages(&self, folio: &Folio<'s>, nr_pages: u32) -> Range<u64> {
        self.registered.pages_of(folio, nr_pages)
    }

    fn assert_all_free(&self) {
        self.registered.assert_all_free();
    }
}

/// `Cache::alloc` and `Cache::put`, a cache for each thread.
#[derive(Debug)]
pub struct Cached<'s> {
    registered: Registered<'s>,
    order: Order,
}

impl<'s> Cached<'s> {
    /// A device of `nr_pages` for folios of `folio_pages`.
    pub fn new(space: &'s Space, nr_pages: u32, folio_pages: u32) -> Self {
        Self { registered: Registered::new(space, nr_pages), order: order(folio_pages) }
    }
}

impl<'s> Rival for Cached<'s> {
    type Hand<'r>
        = Cache<'s>
    where
        's: 'r;
    type Held = Folio<'s>;

    fn hand(&self, _: usize, _: usize) -> Cache<'s> {
        self.registered.device.cache()
    }

    #[inline]
    fn alloc(&self, cache: &mut Cache<'s>, _: u32) -> Option<Folio<'s>> {
        cache.alloc(self.order).ok()
    }

    #[inline]
    fn free(&self, cache: &mut Cache<'s>, folio: Folio<'s>) {
        cache.put(folio);
    }

    fn pages(&self, folio: &Folio<'s>, nr_pages: u32) -> Range<u64> {
        self.registered.pages_of(folio, nr_pages)
    }

    fn assert_all_free(&self) {
        self.registered.assert_all_free();
    }
}

/// `Device::alloc_range`, and drop.
#[derive(Debug)]
pub struct Ranges<'s>(Registered<'s>);

impl<'s> Ranges<'s> {
    /// A device of `nr_pages`.
    pub fn new(space: &'s Space, nr_pages: u32) -> Self {
        Self(Registered::new(space, nr_pages))
    }
}

impl<'s> Rival for Ranges<'s> {
    type Hand<'r>
        = ()
    where
        's: 'r;
    type Held = RangeHandle<'s>;

    fn hand(&self, _: usize, _: usize) {}

    #[inline]
    fn alloc(&self, (): &mut (), nr_pages: u32) -> Option<RangeHandle<'s>> {
        self.0.device.alloc_range(RangeRequest::new(nr_pages.into())).ok()
    }

    #[inline]
    fn free(&self, (): &mut (), handle: RangeHandle<'s>) {
        drop(handle);
    }

    fn pages(&self, handle: &RangeHandle<'s>, nr_pages: u32) -> Range<u64> {
        assert_eq!(handle.nr_pages(), u64::from(nr_pages), "a range is as long as it was asked for");
        let start = handle.range().start().get();
        self.0.checked(start..start + handle.nr_pages())
    }

    fn assert_all_free(&self) {
        self.0.assert_all_free();
    }
}
