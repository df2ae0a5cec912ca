//! Devices of all sizes that are registered, filled, killed, emptied and unregistered all the time, under threads that look
//! up whatever there is, and was. Each look and each use is one function in a table.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use farpage::{
    Access, AllocError, Device, DeviceConfig, DeviceOps, Folio, FreedFolio, Offset, Order, Owner, PageRef,
    RangeRequest, RegisterError, SoftLeaf, Space, UnregisterError,
};

use crate::owners::{LONG, below};
use crate::rng::Rng;

const MAX_PAGES: u64 = 1 << 16;
/// Few enough that no generation comes round while a leaf is on the board: each allocation takes a place there.
const BOARD: usize = 512;
const LOOKERS: u64 = 8;

/// What all threads see.
struct Stage {
    space: Space,
    /// Leaves that were made last, and whose folio each names. Some are stale, of devices that went long ago.
    board: Vec<Mutex<(SoftLeaf, u64)>>,
    next_place: AtomicU64,
    next_serial: AtomicU64,
    found: AtomicU64,
    /// By calls; what goes by itself is not counted.
    trimmed_bytes: AtomicU64,
}

/// Knows its own folios, by the serial number of its device in the upper half of their words, and how often it is dropped.
struct Ops {
    serial: u64,
    drops: Arc<AtomicU32>,
}

impl DeviceOps for Ops {
    fn folio_free(&self, folio: FreedFolio) {
        assert_eq!((folio.private() >> 32, self.drops.load(Relaxed)), (self.serial, 0), "{folio:?}");
    }
}

impl Drop for Ops {
    fn drop(&mut self) {
        self.drops.fetch_add(1, Relaxed);
    }
}

/// Looks of those who have nothing: each may come at any moment of any device's life.
const LOOKS: &[fn(&Stage, &mut Rng)] = &[
    look_up,
    look_up_many,
    look_up_by_offset,
    take_a_copy,
    find_the_device,
    allocate_from_what_is_found,
    go_through_devices,
    walk_what_is_found,
    walk_what_is_found,
    give_metadata_back,
    give_metadata_back,
    count_everything,
];

/// What the owner of a device does with it while it lives.
const USES: &[for<'s> fn(&'s Stage, &mut Own<'s>, &mut Rng)] = &[
    allocate,
    allocate,
    allocate,
    allocate_range,
    give_back,
    give_back,
    give_all_back,
    fill_and_give_back,
    unregister_early,
];

impl Stage {
    fn on_board(&self, rng: &mut Rng) -> (SoftLeaf, u64) {
        *self.board[below(rng, BOARD)].lock().expect("nobody panics with it")
    }

    fn any_offset(&self, rng: &mut Rng) -> Offset {
        Offset::new(rng.number() % (MAX_PAGES + 100)).expect("small")
    }

    /// A folio is what the leaf or the walk said it was, whatever has happened since.
    fn check(&self, folio: &Folio<'_>, word: u64) {
        assert_eq!(folio.private(), word, "{folio:?}");
        let device = folio.device();
        assert_eq!(device.owner().get(), word >> 32);
        assert!(device.range().contains(folio.offset()) && folio.refs() > 0);
        assert_eq!(self.space.device_at(folio.offset()), Some(device), "the folio keeps it");
        self.found.fetch_add(1, Relaxed);
    }

    fn check_page(&self, page: Option<PageRef<'_>>, word: u64) {
        let Some(page) = page else { return };
        if let Some(folio) = page.try_get() {
            self.check(&folio, word);
        }
        let owner = page.device().owner().get();
        assert!(owner == word >> 32 || owner == 0, "its own device, or nobody");
    }
}

fn look_up(stage: &Stage, rng: &mut Rng) {
    let (leaf, word) = stage.on_board(rng);
    stage.check_page(stage.space.lookup(leaf), word);
}

fn look_up_many(stage: &Stage, rng: &mut Rng) {
    let seen: [_; 8] = std::array::from_fn(|_| stage.on_board(rng));
    let mut pages = [None; 8];
    stage.space.lookup_many(&seen.map(|(leaf, _)| leaf), &mut pages);
    pages.into_iter().zip(seen).for_each(|(page, (_, word))| stage.check_page(page, word));
}

fn look_up_by_offset(stage: &Stage, rng: &mut Rng) {
    let Some(page) = stage.space.page(stage.any_offset(rng)) else { return };
    let Some(folio) = page.try_get() else { return };
    let word = folio.private();
    // Just born folios have no word yet.
    if word != 0 {
        stage.check(&folio, word);
    }
}

/// A leaf's reference is its owner's to take; a copy may only be taken when there is nothing to take.
fn take_a_copy(stage: &Stage, rng: &mut Rng) {
    let (leaf, _) = stage.on_board(rng);
    if stage.space.lookup(leaf).is_none() {
        let stale = stage.space.take(leaf);
        assert!(stale.is_err(), "{stale:?}");
    }
}

fn find_the_device(stage: &Stage, rng: &mut Rng) {
    let offset = stage.any_offset(rng);
    let Some(device) = stage.space.device_at(offset) else { return };
    assert!(device.range().contains(offset));
    assert_eq!(device.name(), device.owner().get().to_string());
    assert!(device.nr_live_pages() <= device.range().nr_pages());
}

fn allocate_from_what_is_found(stage: &Stage, rng: &mut Rng) {
    let Some(device) = stage.space.device_at(stage.any_offset(rng)) else { return };
    if let Ok(folio) = device.alloc(Order::ZERO) {
        folio.set_private(device.owner().get() << 32);
        stage.check(&folio, device.owner().get() << 32);
    }
}

fn go_through_devices(stage: &Stage, _: &mut Rng) {
    let mut end = 0;
    for device in stage.space.devices() {
        // They overlap if one has gone meanwhile, and another come; and each is whole.
        assert_eq!(device.name(), device.owner().get().to_string());
        end = end.max(device.range().start().get() + device.range().nr_pages());
    }
    assert!(end <= MAX_PAGES);
}

fn walk_what_is_found(stage: &Stage, rng: &mut Rng) {
    let Some(device) = stage.space.device_at(stage.any_offset(rng)) else { return };
    let mut end = 0;
    for folio in device.live_folios().take(50) {
        let owner = folio.private() >> 32;
        assert!(owner == device.owner().get() || owner == 0, "of this device, or without its word yet");
        assert!(folio.offset().get() >= end);
        end = folio.offset().get() + folio.nr_pages();
    }
}

/// Beside everything that others do: whatever is empty at the moment goes, and comes again when somebody allocates there.
fn give_metadata_back(stage: &Stage, rng: &mut Rng) {
    let (leaf, word) = stage.on_board(rng);
    // What is found is kept while its surroundings go.
    let kept = stage.space.lookup(leaf).and_then(PageRef::try_get);
    stage.trimmed_bytes.fetch_add(stage.space.trim(), Relaxed);
    match kept {
        Some(folio) => stage.check(&folio, word),
        None => stage.check_page(stage.space.lookup(leaf), word),
    }
}

fn count_everything(stage: &Stage, _: &mut Rng) {
    let report = stage.space.report();
    assert_eq!(report.live_pages + report.free_pages, report.registered_pages);
    assert!(report.registered_pages <= MAX_PAGES);
}

/// A device and the leaves of it, by offset.
struct Own<'s> {
    device: Device<'s>,
    serial: u64,
    leaves: HashMap<Offset, SoftLeaf>,
}

impl<'s> Own<'s> {
    /// Writes the folio's word, and puts a leaf of it on the board.
    fn keep(&mut self, stage: &Stage, folio: Folio<'s>) {
        let place = stage.next_place.fetch_add(1, Relaxed);
        let word = self.serial << 32 | place & 0xffff_ffff;
        folio.set_private(word);
        let offset = folio.offset();
        let leaf = folio.into_leaf(Access::Write);
        *stage.board[place as usize % BOARD].lock().expect("nobody panics with it") = (leaf, word);
        assert_eq!(self.leaves.insert(offset, leaf), None, "{offset} was handed out while somebody had it");
    }

    fn take(&mut self, stage: &'s Stage, offset: Offset) {
        if let Some(leaf) = self.leaves.remove(&offset) {
            drop(stage.space.take(leaf).expect("its owner has not taken it before"));
        }
    }
}

fn allocate<'s>(stage: &'s Stage, own: &mut Own<'s>, rng: &mut Rng) {
    match own.device.alloc(Order::new((rng.number() % 11) as u8).expect("small")) {
        Ok(folio) => own.keep(stage, folio),
        Err(AllocError::TooLarge | AllocError::Exhausted { .. } | AllocError::Fragmented { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

fn allocate_range<'s>(stage: &'s Stage, own: &mut Own<'s>, rng: &mut Rng) {
    if let Ok(range) = own.device.alloc_range(RangeRequest::new(1 + rng.number() % 600)) {
        range.into_folios().for_each(|folio| own.keep(stage, folio));
    }
}

fn give_back<'s>(stage: &'s Stage, own: &mut Own<'s>, _: &mut Rng) {
    let one = own.leaves.keys().next().copied();
    one.into_iter().for_each(|offset| own.take(stage, offset));
}

/// Then whole sections are empty, and go at the next trim, or by themselves.
fn give_all_back<'s>(stage: &'s Stage, own: &mut Own<'s>, rng: &mut Rng) {
    if rng.number() % 4 == 0 {
        let all: Vec<_> = own.leaves.keys().copied().collect();
        all.into_iter().for_each(|offset| own.take(stage, offset));
    }
}

/// Everything there is room for, in folios of one order, which are put again: what is empty comes and goes.
fn fill_and_give_back<'s>(stage: &'s Stage, own: &mut Own<'s>, rng: &mut Rng) {
    let order = Order::new([0, 4, 9][below(rng, 3)]).expect("small");
    let mut folios = Vec::new();
    let nr = (own.device.nr_free_pages() >> order.get()).min(2_000) as usize;
    // Who looks up may have taken some of it meanwhile.
    let _ = own.device.alloc_many(order, nr, &mut folios);
    for folio in &folios {
        folio.set_private(own.serial << 32 | u64::from(u32::MAX));
        stage.found.fetch_add(1, Relaxed);
    }
}

fn unregister_early<'s>(_: &'s Stage, own: &mut Own<'s>, _: &mut Rng) {
    if !own.leaves.is_empty() {
        let busy = own.device.clone().unregister();
        assert!(matches!(busy, Err(UnregisterError::Busy { live_pages: 1.., .. })), "{busy:?}");
    }
}

/// One device from its registration to its end.
fn one_life(stage: &Stage, rng: &mut Rng) {
    let serial = stage.next_serial.fetch_add(1, Relaxed);
    let drops = Arc::new(AtomicU32::new(0));
    let nr_pages = 1 + rng.number() % (1 << (rng.number() % 14));
    let config = DeviceConfig::new(nr_pages).name(&serial.to_string()).owner(Owner::new(serial));
    let device = match stage.space.register(config.ops(Ops { serial, drops: Arc::clone(&drops) })) {
        Ok(device) => device,
        Err(RegisterError::NoSpace { .. }) => return assert_eq!(drops.load(Relaxed), 1),
        Err(error) => panic!("{error}"),
    };
    let mut own = Own { device: device.clone(), serial, leaves: HashMap::new() };
    for _ in 0..rng.number() % 100 {
        USES[below(rng, USES.len())](stage, &mut own, rng);
    }
    let leaves: Vec<_> = own.leaves.values().copied().collect();
    device.kill();
    assert_eq!(device.alloc(Order::ZERO).err(), Some(AllocError::Dying));
    if rng.number() % 2 == 0 {
        device.live_folios().for_each(|folio| own.take(stage, folio.offset()));
        assert!(own.leaves.is_empty(), "what lives during the whole walk is met: {:?}", own.leaves);
    } else {
        leaves.iter().filter_map(|leaf| leaf.offset()).for_each(|offset| own.take(stage, offset));
    }
    // Who looks up has references of its pages for moments.
    device.drain(LONG).expect("nobody keeps a page");
    assert_eq!(drops.load(Relaxed), 0);
    device.clone().unregister().expect("it is drained");
    assert_eq!(drops.load(Relaxed), 1);
    assert!(leaves.iter().all(|leaf| stage.space.lookup(*leaf).is_none()));
    assert_ne!(stage.space.device_at(device.range().start()), Some(device));
}

/// Runs for `limit`, with `nr_owners` threads that have devices and 8 that look.
pub(crate) fn churn(nr_owners: usize, seed: u64, limit: Duration) {
    let stage = Stage {
        space: Space::builder().max_pages(MAX_PAGES).cores(4).cache_percent(20).build().expect("address space"),
        board: (0..BOARD).map(|_| Mutex::new((SoftLeaf::NONE, 0))).collect(),
        next_place: AtomicU64::new(0),
        next_serial: AtomicU64::new(1),
        found: AtomicU64::new(0),
        trimmed_bytes: AtomicU64::new(0),
    };
    let (end, failed) = (Instant::now() + limit, AtomicBool::new(false));
    /// Tells the others when it is dropped in a panic.
    struct Tell<'a>(&'a AtomicBool);
    impl Drop for Tell<'_> {
        fn drop(&mut self) {
            if thread::panicking() {
                self.0.store(true, Relaxed);
            }
        }
    }
    thread::scope(|scope| {
        let (stage, failed) = (&stage, &failed);
        let spawn = |number: u64, step: fn(&Stage, &mut Rng)| {
            let mut rng = Rng::seeded(seed << 8 | number);
            scope.spawn(move || {
                let _tell = Tell(failed);
                while Instant::now() < end && !failed.load(Relaxed) {
                    step(stage, &mut rng);
                }
            });
        };
        (0..LOOKERS).for_each(|number| spawn(number, |stage, rng| LOOKS[below(rng, LOOKS.len())](stage, rng)));
        (0..nr_owners as u64).for_each(|number| spawn(LOOKERS + number, one_life));
    });
    let report = stage.space.report();
    println!(
        "{} devices, {} folios found; {} bytes trimmed by calls; {} chunks populated, {} given back",
        stage.next_serial.load(Relaxed),
        stage.found.load(Relaxed),
        stage.trimmed_bytes.load(Relaxed),
        report.metadata_populates,
        report.metadata_trims,
    );
    let gives_back = cfg!(all(target_os = "linux", not(farpage_heap)));
    assert!(report.metadata_trims > 20 || !gives_back, "sections came and went");
    assert!(stage.next_serial.into_inner() > 20 && stage.found.into_inner() > 100, "something was done");
    assert_eq!((stage.space.devices().count(), stage.space.validate()), (0, Ok(())));
    assert_eq!((report.registered_pages, report.live_pages, report.devices.len()), (0, 0, 0));
}
