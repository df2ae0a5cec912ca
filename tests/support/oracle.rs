//! [`run`]: every operation on a real space and on the model, with the answers compared.
//!
//! One thread, so every answer is known exactly, the numbers in errors included. Panics at the first difference, with
//! the operation in the message; what several threads may see is checked in `tests/threads.rs`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use farpage::{
    AllocError, Device, DeviceConfig, DeviceOps, DrainError, Folio, FreedFolio, LeafKind, Offset, Order, Owner,
    PageRef, RegisterError, SoftLeaf, Space, TakeError, UnregisterError,
};

use super::model::{Life, Model, Room, device_align};
use super::ops::Op;

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
}

/// Runs `ops` on a space of `max_pages` pages, then puts everything, unregisters every device, and validates.
///
/// At most [`MAX_OPS`] operations, so that no generation comes round and a stale leaf is stale for the whole run.
pub(crate) fn run(max_pages: u64, ops: impl IntoIterator<Item = Op>) -> Stats {
    let space = Space::builder().max_pages(max_pages).cores(2).build().expect("address space");
    let mut oracle = Oracle::new(&space, max_pages);
    for op in ops.into_iter().take(MAX_OPS) {
        oracle.step(op);
    }
    oracle.finish()
}

/// What the driver was told.
type Log = Arc<Mutex<Vec<(Owner, FreedFolio)>>>;

struct Recorder {
    owner: Owner,
    log: Log,
}

impl DeviceOps for Recorder {
    fn folio_free(&self, folio: FreedFolio) {
        self.log.lock().expect("no test panics with it").push((self.owner, folio));
    }
}

struct Registered<'s> {
    device: Device<'s>,
    start: u64,
    has_ops: bool,
    gone: bool,
}

struct Leaf {
    word: SoftLeaf,
    head: u64,
    serial: u64,
}

struct Oracle<'s> {
    space: &'s Space,
    model: Model,
    devices: Vec<Registered<'s>>,
    handles: Vec<Folio<'s>>,
    leaves: Vec<Leaf>,
    log: Log,
    /// What `log` should hold: the end of every life, as (first page of the device, head, life).
    ended: Vec<(u64, u64, Life)>,
    registrations: u64,
    stats: Stats,
}

impl<'s> Oracle<'s> {
    fn new(space: &'s Space, max_pages: u64) -> Oracle<'s> {
        Oracle {
            space,
            model: Model::new(max_pages),
            devices: Vec::new(),
            handles: Vec::new(),
            leaves: Vec::new(),
            log: Log::default(),
            ended: Vec::new(),
            registrations: 0,
            stats: Stats::default(),
        }
    }

    fn step(&mut self, op: Op) {
        let at = Trace(self.stats.ops, op);
        self.stats.ops += 1;
        match op {
            Op::Register { nr_pages, has_ops } => self.register(nr_pages, has_ops),
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
                    self.leaves.push(Leaf { word, head, serial });
                }
            }
            Op::CopyLeaf { leaf } => {
                if let Some(i) = pick(leaf, self.leaves.len()).filter(|_| self.leaves.len() < MAX_LEAVES) {
                    let Leaf { word, head, serial } = self.leaves[i];
                    self.leaves.push(Leaf { word, head, serial });
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
            Op::Report => self.report(),
            Op::Validate => self.validate(),
        }
        self.check_callbacks();
        drop(at);
    }

    fn register(&mut self, nr_pages: u64, has_ops: bool) {
        self.registrations += 1;
        let owner = Owner::new(self.registrations);
        let mut config = DeviceConfig::new(nr_pages).owner(owner).name("device");
        if has_ops {
            config = config.ops(Recorder { owner, log: Arc::clone(&self.log) });
        }
        let fits = nr_pages > 0 && self.model.fits(nr_pages);
        if fits && self.devices.len() == MAX_DEVICES {
            let Some(gone) = self.devices.iter().position(|device| device.gone) else { return };
            self.devices.swap_remove(gone);
        }
        let device = match self.space.register(config) {
            Ok(device) => device,
            Err(error) => {
                assert!(!fits, "{nr_pages} pages fit: {error}");
                self.stats.no_space += u64::from(nr_pages > 0);
                let expected = match nr_pages {
                    0 => RegisterError::ZeroPages,
                    _ => RegisterError::NoSpace {
                        requested: nr_pages,
                        free: self.model.unregistered_pages(),
                        largest: self.model.largest_device(),
                    },
                };
                assert_eq!(error, expected);
                return;
            }
        };
        assert!(fits, "{device:?} has no room");
        let (start, end) = (device.range().start().get(), device.range().start().get() + nr_pages);
        assert_eq!(start % device_align(nr_pages), 0, "the base of {device:?}");
        assert!(end <= self.model.max_pages, "{device:?} is beyond the end of the space");
        for (&other, room) in &self.model.devices {
            assert!(end <= other || other + room.nr_pages <= start, "{device:?} overlaps the device at {other}");
        }
        assert_eq!((device.range().nr_pages(), device.owner(), device.name()), (nr_pages, owner, "device"));
        self.model.devices.insert(start, Room { nr_pages, dying: false });
        self.devices.push(Registered { device, start, has_ops, gone: false });
    }

    /// Why an allocation of `n` folios must fail, if it must.
    fn refusal(&self, device: usize, order: Order, n: u64) -> Option<AllocError> {
        let Registered { ref device, start, gone, .. } = self.devices[device];
        let requested = order.nr_pages() * n;
        if n == 0 {
            return None;
        }
        if order.nr_pages() > device.range().nr_pages() {
            return Some(AllocError::TooLarge);
        }
        if gone || self.model.devices[&start].dying {
            return Some(AllocError::Dying);
        }
        if self.model.room_for(start, order) >= n {
            return None;
        }
        let free = device.range().nr_pages() - self.model.live_pages(start);
        Some(if free < requested {
            AllocError::Exhausted { requested, free }
        } else {
            AllocError::Fragmented { requested, free, largest: self.model.largest(start) }
        })
    }

    fn alloc(&mut self, device: u8, order: Order) {
        let Some(i) = pick(device, self.devices.len()) else { return };
        let before = self.devices[i].device.nr_live_pages();
        match (self.devices[i].device.alloc(order), self.refusal(i, order, 1)) {
            (Ok(folio), None) => self.begin(i, folio, order),
            (Err(error), Some(expected)) => {
                assert_eq!(error, expected);
                assert_eq!(self.devices[i].device.nr_live_pages(), before, "a failed allocation changes nothing");
                self.stats.exhausted += u64::from(matches!(error, AllocError::Exhausted { .. }));
                self.stats.fragmented += u64::from(matches!(error, AllocError::Fragmented { .. }));
            }
            (answer, expected) => panic!("{answer:?}, where the refusal should have been {expected:?}"),
        }
    }

    fn alloc_many(&mut self, device: u8, order: Order, n: u8) {
        let Some(i) = pick(device, self.devices.len()) else { return };
        let before = self.devices[i].device.nr_live_pages();
        let mut folios = Vec::new();
        let answer = self.devices[i].device.alloc_many(order, usize::from(n), &mut folios);
        match (answer, self.refusal(i, order, u64::from(n))) {
            (Ok(()), None) => {
                assert_eq!(folios.len(), usize::from(n));
                folios.into_iter().for_each(|folio| self.begin(i, folio, order));
            }
            (Err(error), Some(expected)) => {
                assert!(folios.is_empty(), "all or nothing");
                assert_eq!(self.devices[i].device.nr_live_pages(), before, "a failed allocation changes nothing");
                self.stats.refused_many += 1;
                match (error, expected) {
                    // What was largest while the request held a part of itself depends on which part that was.
                    (
                        AllocError::Fragmented { requested, free, largest },
                        AllocError::Fragmented { requested: all, free: all_free, largest: most },
                    ) => {
                        assert_eq!((requested, free), (all, all_free));
                        assert!(largest < order.nr_pages() && largest <= most, "largest is {largest} of {most}");
                    }
                    _ => assert_eq!(error, expected),
                }
            }
            (answer, expected) => panic!("{answer:?}, where the refusal should have been {expected:?}"),
        }
    }

    fn begin(&mut self, device: usize, folio: Folio<'s>, order: Order) {
        assert_eq!((folio.order(), folio.nr_pages()), (order, order.nr_pages()));
        assert_eq!((folio.refs(), folio.maps(), folio.private()), (1, 0, 0), "a folio is born anew");
        assert!(folio.device() == self.devices[device].device);
        self.model.begin(self.devices[device].start, folio.offset().get(), order);
        self.stats.allocated += 1;
        self.handles.push(folio);
    }

    fn drop_handle(&mut self, handle: u16) {
        if let Some(i) = pick(handle, self.handles.len()) {
            let folio = self.handles.swap_remove(i);
            self.put(folio);
        }
    }

    fn put(&mut self, folio: Folio<'s>) {
        let head = folio.offset().get();
        let life = *self.life_mut(folio.offset());
        assert_eq!((folio.refs(), folio.maps(), folio.private()), (life.refs, life.maps, life.private));
        drop(folio);
        if let Some(life) = self.model.put(head) {
            self.ended.push((life.device, head, life));
        }
    }

    /// Drops a leaf of the table if it is full: a reference that it owns is put. `keep` is a handle about to be used.
    fn make_room_for_a_leaf(&mut self, keep: usize) {
        if self.leaves.len() == MAX_LEAVES {
            let i = keep % MAX_LEAVES;
            if let Some(folio) = self.take(i) {
                self.put(folio);
            }
            self.leaves.swap_remove(i);
        }
    }

    /// The life that a leaf's folio is in, if it is still the one that the leaf was made in.
    fn life_of(&self, leaf: usize) -> Option<Life> {
        let Leaf { head, serial, .. } = self.leaves[leaf];
        self.model.lives.get(&head).copied().filter(|life| life.serial == serial)
    }

    fn rewrite(&mut self, leaf: u8, change: impl Fn(SoftLeaf) -> SoftLeaf) {
        if let Some(i) = pick(leaf, self.leaves.len()) {
            let leaf = &mut self.leaves[i];
            let word = change(leaf.word);
            assert_eq!(word.offset(), leaf.word.offset(), "{word:?} was {:?}", leaf.word);
            leaf.word = word;
        }
    }

    fn check_found(&mut self, leaf: usize, found: Option<PageRef<'s>>) {
        let (word, head) = (self.leaves[leaf].word, self.leaves[leaf].head);
        match self.life_of(leaf) {
            Some(_) => {
                self.stats.found += 1;
                self.check_page(head, found);
            }
            None => {
                self.stats.stale += 1;
                assert_eq!(found, None, "{word:?} is stale, its folio was freed");
            }
        }
    }

    /// Compares what was found at `page` with what lives there.
    fn check_page(&self, page: u64, found: Option<PageRef<'s>>) {
        let expected = self.model.covering(page);
        assert_eq!(found.is_some(), expected.is_some(), "page {page}: {found:?}, and there lives {expected:?}");
        if let (Some(found), Some((head, life))) = (found, expected) {
            assert_eq!((found.offset().get(), found.folio_offset().get(), found.index()), (page, head, page - head));
            assert_eq!((found.order(), found.refs(), found.private()), (life.order, life.refs, life.private));
            assert_eq!(found.device().range().start().get(), life.device);
        }
    }

    fn lookup_many(&mut self, first: u8, n: usize, room: usize) {
        let Some(first) = pick(first, self.leaves.len()) else { return };
        let indices: Vec<usize> = (0..n).map(|i| (first + i) % self.leaves.len()).collect();
        let words: Vec<SoftLeaf> = indices.iter().map(|&i| self.leaves[i].word).collect();
        // An answer from before, which must not survive beyond the leaves.
        let before = self.handles.first().and_then(|folio| self.space.page(folio.offset()));
        let mut pages = vec![before; room];
        self.space.lookup_many(&words, &mut pages);
        for (&i, &page) in indices.iter().zip(&pages) {
            self.check_found(i, page);
        }
        assert!(pages.iter().skip(n).all(Option::is_none), "no leaf, no page");
    }

    fn try_get(&mut self, leaf: u8) {
        let Some(i) = pick(leaf, self.leaves.len()) else { return };
        let folio = self.space.lookup(self.leaves[i].word).and_then(PageRef::try_get);
        assert_eq!(folio.is_some(), self.life_of(i).is_some());
        if let Some(folio) = folio {
            let life = self.life_mut(folio.offset());
            life.refs += 1;
            assert_eq!((folio.order(), folio.refs(), folio.private()), (life.order, life.refs, life.private));
            assert_eq!(folio.offset().get(), self.leaves[i].head);
            self.handles.push(folio);
        }
    }

    fn take(&mut self, leaf: usize) -> Option<Folio<'s>> {
        let Leaf { word, head, .. } = self.leaves[leaf];
        let taken = self.space.take(word);
        match self.life_of(leaf) {
            None => assert_eq!(taken, Err(TakeError::Stale { offset: head })),
            Some(life) if life.maps == 0 => {
                self.stats.double_takes += 1;
                assert_eq!(taken, Err(TakeError::NotMapped { offset: head, refs: life.refs }));
            }
            Some(_) => {
                let folio = taken.expect("a leaf owns a reference");
                let life = self.life_mut(folio.offset());
                life.maps -= 1;
                assert_eq!(folio.offset().get(), head);
                assert_eq!(
                    (folio.order(), folio.refs(), folio.maps(), folio.private()),
                    (life.order, life.refs, life.maps, life.private)
                );
                return Some(folio);
            }
        }
        None
    }

    /// Any 64 bits: they name a page that lives, or nothing.
    fn word(&self, word: SoftLeaf) {
        let found = self.space.lookup(word);
        let Some(at) = word.offset() else {
            assert_eq!(found, None);
            assert_eq!(self.space.take(word), Err(TakeError::WrongKind { kind: word.kind() }));
            return;
        };
        if at.get() >= self.model.max_pages {
            let max_pages = self.model.max_pages;
            assert_eq!(self.space.take(word), Err(TakeError::OutOfRange { offset: at.get(), max_pages }));
        }
        match self.model.covering(at.get()) {
            // Only a forged word comes here with a generation that fits; then it names the folio that is there.
            Some((_, life)) if found.is_some() => {
                self.check_page(at.get(), found);
                assert!(life.maps > 0 || self.space.take(word).is_err(), "no leaf owns a reference");
            }
            Some(_) => assert!(self.space.take(word).is_err(), "what is not found is not taken"),
            None => {
                assert_eq!(found, None);
                assert!(self.space.take(word).is_err());
            }
        }
    }

    fn drain(&mut self, device: u8) {
        let Some(i) = pick(device, self.devices.len()) else { return };
        let Registered { ref device, start, gone, .. } = self.devices[i];
        let (live_pages, dying) =
            if gone { (0, true) } else { (self.model.live_pages(start), self.model.devices[&start].dying) };
        let expected = match (dying, live_pages) {
            (false, _) => Err(DrainError::Alive { live_pages }),
            (true, 0) => Ok(()),
            (true, _) => Err(DrainError::TimedOut { live_pages }),
        };
        assert_eq!(device.drain(Duration::ZERO), expected);
    }

    fn unregister(&mut self, i: usize) {
        let Registered { ref device, start, gone, .. } = self.devices[i];
        let expected = if gone { 0 } else { self.model.live_pages(start) };
        match device.clone().unregister() {
            Ok(()) => {
                assert!(!gone && expected == 0, "{device:?} has gone, with {expected} pages in use");
                self.model.devices.remove(&start);
                self.devices[i].gone = true;
                self.stats.unregistered += 1;
            }
            Err(UnregisterError::Busy { live_pages, device: back }) => {
                assert!(!gone && live_pages > 0);
                assert_eq!(live_pages, expected);
                assert!(back == *device, "the device comes back");
                self.stats.busy += 1;
            }
            Err(UnregisterError::Gone) => assert!(gone, "{device:?} is still here"),
            Err(error) => panic!("{error}"),
        }
    }

    fn report(&self) {
        let report = self.space.report();
        assert_eq!(report.max_pages, self.model.max_pages);
        assert_eq!(report.devices.len(), self.model.devices.len());
        let (mut registered, mut live, mut runs) = (0, 0, [0; 19]);
        for (device, (&start, room)) in report.devices.iter().zip(&self.model.devices) {
            assert_eq!((device.start, device.nr_pages, device.dying), (start, room.nr_pages, room.dying));
            assert_eq!(device.live_pages, self.model.live_pages(start));
            assert_eq!(device.free_runs, self.model.free_runs(start), "free runs of the device at {start}");
            assert_eq!(device.largest_free_pages(), self.model.largest(start));
            registered += device.nr_pages;
            live += device.live_pages;
            runs.iter_mut().zip(device.free_runs).for_each(|(sum, nr)| *sum += nr);
        }
        assert_eq!((report.registered_pages, report.live_pages), (registered, live));
        assert_eq!((report.free_pages, report.free_runs), (registered - live, runs));
        for Registered { device, start, gone, .. } in &self.devices {
            let live = if *gone { 0 } else { self.model.live_pages(*start) };
            assert_eq!((device.nr_live_pages(), device.nr_free_pages()), (live, device.range().nr_pages() - live));
        }
    }

    fn validate(&self) {
        assert_eq!(self.space.validate(), Ok(()));
    }

    /// Every life that ended was reported once, in order, with its last private word; and nothing else was.
    fn check_callbacks(&mut self) {
        let mut log = self.log.lock().expect("no test panics with it");
        let mut told = log.drain(..);
        for (start, head, life) in self.ended.drain(..) {
            let registered = self.devices.iter().find(|device| !device.gone && device.start == start);
            let registered = registered.expect("a folio keeps its device");
            if registered.has_ops {
                let (owner, freed) = told.next().expect("the end of a folio is reported");
                assert_eq!(owner, registered.device.owner());
                let freed = (freed.offset().get(), freed.order(), freed.private());
                assert_eq!(freed, (head, life.order, life.private));
            }
        }
        assert_eq!(told.next(), None, "nothing ended, and it was reported");
    }

    fn finish(mut self) -> Stats {
        self.report();
        self.validate();
        while !self.handles.is_empty() {
            self.drop_handle(0);
        }
        while let Some(last) = self.leaves.len().checked_sub(1) {
            if let Some(folio) = self.take(last) {
                self.put(folio);
            }
            self.leaves.pop();
        }
        self.check_callbacks();
        assert!(self.model.lives.is_empty(), "every reference was a handle's or a leaf's");
        self.report();
        self.validate();
        for i in 0..self.devices.len() {
            self.unregister(i);
        }
        assert_eq!(self.space.report().registered_pages, 0);
        self.validate();
        self.stats
    }

    fn life_mut(&mut self, head: Offset) -> &mut Life {
        self.model.lives.get_mut(&head.get()).expect("a handle's folio lives")
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
