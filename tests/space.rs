//! What a space promises on its own, one promise a test: its sizes, what registering gives and refuses, and reports.
//!
//! One thread; what is found by a leaf is in `lookup`, what a device does in `device`.

use std::sync::OnceLock;

use farpage::{
    Access, AllocError, Device, DeviceConfig, Folio, MetadataPages, Offset, Order, Owner, PageRef, RegisterError,
    SoftLeaf, Space, SpaceError,
};

fn space(max_pages: u64) -> Space {
    Space::builder().max_pages(max_pages).build().expect("address space")
}

#[test]
fn handles_are_small() {
    assert_eq!(size_of::<SoftLeaf>(), 8);
    assert!(size_of::<Folio<'_>>() <= 16 && size_of::<PageRef<'_>>() <= 16);
    assert_eq!(size_of::<Option<Folio<'_>>>(), size_of::<Folio<'_>>());
    assert_eq!(size_of::<Option<PageRef<'_>>>(), size_of::<PageRef<'_>>());
    assert!(size_of::<AllocError>() <= 32);
}

#[test]
fn everything_may_cross_threads() {
    fn crosses<T: Send + Sync>() {}
    crosses::<Space>();
    crosses::<Device<'_>>();
    crosses::<Folio<'_>>();
    crosses::<PageRef<'_>>();
    crosses::<SoftLeaf>();
}

#[test]
fn words_are_usable_in_constants() {
    const OFFSET: Offset = Offset::new(7).unwrap();
    const TAGGED: Option<Offset> = Offset::from_tagged(OFFSET.to_tagged());
    const LEAF: SoftLeaf = SoftLeaf::from_bits(0).with_access(Access::Write);
    assert_eq!((TAGGED, LEAF), (Some(OFFSET), SoftLeaf::NONE));
}

#[test]
fn a_static_space_gives_handles_without_a_lifetime() {
    static SPACE: OnceLock<Space> = OnceLock::new();
    let space: &'static Space = SPACE.get_or_init(|| space(1 << 20));
    let folio: Folio<'static> = space.register(DeviceConfig::new(64)).unwrap().alloc(Order::ZERO).unwrap();
    let leaf = std::thread::spawn(move || folio.into_leaf(Access::Write)).join().unwrap();
    drop(space.take(leaf).unwrap());
}

#[test]
fn a_default_space_has_room_for_64_tib() {
    let space = Space::new().unwrap();
    assert_eq!(space.max_pages(), 1 << 34);
    assert_eq!(space.register(DeviceConfig::new(1 << 34)).unwrap().range().nr_pages(), 1 << 34);
}

#[test]
fn a_space_of_no_pages_or_of_more_than_there_are_offsets_is_refused() {
    let build = |max_pages| Space::builder().max_pages(max_pages).build().err();
    assert_eq!(build(0), Some(SpaceError::ZeroPages));
    for requested in [(1 << 40) + 1, u64::MAX] {
        assert_eq!(build(requested), Some(SpaceError::TooManyPages { requested, limit: 1 << 40 }));
    }
}

#[test]
fn a_space_has_whole_blocks() {
    for (max_pages, has) in [(1, 512), (512, 512), (513, 1024), (100_000, 100_352)] {
        assert_eq!(space(max_pages).max_pages(), has);
    }
}

#[test]
fn a_space_works_on_any_kind_of_pages_and_for_any_number_of_cores() {
    for (pages, cores) in [(MetadataPages::Base, 0), (MetadataPages::Huge, 1), (MetadataPages::Huge, 1000)] {
        let space = Space::builder().max_pages(1 << 19).cores(cores).metadata_pages(pages).build().unwrap();
        let device = space.register(DeviceConfig::new(1 << 19)).unwrap();
        let leaf = device.alloc(Order::ZERO).unwrap().into_leaf(Access::Read);
        assert!(space.lookup(leaf).is_some());
        drop(space.take(leaf).unwrap());
        assert_eq!((device.nr_live_pages(), space.validate()), (0, Ok(())));
    }
}

#[test]
fn the_base_of_a_device_is_aligned_whatever_its_neighbours_are() {
    let space = space(1 << 24);
    let sizes = [1, 3, 511, 512, 513, 1000, 4097, 77_777, 1 << 18, (1 << 18) + 1, (1 << 20) - 1, 1 << 20];
    let devices: Vec<_> = sizes.iter().map(|&n| space.register(DeviceConfig::new(n)).unwrap()).collect();
    for (device, nr_pages) in devices.iter().zip(sizes) {
        let range = device.range();
        let largest = 1 << nr_pages.ilog2().min(18);
        assert_eq!((range.nr_pages(), range.start().get() % largest), (nr_pages, 0), "{range}");
        // So the largest folio that fits in the device at all is there to be had.
        let folio = device.alloc(Order::new(largest.ilog2() as u8).unwrap()).unwrap();
        assert!(range.contains(folio.offset()) && folio.offset().get() % largest == 0);
        for other in &devices {
            let apart = !range.contains(other.range().start()) && !other.range().contains(range.start());
            assert!(apart || other == device, "{range} and {}", other.range());
        }
    }
    assert_eq!(space.validate(), Ok(()));
}

#[test]
fn a_device_of_no_pages_is_refused() {
    assert_eq!(space(512).register(DeviceConfig::new(0)).err(), Some(RegisterError::ZeroPages));
}

#[test]
fn a_device_that_does_not_fit_is_refused_with_the_numbers() {
    let space = space(8 * 512);
    let refused = |requested| space.register(DeviceConfig::new(requested)).err();
    let no_space = |requested, free, largest| Some(RegisterError::NoSpace { requested, free, largest });
    assert_eq!(refused(8 * 512 + 1), no_space(8 * 512 + 1, 8 * 512, 8 * 512));
    assert_eq!(refused(u64::MAX), no_space(u64::MAX, 8 * 512, 8 * 512));
    let _first = space.register(DeviceConfig::new(5)).unwrap();
    // Seven blocks are free, and a device of four begins at a border of four.
    assert_eq!(refused(5 * 512), no_space(5 * 512, 7 * 512, 4 * 512));
    assert_eq!(space.register(DeviceConfig::new(4 * 512)).unwrap().range().start().get(), 4 * 512);
    assert_eq!(space.report().registered_pages, 5 + 4 * 512, "what was refused changed nothing");
}

#[test]
fn the_largest_device_that_a_refusal_names_fits_and_one_page_more_does_not() {
    for (blocks, first, second) in [(4, 512, 512), (9, 512, 1), (16, 700, 3000), (40, 1, 17 * 512)] {
        let space = space(blocks * 512);
        let _first = space.register(DeviceConfig::new(first)).unwrap();
        let _second = space.register(DeviceConfig::new(second)).unwrap();
        let error = space.register(DeviceConfig::new(blocks * 512)).unwrap_err();
        let RegisterError::NoSpace { largest, .. } = error else { panic!("{error}") };
        let one_more = space.register(DeviceConfig::new(largest + 1));
        assert!(one_more.is_err(), "{largest} pages were called the largest, and {one_more:?} fits");
        assert_eq!(space.register(DeviceConfig::new(largest)).unwrap().range().nr_pages(), largest);
    }
}

#[test]
fn the_largest_device_may_end_within_a_block() {
    let space = space(4 * 512);
    let devices: Vec<_> = (0..4).map(|_| space.register(DeviceConfig::new(512)).unwrap()).collect();
    let [_first, second, third, _fourth] = devices.try_into().unwrap();
    second.unregister().unwrap();
    third.unregister().unwrap();
    // Two blocks are free, at a border of one. A device of 1,024 pages needs a border of two; one of 1,023 does not.
    let refusal = RegisterError::NoSpace { requested: 1024, free: 1024, largest: 1023 };
    assert_eq!(space.register(DeviceConfig::new(1024)).err(), Some(refusal));
    assert_eq!(space.register(DeviceConfig::new(1023)).unwrap().range().start().get(), 512);
}

#[test]
fn offsets_of_a_device_that_went_are_for_another() {
    let space = space(4 * 512);
    // Of every shape of its last block, and after folios of every size of metadata.
    for (round, nr_pages) in [1000, 2048, 1, 512, 1700, 511, 1536, 1025].into_iter().cycle().take(64).enumerate() {
        let device = space.register(DeviceConfig::new(nr_pages).owner(Owner::new(round as u64))).unwrap();
        assert_eq!(space.validate(), Ok(()), "round {round}");
        assert_eq!((device.range().start().get(), device.nr_free_pages()), (0, nr_pages));
        assert_eq!(space.report().free_pages, nr_pages);
        let runs = space.report().free_runs.iter().enumerate().map(|(order, nr)| nr << order).sum::<u64>();
        assert_eq!(runs, nr_pages, "every free page is in one free run");
        let order = Order::new((round % 11) as u8).unwrap();
        let held: Vec<_> = std::iter::from_fn(|| device.alloc(order).ok()).collect();
        assert_eq!(held.len() as u64, nr_pages / order.nr_pages());
        drop(held);
        device.unregister().unwrap();
    }
}

#[test]
fn a_report_counts_what_there_is() {
    let space = space(1 << 20);
    let device = space.register(DeviceConfig::new(2000).name("vram0").owner(Owner::new(9))).unwrap();
    let empty = space.report();
    assert_eq!((empty.section_bytes, empty.live_pages), (0, 0));
    let _folios = [device.alloc(Order::HUGE).unwrap(), device.alloc(Order::ZERO).unwrap()];
    let report = space.report();
    assert_eq!((report.max_pages, report.registered_pages), (1 << 20, 2000));
    assert_eq!((report.live_pages, report.free_pages), (513, 2000 - 513));
    assert_eq!((report.devices[0].name.as_str(), report.devices[0].owner), ("vram0", 9));
    assert!(report.section_bytes > 0 && report.metadata_bytes() >= report.section_bytes);
    assert!(report.metadata_reserved_bytes >= report.metadata_bytes());
    assert!((0.0..=1.0).contains(&report.fragmentation(Order::HUGE)));
    device.kill();
    assert!(space.report().devices[0].dying);
    let text = report.to_string();
    assert!(text.contains("vram0") && text.contains("513 of 2000"), "{text}");
}
