//! What opening makes of a directory: torn ends, damage, full disks, other programs' files, and every flipped bit.
#![allow(clippy::unwrap_used, reason = "a test ends at its first surprise")]

mod contract;
#[path = "recovery/damage.rs"]
mod damage;
#[path = "recovery/directory.rs"]
mod directory;
#[path = "recovery/disk.rs"]
mod disk;
#[path = "recovery/failing.rs"]
mod failing;
#[path = "recovery/golden.rs"]
mod golden;
#[path = "recovery/rolling.rs"]
mod rolling;
#[path = "recovery/seals.rs"]
mod seals;
#[path = "recovery/tail.rs"]
mod tail;
#[path = "recovery/tools.rs"]
mod tools;
