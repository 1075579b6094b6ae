//! What can go wrong with a store.

use std::path::PathBuf;

/// Why a store cannot do what it was asked to.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no room.
    #[error("{doing} {place} failed: {why}; free some space, nothing is lost")]
    Full {
        /// What was being done.
        doing: &'static str,
        /// The directory.
        place: PathBuf,
        /// RocksDB's own words.
        why: String,
    },
    /// Its files are not what it wrote. It is marked: the next opening makes it anew.
    #[error(
        "{doing} {place} failed: {why}; its files are damaged, and the state is a cache: when the server starts next, \
         {place} is moved aside and made again from the log. Check the disk"
    )]
    Damaged {
        /// What was being done.
        doing: &'static str,
        /// The directory.
        place: PathBuf,
        /// RocksDB's own words.
        why: String,
    },
    /// RocksDB or the file system beneath it failed.
    #[error(
        "{doing} {place} failed: {why}; the state is a cache: where its files are damaged, delete {place} and it is rebuilt from the log"
    )]
    Failed {
        /// What was being done.
        doing: &'static str,
        /// The directory.
        place: PathBuf,
        /// RocksDB's own words.
        why: String,
    },
}
