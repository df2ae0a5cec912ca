//! An address space of the library over memory of this process: its page table in software decides, and the CPU's loads and stores obey.
//!
//! | file | its one noun |
//! |---|---|
//! | `memory` | [`RealMemory`]: host pages that can be mapped |
//! | `window` | [`Window`]: addresses behind which they appear and go |
//! | `mirror` | [`View`]: a window that follows an address space |
#![deny(unsafe_op_in_unsafe_fn)]

mod memory;
mod mirror;
mod window;

pub use memory::RealMemory;
pub use mirror::View;
pub use window::{Window, WindowCounts};
