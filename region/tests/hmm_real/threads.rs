//! Threads load and store through pointers while pages move, are copied and go: no store is lost, and every count is right at the end.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread;

use farpage::{Owner, Protection};
use farpage_region::View;

use crate::mm_support::{Kind, PAGE};
use crate::{load, pages, real, store};

const PAGES: u64 = 32;

/// The first word of a page, which several threads add to.
fn counter<'v>(view: &'v View<'_, '_>, page: u64) -> &'v AtomicU32 {
    assert!((page + 1) * PAGE <= view.range().nr_bytes());
    // SAFETY: In bounds.
    let word = unsafe { view.as_ptr().as_ptr().add((page * PAGE) as usize) };
    // SAFETY: Aligned, mapped while the view lives, and used by these atomics alone.
    unsafe { AtomicU32::from_ptr(word.cast()) }
}

fn add_one_to_each(view: &View<'_, '_>) {
    for page in 0..PAGES {
        counter(view, page).fetch_add(1, Relaxed);
    }
}

#[test]
fn no_store_is_lost_while_pages_move() {
    const ROUNDS: u32 = 60;
    for kind in [Kind::Private, Kind::Visible] {
        real(kind, |real| {
            let gpu = real.gpu;
            real.anon(PAGES * PAGE, |space, view, all| {
                let (stop, moved) = (AtomicBool::new(false), AtomicU32::new(0));
                let sums: Vec<u32> = thread::scope(|scope| {
                    let threads: Vec<_> = (0..2)
                        .map(|_| {
                            scope.spawn(|| {
                                let mut rounds = 0;
                                while !stop.load(Relaxed) || rounds < ROUNDS {
                                    add_one_to_each(view);
                                    rounds += 1;
                                }
                                rounds
                            })
                        })
                        .collect();
                    for round in 0..u64::from(ROUNDS) {
                        moved.fetch_add(gpu.migrate_in(space, all).unwrap() as u32, Relaxed);
                        match round % 5 {
                            0 => drop(space.make_exclusive(all.page(round % PAGES).unwrap(), Owner::new(1)).unwrap()),
                            1 => assert!(gpu.migrate_out(space, pages(all, 0, PAGES / 2)).is_ok()),
                            2 => space.write_protect(pages(all, round % PAGES, 1), false).unwrap(),
                            3 => space.clear_soft_dirty(all).unwrap(),
                            _ => assert!(gpu.evict() <= PAGES),
                        }
                    }
                    stop.store(true, Relaxed);
                    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
                });
                real.w.check();
                assert!(moved.into_inner() > 0);
                let sum: u32 = sums.into_iter().sum();
                for page in 0..PAGES {
                    assert_eq!(counter(view, page).load(Relaxed), sum, "page {page}");
                }
            });
            assert_eq!((gpu.live(), real.w.host_used()), (0, 0));
        });
    }
}

#[test]
fn a_child_keeps_what_it_was_born_with_while_the_parent_stores() {
    real(Kind::Private, |real| {
        real.anon(PAGES * PAGE, |space, view, all| {
            let stop = AtomicBool::new(false);
            thread::scope(|scope| {
                let writer = scope.spawn(|| {
                    while !stop.load(Relaxed) {
                        add_one_to_each(view);
                    }
                });
                for round in 0..10 {
                    if round % 2 == 0 {
                        real.gpu.migrate_in(space, all).unwrap();
                    }
                    let child = space.fork().unwrap();
                    real.show(&child, all, |childs| {
                        let born: Vec<_> = (0..PAGES).map(|page| counter(childs, page).load(Relaxed)).collect();
                        let again: Vec<_> = (0..PAGES).map(|page| counter(childs, page).load(Relaxed)).collect();
                        assert_eq!(born, again, "nobody writes a child's memory but the child");
                        // In the order in which they are written, all within one round of each other.
                        assert!(born.windows(2).all(|two| two[0] == two[1] || two[0] == two[1] + 1));
                        store(childs, 0, &[0xff; 4]);
                        assert_eq!(load(childs, 0, 4), [0xff; 4]);
                    });
                }
                stop.store(true, Relaxed);
                writer.join().unwrap();
            });
            real.w.check();
            space.protect(all, Protection::Read).unwrap();
            let last: Vec<_> = (0..PAGES).map(|page| counter(view, page).load(Relaxed)).collect();
            assert!(last.iter().all(|count| *count == last[0]), "every round was whole");
        });
    });
}
