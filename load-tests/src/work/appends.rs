//! The embedded log alone: callers build their record into the open block of a partition, with hash and checksum, and
//! wait until it is durable.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use anyhow::Context as _;
use bytes::Bytes;
use omium_log::{Appender, EmbeddedLog, EmbeddedOptions, Log, LogError, Source};
use omium_schemas::{
    BlockBuilder, BlockHead, BlockKind, BlockNo, ClosedBlock, Digest, Epoch, FrameBuilder, FrameHead, Offset,
    Partition, Seq, StreamId, StreamKind, TenantId, Time, TypeId,
};
use tokio::sync::oneshot;

use super::callers::{self, Caller};
use super::plain::RECORD;
use crate::once::{Figures, Once};

const PARTITIONS: u16 = 4;
/// The bytes of a record beside its body: the frame's head, the record's type, cause and length.
const AROUND: usize = 87 + 2 + 1 + 2;

type Waiting = Vec<oneshot::Sender<()>>;

/// One partition without a shell: an open block and those who wait for it.
struct Filler {
    partition: Partition,
    inside: Mutex<Inside>,
    appender: OnceLock<Box<dyn Appender>>,
}

#[derive(Default)]
struct Inside {
    open: BlockBuilder,
    waiting: Waiting,
    closed: std::collections::VecDeque<(ClosedBlock, Waiting)>,
    flight: Option<Waiting>,
    no: BlockNo,
    prev: Digest,
}

impl Inside {
    fn close(&mut self, partition: Partition) {
        let no = self.no.next();
        let (kind, epoch, prev) = (BlockKind::Frames, Epoch(1), self.prev);
        let head = BlockHead { kind, partition, frames: 0, epoch, no, prev, time: Time(no.0) };
        let block = std::mem::take(&mut self.open).close(head);
        (self.no, self.prev) = (no, block.hash);
        let waiting = std::mem::take(&mut self.waiting);
        self.closed.push_back((block, waiting));
    }
}

impl Filler {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for Filler {
    fn take(&self) -> Option<Bytes> {
        let mut inside = self.inside();
        if inside.closed.is_empty() && !inside.open.is_empty() {
            inside.close(self.partition);
        }
        let (block, waiting) = inside.closed.pop_front()?;
        inside.flight = Some(waiting);
        Some(block.bytes)
    }

    fn settled(&self, outcome: Result<Offset, LogError>) {
        let waiting = self.inside().flight.take();
        for waiting in waiting.into_iter().flatten().filter(|_| outcome.is_ok()) {
            // Whoever has gone does not want to know.
            let _ = waiting.send(());
        }
    }
}

struct FillingCaller {
    filler: Arc<Filler>,
    stream: StreamId,
    seq: Seq,
    prev: Digest,
}

impl FillingCaller {
    /// Builds the frame at the end of the open block. Only the caller's own thread hashes.
    fn append(&mut self) -> anyhow::Result<oneshot::Receiver<()>> {
        let (sender, durable) = oneshot::channel();
        let mut inside = self.filler.inside();
        let (tenant, stream, first, prev) = (TenantId([1; 16]), self.stream, self.seq.next(), self.prev);
        let head = FrameHead { tenant, stream, first, time: Time(first.0), prev, actor: None, trace: None };
        let mut frame = FrameBuilder::new(&head, inside.open.buffer());
        frame.record(TypeId(1), 0, |out| {
            out.extend_from_slice(&[7; RECORD - AROUND]);
            Ok(())
        })?;
        let (length, hash) = frame.finish();
        debug_assert_eq!(length, RECORD, "both sides write the same number of bytes");
        if !inside.open.fits() {
            let next = inside.open.move_last(length);
            inside.close(self.filler.partition);
            inside.open = next;
        }
        inside.open.push(length, hash);
        inside.waiting.push(sender);
        let idle = inside.flight.is_none();
        drop(inside);
        (self.seq, self.prev) = (first, hash);
        if idle && let Some(appender) = self.filler.appender.get() {
            appender.wake();
        }
        Ok(durable)
    }
}

impl Caller for FillingCaller {
    async fn call(&mut self) -> anyhow::Result<()> {
        let durable = self.append()?;
        durable.await.context("the log is gone")
    }
}

pub(crate) fn run(once: &Once) -> anyhow::Result<Figures> {
    let log = EmbeddedLog::open(EmbeddedOptions::new(once.dir.join("log"), PARTITIONS)?)?;
    let mut fillers = Vec::new();
    for partition in (0..PARTITIONS).map(Partition) {
        let filler = Arc::new(Filler { partition, inside: Mutex::default(), appender: OnceLock::new() });
        let appender = log.attach(partition, filler.clone())?;
        let _ = filler.appender.set(appender);
        fillers.push(filler);
    }
    let caller = |n: usize| FillingCaller {
        filler: fillers[n % fillers.len()].clone(),
        stream: StreamId::named(StreamKind::Account, &n.to_string()),
        seq: Seq(0),
        prev: Digest::NONE,
    };
    let callers: Vec<FillingCaller> = (0..once.callers).map(caller).collect();
    let figures = callers::runtime()?.block_on(callers::drive(once.seconds, callers))?;
    log.close()?;
    Ok(figures)
}
