//! One flag that asks all work to end: set by Ctrl-C, or when the region has failed.

use std::panic;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::args::EXIT_INTERRUPTED;

#[derive(Clone, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

/// The work was asked to end. Not an error: whoever asked knows why.
#[derive(Debug)]
pub(crate) struct Stopped;

impl Stop {
    /// A flag that Ctrl-C sets. A second Ctrl-C does not wait for the work to end.
    pub(crate) fn on_interrupt() -> Result<Stop, String> {
        let stop = Stop::default();
        let flag = stop.clone();
        ctrlc::set_handler(move || {
            if flag.0.swap(true, Relaxed) {
                process::exit(EXIT_INTERRUPTED.into());
            }
        })
        .map_err(|error| format!("cannot watch for Ctrl-C: {error}"))?;
        Ok(stop)
    }

    pub(crate) fn ask(&self) {
        // Relaxed, here and below: a request, it publishes nothing.
        self.0.store(true, Relaxed);
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.0.load(Relaxed)
    }

    pub(crate) fn check(&self) -> Result<(), Stopped> {
        if self.is_asked() { Err(Stopped) } else { Ok(()) }
    }

    /// For code that cannot return an error, such as a comparison in a sort: unwinds, without the
    /// message of a panic. [`catch`] turns it into an error again.
    pub(crate) fn check_or_unwind(&self) {
        if self.is_asked() {
            panic::resume_unwind(Box::new(Stopped));
        }
    }
}

/// Runs work that may end by [`Stop::check_or_unwind`]; a real panic goes on.
pub(crate) fn catch<T>(work: impl FnOnce() -> T) -> Result<T, Stopped> {
    // What the work had borrowed is as good as its own steps left it: a slice that is half sorted.
    panic::catch_unwind(panic::AssertUnwindSafe(work)).map_err(|payload| match payload.downcast::<Stopped>() {
        Ok(stopped) => *stopped,
        Err(payload) => panic::resume_unwind(payload),
    })
}
