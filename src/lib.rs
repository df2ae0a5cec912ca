//! Memory that lives on a device, managed from user space.
//!
//! `farpage` gives a driver's userspace stack what the Linux series *Remove device private pages from physical address
//! space* gives kernel drivers: pages of device memory get **offsets in an address space of their own**, with page
//! metadata, reference counts and page-table entries, and never a host page frame number.
//!
//! - A [`Space`] is such an address space. It reserves address space for its metadata once, and uses memory only for
//!   the sections in which something was allocated.
//! - A [`Device`] is a range of offsets in it. Any thread allocates [`Folio`]s of [order](Order) 0 (a page) to 18
//!   (1 GiB) from it, without a lock.
//! - A [`SoftLeaf`] is a page-table word that owns a reference of a folio. [`Space::lookup`] leads from it to the page,
//!   without a lock, a guard or a count, close to the cost of an array index.
//!
//! # Usage
//!
//! ```
//! use farpage::{Access, DeviceConfig, Order, Space};
//!
//! let space = Space::new()?;
//! let vram = space.register(DeviceConfig::new(1 << 22).name("vram0"))?; // 16 GiB of 4 KiB pages
//!
//! // A page moves to the device: its entry in the page table becomes a leaf.
//! let folio = vram.alloc(Order::ZERO)?;
//! folio.set_private(42); // the driver's own word
//! let leaf = folio.into_leaf(Access::Write);
//!
//! // A fault: from the entry to the page. The page-table lock, held here, keeps the leaf, the leaf keeps the folio.
//! let page = space.lookup(leaf).expect("the leaf owns a reference");
//! assert_eq!((page.private(), page.refs()), (42, 1));
//!
//! // The page came home: the leaf's reference is taken and put, and the offset is free.
//! drop(space.take(leaf)?);
//! assert!(space.lookup(leaf).is_none()); // and stays so when the offset is allocated again
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Concurrency
//!
//! Everything but registration is lock-free (`lookup` is wait-free), and every type is `Send` and `Sync`. A lookup takes
//! no reference: what it returns is good as long as the caller keeps the leaf from being cleared. A caller that does not
//! takes a reference by [`PageRef::try_get`] and checks its leaf again.
//!
//! # Features
//!
//! - `serde`: `Serialize` for [`SpaceReport`], [`DeviceReport`] and [`OwnerReport`].
//!
//! The layers, the edges between threads and the life of an offset are described in `ARCHITECTURE.md`.
//!
//! # Errors
//!
//! Every operation has an error type of its own, with the numbers in it. Nothing is lost or changed by a failed call.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod class;
mod device;
mod error;
mod folio;
mod free_map;
mod geometry;
mod live;
mod mm;
#[cfg(all(loom, feature = "loom"))]
#[doc(hidden)]
pub mod model;
mod page;
mod seat;
mod section_map;
mod space;
mod sparse;
mod sync;
#[cfg(all(target_os = "linux", not(farpage_heap), not(all(loom, feature = "loom"))))]
mod vm;
mod wait;
mod words;

/// How it is built: layers, the life of an offset, edges between threads, state tables.
#[cfg(doc)]
#[doc = include_str!("../ARCHITECTURE.md")]
pub mod architecture {}

#[cfg(all(farpage_count, not(all(loom, feature = "loom"))))]
#[doc(hidden)]
pub use sync::count;

pub use device::{
    BusyBlock, Cache, DeferredFolio, DeferredFrees, Device, DeviceConfig, DeviceOps, EvictTicket, Evicted, FolioSplit,
    FreedFolio, LiveFolios, Owner, Pressure, RangeHandle, RangeRequest, SplitPart,
};
pub use error::{
    AllocError, DrainError, EvictError, GiveUpError, RegisterError, SpaceError, SplitError, SplitRangeError, TakeError,
    TooManyRefs, UnregisterError,
};
pub use folio::{Folio, FolioGuard, FreezeError, FrozenFolio, LockedFolio, MapError, PageRef, Parts, WeakFolio};
#[cfg(all(loom, feature = "loom"))]
#[doc(hidden)]
pub use mm::model as mm_model;
pub use mm::{
    AccessError, Address, AddressRange, AddressSpace, AnyFolio, Backing, Destination, DestinationError, DeviceDriver,
    DeviceFault, DriverError, Dump, ExclusiveError, ExclusivePage, FaultError, FolioMapping, Frame, HeapMemory,
    HostMemory, Interval, IntervalOps, Invalidation, InvalidationKind, Machine, MachineError, MachineViolation,
    Mapping, MigrateBatch, MigrateParts, MigrateRequest, Migration, Object, PAGE_BYTES, PAGE_SHIFT, PageSnapshot,
    Protection, RangeError, RangeFault, SequenceNumber, SetupError, VmaError,
};
pub use space::{DeviceReport, FreeRuns, MetadataPages, OwnerReport, Space, SpaceBuilder, SpaceReport, Violation};
pub use words::{
    Access, LeafKind, MigrateEntry, MigrateEntryKind, MigrationAccess, Offset, OffsetRange, Order, OrderTooLarge, Pfn,
    PteMarker, RangeEntry, RangeEntryKind, SoftLeaf, SwapSlot, Target,
};
