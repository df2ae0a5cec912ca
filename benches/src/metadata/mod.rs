//! What the metadata itself costs: under base pages and under huge ones, when it comes, and when it goes.
//!
//! - [`life`]: one space from its first page to its last trim, step by step, timed and checked.
//! - [`thin`]: one page in each section, and the memory that takes.
//! - [`table`]: the figures side by side.

pub mod life;
pub mod table;
pub mod thin;
