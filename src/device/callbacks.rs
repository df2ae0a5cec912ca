//! [`Callbacks`]: a driver's callbacks, from the registration of its device to its end.
//!
//! They are reached through the pages of the device only: whoever calls one has pages counted in. When a device retires
//! nobody has, and nobody will, so they are taken out and dropped then, whatever handles and readers still know the device.
//! Edges: [drain].

use crate::device::DeviceOps;
use crate::sync::UnsafeCell;

/// The callbacks of one device, if it has any.
pub(crate) struct Callbacks {
    /// Whether there were any when the device was registered.
    any: bool,
    ops: UnsafeCell<Option<Box<dyn DeviceOps>>>,
}

// SAFETY: `DeviceOps` is `Send` and `Sync`, and the callers of the two methods below keep reading and taking apart.
unsafe impl Sync for Callbacks {}

impl Callbacks {
    pub(super) fn new(ops: Option<Box<dyn DeviceOps>>) -> Callbacks {
        Callbacks { any: ops.is_some(), ops: UnsafeCell::new(ops) }
    }

    /// Whether the device was registered with callbacks.
    #[inline]
    pub(crate) fn is_some(&self) -> bool {
        self.any
    }

    /// Lets `call` call them, if there are any.
    ///
    /// # Safety
    ///
    /// Pages of the device are counted in until this has returned: those of a folio that the caller has a reference of, or
    /// whose end it is.
    pub(crate) unsafe fn with(&self, call: impl FnOnce(&dyn DeviceOps)) {
        self.ops.with(|ops| {
            // SAFETY: Only `take` writes, and its caller knows that nothing is counted in [drain].
            if let Some(ops) = unsafe { &*ops } {
                call(&**ops);
            }
        });
    }

    /// Takes them out, to be dropped where the caller holds no lock.
    ///
    /// # Safety
    ///
    /// No page of the device is counted in, and none will be.
    pub(super) unsafe fn take(&self) -> Option<Box<dyn DeviceOps>> {
        // SAFETY: So nobody else is in `with`, or here: a device retires once.
        self.ops.with_mut(|ops| unsafe { (*ops).take() })
    }
}
