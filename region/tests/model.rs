//! A region against a plain `Vec`: whatever is written through evictions, duplicate faults and
//! runs of any order is what is read back; and the region's promises hold while it happens.
//!
//! Each test runs both ways. Where userfaultfd is refused, the way with real faults says so and
//! passes by the software way.

use std::sync::Barrier;
use std::thread;

use farpage::{Order, Space};
use farpage_region::{Config, Mode, PAGE_BYTES, Region, RegionError, Stats, run, userfaultfd_available};

const PAGE: usize = PAGE_BYTES as usize;

/// The ways this machine has, each with its name for messages.
fn modes() -> Vec<Mode> {
    match userfaultfd_available() {
        Ok(()) => vec![Mode::Faults, Mode::Software],
        Err(refused) => {
            eprintln!("note: no real faults in this test, only the software way: {refused}");
            vec![Mode::Software]
        }
    }
}

fn order(order: u8) -> Order {
    Order::new(order).unwrap()
}

/// What must hold when a region has ended well.
fn check_end(space: &Space, stats: &Stats) {
    assert_eq!(stats.live_pages_at_end, 0);
    assert!(stats.peak_resident_pages <= stats.budget_pages, "{stats:?}");
    space.validate().unwrap();
    let counters = stats.counters;
    assert!(counters.pages_home <= counters.pages_to_device, "{stats:?}");
    assert!(stats.latency.p50 <= stats.latency.p99 && stats.latency.p99 <= stats.latency.max);
}

/// Threads write and read records at random, each in byte lanes of its own so that the model
/// needs no lock while every run is shared by all of them.
fn oversubscribed(mode: Mode, order: Order, threads: usize, nr_runs: usize, rounds: usize) {
    let space = Space::new().unwrap();
    let run_bytes = PAGE << order.get();
    let bytes = nr_runs * run_bytes;
    let budget = Config::min_budget_bytes(order, 2).max(bytes as u64 / 4);
    let config = Config::new(bytes as u64, budget).order(order).handlers(2).mode(mode);
    let ((), stats) = run(&space, &config, |region| {
        let region = &*region;
        assert_eq!(region.len(), bytes);
        thread::scope(|scope| {
            for lane in 0..threads {
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(lane as u64 + 1);
                    let nr_slots = bytes / 64;
                    let mut model = vec![0u8; nr_slots];
                    let mut read = [0];
                    for _ in 0..rounds {
                        let slot = random.usize(..nr_slots);
                        let at = slot * 64 + lane;
                        if random.bool() {
                            model[slot] = random.u8(..);
                            region.write(at, &[model[slot]]).unwrap();
                        } else {
                            region.read(at, &mut read).unwrap();
                            assert_eq!(read[0], model[slot], "byte {at}");
                        }
                    }
                    for (slot, expected) in model.iter().enumerate() {
                        region.read(slot * 64 + lane, &mut read).unwrap();
                        assert_eq!(read[0], *expected, "slot {slot} at the end");
                    }
                });
            }
        });
    })
    .unwrap();
    check_end(&space, &stats);
    assert!(stats.counters.evictions > 0, "{stats:?}");
    assert_eq!(stats.counters.lookups * order.nr_pages(), stats.counters.pages_home);
}

#[test]
fn what_is_written_is_read_back_in_single_pages() {
    for mode in modes() {
        oversubscribed(mode, Order::ZERO, 4, 256, 4_000);
    }
}

#[test]
fn what_is_written_is_read_back_in_runs_of_eight() {
    for mode in modes() {
        oversubscribed(mode, order(3), 4, 64, 3_000);
    }
}

#[test]
fn what_is_written_is_read_back_in_huge_runs() {
    for mode in modes() {
        oversubscribed(mode, Order::HUGE, 3, 16, 300);
    }
}

#[test]
fn many_threads_meet_in_one_page() {
    for mode in modes() {
        let space = Space::new().unwrap();
        let config = Config::new(64 * PAGE_BYTES, 8 * PAGE_BYTES).handlers(2).mode(mode);
        let threads = 8;
        let ((), stats) = run(&space, &config, |region| {
            let region = &*region;
            let start = Barrier::new(threads);
            thread::scope(|scope| {
                for lane in 0..threads {
                    let start = &start;
                    scope.spawn(move || {
                        for page in 0..256 {
                            // All want the same page at once; it is away, for the budget is small.
                            start.wait();
                            let at = page % 64 * PAGE + lane;
                            let mut byte = [0];
                            region.read(at, &mut byte).unwrap();
                            assert_eq!(usize::from(byte[0]), page / 64);
                            region.write(at, &[byte[0] + 1]).unwrap();
                        }
                    });
                }
            });
        })
        .unwrap();
        check_end(&space, &stats);
    }
}

#[test]
fn an_access_may_span_many_runs() {
    for mode in modes() {
        let space = Space::new().unwrap();
        let config = Config::new(1 << 20, 64 << 10).handlers(2).mode(mode);
        let (read, stats) = run(&space, &config, |region| {
            let bytes: Vec<u8> = (0..900_000u32).map(|at| ((at * 7) >> 3) as u8).collect();
            region.write(4_000, &bytes).unwrap();
            let mut read = vec![0; bytes.len()];
            region.read(4_000, &mut read).unwrap();
            read == bytes
        })
        .unwrap();
        assert!(read);
        check_end(&space, &stats);
    }
}

/// Resident bytes of the mapping that holds `address`, as the kernel counts them.
fn resident_bytes(address: usize) -> u64 {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut inside = false;
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or("");
        if let Some((start, end)) = first.split_once('-') {
            let parse = |hex| usize::from_str_radix(hex, 16).unwrap();
            inside = (parse(start)..parse(end)).contains(&address);
        } else if inside && first == "Rss:" {
            return words.next().unwrap().parse::<u64>().unwrap() * 1024;
        }
    }
    panic!("no mapping at {address:#x}");
}

#[test]
fn the_kernel_agrees_that_the_budget_is_kept() {
    if let Err(refused) = userfaultfd_available() {
        eprintln!("note: skipped, the budget is checked by count alone: {refused}");
        return;
    }
    for order in [order(0), order(3), Order::HUGE] {
        let space = Space::new().unwrap();
        let run_bytes = PAGE_BYTES << order.get();
        let config = Config::new(32 * run_bytes, 8 * run_bytes).order(order).handlers(2).mode(Mode::Faults);
        let ((), stats) = run(&space, &config, |region| {
            let start = region.as_ptr().unwrap().addr().get();
            let bytes = region.as_mut_bytes().unwrap();
            for round in 0..3 {
                for page in bytes.chunks_mut(PAGE) {
                    assert_eq!(page[17], round);
                    page[17] += 1;
                }
                assert!(resident_bytes(start) <= 8 * run_bytes);
            }
        })
        .unwrap();
        check_end(&space, &stats);
        assert_eq!(stats.peak_resident_pages, 8 * order.nr_pages());
    }
}

#[test]
fn real_faults_serve_slices_on_several_threads() {
    if let Err(refused) = userfaultfd_available() {
        eprintln!("note: skipped, slices need real faults: {refused}");
        return;
    }
    for order in [order(0), order(2), order(4)] {
        let space = Space::new().unwrap();
        let bytes = 4 << 20;
        let config = Config::new(bytes, bytes / 4).order(order).handlers(3).mode(Mode::Faults);
        let ((), stats) = run(&space, &config, |region| {
            let words = region.as_mut_bytes().unwrap();
            thread::scope(|scope| {
                for (part, half) in words.chunks_mut(bytes as usize / 4).enumerate() {
                    scope.spawn(move || {
                        let mut random = fastrand::Rng::with_seed(part as u64);
                        let mut model = vec![0u8; half.len()];
                        for _ in 0..20_000 {
                            let at = random.usize(..half.len());
                            assert_eq!(half[at], model[at]);
                            model[at] = random.u8(..);
                            half[at] = model[at];
                        }
                        assert!(half == model);
                    });
                }
            });
        })
        .unwrap();
        check_end(&space, &stats);
    }
}

#[test]
fn several_regions_share_a_space() {
    for mode in modes() {
        let space = Space::new().unwrap();
        thread::scope(|scope| {
            for number in 0..3u8 {
                let space = &space;
                scope.spawn(move || {
                    let config = Config::new(128 * PAGE_BYTES, 16 * PAGE_BYTES).handlers(2).mode(mode);
                    let (_, stats) = run(space, &config, |region: &mut Region<'_>| {
                        for round in 0..4 {
                            for page in 0..128 {
                                let mut byte = [0];
                                region.read(page * PAGE, &mut byte).unwrap();
                                assert_eq!(byte[0], round * number);
                                region.write(page * PAGE, &[byte[0] + number]).unwrap();
                            }
                        }
                    })
                    .unwrap();
                    assert_eq!(stats.live_pages_at_end, 0);
                });
            }
        });
        space.validate().unwrap();
    }
}

#[test]
fn a_region_in_a_region_is_as_good() {
    for mode in modes() {
        let space = Space::new().unwrap();
        let config = Config::new(64 * PAGE_BYTES, 8 * PAGE_BYTES).handlers(2).mode(mode);
        let (inner, _) = run(&space, &config, |outer| {
            outer.write(5 * PAGE, b"outer").unwrap();
            let (_, stats) = run(&space, &config, |inner| {
                for page in 0..64 {
                    inner.write(page * PAGE, b"inner").unwrap();
                    outer.write(page * PAGE + 9, b"outer").unwrap();
                }
            })
            .unwrap();
            let mut read = [0; 5];
            outer.read(5 * PAGE, &mut read).unwrap();
            assert_eq!(&read, b"outer");
            stats
        })
        .unwrap();
        assert_eq!(inner.live_pages_at_end, 0);
        space.validate().unwrap();
    }
}

#[test]
fn errors_come_as_values() {
    let space = Space::new().unwrap();
    let config = Config::new(1 << 20, 4096).handlers(2).mode(Mode::Software);
    let refused = run(&space, &config, |_| unreachable!()).unwrap_err();
    assert!(matches!(refused, RegionError::Budget { .. }));
    assert!(refused.to_string().contains("32768"), "{refused}");
}
