//! The words that are passed around: offsets, orders, page frame numbers and leaf entries.
//!
//! Pure values: no atomics, no unsafe code, nothing of a space. All of it can be used in constants.
#![forbid(unsafe_code)]

mod leaf;
pub(crate) mod leaf_bits;
mod offset;
mod order;
mod pfn;

pub use leaf::{Access, LeafKind, MigrationAccess, SoftLeaf};
pub use offset::{Offset, OffsetRange};
pub use order::{Order, OrderTooLarge};
pub use pfn::Pfn;

pub(crate) use leaf::MAX_DIRECT_ORDER;
