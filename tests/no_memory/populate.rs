//! The system itself refuses to back metadata by memory, with the error of a memory cgroup that is full: to one thread, by a
//! filter of its system calls. Another thread tries again and gets it.

use std::io;
use std::thread;

use farpage::{Access, AllocError, DeviceConfig, Folio, Order, RangeRequest, RegisterError, Space, SplitError};

use crate::unpopulated;

/// `madvise(.., MADV_POPULATE_WRITE)` fails with `errno` from now on, for this thread.
fn refuse_to_populate(errno: i32) {
    let step = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = |at: usize| step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, at as u32);
    let unless = |k: u32, skip: u8| step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, skip, k);
    let give = |k: u32| step(libc::BPF_RET | libc::BPF_K, 0, 0, k);
    let advice = std::mem::offset_of!(libc::seccomp_data, args) + 2 * size_of::<u64>();
    let low_half = if cfg!(target_endian = "big") { 4 } else { 0 };
    let mut steps = [
        load(std::mem::offset_of!(libc::seccomp_data, nr)),
        unless(libc::SYS_madvise as u32, 3),
        load(advice + low_half),
        unless(libc::MADV_POPULATE_WRITE as u32, 1),
        give(libc::SECCOMP_RET_ERRNO | errno as u32),
        give(libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: This thread only gives up getting more privileges by executing a file.
    let given_up = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(given_up, 0, "{}", io::Error::last_os_error());
    // SAFETY: The program is complete, and the system copies it.
    let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
}

/// Runs `work` on a thread to which every populate is refused.
fn refused<R: Send>(errno: i32, work: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| {
        let work = || {
            refuse_to_populate(errno);
            work()
        };
        scope.spawn(work).join().expect("no panic")
    })
}

#[test]
fn a_populate_that_the_system_refuses_is_an_error_and_changes_nothing() {
    let space = Space::builder().max_pages(1 << 20).build().unwrap();
    let registered = refused(libc::ENOMEM, || space.register(DeviceConfig::new(700)).err());
    assert!(matches!(registered, Some(RegisterError::NoMemory { .. })), "{registered:?}");
    let device = space.register(DeviceConfig::new(1 << 16)).unwrap();
    assert_eq!(device.range().start().get(), 0, "nothing has its offsets");

    let before = unpopulated(space.report());
    let errors = refused(libc::ENOMEM, || {
        let mut folios = Vec::new();
        [
            device.alloc(Order::ZERO).err(),
            device.alloc(Order::HUGE).err(),
            device.alloc(Order::new(12).unwrap()).err(),
            device.alloc_many(Order::ZERO, 5_000, &mut folios).err(),
            device.alloc_range(RangeRequest::new(5_555)).err(),
            device.alloc_range(RangeRequest::new(700).top_down()).err(),
        ]
    });
    assert_eq!(errors, [Some(AllocError::NoMemory); 6]);
    assert_eq!(unpopulated(space.report()), before);
    space.validate().unwrap();

    // A folio whose parts have no memory stays one.
    let folio = device.alloc(Order::HUGE).unwrap();
    let split = refused(libc::ENOMEM, || match folio.split(Order::ZERO) {
        Err(error @ SplitError::NoMemory { .. }) => error.into_folio(),
        other => panic!("{other:?}"),
    });
    assert_eq!((split.order(), split.refs()), (Order::HUGE, 1));
    space.validate().unwrap();
    let parts: Vec<Folio<'_>> = split.split(Order::ZERO).unwrap().collect();
    assert_eq!(parts.len(), 512);
    space.validate().unwrap();
    drop(parts);

    // What was given back is not there either; leaves of before stay stale throughout.
    let leaf = device.alloc(Order::ZERO).unwrap().into_leaf(Access::Write);
    drop(space.take(leaf).unwrap());
    assert!(space.trim() > 0);
    let again = refused(libc::ENOMEM, || (device.alloc(Order::ZERO).err(), space.lookup(leaf).is_none()));
    assert_eq!(again, (Some(AllocError::NoMemory), true));
    space.validate().unwrap();
    let mut folios = Vec::new();
    device.alloc_many(Order::ZERO, 1 << 16, &mut folios).unwrap();
    assert!(space.lookup(leaf).is_none());
    space.validate().unwrap();
}

/// Linux before 5.14 has no such call: then pages appear at the first write.
#[test]
fn a_system_without_the_call_is_served_all_the_same() {
    let space = Space::builder().max_pages(1 << 20).build().unwrap();
    refused(libc::EINVAL, || {
        let device = space.register(DeviceConfig::new(1 << 16)).unwrap();
        let mut folios = Vec::new();
        for order in [0, 9, 12].map(|order| Order::new(order).unwrap()) {
            device.alloc_many(order, 16_384 >> order.get(), &mut folios).unwrap();
        }
        space.validate().unwrap();
        folios.clear();
        assert!(space.trim() > 0);
        drop(device.alloc(Order::ZERO).unwrap());
        space.validate().unwrap();
    });
}
