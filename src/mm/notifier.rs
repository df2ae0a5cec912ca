//! [`Interval`]: who is told before the leaves of a range change, and the sequence number that tells whether they did.
//!
//! A device that mirrors a range reads its leaves while somebody else may change them. It takes the sequence number first, and before it
//! relies on what it read asks, under a lock of its own, whether the number is still the same. Whoever changes leaves moves the number on first
//! and calls the device, which takes that lock and drops what it mirrors. So of the two sections under the lock one comes
//! first: the reader's, and then the call undoes it; or the call's, and then the reader sees another number. Linux: `mmu_interval_notifier`.
//!
//! Edges: [invalidate].
#![forbid(unsafe_code)]

use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use super::address::AddressRange;
use super::inner::Inner;
use super::lock::RwLock;
use crate::device::Owner;
use crate::sync::{
    AtomicU32, AtomicU64, Condvar, Mutex,
    Ordering::{Acquire, Relaxed, Release},
    wait_for,
};

/// Why leaves change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InvalidationKind {
    /// The mapping goes, or its pages do.
    Unmap,
    /// Pages are replaced by others: a copy on write.
    Clear,
    /// Accesses are taken away.
    Protect,
    /// Soft-dirty marks are cleared: whoever lets writes through without telling has to see them from now on.
    SoftDirty,
    /// Pages move to a device or from one.
    Migrate,
    /// A device takes pages for itself, or loses them.
    Exclusive,
    /// The address space ends.
    Release,
}

/// What is about to happen to leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalidation {
    /// The pages.
    pub range: AddressRange,
    /// Why.
    pub kind: InvalidationKind,
    /// Whose doing it is, if it is a device's.
    pub owner: Option<Owner>,
}

/// Whoever wants to know.
pub trait IntervalOps: Send + Sync {
    /// Leaves of the interval are about to change: when this returns, nothing that was read of them is used any more.
    ///
    /// Runs on the thread that changes them, under locks of the address space: it must not call into it, and wait for
    /// nobody who does.
    fn invalidate(&self, invalidation: &Invalidation);
}

/// How many invalidations are under way, in the low bits, and how many there ever were.
///
/// Public only to this crate's models.
pub(super) struct Sequence {
    word: AtomicU64,
    gate: Mutex<()>,
    quiet: Condvar,
}

const ACTIVE_BITS: u32 = 20;
const ACTIVE: u64 = (1 << ACTIVE_BITS) - 1;

impl Sequence {
    pub(super) fn new() -> Sequence {
        Sequence { word: AtomicU64::new(0), gate: Mutex::new(()), quiet: Condvar::new() }
    }

    /// One more invalidation is under way; the number is another.
    pub(super) fn begin(&self) {
        // Relaxed: who reads a leaf that is changed behind this finds this done, by the page-table lock; who has read the leaf
        // before is called.
        self.word.fetch_add(1 << ACTIVE_BITS | 1, Relaxed);
    }

    pub(super) fn end(&self) {
        // Release [invalidate]: pairs with the Acquire in `read_begin`: who takes the number of now finds the leaves
        // changed.
        let before = self.word.fetch_sub(1, Release);
        if before & ACTIVE == 1 {
            // A reader that saw us active is behind the gate with its decision to sleep, or will see that we are not.
            drop(self.gate.lock());
            self.quiet.notify_all();
        }
    }

    /// The number, when no invalidation is under way; `None` if one still is after `limit`.
    pub(super) fn read_begin(&self, limit: Duration) -> Option<u64> {
        // Acquire [invalidate]: see `end`.
        let seen = self.word.load(Acquire);
        if seen & ACTIVE == 0 {
            return Some(seen);
        }
        let deadline = Instant::now().checked_add(limit);
        let mut gate = self.gate.lock();
        loop {
            let seen = self.word.load(Acquire);
            if seen & ACTIVE == 0 {
                return Some(seen);
            }
            let left = deadline.map_or(limit, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return None;
            }
            (gate, _) = wait_for(&self.quiet, gate, left);
        }
    }

    /// Whether the number is another than `seen`. For a caller that holds the lock which the call for an invalidation takes.
    pub(super) fn read_retry(&self, seen: u64) -> bool {
        // Relaxed: that lock orders it.
        self.word.load(Relaxed) != seen
    }
}

struct Subscribed {
    range: AddressRange,
    owner: Option<Owner>,
    sequence: Sequence,
    ops: Arc<dyn IntervalOps>,
}

impl Subscribed {
    fn concerns(&self, invalidation: &Invalidation) -> bool {
        let own = invalidation.owner.is_some() && invalidation.owner == self.owner;
        self.range.overlaps(invalidation.range) && !own
    }
}

/// All who want to know of one address space.
pub(super) struct Notifiers {
    all: RwLock<Vec<Arc<Subscribed>>>,
    /// How many they are.
    nr: AtomicU32,
}

/// An invalidation under way: it ends when this is dropped, behind the change.
#[must_use = "the invalidation ends when it is dropped"]
pub(super) struct Invalidating(Option<Told>);

/// Who was told. Apart, since mostly there is nobody.
struct Told(Vec<Arc<Subscribed>>);

impl Notifiers {
    pub(super) fn new() -> Notifiers {
        Notifiers { all: RwLock::new(Vec::new()), nr: AtomicU32::new(0) }
    }

    /// The caller holds `map_lock` and `vmas` exclusively.
    fn add(&self, subscribed: Arc<Subscribed>) {
        let mut all = self.all.write();
        all.push(subscribed);
        self.nr.store(all.len() as u32, Relaxed);
    }

    fn remove(&self, subscribed: &Arc<Subscribed>) {
        let mut all = self.all.write();
        all.retain(|other| !Arc::ptr_eq(other, subscribed));
        self.nr.store(all.len() as u32, Relaxed);
    }

    /// Tells everybody concerned that the leaves change from now on. The caller holds `map_lock` or `vmas`, and no page-table
    /// lock.
    #[inline]
    pub(super) fn begin(&self, invalidation: Invalidation) -> Invalidating {
        // Relaxed: who subscribes holds both locks, of which the caller has one.
        if self.nr.load(Relaxed) == 0 { Invalidating(None) } else { self.tell(invalidation) }
    }

    #[inline(never)]
    fn tell(&self, invalidation: Invalidation) -> Invalidating {
        let subscribed = self.all.read();
        let concerned: Vec<_> = subscribed.iter().filter(|to| to.concerns(&invalidation)).cloned().collect();
        drop(subscribed);
        concerned.iter().for_each(|to| to.sequence.begin());
        // Whoever panics in its call leaves no invalidation open.
        let told = Invalidating(Some(Told(concerned)));
        told.concerned().for_each(|to| to.ops.invalidate(&invalidation));
        told
    }
}

impl Invalidating {
    fn concerned(&self) -> impl Iterator<Item = &Arc<Subscribed>> {
        self.0.iter().flat_map(|told| &told.0)
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.0.iter().for_each(|to| to.sequence.end());
    }
}

/// A range of an address space whose changes somebody wants to know of, until it is dropped.
///
/// ```
/// # use std::sync::Arc;
/// # use std::time::Duration;
/// # use farpage::{DeviceConfig, HeapMemory, Machine, Space};
/// # let (device_pages, host_pages) = (Space::new()?, Space::new()?);
/// # let memory = Arc::new(HeapMemory::new(64));
/// # let ram = host_pages.register(DeviceConfig::new(64).ops(Arc::clone(&memory)))?;
/// # let machine = Machine::new(&device_pages, ram, memory)?;
/// use farpage::{AddressRange, IntervalOps, Invalidation, Mapping};
///
/// struct Mirror;
/// impl IntervalOps for Mirror {
///     fn invalidate(&self, invalidation: &Invalidation) {
///         // take the mirror's lock, drop what it has of `invalidation.range`
///     }
/// }
///
/// let space = machine.address_space()?;
/// let range = AddressRange::new(0x1000, 0x4000).unwrap();
/// space.map(Mapping::new(range))?;
/// let interval = space.subscribe(range, None, Arc::new(Mirror));
/// let sequence = interval.read_begin(Duration::MAX).expect("nothing is under way");
/// // ... read the leaves; then under the mirror's lock:
/// assert!(!interval.read_retry(sequence));
/// space.unmap(range)?;
/// assert!(interval.read_retry(sequence));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Interval<'s> {
    space: Arc<Inner<'s>>,
    subscribed: Arc<Subscribed>,
}

/// A sequence number of an [`Interval`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceNumber(u64);

impl<'s> Interval<'s> {
    /// Subscribes. Behind every invalidation that is under way, since those hold one of the two locks.
    pub(super) fn new(
        space: &Arc<Inner<'s>>,
        range: AddressRange,
        owner: Option<Owner>,
        ops: Arc<dyn IntervalOps>,
    ) -> Interval<'s> {
        let subscribed = Arc::new(Subscribed { range, owner, sequence: Sequence::new(), ops });
        let _mapped = space.map_lock.write();
        let _walks = space.vmas.write();
        space.notifiers.add(Arc::clone(&subscribed));
        Interval { space: Arc::clone(space), subscribed }
    }

    /// The range.
    pub fn range(&self) -> AddressRange {
        self.subscribed.range
    }

    /// The number to read leaves under, when no invalidation is under way; `None` if one still is after `limit`. Linux:
    /// `mmu_interval_read_begin()`.
    pub fn read_begin(&self, limit: Duration) -> Option<SequenceNumber> {
        self.subscribed.sequence.read_begin(limit).map(SequenceNumber)
    }

    /// Whether leaves may have changed since `sequence` was taken, so that what was read must be read again. The caller
    /// holds the lock that its [`IntervalOps::invalidate`] takes. Linux: `mmu_interval_read_retry()`.
    pub fn read_retry(&self, sequence: SequenceNumber) -> bool {
        self.subscribed.sequence.read_retry(sequence.0)
    }
}

impl Drop for Interval<'_> {
    /// An invalidation that is under way may still call.
    fn drop(&mut self) {
        self.space.notifiers.remove(&self.subscribed);
    }
}

impl core::fmt::Debug for Interval<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Interval").field("range", &self.range()).finish_non_exhaustive()
    }
}
