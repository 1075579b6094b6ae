//! The log on Kafka: one topic, one record per block, every reader the same.
//!
//! Kafka orders and replicates; it does not judge. Several processes may believe that they lead a partition and all of
//! them may append: which records count is decided by epochs and the filter, which every reader applies.

mod client;
mod ends;
mod follower;
mod open;
mod place;
mod producer;
mod public;
mod reader;
mod topic;

pub use open::{KafkaLog, KafkaOptions};
pub use public::{KafkaTopic, Outgoing};
