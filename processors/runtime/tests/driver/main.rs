//! Nodes with their real parts: logs, stores, tasks, clocks.

mod bank;
mod carrying;
mod content;
mod control;
mod failing;
mod limits;
mod place;
mod reopening;
mod world;
