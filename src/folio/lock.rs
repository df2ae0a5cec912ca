//! The lock of a folio: [`FolioGuard`], which borrows a handle, and [`LockedFolio`], which owns one.
//!
//! Below: `wait`. Edges: [lock].
#![forbid(unsafe_code)]

use core::fmt;
use core::mem;
use core::ops::Deref;

use super::Folio;

/// A locked folio, for as long as a handle on it is borrowed. Unlocks when it is dropped. Linux: `folio_lock()`.
///
/// Its thread may be another than the one that locked. A guard that is forgotten ([`mem::forget`]) leaves the folio locked
/// until it is freed: who waits by [`Folio::lock`] then waits for ever, as with any mutex; who waits by
/// [`Space::wait_unlocked`](crate::Space::wait_unlocked) is woken when the folio is freed.
#[must_use = "the folio is unlocked when the guard is dropped"]
pub struct FolioGuard<'a, 's> {
    folio: &'a Folio<'s>,
}

/// A handle on a folio that its owner has locked, for what outlives a function: a transaction that locks many. Dropping it
/// unlocks the folio and puts the reference.
///
/// ```
/// use farpage::{DeviceConfig, Order, Space};
///
/// let space = Space::new()?;
/// let device = space.register(DeviceConfig::new(512))?;
/// let mut batch = Vec::new();
/// for _ in 0..3 {
///     // Inside a batch: try-lock, since two batches that wait for each other's folios never end.
///     if let Ok(locked) = device.alloc(Order::ZERO)?.try_lock_owned() {
///         batch.push(locked);
///     }
/// }
/// let folio = batch.remove(0).unlock();
/// assert!(!folio.is_locked() && batch[0].is_locked());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropping it unlocks the folio and puts its reference"]
pub struct LockedFolio<'s> {
    pub(super) folio: Folio<'s>,
}

const _: () = assert!(size_of::<Option<LockedFolio<'_>>>() == size_of::<Folio<'_>>());

impl<'s> Folio<'s> {
    /// Locks the folio, unless it is locked. One atomic operation, whatever the outcome. Linux: `folio_trylock()`.
    ///
    /// The lock is the folio's and not the handle's: whoever has a handle competes for it. It protects what its users agree
    /// on; references, leaves and lookups go on regardless.
    ///
    /// ```
    /// # use farpage::{DeviceConfig, Order, Space};
    /// # let space = Space::new()?;
    /// # let device = space.register(DeviceConfig::new(512))?;
    /// let folio = device.alloc(Order::ZERO)?;
    /// let guard = folio.try_lock().expect("nobody else knows the folio");
    /// assert!(folio.is_locked() && folio.clone().try_lock().is_none());
    /// drop(guard);
    /// assert!(!folio.is_locked());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn try_lock(&self) -> Option<FolioGuard<'_, 's>> {
        self.record().try_lock().then(|| FolioGuard { folio: self })
    }

    /// Locks the folio, and sleeps while it is locked. Linux: `folio_lock()`.
    ///
    /// As cheap as [`Folio::try_lock`] when nobody has the lock. Not fair: of those who wait, and those who come when it is
    /// unlocked, any may be next. Everybody who sleeps is woken by each unlock, so it is not for a lock that many wait for
    /// all the time. A thread that has the lock waits for itself.
    #[inline]
    pub fn lock(&self) -> FolioGuard<'_, 's> {
        self.space.waits().lock(self.record(), self.offset());
        FolioGuard { folio: self }
    }

    /// Whether anybody has the folio's lock. It may have changed when this returns.
    pub fn is_locked(&self) -> bool {
        self.record().state().is_locked()
    }

    /// [`Folio::try_lock`], with a guard that owns the handle; the handle, if the folio is locked.
    #[inline]
    pub fn try_lock_owned(self) -> Result<LockedFolio<'s>, Folio<'s>> {
        if self.record().try_lock() { Ok(LockedFolio { folio: self }) } else { Err(self) }
    }

    /// [`Folio::lock`], with a guard that owns the handle.
    #[inline]
    pub fn lock_owned(self) -> LockedFolio<'s> {
        self.space.waits().lock(self.record(), self.offset());
        LockedFolio { folio: self }
    }

    #[inline]
    fn unlock(&self) {
        self.space.waits().unlock(self.record(), self.offset());
    }
}

impl<'s> LockedFolio<'s> {
    /// Unlocks the folio, and gives the handle back.
    #[inline]
    pub fn unlock(self) -> Folio<'s> {
        let folio = Folio { space: self.folio.space, word: self.folio.word };
        // The reference goes on in `folio`.
        mem::forget(self);
        folio.unlock();
        folio
    }
}

impl Drop for FolioGuard<'_, '_> {
    #[inline]
    fn drop(&mut self) {
        self.folio.unlock();
    }
}

impl Drop for LockedFolio<'_> {
    /// The reference is put behind this, by the handle: who is woken finds the folio alive.
    #[inline]
    fn drop(&mut self) {
        self.folio.unlock();
    }
}

impl<'s> Deref for FolioGuard<'_, 's> {
    type Target = Folio<'s>;

    #[inline]
    fn deref(&self) -> &Folio<'s> {
        self.folio
    }
}

impl<'s> Deref for LockedFolio<'s> {
    type Target = Folio<'s>;

    #[inline]
    fn deref(&self) -> &Folio<'s> {
        &self.folio
    }
}

impl fmt::Debug for FolioGuard<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FolioGuard").field(self.folio).finish()
    }
}

impl fmt::Debug for LockedFolio<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LockedFolio").field(&self.folio).finish()
    }
}
