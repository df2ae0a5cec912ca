//! The public face: a region that lives for the length of a closure.
//! Below: `pager`, `handlers`. Above: the embedder.
#![forbid(unsafe_code)]

use core::fmt;
use core::ptr::NonNull;
use std::panic::{self, AssertUnwindSafe};

use farpage::Space;

use crate::config::{Config, Mode};
use crate::error::RegionError;
use crate::handlers;
use crate::mapping::Window;
use crate::pager::{Pager, Paging};
use crate::runs::Run;
use crate::stats::{Counters, Stats};

/// Makes a region, runs `body` on it, takes it down, and says what it did.
///
/// The region lives exactly as long as `body` runs, so neither it nor its device can outlive the
/// space, and no thread can be left waiting for a page. When `body` returns or panics, the
/// handlers end, every leaf is put, and the device is unregistered; a panic then goes on.
///
/// # Errors
///
/// Before `body` runs: a configuration that cannot work, or something the system refuses. After:
/// what went wrong meanwhile, such as a device without a page to evict into. `body`'s own result
/// is then dropped, though every byte it saw was right.
pub fn run<T>(
    space: &Space,
    config: &Config,
    body: impl FnOnce(&mut Region<'_>) -> T,
) -> Result<(T, Stats), RegionError> {
    let plan = config.plan()?;
    let host_pages = Space::new()?;
    let pager = Pager::new(space, &host_pages, &plan)?;
    // Unwinding is caught only to take the region down first, then goes on: nobody sees a state
    // that the panic left half-done.
    let caught =
        || panic::catch_unwind(AssertUnwindSafe(|| body(&mut Region { pager: &pager, window: pager.mapping.open() })));
    let outcome = match pager.mapping.uffd() {
        Some(uffd) => handlers::serve_during(&pager, uffd, plan.handlers, caught),
        None => Ok(caught()),
    };
    let stats = pager.finish();
    match outcome? {
        Ok(value) => Ok((value, stats?)),
        Err(payload) => panic::resume_unwind(payload),
    }
}

/// Memory of which only a budget is in RAM.
///
/// With [`Mode::Faults`] it is ordinary memory: [`Region::as_mut_bytes`]. Only do not hand it to
/// a system call: the kernel does not wait for a missing page of it but fails with `EFAULT`.
/// [`Region::read`] and [`Region::write`] work in both modes and on any number of threads.
pub struct Region<'r> {
    pager: &'r dyn Paging,
    /// There with real faults only.
    window: Option<Window<'r>>,
}

impl<'r> Region<'r> {
    /// Bytes in the region: what was asked for, rounded up to a whole run.
    pub fn len(&self) -> usize {
        self.pager.mapping().len()
    }

    /// Never: a region has at least one run.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// How missing pages are noticed.
    pub fn mode(&self) -> Mode {
        self.pager.mode()
    }

    /// The region as memory, or `None` without real faults.
    pub fn as_mut_bytes(&mut self) -> Option<&mut [u8]> {
        self.window.as_mut().map(Window::as_mut_slice)
    }

    /// Where the region begins, or `None` without real faults.
    ///
    /// For code that wants a pointer. Whoever reads or writes through it sees to it that nobody
    /// else uses the same bytes meanwhile, the accessor included, and is done before the region ends.
    pub fn as_ptr(&self) -> Option<NonNull<u8>> {
        self.window.as_ref().map(Window::start)
    }

    /// Copies bytes out of the region, from byte `at`.
    ///
    /// Two threads may use the same bytes at once; what a reader sees of a concurrent write is
    /// then any mixture of old and new bytes.
    ///
    /// # Errors
    ///
    /// What made the region fail, if it has.
    ///
    /// # Panics
    ///
    /// If the bytes are not all in the region.
    pub fn read(&self, at: usize, bytes: &mut [u8]) -> Result<(), RegionError> {
        self.check(at, bytes.len());
        let mapping = self.pager.mapping();
        match &self.window {
            Some(window) => window.read(at, bytes),
            None => {
                let mut done = 0;
                while done < bytes.len() {
                    let (run, within, len) = self.piece(at + done, bytes.len() - done);
                    let locked = self.pager.touch(run)?;
                    mapping.read_locked(&locked, within, &mut bytes[done..done + len]);
                    done += len;
                }
            }
        }
        self.failure()
    }

    /// Copies bytes into the region, from byte `at`; otherwise as [`Region::read`].
    ///
    /// # Errors
    ///
    /// What made the region fail, if it has.
    ///
    /// # Panics
    ///
    /// If the bytes are not all in the region.
    pub fn write(&self, at: usize, bytes: &[u8]) -> Result<(), RegionError> {
        self.check(at, bytes.len());
        let mapping = self.pager.mapping();
        match &self.window {
            Some(window) => window.write(at, bytes),
            None => {
                let mut done = 0;
                while done < bytes.len() {
                    let (run, within, len) = self.piece(at + done, bytes.len() - done);
                    let locked = self.pager.touch(run)?;
                    mapping.write_locked(&locked, within, &bytes[done..done + len]);
                    done += len;
                }
            }
        }
        self.failure()
    }

    /// A view of what the region does, which may be read while its bytes are borrowed.
    pub fn monitor(&self) -> Monitor<'r> {
        Monitor { pager: self.pager }
    }

    fn check(&self, at: usize, len: usize) {
        let whole = self.len();
        assert!(at <= whole && len <= whole - at, "{len} bytes at {at} are not all in a region of {whole} bytes");
    }

    /// The run that byte `at` is in, where in it, and how many of `len` bytes are there too.
    fn piece(&self, at: usize, len: usize) -> (Run, usize, usize) {
        let run_bytes = self.pager.mapping().run_bytes();
        let within = at % run_bytes;
        (Run::new(at / run_bytes), within, len.min(run_bytes - within))
    }

    fn failure(&self) -> Result<(), RegionError> {
        self.pager.failure().map_or(Ok(()), Err)
    }
}

impl fmt::Debug for Region<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region").field("len", &self.len()).field("mode", &self.mode()).finish_non_exhaustive()
    }
}

/// A view of a running region: what it does, and whether it has failed.
#[derive(Clone, Copy)]
pub struct Monitor<'r> {
    pager: &'r dyn Paging,
}

impl Monitor<'_> {
    /// What the region has done so far. Counted fault by fault, so the sums belong together up to
    /// the faults that are being served.
    pub fn counters(&self) -> Counters {
        self.pager.counters()
    }

    /// What made the region fail, if it has. It serves faults all the same, over its budget: a
    /// long job should look here now and then, and stop.
    pub fn failure(&self) -> Option<RegionError> {
        self.pager.failure()
    }

    /// Looks at what the page metadata takes just now, for the peak in [`Stats`]. That is looked
    /// at when the region ends in any case; a job with phases may want more.
    pub fn sample_metadata(&self) {
        self.pager.sample_metadata();
    }
}

impl fmt::Debug for Monitor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("counters", &self.counters()).field("failure", &self.failure()).finish()
    }
}
