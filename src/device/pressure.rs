//! What becomes of an allocation that finds no room: the driver may make some, and it tries once more.

use core::cell::Cell;

use crate::device::Device;
use crate::device::ops::Pressure;
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
    /// that belongs to the first try.
    #[cold]
    #[inline(never)]
    pub(super) fn relieved<T>(
        &self,
        order: Option<Order>,
        error: AllocError,
        again: impl FnOnce() -> Result<T, AllocError>,
    ) -> Result<T, AllocError> {
        let (AllocError::Exhausted { .. } | AllocError::Fragmented { .. }) = error else { return Err(error) };
        let ops = self.entry.listeners().ops();
        if !ops.is_some() {
            return Err(error);
        }
        let Some(_only) = Only::begin() else { return Err(error) };
        let kept = Kept::new(self)?;
        let mut is_worth_a_try = false;
        // SAFETY: `kept` counts a page in until it is dropped.
        unsafe { ops.with(|ops| is_worth_a_try = ops.pressure(Pressure { order, error })) };
        drop(kept);
        if is_worth_a_try { again() } else { Err(error) }
    }
}

/// Keeps the device, and with it its callbacks, as a page in use would.
struct Kept<'a, 's>(&'a Device<'s>);

impl<'a, 's> Kept<'a, 's> {
    fn new(device: &'a Device<'s>) -> Result<Kept<'a, 's>, AllocError> {
        device.admit(device.entry.seats().of_this_thread(), 1)?;
        Ok(Kept(device))
    }
}

impl Drop for Kept<'_, '_> {
    fn drop(&mut self) {
        self.0.dismiss(self.0.entry.seats().of_this_thread(), 1);
    }
}
