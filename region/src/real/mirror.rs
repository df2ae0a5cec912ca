//! [`Window::mirror`]: a window follows an address space: faults go there, and invalidations come from there.
//! Below: `window`. Above: nothing.
//!
//! The process's page table is a secondary one, as a device's is, and keeps to the protocol of
//! [`Interval`](farpage::Interval): take the sequence number, ask the address space, and under the window's lock use the answer if the number is still
//! the same. Whoever changes a leaf moves the number on, and then takes the page away under that lock.
//!
//! One thread reads events and does nothing else: who moves a page in waits for its event to be read.
#![forbid(unsafe_code)]

use core::fmt;
use core::ptr::NonNull;
use core::time::Duration;
use std::panic::{self, AssertUnwindSafe};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, Builder};

use farpage::{Access, AddressRange, AddressSpace, FaultError, Interval, LeafKind, PAGE_BYTES, Pfn};
use parking_lot::Mutex;

use super::window::{Addresses, Follow, Window, WindowCounts, load, store};
use crate::error::{OsError, RegionError};
use crate::uffd::{Fault, Stop};

/// A window while it shows an address space.
pub struct View<'w, 's> {
    addresses: &'w Addresses,
    space: &'w AddressSpace<'s>,
    range: AddressRange,
    interval: Interval<'s>,
    nr_faults: AtomicU64,
    last_error: Mutex<Option<FaultError>>,
}

impl Window {
    /// Shows `range` of an address space at the window's addresses while `body` runs. Any code may load and store there, through
    /// [`View::as_ptr`]; `handlers` threads serve the faults (at least one), by [`AddressSpace::fault`].
    ///
    /// The software page table decides: a page that it has present is mapped, with no more access than it allows, and is taken
    /// away before it changes. So programs, devices and the address space's other users see the same bytes. First writes of a
    /// page are told to it, so the dirty and soft-dirty marks of its leaves are true; young marks are of faults only.
    ///
    /// An access that it refuses, for want of a mapping, of permission, of memory, or because a driver fails, is a `SIGBUS` for
    /// the thread, and for others at that page until the leaf changes or [`View::retry`] is called. A system call that meets a missing
    /// page fails with `EFAULT` and does not wait.
    ///
    /// `body` must not touch the window while it has a [`Migration`](farpage::Migration) of the address space under way, as it must not
    /// fault there by other means; other threads may.
    ///
    /// # Errors
    ///
    /// [`RegionError::Size`] if the range is not as long as the window; [`RegionError::Os`] if the system gives no threads.
    ///
    /// # Panics
    ///
    /// `body`'s are passed on. A handler that can neither serve a fault nor refuse it ends the process.
    pub fn mirror<'s, T>(
        &mut self,
        space: &AddressSpace<'s>,
        range: AddressRange,
        handlers: usize,
        body: impl FnOnce(&View<'_, 's>) -> T,
    ) -> Result<T, RegionError> {
        let addresses = &*self.addresses;
        if range.nr_pages() != addresses.nr_pages() as u64 {
            return Err(RegionError::Size { bytes: range.nr_bytes() });
        }
        let follow = Arc::new(Follow { addresses: Arc::clone(&self.addresses), range });
        let view = View {
            addresses,
            space,
            range,
            interval: space.subscribe(range, None, follow),
            nr_faults: AtomicU64::new(0),
            last_error: Mutex::new(None),
        };
        view.serve_during(handlers.max(1), body)
    }
}

impl<'s> View<'_, 's> {
    /// The first byte: ordinary memory, until the view ends.
    ///
    /// Who uses the pointer keeps to what Rust asks of shared memory that other threads, and other address spaces that share the pages, may
    /// write. [`View::read`] and [`View::write`] do.
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.addresses.start()
    }

    /// The range of the address space that is shown.
    pub fn range(&self) -> AddressRange {
        self.range
    }

    /// Loads bytes, from byte `at` of the range on.
    ///
    /// # Panics
    ///
    /// If the bytes are not all in the window.
    pub fn read(&self, at: usize, bytes: &mut [u8]) {
        load(&self.addresses.cells()[at..][..bytes.len()], bytes);
    }

    /// Stores bytes, from byte `at` of the range on.
    ///
    /// # Panics
    ///
    /// If the bytes are not all in the window.
    pub fn write(&self, at: usize, bytes: &[u8]) {
        store(&self.addresses.cells()[at..][..bytes.len()], bytes);
    }

    /// What the window did, since it was made.
    pub fn counts(&self) -> WindowCounts {
        self.addresses.lock().counts()
    }

    /// How many faults of the CPU were served or refused.
    pub fn nr_faults(&self) -> u64 {
        // Relaxed: a count.
        self.nr_faults.load(Relaxed)
    }

    /// Why the last access was refused that was.
    pub fn last_error(&self) -> Option<FaultError> {
        *self.last_error.lock()
    }

    /// Has accesses of refused pages tried again.
    pub fn retry(&self) {
        let mut locked = self.addresses.lock();
        let retried = locked.take_away(0, self.addresses.nr_pages());
        retried.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Runs `body` with the threads beside it, and returns when all of them have ended.
    fn serve_during<T>(&self, handlers: usize, body: impl FnOnce(&Self) -> T) -> Result<T, RegionError> {
        /// However the scope is left, its threads end, and the reader last: a handler may wait for it.
        struct End<'a> {
            handlers: Vec<thread::ScopedJoinHandle<'a, ()>>,
            stop: &'a Stop,
            quiet: &'a Stop,
        }
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.quiet.ring();
                for handler in self.handlers.drain(..) {
                    let _ = handler.join();
                }
                self.stop.ring();
            }
        }

        let (stop, quiet) = (Stop::new()?, Stop::new()?);
        let (faults, queue) = channel();
        let queue = Mutex::new(queue);
        let start = |name: String| Builder::new().name(name);
        let refused = |error: std::io::Error| OsError::new("starting a thread", error.raw_os_error().unwrap_or(0));
        thread::scope(|scope| {
            let mut end = End { handlers: Vec::new(), stop: &stop, quiet: &quiet };
            let addresses = self.addresses;
            let (stop, quiet, queue) = (&stop, &quiet, &queue);
            let read = move || or_abort(|| read_events(addresses, faults, quiet, stop));
            start("farpage-events".to_owned()).spawn_scoped(scope, read).map_err(refused)?;
            for number in 0..handlers {
                let handle = move || or_abort(|| self.handle(queue));
                let handler = start(format!("farpage-fault-{number}")).spawn_scoped(scope, handle).map_err(refused)?;
                end.handlers.push(handler);
            }
            Ok(body(self))
        })
    }

    fn handle(&self, queue: &Mutex<Receiver<Fault>>) -> Result<(), OsError> {
        loop {
            let next = queue.lock().recv();
            let Ok(fault) = next else { return Ok(()) };
            self.serve(fault)?;
        }
    }

    /// Serves one event. Events come late and more than once: what the software page table says is true now.
    fn serve(&self, fault: Fault) -> Result<(), OsError> {
        let page = self.addresses.page_at(fault.address);
        let page = page.unwrap_or_else(|| panic!("a fault at {:#x}, outside the window", fault.address));
        let address = self.range.page(page as u64).unwrap_or(self.range.start());
        let access = if fault.is_write { Access::Write } else { Access::Read };
        self.nr_faults.fetch_add(1, Relaxed);
        loop {
            let Some(sequence) = self.interval.read_begin(Duration::from_secs(1)) else { continue };
            let served = self.space.fault(address, access).map(|()| present(self.space, address));
            let mut locked = self.addresses.lock();
            if self.interval.read_retry(sequence) {
                continue;
            }
            match served {
                Err(error) => {
                    *self.last_error.lock() = Some(error);
                    return locked.refuse(page);
                }
                Ok(Some((pfn, allowed))) if allowed >= access => return locked.show(page, pfn, allowed),
                // A page that is to be marked as written first, or one that went without anybody's being told: asked for again.
                Ok(_) => {}
            }
        }
    }
}

/// The host page at `address`, and what it can be shown for: to be written only while its leaf is marked as written, so that the mark is
/// not missed when it is cleared.
fn present(space: &AddressSpace<'_>, address: farpage::Address) -> Option<(Pfn, Access)> {
    let (leaf, is_huge) = space.leaf(address);
    let LeafKind::Present(access) = leaf.kind() else { return None };
    let within = if is_huge { address.get() / PAGE_BYTES % 512 } else { 0 };
    let is_marked = leaf.is_dirty() && leaf.is_soft_dirty() && !leaf.is_write_protect();
    let access = if is_marked { access } else { Access::Read };
    Some((leaf.pfn()?.checked_add(within)?, access))
}

/// Reads events until `stop` is rung, and hands faults on until `quiet` is.
fn read_events(addresses: &Addresses, faults: Sender<Fault>, quiet: &Stop, stop: &Stop) -> Result<(), OsError> {
    let uffd = addresses.uffd();
    while uffd.wait(quiet)? {
        while let Some(fault) = uffd.next_fault()? {
            // Nobody to hand it to only while everything ends.
            let _ = faults.send(fault);
        }
    }
    drop(faults);
    while uffd.wait(stop)? {
        while uffd.next_fault()?.is_some() {}
    }
    Ok(())
}

/// The threads that wait can be given neither a page nor an error by a thread that is gone: they would hang for ever.
fn or_abort(body: impl FnOnce() -> Result<(), OsError>) {
    match panic::catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            eprintln!("farpage-region: faults can no longer be served: {error}");
            process::abort();
        }
        Err(_) => process::abort(),
    }
}

impl Drop for View<'_, '_> {
    /// Nothing is shown any more; the interval, which would tell of changes, goes behind this.
    fn drop(&mut self) {
        self.retry();
    }
}

impl fmt::Debug for View<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("range", &self.range).field("nr_faults", &self.nr_faults()).finish_non_exhaustive()
    }
}
