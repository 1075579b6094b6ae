//! What every log promises. One suite of tests holds memory, embedded and Kafka to it.
//!
//! A log is a set of partitions; a partition is a sequence of records (blocks and epoch records) with contiguous
//! offsets. The log itself judges nothing: which records count is the filter's business (`schemas::filter`), and each
//! reader applies it.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use omium_schemas::{Offset, Partition};
use tokio::sync::watch;

/// A boxed future, so that logs can be chosen at run time.
pub type Waiting<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where a log takes a partition's blocks from: the shell of that partition.
///
/// The log pulls. When its last write is durable it takes the block that has filled meanwhile, which costs half the
/// syncs and half the latency of waiting to be pushed. After each settled block it asks again, until there is nothing.
pub trait Source: Send + Sync {
    /// Takes the block that is open now, closed and with hash and checksum made; nothing where there is none to write, or
    /// where the source is busy: then it wakes the log when it is done. Must not wait: it runs on the log's own thread.
    /// At most one block of a partition is in flight: not called again before [`Source::settled`].
    fn take(&self) -> Option<Bytes>;

    /// Tells what became of the record taken last. After an error the attachment is dead: whether the record is in the
    /// log is unknown, and only reading the log tells. Must not block: it runs on the log's own thread.
    fn settled(&self, outcome: Result<Offset, LogError>);

    /// Tells that new work should be refused until further notice (there is no space), or, with nothing, that it is
    /// welcome again. What the source already has open is still taken while there is room. Must not block.
    fn refuse(&self, _refused: Option<Refused>) {}
}

/// Which new work a log asks its sources to refuse, and why.
#[derive(Clone, Debug)]
pub enum Refused {
    /// All but what ends something that is under way: for that the log keeps some room.
    Beginnings(LogError),
    /// All of it.
    All(LogError),
}

impl Refused {
    /// Why the log takes it not.
    pub fn why(&self) -> &LogError {
        let (Refused::Beginnings(why) | Refused::All(why)) = self;
        why
    }
}

/// The handle by which a source says that there is something to take. Dropping it detaches the source.
pub trait Appender: Send + Sync {
    /// There is something to take. Cheap; may be called from any thread, any number of times.
    fn wake(&self);
}

/// One record as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands in this partition of this log.
    pub offset: Offset,
    /// Its bytes, as they were appended.
    pub bytes: Bytes,
}

/// An ordered log of partitions.
pub trait Log: Send + Sync {
    /// How many partitions it has; fixed when it was made.
    fn partitions(&self) -> u16;

    /// Makes `source` the one that this partition's records are taken from. An older source of the same partition is
    /// detached and hears nothing more.
    fn attach(&self, partition: Partition, source: Arc<dyn Source>) -> Result<Box<dyn Appender>, LogError>;

    /// Reads durable records from `from` on, at least one if there is one, and about `bytes` of them. Empty at the
    /// tail. Below [`Log::start`] it fails with [`LogError::Trimmed`].
    fn read(
        &self,
        partition: Partition,
        from: Offset,
        bytes: usize,
    ) -> Waiting<'_, Result<Vec<Entry>, LogError>>;

    /// The offset that the next record will have; moves as records become durable. Followers wait on it: no polling.
    fn tail(&self, partition: Partition) -> Result<watch::Receiver<Offset>, LogError>;

    /// The first offset that is still there.
    fn start(&self, partition: Partition) -> Result<Offset, LogError>;

    /// Whether what it says can be trusted after an append has failed, so that a leader may throw its memory away and
    /// learn from it what it holds. A disk cannot: what the kernel shows after a failed write may never reach the device.
    fn survives_failure(&self) -> bool {
        true
    }

    /// Lets go of the records before `before`. The log may keep more than it must.
    fn trim(&self, partition: Partition, before: Offset) -> Waiting<'_, Result<(), LogError>>;
}

/// Why a log cannot do what it was asked to.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// There is no such partition.
    #[error("partition {wanted} does not exist; this log has {partitions}")]
    NoPartition {
        /// The one asked for.
        wanted: Partition,
        /// How many there are.
        partitions: u16,
    },
    /// The number of partitions is fixed when a log is made.
    #[error(
        "{place} has {found} partitions, not {wanted}; the number is fixed when a log is made, so start with {found}"
    )]
    OtherPartitions {
        /// The directory or topic.
        place: String,
        /// What it has.
        found: u16,
        /// What was asked for.
        wanted: u16,
    },
    /// The records were dropped.
    #[error("offset {wanted} of partition {partition} is no longer kept; the log starts at {start}")]
    Trimmed {
        /// The partition.
        partition: Partition,
        /// The offset asked for.
        wanted: Offset,
        /// The first that is there.
        start: Offset,
    },
    /// Records that were there are gone from its end.
    #[error(
        "partition {partition} of the log ends at {end}, before {wanted}: records that were there are gone. The partition \
         stops; compare its replicas before anything is appended"
    )]
    Truncated {
        /// The partition.
        partition: Partition,
        /// The offset that is known to have been there, or to come next.
        wanted: Offset,
        /// Where it ends now.
        end: Offset,
    },
    /// Another process has it open.
    #[error(
        "{place} is in use by another omium process{holder}; stop it first, or start this one with another directory"
    )]
    InUse {
        /// The directory.
        place: PathBuf,
        /// Who, where it could be read: ` (pid 12)`.
        holder: String,
    },
    /// It is not a log of this program, or of another version of it.
    #[error("{place} is not a log that this version of omium can open: {why}")]
    Foreign {
        /// The directory, file or topic.
        place: String,
        /// What is wrong, and what to do.
        why: String,
    },
    /// What was acknowledged is damaged.
    #[error(
        "{place} is damaged at byte {at}: {why}; nothing was changed. `omium log verify` shows the extent, `omium log repair --dry-run` what could be kept"
    )]
    Damaged {
        /// The file.
        place: PathBuf,
        /// Where in it.
        at: u64,
        /// What is wrong.
        why: String,
    },
    /// Another part of the data folder has seen more of it.
    #[error(
        "the log in {place} is older than what lies beside it, or has lost its end: {why}; nothing was changed. Bring the \
         newest copy of the log back. If there is none, move the folder `state` away to go on without the records that \
         are missing"
    )]
    Older {
        /// The file.
        place: PathBuf,
        /// How that is known.
        why: String,
    },
    /// There is no room now: the disk, a quota, the table of open files or a limit on file size is full. Nothing was
    /// written and nothing is lost. Reads go on; writes resume by themselves when there is room.
    #[error("{place} takes nothing more for now ({why}); writes are refused until it does, reads go on")]
    Full {
        /// The file or directory.
        place: PathBuf,
        /// The system's own words.
        why: String,
    },
    /// What was given to be appended is not one block for this log.
    #[error("the record was not appended: {why}")]
    NotABlock {
        /// What is wrong with it.
        why: String,
    },
    /// The device or the file system failed.
    #[error("{doing} {place} failed: {why}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        place: String,
        /// The system's own words.
        why: String,
    },
    /// The broker failed or refused.
    #[error("the broker failed while {doing}: {why}")]
    Broker {
        /// What was being done.
        doing: &'static str,
        /// The client's own words.
        why: String,
    },
    /// The log is closing down.
    #[error("the log is closed")]
    Closed,
}
