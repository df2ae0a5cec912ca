//! One registration at a time: how long it takes, and how much memory is resident after it that was not before.

#![forbid(unsafe_code)]

use std::sync::Barrier;
use std::time::{Duration, Instant};

use farpage::{DeviceConfig, Order, Space};

use super::eager::Eager;
use crate::machine;

/// Who registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contestant {
    /// The first device of a new space.
    Farpage,
    /// Memory from the system, and each record written.
    Eager,
    /// Each record written, in memory that is there.
    EagerAgain,
}

impl Contestant {
    /// As it stands in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Farpage => "farpage",
            Self::Eager => "64 bytes a page, written",
            Self::EagerAgain => "64 bytes a page, memory at hand",
        }
    }

    /// Registers a device, checks that it is one, and unregisters it.
    pub fn register(self, nr_pages: u64) -> Sample {
        match self {
            Self::Farpage => {
                let space = Space::new().expect("address space");
                let (device, sample) =
                    Sample::of(|| space.register(DeviceConfig::new(nr_pages)).expect("an empty space has room"));
                assert_eq!((device.range().nr_pages(), device.nr_free_pages()), (nr_pages, nr_pages));
                device.unregister().expect("nothing lives there");
                sample
            }
            Self::Eager => {
                let (device, sample) = Sample::of(|| Eager::register(nr_pages));
                assert!(device.holds(1));
                sample
            }
            Self::EagerAgain => {
                let mut device = Eager::register(nr_pages);
                let ((), sample) = Sample::of(|| device.register_again(2));
                assert!(device.holds(2));
                sample
            }
        }
    }
}

/// One registration.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// How long it took.
    pub elapsed: Duration,
    /// Bytes that became resident.
    pub resident_bytes: u64,
}

impl Sample {
    fn of<T>(register: impl FnOnce() -> T) -> (T, Self) {
        let (_, before) = machine::huge_and_resident_bytes();
        let start = Instant::now();
        let device = register();
        let elapsed = start.elapsed();
        let (_, after) = machine::huge_and_resident_bytes();
        (device, Self { elapsed, resident_bytes: after.saturating_sub(before) })
    }
}

/// What happens between a registration and the unregistration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Between {
    /// Nothing.
    Nothing,
    /// A page is allocated and freed.
    OnePage,
}

/// Pairs of registration and unregistration a second, of `nr_threads` threads of one space, each with devices of
/// `nr_pages` pages.
pub fn pairs_per_second(nr_pages: u64, between: Between, nr_threads: usize, nr_pairs: u64) -> f64 {
    let space = Space::new().expect("address space");
    let start = Barrier::new(nr_threads + 1);
    let elapsed = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..nr_threads)
            .map(|_| {
                scope.spawn(|| {
                    let pair = || {
                        let device = space.register(DeviceConfig::new(nr_pages)).expect("room for one a thread");
                        if between == Between::OnePage {
                            drop(device.alloc(Order::ZERO).expect("a free device"));
                        }
                        device.unregister().expect("nothing lives there");
                    };
                    (0..nr_pairs / 10 + 1).for_each(|_| pair());
                    start.wait();
                    (0..nr_pairs).for_each(|_| pair());
                })
            })
            .collect();
        start.wait();
        let begun = Instant::now();
        threads.into_iter().for_each(|thread| thread.join().expect("no pair fails"));
        begun.elapsed()
    });
    assert_eq!(space.devices().count(), 0);
    (nr_pairs * nr_threads as u64) as f64 / elapsed.as_secs_f64()
}
