//! Edge [devices]: `DeviceTable::register` -> whoever comes to a device without having been handed a folio or a handle of
//! it: by an offset, by a page that was looked up, or by going through all devices. And removal against a reader: whoever
//! finds a device that goes has it whole, and nobody finds one whose memory is gone.
//!
//! Shape: one registers, or unregisters, or both; one looks for the device and uses what it finds. The epochs are those of
//! `sync/epoch_model.rs`, which drops what was retired as early as the collector may. Readers use the seats of what they
//! find, whose atomics loom watches from birth to death.
//! Cost: 92 to 12,388 executions (3 s) at bound 2, 225 to 84,706 (35 s) at bound 3.
//! Teeth: fails with the Release of `register` or the Acquire of a reader taken away; when the directory is written after the
//! slot; when a device that goes is dropped at once, or stays in its slot; when its range is not compared, or its callbacks do
//! not wait for its pages; and when a page's folio is not looked at, or is looked at before its device.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use farpage::{AllocError, Device, DeviceConfig, DeviceOps, FreedFolio, Offset, Order, Space, UnregisterError};
use farpage_loom_tests::{Witness, bounded, with_space};
use loom::thread;

/// Counts its drops where loom does not see it, and reads what the driver takes away when they are dropped.
struct Ops {
    drops: Arc<AtomicU32>,
    memory: Arc<Witness>,
}

impl DeviceOps for Ops {
    fn folio_free(&self, _: FreedFolio) {
        assert_eq!((self.drops.load(Relaxed), self.memory.read()), (0, 1));
    }
}

impl Drop for Ops {
    fn drop(&mut self) {
        self.drops.fetch_add(1, Relaxed);
    }
}

fn ops() -> (Ops, Arc<AtomicU32>, Arc<Witness>) {
    let (drops, memory) = (Arc::new(AtomicU32::new(0)), Arc::new(Witness::new(1)));
    (Ops { drops: drops.clone(), memory: memory.clone() }, drops, memory)
}

const FIRST: Offset = Offset::new(0).unwrap();

/// What is found is whole: its plain fields, and the seats behind them.
fn assert_whole(device: &Device<'_>, names: &[&str]) {
    assert!(names.contains(&device.name()), "{:?}", device.name());
    assert_eq!((device.range().start(), device.range().nr_pages()), (FIRST, 4));
    assert_eq!(device.nr_free_pages(), 4);
}

fn register<'s>(space: &'s Space, name: &str) -> Device<'s> {
    space.register(DeviceConfig::new(4).name(name)).unwrap()
}

#[test]
fn a_device_that_is_found_is_all_there() {
    bounded("devices: register, by offset", || {
        with_space(4, |space| {
            let reader =
                thread::spawn(move || space.device_at(FIRST).inspect(|device| assert_whole(device, &["a"])).is_some());
            let device = register(space, "a");
            assert_eq!(space.device_at(FIRST), Some(device), "whoever registered it finds it");
            reader.join().unwrap();
        });
    });
}

#[test]
fn a_device_that_is_gone_through_is_all_there() {
    bounded("devices: register, all", || {
        with_space(4, |space| {
            let reader = thread::spawn(move || {
                for device in space.devices() {
                    assert_whole(&device, &["a"]);
                    assert_eq!(space.device_at(FIRST), Some(device), "found one way, found the other");
                }
            });
            let device = register(space, "a");
            assert!(space.devices().eq([device]));
            reader.join().unwrap();
        });
    });
}

/// Its memory goes with the last who knows it: the reader, the registration, or the epochs.
#[test]
fn a_device_that_goes_is_found_whole_or_not_at_all() {
    bounded("devices: unregister", || {
        with_space(4, |space| {
            let (ops, drops, memory) = ops();
            let device = space.register(DeviceConfig::new(4).name("a").ops(ops)).unwrap();
            let reader = thread::spawn(move || {
                if let Some(device) = space.device_at(FIRST) {
                    assert_whole(&device, &["a"]);
                }
            });
            device.unregister().unwrap();
            assert_eq!((drops.load(Relaxed), space.device_at(FIRST)), (1, None));
            memory.write(0);
            reader.join().unwrap();
        });
    });
}

/// The callbacks of a device go with its last page, and not under whoever finds it and allocates.
#[test]
fn a_device_that_goes_is_allocated_from_or_refuses() {
    bounded("devices: unregister, alloc", || {
        with_space(4, |space| {
            let (ops, drops, memory) = ops();
            let device = space.register(DeviceConfig::new(4).ops(ops)).unwrap();
            let reader = thread::spawn(move || {
                let allocated = space.device_at(FIRST).map(|device| device.alloc(Order::ZERO).map(drop));
                assert!(matches!(allocated, None | Some(Ok(()) | Err(AllocError::Dying))), "{allocated:?}");
            });
            match device.unregister() {
                Ok(()) => {
                    assert_eq!(drops.load(Relaxed), 1);
                    memory.write(0);
                    reader.join().unwrap();
                }
                Err(UnregisterError::Busy { device, .. }) => {
                    assert_eq!(drops.load(Relaxed), 0);
                    reader.join().unwrap();
                    device.unregister().unwrap();
                }
                Err(error) => panic!("{error}"),
            }
            assert_eq!(drops.load(Relaxed), 1);
        });
    });
}

/// Another device gets the offsets and the number: whoever looks finds one of them, or neither, and it is whole.
#[test]
fn of_two_devices_at_the_same_offsets_one_is_found() {
    bounded("devices: again", || {
        with_space(4, |space| {
            let first = register(space, "a");
            let reader = thread::spawn(move || {
                if let Some(device) = space.device_at(FIRST) {
                    assert_whole(&device, &["a", "b"]);
                }
            });
            first.unregister().unwrap();
            let second = register(space, "b");
            assert_eq!(space.device_at(FIRST), Some(second));
            reader.join().unwrap();
        });
    });
}

/// Another device gets the number, and not the offsets: nobody is found at these.
#[test]
fn of_two_devices_with_one_number_the_right_one_is_found() {
    bounded("devices: elsewhere", || {
        with_space(16, |space| {
            // Aligned to the largest order, it begins behind the block that the first one has.
            let first = register(space, "a");
            let reader = thread::spawn(move || {
                if let Some(device) = space.device_at(FIRST) {
                    assert_whole(&device, &["a"]);
                }
            });
            let between = register(space, "");
            first.unregister().unwrap();
            let second = space.register(DeviceConfig::new(8).name("b")).unwrap();
            assert_eq!((second.range().start().get(), space.device_at(FIRST)), (8, None));
            assert_eq!(space.device_at(Offset::new(4).unwrap()), Some(between));
            reader.join().unwrap();
        });
    });
}

/// A page's device is that of the folio which was looked up, whatever is at its place now.
#[test]
fn a_page_leads_to_its_own_device_or_to_none() {
    bounded("devices: of a page", || {
        with_space(4, |space| {
            let first = register(space, "a");
            let folio = first.alloc(Order::ZERO).unwrap();
            let page = space.page(folio.offset()).unwrap();
            let reader = thread::spawn(move || {
                let device = page.device();
                assert!(["a", ""].contains(&device.name()), "{:?}", device.name());
                assert_eq!(device.range().nr_pages(), if device.name() == "a" { 4 } else { 0 });
            });
            drop(folio);
            first.unregister().unwrap();
            let second = register(space, "b");
            let folio = second.alloc(Order::ZERO).unwrap();
            assert_eq!(page.device().name(), "");
            drop((folio, second));
            reader.join().unwrap();
        });
    });
}
