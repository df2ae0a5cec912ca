//! Faults, migrations, evictions, forks and unmappings of the same pages side by side: no byte is lost, nobody waits for ever,
//! and every count is right when all is over.

mod mm_support;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use farpage::{Access, AddressSpace, LeafKind, MigrateBatch, MigrateRequest, Order, Owner};
use mm_support::{Gpu, HUGE, Kind, Mirror, PAGE, anon, assert_bytes, at, pattern, range, read, world, write};

const BASE: u64 = 0x5500_0020_0000;

/// Sets the flag when it goes, also by a panic, so that the other threads end.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Writes one's own words of every page, and finds them again.
fn use_words(space: &AddressSpace<'_>, pages: u64, lane: u64, rounds: u32) {
    let mut seed = 0x9e37_79b9 + lane;
    let mut last = vec![0u64; pages as usize];
    for _ in 0..rounds {
        let (page, value) = (random(&mut seed) % pages, random(&mut seed));
        let address = BASE + page * PAGE + lane * 64;
        let mut bytes = [0; 8];
        space.read(at(address), &mut bytes).unwrap();
        assert_eq!(u64::from_le_bytes(bytes), last[page as usize], "page {page}, lane {lane}");
        write(space, address, &value.to_le_bytes());
        last[page as usize] = value;
    }
    for (page, value) in last.iter().enumerate() {
        assert_bytes(&read(space, BASE + page as u64 * PAGE + lane * 64, 8), &value.to_le_bytes());
    }
}

fn storm(huge: bool, kind: Kind) {
    const PAGES: u64 = 1024;
    world(|w| {
        let gpu = Gpu::new(w, kind, 1);
        let other = Gpu::new(w, Kind::Private, 2);
        let space = w.space();
        space.map(anon(BASE, PAGES * PAGE).huge(huge)).unwrap();
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let workers: Vec<_> = (0..3)
                .map(|lane| {
                    let space = &space;
                    scope.spawn(move || use_words(space, PAGES, lane, 4000))
                })
                .collect();
            for seed in 1..=2u64 {
                let (gpu, other, space, over) = (&gpu, &other, &space, &over);
                scope.spawn(move || {
                    let mut seed = seed * 77;
                    while !over.load(Relaxed) {
                        let (first, nr) = match random(&mut seed) % 3 {
                            0 => (random(&mut seed) % 2 * 512, 512),
                            1 => (random(&mut seed) % PAGES, 1),
                            _ => (random(&mut seed) % (PAGES - 40), 40),
                        };
                        let range = range(BASE + first * PAGE, nr * PAGE);
                        let gpu = if random(&mut seed) % 3 == 0 { other } else { gpu };
                        match random(&mut seed) % 4 {
                            0 => drop(gpu.migrate_out(space, range).unwrap()),
                            1 if random(&mut seed) % 8 == 0 => drop(gpu.evict()),
                            _ => drop(gpu.migrate_in(space, range).unwrap()),
                        }
                    }
                });
            }
            scope.spawn(|| {
                let mut seed = 5;
                while !over.load(Relaxed) {
                    let child = space.fork().unwrap();
                    // What the child has does not change under it, wherever the pages go.
                    let page = random(&mut seed) % PAGES;
                    let first = read(&child, BASE + page * PAGE, PAGE);
                    thread::yield_now();
                    assert_bytes(&read(&child, BASE + page * PAGE, PAGE), &first);
                    write(&child, BASE + page * PAGE, &[1; 100]);
                    assert_bytes(&read(&child, BASE + page * PAGE, 100), &[1; 100]);
                }
            });
            scope.spawn(|| {
                let mut seed = 9;
                while !over.load(Relaxed) {
                    let address = at(BASE + random(&mut seed) % PAGES * PAGE);
                    // A device that only looks, and one that takes a page for a moment.
                    let _ = space.snapshot(address);
                    drop(space.make_exclusive(address, Owner::new(3)).unwrap());
                    thread::yield_now();
                }
            });
            let _ends = Ends(&over);
            for worker in workers {
                worker.join().unwrap();
            }
        });
        w.check();
        space.unmap(range(BASE, PAGES * PAGE)).unwrap();
        assert_eq!((gpu.live(), other.live()), (0, 0));
    });
}

#[test]
fn no_byte_is_lost_of_single_pages() {
    storm(false, Kind::Private);
}

#[test]
fn no_byte_is_lost_of_huge_pages() {
    storm(true, Kind::Private);
}

#[test]
fn no_byte_is_lost_of_pages_that_the_host_sees() {
    storm(true, Kind::Visible);
}

/// A device mirrors a range while everything moves: what it reads under a sequence number that holds is what the CPU wrote.
#[test]
fn a_mirror_never_reads_what_is_no_longer_there() {
    const PAGES: u64 = 64;
    world(|w| {
        let gpu = Gpu::new(w, Kind::Private, 1);
        let (space, all) = (w.space(), range(BASE, PAGES * PAGE));
        space.map(anon(BASE, PAGES * PAGE)).unwrap();
        write(&space, BASE, &pattern(PAGES * PAGE, 1));
        let mirror = Mirror::new(&gpu, &space, all);
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut seed = 3;
                while !over.load(Relaxed) {
                    let page = range(BASE + random(&mut seed) % PAGES * PAGE, PAGE);
                    match random(&mut seed) % 3 {
                        0 => drop(gpu.migrate_in(&space, page).unwrap()),
                        1 => drop(gpu.migrate_out(&space, page).unwrap()),
                        _ => drop(space.fork().unwrap()),
                    }
                }
            });
            let _ends = Ends(&over);
            for _ in 0..150 {
                assert_bytes(&mirror.read(all).unwrap(), &pattern(PAGES * PAGE, 1));
            }
        });
    });
}

/// The livelock that the kernel had: a fault on a page whose folio is locked sleeps, and comes through when it is unlocked.
#[test]
fn a_fault_sleeps_while_the_folio_is_locked() {
    world(|w| {
        let gpu = Gpu::new(w, Kind::Private, 1);
        let (space, all) = (w.space(), range(BASE, PAGE));
        space.map(anon(BASE, PAGE)).unwrap();
        write(&space, BASE, &pattern(PAGE, 2));
        gpu.migrate_in(&space, all).unwrap();
        let leaf = space.leaf(at(BASE)).0;
        let folio = w.device_pages.lookup(leaf).unwrap().try_get().unwrap();
        let locked = folio.lock_owned();
        thread::scope(|scope| {
            let faulting = scope.spawn(|| space.fault(at(BASE), Access::Read));
            thread::sleep(Duration::from_millis(50));
            assert!(!faulting.is_finished());
            assert_eq!((locked.refs(), gpu.faults()), (2, 0), "it waits without a reference, and without the driver");
            drop(locked);
            faulting.join().unwrap().unwrap();
        });
        // More than one if the driver was called before our reference was gone, which pins the page.
        assert!(gpu.faults() >= 1 && gpu.live() == 0);
        assert_bytes(&read(&space, BASE, PAGE), &pattern(PAGE, 2));
    });
}

/// Between collect and finalize: whoever touches the page waits, others of the range go on, mappings do not change.
#[test]
fn an_access_to_a_page_on_its_way_waits_for_the_end() {
    world(|w| {
        let (space, all) = (w.space(), range(BASE, 2 * PAGE));
        space.map(anon(BASE, 2 * PAGE)).unwrap();
        write(&space, BASE, &pattern(2 * PAGE, 3));
        let mut batch = MigrateBatch::new();
        let one = MigrateRequest::new(range(BASE, PAGE)).system(true);
        let migration = space.migrate(&mut batch, one).unwrap();
        assert!(matches!(space.leaf(at(BASE)).0.kind(), LeafKind::Migration(_)));
        assert_bytes(&read(&space, BASE + PAGE, PAGE), &pattern(2 * PAGE, 3)[PAGE as usize..]);
        thread::scope(|scope| {
            let touching = scope.spawn(|| read(&space, BASE, PAGE));
            let unmapping = scope.spawn(|| space.unmap(range(BASE + PAGE, PAGE)).unwrap());
            thread::sleep(Duration::from_millis(50));
            assert!(!touching.is_finished() && !unmapping.is_finished());
            drop(migration);
            assert_bytes(&touching.join().unwrap(), &pattern(PAGE, 3));
            unmapping.join().unwrap();
        });
        assert!(space.read(all.page(1).unwrap(), &mut [0]).is_err());
    });
}

/// A batch tries: two that want the same pages both end, each with what it got.
#[test]
fn two_migrations_of_the_same_pages_do_not_wait_for_each_other() {
    world(|w| {
        let (one, two) = (Gpu::new(w, Kind::Private, 1), Gpu::new(w, Kind::Private, 2));
        let (space, all) = (w.space(), range(BASE, HUGE));
        space.map(anon(BASE, HUGE)).unwrap();
        write(&space, BASE, &pattern(HUGE, 4));
        let child = space.fork().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        for _ in 0..20 {
            thread::scope(|scope| {
                scope.spawn(|| one.migrate_in(&space, all).unwrap());
                scope.spawn(|| two.migrate_in(&child, all).unwrap());
            });
            assert_eq!(one.live() + two.live() + w.host_used(), 512, "each page is in one place");
            w.check();
            one.evict();
            two.evict();
            assert!(Instant::now() < deadline);
        }
        assert_bytes(&read(&child, BASE, HUGE), &pattern(HUGE, 4));
        assert_eq!(w.machine.alloc_frame(Order::ZERO).map(|frame| frame.refs()), Ok(1));
    });
}
