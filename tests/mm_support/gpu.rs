//! A device: pages of its own, private or visible to the host, and a driver.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use farpage::{
    Access, AddressRange, AddressSpace, Device, DeviceConfig, DeviceDriver, DeviceFault, DeviceOps, DriverError, Folio,
    FreedFolio, HostMemory, Interval, IntervalOps, Invalidation, Machine, MigrateBatch, MigrateEntry, MigrateRequest,
    Migration, Offset, Order, Owner, Pfn, RangeEntry, RangeError, RangeFault, SetupError, Target,
};

use super::{EFAULT, ENOMEM, GPU_PAGES, Memory, PAGE, World};

/// Whether the host can map the device's pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Private,
    Visible,
}

/// What outlives the device's registration: bytes, and what happened.
#[derive(Default)]
pub struct Vram {
    pages: Mutex<HashMap<u64, Box<[u8]>>>,
    pub freed_folios: AtomicU64,
    pub freed_pages: AtomicU64,
    pub faults: AtomicU64,
    /// The next allocations of order 9 fail.
    pub fail_large: AtomicBool,
    /// The driver fails every fault.
    pub fail_faults: AtomicBool,
    /// For a visible device, whose bytes the host has.
    host: Option<Arc<dyn Memory>>,
    owner: Owner,
}

pub struct Gpu<'s> {
    pub device: Device<'s>,
    pub vram: Arc<Vram>,
    pub kind: Kind,
    pub machine: Machine<'s>,
}

impl DeviceOps for Vram {
    fn folio_free(&self, folio: FreedFolio) {
        self.freed_folios.fetch_add(1, Relaxed);
        self.freed_pages.fetch_add(folio.order().nr_pages(), Relaxed);
        if let Some(host) = &self.host {
            return host.folio_free(folio);
        }
        let mut pages = self.pages.lock().unwrap();
        for page in folio.offset().get()..folio.offset().get() + folio.order().nr_pages() {
            pages.remove(&page);
        }
    }
}

impl Vram {
    pub fn read(&self, page: u64) -> Vec<u8> {
        if let Some(host) = &self.host {
            let mut bytes = vec![0; PAGE as usize];
            host.read(Pfn::new(page).unwrap(), 0, &mut bytes);
            return bytes;
        }
        self.pages.lock().unwrap().get(&page).map_or(vec![0; PAGE as usize], |bytes| bytes.to_vec())
    }

    pub fn write(&self, page: u64, bytes: &[u8]) {
        match &self.host {
            Some(host) => host.write(Pfn::new(page).unwrap(), 0, bytes),
            None => drop(self.pages.lock().unwrap().insert(page, bytes.into())),
        }
    }

    /// What a page's entry names, wherever it is.
    fn fetch(&self, memory: &dyn HostMemory, target: Target) -> Vec<u8> {
        match target {
            Target::Device(offset) => self.read(offset.get()),
            Target::Host(pfn) => {
                let mut bytes = vec![0; PAGE as usize];
                memory.read(pfn, 0, &mut bytes);
                bytes
            }
        }
    }

    /// Gives every slot of a migration home a host page, and copies.
    pub fn to_host(&self, migration: &mut Migration<'_, '_>) -> Result<(), DriverError> {
        let machine = migration.machine();
        let mut slot = 0;
        while slot < migration.nr_slots() {
            let src = migration.src(slot);
            let (true, Some(target)) = (src.is_migrate(), src.target()) else {
                slot += 1;
                continue;
            };
            if !src.is_compound() {
                let frame = machine.alloc_frame(Order::ZERO).map_err(|_| ENOMEM)?;
                machine.memory().write(frame.pfn(), 0, &self.fetch(machine.memory(), target));
                migration.set_dst(slot, frame).unwrap();
                slot += 1;
                continue;
            }
            let fails = self.fail_large.swap(false, Relaxed);
            match machine.alloc_frame(Order::HUGE) {
                Ok(frame) if !fails => {
                    let first = frame.pfn();
                    for page in 0..512 {
                        let bytes = self.fetch(machine.memory(), target.checked_add(page).unwrap());
                        machine.memory().write(first.checked_add(page).unwrap(), 0, &bytes);
                    }
                    migration.set_dst(slot, frame).unwrap();
                }
                _ => {
                    for page in 0..512 {
                        let frame = machine.alloc_frame(Order::ZERO).map_err(|_| ENOMEM)?;
                        let bytes = self.fetch(machine.memory(), target.checked_add(page).unwrap());
                        machine.memory().write(frame.pfn(), 0, &bytes);
                        migration.set_dst(slot + page as usize, frame).unwrap();
                    }
                }
            }
            slot += 512;
        }
        Ok(())
    }
}

struct Driver(Arc<Vram>);

impl<'s> DeviceDriver<'s> for Driver {
    fn migrate_to_ram(&self, fault: &DeviceFault<'_, 's>) -> Result<(), DriverError> {
        self.0.faults.fetch_add(1, Relaxed);
        if self.0.fail_faults.load(Relaxed) {
            return Err(EFAULT);
        }
        let mut range = fault.page();
        if fault.is_huge() {
            range = AddressRange::new(fault.address().get() & !(super::HUGE - 1), super::HUGE).unwrap();
        }
        let request = MigrateRequest::new(range).device_private(self.0.owner).compound(true);
        let mut batch = MigrateBatch::new();
        let mut migration = fault.migrate(&mut batch, request).map_err(|_| EFAULT)?;
        self.0.to_host(&mut migration)?;
        migration.pages();
        migration.finalize();
        Ok(())
    }
}

impl<'s> Gpu<'s> {
    pub fn new(world: &World<'s>, kind: Kind, owner: u64) -> Gpu<'s> {
        Gpu::of_pages(world, kind, owner, GPU_PAGES)
    }

    pub fn of_pages(world: &World<'s>, kind: Kind, owner: u64, pages: u64) -> Gpu<'s> {
        let owner = Owner::new(owner);
        let host = (kind == Kind::Visible).then(|| Arc::clone(&world.memory));
        let vram = Arc::new(Vram { host, owner, ..Vram::default() });
        let config = DeviceConfig::new(pages).name("gpu").owner(owner).ops(Arc::clone(&vram));
        let space = if kind == Kind::Private { world.device_pages } else { world.host_pages };
        let device = space.register(config).unwrap();
        if kind == Kind::Private {
            world.machine.attach(&device, Arc::new(Driver(Arc::clone(&vram))));
        }
        Gpu { device, vram, kind, machine: world.machine.clone() }
    }

    pub fn live(&self) -> u64 {
        self.device.nr_live_pages()
    }

    pub fn freed(&self) -> u64 {
        self.vram.freed_pages.load(Relaxed)
    }

    pub fn faults(&self) -> u64 {
        self.vram.faults.load(Relaxed)
    }

    /// What the device was called for: faults of its pages, folios given back, and pages of these.
    pub fn calls(&self) -> (u64, u64, u64) {
        (self.faults(), self.vram.freed_folios.load(Relaxed), self.freed())
    }

    pub fn fail_next_large(&self) {
        self.vram.fail_large.store(true, Relaxed);
    }

    fn alloc(&self, order: Order) -> Option<Folio<'s>> {
        if order == Order::HUGE && self.vram.fail_large.swap(false, Relaxed) {
            return None;
        }
        self.device.alloc(order).ok()
    }

    /// Moves what can be moved of a range to the device; how many pages.
    pub fn migrate_in(&self, space: &AddressSpace<'s>, range: AddressRange) -> Result<u64, SetupError> {
        let mut batch = MigrateBatch::with_capacity(range.nr_pages() as usize);
        let request = MigrateRequest::new(range).system(true).compound(true).owner(self.device.owner());
        let mut migration = space.migrate(&mut batch, request)?;
        let memory = self.machine.memory();
        let fetch = |src: MigrateEntry, page: u64| {
            let target = src.target().map(|target| target.checked_add(page).unwrap());
            target.map_or(vec![0; PAGE as usize], |target| self.vram.fetch(memory, target))
        };
        let mut slot = 0;
        while slot < migration.nr_slots() {
            let src = migration.src(slot);
            if !src.is_migrate() {
                slot += 1;
                continue;
            }
            if !src.is_compound() {
                let Some(folio) = self.alloc(Order::ZERO) else { break };
                self.vram.write(folio.offset().get(), &fetch(src, 0));
                folio.set_private(1);
                migration.set_dst(slot, folio).unwrap();
                slot += 1;
                continue;
            }
            if let Some(folio) = self.alloc(Order::HUGE) {
                for page in 0..512 {
                    self.vram.write(folio.offset().get() + page, &fetch(src, page));
                }
                folio.set_private(512);
                migration.set_dst(slot, folio).unwrap();
            } else {
                for page in 0..512 {
                    let Some(folio) = self.alloc(Order::ZERO) else { break };
                    self.vram.write(folio.offset().get(), &fetch(src, page));
                    migration.set_dst(slot + page as usize, folio).unwrap();
                }
            }
            slot += 512;
        }
        let moved = migration.pages();
        migration.finalize();
        Ok(moved)
    }

    /// Moves a range home; how many pages.
    pub fn migrate_out(&self, space: &AddressSpace<'s>, range: AddressRange) -> Result<u64, SetupError> {
        let mut batch = MigrateBatch::new();
        let owner = self.device.owner();
        let request = MigrateRequest::new(range).compound(true);
        let request = match self.kind {
            Kind::Private => request.device_private(owner),
            Kind::Visible => request.host_visible(owner),
        };
        let mut migration = space.migrate(&mut batch, request)?;
        self.vram.to_host(&mut migration).unwrap();
        let moved = migration.pages();
        migration.finalize();
        Ok(moved)
    }

    /// Moves everything home, whoever has it mapped; how many pages.
    pub fn evict(&self) -> u64 {
        let mut batch = MigrateBatch::new();
        let range = self.device.range();
        let mut migration = match self.kind {
            Kind::Private => self.machine.migrate_device_range(&mut batch, range),
            Kind::Visible => self.machine.migrate_host_range(&mut batch, range),
        };
        self.vram.to_host(&mut migration).unwrap();
        let moved = migration.pages();
        migration.finalize();
        moved
    }

    /// Whether a range of an address space is on this device, page by page.
    pub fn has(&self, space: &AddressSpace<'s>, range: AddressRange) -> Vec<bool> {
        (0..range.nr_pages())
            .map(|page| {
                let target = space.snapshot(range.page(page).unwrap()).target;
                let offset = match self.kind {
                    Kind::Private => target.and_then(Target::offset),
                    Kind::Visible => target.and_then(Target::pfn).and_then(|pfn| Offset::new(pfn.get())),
                };
                offset.is_some_and(|offset| self.device.range().contains(offset))
            })
            .collect()
    }

    /// Whether all of it is.
    pub fn has_all(&self, space: &AddressSpace<'s>, range: AddressRange) -> bool {
        self.has(space, range).into_iter().all(|has| has)
    }
}

/// What a device has of an address space: a mirror of a range. `dmirror` in `lib/test_hmm.c`.
pub struct Mirror<'a, 's> {
    pub gpu: &'a Gpu<'s>,
    space: &'a AddressSpace<'s>,
    interval: Interval<'s>,
    pub told: Arc<Told>,
}

#[derive(Default)]
pub struct Told {
    lock: Mutex<()>,
    pub invalidations: Mutex<Vec<Invalidation>>,
}

impl IntervalOps for Told {
    fn invalidate(&self, invalidation: &Invalidation) {
        let _lock = self.lock.lock().unwrap();
        self.invalidations.lock().unwrap().push(*invalidation);
    }
}

impl<'a, 's> Mirror<'a, 's> {
    pub fn new(gpu: &'a Gpu<'s>, space: &'a AddressSpace<'s>, range: AddressRange) -> Mirror<'a, 's> {
        let told = Arc::new(Told::default());
        let ops: Arc<dyn IntervalOps> = Arc::clone(&told) as _;
        Mirror { gpu, space, interval: space.subscribe(range, None, ops), told }
    }

    /// What is at each page, asked for with `access`.
    pub fn ask(&self, range: AddressRange, access: Option<Access>) -> Result<Vec<RangeEntry>, RangeError> {
        self.with(range, access, |entries| entries.to_vec())
    }

    /// Calls `each` with entries that are true while it runs.
    fn with<R>(
        &self,
        range: AddressRange,
        access: Option<Access>,
        each: impl FnOnce(&[RangeEntry]) -> R,
    ) -> Result<R, RangeError> {
        loop {
            let sequence = self.interval.read_begin(Duration::from_secs(60)).expect("an invalidation ends");
            let mut entries = vec![RangeEntry::request(access); range.nr_pages() as usize];
            let request = RangeFault::new(range).owner(self.gpu.device.owner()).under(&self.interval, sequence);
            match self.space.range_fault(&request, &mut entries) {
                Ok(()) => {}
                Err(RangeError::Busy) => continue,
                Err(error) => return Err(error),
            }
            let _lock = self.told.lock.lock().unwrap();
            if !self.interval.read_retry(sequence) {
                return Ok(each(&entries));
            }
        }
    }

    /// The device reads.
    pub fn read(&self, range: AddressRange) -> Result<Vec<u8>, RangeError> {
        self.with(range, Some(Access::Read), |entries| {
            let memory = self.gpu.machine.memory();
            let mut out = Vec::with_capacity(entries.len() * PAGE as usize);
            entries
                .iter()
                .for_each(|entry| out.extend_from_slice(&self.gpu.vram.fetch(memory, entry.target().unwrap())));
            out
        })
    }

    /// The device writes. A private page of its own that only may be read is brought home for it first.
    pub fn write(&self, range: AddressRange, data: &[u8]) -> Result<(), RangeError> {
        loop {
            let read_only = self.with(range, Some(Access::Write), |entries| {
                let memory = self.gpu.machine.memory();
                if let Some(page) = entries.iter().position(|entry| entry.access() != Some(Access::Write)) {
                    return Some(page as u64);
                }
                for (entry, bytes) in entries.iter().zip(data.chunks(PAGE as usize)) {
                    match entry.target().unwrap() {
                        Target::Device(offset) => self.gpu.vram.write(offset.get(), bytes),
                        Target::Host(pfn) => memory.write(pfn, 0, bytes),
                    }
                }
                None
            })?;
            match read_only {
                None => return Ok(()),
                Some(page) => self.space.fault(range.page(page).unwrap(), Access::Write)?,
            }
        }
    }
}
