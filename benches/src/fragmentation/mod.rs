//! Does free memory stay in one piece? Streams of mixed orders, on farpage and on a best-fit oracle.
//!
//! - [`mix`]: how often each order is asked for.
//! - [`stream`]: what one thread does: the same, whatever serves it.
//! - [`oracle`]: the sequential best fit.
//! - [`ours`]: farpage, with a check that no page is owned twice.
//! - [`table`]: shares side by side.

pub mod mix;
pub mod oracle;
pub mod ours;
pub mod stream;
pub mod table;
