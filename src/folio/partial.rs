//! [`Folio::give_up`]: pages of a folio that its holders do not need any more.
#![forbid(unsafe_code)]

use core::ops::Range;

use super::Folio;
use crate::error::GiveUpError;

impl Folio<'_> {
    /// Gives up pages of the folio, by their numbers from its first on: they come free when the folio is split or freed.
    /// Says how many of them had not been given up before.
    ///
    /// A folio has one count, so a part of it cannot be freed; as with a large folio that is half unmapped, the rest
    /// stays in use. Nothing is taken away: the pages are still the folio's, lookups find them, and they count as in
    /// use. A later [`split`](Folio::split) frees the parts that consist of such pages alone, and the others remember
    /// theirs. Meant for holders who agree among each other which pages nobody needs; there is no way back but to free
    /// the folio.
    ///
    /// Any holder may do so at any time; takes a lock of the device's. Needs 16 bytes for each 64 pages that it is the
    /// first in. Linux: a partially mapped folio, and the `deferred_split` that it waits for (which a device-private
    /// one never gets).
    ///
    /// # Errors
    ///
    /// [`GiveUpError`]; nothing has changed then.
    ///
    /// ```
    /// use farpage::{DeviceConfig, Order, Space};
    ///
    /// let space = Space::new()?;
    /// let device = space.register(DeviceConfig::new(512))?;
    /// let folio = device.alloc(Order::HUGE)?;
    /// assert_eq!(folio.give_up(0..500)?, 500);
    /// assert_eq!(folio.give_up(400..501)?, 1);
    /// assert_eq!((folio.given_up(), device.nr_live_pages()), (501, 512));
    ///
    /// // Room is wanted: the folio is split, and what nobody needs comes free.
    /// let parts: Vec<_> = folio.split(Order::new(2).unwrap()).expect("nobody else has it").collect();
    /// assert_eq!((parts.len(), device.nr_live_pages()), (3, 12));
    /// assert_eq!((parts[0].given_up(), parts[1].given_up()), (1, 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn give_up(&self, pages: Range<u64>) -> Result<u64, GiveUpError> {
        let (start, end, nr_pages) = (pages.start, pages.end, self.nr_pages());
        if start > end || end > nr_pages {
            return Err(GiveUpError::OutOfRange { start, end, nr_pages });
        }
        let head = self.offset().get();
        Ok(self.device().entry().listeners().give_up(head + start..head + end)?)
    }

    /// How many pages of the folio have been given up.
    pub fn given_up(&self) -> u64 {
        self.given_up_in(0..self.nr_pages())
    }

    /// Whether its page number `index` has been given up. `false` if it has no such page.
    pub fn is_given_up(&self, index: u64) -> bool {
        index < self.nr_pages() && self.given_up_in(index..index + 1) == 1
    }

    fn given_up_in(&self, pages: Range<u64>) -> u64 {
        let head = self.offset().get();
        self.device().entry().listeners().given_up_in(head + pages.start..head + pages.end)
    }
}
