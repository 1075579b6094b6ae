//! The ordered log: memory, embedded (disk) and Kafka under one contract, and the blob store.
