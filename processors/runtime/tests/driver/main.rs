//! Nodes with their real parts: logs, stores, tasks, clocks.

mod bank;
mod carrying;
mod computing;
mod content;
mod control;
mod deadline;
#[path = "../../../log/tests/recovery/disk.rs"]
mod disk;
mod failing;
mod faulty;
mod full;
mod intact;
mod limits;
mod panicking;
mod place;
mod reopening;
mod retaking;
mod window;
mod world;
