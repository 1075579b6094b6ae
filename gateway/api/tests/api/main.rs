//! The API from outside, before a small engine in memory.
#![allow(clippy::unwrap_used, missing_docs, reason = "a failed test may panic")]

mod board;
mod bounds;
mod checkpoints;
mod client;
mod conformance;
#[path = "../conforming/mod.rs"]
mod conforming;
mod document;
mod engine;
mod follow;
mod reference;
mod routes;
mod wait;
mod workers;
