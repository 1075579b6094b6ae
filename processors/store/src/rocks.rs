//! RocksDB without a write-ahead log: the log that matters is ours, and the state can be folded from it again.

use std::path::{Path, PathBuf};

use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, DB, DBCompactionStyle, DBCompressionType, Direction,
    IteratorMode, Options, PrefixRange, ReadOptions, UniversalCompactOptions, WriteBatch, WriteOptions,
};
use rocksdb::{WriteBufferManager, properties};

use crate::{Batch, Change, Row, Store, StoreError};

/// How much memory the store may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// For blocks read from disk, indexes and filters.
    pub cache_bytes: usize,
    /// For what was written and is not flushed yet, all of it together.
    pub write_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { cache_bytes: 32 << 20, write_bytes: 32 << 20 }
    }
}

/// A store on disk.
pub struct RocksStore {
    db: DB,
    place: PathBuf,
    unlogged: WriteOptions,
}

impl RocksStore {
    /// Opens the store in this directory, and makes it where it is missing.
    pub fn open(place: &Path, settings: Settings) -> Result<RocksStore, StoreError> {
        let db = DB::open(&options(settings), place).map_err(|error| failed("opening", place, error))?;
        let mut unlogged = WriteOptions::default();
        unlogged.disable_wal(true);
        Ok(RocksStore { db, place: place.to_owned(), unlogged })
    }

    /// Copies the store as it is now to a new directory: for backups and for standbys that start warm. Files are
    /// linked where the file system can.
    pub fn checkpoint(&self, to: &Path) -> Result<(), StoreError> {
        Checkpoint::new(&self.db)
            .and_then(|checkpoint| checkpoint.create_checkpoint(to))
            .map_err(|error| failed("copying", &self.place, error))
    }

    /// The memory that it uses now, in bytes: what is unflushed, and the cache.
    pub fn memory(&self) -> u64 {
        let read = |name| self.db.property_int_value(name).ok().flatten().unwrap_or(0);
        read(properties::SIZE_ALL_MEM_TABLES) + read(properties::BLOCK_CACHE_USAGE)
    }

    fn failed(&self, doing: &'static str, error: rocksdb::Error) -> StoreError {
        failed(doing, &self.place, error)
    }
}

fn failed(doing: &'static str, place: &Path, error: rocksdb::Error) -> StoreError {
    StoreError::Failed { doing, place: place.to_owned(), why: error.into_string() }
}

fn options(settings: Settings) -> Options {
    let cache = Cache::new_lru_cache(settings.cache_bytes);
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&cache);
    table.set_cache_index_and_filter_blocks(true);
    // Most look-ups ask for idempotency keys that were never seen: the filter answers them without touching a block.
    table.set_bloom_filter(10.0, false);
    // In parts of a few kilobytes: one filter per file would be too large for a shard of the cache, and so be read and
    // checked anew by every look-up.
    table.set_partition_filters(true);
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_metadata_block_size(4096);
    table.set_pin_top_level_index_and_filter(true);
    table.set_format_version(5);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::Lz4);
    // Most rows are idempotency keys, written once. Runs of like size are merged a few times in their life; levels would
    // write all rows of a partition again with every few flushes.
    let mut universal = UniversalCompactOptions::default();
    universal.set_size_ratio(20);
    options.set_compaction_style(DBCompactionStyle::Universal);
    options.set_universal_compaction_options(&universal);
    options.set_level_zero_file_num_compaction_trigger(6);
    options.set_write_buffer_size(settings.write_bytes / 2);
    options
        .set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager(settings.write_bytes, false));
    options.set_memtable_prefix_bloom_ratio(0.1);
    options.set_memtable_whole_key_filtering(true);
    options.set_max_background_jobs(2);
    options.set_max_open_files(256);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    // The position travels in the batch of the state it belongs to, so one column family is enough to keep them together.
    options.set_atomic_flush(true);
    options
}

impl Store for RocksStore {
    fn get(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        if let [key] = keys {
            return Ok(vec![self.db.get(key).map_err(|error| self.failed("reading", error))?]);
        }
        self.db
            .multi_get(keys)
            .into_iter()
            .map(|row| row.map_err(|error| self.failed("reading", error)))
            .collect()
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError> {
        let from = IteratorMode::From(after.unwrap_or(prefix), Direction::Forward);
        // With an end in sight it does not walk through what was removed behind the last row that is asked for.
        let mut bounds = ReadOptions::default();
        bounds.set_iterate_range(PrefixRange(prefix));
        let rows = self.db.iterator_opt(from, bounds);
        let rows = rows.filter(|row| !row.as_ref().is_ok_and(|(key, _)| after == Some(&**key)));
        rows.take(limit)
            .map(|row| row.map(|(key, value)| (key.into_vec(), value.into_vec())))
            .collect::<Result<_, _>>()
            .map_err(|error| self.failed("reading", error))
    }

    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        let mut all = WriteBatch::default();
        for (key, change) in batch.changes {
            match change {
                Change::Put(value) => all.put(key, value),
                Change::Delete => all.delete(key),
                Change::TakeBack => all.single_delete(key),
            }
        }
        self.db.write_opt(all, &self.unlogged).map_err(|error| self.failed("writing", error))
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.db.flush().map_err(|error| self.failed("flushing", error))
    }
}
