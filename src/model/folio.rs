//! A page with those who wait for it: its lock, and freezing. [lock], [freeze]

use core::ops::Deref;
use core::time::Duration;

use super::{Life, Page};
use crate::wait::WaitTable;
use crate::words::Offset;

/// The table of a space, for any number of [`Folio`]s.
pub struct Waits(WaitTable);

/// A [`Page`] whose waiters sleep in a table; the functions are those of `farpage::Folio`, without a handle to keep.
pub struct Folio<'w> {
    page: Page,
    head: Offset,
    waits: &'w Waits,
}

impl Waits {
    pub fn new() -> Waits {
        Waits(WaitTable::new())
    }

    /// A live folio of order 0 with `refs` references. All folios of the same `head` have the same queue.
    pub fn folio(&self, head: u64, refs: u32) -> Folio<'_> {
        let page = Page::new();
        page.init(0);
        (1..refs).for_each(|_| page.get());
        Folio { page, head: Offset::from_low_bits(head), waits: self }
    }
}

impl Deref for Folio<'_> {
    type Target = Page;

    fn deref(&self) -> &Page {
        &self.page
    }
}

impl Folio<'_> {
    pub fn try_lock(&self) -> bool {
        self.page.0.try_lock()
    }

    pub fn lock(&self) {
        self.waits.0.lock(&self.page.0, self.head);
    }

    pub fn unlock(&self) {
        self.waits.0.unlock(&self.page.0, self.head);
    }

    /// Without a reference; there is no end of time in a model.
    pub fn wait_unlocked(&self, generation: u64) -> bool {
        self.waits.0.wait_unlocked(&self.page.0, self.head, generation, Duration::MAX)
    }

    /// Wakes who waits, as whoever drops a handle does.
    pub fn put(&self) -> bool {
        self.page.0.put().is_last(|| self.waits.0.wake(self.head))
    }

    /// As `Space::unmap`: whether it was the last, or the state that refused.
    pub fn unmap_and_put(&self, generation: u64) -> Result<bool, Life> {
        let put = self.page.0.unmap_and_put(generation).map_err(Life::from)?;
        Ok(put.is_last(|| self.waits.0.wake(self.head)))
    }

    /// As `Space::lock_single`: a reference and the lock, of a page that one leaf has and nobody else.
    pub fn lock_from_leaf(&self, generation: u64) -> bool {
        let state = self.page.0.peek();
        state.generation() == generation && self.page.0.lock_from_leaf(state)
    }

    pub fn try_lock_sole(&self) -> bool {
        self.page.0.try_lock_sole()
    }

    /// As `LockedFolio::into_leaf`.
    pub fn unlock_into_leaf(&self) {
        if self.page.0.unlock_into_leaf() {
            self.waits.0.wake_waiters(&self.page.0, self.head);
        }
    }

    /// As `LockedFolio::let_go`: whether it was the last.
    pub fn let_go(&self, generation: u64) -> bool {
        match self.page.0.let_go() {
            Some(put) => put.is_last(|| ()),
            None => {
                assert_eq!(self.unmap_and_put(generation).ok(), Some(false), "the handle's is there");
                self.unlock();
                self.put()
            }
        }
    }

    /// As `divide` does with a folio that it has frozen by `freeze_sole`.
    pub fn retire_frozen(&self) {
        assert!(self.page.0.retire_frozen().is_last(|| self.waits.0.wake(self.head)));
    }
}

impl Page {
    pub fn get_mapped(&self) -> bool {
        self.0.get_mapped()
    }

    /// The state before, either way.
    pub fn try_freeze(&self, expected: u32) -> Result<Life, Life> {
        self.0.try_freeze(expected).map(Life::from).map_err(Life::from)
    }

    pub fn freeze_sole(&self) -> bool {
        self.0.freeze_sole().is_ok()
    }

    pub fn unfreeze(&self) {
        self.0.unfreeze();
    }
}

/// The most references that a folio of a model has.
pub const MAX_REFS: u32 = crate::geometry::MAX_REFS;
