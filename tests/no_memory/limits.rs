//! `RLIMIT_AS`, really: a process that may have no more address space goes on by errors, until it may have more.
//!
//! What a new space asks for at once is refused in `tests/address_space.rs`. Here the spaces are there, and the heap is what runs out.

use std::io;

use farpage::{AllocError, Device, DeviceConfig, Folio, Order, RegisterError, Space, SpaceError};

use crate::child::{self, say};
use crate::unpopulated;

/// Lets this process have so many bytes of address space more than it has; all that it wants, without a number.
fn limit_address_space(more: Option<u64>) {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
    let pages: u64 = statm.split(' ').next().and_then(|pages| pages.parse().ok()).expect("a number first");
    // SAFETY: Reads a constant of the system.
    let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as u64;
    let rlim_cur = more.map_or(libc::RLIM_INFINITY, |more| pages * page_bytes + more);
    // Only the soft limit, which a process may raise again.
    let limit = libc::rlimit { rlim_cur, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: The structure is complete, and the system copies it.
    let set = unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
}

#[test]
fn without_more_address_space_everything_is_an_error_and_works_later() {
    const NAME: &str = "limits::without_more_address_space_everything_is_an_error_and_works_later";
    // One heap for all threads: the others' have 64 MiB of address space each before they need more.
    child::run(NAME, &[("MALLOC_ARENA_MAX", "1")], limited);
}

fn limited() {
    let space = Space::builder().max_pages(1 << 26).build().expect("address space");
    let device = space.register(DeviceConfig::new(1 << 16)).expect("room");
    let kept = device.alloc(Order::ZERO).expect("room");
    // So that none of what follows needs the list to grow.
    let mut devices: Vec<Device<'_>> = Vec::with_capacity(60_000);

    limit_address_space(Some(2 << 20));
    let error = Space::new().expect_err("2 MiB are left");
    let refused = loop {
        match space.register(DeviceConfig::new(700)) {
            Ok(device) => devices.push(device),
            Err(error) => break error,
        }
    };
    // Metadata has its address space: no limit on that counts. What has grown on the heap does.
    let more: Vec<Folio<'_>> = {
        let mut more = Vec::new();
        let many = device.alloc_many(Order::ZERO, 1 << 16, &mut more);
        assert!(matches!(many, Err(AllocError::Exhausted { .. } | AllocError::NoMemory)), "{many:?}");
        more
    };
    let huge = device.alloc(Order::HUGE);
    // Lets go of what it needs itself, before it says anything.
    limit_address_space(None);

    assert!(matches!(error, SpaceError::AddressSpace { .. } | SpaceError::NoMemory { .. }), "{error:?}");
    assert!(matches!(refused, RegisterError::NoMemory { .. }), "{refused:?}");
    say(&format!("2 MiB of address space: {} devices registered, then: {refused}", devices.len()));
    assert!(devices.len() > 10 && more.is_empty());
    assert_eq!(huge.expect("metadata has its address space already").order(), Order::HUGE);
    space.validate().expect("nothing is lost");
    let before = unpopulated(space.report());
    assert_eq!((before.devices.len(), before.live_pages), (1 + devices.len(), 1));
    devices.push(space.register(DeviceConfig::new(700)).expect("there is address space again"));
    Space::new().expect("there is address space again");
    let mut more = Vec::new();
    device.alloc_many(Order::ZERO, 60_000, &mut more).expect("room");
    drop((kept, more));
    devices.into_iter().for_each(|device| device.unregister().expect("nothing lives there"));
    space.validate().expect("nothing is lost");
}
