//! What a report promises: exact numbers of a space that nobody works on, numbers that add up while others do, and its
//! faces: a table, JSON, and the text format of Prometheus.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use farpage::{
    Device, DeviceConfig, DeviceReport, FreeRuns, Offset, Order, Owner, RangeHandle, RangeRequest, Space, SpaceReport,
};

#[path = "support/rng.rs"]
mod rng;

use rng::Rng;

fn space() -> Space {
    Space::builder().max_pages(1 << 14).cores(1).build().expect("address space")
}

fn order(order: u8) -> Order {
    Order::new(order).expect("at most 18")
}

/// Runs by order, all others 0.
fn runs(some: &[(usize, u64)]) -> [u64; 19] {
    let mut runs = [0; 19];
    some.iter().for_each(|&(order, nr)| runs[order] = nr);
    runs
}

/// The pages from `start` on, of a device at 0.
fn take<'s>(device: &Device<'s>, start: u64, nr_pages: u64) -> RangeHandle<'s> {
    device.alloc_range(RangeRequest::new(nr_pages).at(Offset::new(start).unwrap())).unwrap()
}

/// Three devices of two owners. Of the first, at 0, page 0, pages 8 to 19 and the second block are taken; the last is killed.
struct Situation<'s> {
    _devices: [Device<'s>; 3],
    _taken: [RangeHandle<'s>; 3],
}

impl<'s> Situation<'s> {
    fn in_space(space: &'s Space) -> Situation<'s> {
        let register = |config: DeviceConfig, owner| space.register(config.owner(Owner::new(owner))).unwrap();
        let vram = register(DeviceConfig::new(2000).name("vram0"), 9);
        let odd = register(DeviceConfig::new(512).name("a\\b \"c\"\nd"), 9);
        let dying = register(DeviceConfig::new(100), 3);
        dying.kill();
        let taken = [take(&vram, 0, 1), take(&vram, 8, 12), take(&vram, 512, 512)];
        Situation { _devices: [vram, odd, dying], _taken: taken }
    }
}

#[test]
fn a_small_situation_has_exactly_these_numbers() {
    let space = space();
    let situation = Situation::in_space(&space);
    let report = space.report();
    check(&report);
    let [vram, odd, dying] = &report.devices[..] else { panic!("three devices") };

    // 1..8, 20..512, the third block, and 464 pages of the last one.
    let vram_runs = runs(&[(0, 1), (1, 1), (2, 2), (3, 1), (4, 1), (5, 1), (6, 2), (7, 2), (8, 2), (9, 1)]);
    assert_eq!((vram.name.as_str(), vram.owner, vram.start, vram.dying), ("vram0", 9, 0, false));
    assert_eq!((vram.nr_pages, vram.live_pages, vram.free_pages, vram.cached_pages), (2000, 525, 1475, 0));
    assert_eq!(vram.free_runs, vram_runs);
    assert_eq!((vram.longest_free_run, vram.largest_free_pages()), (976, 512));
    assert_eq!(vram.fragmentation_permille, 963 * 1000 / 1475);
    assert_eq!((vram.free_runs.nr_folios(order(9)), vram.free_runs.nr_folios(order(8))), (1, 4));
    assert_eq!((vram.free_runs.nr_folios(order(10)), vram.free_runs.nr_folios(Order::ZERO)), (0, 1475));

    assert_eq!((odd.name.as_str(), odd.owner, odd.start), ("a\\b \"c\"\nd", 9, 2048));
    assert_eq!((odd.nr_pages, odd.live_pages, odd.free_pages, odd.free_runs), (512, 0, 512, only(9)));
    assert_eq!((odd.longest_free_run, odd.fragmentation_permille), (512, 0));

    assert_eq!((dying.name.as_str(), dying.owner, dying.start, dying.dying), ("", 3, 2560, true));
    assert_eq!((dying.nr_pages, dying.live_pages, dying.longest_free_run), (100, 0, 100));
    assert_eq!((dying.free_runs, dying.fragmentation_permille), (of_runs(100), 1000));

    let [three, nine] = &report.owners[..] else { panic!("two owners") };
    assert_eq!((three.owner, three.nr_devices, three.nr_pages, three.live_pages), (3, 1, 100, 0));
    assert_eq!((nine.owner, nine.nr_devices, nine.nr_pages, nine.live_pages), (9, 2, 2512, 525));
    assert_eq!((nine.free_pages, nine.longest_free_run, nine.largest_free_pages()), (1987, 976, 512));
    assert_eq!(nine.fragmentation_permille, 963 * 1000 / 1987);

    assert_eq!((report.max_pages, report.registered_pages), (1 << 14, 2612));
    assert_eq!((report.live_pages, report.free_pages, report.cached_pages), (525, 2087, 0));
    assert_eq!((report.longest_free_run, report.fragmentation_permille), (976, 1063 * 1000 / 2087));
    assert_eq!(report.fragmentation(Order::HUGE), 1063.0 / 2087.0);
    // Two folios of order 9 are there, so that one of order 10 fails for fragmentation rather than for want of memory.
    let index = report.free_runs.fragmentation_index(order(10)).expect("it would fail");
    assert_eq!(index, 1.0 - (1.0 + 2087.0 / 1024.0) / 18.0);
    assert_eq!(report.free_runs.fragmentation_index(order(9)), None);

    // The numbers tell no lies: what they promise can be had, and no more.
    let vram = &situation._devices[0];
    let folios: Vec<_> = std::iter::from_fn(|| vram.alloc(order(8)).ok()).collect();
    assert_eq!(folios.len(), 4);
    drop(folios);
    assert!(vram.alloc_range(RangeRequest::new(977)).is_err());
    assert_eq!(vram.alloc_range(RangeRequest::new(976)).unwrap().offset().get(), 1024);
}

/// The runs of `nr_pages` free pages from an aligned first one on.
fn of_runs(nr_pages: u64) -> FreeRuns {
    let space = space();
    let device = space.register(DeviceConfig::new(nr_pages)).unwrap();
    let report = device.report().unwrap();
    let by_bits: Vec<u64> = (0..19).map(|order| nr_pages >> order & 1).collect();
    assert_eq!(report.free_runs[..], by_bits);
    report.free_runs
}

fn only(order: usize) -> FreeRuns {
    of_runs(1 << order)
}

#[test]
fn cached_pages_are_free_ones() {
    let space = Space::builder().max_pages(1 << 14).cores(1).cache_percent(100).build().unwrap();
    let device = space.register(DeviceConfig::new(1 << 13)).unwrap();
    let held: Vec<_> = (0..3).map(|_| device.alloc(Order::ZERO).unwrap()).collect();
    let large = device.alloc(order(4)).unwrap();
    drop(large);
    let report = device.report().unwrap();
    assert_eq!((report.live_pages, report.free_pages), (3, (1 << 13) - 3));
    assert_eq!(report.cached_pages, device.nr_cached_pages());
    assert!(report.cached_pages > 16 && report.cached_pages <= report.cache_limit, "{report:?}");
    assert_eq!(report.free_runs.nr_pages(), report.free_pages);
    check(&space.report());
    drop(held);
    let report = space.report();
    check(&report);
    assert!(report.cached_pages > 16);
    assert_eq!((report.free_runs, report.longest_free_run), (only(13), 1 << 13));
}

#[test]
fn a_device_that_has_gone_is_in_no_report() {
    let space = space();
    let gone = space.register(DeviceConfig::new(700)).unwrap();
    let handle = gone.clone();
    assert_eq!(gone.report().as_ref(), space.report().devices.first());
    gone.unregister().unwrap();
    assert_eq!(handle.report(), None);
    let next = space.register(DeviceConfig::new(1024)).unwrap();
    let _held = next.alloc(order(5)).unwrap();
    assert_eq!(handle.report(), None, "its offsets are another's");
    let report = space.report();
    assert_eq!((report.devices.len(), report.registered_pages, report.live_pages), (1, 1024, 32));
    next.unregister().unwrap_err();
}

#[test]
fn an_empty_space_has_a_report_in_every_form() {
    let report = space().report();
    check(&report);
    assert_eq!((report.registered_pages, report.longest_free_run, report.largest_free_pages()), (0, 0, 0));
    assert_eq!((report.fragmentation_permille, report.fragmentation(Order::HUGE)), (0, 0.0));
    assert!(report.to_string().starts_with("pages: 0 of 0 live"));
    let samples = parse(&report.prometheus().to_string());
    assert!(samples.iter().all(|sample| sample.labels.is_empty()), "none of a device");
}

/// What holds in every report, whatever others do.
fn check(report: &SpaceReport) {
    let Sums { nr_pages, live, free, cached, runs } = Sums::of(&report.devices);
    for device in &report.devices {
        let of_device = (device.live_pages, device.free_pages, device.cached_pages);
        check_pages(device.nr_pages, of_device, &device.free_runs, device.longest_free_run);
        assert!(device.cached_pages <= device.cache_limit, "{device:?}");
        assert_eq!(device.fragmentation_permille, permille(&device.free_runs));
    }
    for pair in report.devices.windows(2) {
        assert!(pair[0].start + pair[0].nr_pages <= pair[1].start, "in order, and apart: {pair:?}");
    }
    let of_space = (report.live_pages, report.free_pages, report.cached_pages);
    assert_eq!((report.registered_pages, of_space), (nr_pages, (live, free, cached)));
    assert_eq!(report.free_runs, runs);
    check_pages(report.registered_pages, of_space, &report.free_runs, report.longest_free_run);
    assert_eq!(report.fragmentation_permille, permille(&report.free_runs));

    let of_devices: BTreeSet<u64> = report.devices.iter().map(|device| device.owner).collect();
    assert_eq!(report.owners.iter().map(|owner| owner.owner).collect::<Vec<_>>(), Vec::from_iter(of_devices));
    for owner in &report.owners {
        let theirs: Vec<_> = report.devices.iter().filter(|device| device.owner == owner.owner).cloned().collect();
        let Sums { nr_pages, live, free, cached, runs } = Sums::of(&theirs);
        let of_owner = (owner.live_pages, owner.free_pages, owner.cached_pages);
        assert_eq!((owner.nr_devices, owner.nr_pages, of_owner), (theirs.len() as u64, nr_pages, (live, free, cached)));
        assert_eq!(owner.free_runs, runs);
        check_pages(owner.nr_pages, of_owner, &owner.free_runs, owner.longest_free_run);
    }
    assert_eq!(report.owners.iter().map(|owner| owner.live_pages).sum::<u64>(), report.live_pages);

    assert!(report.section_bytes <= report.metadata_populated_bytes);
    // Elsewhere, what is reserved is a table of pointers to what is populated.
    if cfg!(all(target_os = "linux", not(farpage_heap))) {
        assert!(report.metadata_populated_bytes <= report.metadata_reserved_bytes);
    }
    assert!(report.metadata_trims <= report.metadata_populates);
}

fn check_pages(all: u64, (live, free, cached): (u64, u64, u64), runs: &FreeRuns, longest: u64) {
    assert_eq!(all, live + free);
    assert!(cached <= free);
    assert_eq!(runs.nr_pages(), free, "each free page is in one run");
    assert!(runs.largest_pages() <= longest && longest <= free, "{longest} pages, {runs:?}");
    assert_eq!(longest == 0, free == 0);
}

fn permille(runs: &FreeRuns) -> u32 {
    (runs.unusable_index(Order::HUGE) * 1000.0 + 1e-9) as u32
}

struct Sums {
    nr_pages: u64,
    live: u64,
    free: u64,
    cached: u64,
    runs: [u64; 19],
}

impl Sums {
    fn of(devices: &[DeviceReport]) -> Sums {
        let sum = |of: fn(&DeviceReport) -> u64| devices.iter().map(of).sum();
        Sums {
            nr_pages: sum(|device| device.nr_pages),
            live: sum(|device| device.live_pages),
            free: sum(|device| device.free_pages),
            cached: sum(|device| device.cached_pages),
            runs: std::array::from_fn(|order| devices.iter().map(|device| device.free_runs[order]).sum()),
        }
    }
}

/// Threads allocate and free of all orders, in caches, ranges and out of them; devices come, live and go; and two threads
/// take reports all the time, until enough of them saw that others did work.
#[test]
fn reports_add_up_while_others_work() {
    const REPORTS: u64 = 4000;
    let space = Space::builder().max_pages(1 << 16).cores(4).cache_percent(100).build().unwrap();
    let register = |config: DeviceConfig, owner| space.register(config.owner(Owner::new(owner))).unwrap();
    let busy = [register(DeviceConfig::new(5000).name("busy0"), 1), register(DeviceConfig::new(1111).name("busy1"), 2)];
    let full = register(DeviceConfig::new(400).name("full"), 2);
    let idle = register(DeviceConfig::new(3000).name("idle"), 1);
    // Held in the midst of what comes and goes.
    let pinned: Vec<_> = busy.iter().flat_map(|device| [take_any(device, 300), take_any(device, 17)]).collect();
    let _idle_folio = idle.alloc(order(6)).unwrap();
    let idle_report = idle.report().unwrap();

    let (done, taken, seen_gone, seen_moved) =
        (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (busy, full, done) = (&busy, &full, &done);
            scope.spawn(move || work(busy, full, thread, done));
        }
        scope.spawn(|| come_and_go(&space, &done));
        let reporters: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut last = None;
                    loop {
                        let number = taken.fetch_add(1, Relaxed);
                        if number >= REPORTS && seen_moved.load(Relaxed) >= REPORTS / 20 {
                            break;
                        }
                        if number % 8 == 0 {
                            std::thread::yield_now();
                        }
                        let report = space.report();
                        check(&report);
                        // Who is there all the time is in every report, with what it holds all the time.
                        let of = |device: &Device<'_>| {
                            let start = device.range().start().get();
                            let found = report.devices.iter().find(|there| there.start == start);
                            found.unwrap_or_else(|| panic!("{device:?} is missing in\n{report}"))
                        };
                        assert!(busy.iter().all(|device| of(device).live_pages >= 317), "{report}");
                        assert_eq!(*of(&idle), idle_report);
                        assert_eq!(idle.report().as_ref(), Some(&idle_report));
                        let stays = |name: &str| name == "idle" || name == "full" || name.starts_with("busy");
                        for device in report.devices.iter().filter(|device| !stays(&device.name)) {
                            // Another's pages are never taken for those of one that has gone.
                            assert_eq!(device.name, device.nr_pages.to_string());
                            assert!(device.live_pages <= device.owner, "{device:?}");
                        }
                        seen_gone.fetch_add(u64::from(report.devices.len() == 4), Relaxed);
                        let live = Some(report.live_pages);
                        seen_moved.fetch_add(u64::from(last != live), Relaxed);
                        last = live;
                    }
                })
            })
            .collect();
        reporters.into_iter().for_each(|reporter| {
            let outcome = reporter.join();
            done.store(true, Relaxed);
            outcome.unwrap();
        });
    });
    let (taken, moved, gone) = (taken.into_inner(), seen_moved.into_inner(), seen_gone.into_inner());
    println!("{taken} reports: {moved} unlike the one before, {gone} without the device that comes and goes");

    // And when nobody works, they are exact.
    space.validate().unwrap();
    let report = space.report();
    check(&report);
    for (device, of_device) in busy.iter().zip(&report.devices) {
        assert_eq!((of_device.live_pages, of_device.cached_pages), (device.nr_live_pages(), device.nr_cached_pages()));
    }
    assert_eq!(report.live_pages, 2 * 317 + 64);
    drop(pinned);
}

fn take_any<'s>(device: &Device<'s>, nr_pages: u64) -> RangeHandle<'s> {
    device.alloc_range(RangeRequest::new(nr_pages)).unwrap()
}

fn work(devices: &[Device<'_>], full: &Device<'_>, thread: u64, done: &AtomicBool) {
    let mut rng = Rng::seeded(thread);
    let (mut folios, mut ranges) = (Vec::new(), Vec::new());
    while !done.load(Relaxed) {
        let device = &devices[(rng.number() % 2) as usize];
        match rng.number() % 9 {
            // All that there is; and then nothing is free but what caches keep.
            8 => drop(std::iter::from_fn(|| full.alloc(Order::ZERO).ok()).collect::<Vec<_>>()),
            0 => ranges.extend(device.alloc_range(RangeRequest::new(1 + rng.number() % 700)).ok()),
            1 => drop(ranges.pop()),
            2 => folios.extend(device.alloc(order(4 + (rng.number() % 7) as u8)).ok()),
            3 => drop(device.alloc_many(Order::ZERO, (rng.number() % 100) as usize, &mut folios)),
            4 => folios.truncate(folios.len() / 2),
            5 if !folios.is_empty() => drop(folios.swap_remove((rng.number() % folios.len() as u64) as usize)),
            _ => folios.extend(device.alloc(order((rng.number() % 4) as u8)).ok()),
        }
    }
}

/// Devices of various sizes, at offsets of each other: as many pages as the owner's number says are in use in each.
fn come_and_go(space: &Space, done: &AtomicBool) {
    for nr_pages in [1300, 700, 512, 90, 2048].into_iter().cycle() {
        if done.load(Relaxed) {
            return;
        }
        let most = nr_pages / 2;
        let config = DeviceConfig::new(nr_pages).name(&nr_pages.to_string()).owner(Owner::new(most));
        let device = space.register(config).unwrap();
        let held = take_any(&device, most);
        device.kill();
        drop(held);
        device.unregister().unwrap();
    }
}

#[cfg(all(target_os = "linux", not(farpage_heap)))]
#[test]
fn resident_metadata_is_what_was_populated() {
    for pages in [farpage::MetadataPages::Base, farpage::MetadataPages::Huge] {
        let space = Space::builder().max_pages(1 << 24).metadata_pages(pages).build().unwrap();
        let device = space.register(DeviceConfig::new(1 << 24)).unwrap();
        let at_first = space.report();
        assert_eq!(
            (at_first.section_bytes, at_first.metadata_resident_bytes),
            (0, Some(at_first.metadata_populated_bytes))
        );
        // Far apart, so that there is much between them that is read, and not populated.
        let held: Vec<_> = [0, 1 << 20, 7 << 20, (1 << 24) - 1].map(|page| take(&device, page, 1)).into();
        (0..1 << 24).step_by(4096).for_each(|page| assert!(space.page(Offset::new(page | 1).unwrap()).is_none()));
        let report = space.report();
        assert!(report.section_bytes >= 4 * (64 << 10));
        assert!(report.metadata_populated_bytes > at_first.metadata_populated_bytes);
        assert_eq!(report.metadata_resident_bytes, Some(report.metadata_populated_bytes), "{pages:?}");
        drop(held);
    }
}

/// The report of the situation, its metadata in made-up numbers: real ones depend on the machine.
fn snapshot() -> SpaceReport {
    let space = space();
    let situation = Situation::in_space(&space);
    let mut report = space.report();
    drop(situation);
    report.section_bytes = 64 << 10;
    report.metadata_populated_bytes = 84 << 10;
    report.metadata_resident_bytes = Some(80 << 10);
    report.metadata_reserved_bytes = 5 << 20;
    (report.metadata_populates, report.metadata_trims) = (7, 2);
    report
}

#[test]
fn a_table_for_people() {
    let mut report = snapshot();
    let wanted = "\
pages: 525 of 2612 live, 2087 free (0 cached), room for 16384
free runs by order: 0:1 1:1 2:3 3:1 4:1 5:2 6:3 7:2 8:2 9:2; 50.9% of the free pages are below order 9
metadata: 84 KiB populated (64 KiB of page records), 80 KiB resident, 5 MiB of address space; 7 populates, 2 trims
device       owner  start  pages  live  free  cached  largest  longest    frag
vram0            9    0x0   2000   525  1475       0      512      976   65.2%
a\\b \"c\"\u{fffd}d        9  0x800    512     0   512       0      512      512    0.0%
(unnamed)        3  0xa00    100     0   100       0       64      100  100.0%  dying
= 1 device       3           100     0   100       0       64      100  100.0%
= 2 devices      9          2512   525  1987       0      512      976   48.4%";
    assert_eq!(report.to_string(), wanted);
    report.metadata_resident_bytes = None;
    assert!(report.to_string().contains("page records), 5 MiB of address space"));
}

#[cfg(feature = "serde")]
#[test]
fn json_has_every_number() {
    let device = |name: &str, owner: u64, start: u64, pages: [u64; 3], longest: u64, frag: u64, runs: [u64; 19]| {
        serde_json::json!({
            "name": name, "owner": owner, "start": start, "nr_pages": pages[0], "live_pages": pages[1],
            "free_pages": pages[2], "dying": name.is_empty(), "cached_pages": 0, "cache_limit": 0, "free_runs": runs,
            "longest_free_run": longest, "fragmentation_permille": frag,
        })
    };
    let owner = |owner: u64, devices: u64, pages: [u64; 3], longest: u64, frag: u64, runs: [u64; 19]| {
        serde_json::json!({
            "owner": owner, "nr_devices": devices, "nr_pages": pages[0], "live_pages": pages[1], "free_pages": pages[2],
            "cached_pages": 0, "free_runs": runs, "longest_free_run": longest, "fragmentation_permille": frag,
        })
    };
    let vram = [(0, 1), (1, 1), (2, 2), (3, 1), (4, 1), (5, 1), (6, 2), (7, 2), (8, 2), (9, 1)];
    let both = [(0, 1), (1, 1), (2, 2), (3, 1), (4, 1), (5, 1), (6, 2), (7, 2), (8, 2), (9, 2)];
    let all = [(0, 1), (1, 1), (2, 3), (3, 1), (4, 1), (5, 2), (6, 3), (7, 2), (8, 2), (9, 2)];
    let hundred = [(2, 1), (5, 1), (6, 1)];
    let wanted = serde_json::json!({
        "max_pages": 16384, "registered_pages": 2612, "live_pages": 525, "free_pages": 2087, "cached_pages": 0,
        "free_runs": runs(&all), "longest_free_run": 976, "fragmentation_permille": 509, "section_bytes": 64 << 10,
        "metadata_reserved_bytes": 5 << 20, "metadata_populated_bytes": 84 << 10, "metadata_resident_bytes": 80 << 10,
        "metadata_populates": 7, "metadata_trims": 2,
        "devices": [
            device("vram0", 9, 0, [2000, 525, 1475], 976, 652, runs(&vram)),
            device("a\\b \"c\"\nd", 9, 2048, [512, 0, 512], 512, 0, runs(&[(9, 1)])),
            device("", 3, 2560, [100, 0, 100], 100, 1000, runs(&hundred)),
        ],
        "owners": [
            owner(3, 1, [100, 0, 100], 100, 1000, runs(&hundred)),
            owner(9, 2, [2512, 525, 1987], 976, 484, runs(&both)),
        ],
    });
    let report = snapshot();
    assert_eq!(serde_json::to_value(&report).unwrap(), wanted);
    let text = serde_json::to_string(&report).unwrap();
    assert!(
        text.starts_with(r#"{"max_pages":16384,"registered_pages":2612,"live_pages":525,"#),
        "in this order: {text}"
    );
}

/// A line of the text format of Prometheus that has a value.
#[derive(Debug, PartialEq)]
struct Sample {
    family: String,
    kind: String,
    labels: Vec<(String, String)>,
    value: String,
}

/// Reads the text format, version 0.0.4, as strictly as it is written down: each family once, with help, type and samples
/// in one group.
fn parse(text: &str) -> Vec<Sample> {
    assert!(text.ends_with('\n') && !text.contains("\n\n") && !text.contains('\r'));
    let (mut samples, mut families) = (Vec::new(), BTreeSet::new());
    let (mut helped, mut family, mut kind) = (None, "", "");
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').expect("a name and a text");
            assert!(is_name(name) && !help.is_empty() && !help.contains('\\'), "{line}");
            assert!(families.insert(name.to_owned()), "{name} begins a second time");
            helped = Some(name);
        } else if let Some(of) = line.strip_prefix("# TYPE ") {
            (family, kind) = of.split_once(' ').expect("a name and a type");
            assert_eq!(helped.take(), Some(family), "help comes first");
            assert!(["gauge", "counter"].contains(&kind), "{line}");
            assert_eq!(family.ends_with("_total"), kind == "counter", "{line}");
        } else {
            let (name, labels, value) = split_sample(line);
            assert!(is_name(name) && name == family && helped.is_none(), "{line}");
            let value: &str = value.strip_prefix(' ').expect("a space before the value");
            assert!(value.parse::<f64>().is_ok_and(|value| value.is_finite() && value >= 0.0), "{line}");
            if kind == "counter" {
                value.parse::<u64>().expect("a counter is an integer");
            }
            let sample = Sample { family: family.into(), kind: kind.into(), labels, value: value.into() };
            let is_same = |other: &Sample| other.family == sample.family && other.labels == sample.labels;
            assert!(!samples.iter().any(is_same), "a second sample with these labels: {line}");
            samples.push(sample);
        }
    }
    assert_eq!(helped, None, "help without a type");
    samples
}

/// The name, the labels, and what follows.
fn split_sample(line: &str) -> (&str, Vec<(String, String)>, &str) {
    let Some((name, mut rest)) = line.split_once('{') else {
        let at = line.find(' ').expect("a value");
        return (&line[..at], Vec::new(), &line[at..]);
    };
    let mut labels = Vec::new();
    loop {
        let (label, quoted) = rest.split_once("=\"").expect("a label and a quoted value");
        assert!(is_name(label) && !label.contains(':'), "{line}");
        let (mut value, mut chars) = (String::new(), quoted.chars());
        loop {
            match chars.next().expect("the quote ends") {
                '"' => break,
                '\\' => value.push(match chars.next() {
                    Some('n') => '\n',
                    Some(c @ ('\\' | '"')) => c,
                    other => panic!("no escape: {other:?} in {line}"),
                }),
                c => value.push(c),
            }
        }
        labels.push((label.into(), value));
        rest = chars.as_str();
        match rest.split_at(1) {
            (",", more) => rest = more,
            ("}", more) => return (name, labels, more),
            _ => panic!("{line}"),
        }
    }
}

fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_' || c == ':')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}

#[test]
fn prometheus_reads_every_number() {
    let report = snapshot();
    let text = report.prometheus().to_string();
    let samples = parse(&text);
    let label = |sample: &Sample, name: &str| {
        let found = sample.labels.iter().find(|label| label.0 == name);
        found.map(|label| label.1.clone())
    };
    let of = |family: &str, device: &DeviceReport| -> Vec<&Sample> {
        let is_wanted = |sample: &&Sample| {
            sample.family == family
                && label(sample, "device").as_ref() == Some(&device.name)
                && label(sample, "owner") == Some(device.owner.to_string())
                && label(sample, "start") == Some(device.start.to_string())
        };
        samples.iter().filter(is_wanted).collect()
    };
    let mut of_devices = 0;
    for device in &report.devices {
        for (family, value) in [
            ("farpage_device_pages", device.nr_pages),
            ("farpage_device_live_pages", device.live_pages),
            ("farpage_device_free_pages", device.free_pages),
            ("farpage_device_cached_pages", device.cached_pages),
            ("farpage_device_cache_limit_pages", device.cache_limit),
            ("farpage_device_dying", u64::from(device.dying)),
            ("farpage_device_longest_free_run_pages", device.longest_free_run),
        ] {
            let [sample] = of(family, device)[..] else { panic!("one {family} in\n{text}") };
            assert_eq!((sample.kind.as_str(), sample.value.as_str()), ("gauge", value.to_string().as_str()));
            of_devices += 1;
        }
        let [ratio] = of("farpage_device_unusable_free_ratio", device)[..] else { panic!("one in\n{text}") };
        assert_eq!(ratio.value.parse(), Ok(device.free_runs.unusable_index(Order::HUGE)));
        let runs = of("farpage_device_free_runs", device);
        let by_order: Vec<_> = runs.iter().map(|run| (label(run, "order"), run.value.clone())).collect();
        let wanted = device.free_runs.iter().enumerate();
        assert_eq!(by_order, Vec::from_iter(wanted.map(|(order, nr)| (Some(order.to_string()), nr.to_string()))));
        of_devices += 20;
    }
    let of_space: Vec<_> = samples.iter().filter(|sample| sample.labels.is_empty()).collect();
    for (family, kind, value) in [
        ("farpage_max_pages", "gauge", report.max_pages),
        ("farpage_metadata_reserved_bytes", "gauge", report.metadata_reserved_bytes),
        ("farpage_metadata_populated_bytes", "gauge", report.metadata_populated_bytes),
        ("farpage_metadata_section_bytes", "gauge", report.section_bytes),
        ("farpage_metadata_resident_bytes", "gauge", 80 << 10),
        ("farpage_metadata_populates_total", "counter", 7),
        ("farpage_metadata_trims_total", "counter", 2),
    ] {
        let sample = of_space.iter().find(|sample| sample.family == family).unwrap_or_else(|| panic!("{family}"));
        assert_eq!((sample.kind.as_str(), sample.value.as_str()), (kind, value.to_string().as_str()));
    }
    assert_eq!((samples.len(), of_space.len()), (of_devices + 7, 7), "and nothing else");
    assert!(text.contains(r#"farpage_device_pages{device="a\\b \"c\"\nd",owner="9",start="2048"} 512"#), "{text}");
}
