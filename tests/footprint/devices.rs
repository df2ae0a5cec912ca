//! Devices that come and go: what a large one costs, and that many leave nothing behind.

use std::time::{Duration, Instant};

use farpage::{DeviceConfig, Order, Space};

use crate::child::{self, say};
use crate::resident::Resident;

const TIB: u64 = 1 << 28;

#[test]
fn devices_cost_next_to_nothing_and_leave_nothing_behind() {
    child::run("devices::devices_cost_next_to_nothing_and_leave_nothing_behind", &[], || {
        // Code and the allocator's first pages are not the device's.
        let space = Space::new().expect("address space");
        let warm_up = space.register(DeviceConfig::new(512)).expect("it fits");
        warm_up.unregister().expect("nothing lives there");
        Resident::now();

        a_tebibyte_takes_64_kib(&space);
        a_hundred_thousand_leave_nothing(&space);
    });
}

fn a_tebibyte_takes_64_kib(space: &Space) {
    let mut devices = Vec::with_capacity(8);
    let (mut most, mut fastest) = (0, Duration::MAX);
    for _ in 0..8 {
        let before = Resident::now();
        let start = Instant::now();
        devices.push(space.register(DeviceConfig::new(TIB)).expect("64 TiB have room for eight"));
        fastest = fastest.min(start.elapsed());
        most = most.max(Resident::now().since(before).bytes());
    }
    say(&format!("each of 8 devices of 1 TiB: at most {} KiB resident; the fastest took {fastest:?}", most >> 10));
    assert!(most <= 64 << 10, "{most} bytes for a device of 1 TiB");
    devices.into_iter().for_each(|device| device.unregister().expect("nothing lives there"));
}

/// Devices of odd sizes come and go beside some that stay: the same offsets and numbers are used again and again, and nothing
/// is left of any of them.
fn a_hundred_thousand_leave_nothing(space: &Space) {
    const ROUNDS: u64 = 100_000;
    let stay = [700, 1 << 18, 3].map(|nr_pages| space.register(DeviceConfig::new(nr_pages)).expect("it fits"));
    let round = |i: u64| {
        let device = space.register(DeviceConfig::new(1 + i * 7919 % 100_000).name("comes and goes")).expect("it fits");
        // Some are used: then a seat of this thread goes with the device, too.
        if i % 8 == 0 {
            drop(device.alloc(Order::ZERO).expect("room"));
        }
        let start = device.range().start().get();
        device.unregister().expect("nothing lives there");
        start
    };
    let highest = (0..2_000).map(round).max();
    let (before, report) = (Resident::now(), space.report());
    let start = Instant::now();
    let highest_later = (2_000..2_000 + ROUNDS).map(round).max();
    let elapsed = start.elapsed();
    let after = Resident::now();
    say(&format!(
        "{ROUNDS} devices came and went in {elapsed:?}; {} KiB resident before, {} after",
        before.bytes() >> 10,
        after.bytes() >> 10
    ));
    assert!(after.since(before).bytes() < 256 << 10, "{before:?}, and {after:?} after {ROUNDS} devices");
    assert_eq!(after.address_space, before.address_space, "nothing was mapped for them");
    // Where a device lies depends on its size, of which there are more later; but all lie between those that stay.
    assert!(highest_later.max(highest) < Some(3 << 18), "offsets are used again: {highest_later:?}");
    let metadata = space.report().metadata_populated_bytes;
    assert!(metadata <= report.metadata_populated_bytes + (64 << 10), "numbers and words are, too: {metadata} bytes");
    assert_eq!((space.devices().count(), space.validate()), (stay.len(), Ok(())));
}
