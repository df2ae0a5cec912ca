//! The threads that serve faults: read an event, have it served, until told to stop.
//! What serving means is in `fault`.
//! Below: `uffd`, `pager`. Above: `region`.
//!
//! A handler must never touch memory that it would have to bring home itself. It does not: it has
//! the kernel move whole pages, and the kernel answers `EFAULT` where it would have to wait.
#![forbid(unsafe_code)]

use std::panic::{self, AssertUnwindSafe};
use std::process;
use std::thread::{self, Builder};

use crate::error::{OsError, RegionError};
use crate::pager::Pager;
use crate::uffd::{Stop, Uffd};

/// Runs `body` with `count` handlers beside it, and returns when all of them have ended.
pub(crate) fn serve_during<T>(
    pager: &Pager<'_>,
    uffd: &Uffd,
    count: usize,
    body: impl FnOnce() -> T,
) -> Result<T, RegionError> {
    struct StopOnDrop<'a>(&'a Stop);
    impl Drop for StopOnDrop<'_> {
        fn drop(&mut self) {
            self.0.ring();
        }
    }

    let stop = Stop::new()?;
    thread::scope(|scope| {
        // However this scope is left, its handlers end: it would wait for them for ever else.
        let stop_on_drop = StopOnDrop(&stop);
        for number in 0..count {
            Builder::new()
                .name(format!("farpage-fault-{number}"))
                .spawn_scoped(scope, || handle(pager, uffd, stop_on_drop.0))
                .map_err(|error| OsError::new("starting a handler", error.raw_os_error().unwrap_or(0)))?;
        }
        Ok(body())
    })
}

/// Serves faults until `stop` rings. All handlers read one descriptor, an event each.
fn handle(pager: &Pager<'_>, uffd: &Uffd, stop: &Stop) {
    let served = panic::catch_unwind(AssertUnwindSafe(|| -> Result<(), OsError> {
        while uffd.wait(stop)? {
            // Another handler may have taken the event that woke us; then there is none.
            while let Some(fault) = uffd.next_fault()? {
                pager.serve(fault.address);
            }
        }
        Ok(())
    }));
    match served {
        Ok(Ok(())) => {}
        // The threads that wait for this page can be given neither a page nor an error; without
        // us they would hang for ever, as in a kernel that cannot read its swap.
        Ok(Err(error)) => {
            eprintln!("farpage-region: a fault handler cannot go on: {error}");
            process::abort();
        }
        Err(_) => process::abort(),
    }
}
