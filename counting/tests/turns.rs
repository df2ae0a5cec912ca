//! Turns follow from the seed, come inside of operations, and survive a panic.

use std::sync::Mutex;

use farpage::count::Ordering::Relaxed;
use farpage::count::{self, AtomicU64, Plan, op, rendezvous, thread_slot};

/// Who made each access, in their order.
fn history(threads: usize, seed: u64) -> Vec<usize> {
    let (word, history) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    count::run(Plan { threads, seed, mean_turn: 5 }, |thread| {
        for _ in 0..100 {
            word.fetch_add(1, Relaxed);
            history.lock().unwrap().push(thread);
        }
    });
    history.into_inner().unwrap()
}

#[test]
fn the_same_seed_gives_the_same_turns() {
    for threads in [2, 64] {
        let first = history(threads, 7);
        assert_eq!(first.len(), threads * 100);
        assert_eq!(first, history(threads, 7));
        assert_ne!(first, history(threads, 8));
    }
}

#[test]
fn a_turn_is_as_long_as_planned_on_average() {
    let history = history(16, 3);
    let turns = 1 + history.windows(2).filter(|pair| pair[0] != pair[1]).count();
    let mean = history.len() as f64 / turns as f64;
    assert!((4.0..6.0).contains(&mean), "{mean} accesses a turn");
}

#[test]
fn turns_end_inside_of_operations() {
    let word = AtomicU64::new(0);
    count::run(Plan { threads: 8, seed: 1, mean_turn: 4 }, |_| {
        for _ in 0..100 {
            op(|| word.store(word.load(Relaxed) + 1, Relaxed));
        }
    });
    assert!(word.into_inner() < 800, "a load and a store with another thread between them lose its work");
}

#[test]
fn nobody_passes_a_rendezvous_before_all_are_there() {
    let arrived = AtomicU64::new(0);
    count::run(Plan { threads: 64, seed: 1, mean_turn: 3 }, |thread| {
        // A thread that has ended is not waited for.
        if thread == 9 {
            return;
        }
        for round in 1..=3 {
            arrived.fetch_add(1, Relaxed);
            rendezvous();
            assert_eq!(arrived.load(Relaxed), 63 * round);
            rendezvous();
        }
    });
}

#[test]
fn a_logical_thread_has_the_number_of_its_part() {
    let outcome = count::run(Plan::new(32, 1), |_| thread_slot());
    assert_eq!(outcome.results, (0..32).map(Some).collect::<Vec<_>>());
}

#[test]
fn a_panic_ends_one_thread_and_then_the_run() {
    let word = AtomicU64::new(0);
    let run = || {
        count::run(Plan { threads: 4, seed: 1, mean_turn: 2 }, |thread| {
            for round in 0..50 {
                op(|| word.fetch_add(1, Relaxed));
                assert!(thread != 2 || round < 9, "as planned");
            }
            rendezvous();
        })
    };
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).expect_err("a thread panics");
    assert_eq!(panic.downcast_ref(), Some(&"as planned"));
    assert_eq!(word.into_inner(), 160, "three threads to their end, and ten rounds");
}

#[test]
fn runs_side_by_side_do_not_see_each_other() {
    let alone = history(4, 11);
    let together: Vec<_> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| history(4, 11))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    assert!(together.iter().all(|history| *history == alone));
}
