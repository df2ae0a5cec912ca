//! Evictions in two phases: what is closed stays closed, what is busy is told, and what is empty is handed out or opened.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use farpage::{
    Access, AllocError, Device, DeviceConfig, DeviceOps, EvictError, Folio, FreedFolio, LockedFolio, Offset,
    OffsetRange, Order, Pressure, RangeRequest, SoftLeaf, Space,
};

const BLOCK: u64 = 512;

fn space() -> Space {
    Space::builder().max_pages(1 << 20).cores(2).build().unwrap()
}

fn order(order: u8) -> Order {
    Order::new(order).unwrap()
}

fn blocks(device: &Device<'_>, first: u64, nr: u64) -> OffsetRange {
    OffsetRange::new(Offset::new(device.range().start().get() + first * BLOCK).unwrap(), nr * BLOCK).unwrap()
}

/// All pages of the device as folios of `order` by offset.
fn fill<'s>(device: &Device<'s>, order: Order) -> Vec<Folio<'s>> {
    let mut folios = Vec::new();
    device.alloc_many(order, (device.range().nr_pages() >> order.get()) as usize, &mut folios).unwrap();
    folios.sort_by_key(|folio| folio.offset().get());
    folios
}

/// A driver whose page table has one entry a folio, and that moves nothing.
struct Leaves(Vec<SoftLeaf>);

impl Leaves {
    fn of(folios: Vec<Folio<'_>>) -> Leaves {
        Leaves(folios.into_iter().map(|folio| folio.into_leaf(Access::Write)).collect())
    }

    fn unmap(&mut self, space: &Space, folio: &LockedFolio<'_>) {
        if let Some(at) = self.0.iter().position(|leaf| leaf.offset() == Some(folio.offset())) {
            space.unmap(self.0.swap_remove(at)).unwrap();
        }
    }
}

#[test]
fn the_uvm_scenario_one_elevated_page_keeps_its_own_block_and_no_other() {
    const NR: u64 = 16;
    let space = space();
    let device = space.register(DeviceConfig::new(NR * BLOCK)).unwrap();
    let folios = fill(&device, Order::ZERO);
    let pinned = folios[5 * 512 + 77].clone();
    let mut leaves = Leaves::of(folios);
    let (stop, reallocated) = (AtomicBool::new(false), AtomicU64::new(0));
    let ranges = thread::scope(|scope| {
        // Others want memory all the time, and get it as soon as there is any.
        for n in [0, 3, 9] {
            let (device, stop, reallocated, pinned) = (device.clone(), &stop, &reallocated, pinned.offset().get());
            scope.spawn(move || {
                let mut held = Vec::new();
                while !stop.load(Relaxed) {
                    match device.alloc(order(n)) {
                        Ok(folio) => {
                            assert_ne!(folio.offset().get() / BLOCK, pinned / BLOCK, "that block is closed");
                            reallocated.fetch_add(folio.nr_pages(), Relaxed);
                            held.push(folio);
                        }
                        Err(AllocError::Exhausted { .. } | AllocError::Fragmented { .. }) => thread::yield_now(),
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        let mut ticket = device.evict(device.range()).unwrap();
        let evicted = ticket.evict(2, |folio| leaves.unmap(&space, &folio));
        assert_eq!((evicted.nr_evicted, evicted.nr_busy, evicted.rounds), (NR - 1, 1, 3));
        assert_eq!(evicted.nr_handed, NR * BLOCK + 2, "the pinned one again in each round");
        let busy: Vec<_> = ticket.busy().collect();
        assert_eq!(busy.len(), 1);
        assert_eq!((busy[0].offset, busy[0].refs, busy[0].maps, busy[0].is_locked), (pinned.offset(), 1, 0, false));
        assert_eq!(busy[0].block, blocks(&device, 5, 1));
        assert_eq!(reallocated.load(Relaxed), 0, "all is closed");

        assert_eq!(ticket.release_evicted(), (NR - 1) * BLOCK);
        while reallocated.load(Relaxed) < (NR - 1) * BLOCK {
            thread::yield_now();
        }
        // Meanwhile, nothing that has been allocated is touched.
        let again = ticket.evict(3, |_| ());
        assert_eq!((again.nr_evicted, again.nr_busy, again.nr_handed), (0, 1, 4));
        drop(pinned);
        let at_last = ticket.evict(0, |_| ());
        assert_eq!((at_last.nr_evicted, at_last.nr_busy, at_last.nr_handed), (1, 0, 0));
        let ranges = ticket.commit().unwrap();
        assert_eq!(ranges.iter().map(|range| range.range()).collect::<Vec<_>>(), [blocks(&device, 5, 1)]);
        stop.store(true, Relaxed);
        // To be dropped when nobody allocates any more: a search that is under way would find it, as it should.
        ranges
    });
    drop(ranges);
    assert_eq!(device.nr_live_pages(), 0);
    space.validate().unwrap();
    device.unregister().unwrap();
}

#[test]
fn no_allocation_of_any_kind_lands_in_a_closed_range() {
    let space = space();
    let device = space.register(DeviceConfig::new(8 * BLOCK)).unwrap();
    // What this thread's cache, and an explicit one, keep of the blocks is taken out.
    let mut cache = device.cache();
    let mut folios = Vec::new();
    (0..100).for_each(|_| folios.push(device.alloc(Order::ZERO).unwrap()));
    folios.truncate(40);
    (0..20).for_each(|_| folios.push(cache.alloc(Order::ZERO).unwrap()));
    folios.drain(40..).for_each(|folio| cache.put(folio));
    assert!(device.nr_cached_pages() > 0);
    let closed = blocks(&device, 0, 6);
    let mut ticket = device.evict(closed).unwrap();
    space.validate().unwrap();
    let open = blocks(&device, 6, 2);
    // What is freed there while it is closed is not kept to hand.
    folios.clear();
    for n in [0, 0, 1, 4, 0] {
        let folio = device.alloc(order(n)).unwrap();
        assert!(open.contains(folio.offset()), "{folio:?}");
        folios.push(folio);
        if n == 0 {
            let folio = cache.alloc(order(0)).unwrap();
            assert!(open.contains(folio.offset()), "{folio:?}");
            folios.push(folio);
        }
    }
    let at_closed = RangeRequest::new(3).at(closed.start());
    assert!(matches!(device.alloc_range(at_closed), Err(AllocError::Fragmented { .. })));
    let lowest = device.alloc_range(RangeRequest::new(3).bottom_up()).unwrap();
    assert!(open.contains(lowest.offset()));
    let mut many = Vec::new();
    assert!(matches!(device.alloc_many(Order::ZERO, 1000, &mut many), Err(AllocError::Exhausted { .. })));
    let free = 2 * BLOCK - folios.iter().map(Folio::nr_pages).sum::<u64>() - 3;
    device.alloc_many(Order::ZERO, free as usize, &mut many).unwrap();
    assert_eq!(device.alloc(Order::ZERO).unwrap_err(), AllocError::Exhausted { requested: 1, free: 0 });
    assert_eq!(cache.alloc(Order::ZERO).unwrap_err(), AllocError::Exhausted { requested: 1, free: 0 });
    let evicted = ticket.evict(0, |_| panic!("nothing lives there"));
    assert_eq!((evicted.nr_evicted, evicted.nr_busy), (6, 0));
    ticket.abort();
    folios.push(device.alloc(Order::HUGE).unwrap());
    drop((folios, many, lowest, cache));
    assert_eq!(device.nr_live_pages(), 0);
    space.validate().unwrap();
}

#[test]
fn large_folios_that_end_in_a_closed_range_leave_it_closed() {
    let space = space();
    let device = space.register(DeviceConfig::new(8 * BLOCK)).unwrap();
    let (huge, giant) = (device.alloc(Order::HUGE).unwrap(), device.alloc(order(11)).unwrap());
    let ticket = device.evict(device.range()).unwrap();
    // One is divided, the other ends.
    let mut parts: Vec<_> = huge.split(order(3)).unwrap().collect();
    let eighth = parts.pop().unwrap().split(Order::ZERO).unwrap();
    drop((parts, giant));
    assert!(matches!(device.alloc(Order::ZERO), Err(AllocError::Exhausted { free: 0, .. })));
    assert!(matches!(device.alloc(Order::HUGE), Err(AllocError::Exhausted { free: 0, .. })));
    space.validate().unwrap();
    assert_eq!(ticket.busy().count(), 1, "eight pages live");
    drop(eighth);
    assert_eq!(ticket.busy().count(), 0);
    let ranges = ticket.commit().unwrap();
    assert_eq!((ranges.len(), ranges[0].range()), (1, device.range()));
    assert_eq!(device.nr_live_pages(), 8 * BLOCK);
    drop(ranges);
    drop(device.alloc(order(12)).unwrap());
    space.validate().unwrap();
}

#[test]
fn a_device_that_ends_within_a_block_is_committed_to_its_last_page() {
    let space = space();
    let device = space.register(DeviceConfig::new(3 * BLOCK + 77)).unwrap();
    let folios = fill(&device, Order::ZERO);
    let mut leaves = Leaves::of(folios);
    let mut ticket = device.evict(device.range()).unwrap();
    assert_eq!(ticket.range(), device.range());
    let evicted = ticket.evict(0, |folio| leaves.unmap(&space, &folio));
    assert_eq!((evicted.nr_evicted, evicted.nr_busy), (4, 0));
    let ranges = ticket.commit().unwrap();
    assert_eq!((ranges.len(), ranges[0].range()), (1, device.range()));
    assert_eq!(device.alloc(Order::ZERO).unwrap_err(), AllocError::Exhausted { requested: 1, free: 0 });
    space.validate().unwrap();
    drop(ranges);
    space.validate().unwrap();
    assert_eq!(fill(&device, Order::ZERO).len(), 3 * 512 + 77);
}

#[test]
fn what_is_in_the_way_is_told_and_committed_around() {
    let space = space();
    let device = space.register(DeviceConfig::new(5 * BLOCK)).unwrap();
    let folios = fill(&device, order(8));
    // Locked, frozen, mapped beyond the driver's knowledge, and kept by the driver itself; one block without any.
    let (mut rest, locked) = (folios, AtomicU64::new(0));
    let mapped = rest[4].map(Access::Read).unwrap();
    let frozen = rest.swap_remove(2).try_freeze(1).unwrap();
    let guarded = rest[0].clone();
    let guard = guarded.lock();
    let mut leaves = Leaves::of(rest);
    let mut ticket = device.evict(device.range()).unwrap();
    let mut batch = Vec::new();
    let evicted = ticket.evict(1, |folio| {
        assert!(folio.is_locked());
        locked.fetch_add(1, Relaxed);
        leaves.unmap(&space, &folio);
        if folio.offset().get() / BLOCK == device.range().start().get() / BLOCK + 3 {
            batch.push(folio);
        }
    });
    assert_eq!((evicted.nr_evicted, evicted.nr_busy, evicted.rounds), (1, 4, 2));
    let busy: Vec<_> = ticket.busy().map(|busy| (busy.block, busy.refs, busy.maps, busy.is_locked)).collect();
    let block = |nr| blocks(&device, nr, 1);
    let expected = [(block(0), 2, 1, true), (block(1), 0, 0, false), (block(2), 1, 1, false), (block(3), 1, 0, true)];
    assert_eq!(busy, expected);
    let ranges = ticket.commit().unwrap();
    assert_eq!(ranges.iter().map(|range| range.range()).collect::<Vec<_>>(), [block(4)]);
    space.unmap(mapped).unwrap();
    space.validate().unwrap();
    drop(guard);
    drop((frozen, batch, ranges, guarded));
    leaves.0.drain(..).for_each(|leaf| space.unmap(leaf).unwrap());
    assert_eq!(device.nr_live_pages(), 0);
    drop(fill(&device, order(9)));
    space.validate().unwrap();
}

#[test]
fn bad_requests_are_refused_with_their_numbers() {
    let space = space();
    let device = space.register(DeviceConfig::new(4 * BLOCK)).unwrap();
    let other = space.register(DeviceConfig::new(4 * BLOCK)).unwrap();
    for range in [OffsetRange::EMPTY, other.range(), blocks(&device, 3, 2)] {
        let refused = EvictError::OutsideDevice { range, device: device.range() };
        assert_eq!(device.evict(range).unwrap_err(), refused);
    }
    let page = OffsetRange::new(Offset::new(device.range().start().get() + 600).unwrap(), 1).unwrap();
    let ticket = device.evict(page).unwrap();
    assert_eq!(ticket.range(), blocks(&device, 1, 1), "its block");
    let overlaps = EvictError::Overlaps { range: blocks(&device, 1, 1) };
    assert_eq!(device.evict(device.range()).unwrap_err(), overlaps);
    let beside = device.evict(blocks(&device, 2, 2)).unwrap();
    drop(ticket);
    let ticket = device.evict(blocks(&device, 0, 2)).unwrap();
    space.validate().unwrap();
    drop((ticket, beside));
    let gone = device.clone();
    device.unregister().unwrap();
    assert_eq!(gone.evict(gone.range()).unwrap_err(), EvictError::Gone);
}

#[test]
fn a_killed_device_is_evicted_and_goes_with_its_ticket_out() {
    let space = space();
    let device = space.register(DeviceConfig::new(4 * BLOCK)).unwrap();
    let mut leaves = Leaves::of(fill(&device, order(2)));
    device.kill();
    let mut ticket = device.evict(device.range()).unwrap();
    let evicted = ticket.evict(0, |folio| leaves.unmap(&space, &folio));
    assert_eq!((evicted.nr_evicted, evicted.nr_busy), (4, 0));
    device.drain(Duration::ZERO).unwrap();
    device.unregister().unwrap();
    // Its offsets are another's now.
    let next = space.register(DeviceConfig::new(4 * BLOCK)).unwrap();
    assert_eq!(next.range().start(), ticket.range().start());
    let folios = fill(&next, Order::ZERO);
    assert_eq!(ticket.evict(1, |_| panic!("another's")).nr_busy, 0);
    assert_eq!((ticket.busy().count(), ticket.release_evicted()), (0, 0));
    let own = next.evict(next.range()).unwrap();
    assert!(matches!(ticket.commit(), Err(AllocError::Dying)));
    drop(folios);
    assert!(matches!(next.alloc(Order::ZERO), Err(AllocError::Exhausted { free: 0, .. })), "closed still");
    drop(own);
    drop(fill(&next, Order::HUGE));
    space.validate().unwrap();
}

#[test]
fn a_trim_leaves_what_is_closed() {
    let space = space();
    let device = space.register(DeviceConfig::new(64 * BLOCK)).unwrap();
    drop(fill(&device, Order::ZERO));
    let ticket = device.evict(device.range()).unwrap();
    space.trim();
    assert!(matches!(device.alloc(Order::ZERO), Err(AllocError::Exhausted { free: 0, .. })));
    space.validate().unwrap();
    drop(ticket);
    space.trim();
    drop(fill(&device, Order::HUGE));
    space.validate().unwrap();
}

#[test]
fn a_driver_that_panics_leaves_the_ticket_as_it_was() {
    let space = space();
    let device = space.register(DeviceConfig::new(2 * BLOCK)).unwrap();
    let folios = fill(&device, Order::HUGE);
    let mut ticket = device.evict(device.range()).unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ticket.evict(0, |_| panic!("planned"))));
    assert!(panicked.is_err());
    assert!(!folios[0].is_locked() && folios[0].refs() == 1);
    drop(folios);
    assert_eq!(ticket.evict(0, |_| ()).nr_evicted, 2);
    drop(ticket);
    drop(fill(&device, Order::HUGE));
    space.validate().unwrap();
}

/// Evicts the first block of its device when there is no room, from within the allocation.
struct Evicts {
    space: &'static Space,
    device: OnceLock<Device<'static>>,
    leaves: Mutex<Vec<SoftLeaf>>,
}

impl DeviceOps for Evicts {
    fn folio_free(&self, _: FreedFolio) {}

    fn pressure(&self, _: Pressure) -> bool {
        let device = self.device.get().unwrap();
        let first = OffsetRange::new(device.range().start(), BLOCK).unwrap();
        let mut ticket = device.evict(first).unwrap();
        let evicted = ticket.evict(0, |folio| {
            let mut leaves = self.leaves.lock().unwrap();
            let at = leaves.iter().position(|leaf| leaf.offset() == Some(folio.offset())).unwrap();
            self.space.unmap(leaves.swap_remove(at)).unwrap();
        });
        evicted.nr_evicted > 0
    }
}

#[test]
fn a_pressure_callback_may_evict() {
    let space: &'static Space = Box::leak(Box::new(space()));
    let driver = Arc::new(Evicts { space, device: OnceLock::new(), leaves: Mutex::default() });
    let device = space.register(DeviceConfig::new(2 * BLOCK).ops(driver.clone())).unwrap();
    driver.device.set(device.clone()).unwrap();
    let leaves = fill(&device, Order::ZERO).into_iter().map(|folio| folio.into_leaf(Access::Read));
    driver.leaves.lock().unwrap().extend(leaves);
    let folio = device.alloc(Order::HUGE).unwrap();
    assert_eq!(folio.offset(), device.range().start());
    driver.leaves.lock().unwrap().drain(..).for_each(|leaf| space.unmap(leaf).unwrap());
    drop(folio);
    assert_eq!(device.nr_live_pages(), 0);
    space.validate().unwrap();
}
