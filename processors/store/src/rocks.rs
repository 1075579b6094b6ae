//! RocksDB without a write-ahead log: the log that matters is ours, and the state can be folded from it again.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, DB, DBCompactionStyle, DBCompressionType, Direction,
    ErrorKind, IteratorMode, Options, PrefixRange, ReadOptions, UniversalCompactOptions, WriteBatch,
    WriteOptions,
};
use rocksdb::{WriteBufferManager, properties};

use crate::waiting::Waiting;
use crate::{Batch, Change, Row, Store, StoreError};

/// A file in the store's folder that says how it was found damaged.
const MARK: &str = "DAMAGED";
/// More of it is not read.
const LONGEST: u64 = 4096;

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
    inner: RwLock<Inner>,
    place: PathBuf,
    settings: Settings,
}

enum Inner {
    Open(DB),
    /// There was no room to open it for writing.
    Waiting(Waiting),
}

impl RocksStore {
    /// Opens the store in this directory, and makes it where it is missing. All of it can be folded from the log again,
    /// so one that is damaged is moved aside, and an empty one takes its place. Where there is no room to open it, it
    /// is read as it is, and what is written stays in memory, up to [`Settings::write_bytes`], until there is room.
    pub fn open(place: &Path, settings: Settings) -> Result<RocksStore, StoreError> {
        let inner = match DB::open(&options(settings), place) {
            Ok(db) => match mark(place) {
                None => Inner::Open(db),
                Some(why) => {
                    drop(db);
                    Inner::Open(renew(place, settings, &why)?)
                }
            },
            Err(error) if is_full(&error) => {
                // Nothing can be read where there is none yet.
                let Ok(db) = DB::open_for_read_only(&options(settings), place, false) else {
                    return Err(failed("opening", place, error));
                };
                tracing::error!(%error, place = %place.display(), "there is no room to open the store; it is only read until there is");
                Inner::Waiting(Waiting::new(db, settings.write_bytes, error.into_string()))
            }
            Err(error) if is_damaged(&error) => Inner::Open(renew(place, settings, error.as_ref())?),
            Err(error) => return Err(failed("opening", place, error)),
        };
        Ok(RocksStore { inner: RwLock::new(inner), place: place.to_owned(), settings })
    }

    /// Copies the store as it is now to a new directory: for backups and for standbys that start warm. Files are
    /// linked where the file system can.
    pub fn checkpoint(&self, to: &Path) -> Result<(), StoreError> {
        let inner = self.writable()?;
        Checkpoint::new(inner.db())
            .and_then(|checkpoint| checkpoint.create_checkpoint(to))
            .map_err(|error| self.failed("copying", error))
    }

    /// The memory that it uses now, in bytes: what is unflushed, and the cache.
    pub fn memory(&self) -> u64 {
        let inner = self.inner();
        let read = |name| inner.db().property_int_value(name).ok().flatten().unwrap_or(0);
        read(properties::SIZE_ALL_MEM_TABLES) + read(properties::BLOCK_CACHE_USAGE)
    }

    /// Whether the store in this directory was found damaged, so that it is made anew when it is opened next.
    pub fn is_marked(place: &Path) -> bool {
        mark(place).is_some()
    }

    /// What was damaged behind what opening reads is only met by who reads it. What rests on it cannot be mended beneath
    /// those who have it open, so the next opening is told.
    fn failed(&self, doing: &'static str, error: rocksdb::Error) -> StoreError {
        if error.kind() != ErrorKind::Corruption {
            return failed(doing, &self.place, error);
        }
        let (place, why) = (self.place.clone(), error.into_string());
        if let Err(error) = std::fs::write(place.join(MARK), &why) {
            tracing::error!(%error, "{} is damaged, and could not be marked; delete it before the next start", place.display());
        }
        StoreError::Damaged { doing, place, why }
    }

    fn inner(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store as one that can be written, which is tried again here where there was no room for it.
    fn writable(&self) -> Result<RwLockReadGuard<'_, Inner>, StoreError> {
        if matches!(&*self.inner(), Inner::Waiting(_)) {
            let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
            if let Inner::Waiting(waiting) = &mut *inner {
                if !waiting.is_due() {
                    return Err(self.full("opening", waiting));
                }
                let opened = DB::open(&options(self.settings), &self.place)
                    .and_then(|db| waiting.move_to(&db).map(|()| db));
                *inner = Inner::Open(opened.map_err(|error| {
                    waiting.tried(error.as_ref().to_owned());
                    self.failed("opening", error)
                })?);
                tracing::info!(place = %self.place.display(), "there is room for the store again");
            }
        }
        Ok(self.inner())
    }

    fn full(&self, doing: &'static str, waiting: &Waiting) -> StoreError {
        StoreError::Full { doing, place: self.place.clone(), why: waiting.why().to_owned() }
    }
}

impl Inner {
    fn db(&self) -> &DB {
        let (Inner::Open(db) | Inner::Waiting(Waiting { db, .. })) = self;
        db
    }
}

fn is_full(error: &rocksdb::Error) -> bool {
    let text = error.as_ref();
    ["No space left", "Disk quota exceeded", "File too large"].iter().any(|full| text.contains(full))
}

/// Whether the files are not what a store has written: what they say is no use to anybody. A disk that fails, a folder
/// that may not be read and one that another process has are something else.
fn is_damaged(error: &rocksdb::Error) -> bool {
    match error.kind() {
        ErrorKind::Corruption | ErrorKind::InvalidArgument | ErrorKind::NotFound => true,
        ErrorKind::IOError => error.as_ref().contains("No such file"),
        _ => false,
    }
}

/// How the store was found damaged, where it was. A mark that cannot be read is one.
fn mark(place: &Path) -> Option<String> {
    let file = match File::open(place.join(MARK)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        file => file,
    };
    let mut why = Vec::new();
    let read = file.and_then(|file| file.take(LONGEST).read_to_end(&mut why));
    Some(read.map_or_else(|error| error.to_string(), |_| String::from_utf8_lossy(&why).into_owned()))
}

/// Moves a damaged store aside, over the last one that was, and makes an empty one.
fn renew(place: &Path, settings: Settings, error: &str) -> Result<DB, StoreError> {
    let mut aside = place.as_os_str().to_owned();
    aside.push(".damaged");
    let aside = PathBuf::from(aside);
    let moved = match std::fs::remove_dir_all(&aside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => std::fs::rename(place, &aside),
    };
    moved.map_err(|why| StoreError::Failed {
        doing: "moving aside",
        place: place.to_owned(),
        why: format!("{why} (it is damaged: {error})"),
    })?;
    tracing::error!(
        error,
        "{} is damaged; it was moved to {} and is made again from the log. Check the disk, then delete that folder",
        place.display(),
        aside.display()
    );
    DB::open(&options(settings), place).map_err(|error| failed("opening", place, error))
}

fn failed(doing: &'static str, place: &Path, error: rocksdb::Error) -> StoreError {
    if is_full(&error) {
        return StoreError::Full { doing, place: place.to_owned(), why: error.into_string() };
    }
    StoreError::Failed { doing, place: place.to_owned(), why: error.into_string() }
}

/// The rows whose keys begin with `prefix`, in key order, after the key `after` where one is given.
pub(crate) fn rows<'a>(
    db: &'a DB,
    prefix: &[u8],
    after: Option<&'a [u8]>,
) -> impl Iterator<Item = Result<Row, rocksdb::Error>> + use<'a> {
    let from = IteratorMode::From(after.unwrap_or(prefix), Direction::Forward);
    // With an end in sight it does not walk through what was removed behind the last row that is asked for.
    let mut bounds = ReadOptions::default();
    bounds.set_iterate_range(PrefixRange(prefix));
    let rows = db.iterator_opt(from, bounds);
    let rows = rows.filter(move |row| !row.as_ref().is_ok_and(|(key, _)| after == Some(&**key)));
    rows.map(|row| row.map(|(key, value)| (key.into_vec(), value.into_vec())))
}

/// Writes a batch without a write-ahead log.
pub(crate) fn apply(db: &DB, batch: Batch) -> Result<(), rocksdb::Error> {
    let mut all = WriteBatch::default();
    for (key, change) in batch.changes {
        match change {
            Change::Put(value) => all.put(key, value),
            Change::Delete => all.delete(key),
            Change::TakeBack => all.single_delete(key),
        }
    }
    let mut unlogged = WriteOptions::default();
    unlogged.disable_wal(true);
    db.write_opt(all, &unlogged)
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
        let read = |error| self.failed("reading", error);
        match (&*self.inner(), keys) {
            (Inner::Waiting(waiting), _) => waiting.get(keys).map_err(read),
            (Inner::Open(db), [key]) => Ok(vec![db.get(key).map_err(read)?]),
            (Inner::Open(db), _) => db.multi_get(keys).into_iter().map(|row| row.map_err(read)).collect(),
        }
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError> {
        let found = match &*self.inner() {
            Inner::Open(db) => rows(db, prefix, after).take(limit).collect(),
            Inner::Waiting(waiting) => waiting.scan(prefix, after, limit),
        };
        found.map_err(|error| self.failed("reading", error))
    }

    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        match self.writable() {
            Ok(inner) => apply(inner.db(), batch).map_err(|error| self.failed("writing", error)),
            Err(_) => {
                let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
                match &mut *inner {
                    Inner::Open(db) => apply(db, batch).map_err(|error| self.failed("writing", error)),
                    Inner::Waiting(waiting) => {
                        if waiting.write(batch) {
                            Ok(())
                        } else {
                            Err(self.full("writing", waiting))
                        }
                    }
                }
            }
        }
    }

    fn flush(&self) -> Result<(), StoreError> {
        let inner = self.writable()?;
        let db = inner.db();
        // After a full disk it takes no writes until it has recovered by itself. A flush meanwhile would fail, queue a job
        // that sleeps for a second, and the recovery would wait for all of those; an empty write only tells.
        apply(db, Batch::default()).and_then(|()| db.flush()).map_err(|error| self.failed("flushing", error))
    }
}
