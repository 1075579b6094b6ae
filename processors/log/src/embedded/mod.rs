//! The log on disk: one journal for all partitions, one thread that writes it.

mod inspect;
mod journal;
mod layout;
mod open;
mod prepare;
mod reader;
mod recent;
mod repair;
mod reserve;
mod scan;
mod seals;
mod segment;
mod survey;
mod thread;
mod trim;
mod verify;
mod watermark;

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;

use omium_schemas::{Offset, Partition};
use tokio::sync::watch;

use crate::contract::{Appender, Entry, Log, LogError, Source, Waiting};
use crate::disk::{Disk, RealDisk};

pub use inspect::{Inspected, SegmentSeen, SegmentState, inspect};
pub use journal::{Claim, Cut, Journal, JournalOptions, Opened};
pub use prepare::{Preparation, Prepared};
pub use repair::{Repair, Repaired, repair};
use thread::{Shared, Worker};
pub use verify::{Problem, Verified, Visit, verify, verify_and_read};

/// The code that the process ends with when the disk failed: nobody knows what it holds, only opening the log tells.
pub const EXIT_DISK_FAILED: i32 = 74;

/// What is called when a write or a sync failed, on the journal's thread. It should end the process.
pub type OnFailure = Arc<dyn Fn(&LogError) + Send + Sync>;

/// How an embedded log is opened.
#[derive(Clone)]
pub struct EmbeddedOptions {
    /// Directory, partitions, claims and sizes.
    pub journal: JournalOptions,
    /// What happens when a write or a sync failed. By default the process ends with [`EXIT_DISK_FAILED`].
    pub on_failure: OnFailure,
}

impl EmbeddedOptions {
    /// The log in this directory, with its usual sizes.
    pub fn new(root: impl Into<PathBuf>, partitions: u16) -> Result<EmbeddedOptions, LogError> {
        let mut id = [0; 16];
        File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut id)).map_err(|error| {
            LogError::Io { doing: "reading", place: "/dev/urandom".into(), why: error.to_string() }
        })?;
        let journal = JournalOptions::new(root, partitions, id);
        Ok(EmbeddedOptions { journal, on_failure: Arc::new(end_process) })
    }
}

fn end_process(error: &LogError) {
    tracing::error!(%error, "the disk failed; what was not acknowledged may be lost, so this process ends here");
    eprintln!("omium: {error}; ending, since only opening the log again tells what the disk holds");
    std::process::exit(EXIT_DISK_FAILED);
}

/// The log on disk.
pub struct EmbeddedLog<D: Disk = RealDisk> {
    shared: Arc<Shared<D>>,
    opened: Opened,
    worker: Option<Worker>,
}

impl EmbeddedLog {
    /// Opens the log in a directory, or makes one where the directory is missing or empty.
    pub fn open(options: EmbeddedOptions) -> Result<EmbeddedLog, LogError> {
        EmbeddedLog::open_on(RealDisk, options)
    }
}

impl<D: Disk> EmbeddedLog<D> {
    /// Opens a log on any disk.
    pub fn open_on(disk: D, options: EmbeddedOptions) -> Result<EmbeddedLog<D>, LogError> {
        let journal = Journal::open(disk, options.journal)?;
        let opened = journal.opened().clone();
        let (shared, worker) = thread::start(journal, options.on_failure)?;
        Ok(EmbeddedLog { shared, opened, worker: Some(worker) })
    }

    /// What opening found.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// Writes what is open, and marks that the log ended well, so that the next opening is quick. Dropping the log does
    /// the same, and says nothing of failures.
    pub fn close(mut self) -> Result<(), LogError> {
        self.worker.take().map_or(Ok(()), Worker::stop)
    }
}

impl<D: Disk> Drop for EmbeddedLog<D> {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.worker.take().map(Worker::stop) {
            tracing::warn!(%error, "the log was not closed well; the next opening copies its last segment");
        }
    }
}

impl<D: Disk> Log for EmbeddedLog<D> {
    fn partitions(&self) -> u16 {
        self.shared.slots.partitions()
    }

    fn attach(&self, partition: Partition, source: Arc<dyn Source>) -> Result<Box<dyn Appender>, LogError> {
        let index = self.shared.reader.known(partition)?;
        self.shared.slots.attach(index, source)
    }

    fn read(
        &self,
        partition: Partition,
        from: Offset,
        bytes: usize,
    ) -> Waiting<'_, Result<Vec<Entry>, LogError>> {
        let (shared, reader) = (self.shared.clone(), self.shared.reader.clone());
        Box::pin(async move {
            if from == reader.tail(partition)? {
                return Ok(Vec::new());
            }
            if from >= reader.start(partition)?
                && let Some(entries) = shared.recent[usize::from(partition.0)].read(from, bytes)
            {
                return Ok(entries);
            }
            blocking(move || reader.read(partition, from, bytes)).await
        })
    }

    fn tail(&self, partition: Partition) -> Result<watch::Receiver<Offset>, LogError> {
        let index = self.shared.reader.known(partition)?;
        Ok(self.shared.tails[index].subscribe())
    }

    fn start(&self, partition: Partition) -> Result<Offset, LogError> {
        self.shared.reader.start(partition)
    }

    fn survives_failure(&self) -> bool {
        false
    }

    fn trim(&self, partition: Partition, before: Offset) -> Waiting<'_, Result<(), LogError>> {
        let shared = self.shared.clone();
        Box::pin(blocking(move || shared.trim(partition, before)))
    }
}

/// Disk reads block, so they run where blocking is allowed.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, LogError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(LogError::Closed))
}
