//! Following the end of a partition: the broker pushes, readers wait on a watch and nobody polls.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use omium_schemas::{Offset, Partition};
use rdkafka::Message;
use rdkafka::consumer::StreamConsumer;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::KafkaOptions;
use super::client::{consumer, is_final, unsigned};
use crate::{Entry, LogError};

/// How much of the end is kept for readers, so that following costs one fetch and not two.
const KEPT: usize = 2 * 1024 * 1024;

/// One partition's end.
pub(super) struct Follower {
    recent: Mutex<Recent>,
    tail: watch::Receiver<Offset>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// The last records, without a gap.
#[derive(Default)]
struct Recent {
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl Follower {
    /// Follows the partition from `end`, the offset that its next record will have.
    pub(super) fn start(
        runtime: &Handle,
        options: &KafkaOptions,
        partition: Partition,
        end: Offset,
    ) -> Result<Arc<Self>, LogError> {
        let _inside = runtime.enter();
        let consumer = consumer(options, partition, end.0)?;
        let (moved, tail) = watch::channel(end);
        let follower = Arc::new(Follower { recent: Mutex::default(), tail, task: Mutex::default() });
        let weak = Arc::downgrade(&follower);
        let task = runtime.spawn(async move {
            let mut expected = end;
            let why = loop {
                match next(&consumer, expected).await {
                    Ok(entry) => {
                        let Some(follower) = weak.upgrade() else { return };
                        expected = entry.offset.next();
                        // First kept, then announced: who is woken finds the record.
                        follower.recent.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
                        moved.send_replace(expected);
                    }
                    Err(why) => break why,
                }
            };
            // The watch closes with this task, which is how all who wait on it learn of it.
            tracing::error!(partition = partition.0, %why, "a partition of the log cannot be followed any more; it stops");
        });
        *follower.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        Ok(follower)
    }

    /// Moves as records become durable; closed when the partition cannot be followed any more.
    pub(super) fn tail(&self) -> watch::Receiver<Offset> {
        self.tail.clone()
    }

    /// Whether it still follows.
    pub(super) fn is_alive(&self) -> bool {
        self.tail.has_changed().is_ok()
    }

    /// Records from `from` on, about `bytes` of them, where they are still in memory; an empty list where `from` is the
    /// tail; nothing where only the broker knows.
    pub(super) fn recent(&self, from: Offset, bytes: usize) -> Option<Vec<Entry>> {
        if !self.is_alive() {
            return None;
        }
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).from(from, bytes)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

impl Recent {
    fn push(&mut self, entry: Entry) {
        self.bytes += entry.bytes.len();
        self.entries.push_back(entry);
        while self.bytes > KEPT && self.entries.len() > 1 {
            if let Some(oldest) = self.entries.pop_front() {
                self.bytes -= oldest.bytes.len();
            }
        }
    }

    fn from(&self, from: Offset, bytes: usize) -> Option<Vec<Entry>> {
        let first = self.entries.front()?.offset;
        let skip = usize::try_from(from.0.checked_sub(first.0)?).ok()?;
        if skip >= self.entries.len() {
            return None;
        }
        let mut left = bytes;
        let mut found = Vec::new();
        for entry in self.entries.iter().skip(skip) {
            if !found.is_empty() && entry.bytes.len() > left {
                break;
            }
            left = left.saturating_sub(entry.bytes.len());
            found.push(entry.clone());
        }
        Some(found)
    }
}

/// The next record, which must be the one at `expected`: a topic without compaction and transactions has no gaps.
pub(super) async fn next(consumer: &StreamConsumer, expected: Offset) -> Result<Entry, LogError> {
    loop {
        match consumer.recv().await {
            Ok(message) => {
                let offset = Offset(unsigned(message.offset()));
                if offset != expected {
                    return Err(LogError::Broker {
                        doing: "reading",
                        why: format!(
                            "offset {expected} of topic {} is missing, {offset} came instead; it was compacted, trimmed \
                             below a reader, or written to by transactions, and the partition stops",
                            message.topic()
                        ),
                    });
                }
                return Ok(Entry {
                    offset,
                    bytes: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
                });
            }
            Err(error) if is_final(&error) => {
                return Err(LogError::Broker {
                    doing: "reading",
                    why: format!("at offset {expected}: {error}"),
                });
            }
            Err(error) => tracing::debug!(%error, "a passing error of the broker"),
        }
    }
}
