//! Heap memory that runs out at any one of the allocations that an operation makes: none of them may abort the process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use crate::scenes::{SCENES, Scene};

/// The system's allocator, of which a thread may have a limited number of bytes.
struct Limited;

#[global_allocator]
static ALLOCATOR: Limited = Limited;

#[derive(Clone, Copy)]
struct Account {
    bytes_left: usize,
    /// How many more bytes the first allocation that was refused would have needed.
    missing: Option<usize>,
}

thread_local! {
    static ACCOUNT: Cell<Option<Account>> = const { Cell::new(None) };
}

/// Whether this thread may have `size` more bytes.
fn charge(size: usize) -> bool {
    let Some(mut account) = ACCOUNT.get() else { return true };
    let may = size <= account.bytes_left;
    if may {
        account.bytes_left -= size;
    } else {
        account.missing.get_or_insert(size - account.bytes_left);
    }
    ACCOUNT.set(Some(account));
    may
}

fn uncharge(size: usize) {
    if let Some(account) = ACCOUNT.get() {
        ACCOUNT.set(Some(Account { bytes_left: account.bytes_left + size, ..account }));
    }
}

// SAFETY: Everything is passed on to the system's allocator, or refused by null. The account is a plain value without a
// destructor, so reaching it allocates nothing.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: By the caller's word.
        if charge(layout.size()) { unsafe { System.alloc(layout) } } else { std::ptr::null_mut() }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        uncharge(layout.size());
        // SAFETY: By the caller's word; `System` is where it came from.
        unsafe { System.dealloc(pointer, layout) };
    }
}

/// Runs `work` while this thread may have `bytes` more bytes; how many were missing, if that was not enough.
fn with_at_most<R>(bytes: usize, work: impl FnOnce() -> R) -> (R, Option<usize>) {
    ACCOUNT.set(Some(Account { bytes_left: bytes, missing: None }));
    let result = work();
    let missing = ACCOUNT.take().and_then(|account| account.missing);
    (result, missing)
}

/// Each time with as much as the allocation needs at which it ran out before.
fn run(scene: &Scene) {
    let (mut bytes, mut shortages, mut refusals) = (0, 0, 0);
    loop {
        let mut missing = None;
        let refused = scene.run(&mut |work| ((), missing) = with_at_most(bytes, work));
        refusals += u32::from(refused);
        let Some(missing) = missing else {
            assert!(!refused, "{}: refused, and {bytes} bytes were enough", scene.name);
            break;
        };
        shortages += 1;
        bytes += missing;
    }
    println!("{}: {shortages} shortages, {refusals} refused; {bytes} bytes are enough", scene.name);
    assert!(shortages > 0 || scene.needs_no_heap, "{}: nothing was ever short", scene.name);
}

#[test]
fn a_shortage_of_heap_memory_is_an_error_and_changes_nothing() {
    SCENES.iter().for_each(run);
}
