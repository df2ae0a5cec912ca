//! What a driver says of its device when it registers it: size, name, owner, callbacks.
#![forbid(unsafe_code)]

use core::fmt;
use std::sync::Arc;

use crate::words::{Offset, Order};

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

/// A driver's callbacks. Linux: `struct dev_pagemap_ops`.
///
/// They run outside every internal lock, on the thread whose call caused them; they may use the device and the space,
/// take the caller's locks, and panic.
pub trait DeviceOps: Send + Sync {
    /// The last reference of a folio is gone.
    ///
    /// Called exactly once a folio. No lookup finds the folio any more, and nobody else owns its offsets until this
    /// returns; then they are free, and nothing of the folio may be touched. It may allocate from the same device and
    /// drop other folios of it. If it panics, the offsets are freed all the same, and the panic goes on to whoever
    /// dropped the reference.
    fn folio_free(&self, folio: FreedFolio) {
        let _ = folio;
    }
}

impl<T: DeviceOps + ?Sized> DeviceOps for Arc<T> {
    fn folio_free(&self, folio: FreedFolio) {
        (**self).folio_free(folio);
    }
}

impl<T: DeviceOps + ?Sized> DeviceOps for Box<T> {
    fn folio_free(&self, folio: FreedFolio) {
        (**self).folio_free(folio);
    }
}

/// What is left of a folio when its last reference is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreedFolio {
    pub(crate) offset: Offset,
    pub(crate) order: Order,
    pub(crate) private: u64,
}

impl FreedFolio {
    /// Its first page.
    pub fn offset(&self) -> Offset {
        self.offset
    }

    /// Its order.
    pub fn order(&self) -> Order {
        self.order
    }

    /// The driver's word, as last set.
    pub fn private(&self) -> u64 {
        self.private
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
}

impl DeviceConfig {
    /// A device of `nr_pages` pages, without name, owner (that is, owner 0) and callbacks.
    pub fn new(nr_pages: u64) -> DeviceConfig {
        DeviceConfig { nr_pages, name: Box::default(), owner: Owner::default(), ops: None }
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

    /// What to call when its folios are freed. An `Arc` of the callbacks can be kept beside; what is given here is dropped
    /// by [`Device::unregister`](crate::Device::unregister), before it returns, or with the space.
    #[must_use]
    pub fn ops(mut self, ops: impl DeviceOps + 'static) -> DeviceConfig {
        self.ops = Some(Box::new(ops));
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
            .finish()
    }
}
