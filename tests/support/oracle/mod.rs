//! [`run`]: every operation on a real space and on the model, with the answers compared.
//!
//! One thread, so every answer is known exactly, the numbers in errors included. Panics at the first difference, with
//! the operation in the message; what several threads may see is checked in `tests/threads.rs`.

mod caches;
mod deferred;
mod devices;
mod evictions;
mod holds;
mod leaves;
mod ranges;
mod splits;
mod told;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use farpage::{
    Access, AllocError, Cache, DeferredFolio, Device, DeviceConfig, DeviceOps, DrainError, EvictError, EvictTicket,
    Folio, FolioSplit, FreedFolio, FreezeError, GiveUpError, LeafKind, MapError, Offset, OffsetRange, Order, Owner,
    PageRef, Pressure, RangeHandle, RangeRequest, RegisterError, SoftLeaf, Space, SplitError, SplitRangeError,
    TakeError, UnregisterError, WeakFolio,
};

use super::model::{Life, Model, Room, device_align, folios_of, halves_around};
use super::ops::{Op, Place, Wanted, Way};
use holds::Weak;
use told::{Log, Recorder, Told};

/// Handles on devices, dead ones included.
const MAX_DEVICES: usize = 6;
/// Leaf words, stale ones and copies included.
const MAX_LEAVES: usize = 96;

/// Fewer than any place has generations.
pub(crate) const MAX_OPS: usize = 4_000;

/// How often the interesting things happened, so that a test can tell that they did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stats {
    pub(crate) ops: u64,
    pub(crate) allocated: u64,
    pub(crate) exhausted: u64,
    pub(crate) fragmented: u64,
    pub(crate) refused_many: u64,
    pub(crate) found: u64,
    pub(crate) stale: u64,
    pub(crate) double_takes: u64,
    pub(crate) busy: u64,
    pub(crate) unregistered: u64,
    pub(crate) no_space: u64,
    pub(crate) cached: u64,
    pub(crate) ranges: u64,
    pub(crate) splits: u64,
    pub(crate) refused_ranges: u64,
    pub(crate) folio_splits: u64,
    pub(crate) refused_splits: u64,
    pub(crate) freed_parts: u64,
    pub(crate) deferred: u64,
    pub(crate) pressures: u64,
    pub(crate) frozen: u64,
    pub(crate) mapped: u64,
    pub(crate) unmapped: u64,
    pub(crate) upgraded: u64,
    pub(crate) gone_weak: u64,
    pub(crate) evictions: u64,
    pub(crate) moved: u64,
}

/// Runs `ops` on a space of `max_pages` pages, of which `cache_percent` may lie in caches; then puts everything,
/// unregisters every device, and validates.
///
/// At most [`MAX_OPS`] operations, so that no generation comes round and a stale leaf is stale for the whole run.
pub(crate) fn run(max_pages: u64, cache_percent: u8, ops: impl IntoIterator<Item = Op>) -> Stats {
    let space = Space::builder().max_pages(max_pages).cores(2).cache_percent(cache_percent).build();
    let space = space.expect("address space");
    let mut oracle = Oracle::new(&space, max_pages, u64::from(cache_percent.min(100)));
    for op in ops.into_iter().take(MAX_OPS) {
        oracle.step(op);
    }
    oracle.finish()
}

struct Registered<'s> {
    device: Device<'s>,
    start: u64,
    has_ops: bool,
    is_deferred: bool,
    gone: bool,
}

struct Leaf {
    word: SoftLeaf,
    /// The page that it names, and the first of its folio.
    page: u64,
    head: u64,
    serial: u64,
}

struct Oracle<'s> {
    space: &'s Space,
    cache_percent: u64,
    model: Model,
    devices: Vec<Registered<'s>>,
    handles: Vec<Folio<'s>>,
    ranges: Vec<RangeHandle<'s>>,
    caches: Vec<Cache<'s>>,
    leaves: Vec<Leaf>,
    weaks: Vec<Weak<'s>>,
    /// Freed folios that their driver has.
    taken: Vec<DeferredFolio<'s>>,
    log: Log,
    /// What `log` should hold, by the first page of the device.
    expected: Vec<(u64, Told)>,
    registrations: u64,
    stats: Stats,
}

impl<'s> Oracle<'s> {
    fn new(space: &'s Space, max_pages: u64, cache_percent: u64) -> Oracle<'s> {
        Oracle {
            space,
            cache_percent,
            model: Model::new(max_pages),
            devices: Vec::new(),
            handles: Vec::new(),
            ranges: Vec::new(),
            caches: Vec::new(),
            leaves: Vec::new(),
            weaks: Vec::new(),
            taken: Vec::new(),
            log: Log::default(),
            expected: Vec::new(),
            registrations: 0,
            stats: Stats::default(),
        }
    }

    fn step(&mut self, op: Op) {
        let at = Trace(self.stats.ops, op);
        self.stats.ops += 1;
        match op {
            Op::Register { nr_pages, has_ops, is_deferred } => self.register(nr_pages, has_ops, is_deferred),
            Op::Alloc { device, order } => self.alloc(device, order),
            Op::AllocMany { device, order, n } => self.alloc_many(device, order, n),
            Op::Clone { handle } => {
                if let Some(i) = pick(handle, self.handles.len()) {
                    let folio = self.handles[i].clone();
                    self.life_mut(folio.offset()).refs += 1;
                    self.handles.push(folio);
                }
            }
            Op::Drop { handle } => self.drop_handle(handle),
            Op::DropMany { handle, n } => (0..n).for_each(|i| self.drop_handle(handle.wrapping_add(u16::from(i) * 7))),
            Op::SetPrivate { handle, value } => {
                if let Some(i) = pick(handle, self.handles.len()) {
                    self.handles[i].set_private(value);
                    self.life_mut(self.handles[i].offset()).private = value;
                }
            }
            Op::IntoLeaf { handle, access } => {
                if let Some(i) = pick(handle, self.handles.len()) {
                    self.make_room_for_a_leaf(i);
                    let folio = self.handles.swap_remove(i);
                    let life = self.life_mut(folio.offset());
                    life.maps += 1;
                    let (head, serial) = (folio.offset().get(), life.serial);
                    let word = folio.into_leaf(access);
                    assert_eq!(word.kind(), LeafKind::DevicePrivate(access));
                    assert_eq!(word.offset().map(Offset::get), Some(head));
                    assert!(!word.is_young() && !word.is_dirty());
                    self.leaves.push(Leaf { word, page: head, head, serial });
                }
            }
            Op::CopyLeaf { leaf } => {
                if let Some(i) = pick(leaf, self.leaves.len()).filter(|_| self.leaves.len() < MAX_LEAVES) {
                    let Leaf { word, page, head, serial } = self.leaves[i];
                    self.leaves.push(Leaf { word, page, head, serial });
                }
            }
            Op::Access { leaf, access } => self.rewrite(leaf, |word| word.with_access(access)),
            Op::Migrate { leaf, access } => {
                self.rewrite(leaf, |word| word.to_migration(access).expect("it names a page"));
            }
            Op::Mark { leaf, young, dirty } => self.rewrite(leaf, |word| word.with_young(young).with_dirty(dirty)),
            Op::Lookup { leaf } => {
                if let Some(i) = pick(leaf, self.leaves.len()) {
                    self.check_found(i, self.space.lookup(self.leaves[i].word));
                }
            }
            Op::LookupMany { leaf, n, room } => self.lookup_many(leaf, usize::from(n % 80), usize::from(room % 80)),
            Op::TryGet { leaf } => self.try_get(leaf),
            Op::Take { leaf, forget } => {
                if let Some(i) = pick(leaf, self.leaves.len()) {
                    let taken = self.take(i);
                    self.handles.extend(taken);
                    if forget {
                        self.leaves.swap_remove(i);
                    }
                }
            }
            Op::Page { at } => {
                // A quarter beyond the end.
                let at = (u64::from(at) * (self.model.max_pages + self.model.max_pages / 4)) >> 32;
                self.check_page(at, self.space.page(offset(at)));
            }
            Op::Word { bits } => self.word(SoftLeaf::from_bits(bits)),
            Op::Kill { device } => {
                if let Some(i) = pick(device, self.devices.len()) {
                    self.devices[i].device.kill();
                    if !self.devices[i].gone {
                        self.room_mut(i).dying = true;
                    }
                }
            }
            Op::Drain { device } => self.drain(device),
            Op::Unregister { device } => {
                if let Some(i) = pick(device, self.devices.len()) {
                    self.unregister(i);
                }
            }
            Op::Cache { device } => self.open_cache(device),
            Op::CacheAlloc { cache, order } => self.cache_alloc(cache, order),
            Op::CacheAllocMany { cache, order, n } => self.cache_alloc_many(cache, order, n),
            Op::CachePut { cache, handle } => self.cache_put(cache, handle),
            Op::CacheDrain { cache } => self.cache_drain(cache),
            Op::DropCache { cache } => {
                if let Some(i) = pick(cache, self.caches.len()) {
                    self.caches.swap_remove(i);
                }
            }
            Op::AllocRange { device, wanted } => self.alloc_range(device, wanted),
            Op::RangePage { range, index, get } => self.range_page(range, index, get),
            Op::IntoFolios { range, take } => self.split_into_folios(range, take),
            Op::Split { handle, order } => self.split(handle, order, None),
            Op::SplitAround { handle, index, order } => self.split(handle, order, Some(index)),
            Op::GiveUp { handle, from, to } => self.give_up(handle, from, to),
            Op::TakeDeferred { device, max, keep } => self.take_deferred(device, max, keep),
            Op::FinishDeferred { taken, n } => self.finish_deferred(taken, n),
            Op::SplitRange { range, index } => self.split_range(range, index),
            Op::Lock { handle } => self.lock(handle),
            Op::Freeze { handle, off_by } => self.freeze(handle, off_by),
            Op::Map { handle, index, access } => self.map(handle, index, access),
            Op::Unmap { leaf } => self.unmap(leaf),
            Op::Downgrade { handle } => self.downgrade(handle),
            Op::Upgrade { weak } => self.upgrade(weak),
            Op::Evict { device, from, nr_pages, order, end } => self.evict(device, from, nr_pages, order, end),
            Op::DropRange { range } => self.drop_range(range),
            Op::Report => self.report(),
            Op::Validate => self.validate(),
        }
        self.check_callbacks();
        drop(at);
    }

    fn drop_handle(&mut self, handle: u16) {
        if let Some(i) = pick(handle, self.handles.len()) {
            let folio = self.handles.swap_remove(i);
            self.put(folio);
        }
    }

    fn put(&mut self, folio: Folio<'s>) {
        self.put_by(folio, drop);
    }

    fn put_by(&mut self, folio: Folio<'s>, put: impl FnOnce(Folio<'s>)) {
        let (head, device) = (folio.offset().get(), folio.device());
        let life = *self.life_mut(folio.offset());
        assert_eq!((folio.refs(), folio.maps(), folio.private()), (life.refs, life.maps, life.private));
        put(folio);
        self.end(head);
        self.check_cached(&device);
    }

    /// A reference of the folio at `head` was put.
    fn end(&mut self, head: u64) {
        if let Some(life) = self.model.put(head) {
            self.expect_freed(head, life);
        }
    }

    fn report(&self) {
        let report = self.space.report();
        assert_eq!(report.max_pages, self.model.max_pages);
        assert_eq!(report.devices.len(), self.model.devices.len());
        let (mut registered, mut live, mut cached, mut runs) = (0, 0, 0, [0; 19]);
        for (device, (&start, room)) in report.devices.iter().zip(&self.model.devices) {
            assert_eq!((device.start, device.nr_pages, device.dying), (start, room.nr_pages, room.dying));
            assert_eq!(device.live_pages, self.model.live_pages(start));
            assert_eq!(device.free_runs, self.model.free_runs(start), "free runs of the device at {start}");
            assert_eq!(device.largest_free_pages(), self.model.largest(start));
            assert!(device.cached_pages <= device.cache_limit);
            assert!(device.cache_limit <= device.nr_pages * self.cache_percent / 100, "{device:?}");
            registered += device.nr_pages;
            cached += device.cached_pages;
            live += device.live_pages;
            runs.iter_mut().zip(device.free_runs).for_each(|(sum, nr)| *sum += nr);
        }
        assert_eq!((report.registered_pages, report.live_pages), (registered, live));
        assert_eq!((report.free_pages, *report.free_runs), (registered - live, runs));
        assert_eq!(report.cached_pages, cached);
        assert_eq!(self.devices.iter().map(|registered| registered.device.nr_cached_pages()).sum::<u64>(), cached);
        for Registered { device, start, gone, .. } in &self.devices {
            let live = if *gone { 0 } else { self.model.live_pages(*start) };
            assert_eq!((device.nr_live_pages(), device.nr_free_pages()), (live, device.range().nr_pages() - live));
            let given_up = if *gone { 0 } else { self.model.given_up_in(*start, device.range().nr_pages()) };
            assert_eq!(device.nr_given_up_pages(), given_up);
        }
    }

    fn validate(&self) {
        assert_eq!(self.space.validate(), Ok(()));
    }

    fn finish(mut self) -> Stats {
        self.report();
        self.validate();
        while !self.handles.is_empty() {
            self.drop_handle(0);
        }
        while !self.ranges.is_empty() {
            self.drop_range(0);
        }
        while let Some(last) = self.leaves.len().checked_sub(1) {
            if let Some(folio) = self.take(last) {
                self.put(folio);
            }
            self.leaves.pop();
        }
        self.check_callbacks();
        self.finish_all_deferred();
        assert!(self.model.is_empty(), "every reference was a handle's, a range's or a leaf's");
        assert!(self.model.given_up.is_empty(), "and what was given up ended with its folio");
        self.report();
        self.validate();
        // The caches are still there.
        self.check_conservation();
        self.log.lock().expect("no test panics with it").clear();
        self.validate();
        for i in 0..self.devices.len() {
            self.unregister(i);
        }
        assert_eq!(self.space.report().registered_pages, 0);
        self.validate();
        self.stats
    }

    fn life_mut(&mut self, head: Offset) -> &mut Life {
        self.model.life_mut(head.get())
    }

    fn room_mut(&mut self, device: usize) -> &mut Room {
        self.model.devices.get_mut(&self.devices[device].start).expect("the device is registered")
    }
}

/// Says on the way out of a panic which operation it was.
struct Trace(u64, Op);

impl Drop for Trace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("operation {}: {:?}", self.0, self.1);
        }
    }
}

/// Reduces the number of something to what there is.
fn pick(number: impl Into<usize>, len: usize) -> Option<usize> {
    number.into().checked_rem(len)
}

fn offset(page: u64) -> Offset {
    Offset::new(page).expect("a space of a test is small")
}
