//! The whole system in one thread, from a seed, with faults: whole shells, logs that misbehave, stores that forget,
//! workers that hang, clients that ask again. What must always hold is checked while it runs and when it has come to
//! rest. The same seed always gives the same run.

mod blobs;
mod broker;
mod chance;
mod checks;
mod clients;
mod counts;
mod disk;
mod erasing;
mod faults;
mod folder;
mod logs;
mod network;
mod node;
mod rest;
mod runner;
mod strangers;
mod trimming;
mod truth;
mod workers;
mod world;

pub use counts::{Counts, Fault};
pub use runner::{Report, Run, run_seed, run_seeds};
pub use truth::Violation;
