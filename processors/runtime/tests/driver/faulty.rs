//! A log in memory whose appends go wrong when a test says so.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use omium_log::contract::Waiting;
use omium_log::{Appender, Entry, Log, LogError, MemoryLog, Refused, Source};
use omium_schemas::block::epoch_record;
use omium_schemas::{Block, BlockNo, Epoch, Offset, Partition};
use tokio::sync::watch;

/// What goes wrong with the next appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The record is in the log, but nobody ever says so.
    Silence,
    /// The record is in the log, but its writer is told of an error.
    FailsAfter,
    /// The record is not in the log, and its writer is told of an error.
    FailsBefore,
    /// In the record's place stands that of another leader, and its writer is told of an error.
    Usurped,
}

/// The log and how many of the next appends go wrong.
pub(crate) struct FaultyLog {
    inner: MemoryLog,
    faults: Arc<Mutex<(Option<Fault>, u32)>>,
}

impl FaultyLog {
    pub(crate) fn new(partitions: u16) -> Arc<FaultyLog> {
        let inner = MemoryLog::new(partitions).expect("a thread");
        Arc::new(FaultyLog { inner, faults: Arc::default() })
    }

    pub(crate) fn next(&self, fault: Fault, times: u32) {
        *self.faults.lock().expect("no panic") = (Some(fault), times);
    }
}

/// Stands between the log and a source.
struct Between {
    source: Arc<dyn Source>,
    faults: Arc<Mutex<(Option<Fault>, u32)>>,
    taken: Mutex<Option<Fault>>,
}

impl Between {
    fn fault(&self) -> Option<Fault> {
        let mut faults = self.faults.lock().expect("no panic");
        faults.1 = faults.1.checked_sub(1)?;
        faults.0
    }
}

/// The record of a leader with a far higher epoch.
fn usurper(block: &Bytes) -> Bytes {
    let head = Block::peek(block).expect("a block");
    epoch_record(head.partition, Epoch(head.epoch.0 + 10), BlockNo(head.no.0 - 1), head.prev, head.time).bytes
}

fn failed() -> LogError {
    LogError::Broker { doing: "appending", why: "the test says so".into() }
}

impl Source for Between {
    fn take(&self) -> Option<Bytes> {
        let block = self.source.take()?;
        let fault = self.fault();
        if fault == Some(Fault::FailsBefore) {
            self.source.settled(Err(failed()));
            return None;
        }
        *self.taken.lock().expect("no panic") = fault;
        Some(if fault == Some(Fault::Usurped) { usurper(&block) } else { block })
    }

    fn settled(&self, outcome: Result<Offset, LogError>) {
        match self.taken.lock().expect("no panic").take() {
            Some(Fault::Silence) => {}
            Some(_) => self.source.settled(Err(failed())),
            None => self.source.settled(outcome),
        }
    }

    fn refuse(&self, refused: Option<Refused>) {
        self.source.refuse(refused);
    }
}

impl Log for FaultyLog {
    fn partitions(&self) -> u16 {
        self.inner.partitions()
    }

    fn attach(&self, partition: Partition, source: Arc<dyn Source>) -> Result<Box<dyn Appender>, LogError> {
        let (faults, taken) = (self.faults.clone(), Mutex::default());
        self.inner.attach(partition, Arc::new(Between { source, faults, taken }))
    }

    fn read(
        &self,
        partition: Partition,
        from: Offset,
        bytes: usize,
    ) -> Waiting<'_, Result<Vec<Entry>, LogError>> {
        self.inner.read(partition, from, bytes)
    }

    fn tail(&self, partition: Partition) -> Result<watch::Receiver<Offset>, LogError> {
        self.inner.tail(partition)
    }

    fn start(&self, partition: Partition) -> Result<Offset, LogError> {
        self.inner.start(partition)
    }

    fn trim(&self, partition: Partition, before: Offset) -> Waiting<'_, Result<(), LogError>> {
        self.inner.trim(partition, before)
    }
}
