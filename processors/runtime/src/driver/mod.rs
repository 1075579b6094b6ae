//! The thin driver: it feeds shells from a real log, store and clock. Partitions are shells under their locks, callers
//! are tasks, and one task per partition carries out what leaves.

mod carrier;
mod cell;
mod clock;
mod content;
mod deadline;
mod directory;
mod intact;
mod keys;
mod node;
mod opening;
mod places;
mod retake;
mod seat;
mod seen;
mod suspects;
mod telemetry;
mod trim;
mod turns;
mod watch;

pub use node::{Node, NodeParts, OpenError, PartitionStanding, Request, World, opens_execution};
pub use suspects::Working;
pub use telemetry::Telemetry;
pub use trim::TrimError;
