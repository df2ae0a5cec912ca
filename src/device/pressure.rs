//! What becomes of an allocation that finds no room: the driver may make some, and it tries once more.
#![forbid(unsafe_code)]

use core::cell::Cell;

use crate::device::Device;
use crate::device::callbacks::Pressure;
use crate::error::AllocError;
use crate::words::Order;

thread_local! {
    static UNDER_PRESSURE: Cell<bool> = const { Cell::new(false) };
}

/// That this thread is about to ask a driver for room, or tries again after that: what it allocates meanwhile asks
/// nobody.
struct Only(());

impl Only {
    /// `None` if the thread does already, or is being torn down.
    fn begin() -> Option<Only> {
        let was_under = UNDER_PRESSURE.try_with(|under| under.replace(true)).unwrap_or(true);
        // Not `then_some`: an `Only` that is made in vain would be dropped.
        (!was_under).then(|| Only(()))
    }
}

impl Drop for Only {
    fn drop(&mut self) {
        let _ = UNDER_PRESSURE.try_with(|under| under.set(false));
    }
}

impl Device<'_> {
    /// Tells the driver that an allocation fails with `error`, and tries `again` if it says so. The caller has undone all
    /// that belongs to the first try: the callback may do anything, ending the device included.
    #[cold]
    #[inline(never)]
    pub(super) fn relieved<T>(
        &self,
        order: Option<Order>,
        error: AllocError,
        again: impl FnOnce() -> Result<T, AllocError>,
    ) -> Result<T, AllocError> {
        let (AllocError::Exhausted { .. } | AllocError::Fragmented { .. }) = error else { return Err(error) };
        let Some(ops) = self.entry.listeners().ops() else { return Err(error) };
        let Some(_only) = Only::begin() else { return Err(error) };
        if ops.pressure(Pressure { order, error }) { again() } else { Err(error) }
    }
}
