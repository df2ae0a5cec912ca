//! A machine whose memory holds no bytes, so that what is left of moving a page is everything but its copy.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use farpage::{
    AddressRange, AddressSpace, Device, DeviceConfig, DeviceDriver, DeviceFault, DriverError, Folio, HostMemory,
    Machine, Mapping, MigrateBatch, MigrateRequest, Order, Owner, PAGE_BYTES, Pfn, RangeEntry, RangeFault, Space,
};

/// Where everything is mapped.
pub const BASE: u64 = 0x7f00_0000_0000;
/// Pages of the device and of the host.
pub const PAGES: u64 = 1 << 17;

/// Memory without bytes.
struct Nothing;

impl HostMemory for Nothing {
    fn read(&self, _: Pfn, _: usize, _: &mut [u8]) {}
    fn write(&self, _: Pfn, _: usize, _: &[u8]) {}
    fn copy(&self, _: Pfn, _: Pfn, _: u64) {}
    fn zero(&self, _: Pfn, _: u64) {}
}

/// The two spaces of a machine.
pub struct Spaces {
    device_pages: Space,
    host_pages: Space,
}

impl Spaces {
    /// Small ones, for which an instruction counter has room.
    #[expect(clippy::new_without_default, reason = "it reserves address space")]
    pub fn new() -> Spaces {
        let space = || Space::builder().max_pages(1 << 20).build().expect("address space");
        Spaces { device_pages: space(), host_pages: space() }
    }
}

/// A machine with a device.
pub struct Bench<'s> {
    /// The machine.
    pub machine: Machine<'s>,
    /// The device.
    pub device: Device<'s>,
}

/// As many threads as have a batch of their own.
const LANES: usize = 8;

/// One batch for each thread, so that they share nothing but farpage.
struct Driver<'s> {
    batches: [Lane<'s>; LANES],
}

/// On lines of its own.
#[derive(Default)]
#[repr(align(128))]
struct Lane<'s>(Mutex<MigrateBatch<'s>>);

thread_local! {
    static LANE: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Relaxed) % LANES
    };
}

impl<'s> DeviceDriver<'s> for Driver<'s> {
    fn migrate_to_ram(&self, fault: &DeviceFault<'_, 's>) -> Result<(), DriverError> {
        let mut batch = self.batches[LANE.with(|lane| *lane)].0.lock().expect("no fault unwinds");
        let request = MigrateRequest::new(fault.page()).device_private(Owner::new(1));
        let mut migration = fault.migrate(&mut batch, request).map_err(|_| DriverError { code: -14 })?;
        let frame = fault.machine().alloc_frame(Order::ZERO).map_err(|_| DriverError { code: -12 })?;
        migration.set_dst(0, frame).map_err(|_| DriverError { code: -16 })?;
        migration.pages();
        Ok(())
    }
}

/// A run of pages from page `first` on.
pub fn range(first: u64, nr_pages: u64) -> AddressRange {
    AddressRange::new(BASE + first * PAGE_BYTES, nr_pages * PAGE_BYTES).expect("whole pages")
}

impl<'s> Bench<'s> {
    /// A machine in these spaces.
    pub fn new(spaces: &'s Spaces) -> Bench<'s> {
        let ram = spaces.host_pages.register(DeviceConfig::new(PAGES).name("ram")).expect("room");
        let machine = Machine::new(&spaces.device_pages, ram, Nothing).expect("memory");
        let config = DeviceConfig::new(PAGES).name("gpu").owner(Owner::new(1));
        let device = spaces.device_pages.register(config).expect("room");
        machine.attach(&device, Arc::new(Driver { batches: Default::default() }));
        Bench { machine, device }
    }

    /// An address space with `nr_pages` pages, each on the host.
    pub fn space(&self, nr_pages: u64) -> AddressSpace<'s> {
        let space = self.machine.address_space().expect("memory");
        space.map(Mapping::new(range(0, nr_pages))).expect("nothing is there");
        for page in 0..nr_pages {
            space.fault(range(page, 1).start(), farpage::Access::Write).expect("memory");
        }
        space
    }

    /// Moves pages to the device, `per_batch` at a time.
    pub fn migrate_in(&self, space: &AddressSpace<'s>, batch: &mut Room<'s>, first: u64, nr: u64, per_batch: u64) {
        for start in (first..first + nr).step_by(per_batch as usize) {
            let request = MigrateRequest::new(range(start, per_batch)).system(true).owner(Owner::new(1));
            let mut migration = space.migrate(&mut batch.batch, request).expect("one mapping");
            if per_batch == 1 {
                batch.folios.push(self.device.alloc(Order::ZERO).expect("room"));
            } else {
                self.device.alloc_many(Order::ZERO, per_batch as usize, &mut batch.folios).expect("room");
            }
            for (slot, folio) in batch.folios.drain(..).enumerate() {
                migration.set_dst(slot, folio).expect("collected");
            }
            assert_eq!(migration.pages(), per_batch);
            migration.finalize();
        }
    }
}

impl<'s> Bench<'s> {
    /// Moves the first `nr` pages to the device as one batch, in parts on the threads of the current pool.
    pub fn migrate_in_parts(&self, space: &AddressSpace<'s>, nr: u64) {
        let request = MigrateRequest::new(range(0, nr)).system(true).owner(Owner::new(1));
        let moved = space.migrate_parts(request).expect("one mapping").run(|migration| {
            let mut folios = Vec::new();
            self.device.alloc_many(Order::ZERO, migration.nr_slots(), &mut folios).expect("room");
            for (slot, folio) in folios.into_iter().enumerate() {
                migration.set_dst(slot, folio).expect("collected");
            }
        });
        assert_eq!(moved, nr);
    }

    /// Moves them home the same way.
    pub fn migrate_out_parts(&self, space: &AddressSpace<'s>, nr: u64) {
        let request = MigrateRequest::new(range(0, nr)).device_private(Owner::new(1));
        let moved = space.migrate_parts(request).expect("one mapping").run(|migration| {
            for slot in 0..migration.nr_slots() {
                let frame = self.machine.alloc_frame(Order::ZERO).expect("room");
                migration.set_dst(slot, frame).expect("collected");
            }
        });
        assert_eq!(moved, nr);
    }
}

/// What a batch needs, used again.
#[derive(Default)]
pub struct Room<'s> {
    batch: MigrateBatch<'s>,
    folios: Vec<Folio<'s>>,
}

/// Faults every page of a run home.
pub fn fault_home(space: &AddressSpace<'_>, first: u64, nr: u64) {
    for page in first..first + nr {
        space.fault(range(page, 1).start(), farpage::Access::Read).expect("the driver moves it");
    }
}

/// Asks for every page of a run.
pub fn snapshot(space: &AddressSpace<'_>, first: u64, entries: &mut [RangeEntry]) {
    let request = RangeFault::new(range(first, entries.len() as u64)).owner(Owner::new(1));
    space.range_fault(&request, entries).expect("all is mapped");
}
