//! Edge [class]: `SectionMap::publish` -> `SectionMap::block_word`: which order a block serves. From its publishing to
//! its release, a claim's order is what the readers' word names, or the word says "mixed".
//!
//! Shape: two live once or twice in one block, with different orders; one publishes late; one only reads.
//! Cost: 90 to 21,052 executions at bound 2, there and back 47,641 (4 s); these and the emptied
//! block were not done after 100 s at bound 3, so 2 is all they get. The others up to 275 at bound 3.
//! Teeth: fails with the Acquire or the Release of `publish` made Relaxed, with a store for its exchange, and without the
//! counter of changes. The Acquire of `block_word` has none: what readers go on to is reached by loads of its own.

use farpage::model::{DEVICE, Map, Names, Tried};
use farpage_loom_tests::{bounded, bounded_by};
use loom::{sync::Arc, thread};

/// A device of one block, with memory for all that the models need.
fn new_map() -> Arc<Map> {
    let map = Map::new(4);
    map.warm_up();
    Arc::new(map)
}

/// Claims, publishes, lives, is found by head and tail, ends. Whether there was room.
fn live_once(map: &Map, order: u8) -> bool {
    let Tried::Claimed(page) = map.claim_in(0, order) else { return false };
    map.publish(page, order);
    let life = map.init(page, order);
    for at in page..page + (1 << order) {
        let (class, device) = map.names(at);
        assert!(class == Names::Order(order) || (class == Names::Mixed && order < 2), "order {order}: {class:?}");
        assert_eq!(device, DEVICE);
        let (head, found) = map.find(at).expect("it lives");
        assert_eq!((head, found.order, found.generation), (page, order, life.generation));
    }
    map.end(page, order);
    map.release(page, order);
    true
}

#[test]
fn two_orders_mix_in_a_block() {
    bounded_by(2, "class: orders 0 and 1", || {
        let map = new_map();
        let other = map.clone();
        let other = thread::spawn(move || assert!(live_once(&other, 1)));
        assert!(live_once(&map, 0));
        other.join().unwrap();
    });
}

/// A first folio keeps the block from emptying, so the second claim mixes, however late the first publishes.
fn late_publisher(name: &str, mixed_before: bool) {
    bounded(name, move || {
        let map = new_map();
        if mixed_before {
            // An older life of the block ended mixed, and the word still says so.
            for (page, order) in [(0, 0), (2, 1)] {
                assert_eq!(map.claim_in(0, order), Tried::Claimed(page));
                map.publish(page, order);
            }
            map.release(0, 0);
            map.release(2, 1);
            assert_eq!(map.names(0).0, Names::Mixed);
            assert!(map.shared().empty_for(0, 0));
        }
        assert_eq!(map.claim_in(0, 0), Tried::Claimed(0));
        let other = map.clone();
        let other = thread::spawn(move || {
            assert_eq!(other.claim_in(0, 1), Tried::Claimed(2));
            other.publish(2, 1);
            assert_eq!(other.names(2), (Names::Mixed, DEVICE));
        });
        map.publish(0, 0);
        assert!(matches!(map.names(0).0, Names::Order(0) | Names::Mixed));
        other.join().unwrap();
        assert_eq!(map.names(0), (Names::Mixed, DEVICE));
    });
}

#[test]
fn a_late_publisher_never_takes_the_word_back() {
    late_publisher("class: late publisher", false);
}

/// The word is the same as the one that the publisher saw, and yet another: its counter says so.
#[test]
fn a_late_publisher_meets_the_word_of_an_older_mix() {
    late_publisher("class: late publisher, mixed before", true);
}

/// The block empties and serves another order, or is one folio, or both orders at once.
#[test]
fn an_emptied_block_serves_another_order() {
    bounded_by(2, "class: emptied", || {
        let map = new_map();
        assert!(live_once(&map, 0));
        let other = map.clone();
        let other = thread::spawn(move || {
            live_once(&other, 1);
        });
        live_once(&map, 2);
        other.join().unwrap();
        assert!(live_once(&map, 2));
    });
}

#[test]
fn a_block_changes_its_class_and_changes_back() {
    bounded_by(2, "class: there and back", || {
        let map = new_map();
        let other = map.clone();
        let other = thread::spawn(move || {
            assert!(live_once(&other, 1));
            assert!(live_once(&other, 0));
        });
        assert!(live_once(&map, 0));
        other.join().unwrap();
        assert!(live_once(&map, 1));
    });
}

/// A reader that has no claim: whatever it finds is a folio in which the page lies.
#[test]
fn a_tail_leads_to_its_head_or_to_nothing() {
    bounded("class: reader", || {
        let map = new_map();
        let other = map.clone();
        let other = thread::spawn(move || {
            assert!(live_once(&other, 1));
            assert!(live_once(&other, 2));
        });
        if let Some((head, life)) = map.find(1) {
            assert_eq!((head, life.live), (0, true));
            assert!(life.order == 1 || life.order == 2);
        }
        other.join().unwrap();
        assert_eq!(map.find(1), None);
    });
}
