//! The words that are passed around: offsets, orders, page frame numbers, leaf entries, and the slots of migrations and
//! range snapshots.
//!
//! Pure values: no atomics, no unsafe code, nothing of a space. All of it can be used in constants.
#![forbid(unsafe_code)]

#[cfg(doctest)]
mod apart;
mod leaf;
pub(crate) mod leaf_bits;
mod marker;
mod migrate_entry;
mod offset;
mod order;
mod pfn;
mod range_entry;
mod swap_slot;
mod target;

pub use leaf::{Access, LeafKind, MigrationAccess, SoftLeaf};
pub use marker::PteMarker;
pub use migrate_entry::{MigrateEntry, MigrateEntryKind};
pub use offset::{Offset, OffsetRange};
pub use order::{Order, OrderTooLarge};
pub use pfn::Pfn;
pub use range_entry::{RangeEntry, RangeEntryKind};
pub use swap_slot::SwapSlot;
pub use target::Target;

pub(crate) use leaf::{DeviceWord, MAX_DIRECT_ORDER};
