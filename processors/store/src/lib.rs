//! RocksDB behind a small trait, and the same trait in memory.
