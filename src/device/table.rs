//! [`DeviceTable`]: the devices of a space, by number for whoever has a folio, and by offset for whoever registers one.

use core::ptr::{self, NonNull};
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::device::{DeviceConfig, Entry};
use crate::error::RegisterError;
use crate::geometry::{BLOCK_SHIFT, PAGES_PER_BLOCK, blocks_for};
use crate::live::Door;
use crate::section_map::SectionMap;
use crate::space::Space;
use crate::sparse::{Layout, ReserveError, SparseArray, Zeroed};
use crate::sync::{
    AtomicPtr, Mutex,
    Ordering::{Acquire, Relaxed, Release},
};
use crate::words::{Offset, OffsetRange, Order};

/// How many devices can be registered at once. Number 0 is none.
pub(crate) const MAX_DEVICES: u32 = if crate::geometry::MODEL { 4 } else { 1 << 19 };

/// The registered devices.
pub(crate) struct DeviceTable {
    /// By number, read without a lock by whoever has a folio of the device.
    slots: SparseArray<Slot>,
    /// The door of what stands for a device that is gone.
    nowhere: Door,
    registry: Mutex<Registry>,
}

/// What is reached of a device by its number. Stays where it is when the device goes.
#[repr(C, align(16))]
struct Slot {
    /// Owns a reference unless it is null.
    entry: AtomicPtr<Entry>,
    door: Door,
}

// SAFETY: A null pointer and a zero integer, without drop glue.
unsafe impl Zeroed for Slot {
    fn absent() -> Slot {
        Slot { entry: AtomicPtr::new(ptr::null_mut()), door: Door::open() }
    }
}

/// Which offsets belong to whom; for registering, reporting and validating.
struct Registry {
    /// By first block.
    devices: BTreeMap<u64, Arc<Entry>>,
    nr_blocks: u64,
    /// Numbers below `next_index` that are free.
    free_indices: Vec<u32>,
    next_index: u32,
}

impl DeviceTable {
    pub(crate) fn new(nr_pages: u64) -> Result<DeviceTable, ReserveError> {
        Ok(DeviceTable {
            slots: SparseArray::new(Layout { len: u64::from(MAX_DEVICES), chunk_bytes: 4096, huge: false })?,
            nowhere: Door::open(),
            registry: Mutex::new(Registry {
                devices: BTreeMap::new(),
                nr_blocks: nr_pages >> BLOCK_SHIFT,
                free_indices: Vec::new(),
                next_index: 1,
            }),
        })
    }

    /// Finds offsets for a device and makes it known.
    pub(crate) fn register(&self, space: &Space, config: DeviceConfig) -> Result<Arc<Entry>, RegisterError> {
        let nr_pages = config.nr_pages;
        if nr_pages == 0 {
            return Err(RegisterError::ZeroPages);
        }
        let mut registry = self.registry.lock();
        let first_block = registry.find_room(nr_pages)?;
        let index = registry.free_indices.last().copied().unwrap_or(registry.next_index);
        if index >= MAX_DEVICES {
            return Err(RegisterError::TooManyDevices { limit: u64::from(MAX_DEVICES) - 1 });
        }
        let slot = self.slots.populate(u64::from(index))?;
        let range = Offset::new(first_block << BLOCK_SHIFT).and_then(|start| OffsetRange::new(start, nr_pages));
        let Some(range) = range else { unreachable!("block {first_block} is beyond the offsets") };
        let entry = Arc::new(Entry::new(index, range, config, space)?);
        // Nothing can fail from here on.
        if registry.free_indices.pop().is_none() {
            registry.next_index += 1;
        }
        registry.devices.insert(first_block, Arc::clone(&entry));
        entry.live(space).reopen();
        // Release: pairs with the Acquire in `entry_at`, for a reader that came to a folio of the device on a path of
        // its own.
        slot.entry.store(Arc::into_raw(Arc::clone(&entry)).cast_mut(), Release);
        Ok(entry)
    }

    /// Forgets a device that has retired: its offsets and its number are free for another.
    pub(crate) fn forget(&self, space: &Space, entry: &Entry) {
        entry.map().retire(space.blocks());
        let mut registry = self.registry.lock();
        let mut slot_reference = None;
        if let Some(slot) = self.slots.get(u64::from(entry.index())) {
            // Relaxed: no folio of the device is left through which anybody could come here, and its next owner
            // registers under the same lock.
            let pointer = slot.entry.load(Relaxed);
            slot.entry.store(ptr::null_mut(), Relaxed);
            debug_assert!(ptr::eq(pointer, entry), "slot {} is another device's", entry.index());
            // SAFETY: `register` made the pointer by `Arc::into_raw`, and the slot, emptied by nobody else under the
            // lock (a device retires once), owned that reference.
            slot_reference = NonNull::new(pointer).map(|pointer| unsafe { Arc::from_raw(pointer.as_ptr()) });
        }
        registry.free_indices.push(entry.index());
        let blocks = entry.map().blocks();
        let registry_reference = registry.devices.remove(&blocks.start);
        space.trim_around(&registry.devices, blocks);
        // The driver's callbacks may go with the last reference, and run code of its own: not under our lock.
        drop(registry);
        drop((slot_reference, registry_reference));
    }

    /// The device that `offset` belongs to, for a caller with a live folio there; not to be followed after the folio's
    /// pages have left the device; and its door, which stays. `None` only for a caller without one.
    #[inline]
    pub(crate) fn entry_at(&self, sections: &SectionMap, offset: Offset) -> Option<(NonNull<Entry>, &Door)> {
        let slot = self.slots.get(u64::from(sections.block_word(offset)?.device()))?;
        // Acquire: see `register`.
        Some((NonNull::new(slot.entry.load(Acquire))?, &slot.door))
    }

    /// Whether the device is registered still. Stays so for a caller with a folio of it.
    #[inline]
    pub(crate) fn is_registered(&self, entry: &Entry) -> bool {
        let slot = self.slots.get(u64::from(entry.index()));
        // Relaxed: compared, never followed.
        slot.is_some_and(|slot| ptr::eq(slot.entry.load(Relaxed), entry))
    }

    /// Whether the device is registered still; if so, nothing that the caller read of its offsets before was written for a
    /// later device: that would have come after a `forget`, under the same lock.
    pub(crate) fn has(&self, entry: &Entry) -> bool {
        let registry = self.registry.lock();
        let there = registry.devices.get(&(entry.range().start().get() >> BLOCK_SHIFT));
        there.is_some_and(|there| ptr::eq(Arc::as_ptr(there), entry))
    }

    /// The door by which pages leave the device of that number.
    #[inline]
    pub(crate) fn door(&self, index: u32) -> &Door {
        match self.slots.get(u64::from(index)) {
            Some(slot) => &slot.door,
            None => &self.nowhere,
        }
    }

    /// The device of a folio that the caller holds, kept.
    pub(crate) fn hold(&self, sections: &SectionMap, head: Offset) -> Option<Arc<Entry>> {
        let (entry, _) = self.entry_at(sections, head)?;
        // SAFETY: The pointer came from `Arc::into_raw`. The caller's folio is counted in the device's `Live`, so the
        // device has not retired, and the slot's own reference is still there.
        unsafe { Arc::increment_strong_count(entry.as_ptr()) };
        // SAFETY: This is the reference that was just added.
        Some(unsafe { Arc::from_raw(entry.as_ptr()) })
    }

    /// All devices, by offset.
    pub(crate) fn all(&self) -> Vec<Arc<Entry>> {
        self.registry.lock().devices.values().cloned().collect()
    }

    /// Runs `f` on the devices by first block, while none comes or goes.
    pub(crate) fn while_registered<R>(&self, f: impl FnOnce(&BTreeMap<u64, Arc<Entry>>) -> R) -> R {
        f(&self.registry.lock().devices)
    }

    /// The same, unless one is just coming or going, or another is about this.
    pub(crate) fn try_while_registered<R>(&self, f: impl FnOnce(&BTreeMap<u64, Arc<Entry>>) -> R) -> Option<R> {
        self.registry.try_lock().map(|registry| f(&registry.devices))
    }

    /// Bytes of metadata: reserved and populated.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.slots.reserved_bytes(), self.slots.populated_bytes())
    }

    /// Bytes of the populated ones that lie in memory; `None` where the system does not say.
    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        self.slots.resident_bytes()
    }
}

impl Drop for DeviceTable {
    fn drop(&mut self) {
        for entry in self.all() {
            if let Some(slot) = self.slots.get(u64::from(entry.index())) {
                // SAFETY: As in `forget`; nobody else has the table any more.
                drop(unsafe { Arc::from_raw(slot.entry.load(Relaxed)) });
            }
        }
    }
}

impl Registry {
    /// The first block of the lowest room for `nr_pages` pages, aligned to the largest order that fits in them.
    fn find_room(&self, nr_pages: u64) -> Result<u64, RegisterError> {
        let align = Order::largest_within(nr_pages).nr_pages().div_ceil(PAGES_PER_BLOCK);
        let wanted = blocks_for(nr_pages);
        let (mut free, mut largest) = (0, 0);
        for (start, end) in self.gaps() {
            let aligned = start.next_multiple_of(align);
            if aligned.checked_add(wanted).is_some_and(|needed| needed <= end) {
                return Ok(aligned);
            }
            free += (end - start) << BLOCK_SHIFT;
            largest = largest.max(largest_device(start, end));
        }
        Err(RegisterError::NoSpace { requested: nr_pages, free, largest })
    }

    /// The runs of blocks that belong to nobody.
    fn gaps(&self) -> impl Iterator<Item = (u64, u64)> {
        let starts = core::iter::once(0)
            .chain(self.devices.iter().map(|(start, entry)| start + blocks_for(entry.range().nr_pages())));
        let ends = self.devices.keys().copied().chain(core::iter::once(self.nr_blocks));
        starts.zip(ends).filter(|(start, end)| start < end)
    }
}

/// How many pages the largest device between two blocks can have, given that a larger one must begin at a coarser
/// border.
fn largest_device(start: u64, end: u64) -> u64 {
    let pages_at = |order: Order| {
        let border = order.nr_pages().div_ceil(PAGES_PER_BLOCK);
        let room = end.saturating_sub(start.next_multiple_of(border)) << BLOCK_SHIFT;
        // A device with room for a folio of the next order would begin at a border of that.
        let most = if order == Order::MAX { u64::MAX } else { 2 * order.nr_pages() - 1 };
        if room < order.nr_pages() { 0 } else { room.min(most) }
    };
    (0..=Order::MAX.get()).filter_map(Order::new).map(pages_at).max().unwrap_or(0)
}
