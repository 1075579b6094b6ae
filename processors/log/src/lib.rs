//! The ordered log: memory, embedded (disk) and Kafka under one contract, and the blob store.

pub mod contract;

pub use contract::{Appender, Entry, Log, LogError, Source};
