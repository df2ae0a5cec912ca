//! Dirty and soft-dirty marks of leaves are true of the CPU's own stores; and a window with more pages than the process may have mappings.

use farpage::LeafKind;

use crate::mm_support::{Kind, PAGE, assert_bytes, pattern};
use crate::{load, real, store};

#[test]
fn first_stores_are_marked_and_loads_are_not() {
    real(Kind::Private, |real| {
        real.anon(8 * PAGE, |space, view, all| {
            let leaf = |page: u64| space.leaf(all.page(page).unwrap()).0;
            store(view, 0, &pattern(8 * PAGE, 1));
            assert!((0..8).all(|page| leaf(page).is_dirty() && leaf(page).is_soft_dirty()));
            space.clear_soft_dirty(all).unwrap();
            assert!((0..8).all(|page| leaf(page).is_dirty() && !leaf(page).is_soft_dirty()));
            assert_bytes(&load(view, 0, 8 * PAGE), &pattern(8 * PAGE, 1));
            assert!((0..8).all(|page| !leaf(page).is_soft_dirty()), "a load marks nothing");
            let faults = view.nr_faults();
            [1, 5].into_iter().for_each(|page| store(view, page * PAGE, &[9; 4]));
            assert_eq!((0..8).filter(|page| leaf(*page).is_soft_dirty()).collect::<Vec<_>>(), [1, 5]);
            assert_eq!(
                (view.nr_faults() - faults, view.counts().upgraded),
                (2, 2),
                "mapped already, not to be written"
            );
            [1, 5].into_iter().for_each(|page| store(view, page * PAGE, &[8; 4]));
            assert_eq!(view.nr_faults() - faults, 2, "the second store of a page tells nobody");
        });
    });
}

#[test]
fn pages_that_are_freed_lazily_stay_if_the_cpu_has_written_them_since() {
    real(Kind::Private, |real| {
        real.anon(4 * PAGE, |space, view, all| {
            store(view, 0, &pattern(4 * PAGE, 1));
            space.advise_free(all).unwrap();
            store(view, PAGE, &[7; 4]);
            load(view, 2 * PAGE, 4);
            assert_eq!(space.reclaim(all).unwrap(), 3);
            assert_eq!(real.w.host_used(), 1);
            assert_eq!(load(view, 0, 4), [0; 4], "dropped, and read as a hole is");
            assert_eq!(load(view, PAGE, 4), [7; 4]);
            assert_eq!(load(view, 2 * PAGE, 4), [0; 4]);
        });
    });
}

#[test]
fn more_pages_than_mappings() {
    const PAGES: u64 = (1 << 14) + 100;
    real(Kind::Private, |real| {
        real.anon(PAGES * PAGE, |space, view, all| {
            store(view, 0, &pattern(PAGE, 3));
            for page in 1..PAGES {
                assert_eq!(load(view, page * PAGE, 4), [0; 4]);
            }
            assert_eq!(view.counts().flushed, 1, "all at once, when there are too many");
            assert_eq!(real.w.host_used(), 1, "zero pages are one page");
            // What went comes back, by a fault and from the same page.
            assert_bytes(&load(view, 0, PAGE), &pattern(PAGE, 3));
            assert_eq!(space.leaf(all.page(PAGES - 1).unwrap()).0.kind(), LeafKind::Present(farpage::Access::Read));
        });
    });
}
