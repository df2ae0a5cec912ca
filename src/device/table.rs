//! [`DeviceTable`]: the devices of a space, by number for whoever has a folio, by offset for everybody, and by gaps for
//! whoever registers one.
//!
//! Registering and unregistering take a lock; everybody else takes none. Whoever has a folio of a device just looks at
//! its slot, as the folio keeps the device. Whoever has none is pinned in the space's epochs from that look until it has
//! a reference of its own. A device that goes is taken out of its slot first and retired then: so nobody comes to one whose
//! memory is gone, and nobody waits.
//!
//! Below: `directory`, `sparse`, `sync`. Above: `space`. Edges: [devices].

use core::panic::AssertUnwindSafe;
use core::ptr::{self, NonNull};
use std::collections::BTreeMap;
use std::panic::{catch_unwind, resume_unwind};

use crate::device::directory::Directory;
use crate::device::entry::Retired;
use crate::device::{DeviceConfig, DeviceOps, Entry};
use crate::error::RegisterError;
use crate::geometry::{BLOCK_SHIFT, PAGES_PER_BLOCK, blocks_for};
use crate::live::Door;
use crate::section_map::SectionMap;
use crate::space::Space;
use crate::sparse::{Layout, NoMemory, ReserveError, SparseArray, Zeroed, probe_heap};
use crate::sync::{
    Arc, AtomicPtr, AtomicU32, Epochs, Guard, Mutex,
    Ordering::{Acquire, Relaxed, Release},
};
use crate::words::{Offset, OffsetRange, Order};

/// How many devices can be registered at once. Number 0 is none.
pub(crate) const MAX_DEVICES: u32 = if crate::geometry::MODEL { 4 } else { 1 << 19 };

/// The most heap memory that a map of devices needs for one more.
const MAP_BYTES: usize = 4096;

/// The registered devices.
pub(crate) struct DeviceTable {
    /// By number, read without a lock.
    slots: SparseArray<Slot>,
    /// The numbers by offset, read without a lock.
    directory: Directory,
    /// Numbers from this one on have never been given out. Written by whoever has the registry.
    next_number: AtomicU32,
    /// What keeps an entry for whoever has just read its slot.
    epochs: Epochs,
    /// The door of what stands for a device that is gone.
    nowhere: Door,
    registry: Mutex<Registry>,
}

/// What is reached of a device by its number. Stays where it is when the device goes.
///
/// | entry    | meaning                                           | who may follow it                                |
/// |----------|---------------------------------------------------|--------------------------------------------------|
/// | null     | nobody has the number, or it is being registered  |                                                  |
/// | a device | registered, killed or not; the slot has a reference | with a live folio of it; or pinned before the look |
#[repr(C, align(16))]
struct Slot {
    entry: AtomicPtr<Entry>,
    door: Door,
}

// SAFETY: A null pointer and a zero integer, without drop glue.
unsafe impl Zeroed for Slot {
    fn absent() -> Slot {
        Slot { entry: AtomicPtr::new(ptr::null_mut()), door: Door::open() }
    }
}

/// Which offsets and numbers are taken.
struct Registry {
    /// How many blocks each device has, by its first.
    devices: BTreeMap<u64, u64>,
    nr_blocks: u64,
    /// Numbers that are free again.
    free_numbers: Vec<u32>,
}

impl DeviceTable {
    pub(crate) fn new(nr_pages: u64) -> Result<DeviceTable, ReserveError> {
        Ok(DeviceTable {
            slots: SparseArray::new(Layout { len: u64::from(MAX_DEVICES), chunk_bytes: 4096, huge: false })?,
            directory: Directory::new(nr_pages)?,
            next_number: AtomicU32::new(1),
            epochs: Epochs::new(),
            nowhere: Door::open(),
            registry: Mutex::new(Registry {
                devices: BTreeMap::new(),
                nr_blocks: nr_pages >> BLOCK_SHIFT,
                free_numbers: Vec::new(),
            }),
        })
    }

    /// Finds offsets for a device and makes it known.
    pub(crate) fn register(&self, space: &Space, mut config: DeviceConfig) -> Result<Arc<Entry>, RegisterError> {
        // If the device is refused, they are dropped when the registry has been unlocked: their drop is the driver's code.
        let ops = config.ops.take();
        let nr_pages = config.nr_pages;
        if nr_pages == 0 {
            return Err(RegisterError::ZeroPages);
        }
        let mut registry = self.registry.lock();
        let first_block = registry.find_room(nr_pages)?;
        // Relaxed: written under the lock.
        let next_number = self.next_number.load(Relaxed);
        let number = registry.free_numbers.last().copied().unwrap_or(next_number);
        if number >= MAX_DEVICES {
            return Err(RegisterError::TooManyDevices { limit: u64::from(MAX_DEVICES) - 1 });
        }
        let range = Offset::new(first_block << BLOCK_SHIFT).and_then(|start| OffsetRange::new(start, nr_pages));
        let Some(range) = range else { unreachable!("block {first_block} is beyond the offsets") };
        // Room for every number, so that forgetting a device needs no memory.
        let nr_devices = registry.devices.len() + 1;
        let bytes = nr_devices as u64 * size_of::<u32>() as u64;
        registry.free_numbers.try_reserve(nr_devices).map_err(|_| NoMemory { bytes })?;
        let slot = self.slots.populate(u64::from(number))?;
        self.directory.populate(range)?;
        probe_heap(size_of::<Entry>() + MAP_BYTES)?;
        let mut entry = Entry::new(number, range, config, space)?;
        // Nothing can fail from here on, and nothing is known of the device until it is complete.
        entry.set_ops(ops);
        let entry = Arc::new(entry);
        entry.live(space).reopen();
        if registry.free_numbers.pop().is_none() {
            self.next_number.store(next_number + 1, Relaxed);
        }
        registry.devices.insert(first_block, blocks_for(nr_pages));
        // Release [devices]: pairs with the Acquire of whoever comes to the device without having been handed a folio or a
        // handle of it: all of the entry is there before it is found, and it is found at each of its offsets from then on.
        self.directory.enter(range, number);
        slot.entry.store(Arc::into_raw(Arc::clone(&entry)).cast_mut(), Release);
        Ok(entry)
    }

    /// Forgets a device that has retired: its offsets and its number are free for another. Returns its callbacks, to be
    /// dropped where no lock is held.
    pub(crate) fn forget(&self, space: &Space, entry: &Entry, _: Retired) -> Option<Box<dyn DeviceOps>> {
        let mut registry = self.registry.lock();
        // Under the lock, as nobody holds blocks of a device then, to give back their metadata.
        entry.map().retire(space.blocks());
        let slot_reference = self.slots.get(u64::from(entry.index())).and_then(|slot| {
            // Relaxed: the device was put there under the same lock, and nobody acquires anything from the null.
            let pointer = slot.entry.swap(ptr::null_mut(), Relaxed);
            debug_assert!(ptr::eq(pointer, entry), "slot {} is another device's", entry.index());
            // SAFETY: `register` made the pointer by `Arc::into_raw`, and the slot, emptied by nobody else under the
            // lock (a device retires once), owned that reference.
            NonNull::new(pointer).map(|pointer| unsafe { Arc::from_raw(pointer.as_ptr()) })
        });
        // Before the offsets and the number can be another's.
        self.directory.leave(entry.range());
        let blocks = entry.map().blocks();
        registry.devices.remove(&blocks.start);
        if let Some(devices) = self.all_of(&registry) {
            space.trim_around(&devices, blocks);
        }
        registry.free_numbers.push(entry.index());
        drop(registry);
        // SAFETY: The device has retired: no page is counted in, and none will be.
        let ops = unsafe { entry.listeners().ops().take() };
        // Whoever has just found the device in its slot may be about to take a reference. The callbacks, whose drop is the
        // driver's code, are not in it any more.
        self.epochs.retire(slot_reference);
        ops
    }

    /// The device that `offset` belongs to, for a caller with a live folio there; not to be followed after the folio's
    /// pages have left the device; and its door, which stays. `None` only for a caller without one.
    #[inline]
    pub(crate) fn entry_at(&self, sections: &SectionMap, offset: Offset) -> Option<(NonNull<Entry>, &Door)> {
        let slot = self.slots.get(u64::from(sections.block_word(offset)?.device()))?;
        // Acquire [devices]: see `register`.
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
        let _registry = self.registry.lock();
        self.is_registered(entry)
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
        // SAFETY: The caller's folio is counted in the device's `Live`, so the device has not retired, and the slot's own
        // reference is still there.
        Some(unsafe { keep(entry) })
    }

    /// The device in whose range `offset` lies, kept, for a caller that has nothing of it.
    ///
    /// What it says was true at one moment of the call: a number that leads to nobody, or to a device elsewhere, was that
    /// of a device which has gone, and the offset was nobody's then.
    pub(crate) fn find(&self, offset: Offset) -> Option<Arc<Entry>> {
        let number = self.directory.number_at(offset)?;
        let entry = self.epochs.pin(|pinned| self.hold_numbered(number, pinned))?;
        entry.range().contains(offset).then_some(entry)
    }

    /// The device of that number, kept.
    fn hold_numbered(&self, number: u32, _pinned: &Guard) -> Option<Arc<Entry>> {
        // Acquire [devices]: see `register`.
        let entry = NonNull::new(self.slots.get(u64::from(number))?.entry.load(Acquire))?;
        // SAFETY: The slot had a reference when it was read. `forget` retires it after it has emptied the slot, so it is
        // not dropped before we are unpinned.
        Some(unsafe { keep(entry) })
    }

    /// All devices, by offset. Those that come or go meanwhile may be among them.
    pub(crate) fn all(&self) -> Vec<Arc<Entry>> {
        // Relaxed: whoever knows that a device was registered knows its number to be below.
        let numbers = 1..self.next_number.load(Relaxed);
        let hold = |number| self.epochs.pin(|pinned| self.hold_numbered(number, pinned));
        let mut entries: Vec<_> = numbers.filter_map(hold).collect();
        entries.sort_unstable_by_key(|entry| entry.range().start());
        entries
    }

    /// The same for whoever has the registry: exact, and without being pinned. `None` if there is no memory for the list.
    fn all_of(&self, registry: &Registry) -> Option<Vec<Arc<Entry>>> {
        let mut entries = Vec::new();
        entries.try_reserve_exact(registry.devices.len()).ok()?;
        for number in 1..self.next_number.load(Relaxed) {
            // Relaxed: written under the lock.
            let entry = self.slots.get(u64::from(number)).and_then(|slot| NonNull::new(slot.entry.load(Relaxed)));
            // SAFETY: The slot has a reference, which is taken out under the lock.
            entries.extend(entry.map(|entry| unsafe { keep(entry) }));
        }
        entries.sort_unstable_by_key(|entry| entry.range().start());
        Some(entries)
    }

    /// Runs `f` on all devices, by offset, while none comes or goes. `None` without memory for a list of them.
    pub(crate) fn while_registered<R>(&self, f: impl FnOnce(&[Arc<Entry>]) -> R) -> Option<R> {
        let registry = self.registry.lock();
        Some(f(&self.all_of(&registry)?))
    }

    /// The same for who needs not know all devices.
    pub(crate) fn while_registry_locked<R>(&self, f: impl FnOnce() -> R) -> R {
        let _registry = self.registry.lock();
        f()
    }

    /// As [`DeviceTable::while_registered`], unless one is just coming or going, or another is about this.
    pub(crate) fn try_while_registered<R>(&self, f: impl FnOnce(&[Arc<Entry>]) -> R) -> Option<R> {
        let registry = self.registry.try_lock()?;
        Some(f(&self.all_of(&registry)?))
    }

    /// Bytes of metadata: reserved and populated.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let directory = self.directory.bytes();
        (self.slots.reserved_bytes() + directory.0, self.slots.populated_bytes() + directory.1)
    }

    /// Bytes of the populated ones that lie in memory; `None` where the system does not say.
    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        Some(self.slots.resident_bytes()? + self.directory.resident_bytes()?)
    }
}

/// One more reference of an entry.
///
/// # Safety
///
/// The pointer came from `Arc::into_raw`, and somebody has a reference until this returns.
unsafe fn keep(entry: NonNull<Entry>) -> Arc<Entry> {
    // SAFETY: By the caller's word.
    unsafe { Arc::increment_strong_count(entry.as_ptr()) };
    // SAFETY: This is the reference that was just added.
    unsafe { Arc::from_raw(entry.as_ptr()) }
}

impl Drop for DeviceTable {
    /// Drops the callbacks of all devices that were never unregistered. If some of them panic, the others are dropped all
    /// the same, and the first panic goes on in the end.
    fn drop(&mut self) {
        let mut panicked = None;
        for number in 1..self.next_number.load(Relaxed) {
            let Some(slot) = self.slots.get(u64::from(number)) else { continue };
            let Some(entry) = NonNull::new(slot.entry.load(Relaxed)) else { continue };
            // SAFETY: As in `forget`; nobody else has the table any more.
            let entry = unsafe { Arc::from_raw(entry.as_ptr()) };
            // SAFETY: Nobody has the space any more, and so nobody has a folio.
            let ops = unsafe { entry.listeners().ops().take() };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(ops))) {
                panicked.get_or_insert(panic);
            }
        }
        if let Some(panic) = panicked.filter(|_| !std::thread::panicking()) {
            resume_unwind(panic);
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
        let starts = core::iter::once(0).chain(self.devices.iter().map(|(start, nr_blocks)| start + nr_blocks));
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
