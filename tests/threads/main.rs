//! Real threads, 2 to 8, on one space: each offset is owned once, each folio is freed once, stale leaves stay stale,
//! a page that is free is found, and everything recounts at the end.
//!
//! What one thread sees is compared with a model in `oracle`; which orderings these protocols need is shown by the loom
//! models. Each scenario is a burst with a fixed seed, short by default; the ignored soak repeats them all, with other
//! seeds and numbers of threads, for `FARPAGE_SOAK_SECONDS` seconds.

mod caches;
mod callbacks;
mod churn;
mod devices;
mod evictions;
mod folios;
mod owners;
mod ranges;
#[path = "../support/rng.rs"]
mod rng;
mod splits;

use std::time::{Duration, Instant};

use caches::{
    burst_of_a_crowd, burst_of_failing_batches, burst_of_mixed_shares, burst_of_one_way_traffic,
    burst_of_outlived_devices, burst_of_travelling_caches,
};
use callbacks::{burst_of_panics, burst_of_pressure, burst_of_reentrance};
use churn::churn;
use devices::{burst_of_devices, burst_of_early_unregistering, burst_of_late_comers};
use evictions::burst_of_evictions;
use folios::{burst_of_fair_shares, burst_of_locks, burst_of_owning, burst_of_references, burst_of_sharing};
use ranges::{burst_of_failing_ranges, burst_of_ranges};
use splits::{burst_of_contended_splits, burst_of_splits};

fn soak_limit() -> Duration {
    let seconds = std::env::var("FARPAGE_SOAK_SECONDS").map_or(60, |text| text.parse().expect("a number of seconds"));
    Duration::from_secs(seconds)
}

#[test]
fn each_offset_is_owned_once() {
    for (seed, nr_threads) in [2, 3, 4, 8].into_iter().enumerate() {
        burst_of_owning(nr_threads, seed as u64);
    }
}

#[test]
fn a_leaf_shares_its_folio_and_gives_its_reference_back_once() {
    for (seed, nr_threads) in [2, 3, 4, 8].into_iter().enumerate() {
        burst_of_sharing(nr_threads, seed as u64);
    }
}

#[test]
fn references_are_conserved() {
    for (seed, nr_threads) in [2, 4, 8].into_iter().enumerate() {
        burst_of_references(nr_threads, seed as u64);
    }
}

#[test]
fn who_has_the_lock_is_alone() {
    for (seed, nr_threads) in [2, 3, 4, 8].into_iter().enumerate() {
        burst_of_locks(nr_threads, seed as u64);
    }
}

#[test]
fn a_share_is_always_there() {
    for (seed, nr_threads) in [2, 4, 8].into_iter().enumerate() {
        burst_of_fair_shares(nr_threads, seed as u64);
    }
}

#[test]
fn a_callback_allocates_and_frees() {
    for (seed, nr_threads) in [2, 4].into_iter().enumerate() {
        burst_of_reentrance(nr_threads, seed as u64);
    }
}

#[test]
fn a_panic_in_a_callback_loses_no_page() {
    for (seed, nr_threads) in [2, 4].into_iter().enumerate() {
        burst_of_panics(nr_threads, seed as u64);
    }
}

#[test]
fn the_driver_is_asked_before_an_allocation_fails() {
    for (seed, nr_threads) in [2, 4].into_iter().enumerate() {
        burst_of_pressure(nr_threads, seed as u64);
    }
}

#[test]
fn parts_are_owned_once_and_come_together_again() {
    for (seed, nr_threads) in [2, 3, 4, 8].into_iter().enumerate() {
        burst_of_splits(nr_threads, seed as u64);
    }
}

#[test]
fn a_split_has_the_folio_alone_or_is_refused() {
    for (seed, nr_threads) in [2, 4, 8].into_iter().enumerate() {
        burst_of_contended_splits(nr_threads, seed as u64);
    }
}

#[test]
fn a_leaf_never_names_a_folio_of_a_later_device() {
    for (seed, nr_threads) in [2, 4, 8].into_iter().enumerate() {
        burst_of_devices(nr_threads, seed as u64);
    }
}

#[test]
fn an_unregistration_that_is_refused_turns_nobody_away() {
    for (seed, nr_threads) in [2, 4].into_iter().enumerate() {
        burst_of_early_unregistering(nr_threads, seed as u64);
    }
}

#[test]
fn a_refused_allocation_holds_no_device_up() {
    for (seed, nr_threads) in [1, 2, 4].into_iter().enumerate() {
        burst_of_late_comers(nr_threads, seed as u64);
    }
}

#[test]
fn a_cache_works_in_any_thread_and_loses_no_page() {
    for (seed, nr_threads) in [2, 4, 8].into_iter().enumerate() {
        burst_of_travelling_caches(nr_threads, seed as u64);
    }
}

#[test]
fn a_share_of_any_orders_is_never_exhausted() {
    for (seed, nr_threads) in [2, 4, 8].into_iter().enumerate() {
        burst_of_mixed_shares(nr_threads, seed as u64);
    }
}

#[test]
fn a_crowd_loses_no_page() {
    burst_of_a_crowd(2, 0);
}

#[test]
fn a_cache_outlives_its_device() {
    for (seed, nr_threads) in [2, 4].into_iter().enumerate() {
        burst_of_outlived_devices(nr_threads, seed as u64);
    }
}

#[test]
fn pages_come_back_from_where_they_went() {
    for (seed, nr_threads) in [2, 4, 8].into_iter().enumerate() {
        burst_of_one_way_traffic(nr_threads, seed as u64);
    }
}

#[test]
fn a_batch_that_fails_hides_no_page() {
    for (seed, nr_threads) in [2, 3, 4].into_iter().enumerate() {
        burst_of_failing_batches(nr_threads, seed as u64);
    }
}

#[test]
fn a_page_of_a_range_is_owned_once() {
    for (seed, nr_threads) in [2, 4, 8].into_iter().enumerate() {
        burst_of_ranges(nr_threads, seed as u64);
    }
}

#[test]
fn a_range_that_is_refused_hides_no_page() {
    for (seed, nr_threads) in [2, 3, 4].into_iter().enumerate() {
        burst_of_failing_ranges(nr_threads, seed as u64);
    }
}

#[test]
fn what_is_closed_is_emptied_and_opens_again() {
    for (seed, nr_threads) in [2, 3, 4, 8].into_iter().enumerate() {
        burst_of_evictions(nr_threads, seed as u64);
    }
}

#[test]
fn devices_come_and_go_under_lookups() {
    churn(3, 0, Duration::from_secs(10));
}

#[test]
#[ignore = "a soak: runs for FARPAGE_SOAK_SECONDS seconds, 60 by default"]
fn devices_come_and_go_under_lookups_for_long() {
    // Space by space, so that it recounts in between.
    let (start, limit) = (Instant::now(), soak_limit());
    for seed in 1.. {
        let left = limit.saturating_sub(start.elapsed());
        if left < Duration::from_secs(1) {
            break;
        }
        churn(1 + seed as usize % 5, seed, left.min(Duration::from_secs(10)));
    }
}

#[test]
#[ignore = "a soak: runs for FARPAGE_SOAK_SECONDS seconds, 60 by default"]
fn all_of_it_for_long() {
    let bursts = [
        burst_of_owning,
        burst_of_sharing,
        burst_of_references,
        burst_of_locks,
        burst_of_fair_shares,
        burst_of_reentrance,
        burst_of_panics,
        burst_of_pressure,
        burst_of_splits,
        burst_of_contended_splits,
        burst_of_devices,
        burst_of_early_unregistering,
        burst_of_late_comers,
        burst_of_travelling_caches,
        burst_of_mixed_shares,
        burst_of_a_crowd,
        burst_of_outlived_devices,
        burst_of_one_way_traffic,
        burst_of_failing_batches,
        burst_of_ranges,
        burst_of_failing_ranges,
        burst_of_evictions,
    ];
    let start = Instant::now();
    let mut seed = 1000;
    while start.elapsed() < soak_limit() {
        let nr_threads = 2 + seed as usize % 7;
        bursts.iter().for_each(|burst| burst(nr_threads, seed));
        seed += 1;
    }
    println!("{} rounds", seed - 1000);
}
