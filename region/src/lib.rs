//! Memory oversubscription on [`farpage`]: a range of this process's memory whose pages live in a
//! device, and of which only a budget is in RAM. A worked example of embedding farpage, and small
//! enough to be read in one sitting; also a library that does what it says.
//!
//! ```
//! use farpage::{Order, Space};
//! use farpage_region::{Config, Mode, run};
//!
//! let space = Space::new()?;
//! // Four MiB of memory, one of them in RAM; real page faults where this process may serve them.
//! let config = Config::new(4 << 20, 1 << 20).order(Order::ZERO).handlers(2);
//! let (sum, stats) = run(&space, &config, |region| {
//!     for at in (0..region.len()).step_by(4096) {
//!         region.write(at, &[1])?;
//!     }
//!     let mut sum = 0;
//!     for at in (0..region.len()).step_by(4096) {
//!         let mut byte = [0];
//!         region.read(at, &mut byte)?;
//!         sum += u64::from(byte[0]);
//!     }
//!     Ok::<u64, farpage_region::RegionError>(sum)
//! })?;
//! assert_eq!(sum?, 1024);
//! assert!(stats.peak_resident_pages <= 256 && stats.counters.pages_home >= 768);
//! assert_eq!(stats.live_pages_at_end, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! With [`Mode::Faults`] the region is ordinary memory ([`Region::as_mut_bytes`]), and any code
//! runs on it unchanged. With [`Mode::Software`] it is read and written through an accessor that
//! asks the page table first; nothing else differs.
//!
//! # How a page travels
//!
//! ```text
//!   thread       run          address space          driver                device memory (memfd)
//!   touches  ->  lock     ->  fault            ->  migrate_to_ram    ->  offset - first offset = page
//!   goes on  <-           <-  leaf = host page <-  UFFDIO_COPY       <-
//!
//!   clock    ->  try-lock ->  protect, migrate ->  alloc: page       ->  pwrite from the region
//!   picks                 <-  leaf = the device's page                   MADV_DONTNEED
//! ```
//!
//! The page table is an [`AddressSpace`](farpage::AddressSpace) of the library, over host memory that is the region's own pages; and the
//! **lock of the run** is what keeps the process's page table in step with it: whoever has it changes both.
//!
//! # Where to read on
//!
//! | file | what |
//! |---|---|
//! | `region` | the closure a region lives for, the accessor |
//! | `handlers` | threads that read fault events |
//! | `fault`, `evict` | a run comes home, a run goes away: the two halves of migration |
//! | `pager` | what a region is made of; its beginning and its end |
//! | `clock`, `budget` | who goes next; how many may stay |
//! | `frames`, `driver` | the region's host memory and its device, as an [`AddressSpace`](farpage::AddressSpace) sees them |
//! | `runs` | a lock a run, and the clock's mark |
//! | `mapping`, `device_memory`, `uffd` | the system calls, and all of the region's `unsafe` |
//! | `real/` | apart from the region: [`RealMemory`], [`Window`], [`View`], by which an address space of the library is over real memory |

#[cfg(not(target_os = "linux"))]
compile_error!("farpage-region needs Linux: userfaultfd(2), memfd_create(2), madvise(2)");

mod budget;
mod clock;
mod config;
mod device_memory;
mod driver;
mod error;
mod evict;
mod fault;
mod frames;
mod handlers;
mod mapping;
mod pager;
mod real;
mod region;
mod runs;
mod span;
mod stats;
mod uffd;

pub use config::{Config, MAX_RUN_ORDER, Mode, RUNS_PER_HANDLER};
pub use error::{OsError, RegionError};
pub use real::{RealMemory, View, Window, WindowCounts};
pub use region::{Monitor, Region, run};
pub use stats::{Counters, Latency, Stats};
pub use uffd::{UffdRefused, userfaultfd_available};

/// Bytes of a page, whatever this machine calls one: what an offset counts.
pub const PAGE_BYTES: u64 = 4096;
