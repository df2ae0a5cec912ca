//! The scenarios of `tests/hmm_scenarios.rs` in which a CPU reads, writes and faults, by their names, once more on **real** memory: the
//! software page table of an address space decides, and this process's own loads and stores, through pointers, obey it by way of
//! userfaultfd. Each asserts bytes, counts and callbacks, and ends with every count of the machine taken again.

#[path = "../../tests/mm_support/mod.rs"]
mod mm_support;

use std::io::{self, Write as _};
use std::sync::Arc;

use farpage::{AddressRange, AddressSpace, Mapping};
use farpage_region::{RealMemory, RegionError, UffdRefused, View, Window};
use mm_support::{Gpu, Kind, MEMORY_PAGES, PAGE, World, world_on};

/// A scenario on one device, of either kind.
macro_rules! scenario {
    ($(#[$doc:meta])* $name:ident, |$real:ident| $body:block) => {
        mod $name {
            #[allow(unused_imports, reason = "each scenario uses its part")]
            use super::*;

            $(#[$doc])*
            fn run($real: &crate::Real<'_, '_>) $body

            #[test]
            fn private() {
                crate::real(crate::mm_support::Kind::Private, run);
            }

            #[test]
            fn visible() {
                crate::real(crate::mm_support::Kind::Visible, run);
            }
        }
    };
}

#[path = "hmm_real/basic.rs"]
mod basic;
#[path = "hmm_real/exclusive.rs"]
mod exclusive;
#[path = "hmm_real/marks.rs"]
mod marks;
#[path = "hmm_real/migrate.rs"]
mod migrate;
#[path = "hmm_real/refused.rs"]
mod refused;
#[path = "hmm_real/threads.rs"]
mod threads;

/// A machine whose host pages are real, and a device.
pub(crate) struct Real<'w, 's> {
    pub(crate) w: &'w World<'s>,
    pub(crate) gpu: &'w Gpu<'s>,
    pub(crate) memory: &'w RealMemory,
}

/// Runs a scenario on real memory, on a device of either kind, unless this process may not serve its own faults.
fn real(kind: Kind, body: impl FnOnce(&Real<'_, '_>)) {
    let memory = Arc::new(RealMemory::new(MEMORY_PAGES).unwrap());
    match Window::new(&memory, PAGE) {
        Ok(_) => {}
        Err(RegionError::Refused(refused)) => return skipped(&refused),
        Err(error) => panic!("{error}"),
    }
    world_on(Arc::<RealMemory>::clone(&memory), |w| {
        body(&Real { w, gpu: &Gpu::new(w, kind, 1), memory: &memory });
    });
    assert_eq!(memory.nr_used().unwrap(), 0, "every page's memory went with it");
}

/// Says so past the test harness, which shows nothing of what tests that pass print.
fn skipped(refused: &UffdRefused) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let note = format!("note: {test} is skipped, no real faults here: {refused}\n");
    io::stderr().write_all(note.as_bytes()).unwrap();
}

impl<'s> Real<'_, 's> {
    pub(crate) fn window(&self, nr_bytes: u64) -> Window {
        Window::new(self.memory, nr_bytes).unwrap()
    }

    /// An address space with one mapping, as `make` has it, at the process's own addresses, which a window shows.
    pub(crate) fn mapped<T>(
        &self,
        nr_bytes: u64,
        make: impl FnOnce(AddressRange) -> Mapping<'s>,
        body: impl FnOnce(&AddressSpace<'s>, &View<'_, 's>, AddressRange) -> T,
    ) -> T {
        let (mut window, space) = (self.window(nr_bytes), self.w.space());
        let all = window.range();
        space.map(make(all)).unwrap();
        window.mirror(&space, all, 2, |view| body(&space, view, all)).unwrap()
    }

    /// The same with anonymous memory.
    pub(crate) fn anon<T>(
        &self,
        nr_bytes: u64,
        body: impl FnOnce(&AddressSpace<'s>, &View<'_, 's>, AddressRange) -> T,
    ) -> T {
        self.mapped(nr_bytes, Mapping::new, body)
    }

    /// Another address space's view of the same range.
    pub(crate) fn show<T>(
        &self,
        space: &AddressSpace<'s>,
        range: AddressRange,
        body: impl FnOnce(&View<'_, 's>) -> T,
    ) -> T {
        self.window(range.nr_bytes()).mirror(space, range, 2, body).unwrap()
    }
}

/// Loads by the CPU, word by word through a pointer.
pub(crate) fn load(view: &View<'_, '_>, at: u64, bytes: u64) -> Vec<u8> {
    // SAFETY: In bounds and aligned, by `words`; mapped while the view lives; shared words are read as such.
    words(view, at, bytes).flat_map(|word| unsafe { word.read_volatile() }.to_ne_bytes()).collect()
}

/// Stores by the CPU, word by word through a pointer.
pub(crate) fn store(view: &View<'_, '_>, at: u64, data: &[u8]) {
    for (word, bytes) in words(view, at, data.len() as u64).zip(data.chunks(4)) {
        let value = u32::from_ne_bytes(bytes.try_into().unwrap());
        // SAFETY: As in `load`; nobody else writes these words, or the scenario does not look at what comes of it.
        unsafe { word.write_volatile(value) };
    }
}

fn words(view: &View<'_, '_>, at: u64, bytes: u64) -> impl Iterator<Item = *mut u32> {
    assert!(at % 4 == 0 && bytes % 4 == 0 && at + bytes <= view.range().nr_bytes());
    let first = view.as_ptr().as_ptr();
    (at..at + bytes).step_by(4).map(move |byte| first.wrapping_add(byte as usize).cast())
}

/// `nr` pages of a range, from its page `first` on.
pub(crate) fn pages(all: AddressRange, first: u64, nr: u64) -> AddressRange {
    AddressRange::new(all.start().get() + first * PAGE, nr * PAGE).unwrap()
}
