//! The log in memory: durable as long as the process. For tests, and for programs that keep nothing.

use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use omium_schemas::{Offset, Partition};
use tokio::sync::watch;

use crate::contract::{Appender, Entry, Log, LogError, Source, Waiting};
use crate::slots::Slots;

/// The log in memory.
pub struct MemoryLog {
    slots: Arc<Slots>,
    kept: Arc<Vec<Kept>>,
    thread: Option<JoinHandle<()>>,
}

/// One partition's records.
struct Kept {
    records: RwLock<Records>,
    tail: watch::Sender<Offset>,
}

#[derive(Default)]
struct Records {
    start: Offset,
    blocks: std::collections::VecDeque<Bytes>,
}

impl Records {
    fn end(&self) -> Offset {
        Offset(self.start.0 + self.blocks.len() as u64)
    }
}

impl MemoryLog {
    /// An empty log.
    pub fn new(partitions: u16) -> Result<MemoryLog, LogError> {
        let slots = Slots::new(partitions);
        let kept = (0..partitions)
            .map(|_| Kept { records: RwLock::default(), tail: watch::Sender::new(Offset(0)) })
            .collect::<Vec<_>>();
        let kept = Arc::new(kept);
        let (of_thread, into) = (slots.clone(), kept.clone());
        let thread = thread::Builder::new()
            .name("omium-memory-log".into())
            .spawn(move || run(&of_thread, &into))
            .map_err(|error| LogError::Io {
                doing: "starting the thread",
                place: "omium-memory-log".into(),
                why: error.to_string(),
            })?;
        slots.taken_by(thread.thread());
        Ok(MemoryLog { slots, kept, thread: Some(thread) })
    }

    fn known(&self, partition: Partition) -> Result<&Kept, LogError> {
        let unknown = LogError::NoPartition { wanted: partition, partitions: self.slots.partitions() };
        self.kept.get(usize::from(partition.0)).ok_or(unknown)
    }
}

fn run(slots: &Slots, kept: &[Kept]) {
    loop {
        let mut any = false;
        for (index, kept) in kept.iter().enumerate() {
            let Some((block, taken)) = slots.take(index) else { continue };
            let offset = kept.append(block);
            kept.tail.send_replace(offset.next());
            slots.settle(taken, Ok(offset));
            any = true;
        }
        if !any && slots.is_closing() {
            return slots.end(LogError::Closed);
        }
        if !any {
            thread::park();
        }
    }
}

impl Kept {
    fn append(&self, block: Bytes) -> Offset {
        let mut records = self.records.write().unwrap_or_else(PoisonError::into_inner);
        let offset = records.end();
        records.blocks.push_back(block);
        offset
    }

    fn read(&self, partition: Partition, from: Offset, bytes: usize) -> Result<Vec<Entry>, LogError> {
        let records = self.records.read().unwrap_or_else(PoisonError::into_inner);
        let Some(skip) = from.0.checked_sub(records.start.0) else {
            return Err(LogError::Trimmed { partition, wanted: from, start: records.start });
        };
        let mut taken = 0;
        let blocks = records.blocks.iter().skip(skip as usize).take_while(|block| {
            let first = taken == 0;
            taken += block.len();
            first || taken <= bytes
        });
        let entry =
            |(n, block): (usize, &Bytes)| Entry { offset: Offset(from.0 + n as u64), bytes: block.clone() };
        Ok(blocks.enumerate().map(entry).collect())
    }

    fn trim(&self, before: Offset) {
        let mut records = self.records.write().unwrap_or_else(PoisonError::into_inner);
        let before = before.min(records.end());
        while records.start < before {
            records.blocks.pop_front();
            records.start = records.start.next();
        }
    }
}

impl Log for MemoryLog {
    fn partitions(&self) -> u16 {
        self.slots.partitions()
    }

    fn attach(&self, partition: Partition, source: Arc<dyn Source>) -> Result<Box<dyn Appender>, LogError> {
        self.known(partition)?;
        self.slots.attach(usize::from(partition.0), source)
    }

    fn read(
        &self,
        partition: Partition,
        from: Offset,
        bytes: usize,
    ) -> Waiting<'_, Result<Vec<Entry>, LogError>> {
        Box::pin(async move { self.known(partition)?.read(partition, from, bytes) })
    }

    fn tail(&self, partition: Partition) -> Result<watch::Receiver<Offset>, LogError> {
        Ok(self.known(partition)?.tail.subscribe())
    }

    fn start(&self, partition: Partition) -> Result<Offset, LogError> {
        let records = self.known(partition)?.records.read();
        Ok(records.unwrap_or_else(PoisonError::into_inner).start)
    }

    fn trim(&self, partition: Partition, before: Offset) -> Waiting<'_, Result<(), LogError>> {
        Box::pin(async move {
            self.known(partition)?.trim(before);
            Ok(())
        })
    }
}

impl Drop for MemoryLog {
    fn drop(&mut self) {
        self.slots.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
