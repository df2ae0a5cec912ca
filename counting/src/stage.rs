//! [`Stage`]: what the threads of one workload share, and the counted operations on it.

use std::collections::VecDeque;
use std::sync::Mutex;

use farpage::count::{self, Counts, Random};
use farpage::{Device, DeviceConfig, Folio, Order, SoftLeaf, Space};

/// 16 GiB of 4 KiB pages.
pub const DEVICE_PAGES: u64 = 1 << 22;

/// How much is to be done, the same for every workload.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Counted operations of each thread; a workload does as many as it can without exceeding that, or one round.
    pub ops: usize,
    /// What each thread does of the same before anything is counted, in operations.
    pub warm_up: usize,
    /// Everything random follows from it.
    pub seed: u64,
    /// Accesses to atomics between two changes of thread, on average.
    pub mean_turn: usize,
}

/// See the [module](self). Its locks are never held when the turn may pass.
pub struct Stage<'s> {
    /// The space of `device`.
    pub space: &'s Space,
    /// All that a thread allocates is from here.
    pub device: Device<'s>,
    /// How many threads there are.
    pub threads: usize,
    /// How much each has to do.
    pub effort: Effort,
    /// The leaves that each thread has made, for others to look up.
    pub leaves: Mutex<Vec<Vec<SoftLeaf>>>,
    /// For each pair of threads, what the one has allocated and the other has not freed yet.
    pub parcels: Vec<Mutex<VecDeque<Folio<'s>>>>,
}

impl<'s> Stage<'s> {
    /// A new device in `space`, which is to have no other.
    ///
    /// # Panics
    ///
    /// When the device is refused.
    pub fn new(space: &'s Space, threads: usize, effort: Effort) -> Stage<'s> {
        let device = space.register(DeviceConfig::new(DEVICE_PAGES).name("vram0")).expect("an empty space has room");
        Stage {
            space,
            device,
            threads,
            effort,
            leaves: Mutex::new(vec![Vec::new(); threads]),
            parcels: (0..threads.div_ceil(2)).map(|_| Mutex::default()).collect(),
        }
    }

    /// Random numbers for `thread`: its choices, not the scheduler's.
    pub fn random(&self, thread: usize) -> Random {
        let mut seeds = Random::new(self.effort.seed);
        let seed = seeds.any();
        Random::new(seed ^ ((thread as u64 + 1) << 32))
    }

    /// Allocates, uncounted.
    ///
    /// # Panics
    ///
    /// When the device is full: no workload fills it.
    pub fn alloc(&self, order: Order) -> Folio<'s> {
        self.device.alloc(order).expect("no workload fills the device")
    }

    /// Allocates, as one operation.
    pub fn counted_alloc(&self, order: Order) -> Folio<'s> {
        count::op(|| self.alloc(order)).0
    }
}

/// Frees, as one operation.
pub fn counted_free(folio: Folio<'_>) -> Counts {
    count::op(|| drop(folio)).1
}

/// A space for `threads` threads and one device, placed so that the counts do not depend on where it lies.
///
/// # Panics
///
/// When there is no address space for it.
pub fn space(threads: usize) -> Box<Placed<Space>> {
    let space = Space::builder().max_pages(4 * DEVICE_PAGES).cores(threads).build();
    Box::new(Placed(space.expect("address space for 64 GiB of pages")))
}

/// A value at the beginning of a page of memory.
#[repr(align(4096))]
pub struct Placed<T>(pub T);
