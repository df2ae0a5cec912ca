//! What a driver says of its device when it registers it: size, name, owner, callbacks. What these are is in `callbacks`.
#![forbid(unsafe_code)]

use core::fmt;

use crate::device::ops::DeviceOps;

/// An opaque value that says whose a device is: compared, never followed. Linux: `pgmap->owner`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(u64);

impl Owner {
    /// The owner `id`.
    pub const fn new(id: u64) -> Owner {
        Owner(id)
    }

    /// The value it was made of.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl From<u64> for Owner {
    fn from(id: u64) -> Owner {
        Owner(id)
    }
}

/// A device about to be [registered](crate::Space::register).
///
/// ```
/// use farpage::{DeviceConfig, DeviceOps, FreedFolio, Owner, Space};
///
/// struct Zero;
/// impl DeviceOps for Zero {
///     fn folio_free(&self, folio: FreedFolio) {
///         // queue a fill of `folio.order().nr_pages()` device pages from `folio.offset()` on
///     }
/// }
///
/// let space = Space::new()?;
/// let device = space.register(DeviceConfig::new(1 << 18).name("vram0").owner(Owner::new(7)).ops(Zero))?;
/// assert_eq!(device.range().start().get() % (1 << 18), 0); // aligned to the largest order that fits
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct DeviceConfig {
    pub(crate) nr_pages: u64,
    pub(crate) name: Box<str>,
    pub(crate) owner: Owner,
    pub(crate) ops: Option<Box<dyn DeviceOps>>,
    pub(crate) is_deferred: bool,
}

impl DeviceConfig {
    /// A device of `nr_pages` pages, without name, owner (that is, owner 0) and callbacks.
    pub fn new(nr_pages: u64) -> DeviceConfig {
        DeviceConfig { nr_pages, name: Box::default(), owner: Owner::default(), ops: None, is_deferred: false }
    }

    /// What reports and error messages call it.
    #[must_use]
    pub fn name(mut self, name: &str) -> DeviceConfig {
        self.name = name.into();
        self
    }

    /// Whose it is.
    #[must_use]
    pub fn owner(mut self, owner: Owner) -> DeviceConfig {
        self.owner = owner;
        self
    }

    /// What to call when its folios are freed or divided, or when it is full. An `Arc` of the callbacks can be kept beside;
    /// what is given here is dropped by [`Device::unregister`](crate::Device::unregister), before it returns, or with the
    /// space.
    #[must_use]
    pub fn ops(mut self, ops: impl DeviceOps + 'static) -> DeviceConfig {
        self.ops = Some(Box::new(ops));
        self
    }

    /// Folios that are freed wait until the driver takes them, by
    /// [`Device::deferred_frees`](crate::Device::deferred_frees); [`DeviceOps::folio_free`] is never called then. The
    /// other callbacks are.
    #[must_use]
    pub fn deferred(mut self) -> DeviceConfig {
        self.is_deferred = true;
        self
    }
}

impl fmt::Debug for DeviceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceConfig")
            .field("nr_pages", &self.nr_pages)
            .field("name", &self.name)
            .field("owner", &self.owner)
            .field("ops", &self.ops.is_some())
            .field("is_deferred", &self.is_deferred)
            .finish()
    }
}
