//! Devices that are full, by what is resident then, and when everything has been freed again: at a call, and without one.
//!
//! Handles are turned into leaf words, in memory that is there before, so that what grows is the library's.

use farpage::{Access, AllocError, Device, DeviceConfig, MetadataPages, Order, SoftLeaf, Space, SpaceBuilder};

use crate::child::{self, say};
use crate::resident::Resident;
use crate::rng::Rng;

const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 28;
/// 8 GiB: 32 MiB of page records, beside which fixed costs are nothing.
const PAGES: u64 = 1 << 21;
/// Records of 4,096 pages.
const SECTION_BYTES: u64 = 64 << 10;

/// Which folios a device is filled with.
#[derive(Clone, Copy, Debug)]
enum Fill {
    Order(u8),
    /// Of orders 0 to 10, as they come; what is left over with single pages.
    Mixed,
}

/// In which order they are freed.
#[derive(Clone, Copy, Debug)]
enum Free {
    InOrder,
    AtRandom,
}

/// One device of one space, and memory for as many leaf words as it has room for.
struct Stage<'s> {
    space: &'s Space,
    device: Device<'s>,
    leaves: Vec<SoftLeaf>,
    rng: Rng,
    /// When there was the device, and nothing lived on it: what was resident, and the metadata of it by the report.
    before: Resident,
    metadata_before: u64,
}

/// Sets the stage for a device of `nr_pages` pages and at most `nr_leaves` folios.
fn on_stage(builder: SpaceBuilder, nr_pages: u64, nr_leaves: usize, play: impl FnOnce(Stage<'_>)) {
    // Code, and what this thread needs once.
    let warm_up = Space::builder().max_pages(1 << 16).build().expect("address space");
    let device = warm_up.register(DeviceConfig::new(1 << 16)).expect("it fits");
    fill_and_free(&device, &warm_up);
    drop(device);
    drop(warm_up);

    // Written once, so that it is there.
    let mut leaves = vec![SoftLeaf::from_bits(u64::MAX); nr_leaves];
    leaves.clear();
    let space = builder.build().expect("address space");
    let empty = Resident::now();
    let device = space.register(DeviceConfig::new(nr_pages)).expect("it fits");
    let before = Resident::now();
    assert!(before.since(empty).bytes() <= 64 << 10, "{empty:?}, and {before:?} with a device of {nr_pages} pages");
    let metadata_before = space.report().metadata_populated_bytes;
    play(Stage { space: &space, device, leaves, rng: Rng::seeded(1), before, metadata_before });
}

fn fill_and_free(device: &Device<'_>, space: &Space) {
    for order in [0, 1, 9, 10].map(|order| Order::new(order).expect("small")) {
        drop(device.alloc(order).expect("an empty device"));
    }
    space.trim();
    Resident::now();
}

impl Stage<'_> {
    /// Fills the device to the last page; how many bytes that took.
    fn fill(&mut self, fill: Fill) -> u64 {
        let (at_random, fixed) = match fill {
            Fill::Order(order) => (false, Order::new(order).expect("small")),
            Fill::Mixed => (true, Order::ZERO),
        };
        let mut largest = 10;
        loop {
            let order = if at_random { Order::new((self.rng.number() % (largest + 1)) as u8) } else { Some(fixed) };
            let order = order.expect("small");
            match self.device.alloc(order) {
                Ok(folio) => self.leaves.push(folio.into_leaf(Access::Write)),
                // Smaller ones may still fit.
                Err(AllocError::Exhausted { .. } | AllocError::Fragmented { .. })
                    if order > Order::ZERO && at_random =>
                {
                    largest = u64::from(order.get()) - 1;
                }
                Err(AllocError::Exhausted { free: 0, .. }) => break,
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!((self.device.nr_free_pages(), self.leaves.len() <= self.leaves.capacity()), (0, true));
        let full = Resident::now().since(self.before);
        let (pages, report) = (self.device.range().nr_pages(), self.space.report());
        say(&format!(
            "{pages} pages in {} folios ({fill:?}): {:.1} MiB resident, {:.1} of it page tables; {:.1} by the report; \
             {:.2} bytes a page, {:.2} a folio",
            self.leaves.len(),
            mib(full.bytes()),
            mib(full.tables),
            mib(report.metadata_resident_bytes.expect("Linux says")),
            full.bytes() as f64 / pages as f64,
            full.bytes() as f64 / self.leaves.len() as f64,
        ));
        full.bytes()
    }

    /// Frees everything.
    fn free(&mut self, free: Free) {
        if matches!(free, Free::AtRandom) {
            for i in (1..self.leaves.len()).rev() {
                self.leaves.swap(i, (self.rng.number() % (i as u64 + 1)) as usize);
            }
        }
        self.leaves.drain(..).for_each(|leaf| drop(self.space.take(leaf).expect("it is mapped")));
        assert_eq!(self.device.nr_live_pages(), 0);
    }

    /// How many bytes more than before the first allocation are resident now, and by how many of them metadata has grown, as the
    /// report says; `after` says after what.
    fn left(&self, after: &str) -> (u64, u64) {
        let left = Resident::now().since(self.before);
        let metadata = self.space.report().metadata_populated_bytes.saturating_sub(self.metadata_before);
        say(&format!(
            "  {after}: {} KiB more than before, {} of it page tables; {} of metadata by the report; {} pages in caches",
            left.bytes() >> 10,
            left.tables >> 10,
            metadata >> 10,
            self.device.nr_cached_pages(),
        ));
        (left.bytes(), metadata)
    }

    /// As the policy promises without a call: 640 KiB of sections stay, some with 48 KiB around them, and a section for each page
    /// in a cache. Page tables, and what the allocator has not given back, come on top.
    fn free_without_a_call(&mut self, fill: Fill, free: Free) {
        self.free(free);
        let (left, metadata) = self.left(&format!("freed by itself, {free:?}"));
        let around = if matches!(fill, Fill::Mixed) { MIB } else { 0 };
        let promised = MIB + around + self.device.nr_cached_pages() * SECTION_BYTES;
        assert!(
            metadata <= promised && left <= promised + MIB / 2,
            "{metadata} bytes of metadata, {left} in all, are left"
        );
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / MIB as f64
}

/// Twice, as what a section was given back with is remembered when it is populated again.
fn fill_free_and_trim(builder: SpaceBuilder, fill: Fill, nr_pages: u64, nr_leaves: usize, most: u64) {
    on_stage(builder, nr_pages, nr_leaves, |mut stage| {
        for free in [Free::InOrder, Free::AtRandom] {
            let full = stage.fill(fill);
            assert!(full <= most, "{full} bytes, and {most} are promised");
            stage.free(free);
            stage.left(&format!("freed, {free:?}"));
            stage.space.trim();
            let (left, _) = stage.left("and trimmed");
            assert!(left <= MIB, "{left} bytes are left");
        }
        stage.space.validate().expect("nothing is lost");
    });
}

#[test]
fn a_device_full_of_pages_takes_17_bytes_a_page_and_gives_them_back() {
    child::run("occupancy::a_device_full_of_pages_takes_17_bytes_a_page_and_gives_them_back", &[], || {
        for pages in [MetadataPages::Base, MetadataPages::Huge] {
            let builder = Space::builder().metadata_pages(pages);
            fill_free_and_trim(builder, Fill::Order(0), PAGES, PAGES as usize, 17 * PAGES);
        }
    });
}

#[test]
fn a_tebibyte_of_blocks_takes_64_bytes_a_block_and_gives_them_back() {
    child::run("occupancy::a_tebibyte_of_blocks_takes_64_bytes_a_block_and_gives_them_back", &[], || {
        fill_free_and_trim(Space::builder(), Fill::Order(9), TIB, 1 << 19, 64 << 19);
    });
}

#[test]
fn a_device_full_of_all_orders_takes_no_more_and_gives_it_back() {
    child::run("occupancy::a_device_full_of_all_orders_takes_no_more_and_gives_it_back", &[], || {
        fill_free_and_trim(Space::builder(), Fill::Mixed, PAGES, PAGES as usize, 17 * PAGES);
    });
}

#[test]
fn without_a_call_little_is_left_and_with_caches_a_section_for_each_page_in_them() {
    const NAME: &str = "occupancy::without_a_call_little_is_left_and_with_caches_a_section_for_each_page_in_them";
    child::run(NAME, &[], || {
        for builder in [Space::builder().cache_percent(0), Space::builder()] {
            for fill in [Fill::Order(0), Fill::Mixed] {
                on_stage(builder, PAGES, PAGES as usize, |mut stage| {
                    for free in [Free::InOrder, Free::AtRandom] {
                        stage.fill(fill);
                        stage.free_without_a_call(fill, free);
                    }
                });
            }
        }
        on_stage(Space::builder(), TIB, 1 << 19, |mut stage| {
            for free in [Free::InOrder, Free::AtRandom] {
                stage.fill(Fill::Order(9));
                stage.free_without_a_call(Fill::Order(9), free);
            }
        });
    });
}

/// The space itself leaves nothing behind, nor does a device that is unregistered when it is empty.
#[test]
fn unregistered_devices_and_dropped_spaces_leave_nothing() {
    // The list of leaf words is to be mapped and unmapped by itself each time.
    let variables = [("MALLOC_MMAP_THRESHOLD_", "131072")];
    child::run("occupancy::unregistered_devices_and_dropped_spaces_leave_nothing", &variables, || {
        let mut after_first = None;
        for round in 0..4 {
            on_stage(Space::builder().spare_metadata(u64::MAX), PAGES / 4, PAGES as usize / 4, |mut stage| {
                let full = stage.fill(Fill::Order(0));
                stage.free(Free::InOrder);
                let (left, _) = stage.left("freed, and all kept");
                assert!(left > full / 2, "{left} bytes of {full} are kept, as was asked for");
                let before = stage.before;
                stage.device.unregister().expect("nothing lives there");
                let left = Resident::now().since(before).bytes();
                say(&format!("  unregistered: {} KiB more than before", left >> 10));
                assert!(left <= MIB, "{left} bytes are left");
            });
            let now = Resident::now();
            let first = *after_first.get_or_insert(now);
            assert!(
                now.since(first).bytes() <= 256 << 10,
                "{first:?} after the first space, {now:?} after {round} more"
            );
        }
    });
}
