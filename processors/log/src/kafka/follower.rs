//! Following the end of a partition: the broker pushes, readers wait on a watch and nobody polls.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use omium_schemas::{Offset, Partition};
use rdkafka::Message;
use rdkafka::consumer::StreamConsumer;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::KafkaOptions;
use super::client::{consumer, is_final, unsigned};
use crate::{Entry, LogError};

/// How much of the end is kept for readers, so that following costs one fetch and not two.
const KEPT: usize = 2 * 1024 * 1024;

/// One partition's end.
pub(super) struct Follower {
    recent: Mutex<Recent>,
    /// The tail as others see it: everything before it is durable, though it may still be on its way to us. Dropped
    /// when the partition cannot be followed any more, which is how all who wait on it learn of that.
    announced: Mutex<Option<watch::Sender<Offset>>>,
    /// The offset that arrives next; nothing when none will any more.
    arrived: watch::Sender<Option<Offset>>,
    task: Mutex<Option<JoinHandle<()>>>,
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
        let follower = Arc::new(Follower {
            recent: Mutex::new(Recent::from(end)),
            announced: Mutex::new(Some(watch::Sender::new(end))),
            arrived: watch::Sender::new(Some(end)),
            task: Mutex::default(),
        });
        let weak = Arc::downgrade(&follower);
        let task = runtime.spawn(async move {
            let mut expected = end;
            loop {
                let received = next(&consumer, expected).await;
                let Some(follower) = weak.upgrade() else { return };
                match received {
                    Ok(entry) => {
                        expected = entry.offset.next();
                        follower.keep(entry);
                    }
                    Err(why) => {
                        tracing::error!(partition = partition.0, %why, "the log's partition cannot be followed; it stops");
                        return follower.end();
                    }
                }
            }
        });
        *locked(&follower.task) = Some(task);
        Ok(follower)
    }

    /// Moves as records become durable; closed when the partition cannot be followed any more.
    pub(super) fn tail(&self) -> watch::Receiver<Offset> {
        match locked(&self.announced).as_ref() {
            Some(announced) => announced.subscribe(),
            // Its sender is gone at once: the caller finds a tail that is closed.
            None => watch::channel(Offset(0)).1,
        }
    }

    /// Whether it still follows.
    pub(super) fn is_alive(&self) -> bool {
        self.arrived.borrow().is_some()
    }

    /// Everything before `tail` is durable.
    pub(super) fn announce(&self, tail: Offset) {
        if let Some(announced) = locked(&self.announced).as_ref() {
            announced.send_if_modified(|known| {
                let moves = tail > *known;
                *known = tail.max(*known);
                moves
            });
        }
    }

    /// Whether it can answer a read from `from`: older records, and what lies behind the tail, only the broker knows.
    pub(super) fn covers(&self, from: Offset) -> bool {
        let announced = locked(&self.announced).as_ref().map(|announced| *announced.borrow());
        announced.is_some_and(|tail| from <= tail) && locked(&self.recent).first <= from
    }

    /// Records from `from` on, about `bytes` of them; none at the tail. Waits for what is durable but not here yet.
    pub(super) async fn read(
        &self,
        from: Offset,
        bytes: usize,
        patience: Duration,
    ) -> Result<Vec<Entry>, LogError> {
        if locked(&self.announced).as_ref().is_none_or(|announced| *announced.borrow() == from) {
            return Ok(Vec::new());
        }
        let mut arrived = self.arrived.subscribe();
        let here = arrived.wait_for(|next| next.is_none_or(|next| next > from));
        let broken = |why: String| LogError::Broker { doing: "reading", why };
        match timeout(patience, here).await {
            Ok(Ok(next)) if next.is_some() => {}
            Ok(_) => return Err(broken("the partition cannot be followed any more".into())),
            Err(_) => {
                return Err(broken(format!(
                    "the record at offset {from} did not arrive within {patience:?}"
                )));
            }
        }
        // Dropped again while we waited: the caller asks anew and is answered by the broker.
        Ok(locked(&self.recent).since(from, bytes).unwrap_or_default())
    }

    fn keep(&self, entry: Entry) {
        let after = entry.offset.next();
        // First kept, then announced: who is woken finds the record.
        locked(&self.recent).push(entry);
        self.arrived.send_replace(Some(after));
        self.announce(after);
    }

    fn end(&self) {
        self.arrived.send_replace(None);
        locked(&self.announced).take();
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if let Some(task) = locked(&self.task).take() {
            task.abort();
        }
    }
}

/// The last records, without a gap.
struct Recent {
    /// The offset of the first that is kept, or of the next to come.
    first: Offset,
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl Recent {
    fn from(first: Offset) -> Self {
        Recent { first, entries: VecDeque::new(), bytes: 0 }
    }

    fn push(&mut self, entry: Entry) {
        self.bytes += entry.bytes.len();
        self.entries.push_back(entry);
        while self.bytes > KEPT && self.entries.len() > 1 {
            if let Some(oldest) = self.entries.pop_front() {
                self.bytes -= oldest.bytes.len();
                self.first = oldest.offset.next();
            }
        }
    }

    fn since(&self, from: Offset, bytes: usize) -> Option<Vec<Entry>> {
        let skip = usize::try_from(from.0.checked_sub(self.first.0)?).ok()?;
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

/// Nothing that holds these locks can panic half-way through a change.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
