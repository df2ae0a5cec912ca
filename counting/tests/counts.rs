//! Counts of programs so small that they are known beforehand.

use std::time::Duration;

use crossbeam_utils::CachePadded;
use farpage::count::Ordering::Relaxed;
use farpage::count::{
    self, AtomicPtr, AtomicU64, Condvar, Counts, Mutex, Outcome, Plan, heavy_barrier, op, pass, rendezvous, wait_for,
};

/// Threads that change only where they say so.
fn alternating<R: Send>(threads: usize, work: impl Fn(usize) -> R + Sync) -> Outcome<R> {
    count::run(Plan { threads, seed: 1, mean_turn: usize::MAX }, work)
}

#[test]
fn a_shared_word_moves_with_every_write() {
    let word = CachePadded::new(AtomicU64::new(0));
    let here = line!() + 3;
    let outcome = alternating(2, |_| {
        for _ in 0..100 {
            op(|| word.fetch_add(1, Relaxed));
            pass();
        }
    });
    // Nobody was the last to write it before the first write.
    let wanted =
        Counts { ops: 200, rmws: 200, writes: 200, lines_written: 200, remote_writes: 199, ..Counts::default() };
    assert_eq!(outcome.totals, wanted);
    assert_eq!(outcome.sites.len(), 1);
    assert_eq!(outcome.sites[0].counts.remote_writes, 199);
    assert!(outcome.sites[0].site.ends_with(&format!("counts.rs:{here}")), "{}", outcome.sites[0].site);
}

#[test]
fn private_lines_stay_where_they_are() {
    let words: [CachePadded<AtomicU64>; 4] = Default::default();
    let outcome = count::run(Plan { threads: 4, seed: 1, mean_turn: 3 }, |thread| {
        for _ in 0..100 {
            op(|| {
                words[thread].store(words[thread].load(Relaxed) + 1, Relaxed);
                words[thread].fetch_sub(1, Relaxed);
            });
        }
    });
    let wanted = Counts { ops: 400, rmws: 400, writes: 800, lines_written: 400, ..Counts::default() };
    assert_eq!(outcome.totals, wanted);
}

#[test]
fn neighbours_in_a_line_are_told_from_sharers_of_a_word() {
    let words: CachePadded<[AtomicU64; 2]> = CachePadded::default();
    let outcome = alternating(2, |thread| {
        for _ in 0..10 {
            op(|| words[thread].fetch_or(1, Relaxed));
            pass();
        }
    });
    assert_eq!((outcome.totals.remote_writes, outcome.totals.neighbour_writes), (19, 19));
}

#[test]
fn only_the_first_read_after_anothers_write_is_contended() {
    let word = CachePadded::new(AtomicU64::new(0));
    let outcome = alternating(2, |thread| {
        let mut counts = Vec::new();
        rendezvous();
        for round in 1..=10 {
            if thread == 0 {
                counts.push(op(|| word.store(round, Relaxed)).1);
            }
            rendezvous();
            if thread == 1 {
                counts.push(op(|| (word.load(Relaxed), word.load(Relaxed))).1);
            }
            rendezvous();
        }
        counts
    });
    assert!(outcome.results[0].iter().all(|counts| (counts.writes, counts.remote_writes) == (1, 0)));
    assert!(outcome.results[1].iter().all(|counts| (counts.writes, counts.contended_reads) == (0, 1)));
    assert_eq!(outcome.totals.ops, 20);
}

#[test]
fn an_exchange_that_fails_is_a_write_and_is_told_apart() {
    let pointer: CachePadded<AtomicPtr<u8>> = CachePadded::new(AtomicPtr::new(std::ptr::null_mut()));
    let outcome = alternating(1, |_| {
        let other = std::ptr::without_provenance_mut(1);
        let (result, counts) = op(|| pointer.compare_exchange_weak(other, other, Relaxed, Relaxed));
        assert!(result.is_err());
        counts
    });
    let wanted = Counts { ops: 1, rmws: 1, failed_rmws: 1, writes: 1, lines_written: 1, ..Counts::default() };
    assert_eq!(outcome.results, [wanted]);
}

#[test]
fn what_is_done_outside_of_operations_moves_lines_and_costs_nothing() {
    let word = CachePadded::new(AtomicU64::new(0));
    let outcome = alternating(2, |thread| {
        if thread == 0 {
            word.store(1, Relaxed);
        }
        rendezvous();
        if thread == 1 {
            op(|| word.store(2, Relaxed));
        }
    });
    let wanted = Counts { ops: 1, writes: 1, lines_written: 1, remote_writes: 1, ..Counts::default() };
    assert_eq!(outcome.totals, wanted);
}

#[test]
fn heavy_barriers_are_counted() {
    let outcome = alternating(2, |_| {
        heavy_barrier();
        op(heavy_barrier);
    });
    assert_eq!(outcome.totals, Counts { ops: 2, heavy_barriers: 2, ..Counts::default() });
}

#[test]
fn a_lock_is_two_read_modify_writes_of_one_line() {
    let lock = CachePadded::new(Mutex::new(0u64));
    let outcome = alternating(2, |_| {
        for _ in 0..10 {
            op(|| *lock.lock() += 1);
            pass();
        }
    });
    let wanted = Counts { ops: 20, rmws: 40, writes: 40, lines_written: 20, remote_writes: 19, ..Counts::default() };
    assert_eq!(outcome.totals, wanted);
}

#[test]
fn who_waits_for_a_lock_or_a_wake_up_lets_others_go_on() {
    let (lock, changed) = (Mutex::new(0), Condvar::new());
    let outcome = count::run(Plan { threads: 16, seed: 5, mean_turn: 2 }, |thread| {
        for _ in 0..20 {
            let mut turn = lock.lock();
            while *turn % 16 != thread {
                (turn, _) = wait_for(&changed, turn, Duration::from_secs(3600));
            }
            *turn += 1;
            changed.notify_all();
        }
    });
    assert_eq!(outcome.results.len(), 16);
    assert_eq!(lock.into_inner(), 320);
}

#[test]
fn a_thread_without_a_part_is_let_through_uncounted() {
    let word = AtomicU64::new(0);
    let (old, counts) = op(|| word.fetch_add(1, Relaxed));
    pass();
    rendezvous();
    heavy_barrier();
    assert_eq!((old, counts), (0, Counts::default()));
}
