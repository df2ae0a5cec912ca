//! What the bursts share: who owns each page, threads that start together, and the recount at the end.

use std::sync::atomic::{AtomicU64, Ordering::*};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use farpage::{Device, DeviceConfig, DeviceOps, Folio, FreedFolio, Offset, Order, Space};

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
}

/// A space of `nr_pages` pages, for one device of as many that reports to `Owners`.
pub(crate) fn space_of(nr_pages: u64) -> (Space, Arc<Owners>, DeviceConfig) {
    let space = Space::builder().max_pages(nr_pages).cores(4).build().expect("address space");
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

/// Nothing is out: all is free, recounts, and the device goes.
pub(crate) fn assert_all_came_back(space: &Space, device: Device<'_>, owners: &Owners) {
    owners.assert_empty();
    assert_eq!(device.nr_live_pages(), 0);
    assert_eq!(space.validate(), Ok(()));
    device.unregister().expect("nothing of it is in use");
    assert_eq!(space.validate(), Ok(()));
}
