//! What is on the disk after power cuts, kills and failing disks: a real log, a real file system, a process of its own.
//!
//! The writer is this test program itself, started again. What it has printed as acknowledged must be in the log.
#![allow(clippy::unwrap_used, reason = "a test ends at its first surprise")]
#![allow(clippy::print_stdout, reason = "who runs the tests wants to see the counts")]

mod contract;
#[path = "disk_truth/cuts.rs"]
mod cuts;
#[path = "disk_truth/image.rs"]
mod image;
#[path = "disk_truth/injected.rs"]
mod injected;
#[path = "disk_truth/process.rs"]
mod process;
#[path = "disk_truth/promises.rs"]
mod promises;
#[path = "disk_truth/writer.rs"]
mod writer;
