//! Every way a region can end: well, by a panic, by a device that is full. Nothing hangs, nothing
//! of the device stays in use, and the space is as before.

use std::panic::{self, AssertUnwindSafe};
use std::thread;

use farpage::{Order, Space};
use farpage_region::{Config, Mode, PAGE_BYTES, RegionError, run, userfaultfd_available};

const PAGE: usize = PAGE_BYTES as usize;

fn modes() -> Vec<Mode> {
    match userfaultfd_available() {
        Ok(()) => vec![Mode::Faults, Mode::Software],
        Err(refused) => {
            eprintln!("note: no real faults in this test, only the software way: {refused}");
            vec![Mode::Software]
        }
    }
}

fn small(mode: Mode) -> Config {
    Config::new(64 * PAGE_BYTES, 8 * PAGE_BYTES).handlers(2).mode(mode)
}

#[test]
fn a_panic_takes_the_region_down_and_goes_on() {
    for mode in modes() {
        let space = Space::new().unwrap();
        let caught = panic::catch_unwind(AssertUnwindSafe(|| {
            run(&space, &small(mode), |region| {
                for page in 0..64 {
                    region.write(page * PAGE, &[1]).unwrap();
                }
                panic::resume_unwind(Box::new("stop"));
            })
        }));
        assert_eq!(*caught.unwrap_err().downcast::<&str>().unwrap(), "stop");
        space.validate().unwrap();
        // The device is gone: another of the same size registers, and starts with zeros.
        let (byte, _) = run(&space, &small(mode), |region| {
            let mut byte = [9];
            region.read(63 * PAGE, &mut byte).unwrap();
            byte[0]
        })
        .unwrap();
        assert_eq!(byte, 0);
    }
}

#[test]
fn an_untouched_region_ends_at_once() {
    for mode in modes() {
        let space = Space::new().unwrap();
        let ((), stats) = run(&space, &small(mode), |_| ()).unwrap();
        assert_eq!(stats.counters, Default::default());
        space.validate().unwrap();
    }
}

#[test]
fn a_full_device_is_an_error_and_no_hang() {
    for mode in modes() {
        let space = Space::new().unwrap();
        // 64 pages, 8 of them in RAM, and room for 16 more in the device.
        let config = small(mode).device_bytes(16 * PAGE_BYTES);
        let failed = run(&space, &config, |region| {
            let region = &*region;
            let monitor = region.monitor();
            thread::scope(|scope| {
                let threads: Vec<_> = (0..4u8)
                    .map(|lane| {
                        scope.spawn(move || -> Result<(), RegionError> {
                            for page in 0..64 {
                                region.write(page * PAGE + usize::from(lane), &[lane + 1])?;
                            }
                            Ok(())
                        })
                    })
                    .collect();
                for thread in threads {
                    let error = thread.join().unwrap().unwrap_err();
                    assert!(matches!(error, RegionError::Device { .. }), "{error}");
                }
            });
            assert!(matches!(monitor.failure(), Some(RegionError::Device { device_pages: 16, .. })));
        });
        let error = failed.unwrap_err();
        assert!(matches!(error, RegionError::Device { device_pages: 16, live_pages: 16, .. }), "{error}");
        space.validate().unwrap();
    }
}

#[test]
fn with_real_faults_a_failed_region_still_has_the_right_bytes() {
    if let Err(refused) = userfaultfd_available() {
        eprintln!("note: skipped, it is about real faults: {refused}");
        return;
    }
    let space = Space::new().unwrap();
    let config = small(Mode::Faults).device_bytes(16 * PAGE_BYTES);
    let failed = run(&space, &config, |region| {
        let bytes = region.as_mut_bytes().unwrap();
        for (number, page) in bytes.chunks_mut(PAGE).enumerate() {
            page.fill(number as u8);
        }
        for (number, page) in bytes.chunks(PAGE).enumerate() {
            assert!(page.iter().all(|byte| usize::from(*byte) == number));
        }
    });
    assert!(matches!(failed, Err(RegionError::Device { .. })));
    space.validate().unwrap();
}

#[test]
fn memory_that_the_system_does_not_give_back_is_an_error_and_nothing_is_lost() {
    for (mode, order) in modes().into_iter().flat_map(|mode| [(mode, 0), (mode, 2), (mode, 9)]) {
        let space = Space::new().unwrap();
        let order = Order::new(order).unwrap();
        let run_bytes = PAGE << order.get();
        let (nr_runs, budget) = (24, 16 * run_bytes as u64);
        let config = Config::new((nr_runs * run_bytes) as u64, budget).order(order).handlers(2).mode(mode);
        let failed = run(&space, &config, |region| {
            let start = region.as_ptr();
            for at in (0..16 * run_bytes).step_by(PAGE) {
                region.write(at, &[(at / PAGE) as u8 | 1]).unwrap();
            }
            let Some(start) = start else { return false };
            // A page in the middle of an eviction, which is there.
            let locked = start.as_ptr().wrapping_add(run_bytes + run_bytes / 2 / PAGE * PAGE);
            // SAFETY: Pages of the region, which is mapped: their bytes stay as they are.
            if unsafe { libc::mlock(locked.cast(), PAGE) } != 0 {
                eprintln!("note: no memory may be locked here");
                return false;
            }
            for at in (16 * run_bytes..nr_runs * run_bytes).step_by(PAGE) {
                let _ = region.write(at, &[(at / PAGE) as u8 | 1]);
            }
            for at in (0..nr_runs * run_bytes).step_by(PAGE) {
                let mut byte = [0];
                let _ = region.read(at, &mut byte);
                assert_eq!(byte[0], (at / PAGE) as u8 | 1, "page {}", at / PAGE);
            }
            true
        });
        match failed {
            Err(error) => assert!(error.to_string().contains("MADV_DONTNEED"), "{error}"),
            Ok((was_locked, _)) => assert!(!was_locked, "the page was given back"),
        }
        space.validate().unwrap();
    }
}

#[test]
fn bytes_outside_the_region_are_a_panic_with_the_numbers() {
    for mode in modes() {
        let space = Space::new().unwrap();
        let caught = panic::catch_unwind(AssertUnwindSafe(|| {
            run(&space, &small(mode), |region| region.read(64 * PAGE - 3, &mut [0; 4]))
        }));
        let message = *caught.unwrap_err().downcast::<String>().unwrap();
        assert!(message.contains("4 bytes at 262141"), "{message}");
        space.validate().unwrap();
    }
}
