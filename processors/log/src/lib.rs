//! The ordered log: memory, embedded (disk) and Kafka under one contract, and the blob store.

pub mod audit;
pub mod blobs;
pub mod contract;
pub mod disk;
pub mod embedded;
pub mod kafka;
pub mod memory;
pub mod registry;
mod slots;

pub use blobs::{BlobDirectory, BlobError, Blobs};
pub use contract::{Appender, Entry, Log, LogError, Refused, Source};
pub use embedded::{EmbeddedLog, EmbeddedOptions, OnFailure};
pub use kafka::{KafkaLog, KafkaOptions, KafkaTopic, Outgoing};
pub use memory::MemoryLog;
pub use registry::{PublicRecord, Registry, RegistryError, RegistryOptions};
