//! Metadata that is given back: what stays resident, what is remembered, and when it happens by itself.

use std::collections::HashSet;

use farpage::{Access, DeviceConfig, Folio, MetadataPages, Order, RangeRequest, SoftLeaf, Space};

const MIB: u64 = 1 << 20;

fn order(order: u8) -> Order {
    Order::new(order).unwrap()
}

fn populated(space: &Space) -> u64 {
    space.report().metadata_populated_bytes
}

#[test]
fn after_everything_is_freed_and_trimmed_metadata_is_what_it_was() {
    for pages in [MetadataPages::Base, MetadataPages::Huge] {
        let space = Space::builder().metadata_pages(pages).spare_metadata(u64::MAX).build().unwrap();
        let device = space.register(DeviceConfig::new(1 << 21)).unwrap();
        let before = populated(&space);
        for order in [0, 3, 9, 12].map(order) {
            let mut folios = Vec::new();
            device.alloc_many(order, (1 << 20) >> order.get(), &mut folios).unwrap();
            let full = populated(&space);
            folios.clear();
            assert!(space.trim() > 0, "{pages:?}, order {order}");
            let after = populated(&space);
            assert!(after <= before + MIB, "{pages:?}, order {order}: {before} bytes, {full} full, {after} after");
            space.validate().unwrap();
        }
        assert_eq!(space.trim(), 0, "nothing is left to give");
        device.unregister().unwrap();
        assert!(populated(&space) <= before + MIB / 2, "{} and {before} before", populated(&space));
    }
}

#[test]
fn unregistering_gives_all_back() {
    let space = Space::builder().max_pages(1 << 24).build().unwrap();
    let neighbour = space.register(DeviceConfig::new(700)).unwrap();
    let kept = neighbour.alloc(order(1)).unwrap();
    let before = populated(&space);
    for round in 0..20 {
        let device = space.register(DeviceConfig::new(300_000 + 77 * round)).unwrap();
        let mut folios = Vec::new();
        device.alloc_many(order(0), 250_000, &mut folios).unwrap();
        folios.clear();
        device.unregister().unwrap();
        assert!(populated(&space) <= before + MIB / 2, "round {round}: {} and {before} before", populated(&space));
    }
    assert_eq!(kept.refs(), 1);
    space.validate().unwrap();
}

#[test]
fn what_lives_stays_and_what_lies_around_it_goes() {
    let space = Space::builder().spare_metadata(u64::MAX).build().unwrap();
    let device = space.register(DeviceConfig::new(1 << 20)).unwrap();
    let mut folios = Vec::new();
    device.alloc_many(Order::ZERO, 1 << 20, &mut folios).unwrap();
    let full = populated(&space);
    for folio in &folios {
        folio.set_private(folio.offset().get() * 3);
    }
    // One page in each hundredth section of 4,096.
    folios.retain(|folio| folio.offset().get() % (100 << 12) == 12_345);
    assert_eq!(folios.len(), 3);
    assert!(space.trim() > full / 2);
    assert!(populated(&space) < full / 20);
    for folio in &folios {
        assert_eq!((folio.private(), folio.refs()), (folio.offset().get() * 3, 1));
        assert_eq!(space.page(folio.offset()).unwrap().folio_offset(), folio.offset());
    }
    space.validate().unwrap();
    let mut again = Vec::new();
    device.alloc_many(Order::ZERO, (1 << 20) - 3, &mut again).unwrap();
    space.validate().unwrap();
}

/// Of pages that are used unevenly, by heads of several orders and by tails.
#[test]
fn a_leaf_that_was_stale_stays_stale() {
    let space = Space::new().unwrap();
    let device = space.register(DeviceConfig::new(1 << 14)).unwrap();
    let mut stale: Vec<SoftLeaf> = Vec::new();
    let orders = [0, 2, 8, 9, 0, 5, 10];
    for round in 0..60 {
        let order = order(orders[round % orders.len()]);
        // One place much more often than the others.
        for _ in 0..(round % 5) * 50 {
            let leaf = device.alloc(order).unwrap().into_leaf(Access::Write);
            drop(space.take(leaf).unwrap());
            stale.push(leaf);
        }
        let mut folios = Vec::new();
        device.alloc_many(order, 1 << (13 - order.get()), &mut folios).unwrap();
        let leaves: Vec<SoftLeaf> = folios.drain(..).map(|folio| folio.into_leaf(Access::Read)).collect();
        for leaf in &stale {
            assert!(space.lookup(*leaf).is_none(), "round {round}: {leaf:?}");
        }
        for leaf in leaves {
            drop(space.take(leaf).unwrap());
            stale.push(leaf);
        }
        assert!(space.trim() > 0);
        // An absent record, and then one that has begun again.
        assert!(stale.iter().all(|leaf| space.lookup(*leaf).is_none()));
    }
}

#[test]
fn a_generation_repeats_after_4_000_reuses_at_the_earliest() {
    let space = Space::new().unwrap();
    let device = space.register(DeviceConfig::new(4096)).unwrap();
    for order in [order(0), order(8), order(9)] {
        let mut stale = HashSet::new();
        for round in 0..4_000 {
            let folio: Folio<'_> = device.alloc(order).unwrap();
            let leaf = folio.into_leaf(Access::Write);
            assert!(stale.insert(leaf), "order {order}: the leaf of round {round} has been there before");
            drop(space.take(leaf).unwrap());
            if round % 3 == 0 {
                space.trim();
            }
        }
    }
}

#[test]
fn stale_leaves_stay_stale_when_another_device_has_their_offsets() {
    let space = Space::builder().max_pages(1 << 13).build().unwrap();
    let mut stale: Vec<SoftLeaf> = Vec::new();
    for round in 0..200 {
        let device = space.register(DeviceConfig::new(1 << 13)).unwrap();
        assert_eq!(device.range().start().get(), 0);
        let folios: Vec<_> = [0, 0, 1, 4, 9].map(|at| device.alloc(order(at)).unwrap()).into();
        let leaves: Vec<SoftLeaf> = folios.into_iter().map(|folio| folio.into_leaf(Access::Write)).collect();
        assert!(stale.iter().all(|leaf| space.lookup(*leaf).is_none()), "round {round}");
        leaves.iter().for_each(|leaf| drop(space.take(*leaf).unwrap()));
        stale.extend(leaves);
        device.unregister().unwrap();
        assert!(stale.iter().all(|leaf| space.lookup(*leaf).is_none()), "round {round}");
    }
}

/// Freed in order, in no order, and as large folios: little is left without a call.
#[test]
fn it_happens_by_itself() {
    let space = Space::builder().cache_percent(0).build().unwrap();
    let device = space.register(DeviceConfig::new(1 << 21)).unwrap();
    let before = populated(&space);
    for (order, in_order) in [(0, true), (0, false), (4, false), (9, true), (9, false), (11, false)] {
        let order = order_of(order);
        let mut folios = Vec::new();
        device.alloc_many(order, (1 << 21) >> order.get(), &mut folios).unwrap();
        if !in_order {
            let mut random = 1u64;
            for i in (1..folios.len()).rev() {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                folios.swap(i, (random >> 33) as usize % (i + 1));
            }
        }
        folios.clear();
        let after = populated(&space);
        assert!(after <= before + MIB, "order {order}, in order: {in_order}: {before} bytes before, {after} after");
    }
    space.validate().unwrap();
}

fn order_of(number: u8) -> Order {
    order(number)
}

/// Hysteresis: what empties and fills in turn is left alone.
#[test]
fn sections_that_empty_and_fill_are_left_alone() {
    let space = Space::builder().cache_percent(0).build().unwrap();
    let device = space.register(DeviceConfig::new(1 << 20)).unwrap();
    // One page in each of `nr` sections, at one place.
    let fill = |nr: u64| {
        let at = |i: u64| device.range().start().get() + (i << 13);
        let alloc = |i| device.alloc_range(RangeRequest::new(1).at(farpage::Offset::new(at(i)).unwrap())).unwrap();
        drop((0..nr).map(alloc).collect::<Vec<_>>());
    };
    for nr in [1, 6, 12, 40] {
        (0..50).for_each(|_| fill(nr));
        let populates = space.report().metadata_populates;
        (0..1000).for_each(|_| fill(nr));
        let more = space.report().metadata_populates - populates;
        println!("{nr} sections, emptied and filled 1,000 times: {more} times populated again");
        assert!(more <= 16, "{nr} sections emptied and filled 1,000 times, and {more} were populated again");
    }
}

#[test]
fn racing_allocations_and_lookups_do_not_notice() {
    let space = Space::builder().spare_metadata(0).build().unwrap();
    let device = space.register(DeviceConfig::new(1 << 15)).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    /// Also when its thread panics.
    struct Stop<'a>(&'a std::sync::atomic::AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }
    std::thread::scope(|scope| {
        for thread in 0..3u8 {
            let (space, device, stop) = (&space, &device, &stop);
            scope.spawn(move || {
                let _stop = Stop(stop);
                let mut stale: Vec<SoftLeaf> = Vec::new();
                for round in 0..400u64 {
                    let order = order([0, 3, 9][usize::from(thread)]);
                    let mut folios = Vec::new();
                    device.alloc_many(order, 4096 >> order.get(), &mut folios).unwrap();
                    let leaves: Vec<_> = folios.drain(..).map(|folio| folio.into_leaf(Access::Write)).collect();
                    assert!(stale.iter().all(|leaf| space.lookup(*leaf).is_none()));
                    for leaf in &leaves {
                        let page = space.lookup(*leaf).expect("alive");
                        assert_eq!((Some(page.offset()), page.refs()), (leaf.offset(), 1), "round {round}");
                    }
                    leaves.iter().for_each(|leaf| drop(space.take(*leaf).unwrap()));
                    stale = leaves;
                }
            });
        }
        let (space, stop) = (&space, &stop);
        scope.spawn(move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                space.trim();
            }
        });
    });
    space.validate().unwrap();
    assert_eq!(device.nr_live_pages(), 0);
}
