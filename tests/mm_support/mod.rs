//! A machine with devices as `lib/test_hmm.c` has them: memory of their own, moved to and from by copying, read and written
//! through a mirror of the host's page table.
#![allow(dead_code, unused_imports, unreachable_pub, reason = "each test file uses its part")]

mod gpu;
pub mod model;
pub mod ops;
pub mod oracle;

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use farpage::{
    Address, AddressRange, AddressSpace, DeviceConfig, DeviceOps, DriverError, HeapMemory, HostMemory, Machine,
    Mapping, PAGE_BYTES, Space,
};

pub use gpu::{Gpu, Kind, Mirror, Told, Vram};

pub const PAGE: u64 = PAGE_BYTES;
pub const HUGE: u64 = 512 * PAGE;
/// 64 MiB.
pub const RAM_PAGES: u64 = 1 << 14;
pub const GPU_PAGES: u64 = 1 << 13;

/// Host memory of a machine: bytes that go when their pages are freed.
pub trait Memory: HostMemory + DeviceOps {}

impl<T: HostMemory + DeviceOps> Memory for T {}

/// Pages that a memory needs: those of the machine, and of devices beside it that the host can map.
pub const MEMORY_PAGES: u64 = 1 << 16;

/// One machine, for one test.
pub struct World<'s> {
    pub device_pages: &'s Space,
    pub host_pages: &'s Space,
    pub machine: Machine<'s>,
    pub memory: Arc<dyn Memory>,
    /// Host pages in use when nothing is mapped: the zero page.
    pub idle_pages: u64,
    ram: farpage::Device<'s>,
    /// Host pages that were poisoned, and never come back.
    pub broken_pages: AtomicU64,
}

/// Runs a test in a machine of its own, and looks behind it whether everything was given back.
pub fn world(body: impl FnOnce(&World<'_>)) {
    world_on(Arc::new(HeapMemory::new(MEMORY_PAGES)), body);
}

/// The same on a memory of one's own.
pub fn world_on(memory: Arc<dyn Memory>, body: impl FnOnce(&World<'_>)) {
    world_of(memory, RAM_PAGES, body);
}

/// The same with as many pages of host memory as are wanted.
pub fn world_of(memory: Arc<dyn Memory>, ram_pages: u64, body: impl FnOnce(&World<'_>)) {
    let device_pages = Space::builder().max_pages(1 << 18).build().unwrap();
    let host_pages = Space::builder().max_pages(1 << 18).build().unwrap();
    let ram = host_pages.register(DeviceConfig::new(ram_pages).name("ram").ops(Arc::clone(&memory))).unwrap();
    let broken_pages;
    {
        let machine = Machine::new(&device_pages, ram.clone(), Arc::clone(&memory)).unwrap();
        let idle_pages = ram.nr_live_pages();
        let (device_pages, host_pages) = (&device_pages, &host_pages);
        let world = World {
            device_pages,
            host_pages,
            machine,
            memory,
            idle_pages,
            ram: ram.clone(),
            broken_pages: AtomicU64::new(0),
        };
        body(&world);
        world.check();
        broken_pages = world.broken_pages.load(Relaxed);
    }
    assert_eq!(ram.nr_live_pages(), broken_pages, "the machine is gone, and host pages are in use");
    assert_eq!(device_pages.report().live_pages, 0, "the machine is gone, and device pages are in use");
    device_pages.validate().unwrap();
    host_pages.validate().unwrap();
}

/// An address space, and the counts of the machine with it when it is dropped: for whoever has joined its threads by then.
pub struct Checked<'s> {
    space: AddressSpace<'s>,
    machine: Machine<'s>,
}

impl<'s> Deref for Checked<'s> {
    type Target = AddressSpace<'s>;

    fn deref(&self) -> &AddressSpace<'s> {
        &self.space
    }
}

impl Drop for Checked<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.machine.validate().unwrap();
        }
    }
}

impl<'s> World<'s> {
    /// All counts agree with each other.
    pub fn check(&self) {
        self.machine.validate().unwrap();
        self.device_pages.validate().unwrap();
        self.host_pages.validate().unwrap();
    }

    /// A space that is checked before it ends, with all that is mapped in it.
    pub fn space(&self) -> Checked<'s> {
        Checked { space: self.machine.address_space().unwrap(), machine: self.machine.clone() }
    }

    /// Host pages in use beside the zero page.
    pub fn host_used(&self) -> u64 {
        self.ram.nr_live_pages() - self.idle_pages
    }

    /// Host pages that are free.
    pub fn host_free(&self) -> u64 {
        self.ram.nr_free_pages()
    }

    pub fn ram(&self) -> &farpage::Device<'s> {
        &self.ram
    }
}

pub fn at(address: u64) -> Address {
    Address::new(address).unwrap()
}

pub fn range(start: u64, bytes: u64) -> AddressRange {
    AddressRange::new(start, bytes).unwrap()
}

/// Anonymous memory, single pages.
pub fn anon<'s>(start: u64, bytes: u64) -> Mapping<'s> {
    Mapping::new(range(start, bytes))
}

/// Anonymous memory, in huge pages where it can be.
pub fn anon_huge<'s>(start: u64, bytes: u64) -> Mapping<'s> {
    Mapping::new(range(start, bytes)).huge(true)
}

/// Every 4 bytes their own number and the seed, as the selftests do.
pub fn pattern(bytes: u64, seed: u32) -> Vec<u8> {
    (0..bytes / 4).flat_map(|i| (i as u32 ^ seed.wrapping_mul(0x9e37_79b9)).to_le_bytes()).collect()
}

pub fn write(space: &AddressSpace<'_>, start: u64, data: &[u8]) {
    space.write(at(start), data).unwrap();
}

pub fn read(space: &AddressSpace<'_>, start: u64, bytes: u64) -> Vec<u8> {
    let mut out = vec![0xee; bytes as usize];
    space.read(at(start), &mut out).unwrap();
    out
}

/// Asserts bytes without printing megabytes.
#[track_caller]
pub fn assert_bytes(got: &[u8], want: &[u8]) {
    assert_eq!(got.len(), want.len());
    if let Some(first) = got.iter().zip(want).position(|(got, want)| got != want) {
        panic!("byte {first:#x} is {:#x}, not {:#x}", got[first], want[first]);
    }
}

pub const ENOMEM: DriverError = DriverError { code: -12 };
pub const EFAULT: DriverError = DriverError { code: -14 };
