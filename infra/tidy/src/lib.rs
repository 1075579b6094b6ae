//! House rules as tests: the arrows between crates, pure crates, file sizes, the fixed top level, words that may not appear.
//!
//! Each rule is a function from what it looks at to the list of its violations, so that a test can plant one.

pub mod arrows;
pub mod layout;
pub mod metadata;
pub mod words;

pub use metadata::{Graph, Package};
