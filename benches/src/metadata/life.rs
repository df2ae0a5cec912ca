//! Metadata that is populated, used again, given back and populated again.

#![forbid(unsafe_code)]

use std::time::Instant;

use farpage::{Access, Device, DeviceConfig, Folio, MetadataPages, Order, Space};

use crate::plain::PageAdvice;

/// A step of a space's life; all pages of its device are allocated or freed in each, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// All pages are allocated in metadata that was never there.
    First,
    /// All pages are allocated where the metadata is: the yardstick of the other allocations.
    Again,
    /// All pages are allocated in metadata that was given back: with the generations that were remembered.
    AfterTrim,
    /// All pages are freed one by one, and the metadata kept: the yardstick of the other frees.
    Freed,
    /// All pages are freed one by one, and the metadata goes by itself.
    FreedAndGone,
    /// [`Space::trim`] with nothing alive.
    Trim,
}

impl Step {
    /// All of them, in the order of the table.
    pub const ALL: [Step; 6] = [Step::First, Step::Again, Step::AfterTrim, Step::Freed, Step::FreedAndGone, Step::Trim];

    /// As it stands in the table.
    pub fn name(self) -> &'static str {
        match self {
            Step::First => "allocated, never populated",
            Step::Again => "allocated, populated",
            Step::AfterTrim => "allocated, given back before",
            Step::Freed => "freed, metadata kept",
            Step::FreedAndGone => "freed, metadata given back by itself",
            Step::Trim => "trimmed",
        }
    }

    /// What it is compared with; a trim with the allocation that it makes dearer.
    pub fn yardstick(self) -> Step {
        match self {
            Step::First | Step::Again | Step::AfterTrim | Step::Trim => Step::Again,
            Step::Freed | Step::FreedAndGone => Step::Freed,
        }
    }

    /// Its place in [`Step::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }
}

/// Which pages the metadata lies in.
pub fn metadata_pages(advice: PageAdvice) -> MetadataPages {
    match advice {
        PageAdvice::Base => MetadataPages::Base,
        PageAdvice::Huge => MetadataPages::Huge,
    }
}

/// Nanoseconds a page of each step, in the order of [`Step::ALL`].
pub fn live(advice: PageAdvice, nr_pages: usize) -> [f64; Step::ALL.len()] {
    let mut nanos = [0.0; Step::ALL.len()];
    let mut timed = |step: Step, work: &mut dyn FnMut()| {
        let start = Instant::now();
        work();
        nanos[step.index()] = start.elapsed().as_nanos() as f64 / nr_pages as f64;
    };
    let with_spare = |spare| {
        let builder = Space::builder().metadata_pages(metadata_pages(advice)).spare_metadata(spare).cache_percent(0);
        builder.build().expect("address space for the metadata")
    };

    let space = with_spare(u64::MAX);
    let device = register(&space, nr_pages);
    let mut folios = Vec::with_capacity(nr_pages);
    // Once in metadata that goes at once, so that the list has its memory in all steps.
    alloc_all(&device, &mut folios);
    folios.clear();
    space.trim();

    let first = register(&space, nr_pages);
    timed(Step::First, &mut || alloc_all(&first, &mut folios));
    folios.clear();
    first.unregister().expect("nothing lives there");

    alloc_all(&device, &mut folios);
    let stale = folios.pop().expect("there are pages").into_leaf(Access::Write);
    space.unmap(stale).expect("it is mapped");
    timed(Step::Freed, &mut || folios.clear());
    timed(Step::Again, &mut || alloc_all(&device, &mut folios));
    folios.clear();
    let mut bytes = 0;
    timed(Step::Trim, &mut || bytes = space.trim());
    assert!(bytes > nr_pages as u64 * 15, "{bytes} bytes went");
    timed(Step::AfterTrim, &mut || alloc_all(&device, &mut folios));
    assert!(space.lookup(stale).is_none(), "stale is stale");
    folios.clear();
    assert_eq!((device.nr_live_pages(), space.validate()), (0, Ok(())));

    let space = with_spare(0);
    let device = register(&space, nr_pages);
    let mut folios = Vec::with_capacity(nr_pages);
    alloc_all(&device, &mut folios);
    timed(Step::FreedAndGone, &mut || folios.clear());
    assert!(space.report().metadata_trims > 0, "something went by itself");
    assert_eq!((device.nr_live_pages(), space.validate()), (0, Ok(())));
    nanos
}

fn register(space: &Space, nr_pages: usize) -> Device<'_> {
    space.register(DeviceConfig::new(nr_pages as u64)).expect("a device, and room for another")
}

fn alloc_all<'s>(device: &Device<'s>, folios: &mut Vec<Folio<'s>>) {
    device.alloc_many(Order::ZERO, device.range().nr_pages() as usize, folios).expect("free pages");
}
