//! Address spaces over the folios: a page table in software, faults, migration, and what a device sees of them.
//!
//! Every place in the kernel series where a device offset meets core mm has its counterpart here. A leaf says by its kind
//! whether it names a page of the host or of a device; walks take folios; nobody passes a bare number that may be either.
//!
//! # Parts, from the bottom
//!
//! | file | its one noun |
//! |---|---|
//! | `address` | `Address`, `AddressRange`: bytes and whole pages of an address space |
//! | `entry`, `table`, `page_table` | the tree of tables: words, a lock for each table, reading without it |
//! | `vma`, `object` | what is mapped where; pages that several mappings share |
//! | `host` | `HostMemory`, the bytes of host pages, whoever has them; `HeapMemory`, simulated ones |
//! | `home`, `pages`, `walk`, `rmap` | where a folio was first mapped; what a leaf owns; all mappings of a folio |
//! | `machine` | `Machine`: what address spaces share |
//! | `inner`, `gather` | one address space: its locks, zapping, splitting huge leaves; leaves whose references are to go |
//! | `address_space`, `fork`, `remap`, `advise` | what programs do to mappings |
//! | `fault`, `fill`, `access`, `driver` | what CPUs do; who brings pages home |
//! | `migrate/` | the transaction that moves pages |
//! | `notifier`, `range_fault`, `exclusive` | what devices see: sequence numbers, range snapshots, pages for themselves |
//! | `dump`, `check` | what people and tests see |
//!
//! # Decisions
//!
//! **Every leaf that names a page owns one reference and one map of its folio, migration entries included** (the zero page
//! aside). So the leaves in all tables are exactly the maps of all folios, at any moment, which [`Machine::validate`]
//! recounts; putting a migration entry in is one store and no count; and the pin check is "references that are neither
//! maps nor ours".
//!
//! **Host pages are folios too**, of a space whose offsets are page frame numbers. Allocation, counts, locks, waiting and
//! validation are the same code; a device whose pages the host can map is another device of that space. A leaf of a host page
//! holds the bare number, and its folio is found by it under the table's lock.
//!
//! **Tables are type-stable** and belong to their address space: one that is taken out of the tree is used again in it, and its memory
//! goes with the address space. So reading a leaf needs no lock, no epoch and no count, only a second look at the word
//! above (see `page_table`, with the proof). Tables of the last level leave the tree when they are empty.
//!
//! **Locks** are listed in `inner`, in their order. What waits for a folio's lock sleeps, without a reference, and with no lock of the
//! address space held.
//!
//! **Drivers** are called under no table's lock: leaves that are taken out wait in a `Gather` for the lock to go.
//!
//! **Finding a folio's mappings** needs one word a folio, beside the driver's own: where it was first mapped. Mappings keep that
//! index wherever they are moved to, as `vm_pgoff` does.
//!
//! # What is not here
//!
//! Swap (a leaf of a table is never a swap slot), reclaim by pressure, hugetlb, NUMA, and memory of the process itself: that comes in by [`HostMemory`], and [`Interval`] tells when a
//! page of it has to go. The package `farpage-region` has both, through userfaultfd (`RealMemory`, `Window`).
#![forbid(unsafe_code)]

mod access;
mod address;
mod address_space;
mod advise;
mod check;
mod driver;
mod dump;
mod entry;
mod error;
mod exclusive;
mod fault;
mod fill;
mod fork;
mod gather;
mod guard;
mod home;
mod host;
mod inner;
mod lock;
mod machine;
mod migrate;
#[cfg(all(loom, feature = "loom"))]
#[doc(hidden)]
pub mod model;
mod named;
mod notifier;
mod object;
mod page_table;
mod pages;
mod range_fault;
mod remap;
mod rmap;
mod table;
mod vma;
mod walk;

pub use address::{Address, AddressRange, PAGE_BYTES, PAGE_SHIFT};
pub use address_space::AddressSpace;
pub use check::MachineViolation;
pub use driver::{DeviceDriver, DeviceFault};
pub use dump::{Dump, PageSnapshot};
pub use error::{
    AccessError, DestinationError, DriverError, ExclusiveError, FaultError, MachineError, RangeError, SetupError,
    VmaError,
};
pub use exclusive::ExclusivePage;
pub use host::{Frame, HeapMemory, HostMemory};
pub use machine::Machine;
pub use migrate::{Destination, MigrateBatch, MigrateParts, MigrateRequest, Migration};
pub use notifier::{Interval, IntervalOps, Invalidation, InvalidationKind, SequenceNumber};
pub use object::Object;
pub use range_fault::RangeFault;
pub use rmap::{AnyFolio, FolioMapping};
pub use vma::{Backing, Mapping, Protection};
