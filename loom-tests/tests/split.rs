//! Edges [last-put], [init], [class] on the whole path: `Folio::split` against whoever gets, puts or looks up the folio.
//!
//! Shape: one splits and, if it may, writes what only a sole holder writes; one gets a reference, by what it looked up
//! before the split, by a leaf word, or by an offset, and reads.
//! Cost: 14 to 495 executions at bound 2, 18 to 1,487 at bound 3; 78,759 where two free the parts.
//! Teeth: fails when the freeze does not acquire, when it takes a count that is not 1, when a put does not release,
//! when the parts keep the generation, when the whole's record stays, and when pages that are given up beside the split
//! are not looked at again.

use farpage::{Access, DeviceConfig, Folio, Order, PageRef, SoftLeaf, Space, SplitError};
use farpage_loom_tests::{Witness, bounded, bounded_by, with_space};
use loom::{sync::Arc, thread};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

fn order(order: u8) -> Order {
    Order::new(order).unwrap()
}

/// A folio of a device that is one block (or two, for the largest order), and its leaf word, whose reference was taken.
fn folio(space: &'static Space, whole: u8) -> (Folio<'static>, SoftLeaf) {
    let device = space.register(DeviceConfig::new(4.max(1 << whole))).unwrap();
    let leaf = device.alloc(order(whole)).unwrap().into_leaf(Access::Write);
    let folio = space.take(leaf).unwrap();
    folio.set_private(7);
    (folio, leaf)
}

/// How often a model saw a split and a refusal. Not seen by loom.
#[derive(Clone, Default)]
struct Outcomes(std::sync::Arc<[AtomicU64; 2]>);

impl Outcomes {
    fn note(&self, parts: Option<&Vec<Folio<'_>>>) {
        self.0[usize::from(parts.is_some())].fetch_add(1, Relaxed);
    }

    fn assert_both(&self) {
        assert!(self.0.iter().all(|nr| nr.load(Relaxed) > 0), "a race has two outcomes: {:?}", self.0);
    }
}

/// What whoever has parts may do, and nobody beside: the data of the whole is written.
fn split(folio: Folio<'static>, part: u8, data: &Witness) -> Option<Vec<Folio<'static>>> {
    let (nr_pages, start) = (folio.nr_pages(), folio.offset().get());
    match folio.split(order(part)) {
        Ok(parts) => {
            data.write(2);
            let parts: Vec<Folio<'_>> = parts.collect();
            assert_eq!(parts.len() as u64, nr_pages >> part);
            for (at, part) in parts.iter().enumerate() {
                assert_eq!(part.offset().get(), start + at as u64 * part.nr_pages());
                assert_eq!(part.private(), 7, "a copy of the whole's");
            }
            Some(parts)
        }
        Err(SplitError::Busy { extra_refs, maps, folio }) => {
            assert_eq!((extra_refs, maps, folio.private()), (1, 0, 7));
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// `get` runs beside the split; what it gets is the whole, whose data nobody writes then.
fn race(
    name: &str,
    whole: u8,
    part: u8,
    get: impl Fn(&'static Space, SoftLeaf, PageRef<'static>) -> Option<Folio<'static>> + Copy + Send + Sync + 'static,
) {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    bounded(name, move || {
        with_space(4.max(1 << whole), |space| {
            let (folio, leaf) = folio(space, whole);
            let data = Arc::new(Witness::new(1));
            let seen = space.lookup(leaf).unwrap();
            let reader = data.clone();
            let other = thread::spawn(move || {
                let Some(folio) = get(space, leaf, seen) else { return };
                assert_eq!((folio.order(), folio.private()), (order(whole), 7));
                assert_eq!(reader.read(), 1, "while we have it, nobody divides it");
            });
            let parts = split(folio, part, &data);
            noted.note(parts.as_ref());
            if parts.is_some() {
                assert_eq!((space.lookup(leaf), seen.try_get()), (None, None));
            }
            other.join().unwrap();
            space.validate().unwrap();
            drop(parts);
            assert_eq!(space.report().live_pages, 0);
            space.validate().unwrap();
        });
    });
    outcomes.assert_both();
}

#[test]
fn a_page_of_a_block_against_try_get() {
    race("split: 1 to 0, try_get", 1, 0, |_, _, seen| seen.try_get());
}

#[test]
fn a_block_against_try_get() {
    race("split: 2 to 0, try_get", 2, 0, |_, _, seen| seen.try_get());
}

#[test]
fn a_block_against_a_lookup_of_its_tail() {
    race("split: 2 to 1, tail leaf", 2, 1, |space, leaf, _| {
        space.lookup(SoftLeaf::from_bits(leaf.bits() + 3)).and_then(PageRef::try_get)
    });
}

/// The record of the first part is the whole's: only the generation and the order tell them apart.
#[test]
fn blocks_against_a_lookup_of_a_tail() {
    race("split: 3 to 2, tail leaf", 3, 2, |space, leaf, _| {
        space.lookup(SoftLeaf::from_bits(leaf.bits() + 5)).and_then(PageRef::try_get)
    });
}

/// A holder that puts: its use of the folio comes before the split, or the split is refused.
fn put(name: &str, whole: u8, part: u8) {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    bounded(name, move || {
        with_space(4.max(1 << whole), |space| {
            let (folio, _) = folio(space, whole);
            let data = Arc::new(Witness::new(1));
            let (other, user) = (folio.clone(), data.clone());
            let other = thread::spawn(move || {
                user.write(1);
                drop(other);
            });
            let parts = split(folio, part, &data);
            noted.note(parts.as_ref());
            other.join().unwrap();
            drop(parts);
            assert_eq!(space.report().live_pages, 0);
            space.validate().unwrap();
        });
    });
    outcomes.assert_both();
}

#[test]
fn a_page_of_a_block_against_put() {
    put("split: 1 to 0, put", 1, 0);
}

#[test]
fn a_block_against_put() {
    put("split: 2 to 0, put", 2, 0);
}

/// By offset, the whole is found, or a part, or nothing; and a part has all that its maker gave it.
fn by_offset(name: &str, whole: u8, part: u8) {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    bounded(name, move || {
        with_space(4.max(1 << whole), |space| {
            let (folio, _) = folio(space, whole);
            let tail = farpage::Offset::new(folio.offset().get() + folio.nr_pages() - 1).unwrap();
            let other = thread::spawn(move || {
                let Some(found) = space.page(tail).and_then(PageRef::try_get) else { return };
                let is_whole = found.order() == order(whole);
                assert!(is_whole || found.order() == order(part));
                assert!(tail.get() - found.offset().get() < found.nr_pages());
                assert_eq!(found.private(), 7);
            });
            let parts = split(folio, part, &Witness::new(1));
            noted.note(parts.as_ref());
            other.join().unwrap();
            space.validate().unwrap();
            drop(parts);
            assert_eq!(space.report().live_pages, 0);
            space.validate().unwrap();
        });
    });
    outcomes.assert_both();
}

#[test]
fn a_tail_by_its_offset() {
    by_offset("split: 1 to 0, by offset", 1, 0);
}

#[test]
fn a_tail_of_a_block_by_its_offset() {
    by_offset("split: 2 to 0, by offset", 2, 0);
}

/// Two threads free the parts, and what they were parts of can be had again by one of them once both are through.
#[test]
fn parts_come_together_again() {
    bounded_by(2, "split: parts freed by two", || {
        with_space(4, |space| {
            let (folio, _) = folio(space, 2);
            let device = folio.device();
            let mut parts = folio.split(order(1)).unwrap();
            let (first, second) = (parts.next().unwrap(), parts.next().unwrap());
            let data = Arc::new(Witness::new(0));
            let user = data.clone();
            let other = thread::spawn(move || {
                user.write(1);
                drop(first);
            });
            drop(second);
            // All is one again if the other has freed its part; then what it did before is behind us.
            if let Ok(whole) = device.alloc(order(2)) {
                data.write(2);
                drop(whole);
            }
            other.join().unwrap();
            assert!(device.alloc(order(2)).is_ok());
            space.validate().unwrap();
            drop((parts, device));
        });
    });
}

/// A holder gives a page up and puts; whichever put is the last forgets it.
#[test]
fn what_was_given_up_ends_with_the_folio() {
    bounded("split: give up against put", || {
        with_space(4, |space| {
            let (folio, _) = folio(space, 1);
            let (device, other) = (folio.device(), folio.clone());
            let other = thread::spawn(move || {
                assert_eq!(other.give_up(0..1), Ok(1));
                drop(other);
            });
            drop(folio);
            other.join().unwrap();
            assert_eq!((device.nr_given_up_pages(), device.nr_live_pages()), (0, 0));
            drop(device);
        });
    });
}

/// A page is given up while the folio is about to be split: the split is refused, or frees it.
#[test]
fn what_was_given_up_beside_a_split_is_freed_by_it() {
    bounded("split: give up against split", || {
        with_space(4, |space| {
            let (folio, _) = folio(space, 1);
            let (device, other) = (folio.device(), folio.clone());
            let other = thread::spawn(move || {
                assert_eq!(other.give_up(1..2), Ok(1));
                drop(other);
            });
            match folio.split(order(0)) {
                Ok(parts) => assert_eq!((parts.len(), device.nr_live_pages(), device.nr_given_up_pages()), (1, 1, 0)),
                Err(SplitError::Busy { extra_refs: 1, maps: 0, .. }) => {}
                Err(error) => panic!("{error}"),
            }
            other.join().unwrap();
            assert_eq!((device.nr_given_up_pages(), device.nr_live_pages()), (0, 0));
            space.validate().unwrap();
            drop(device);
        });
    });
}
