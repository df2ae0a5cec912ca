//! [`LiveFolios`]: the folios that live in a range, one after the other, while others allocate and free.
//!
//! The free map and the metadata are read as any lookup reads them, and written by nobody for the walk's sake: what it
//! meets is what a speculative reference holds. Linux: `migrate_device_range()` with `folio_get_nontail_page()`.
//!
//! Below: `section_map`, `free_map`. Above: the programs that evict.
#![forbid(unsafe_code)]

use core::fmt;
use core::iter::FusedIterator;

use crate::class::Class;
use crate::device::Device;
use crate::folio::{Folio, FolioWord};
use crate::geometry::{BLOCK_SHIFT, PAGES_PER_BLOCK, PAGES_PER_WORD, block_of, blocks_for};
use crate::section_map::Place;
use crate::words::{Offset, OffsetRange, Order};

impl<'s> Device<'s> {
    /// The folios that live on the device, by offset, each with a reference: what an eviction goes over. See
    /// [`LiveFolios`].
    ///
    /// ```
    /// use core::time::Duration;
    /// use farpage::{Access, DeviceConfig, Order, Space};
    ///
    /// let space = Space::new()?;
    /// let vram = space.register(DeviceConfig::new(1 << 18))?;
    /// let mut page_table = [Order::ZERO, Order::HUGE, Order::ZERO]
    ///     .map(|order| vram.alloc(order).map(|folio| folio.into_leaf(Access::Write)));
    ///
    /// vram.kill(); // so that nothing new comes up behind the walk
    /// for folio in vram.live_folios() {
    ///     // Copy it home, and replace the entries that map it. Here: by its offset.
    ///     let leaf = page_table.iter().flatten().find(|leaf| leaf.offset() == Some(folio.offset()));
    ///     drop(space.take(*leaf.expect("one entry maps it"))?);
    /// }
    /// vram.drain(Duration::from_secs(1))?;
    /// vram.unregister().expect("nothing lives there any more");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn live_folios(&self) -> LiveFolios<'s> {
        self.live_folios_in(self.range())
    }

    /// The folios that have a page in `range`, of which only what lies in the device counts. See [`LiveFolios`].
    pub fn live_folios_in(&self, range: OffsetRange) -> LiveFolios<'s> {
        let device = self.range();
        let end_of = |range: OffsetRange| range.start().get() + range.nr_pages();
        let start = range.start().get().max(device.start().get());
        let end = end_of(range).min(end_of(device)).max(start);
        let mut at = start;
        if start < end && start > device.start().get() {
            // The folio that the range begins in begins before it.
            let found = self.space.sections().find(Offset::from_low_bits(start));
            at = found.map_or(start, |(place, _)| place.head.get().max(device.start().get()));
        }
        LiveFolios { device: self.clone(), start, at, end }
    }
}

/// An iterator over live folios, made by [`Device::live_folios`] and [`Device::live_folios_in`].
///
/// Others may allocate, free and divide folios meanwhile. **Each folio that lives during the whole walk is met exactly
/// once**, unless there is no reference of it to be had: it is frozen ([`FrozenFolio`](crate::FrozenFolio)) when the walk comes
/// by, or has 2^19 - 1, the most that it can count. One that comes or goes meanwhile is met at most once. What is met lives, as the handle has a reference of it. It is always a folio of this
/// registration of the device: when that has gone, the walk is at its end, whosever the offsets are now.
///
/// Goes from head to head, past free pages and tails. A block of 512 pages in which nothing was ever allocated, or everything
/// is free, costs a word or a line of bits; where there is no metadata, 512 such blocks cost one step. Each taken page that is
/// no live folio's head (kept in a cache, or of a folio that is being freed) costs a load. Nothing is locked and nobody waited
/// for: wait-free, but that a reference is taken by compare-exchange.
///
/// Dropping the last handle of a folio frees it, as anywhere; so a walk whose handles are dropped may be who frees what
/// others have put meanwhile, and call the driver's `folio_free`.
#[derive(Clone)]
#[must_use = "an iterator does nothing until it is asked for the next"]
pub struct LiveFolios<'s> {
    device: Device<'s>,
    /// Folios that end here or before are not in the range.
    start: u64,
    /// All heads before this page have been looked at.
    at: u64,
    end: u64,
}

impl<'s> LiveFolios<'s> {
    /// Looks at the next place where a folio may begin, and goes past it, or past the folio that does.
    fn step(&mut self) -> Option<Folio<'s>> {
        let sections = self.device.space.sections();
        let block = block_of(self.at);
        match sections.next_known_block(block..blocks_for(self.end)) {
            Some(known) if known == block => {}
            known => {
                self.at = known.map_or(self.end, |known| known << BLOCK_SHIFT);
                return None;
            }
        }
        // While a folio lives in the block, the word names its device and its order, or says "mixed".
        let word = sections.block_word(Offset::from_low_bits(self.at));
        match word.filter(|word| word.device() == self.device.entry.index()).map(|word| word.class()) {
            None | Some(Class::Unused) => self.skip_block(),
            Some(Class::Uniform(order)) if order.is_whole_block() => self.step_large(order),
            Some(Class::Uniform(order)) => self.step_small(order),
            Some(Class::Mixed) => self.step_small(Order::ZERO),
        }
    }

    fn skip_block(&mut self) -> Option<Folio<'s>> {
        self.at = (block_of(self.at) + 1) << BLOCK_SHIFT;
        None
    }

    /// In a block that was part of a folio of `order`, and may be.
    fn step_large(&mut self, order: Order) -> Option<Folio<'s>> {
        let head = order.align_down(self.at);
        if head != self.at {
            return self.skip_block();
        }
        let found = self.get(Place { head: Offset::from_low_bits(head), order });
        match &found {
            Some(_) => self.at = head + order.nr_pages(),
            // No further: the next block may be another's by now.
            None => _ = self.skip_block(),
        }
        found
    }

    /// In a block of folios below order 9, which begin at multiples of `spacing`.
    fn step_small(&mut self, spacing: Order) -> Option<Folio<'s>> {
        // The pages of a live folio are taken.
        let taken = self.device.space.blocks().word_of(self.at) >> (self.at % PAGES_PER_WORD);
        if taken == 0 {
            self.at = (self.at / PAGES_PER_WORD + 1) * PAGES_PER_WORD;
            return None;
        }
        let page = self.at + u64::from(taken.trailing_zeros());
        // Not past a folio that is seen and not got: others may come of it.
        self.at = spacing.align_down(page) + spacing.nr_pages();
        if page >= self.end || spacing.align_down(page) != page {
            return None;
        }
        let head = Offset::from_low_bits(page);
        let order = self.device.space.sections().small(head)?.state().order();
        let folio = self.get(Place { head, order })?;
        self.at = page + folio.nr_pages();
        Some(folio)
    }

    /// The folio at `place` if it lives there and reaches into the range.
    fn get(&self, place: Place) -> Option<Folio<'s>> {
        if place.head.get() + place.order.nr_pages() <= self.start {
            return None;
        }
        let record = self.device.space.sections().at(place)?;
        let seen = record.state();
        if !seen.is_live() || seen.order() != place.order {
            return None;
        }
        let state = record.try_get(seen.generation())?;
        Some(Folio::from_owned(self.device.space, FolioWord::new(place, state)))
    }
}

impl<'s> Iterator for LiveFolios<'s> {
    type Item = Folio<'s>;

    fn next(&mut self) -> Option<Folio<'s>> {
        while self.at < self.end {
            let Some(folio) = self.step() else { continue };
            if self.device.owns(&folio) {
                return Some(folio);
            }
            // The device has gone, and this is a folio of another. Nothing is left to meet, also if its end unwinds.
            self.at = self.end;
        }
        None
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, usize::try_from(self.end.saturating_sub(self.at)).ok())
    }
}

impl FusedIterator for LiveFolios<'_> {}

impl fmt::Debug for LiveFolios<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveFolios")
            .field("device", &self.device)
            .field("at", &format_args!("{:#x}", self.at))
            .field("end", &format_args!("{:#x}", self.end))
            .finish()
    }
}

const _: () = assert!(PAGES_PER_BLOCK % PAGES_PER_WORD == 0);
