//! [`EvictTicket`]: a range of a device, or all of it, is closed, emptied, and taken or opened again.
//!
//! Two phases: closing, from which on nothing new begins in the range, and the end, which hands out what is empty or opens
//! all. Between them nobody waits for anything, and whoever has pages elsewhere notices nothing. Linux:
//! `migrate_device_range()`, and `chunk.remove` in `test_hmm`; `uvm_pmm_gpu` evicts one block of 2 MiB at a time under a lock.
//!
//! Below: `free_map`, which keeps what is closed; `walk`. Above: the programs that evict. Edges: [close].
#![forbid(unsafe_code)]

use core::fmt;
use core::ops::Range;

use crate::device::{Device, RangeHandle};
use crate::error::{AllocError, EvictError};
use crate::folio::LockedFolio;
use crate::free_map::NotClosed;
use crate::geometry::{BLOCK_SHIFT, block_of};
use crate::words::{Offset, OffsetRange};

impl<'s> Device<'s> {
    /// Closes the blocks of 512 pages that `range` touches, to evict what lives there; all of the device with
    /// [`Device::range`].
    ///
    /// From when this has returned until the ticket ends, no allocation that begins gets a page of them (one that was under way
    /// still may), of this thread or another, from the map or out of a cache; folios that live there go on living,
    /// and may be got, put and split as ever. What comes free there stays free for the ticket. Allocation elsewhere goes on,
    /// without waiting for anything; the closed pages are not free for it: [`AllocError::Exhausted`] and
    /// [`AllocError::Fragmented`] neither count nor look at them ([`Device::nr_free_pages`] does count them).
    ///
    /// A driver may do this in its [`pressure`](crate::DeviceOps::pressure) callback, and on a device that was
    /// [killed](Device::kill), as the first step of its end.
    ///
    /// Linear in the blocks, of which each gets memory for its word (8 bytes) if it has none; interrupts the cores that run
    /// this process once, and once more for each run that must be taken out of a cache. Takes the registration lock.
    ///
    /// # Errors
    ///
    /// [`EvictError`]; nothing has changed.
    ///
    /// ```
    /// use farpage::{Access, DeviceConfig, Order, Space};
    ///
    /// let space = Space::new()?;
    /// let vram = space.register(DeviceConfig::new(4 * 512))?;
    /// let mut page_table = Vec::new();
    /// for _ in 0..512 {
    ///     page_table.push(vram.alloc(Order::ZERO)?.into_leaf(Access::Write));
    /// }
    ///
    /// let mut ticket = vram.evict(vram.range())?;
    /// assert!(vram.alloc(Order::ZERO).is_err());
    /// let evicted = ticket.evict(2, |folio| {
    ///     // Copy it home, and replace the entries that map it, by a reverse map. Here: by its offset.
    ///     let at = page_table.iter().position(|leaf| leaf.offset() == Some(folio.offset())).expect("one entry maps it");
    ///     space.unmap(page_table.swap_remove(at)).expect("its reference");
    /// });
    /// assert_eq!((evicted.nr_evicted, evicted.nr_busy), (4, 0));
    /// let ranges = ticket.commit()?; // all of it, in one piece
    /// assert_eq!(ranges[0].range(), vram.range());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn evict(&self, range: OffsetRange) -> Result<EvictTicket<'s>, EvictError> {
        let (device, start) = (self.range(), range.start().get());
        let end = start + range.nr_pages();
        if range.nr_pages() == 0 || start < device.start().get() || end > device.start().get() + device.nr_pages() {
            return Err(EvictError::OutsideDevice { range, device });
        }
        let blocks = block_of(start)..block_of(end - 1) + 1;
        let close = || {
            if !self.space.table().is_registered(&self.entry) {
                return Err(EvictError::Gone);
            }
            let seat = self.entry.seats().of_this_thread();
            let map = self.entry.map();
            map.close(self.entry.claimer(self.space, seat), blocks.clone()).map_err(|error| match error {
                NotClosed::Overlaps(other) => EvictError::Overlaps { range: self.pages_of(&other) },
                NotClosed::NoMemory(error) => EvictError::NoMemory { bytes: error.bytes },
            })
        };
        // Metadata is given back to the system under the same lock.
        self.space.table().while_registry_locked(close)?;
        Ok(EvictTicket { device: self.clone(), blocks })
    }

    /// The pages of `blocks` that exist.
    fn pages_of(&self, blocks: &Range<u64>) -> OffsetRange {
        let last = (blocks.end - 1) << BLOCK_SHIFT;
        let (start, end) = (blocks.start << BLOCK_SHIFT, last + self.entry.map().pages_in(blocks.end - 1));
        OffsetRange::new(Offset::from_low_bits(start), end - start).unwrap_or(OffsetRange::EMPTY)
    }
}

/// Blocks of a device that are closed, made by [`Device::evict`]. Dropping it opens them again, as [`EvictTicket::abort`].
///
/// What is in the way in one block concerns that block only, which is *busy*. Nothing here waits or tries for ever:
/// [`EvictTicket::evict`] ends after as many rounds as it is told.
///
/// The ticket does not keep its device registered: when that has gone, the ticket has nothing.
#[must_use = "dropping it opens the blocks again"]
pub struct EvictTicket<'s> {
    device: Device<'s>,
    blocks: Range<u64>,
}

/// What [`EvictTicket::evict`] has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Evicted {
    /// Closed blocks of which every page is free.
    pub nr_evicted: u64,
    /// The others; [`EvictTicket::busy`] says which, and why.
    pub nr_busy: u64,
    /// How often a folio was handed to the driver.
    pub nr_handed: u64,
    /// How many rounds it took, the first included.
    pub rounds: u32,
}

/// A closed block in which a page is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BusyBlock {
    /// The pages of the block.
    pub block: OffsetRange,
    /// The first page of the first folio that lives there, which may begin before the block; of the block, if none could be
    /// got hold of: a folio that is frozen, that is just beginning or ending, or that waits for its
    /// [driver](crate::DeferredFrees).
    pub offset: Offset,
    /// Its references, of handles and leaf words; 0 if none could be got hold of.
    pub refs: u32,
    /// How many of them leaf words own.
    pub maps: u32,
    /// Whether somebody has its lock.
    pub is_locked: bool,
}

impl<'s> EvictTicket<'s> {
    /// The device.
    pub fn device(&self) -> &Device<'s> {
        &self.device
    }

    /// What was closed: whole blocks of 512 pages, but for one in which the device ends.
    pub fn range(&self) -> OffsetRange {
        self.device.pages_of(&self.blocks)
    }

    /// Hands each folio that lives in the range to `driver`, locked, with a reference; and again, up to `retries` times, those
    /// that live still.
    ///
    /// The driver copies it and replaces the leaf words that map it ([`Space::unmap`](crate::Space::unmap)); when it drops
    /// the folio, and nobody else has a reference, the pages are free. It may keep folios for a batch, and finish that later:
    /// until then their blocks are busy. A folio that somebody has locked or frozen is left out of the round. One of order 10 or
    /// more that reaches beyond the range is handed out as any other. If `driver` panics, the ticket is as it was.
    ///
    /// Waits for nobody: at most `1 + retries` walks over the blocks that are busy (see [`LiveFolios`](crate::LiveFolios)),
    /// and none after the last block has emptied.
    pub fn evict(&mut self, retries: u32, mut driver: impl FnMut(LockedFolio<'s>)) -> Evicted {
        let mut nr_handed = 0;
        for round in 1.. {
            let mut from = self.blocks.start;
            while let Some(stretch) = self.next_busy(from) {
                from = stretch.end;
                for folio in self.device.live_folios_in(self.device.pages_of(&stretch)) {
                    // Never a blocking lock: whoever has it may wait for a folio that our driver has in its batch.
                    if let Ok(locked) = folio.try_lock_owned() {
                        nr_handed += 1;
                        driver(locked);
                    }
                }
            }
            let (nr_evicted, nr_busy) = self.count();
            if nr_busy == 0 || round > retries {
                return Evicted { nr_evicted, nr_busy, nr_handed, rounds: round };
            }
        }
        unreachable!("fewer than 2^32 retries")
    }

    /// The blocks that are not empty, by offset, and what is there in each: as of when the iterator comes by.
    pub fn busy(&self) -> impl Iterator<Item = BusyBlock> {
        self.closed_blocks().filter(|&block| !self.is_evicted(block)).map(|block| {
            let pages = self.device.pages_of(&(block..block + 1));
            let nothing = BusyBlock { block: pages, offset: pages.start(), refs: 0, maps: 0, is_locked: false };
            self.device.live_folios_in(pages).next().map_or(nothing, |folio| BusyBlock {
                offset: folio.offset(),
                // One is ours.
                refs: folio.refs().saturating_sub(1),
                maps: folio.maps(),
                is_locked: folio.is_locked(),
                ..nothing
            })
        })
    }

    /// Opens those blocks that are empty, for everybody, and keeps the others closed. How many pages that was.
    pub fn release_evicted(&mut self) -> u64 {
        let Device { space, entry } = &self.device;
        let is_evicted = |block| self.is_evicted(block);
        // Under the lock that ends closures with their device.
        entry.map().open_of_closure(space.blocks(), &self.blocks, is_evicted)
    }

    /// Ends the eviction, and hands out what is empty: a range for each run of empty blocks, with one reference of each of
    /// its folios (see [`RangeHandle`]). Busy blocks are opened again; so is one in which, at this moment, an allocation that began
    /// before the eviction has taken pages, to give them back.
    ///
    /// # Errors
    ///
    /// [`AllocError::Dying`] for a device that was killed, [`AllocError::NoMemory`]. Then all blocks are opened again.
    pub fn commit(self) -> Result<Vec<RangeHandle<'s>>, AllocError> {
        let device = self.device.clone();
        let (entry, space, seat) = (&device.entry, device.space, device.entry.seats().of_this_thread());
        let (map, blocks, nr_pages) = (entry.map(), space.blocks(), self.range().nr_pages());
        device.admit(seat, nr_pages)?;
        let mut runs: Vec<Range<u64>> = Vec::new();
        // Claimed one by one: an exact search must not take it for granted that they stay taken.
        let claimed = map.while_unsure(seat, nr_pages, |given_up| {
            for block in self.closed_blocks() {
                // Before the claim: nothing can be in the way after it.
                runs.try_reserve(1).map_err(|_| AllocError::NoMemory)?;
                let (start, exist) = (block << BLOCK_SHIFT, map.pages_in(block));
                if !blocks.claim_closed(block, exist, given_up) {
                    continue;
                }
                match runs.last_mut() {
                    Some(run) if run.end == start => run.end += exist,
                    _ => runs.push(start..start + exist),
                }
            }
            Ok(())
        });
        // What is claimed is taken; the rest opens.
        drop(self);
        let nr_claimed: u64 = runs.iter().map(|run| run.end - run.start).sum();
        device.dismiss(seat, nr_pages - nr_claimed);
        runs.iter().for_each(|run| map.arrange(blocks, run.clone()));
        let prepared = claimed.and_then(|()| {
            let mut ranges = Vec::new();
            ranges.try_reserve_exact(runs.len()).map_err(|_| AllocError::NoMemory)?;
            runs.iter().try_for_each(|run| device.prepare_span(run.clone()))?;
            Ok(ranges)
        });
        match prepared {
            Ok(mut ranges) => {
                ranges.extend(runs.into_iter().map(|run| device.begin_prepared(run)));
                Ok(ranges)
            }
            Err(error) => {
                let claimer = entry.claimer(space, seat);
                runs.into_iter().for_each(|run| _ = map.release_span(claimer, run));
                device.dismiss(seat, nr_claimed);
                Err(error)
            }
        }
    }

    /// Ends the eviction, and opens all blocks: what was free before, and what has come free, is anybody's.
    pub fn abort(self) {}

    /// The next blocks, one behind the other, that are closed and not empty.
    fn next_busy(&self, from: u64) -> Option<Range<u64>> {
        let is_busy = |&block: &u64| self.is_closing(block) && !self.is_evicted(block);
        let first = (from..self.blocks.end).find(is_busy)?;
        // Behind the first, which may have emptied since.
        let end = (first + 1..self.blocks.end).find(|block| !is_busy(block)).unwrap_or(self.blocks.end);
        Some(first..end)
    }

    /// Those that were not released, if the device has not gone.
    fn closed_blocks(&self) -> impl Iterator<Item = u64> {
        self.blocks.clone().filter(|&block| self.is_closing(block))
    }

    /// How many of them are empty, and how many are not.
    fn count(&self) -> (u64, u64) {
        self.closed_blocks().fold((0, 0), |(evicted, busy), block| {
            if self.is_evicted(block) { (evicted + 1, busy) } else { (evicted, busy + 1) }
        })
    }

    fn is_closing(&self, block: u64) -> bool {
        let Device { space, entry } = &self.device;
        entry.map().is_closing(space.blocks(), block) && space.table().is_registered(entry)
    }

    fn is_evicted(&self, block: u64) -> bool {
        self.device.entry.map().is_evicted(self.device.space.blocks(), block)
    }
}

impl Drop for EvictTicket<'_> {
    fn drop(&mut self) {
        self.device.entry.map().end_closure(self.device.space.blocks(), &self.blocks);
    }
}

impl fmt::Debug for EvictTicket<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EvictTicket")
            .field("device", &self.device)
            .field("range", &format_args!("{}", self.range()))
            .finish()
    }
}
