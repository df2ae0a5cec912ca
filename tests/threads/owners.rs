//! What the bursts share: who owns each page, threads that start together, and the recount at the end.

use std::sync::atomic::{AtomicU64, Ordering::*};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use farpage::{
    Device, DeviceConfig, DeviceOps, Folio, FolioSplit, FreedFolio, Offset, Order, RangeHandle, RangeRequest, Space,
};

use crate::rng::Rng;

pub(crate) const LONG: Duration = Duration::from_secs(60);

/// Who owns each page of a space, by a ticket that is no other folio's. Claimed after an allocation, cleared by the
/// driver's callback: a page that is handed out twice, or freed twice, is met with the wrong ticket in it.
pub(crate) struct Owners {
    pages: Vec<AtomicU64>,
    tickets: AtomicU64,
    freed: AtomicU64,
}

impl Owners {
    pub(crate) fn new(max_pages: u64) -> Arc<Owners> {
        let pages = (0..max_pages).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Owners { pages, tickets: AtomicU64::new(0), freed: AtomicU64::new(0) })
    }

    pub(crate) fn pages_of(&self, head: Offset, order: Order) -> &[AtomicU64] {
        &self.pages[head.get() as usize..][..order.nr_pages() as usize]
    }

    /// Enters a new folio, and leaves the ticket in its private word.
    pub(crate) fn enter(&self, folio: &Folio<'_>) {
        assert_eq!((folio.private(), folio.refs(), folio.maps()), (0, 1, 0), "a folio is born anew");
        self.enter_held(folio);
    }

    /// Enters the folios of a new range.
    pub(crate) fn enter_range(&self, range: &RangeHandle<'_>) {
        let mut at = range.offset().get();
        for page in range.folios() {
            assert_eq!((page.folio_offset().get(), page.index(), page.refs(), page.private()), (at, 0, 1, 0));
            let folio = page.try_get().expect("the range has a reference");
            at += folio.nr_pages();
            self.enter_held(&folio);
        }
        assert_eq!(at, range.offset().get() + range.nr_pages(), "the folios of {range:?} are all of it");
    }

    /// The same for a folio of which somebody may have got a reference already.
    pub(crate) fn enter_held(&self, folio: &Folio<'_>) {
        assert_eq!(folio.offset().get() % folio.nr_pages(), 0);
        let ticket = 1 + self.tickets.fetch_add(1, Relaxed);
        for page in self.pages_of(folio.offset(), folio.order()) {
            assert_eq!(page.swap(ticket, Relaxed), 0, "{folio:?} was handed out while somebody had it");
        }
        folio.set_private(ticket);
    }

    /// What is true of a folio as long as anybody has a reference.
    pub(crate) fn check(&self, folio: &Folio<'_>) {
        let ticket = folio.private();
        assert_ne!(ticket, 0);
        for page in self.pages_of(folio.offset(), folio.order()) {
            assert_eq!(page.load(Relaxed), ticket, "{folio:?} is held, and not its own");
        }
    }

    /// The same of the folios of a range.
    pub(crate) fn check_range(&self, range: &RangeHandle<'_>) {
        range.folios().for_each(|page| self.check(&page.try_get().expect("the range has a reference")));
    }

    /// All folios that were entered have been freed.
    pub(crate) fn assert_empty(&self) {
        assert_eq!(self.freed.load(Relaxed), self.tickets.load(Relaxed), "folio_free runs once for each folio");
        assert!(self.pages.iter().all(|page| page.load(Relaxed) == 0));
    }
}

impl DeviceOps for Owners {
    fn folio_free(&self, folio: FreedFolio) {
        assert_ne!(folio.private(), 0);
        for page in self.pages_of(folio.offset(), folio.order()) {
            assert_eq!(page.swap(0, Relaxed), folio.private(), "{folio:?} was freed, and is not its own");
        }
        self.freed.fetch_add(1, Relaxed);
    }

    /// A part keeps the ticket of the whole, and ends by itself; the whole is no more.
    fn folio_split(&self, split: FolioSplit<'_>) {
        let Some(part) = split.part() else {
            self.freed.fetch_add(1, Relaxed);
            return;
        };
        self.tickets.fetch_add(1, Relaxed);
        assert_eq!(part.private(), split.private());
        for page in self.pages_of(part.offset(), part.order()) {
            assert_eq!(page.load(Relaxed), part.private(), "{split:?} is not its own");
        }
    }
}

/// A space of `nr_pages` pages, for one device of as many that reports to `Owners`. All free pages may lie in caches.
pub(crate) fn space_of(nr_pages: u64) -> (Space, Arc<Owners>, DeviceConfig) {
    let space = Space::builder().max_pages(nr_pages).cores(4).cache_percent(100).build().expect("address space");
    let owners = Owners::new(space.max_pages());
    let config = DeviceConfig::new(nr_pages).ops(Arc::clone(&owners));
    (space, owners, config)
}

/// Runs `work` on `nr_threads` threads that start together; their seeds and numbers are their own.
pub(crate) fn on_threads(nr_threads: usize, seed: u64, work: impl Fn(usize, Rng) + Sync) {
    let start = Barrier::new(nr_threads);
    thread::scope(|scope| {
        for number in 0..nr_threads {
            let (start, work) = (&start, &work);
            scope.spawn(move || {
                start.wait();
                work(number, Rng::seeded(seed << 8 | number as u64));
            });
        }
    });
}

/// A random number below `end`, which is not 0.
pub(crate) fn below(rng: &mut Rng, end: usize) -> usize {
    (rng.number() >> 16) as usize % end
}

pub(crate) fn order(order: u8) -> Order {
    Order::new(order).expect("at most 18")
}

/// Mostly small, up to 2^11 pages.
pub(crate) fn random_order(rng: &mut Rng) -> Order {
    order(match below(rng, 16) {
        0..=7 => 0,
        8..=12 => 1 + below(rng, 4) as u8,
        13..=14 => 5 + below(rng, 4) as u8,
        _ => 9 + below(rng, 3) as u8,
    })
}

/// Nothing is out: all is free, recounts, can be had again in every shape, and the device goes.
pub(crate) fn assert_all_came_back(space: &Space, device: Device<'_>, owners: &Owners) {
    owners.assert_empty();
    assert_eq!((device.nr_live_pages(), space.validate()), (0, Ok(())));
    let (range, is_alive) = (device.range(), device.alloc(Order::ZERO).map(|folio| owners.enter(&folio)).is_ok());
    if is_alive {
        assert_all_can_be_had(&device, owners);
        assert_eq!(space.validate(), Ok(()));
    }
    device.unregister().expect("nothing of it is in use");
    assert_eq!(space.validate(), Ok(()));
    // Nor did the device leave anything behind for the next one.
    let owners = Owners::new(space.max_pages());
    let config = DeviceConfig::new(range.nr_pages()).ops(Arc::clone(&owners));
    let next = space.register(config).expect("the last one went");
    assert_eq!(next.range(), range);
    assert_all_can_be_had(&next, &owners);
    assert_eq!(space.validate(), Ok(()));
}

/// Every page, one by one; every block; and all in one run.
pub(crate) fn assert_all_can_be_had(device: &Device<'_>, owners: &Owners) {
    let (nr_pages, mut folios) = (device.range().nr_pages(), Vec::new());
    for folio_order in [order(0), order(9)] {
        device.alloc_many(folio_order, (nr_pages / folio_order.nr_pages()) as usize, &mut folios).expect("all is free");
        folios.iter().for_each(|folio| owners.enter(folio));
        folios.clear();
    }
    let all = device.alloc_range(RangeRequest::new(nr_pages)).expect("all of it is one run");
    assert_eq!((all.range(), device.nr_cached_pages()), (device.range(), 0));
    owners.enter_range(&all);
}

/// Fails if `work` has not ended long before a minute: for what must not wait.
#[allow(dead_code, reason = "for `tests/stashes.rs`")]
pub(crate) fn promptly<T>(work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = work();
    assert!(start.elapsed() < LONG / 3, "it took {:?}", start.elapsed());
    done
}
