//! Bursts on evictions: ranges are closed, emptied, and taken or opened again, while others allocate, divide, free, and trim,
//! and the device may be killed meanwhile.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::*};

use farpage::{
    Access, AllocError, Device, EvictError, EvictTicket, Folio, LockedFolio, Offset, OffsetRange, Order, SoftLeaf,
    Space,
};

use crate::owners::*;
use crate::rng::Rng;

/// Blocks of the device, the last not whole.
const BLOCKS: u64 = 9;
const NR_PAGES: u64 = BLOCKS * 512 - 300;

/// The leaf word of each page that heads a folio which only a leaf has. Its lock is the page-table lock.
struct Table(Vec<Mutex<SoftLeaf>>);

impl Table {
    fn new() -> Table {
        Table((0..NR_PAGES).map(|_| Mutex::new(SoftLeaf::NONE)).collect())
    }

    fn map(&self, folio: Folio<'_>) {
        let mut slot = self.0[folio.offset().get() as usize].lock().expect("no burst unwinds with it");
        assert_eq!(*slot, SoftLeaf::NONE, "{folio:?} is mapped already");
        *slot = folio.into_leaf(Access::Write);
    }

    /// Drops the leaf's reference, if there is one.
    fn unmap(&self, space: &Space, head: Offset) -> bool {
        let mut slot = self.0[head.get() as usize].lock().expect("no burst unwinds with it");
        let leaf = std::mem::replace(&mut *slot, SoftLeaf::NONE);
        leaf != SoftLeaf::NONE && space.unmap(leaf).map(|_| true).expect("a leaf's reference is there once")
    }
}

/// What has happened, so that no burst is one of nothing.
#[derive(Default)]
struct Counts {
    evicted: AtomicU64,
    committed: AtomicU64,
    busy: AtomicU64,
    overlaps: AtomicU64,
}

fn blocks_of(device: &Device<'_>, first: u64, nr: u64) -> OffsetRange {
    let (start, end) = (first * 512, ((first + nr) * 512).min(NR_PAGES));
    OffsetRange::new(Offset::new(device.range().start().get() + start).expect("small"), end - start).expect("small")
}

fn is_in(range: OffsetRange, folio: &Folio<'_>) -> bool {
    let start = folio.offset().get();
    start < range.start().get() + range.nr_pages() && range.start().get() < start + folio.nr_pages()
}

/// One eviction, to one of its ends.
fn evict(space: &Space, device: &Device<'_>, owners: &Owners, table: &Table, counts: &Counts, rng: &mut Rng) {
    let nr = 1 + below(rng, 4) as u64;
    let range = blocks_of(device, below(rng, (BLOCKS - nr + 1) as usize) as u64, nr);
    let mut ticket = match device.evict(range) {
        Ok(ticket) => ticket,
        Err(EvictError::Overlaps { .. }) => {
            counts.overlaps.fetch_add(1, Relaxed);
            return;
        }
        Err(error) => panic!("{error}"),
    };
    // Who begins behind the closure gets nothing of it.
    if let Ok(folio) = device.alloc(random_order(rng)) {
        assert!(!is_in(ticket.range(), &folio), "{folio:?} in the closed {range:?}");
        owners.enter_held(&folio);
    }
    // Some folios are kept for a while, as by a driver with a batch.
    let mut batch: Vec<LockedFolio<'_>> = Vec::new();
    let evicted = ticket.evict(2, |folio| {
        if table.unmap(space, folio.offset()) {
            owners.check(&folio);
            if below(rng, 8) == 0 {
                batch.push(folio);
            }
        }
    });
    counts.evicted.fetch_add(evicted.nr_evicted, Relaxed);
    drop(batch);
    let nr_busy = ticket.busy().inspect(|busy| assert!(busy.block.nr_pages() <= 512)).count() as u64;
    counts.busy.fetch_add(nr_busy, Relaxed);
    match below(rng, 4) {
        0 => ticket.abort(),
        1 => _ = ticket.release_evicted(),
        _ => commit(ticket, owners, counts),
    }
}

fn commit(ticket: EvictTicket<'_>, owners: &Owners, counts: &Counts) {
    match ticket.commit() {
        Ok(ranges) => {
            // Another eviction may have found them.
            let folios = ranges.iter().flat_map(|range| range.folios());
            folios.for_each(|page| owners.enter_held(&page.try_get().expect("the range has a reference")));
            counts.committed.fetch_add(ranges.iter().map(|range| range.nr_pages()).sum(), Relaxed);
            ranges.iter().for_each(|range| owners.check_range(range));
        }
        Err(AllocError::Dying) => {}
        Err(error) => panic!("{error}"),
    }
}

/// Allocates, divides, maps and frees, until that many steps are done or the device is dying.
fn work(device: &Device<'_>, space: &Space, owners: &Owners, table: &Table, rng: &mut Rng) {
    let mut held: Vec<Folio<'_>> = Vec::new();
    for _ in 0..1500 {
        match below(rng, 16) {
            0..=6 => match device.alloc(random_order(rng)) {
                Ok(folio) => {
                    // An eviction may have found it.
                    owners.enter_held(&folio);
                    held.push(folio);
                }
                Err(AllocError::Dying) => break,
                Err(_) => held.truncate(held.len() / 2),
            },
            7..=9 => {
                if let Some(folio) = pick(&mut held, rng) {
                    table.map(folio);
                }
            }
            10 => {
                if let Some(folio) = pick(&mut held, rng).filter(|folio| folio.order() > Order::ZERO) {
                    let part = order(below(rng, usize::from(folio.order().get())) as u8);
                    match folio.split(part) {
                        Ok(parts) => held.extend(parts.take(16)),
                        // An eviction has it in hand.
                        Err(error) => held.push(error.into_folio()),
                    }
                }
            }
            11 => _ = table.unmap(space, Offset::new(below(rng, NR_PAGES as usize) as u64).expect("small")),
            _ => drop(pick(&mut held, rng)),
        }
        held.iter().take(2).for_each(|folio| owners.check(folio));
    }
}

fn pick<'s>(held: &mut Vec<Folio<'s>>, rng: &mut Rng) -> Option<Folio<'s>> {
    if held.is_empty() { None } else { Some(held.swap_remove(below(rng, held.len()))) }
}

/// A third of the threads evict, the others work; one of three bursts ends with a device that is killed in the middle of it.
pub(crate) fn burst_of_evictions(nr_threads: usize, seed: u64) {
    let (space, owners, config) = space_of(NR_PAGES);
    let device = space.register(config).expect("it fits");
    let (table, counts) = (Table::new(), Counts::default());
    let nr_evicting = nr_threads.div_ceil(3);
    let nr_working = AtomicUsize::new(nr_threads - nr_evicting);
    on_threads(nr_threads, seed, |number, mut rng| {
        if number >= nr_evicting {
            work(&device, &space, &owners, &table, &mut rng);
            nr_working.fetch_sub(1, Relaxed);
            return;
        }
        let mut nr_rounds = 0;
        while nr_rounds < 4 || nr_working.load(Relaxed) > 0 {
            evict(&space, &device, &owners, &table, &counts, &mut rng);
            nr_rounds += 1;
            match (nr_rounds, number) {
                (20, 0) if seed % 3 == 2 => {
                    // A closure that is open when its device is killed ends all the same.
                    let ticket = device.evict(blocks_of(&device, 0, 1));
                    device.kill();
                    drop(ticket);
                }
                _ if nr_rounds % 8 == 0 => _ = space.trim(),
                _ => {}
            }
        }
    });
    (0..NR_PAGES).for_each(|page| _ = table.unmap(&space, Offset::new(page).expect("small")));
    assert_eq!(space.validate(), Ok(()));
    // With nobody in the way, a device is emptied in one round.
    let ticket = device.evict(device.range()).expect("no other ticket is open");
    assert_eq!(ticket.busy().count(), 0);
    commit(ticket, &owners, &counts);
    let [evicted, committed] = [&counts.evicted, &counts.committed].map(|count| count.load(Relaxed));
    assert!(evicted > 0 && (committed >= NR_PAGES || seed % 3 == 2), "{evicted} blocks evicted, {committed} pages had");
    assert_all_came_back(&space, device, &owners);
}
