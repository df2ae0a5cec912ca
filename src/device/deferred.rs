//! [`DeferredFrees`]: the driver takes freed folios when it likes, instead of being called.
#![forbid(unsafe_code)]

use core::fmt;

use crate::device::ops::FreedFolio;
use crate::device::{Device, give_back};
use crate::section_map::Place;
use crate::space::Space;
use crate::words::{Offset, Order};

/// The folios of one device that have been freed, and wait for their driver.
///
/// For drivers whose work at the end of a folio must not be done by whoever drops the last reference, for which Linux'
/// drivers have workers (`xe_bo_put_async`, `svm_range_bo_unref_async`). Of a device that is [registered
/// so](crate::DeviceConfig::deferred), a folio whose last reference is put joins a list; its pages stay taken, and
/// count as in use, until the driver has taken it from here and dropped what it took. So a device with freed folios
/// waiting cannot go.
///
/// Joining the list is lock-free and needs no memory: it runs through the folios' own records. Order of arrival.
///
/// ```
/// use farpage::{DeviceConfig, Order, Space};
///
/// let space = Space::new()?;
/// let device = space.register(DeviceConfig::new(1024).deferred())?;
/// let deferred = device.deferred_frees().expect("registered so");
///
/// let folio = device.alloc(Order::HUGE)?;
/// folio.set_private(7);
/// drop(folio); // no callback
/// assert_eq!(device.nr_live_pages(), 512);
///
/// for freed in deferred.take_batch(64) {
///     assert_eq!((freed.order(), freed.private()), (Order::HUGE, 7));
///     // ... wait for the device to be done with the pages ...
/// } // they are free from here on
/// assert_eq!(device.nr_live_pages(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct DeferredFrees<'s> {
    device: Device<'s>,
}

impl<'s> DeferredFrees<'s> {
    pub(super) fn of(device: &Device<'s>) -> Option<DeferredFrees<'s>> {
        device.entry.listeners().queue().is_some().then(|| DeferredFrees { device: device.clone() })
    }

    /// The device.
    pub fn device(&self) -> &Device<'s> {
        &self.device
    }

    /// Takes up to `max` freed folios, the oldest first, one with each step of the iterator; what it does not get to
    /// stays.
    ///
    /// Any number of threads may take at once; each folio is taken once. A short lock among takers for each; those who
    /// free never wait for it.
    pub fn take_batch(&self, max: usize) -> impl Iterator<Item = DeferredFolio<'s>> {
        let entry = &self.device.entry;
        let space = self.device.space;
        let pop = move || {
            let place = entry.listeners().queue()?.pop(space.sections())?;
            Some(DeferredFolio { space, place })
        };
        (0..max).map_while(move |_| pop())
    }

    /// Whether nothing waits. It may have changed when this returns.
    pub fn is_empty(&self) -> bool {
        self.device.entry.listeners().queue().is_none_or(|queue| queue.is_empty())
    }
}

impl fmt::Debug for DeferredFrees<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeferredFrees").field("device", &self.device).field("is_empty", &self.is_empty()).finish()
    }
}

/// A freed folio that its driver has taken. Dropping it gives the pages back.
#[must_use = "dropping it gives the pages back"]
pub struct DeferredFolio<'s> {
    space: &'s Space,
    place: Place,
}

impl DeferredFolio<'_> {
    /// Its first page.
    pub fn offset(&self) -> Offset {
        self.place.head
    }

    /// Its order.
    pub fn order(&self) -> Order {
        self.place.order
    }

    /// How many pages.
    pub fn nr_pages(&self) -> u64 {
        self.place.order.nr_pages()
    }

    /// The driver's word, as last set.
    pub fn private(&self) -> u64 {
        self.space.sections().at(self.place).map_or(0, |record| record.private())
    }

    /// What [`DeviceOps::folio_free`](crate::DeviceOps::folio_free) would have been told.
    pub fn freed(&self) -> FreedFolio {
        FreedFolio { offset: self.offset(), order: self.order(), private: self.private() }
    }
}

impl Drop for DeferredFolio<'_> {
    fn drop(&mut self) {
        if let Some(record) = self.space.sections().at(self.place) {
            record.unlink();
        }
        give_back(self.space, self.place);
    }
}

impl fmt::Debug for DeferredFolio<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.freed().fmt(f)
    }
}
