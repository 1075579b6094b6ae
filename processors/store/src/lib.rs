//! RocksDB behind a small trait, and the same trait in memory.
//!
//! State is a cache of the log: a store may forget what was not flushed, but never half of a batch, and never a batch
//! while it keeps a later one.

mod batch;
mod error;
mod memory;
mod rocks;
mod waiting;

pub use batch::{Batch, Change, Row};
pub use error::StoreError;
pub use memory::MemoryStore;
pub use rocks::{RocksStore, Settings};

/// A place for bytes by key, in key order.
pub trait Store: Send + Sync {
    /// The values of these keys, in their order.
    fn get(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, StoreError>;

    /// Up to `limit` rows whose key begins with `prefix`, in key order, after the key `after` where one is given.
    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError>;

    /// Writes a batch: all of it or nothing, and never before an earlier one.
    fn write(&self, batch: Batch) -> Result<(), StoreError>;

    /// Returns when all that was written before is on disk.
    fn flush(&self) -> Result<(), StoreError>;
}
