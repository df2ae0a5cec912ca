//! Weak references, one promise a test: they find the life that they were made for, and no other, whatever becomes of it.

use std::collections::HashMap;
use std::thread;

use farpage::{Access, Device, DeviceConfig, Order, RangeRequest, SoftLeaf, Space, WeakFolio};

fn space(max_pages: u64) -> Space {
    Space::builder().max_pages(max_pages).build().expect("address space")
}

fn device(space: &Space, nr_pages: u64) -> Device<'_> {
    space.register(DeviceConfig::new(nr_pages)).expect("it fits")
}

fn order(order: u8) -> Order {
    Order::new(order).expect("at most 18")
}

#[test]
fn a_weak_reference_finds_its_folio_while_it_lives() {
    let space = space(1 << 18);
    let device = device(&space, 1 << 18);
    for n in 0..=18 {
        let folio = device.alloc(order(n)).unwrap();
        folio.set_private(3);
        let weak = folio.downgrade();
        assert_eq!((folio.refs(), weak.offset(), weak.order()), (1, folio.offset(), order(n)));
        let again = weak.upgrade().unwrap();
        assert!(again == folio && again.downgrade() == weak);
        assert_eq!((again.refs(), again.private()), (2, 3));
        drop(folio);
        let leaf = again.into_leaf(Access::Write);
        assert_eq!(weak.upgrade().map(|folio| folio.refs()), Some(2), "a leaf keeps it");
        space.unmap(leaf).unwrap();
        assert!(weak.upgrade().is_none());
    }
    assert_eq!(space.validate(), Ok(()));
}

#[test]
fn a_weak_reference_never_finds_a_later_folio_of_any_order() {
    let space = space(2048);
    let device = device(&space, 2048);
    let mut old: Vec<WeakFolio<'_>> = Vec::new();
    // Orders 0 to 11 in turn over the same pages, some thousand times in all.
    for round in 0..3000 {
        let n = order([0, 9, 3, 0, 11, 8, 1][round % 7]);
        let mut folios = Vec::new();
        device.alloc_many(n, (2048 >> n.get()).min(4), &mut folios).unwrap();
        for weak in old.iter().rev().take(64) {
            assert!(weak.upgrade().is_none(), "{weak:?} found a later life");
        }
        old.extend(folios.iter().map(|folio| folio.downgrade()));
        assert!(
            folios.iter().zip(&old[old.len() - folios.len()..]).all(|(folio, weak)| weak.upgrade().unwrap() == *folio)
        );
    }
    assert!(old.iter().all(|weak| weak.upgrade().is_none()));
    assert_eq!(space.validate(), Ok(()));
}

#[test]
fn a_leaf_has_a_weak_reference_of_its_folio() {
    let space = space(1 << 18);
    let device = device(&space, 1 << 18);
    for n in [0, 4, 8, 9, 18] {
        let folio = device.alloc(order(n)).unwrap();
        let leaf = folio.map_page(folio.nr_pages() - 1, Access::Read).unwrap();
        let weak = space.weak(leaf).unwrap();
        assert_eq!(weak, folio.downgrade());
        assert_eq!(weak.offset(), folio.offset(), "of the folio, whichever page the leaf names");
        space.unmap(leaf).unwrap();
        assert!(weak.upgrade().unwrap() == folio, "it does not need the leaf");
        drop(folio);
        assert_eq!((space.weak(leaf), weak.upgrade()), (None, None));
    }
    assert_eq!(space.weak(SoftLeaf::NONE), None);
}

/// A device leaf has 12 bits of its folio's generation, a weak reference all 15: with the leaf's, the 4,096th life at a
/// place would be taken for the first.
#[test]
fn a_weak_reference_of_a_large_folio_tells_more_lives_apart_than_its_leaf() {
    let space = space(512);
    let device = device(&space, 512);
    let folio = device.alloc(Order::HUGE).unwrap();
    let leaf = folio.map(Access::Read).unwrap();
    let weak = space.weak(leaf).unwrap();
    space.unmap(leaf).unwrap();
    drop(folio);
    for life in 1..24_576u32 {
        let folio = device.alloc(Order::HUGE).unwrap();
        assert!(weak.upgrade().is_none(), "life {life}");
        assert_eq!(space.lookup(leaf).is_some(), life % 4096 == 0, "what a leaf's bits can tell, life {life}");
        drop(folio);
    }
}

#[test]
fn a_weak_reference_survives_its_device() {
    let space = space(1 << 12);
    let mut old = Vec::new();
    for round in 0..50 {
        let device = device(&space, 1 << 12);
        for weak in &old {
            assert_eq!(WeakFolio::upgrade(*weak), None, "round {round}");
        }
        let mut folios = Vec::new();
        device.alloc_many(order([0, 9, 2][round % 3]), 4, &mut folios).unwrap();
        old.extend(folios.iter().map(|folio| folio.downgrade()));
        drop(folios);
        let range = device.alloc_range(RangeRequest::new(700)).unwrap();
        old.extend(range.folios().map(|page| page.try_get().unwrap().downgrade()));
        drop(range);
        device.unregister().unwrap();
        assert!(old.iter().all(|weak| weak.upgrade().is_none()));
        assert!(format!("{:?}", old[0]).contains("is_alive: false"));
    }
}

#[test]
fn parts_of_a_divided_folio_are_other_lives() {
    let space = space(1 << 12);
    let device = device(&space, 1 << 12);
    let range = device.alloc_range(RangeRequest::new(512)).unwrap();
    let weak = range.page(0).unwrap().try_get().unwrap().downgrade();
    let (low, high) = range.split_at(256).unwrap();
    assert!(weak.upgrade().is_none());
    let parts = [&low, &high].map(|range| range.page(0).unwrap().try_get().unwrap().downgrade());
    assert!(parts.iter().all(|part| part.upgrade().is_some() && *part != weak));
    drop((low, high));
    assert!(parts.iter().all(|part| part.upgrade().is_none()));
}

/// What weak references are for: a cache that finds pages by their content, and does not keep them.
#[test]
#[allow(clippy::mutable_key_type, reason = "what is hashed and compared never changes")]
fn a_cache_by_content_shares_what_lives_and_forgets_what_does_not() {
    let space = space(1 << 12);
    let device = device(&space, 64);
    let mut by_content: HashMap<u64, WeakFolio<'_>> = HashMap::new();
    let mut find_or_make = |content: u64| match by_content.get(&content).and_then(|weak| weak.upgrade()) {
        Some(folio) => (folio, true),
        None => {
            let folio = device.alloc(Order::ZERO).unwrap();
            folio.set_private(content);
            by_content.insert(content, folio.downgrade());
            (folio, false)
        }
    };
    let mut held = Vec::new();
    for step in 0..2000u64 {
        let content = step * step % 97;
        let (folio, _) = find_or_make(content);
        assert_eq!(folio.private(), content);
        held.push(folio);
        if held.len() > 40 {
            drop(held.remove((step % 40) as usize));
        }
    }
    let (first, shared) = find_or_make(1000);
    assert!(!shared);
    let (second, shared) = find_or_make(1000);
    assert!(shared && first == second);
    drop((first, second));
    assert!(!find_or_make(1000).1);
    let mut set: std::collections::HashSet<WeakFolio<'_>> = held.iter().map(|folio| folio.downgrade()).collect();
    let (len, weak) = (set.len(), held[0].downgrade());
    assert!(!set.insert(weak) && set.len() == len && set.contains(&held[0].clone().downgrade()));
}

#[test]
fn upgrades_race_with_the_last_put_and_the_next_life() {
    let space = space(512);
    let device = device(&space, 512);
    for round in 0..300 {
        let n = order([0, 9][round % 2]);
        let folio = device.alloc(n).unwrap();
        folio.set_private(round as u64 + 1);
        let weak = folio.downgrade();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while let Some(folio) = weak.upgrade() {
                        assert_eq!((folio.private(), folio.order()), (round as u64 + 1, n));
                    }
                });
            }
            drop(folio);
            drop(device.alloc(n));
        });
        assert_eq!(device.nr_live_pages(), 0);
    }
    assert_eq!(space.validate(), Ok(()));
}
