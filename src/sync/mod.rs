//! The one module that knows the standard library's synchronisation from loom's.
//!
//! Its face is the narrower one of the two, so that every other file compiles unchanged in a model. There are no
//! `SeqCst` accesses to find here or elsewhere: loom treats them as `AcqRel`. What needs the order of a store before a
//! load has the pair of barriers, [`light_barrier`] and [`heavy_barrier`].

#[cfg(all(loom, feature = "loom"))]
#[path = "loom.rs"]
mod imp;
#[cfg(not(any(farpage_count, all(loom, feature = "loom"))))]
#[path = "std.rs"]
mod imp;

#[cfg(all(farpage_count, not(all(loom, feature = "loom"))))]
pub mod count;
#[cfg(all(farpage_count, not(all(loom, feature = "loom"))))]
use count as imp;

#[cfg(not(all(loom, feature = "loom")))]
mod barrier;
#[cfg(not(all(loom, feature = "loom")))]
mod cell;
#[cfg(not(all(loom, feature = "loom")))]
mod epoch;
#[cfg(all(loom, feature = "loom"))]
#[path = "epoch_model.rs"]
mod epoch;
#[cfg(not(all(loom, feature = "loom")))]
mod slots;

pub(crate) use epoch::{Epochs, Guard};
pub(crate) use imp::*;
