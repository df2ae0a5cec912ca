//! What devices cost the process: resident memory of a large one, and of many that come and go. Linux only, where `/proc`
//! tells; a process of its own, and one test, so that nobody else's memory is counted.

#![cfg(target_os = "linux")]

use std::time::Instant;

use farpage::{DeviceConfig, Order, Space};

const TIB: u64 = 1 << 28;

/// As the system counts it: in pages of the process, which are the system's base pages.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
    let pages: u64 = statm.split(' ').nth(1).expect("the second field").parse().expect("a number");
    let smaps = std::fs::read_to_string("/proc/self/smaps").expect("Linux has it");
    let size = smaps.lines().find_map(|line| line.strip_prefix("KernelPageSize:")).expect("each mapping has one");
    let kib: u64 = size.trim().trim_end_matches(" kB").parse().expect("a number");
    pages * kib * 1024
}

#[test]
fn devices_cost_next_to_nothing_and_leave_nothing_behind() {
    // Code and the allocator's first pages are not the device's.
    let space = Space::new().expect("address space");
    space.register(DeviceConfig::new(512)).expect("it fits").unregister().expect("nothing lives there");
    resident_bytes();

    a_tebibyte_takes_64_kib(&space);
    a_hundred_thousand_leave_nothing(&space);
}

fn a_tebibyte_takes_64_kib(space: &Space) {
    let mut devices = Vec::with_capacity(8);
    let before = resident_bytes();
    let start = Instant::now();
    devices.extend((0..8).map(|_| space.register(DeviceConfig::new(TIB)).expect("64 TiB have room for eight")));
    let elapsed = start.elapsed();
    let most = resident_bytes().saturating_sub(before);
    println!("8 devices of 1 TiB: registered in {elapsed:?}, {} KiB resident", most >> 10);
    assert!(most <= 8 * (64 << 10), "{most} bytes for 8 devices of 1 TiB");
    devices.into_iter().for_each(|device| device.unregister().expect("nothing lives there"));
}

/// Devices of odd sizes come and go beside some that stay: the same offsets and numbers are used again and again, and nothing
/// is left of any of them.
fn a_hundred_thousand_leave_nothing(space: &Space) {
    let rounds = if cfg!(debug_assertions) { 20_000 } else { 100_000 };
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
    let (before, report) = (resident_bytes(), space.report());
    let start = Instant::now();
    let highest_later = (2_000..2_000 + rounds).map(round).max();
    let elapsed = start.elapsed();
    let after = resident_bytes();
    println!(
        "{rounds} devices came and went in {elapsed:?}; {} KiB resident before, {} after",
        before >> 10,
        after >> 10
    );
    assert!(after < before + (256 << 10), "{before} bytes before, {after} after {rounds} devices");
    // Where a device lies depends on its size, of which there are more later; but all lie between those that stay.
    assert!(highest_later.max(highest) < Some(3 << 18), "offsets are used again: {highest_later:?}");
    let metadata = space.report().metadata_populated_bytes;
    assert!(metadata <= report.metadata_populated_bytes + (64 << 10), "numbers and words are, too: {metadata} bytes");
    assert_eq!((space.devices().count(), space.validate()), (stay.len(), Ok(())));
}
