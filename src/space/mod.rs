//! [`Space`]: the device-private address space as a whole: register devices in it, look leaves up in it.
//!
//! Below: everything. Above: the programs that embed it.
#![forbid(unsafe_code)]

mod builder;
mod report;
mod validate;

use core::fmt;
use core::time::Duration;
use std::sync::Arc;

pub use builder::{MetadataPages, SpaceBuilder};
pub use report::{DeviceReport, SpaceReport};
pub use validate::Violation;

use crate::device::{Device, DeviceConfig, DeviceTable, Entry, end_folio};
use crate::error::{RegisterError, SpaceError, TakeError};
use crate::folio::{Folio, FolioWord, PageRef, WeakFolio};
use crate::free_map::Blocks;
use crate::live::Bell;
use crate::page::{Page, State};
use crate::seat::Seating;
use crate::section_map::{Place, SectionMap};
use crate::wait::WaitTable;
use crate::words::{Offset, SoftLeaf};

/// How many lookups [`Space::lookup_many`] has under way at once.
const LOOKUPS_AT_ONCE: usize = 64;

/// A device-private address space: devices with their offsets, and the metadata of every page.
///
/// It is shared by reference: devices, folios and page references borrow it. A `static` space (in a `OnceLock`, or
/// leaked) gives handles without a lifetime to carry.
///
/// A space reserves address space for all its metadata once, and memory only for the sections in which something was
/// allocated.
///
/// ```
/// use farpage::{Access, DeviceConfig, Order, Space};
///
/// let space = Space::new()?;
/// let device = space.register(DeviceConfig::new(1 << 28))?; // 1 TiB of 4 KiB pages
/// let leaf = device.alloc(Order::ZERO)?.into_leaf(Access::Read);
///
/// let page = space.lookup(leaf).expect("the leaf keeps its folio");
/// assert_eq!((page.refs(), page.device() == device), (1, true));
/// # drop(space.take(leaf));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Space {
    /// Of this, lookups read the first words, and nothing else of the space.
    sections: SectionMap,
    blocks: Blocks,
    devices: DeviceTable,
    nobody: Arc<Entry>,
    bell: Bell,
    waits: WaitTable,
    max_pages: u64,
    cores: usize,
    cache_percent: u8,
}

impl Space {
    /// A space with the defaults of [`Space::builder`].
    ///
    /// # Errors
    ///
    /// [`SpaceError::AddressSpace`] if the system refuses the address space for the metadata.
    pub fn new() -> Result<Space, SpaceError> {
        Space::builder().build()
    }

    /// A space of another size or shape.
    pub fn builder() -> SpaceBuilder {
        SpaceBuilder::default()
    }

    /// How many pages the space has room for.
    pub fn max_pages(&self) -> u64 {
        self.max_pages
    }

    /// Registers a device: gives it a range of offsets whose base is aligned to the largest order that fits in it.
    ///
    /// Takes a lock; its cost does not depend on the size of the device, of whose metadata nothing is touched but that
    /// of a last block of fewer than 512 pages. Whole blocks of offsets are given out, so such a device uses up the
    /// rest of its last block too. Linux: `memremap_device_private_pagemap()` of the series.
    ///
    /// # Errors
    ///
    /// [`RegisterError`] with the numbers; nothing has changed then.
    pub fn register(&self, config: DeviceConfig) -> Result<Device<'_>, RegisterError> {
        Ok(Device::new(self, self.devices.register(self, config)?))
    }

    /// Finds the page that `leaf` names, head or tail, at the cost of an array index or little more.
    ///
    /// Takes no lock, guard or reference and writes nothing: the result is good while the caller keeps the leaf from
    /// being cleared, as the page-table lock does; to keep it longer, see [`PageRef::try_get`]. Wait-free: one load,
    /// whatever the folio's order is and whichever of its pages the leaf names.
    ///
    /// `None` for a leaf of another kind, for an offset that nothing lives at, and for a stale leaf, whose folio was
    /// freed, whether or not the offset was allocated again: its generation repeats only after 24,576
    /// allocations at the same place (4,096 for a leaf of a tail or of a folio of order 8 and more).
    #[inline(always)]
    pub fn lookup(&self, leaf: SoftLeaf) -> Option<PageRef<'_>> {
        // One way out for a hit and one for everything else: so the hit is a run of predicted branches, and what the
        // caller reads next does not wait for the state word that is compared here.
        if leaf.is_direct() {
            if let Some(page) = self.sections.small(Offset::from_low_bits(leaf.bits())) {
                if page.peek().is_named_by_direct(leaf) {
                    return Some(PageRef::new(self, FolioWord::of_direct_leaf(leaf)));
                }
            }
        }
        self.find_named(leaf).map(|word| PageRef::new(self, word))
    }

    /// Finds the page at `offset`, if a folio lives there. As [`Space::lookup`], without a generation to be stale; one
    /// more load, of the word that says which order the block serves, or up to nine in a block of mixed orders.
    pub fn page(&self, offset: Offset) -> Option<PageRef<'_>> {
        let (place, state) = self.sections.find(offset)?;
        Some(PageRef::new(self, FolioWord::of_page(offset, place, state)))
    }

    /// [`Space::lookup`] of each leaf of a slice, with the cache misses of many of them under way at once.
    ///
    /// Fills as many elements of `pages` as there are leaves, and any beyond with `None`; leaves beyond the length of
    /// `pages` are not looked up.
    pub fn lookup_many<'s>(&'s self, leaves: &[SoftLeaf], pages: &mut [Option<PageRef<'s>>]) {
        let nr = leaves.len().min(pages.len());
        let (pages, beyond) = pages.split_at_mut(nr);
        beyond.fill(None);
        for (leaves, pages) in leaves[..nr].chunks(LOOKUPS_AT_ONCE).zip(pages.chunks_mut(LOOKUPS_AT_ONCE)) {
            // First all misses, which wait for nothing, not even for each other to leave the core's window of
            // instructions; then all checks. What is no direct leaf prefetches some place in vain.
            for leaf in leaves {
                self.sections.prefetch_small(Offset::from_low_bits(leaf.bits()));
            }
            for (leaf, page) in leaves.iter().zip(pages) {
                *page = self.lookup(*leaf);
            }
        }
    }

    /// Moves the reference that `leaf` owns into a handle. The caller clears the leaf in its table.
    ///
    /// One compare-exchange (after a lookup). A leaf's reference is there once: of a leaf that was copied, the first
    /// `take` gets it, and the others are refused, as long as no other leaf of the same folio is out, whose reference
    /// they would get instead. Counts are conserved in either case.
    ///
    /// # Errors
    ///
    /// [`TakeError::Stale`] if the folio was freed, [`TakeError::NotMapped`] if no leaf owns a reference of it any more,
    /// [`TakeError::Frozen`] while somebody has it frozen, [`TakeError::OutOfRange`] and [`TakeError::WrongKind`] for words
    /// that cannot be from here. Nothing has changed then.
    pub fn take(&self, leaf: SoftLeaf) -> Result<Folio<'_>, TakeError> {
        let (place, record, state) = self.find_mapped(leaf)?;
        // By the whole generation, of which the leaf may hold only a part.
        match record.unmap(state.generation()) {
            Ok(state) => Ok(Folio::from_owned(self, FolioWord::new(place, state))),
            Err(now) => Err(refusal(leaf, state, now)),
        }
    }

    /// Drops the reference that `leaf` owns, and frees the folio if it was the last. The caller clears the leaf in its table.
    ///
    /// As [`Space::take`] and dropping the handle, by one compare-exchange for both counts. Linux:
    /// `folio_remove_rmap_pte()` and `folio_put()`.
    ///
    /// # Errors
    ///
    /// As [`Space::take`].
    pub fn unmap(&self, leaf: SoftLeaf) -> Result<(), TakeError> {
        let (place, record, state) = self.find_mapped(leaf)?;
        let put = record.unmap_and_put(state.generation()).map_err(|now| refusal(leaf, state, now))?;
        if put.is_last(|| self.waits.wake(place.head)) {
            end_folio(self, place, record.private());
        }
        Ok(())
    }

    /// Waits until the folio that `leaf` names is not locked, or no longer lives; `false` if it is still locked after
    /// `limit`. Linux: `softleaf_entry_wait_on_locked()`.
    ///
    /// For a fault that finds the folio locked: it lets go of the page-table lock, waits here, and looks at its leaf again,
    /// instead of faulting over and over. The caller needs no reference, and takes none, so that it is in nobody's way who
    /// counts them. Whether the folio is locked again, freed, or frozen by then, is for the caller to see; a leaf that names
    /// no folio has nothing to wait for. With a `limit` of zero it only looks.
    ///
    /// What the lock's holder did before it unlocked is visible afterwards, if the folio lives on. Sleeps, at a queue that
    /// other folios of the space share; nothing is allocated.
    ///
    /// ```
    /// use std::time::Duration;
    /// # use farpage::{Access, DeviceConfig, Order, Space};
    /// # let space = Space::new()?;
    /// # let device = space.register(DeviceConfig::new(512))?;
    /// let folio = device.alloc(Order::ZERO)?;
    /// let leaf = folio.map(Access::Read)?;
    /// let guard = folio.lock();
    /// assert!(!space.wait_unlocked(leaf, Duration::from_millis(1)));
    /// drop(guard);
    /// assert!(space.wait_unlocked(leaf, Duration::MAX));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_unlocked(&self, leaf: SoftLeaf, limit: Duration) -> bool {
        match leaf.device_word().and_then(|word| self.sections.find_named(word)) {
            Some((place, record, state)) => self.waits.wait_unlocked(record, place.head, state.generation(), limit),
            None => true,
        }
    }

    /// What finds the folio again that `leaf` names, head or tail, for as long as it lives: the leaf's generation made whole.
    /// `None` if it names no living folio. One load; no reference is taken.
    pub fn weak(&self, leaf: SoftLeaf) -> Option<WeakFolio<'_>> {
        let (place, _, state) = self.sections.find_named(leaf.device_word()?)?;
        Some(WeakFolio::new(self, FolioWord::new(place, state)))
    }

    /// What is registered, allocated and populated, in numbers.
    ///
    /// Takes the registration lock and reads a word or two a block. Each number was true at some moment of the call;
    /// they agree with each other when nobody allocates or frees.
    pub fn report(&self) -> SpaceReport {
        report::report(self)
    }

    /// Recounts everything from the bottom and compares it with what the layers above believe.
    ///
    /// For tests and for a doubtful moment: it looks at every page of every device. Only for a quiescent space, i.e.
    /// while no other thread uses it.
    ///
    /// # Errors
    ///
    /// The first [`Violation`] found.
    pub fn validate(&self) -> Result<(), Violation> {
        validate::validate(self)
    }

    /// The way for all other leaves: large folios, tails, migration entries; and what is stale or no device leaf at all.
    ///
    /// Returns the word alone, one register: a pair would be joined with the hit's as a pair, and then nothing that is
    /// known of the hit is known behind the join.
    #[cold]
    #[inline(never)]
    fn find_named(&self, leaf: SoftLeaf) -> Option<FolioWord> {
        let leaf = leaf.device_word()?;
        let (place, _, state) = self.sections.find_named(leaf)?;
        Some(FolioWord::of_page(leaf.offset, place, state))
    }

    /// The folio whose reference `leaf` may own.
    fn find_mapped(&self, leaf: SoftLeaf) -> Result<(Place, &Page, State), TakeError> {
        let Some(word) = leaf.device_word() else {
            return Err(TakeError::WrongKind { kind: leaf.kind() });
        };
        let offset = word.offset;
        if offset.get() >= self.max_pages {
            return Err(TakeError::OutOfRange { offset: offset.get(), max_pages: self.max_pages });
        }
        self.sections.find_named(word).ok_or(TakeError::Stale { offset: offset.get() })
    }

    #[inline]
    pub(crate) fn sections(&self) -> &SectionMap {
        &self.sections
    }

    #[inline]
    pub(crate) fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    #[inline]
    pub(crate) fn devices(&self) -> &DeviceTable {
        &self.devices
    }

    /// What drainers of any device of the space wait at.
    #[inline]
    pub(crate) fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Where those sleep who wait for a folio of the space to be unlocked.
    #[inline]
    pub(crate) fn waits(&self) -> &WaitTable {
        &self.waits
    }

    /// How a device of `nr_pages` pages is shared out.
    pub(crate) fn seating(&self, nr_pages: u64) -> Seating {
        Seating { cores: self.cores, cached_pages: nr_pages * u64::from(self.cache_percent) / 100 }
    }

    /// The device of a folio that the caller holds.
    pub(crate) fn device_of_live(&self, head: Offset) -> Arc<Entry> {
        match self.devices.hold(&self.sections, head) {
            Some(entry) => entry,
            None => unreachable!("{head} is in use, and its device has gone"),
        }
    }

    /// Stands for the device of a page that is gone.
    pub(crate) fn no_device(&self) -> Arc<Entry> {
        Arc::clone(&self.nobody)
    }

    pub(crate) fn forget(&self, entry: &Entry) {
        self.devices.forget(self, entry);
    }
}

/// Why the reference of `leaf` is not to be had, which named the folio of state `named`, from the state that refused it.
#[cold]
fn refusal(leaf: SoftLeaf, named: State, now: State) -> TakeError {
    let offset = Offset::from_low_bits(leaf.bits()).get();
    if !now.is_life(named.generation()) {
        TakeError::Stale { offset }
    } else if now.maps() == 0 {
        TakeError::NotMapped { offset, refs: now.count() }
    } else {
        TakeError::Frozen { offset }
    }
}

impl fmt::Debug for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Space").field("max_pages", &self.max_pages).finish_non_exhaustive()
    }
}

const _: () = {
    const fn is_shared_between_threads<T: Send + Sync>() {}
    is_shared_between_threads::<Space>();
    is_shared_between_threads::<Device<'_>>();
    is_shared_between_threads::<Folio<'_>>();
    is_shared_between_threads::<PageRef<'_>>();
};
