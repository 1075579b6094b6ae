//! The traits every processor implements, and their given/when/then test kit. Pure: no clock, no disk, no network.

mod context;
mod due;
mod refusal;
mod suite;
#[cfg(feature = "testkit")]
pub mod testkit;

pub use context::{Context, Recorded};
pub use due::{Due, Effect};
pub use refusal::{Refusal, Why};
pub use suite::{Keep, Processor, Processors};
