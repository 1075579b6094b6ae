//! The ordered log: memory, embedded (disk) and Kafka under one contract, and the blob store.

pub mod contract;
pub mod kafka;

pub use contract::{Appender, Entry, Log, LogError, Source};
pub use kafka::{KafkaLog, KafkaOptions};
