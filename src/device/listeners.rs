//! [`Listeners`]: who must know when a folio of a device ends, and what has to be done first.
//!
//! One word says that nobody must, which is all that such an end looks at.
//!
//! Below: `callbacks`, `partial`, `queue`. Above: `entry`, `ending`. Edges: [last-put].

use core::ops::Range;

use crate::device::callbacks::Callbacks;
use crate::device::ops::{DeviceOps, FreedFolio};
use crate::device::partial::GivenUpPages;
use crate::device::queue::Queue;
use crate::section_map::Place;
use crate::space::Space;
use crate::sparse::NoMemory;
use crate::sync::{AtomicU64, Ordering::Relaxed};

/// In `told`: there are callbacks, or a queue.
const DRIVER: u64 = 1;
/// In `told`: a page that was given up.
const ONE_GIVEN_UP: u64 = 2;

/// What a device does at the end of a folio beside giving its pages back.
pub(crate) struct Listeners {
    /// 0 if nothing: [`DRIVER`], and how many pages are given up.
    told: AtomicU64,
    ops: Callbacks,
    queue: Option<Queue>,
    given_up: GivenUpPages,
}

/// Whose the pages of an ended folio are now.
#[must_use = "who has the pages must give them back"]
pub(crate) enum Whose {
    /// The caller's, as before.
    Callers,
    /// The queue's, or already those of whoever took them from there.
    Queues,
}

impl Listeners {
    pub(super) fn new(is_deferred: bool) -> Listeners {
        let (told, queue) = if is_deferred { (DRIVER, Some(Queue::new())) } else { (0, None) };
        Listeners { told: AtomicU64::new(told), ops: Callbacks::new(None), queue, given_up: GivenUpPages::new() }
    }

    /// Gives the device its callbacks, before it is known to anybody.
    pub(super) fn set_ops(&mut self, ops: Option<Box<dyn DeviceOps>>) {
        self.ops = Callbacks::new(ops);
        if self.ops.is_some() {
            self.told = AtomicU64::new(DRIVER);
        }
    }

    /// The driver's callbacks.
    pub(crate) fn ops(&self) -> &Callbacks {
        &self.ops
    }

    /// Where freed folios wait for the driver, if it wants it so.
    pub(crate) fn queue(&self) -> Option<&Queue> {
        self.queue.as_ref()
    }

    /// Whether there is anything to be done at the end of a folio whose last reference the caller has put.
    #[inline]
    pub(crate) fn are_there(&self) -> bool {
        // Relaxed: whoever gave pages of the folio up had a reference, and put it before ([last-put]).
        self.told.load(Relaxed) != 0
    }

    /// Does it. Whatever the driver's callback does, a panic included, is done outside all locks.
    ///
    /// # Safety
    ///
    /// The folio's pages are counted in until this has returned; if they are the queue's by then, the queue's taker counts them
    /// out.
    pub(crate) unsafe fn folio_ended(&self, space: &Space, place: Place, private: u64) -> Whose {
        let head = place.head.get();
        self.forget_given_up(head..head + place.order.nr_pages());
        if let Some(queue) = &self.queue {
            queue.push(space.sections(), place);
            return Whose::Queues;
        }
        let freed = FreedFolio { offset: place.head, order: place.order, private };
        // SAFETY: By the caller's word.
        unsafe { self.ops.with(|ops| ops.folio_free(freed)) };
        Whose::Callers
    }

    /// Notes pages of a folio of which the caller has a reference. How many of them were not noted before.
    pub(crate) fn give_up(&self, pages: Range<u64>) -> Result<u64, NoMemory> {
        let nr_pages = self.given_up.note(pages)?;
        // Relaxed: see `are_there`.
        self.told.fetch_add(nr_pages * ONE_GIVEN_UP, Relaxed);
        Ok(nr_pages)
    }

    /// How many of `pages`, of a folio of which the caller has a reference, are given up.
    pub(crate) fn given_up_in(&self, pages: Range<u64>) -> u64 {
        if self.nr_given_up() == 0 { 0 } else { self.given_up.count(pages) }
    }

    /// How many pages are given up, in all of the device.
    pub(crate) fn nr_given_up(&self) -> u64 {
        // Relaxed: as in `are_there`.
        self.told.load(Relaxed) / ONE_GIVEN_UP
    }

    /// The folio of `pages` has ended: the next one there has given nothing up.
    fn forget_given_up(&self, pages: Range<u64>) {
        if self.nr_given_up() > 0 {
            let nr_pages = self.given_up.forget(pages);
            self.told.fetch_sub(nr_pages * ONE_GIVEN_UP, Relaxed);
        }
    }
}
