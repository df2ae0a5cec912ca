//! [`Space`]: the device-private address space as a whole: register devices in it, look leaves up in it.
//!
//! Below: everything. Above: the programs that embed it.
#![forbid(unsafe_code)]

mod builder;
mod report;
mod trim;
mod validate;

use core::fmt;
use core::ops::Range;
use core::time::Duration;

pub use builder::{MetadataPages, SpaceBuilder};
pub use report::{DeviceReport, FreeRuns, OwnerReport, SpaceReport};
pub use validate::Violation;

use crate::device::{Device, DeviceConfig, DeviceTable, Entry, end_folio};
use crate::error::{RegisterError, SpaceError, TakeError};
use crate::folio::{Folio, FolioWord, PageRef, WeakFolio};
use crate::free_map::Blocks;
use crate::live::Bell;
use crate::page::{Page, State};
use crate::seat::Seating;
use crate::section_map::{Place, SectionMap};
use crate::sync::Arc;
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
    /// How many empty sections are kept before a round of giving back begins; `None` for any number.
    spare_sections: Option<u64>,
    /// How many bytes of metadata may stay when a device goes.
    spare_bytes: u64,
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

    /// The device in whose range `offset` lies, whether or not anything is allocated there; `None` for an offset that
    /// belongs to nobody.
    ///
    /// Safe against devices that come and go: the answer was right at one moment of the call, and the handle is as good as
    /// any other. A device that was killed is found until it is unregistered. Without a lock: two loads, and a reference of
    /// the device taken under an epoch guard. Linux: `get_dev_pagemap()`.
    ///
    /// ```
    /// use farpage::{DeviceConfig, Space};
    ///
    /// let space = Space::new()?;
    /// let device = space.register(DeviceConfig::new(700).name("vram0"))?;
    /// let last = device.range().iter().last().unwrap();
    /// assert_eq!(space.device_at(last), Some(device.clone()));
    ///
    /// device.unregister().expect("nothing lives there");
    /// assert_eq!(space.device_at(last), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn device_at(&self, offset: Offset) -> Option<Device<'_>> {
        Some(Device::new(self, self.devices.find(offset)?))
    }

    /// The registered devices, killed ones too, in the order of their offsets.
    ///
    /// They are looked up before this returns, without a lock; the cost grows with the most devices that were ever
    /// registered at once. A device that is registered all the while is among them; one that comes or goes meanwhile may
    /// be.
    pub fn devices(&self) -> impl Iterator<Item = Device<'_>> {
        self.devices.all().into_iter().map(|entry| Device::new(self, entry))
    }

    /// Finds the page that `leaf` names, head or tail, at the cost of an array index or little more.
    ///
    /// Takes no lock, guard or reference and writes nothing: the result is good while the caller keeps the leaf from
    /// being cleared, as the page-table lock does; to keep it longer, see [`PageRef::try_get`]. Wait-free: one load,
    /// whatever the folio's order is and whichever of its pages the leaf names.
    ///
    /// `None` for a leaf of another kind, for an offset that nothing lives at, and for a stale leaf, whose folio was
    /// freed, whether or not the offset was allocated again: its generation repeats only after 24,576
    /// allocations at the same place (4,096 for a leaf of a tail or of a folio of order 8 and more). Where metadata was given
    /// back meanwhile ([`Space::trim`]), after 64 fewer, counting those at the busiest place of the same section.
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
        self.find_ordered(leaf).map(|word| PageRef::new(self, word))
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

    /// Gives all metadata in which nothing lives back to the system, caches emptied; returns how many bytes.
    ///
    /// The metadata is then within 1 MiB of what it was before the first allocation: hints and remembered generations stay, 72 to
    /// 252 KiB of a device of 8 GiB that was full, 128 to 532 KiB of one of 512 GiB. The kernel keeps the page tables of what
    /// was populated, 1/512 of it, until the space goes.
    ///
    /// It also happens by itself, a little later: a section (16 MiB of 4 KiB pages, 64 KiB of metadata) that has emptied is
    /// given back when, twice over, 5 others or a sixteenth of all that are populated have emptied since (two for each thread
    /// that uses the device, if that is more); so up to 640 KiB of empty sections stay, and up to 48 KiB of other metadata around each. What empties and fills in turn is left alone: if
    /// sections that were given back are wanted again, up to 64 more wait for a while ([`SpaceBuilder::spare_metadata`]). A page
    /// that is kept in a cache ([`SpaceBuilder::cache_percent`]) keeps its section: only this call empties caches for it. And it
    /// happens when a device is unregistered, unless all metadata together is no more than 320 KiB.
    ///
    /// May be called at any time. Each section is taken from the free map for as long as it is looked through, some tens of
    /// microseconds: an allocation that finds nothing else waits for it. Lookups do not notice. What allocates in a section
    /// that was given back populates it again. Leaves that were stale stay stale: the generations of what is given back are
    /// remembered, mostly in one number a section; see [`Space::lookup`] for how long. Waits for registrations, and they
    /// for it. Takes time for each populated section, about 30 microseconds (a look at every record, and a system call). What
    /// there is no memory to remember by is kept.
    ///
    /// On platforms other than Linux metadata stays until the space goes, and this returns 0.
    ///
    /// ```
    /// use farpage::{DeviceConfig, Order, Space};
    ///
    /// let space = Space::new()?;
    /// let device = space.register(DeviceConfig::new(1 << 20))?;
    /// drop(device.alloc(Order::ZERO)?);
    /// assert_eq!(space.report().section_bytes, 64 << 10); // a section of 4,096 pages
    /// assert!(space.trim() >= 64 << 10);
    /// assert_eq!(space.report().section_bytes, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn trim(&self) -> u64 {
        trim::trim(self)
    }

    /// What is registered, allocated and populated, in numbers, at any time and beside anybody.
    ///
    /// They add up whatever others do meanwhile; [`SpaceReport`] says what holds. Holds the registration lock to copy the list
    /// of devices, and to see of each whether it is still there. For each device, reads what its caches keep, a word a block of
    /// 512 pages, and 8 more for blocks with folios below order 9; no page records. Then asks the system about the metadata that
    /// is populated: one call for 16 MiB of it, more where it is scattered. 1 TiB (524,288 blocks) takes milliseconds; nobody
    /// waits for it.
    ///
    /// If a device is unregistered meanwhile, its callbacks may be dropped by this call, after it has counted.
    ///
    /// ```
    /// use farpage::{DeviceConfig, Order, Owner, Space};
    ///
    /// let space = Space::builder().max_pages(1 << 20).build()?;
    /// let vram = space.register(DeviceConfig::new(2000).name("vram0").owner(Owner::new(1)))?;
    /// let sram = space.register(DeviceConfig::new(500).name("sram0").owner(Owner::new(1)))?;
    /// let folio = vram.alloc(Order::HUGE)?;
    ///
    /// let report = space.report();
    /// assert_eq!((report.registered_pages, report.live_pages, report.free_pages), (2500, 512, 1988));
    /// assert_eq!((report.owners[0].nr_devices, report.owners[0].live_pages), (2, 512));
    /// assert_eq!((report.devices[1].name.as_str(), report.devices[1].longest_free_run), ("sram0", 500));
    /// println!("{report}");
    /// # drop(folio);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn report(&self) -> SpaceReport {
        SpaceReport::of(self)
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

    /// The way for leaves of tails and of blocks.
    ///
    /// Returns the word alone, one register: a pair would be joined with the hit's as a pair, and then nothing that is
    /// known of the hit is known behind the join.
    #[inline(never)]
    fn find_ordered(&self, leaf: SoftLeaf) -> Option<FolioWord> {
        if let Some(order) = leaf.private_order() {
            if let Some(page) = self.sections.at(Place::around(Offset::from_low_bits(leaf.bits()), order)) {
                // Acquire [init]: as for every leaf that is not direct.
                let state = page.state();
                if state.is_named_by_ordered(leaf, order) {
                    return Some(FolioWord::of_ordered_leaf(leaf, order, state));
                }
            }
        }
        self.find_otherwise(leaf)
    }

    /// Migration entries; and what is stale or no device leaf at all.
    #[cold]
    #[inline(never)]
    fn find_otherwise(&self, leaf: SoftLeaf) -> Option<FolioWord> {
        let leaf = leaf.device_word()?;
        let (place, _, state) = self.sections.find_named(leaf)?;
        Some(FolioWord::of_page(leaf.offset, place, state))
    }

    /// The folio whose reference `leaf` may own.
    #[inline]
    fn find_mapped(&self, leaf: SoftLeaf) -> Result<(Place, &Page, State), TakeError> {
        // As in `lookup`: a direct leaf that names a life needs no other look at it.
        if leaf.is_direct() {
            let head = Offset::from_low_bits(leaf.bits());
            if let Some(page) = self.sections.small(head) {
                let state = page.state();
                if state.is_named_by_direct(leaf) {
                    return Ok((Place { head, order: state.order() }, page, state));
                }
            }
        }
        self.find_mapped_by_kind(leaf)
    }

    #[cold]
    #[inline(never)]
    fn find_mapped_by_kind(&self, leaf: SoftLeaf) -> Result<(Place, &Page, State), TakeError> {
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
    pub(crate) fn table(&self) -> &DeviceTable {
        &self.devices
    }

    /// What drainers of any device of the space wait at.
    #[inline]
    pub(crate) fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Whether so many groups of blocks have emptied lately, the last in this device, that it is time to give back
    /// metadata of those before.
    #[cold]
    pub(crate) fn are_enough_vacancies(&self, nr: u64, entry: &Entry) -> bool {
        let Some(spare) = self.spare_sections.filter(|spare| nr >= *spare) else { return false };
        // Each thread may have a place or two that fills and empties all the time.
        let in_turn = 2 * entry.seats().iter().count() as u64;
        let usual = spare.max(in_turn).max(self.sections.populated_sections() / 16);
        self.blocks.vacancies().are_enough(nr, usual)
    }

    #[cold]
    pub(crate) fn trim_vacancies(&self) {
        trim::trim_vacancies(self);
    }

    /// Gives back what is around blocks that a device had, under the lock of the table of devices.
    pub(crate) fn trim_around(&self, devices: &[Arc<Entry>], blocks: Range<u64>) {
        trim::trim_around(self, devices, blocks);
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
}

/// Why the reference of `leaf` is not to be had, which named the folio of state `named`, from the state that refused it.
#[cold]
fn refusal(leaf: SoftLeaf, named: State, now: State) -> TakeError {
    let offset = leaf.offset().map_or(0, Offset::get);
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
