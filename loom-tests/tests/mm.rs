//! Edges [leaf] and [invalidate], and the wait for a page on its way.
//!
//! - [leaf]: `Table::set` -> `Table::peek`: a reader without a lock sees leaves of its own page, never what the table holds for
//!   another place in its next life. Shape: one peeks; one clears, takes the table out, and puts it in elsewhere.
//! - Who waits for the folio of a migration entry, and looks again, finds what it was replaced by. Shape: one replaces the entry and
//!   unlocks; one waits.
//! - [invalidate]: what a device has committed to under a sequence number is not what has been changed. Shape: one reads, checks
//!   and commits under the device's lock; one begins, calls (which takes that lock), changes, and ends.
//!
//! Cost: printed by each. Teeth: in `teeth.sh`.

use farpage::mm_model::{Interval, TABLE_PAGES, Tree};
use farpage::{Access, DeviceConfig, LeafKind, MigrationAccess, Order, Pfn, SoftLeaf};
use farpage_loom_tests::{Witness, bounded, bounded_more, with_space};
use loom::sync::{Arc, Mutex};
use loom::thread;

fn page(number: u64) -> SoftLeaf {
    SoftLeaf::present(Pfn::new(number).unwrap(), Access::Read)
}

/// Two pages that need tables of their own.
const HERE: u64 = 1;
const THERE: u64 = TABLE_PAGES + 1;

#[test]
fn a_reader_sees_leaves_of_its_own_page() {
    bounded("mm: peek against a table's next life", || {
        let tree = Arc::new(Tree::new());
        tree.set(HERE, page(5));
        let reader = tree.clone();
        let reading = thread::spawn(move || {
            let seen = reader.peek(HERE);
            assert!(seen == page(5) || seen == SoftLeaf::NONE, "{seen:?} was never here");
        });
        tree.clear(HERE);
        // The same table again: none is made.
        let made = tree.nr_tables().1;
        tree.set(THERE, page(7));
        assert_eq!(tree.nr_tables().1, made);
        reading.join().unwrap();
    });
}

/// Elsewhere, and to the same place again: the word above looks as before, but for the generation.
#[test]
fn a_reader_sees_a_table_that_comes_back() {
    bounded_more("mm: peek against a table that comes back", || {
        let tree = Arc::new(Tree::new());
        tree.set(HERE, page(5));
        let reader = tree.clone();
        let reading = thread::spawn(move || {
            let seen = reader.peek(HERE);
            assert!([page(5), page(6), SoftLeaf::NONE].contains(&seen), "{seen:?} was never here");
        });
        tree.clear(HERE);
        tree.set(THERE, page(7));
        tree.clear(THERE);
        tree.set(HERE, page(6));
        reading.join().unwrap();
    });
}

/// What was done before a leaf was set is seen by who reads the leaf without the lock.
#[test]
fn a_leaf_that_is_seen_leads_to_what_it_names() {
    bounded("mm: a leaf publishes", || {
        let tree = Arc::new(Tree::new());
        tree.set(HERE + 1, page(1));
        let bytes = Arc::new(Witness::new(0));
        let (reader, seen) = (tree.clone(), bytes.clone());
        let reading = thread::spawn(move || {
            if reader.peek(HERE) == page(5) {
                assert_eq!(seen.read(), 77);
            }
        });
        bytes.write(77);
        tree.set(HERE, page(5));
        reading.join().unwrap();
    });
}

/// Two threads change words of one table, one of them takes it out: nothing is lost.
#[test]
fn a_table_with_a_leaf_stays() {
    bounded("mm: prune against set", || {
        let tree = Arc::new(Tree::new());
        tree.set(HERE, page(5));
        let other = tree.clone();
        let setting = thread::spawn(move || other.set(HERE + 1, page(6)));
        tree.clear(HERE);
        setting.join().unwrap();
        assert_eq!((tree.locked(HERE), tree.locked(HERE + 1)), (SoftLeaf::NONE, page(6)));
        assert_eq!(tree.peek(HERE + 1), page(6));
    });
}

#[test]
fn who_waited_for_a_migration_finds_its_end() {
    bounded("mm: migration entry wait", || {
        with_space(4, |space| {
            let device = space.register(DeviceConfig::new(4)).unwrap();
            let folio = device.alloc(Order::ZERO).unwrap();
            let leaf = folio.map(Access::Write).unwrap();
            let entry = leaf.to_migration(MigrationAccess::Write).unwrap();
            let locked = folio.try_lock_owned().unwrap();
            let tree = Arc::new(Tree::new());
            tree.set(HERE, entry);
            let other = tree.clone();
            let waiting = thread::spawn(move || {
                let seen = other.peek(HERE);
                if let LeafKind::Migration(_) = seen.kind() {
                    space.wait_unlocked(seen, core::time::Duration::MAX);
                    assert_eq!(other.peek(HERE), leaf, "it waited for nothing");
                }
            });
            tree.set(HERE, entry.from_migration().unwrap());
            drop(locked);
            waiting.join().unwrap();
            space.unmap(tree.peek(HERE)).unwrap();
        });
    });
}

/// A device's mirror: the leaf that it goes by, under its lock.
#[test]
fn a_mirror_has_what_is_there_or_nothing() {
    bounded("mm: sequence number", || {
        let (tree, interval) = (Arc::new(Tree::new()), Arc::new(Interval::new()));
        let mirror = Arc::new(Mutex::new(SoftLeaf::NONE));
        tree.set(HERE, page(5));
        let (its_tree, its_interval, its_mirror) = (tree.clone(), interval.clone(), mirror.clone());
        let device = thread::spawn(move || {
            let sequence = its_interval.read_begin();
            let leaf = its_tree.locked(HERE);
            let mut mirror = its_mirror.lock().unwrap();
            if !its_interval.read_retry(sequence) {
                *mirror = leaf;
            }
        });
        interval.begin();
        *mirror.lock().unwrap() = SoftLeaf::NONE; // the call
        tree.set(HERE, page(6));
        interval.end();
        device.join().unwrap();
        let mirrored = *mirror.lock().unwrap();
        assert_ne!(mirrored, page(5), "the device goes by what is no longer there");
    });
}

/// The number of after an invalidation is worth what it says: whoever has it reads what was changed, by any way.
#[test]
fn a_number_of_after_a_change_sees_the_change() {
    bounded("mm: end of an invalidation", || {
        let (interval, changed) = (Arc::new(Interval::new()), Arc::new(Witness::new(0)));
        let before = interval.read_begin();
        let (its_interval, seen) = (interval.clone(), changed.clone());
        let device = thread::spawn(move || {
            if its_interval.read_begin() != before {
                assert_eq!(seen.read(), 1);
            }
        });
        interval.begin();
        changed.write(1);
        interval.end();
        device.join().unwrap();
    });
}
