//! farpage under a stream, with a check that no page is owned twice.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use farpage::{Device, Folio, Order};

use super::stream::Heap;

/// A mark for each page of a device: whether a folio of ours has it.
#[derive(Debug)]
pub struct Owned {
    marks: Vec<AtomicBool>,
    start: u64,
}

impl Owned {
    /// No page of `device` is owned.
    pub fn new(device: &Device<'_>) -> Self {
        let range = device.range();
        Self { marks: (0..range.nr_pages()).map(|_| AtomicBool::new(false)).collect(), start: range.start().get() }
    }

    fn take(&self, folio: &Folio<'_>) {
        for mark in self.marks_of(folio) {
            // Relaxed: a read-modify-write sees the last one, whoever made it.
            assert!(!mark.swap(true, Relaxed), "{folio:?} has a page that is owned already");
        }
    }

    fn leave(&self, folio: &Folio<'_>) {
        for mark in self.marks_of(folio) {
            assert!(mark.swap(false, Relaxed), "{folio:?} has a page that was not owned");
        }
    }

    fn marks_of(&self, folio: &Folio<'_>) -> &[AtomicBool] {
        let from = (folio.offset().get() - self.start) as usize;
        &self.marks[from..from + folio.nr_pages() as usize]
    }
}

/// A thread's way to a device.
#[derive(Clone, Copy, Debug)]
pub struct OnDevice<'a, 's> {
    /// The device.
    pub device: &'a Device<'s>,
    /// All threads' marks, when each operation is to be checked.
    pub owned: Option<&'a Owned>,
}

impl<'s> Heap for OnDevice<'_, 's> {
    type Held = Folio<'s>;

    fn alloc(&mut self, order: u8) -> Option<Folio<'s>> {
        let folio = self.device.alloc(Order::new(order).expect("a small order")).ok()?;
        if let Some(owned) = self.owned {
            assert_eq!(folio.offset().get() % folio.nr_pages(), 0, "{folio:?} is not naturally aligned");
            owned.take(&folio);
        }
        Some(folio)
    }

    fn free(&mut self, folio: Folio<'s>) {
        if let Some(owned) = self.owned {
            owned.leave(&folio);
        }
        drop(folio);
    }
}
