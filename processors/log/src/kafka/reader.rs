//! Catching up: reading a partition in order from some offset.

use std::time::Duration;

use omium_schemas::{Offset, Partition};
use rdkafka::consumer::StreamConsumer;
use tokio::time::timeout;

use super::KafkaOptions;
use super::client::consumer;
use super::follower::next;
use crate::{Entry, LogError};

/// A consumer that stands at one offset. Reading on from there costs no call; anything else begins a new one.
pub(super) struct Reader {
    consumer: StreamConsumer,
    next: Offset,
    until: Offset,
    patience: Duration,
}

impl Reader {
    /// A reader that stands at `from`.
    pub(super) fn new(options: &KafkaOptions, partition: Partition, from: Offset) -> Result<Self, LogError> {
        let consumer = consumer(options, partition, from.0)?;
        Ok(Reader { consumer, next: from, until: from, patience: options.timeout })
    }

    /// The offset that is read next.
    pub(super) fn next(&self) -> Offset {
        self.next
    }

    /// Up to where the partition is known to go.
    pub(super) fn until(&self) -> Offset {
        self.until
    }

    /// About `bytes` of records before `until`, at least one.
    pub(super) async fn read(&mut self, until: Offset, bytes: usize) -> Result<Vec<Entry>, LogError> {
        self.until = until;
        let mut found = Vec::new();
        let mut read = 0;
        while self.next < until && (found.is_empty() || read < bytes) {
            let entry = match timeout(self.patience, next(&self.consumer, self.next)).await {
                Ok(entry) => entry?,
                // What has been read is whole; the next call waits anew.
                Err(_) if !found.is_empty() => break,
                Err(_) => {
                    return Err(LogError::Broker {
                        doing: "reading",
                        why: format!("no record came within {:?} at offset {}", self.patience, self.next),
                    });
                }
            };
            read += entry.bytes.len();
            self.next = entry.offset.next();
            found.push(entry);
        }
        Ok(found)
    }

    /// Closes the consumer where that may take its time.
    pub(super) fn discard(self) {
        tokio::task::spawn_blocking(move || drop(self));
    }
}
