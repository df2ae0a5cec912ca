//! [`Cache`]: a seat at a device for whoever allocates and frees in a loop.
#![forbid(unsafe_code)]

use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;

use crate::device::{Device, end_folio_at};
use crate::error::AllocError;
use crate::folio::Folio;
use crate::seat::Seat;
use crate::words::Order;

/// One owner's way to a device: allocates and frees as [`Device::alloc`] and dropping a folio do, without looking up the
/// device or the thread each time.
///
/// Freed folios below order 9 are kept, a bounded number of each order, and handed out again first; another thread that
/// finds nothing else free takes them from here, without waiting. Every thread has such a place for itself at every
/// device, which `Device::alloc` uses. A `Cache` is one more, that belongs to a value and not to a thread: it can be sent
/// to another thread, and gives everything back when it is dropped. There is room for at least 8 at each device (a quarter
/// of [`SpaceBuilder::cores`](crate::SpaceBuilder::cores) if that is more); further ones work, and share what belongs to
/// the thread that uses them.
///
/// ```
/// use farpage::{DeviceConfig, Order, Space};
///
/// let space = Space::new()?;
/// let device = space.register(DeviceConfig::new(1 << 20))?;
/// let mut cache = device.cache();
/// for _ in 0..3 {
///     let folio = cache.alloc(Order::ZERO)?;
///     cache.put(folio); // the same page three times
/// }
/// assert_eq!(device.nr_live_pages(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Cache<'s> {
    device: Device<'s>,
    /// The number of a leased seat.
    seat: Option<usize>,
    /// One thread at a time: `Send`, not `Sync`.
    single: PhantomData<Cell<()>>,
}

impl<'s> Cache<'s> {
    pub(super) fn new(device: Device<'s>) -> Cache<'s> {
        let seat = device.entry.seats().lease();
        Cache { device, seat, single: PhantomData }
    }

    /// The device that it allocates from.
    pub fn device(&self) -> &Device<'s> {
        &self.device
    }

    /// As [`Device::alloc`], errors included.
    #[inline(always)]
    pub fn alloc(&mut self, order: Order) -> Result<Folio<'s>, AllocError> {
        self.device.alloc_at(self.seat(), order)
    }

    /// As [`Device::alloc_many`], errors included.
    pub fn alloc_many(&mut self, order: Order, n: usize, folios: &mut Vec<Folio<'s>>) -> Result<(), AllocError> {
        self.device.alloc_many_at(self.seat(), order, n, folios)
    }

    /// Puts a reference, as dropping the handle does. A folio whose last reference it is stays in this cache if there is
    /// room. Folios of other devices are welcome, and go their own way.
    #[inline(always)]
    pub fn put(&mut self, folio: Folio<'s>) {
        if !self.device.owns(&folio) {
            return drop(folio);
        }
        if let Some((place, private)) = folio.put() {
            end_folio_at(self.device.space, place, private, &self.device.entry, self.seat());
        }
    }

    /// Gives the pages that are kept here back, so that large orders can form of them.
    pub fn drain(&mut self) {
        if self.seat.is_some() {
            self.device.drain_seat(self.seat());
        }
    }

    #[inline]
    fn seat(&self) -> &Seat {
        match self.seat {
            Some(number) => self.device.entry.seats().seat(number),
            None => self.device.entry.seats().of_this_thread(),
        }
    }
}

impl Drop for Cache<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.seat {
            self.device.drain_seat(self.device.entry.seats().seat(number));
            self.device.entry.seats().end_lease(number);
        }
    }
}

impl fmt::Debug for Cache<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.seat.map(|number| self.device.entry.seats().seat(number).stash().pages());
        f.debug_struct("Cache").field("device", &self.device).field("kept_pages", &kept).finish_non_exhaustive()
    }
}
