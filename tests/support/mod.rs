//! What `tests/oracle.rs` and the fuzz target `ops` share: random operations, an obviously right model, and the
//! comparison of the two. Only the public interface of `farpage` is used.

pub(crate) mod model;
pub(crate) mod ops;
pub(crate) mod oracle;
