//! A node that leads every partition of its log: the embedded default, and one node on Kafka.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use omium_log::{Log, LogError};
use omium_processor::Processors;
use omium_schemas::catalogue::{Command, Origin};
use omium_schemas::{Branch, Digest, Epoch, Offset, Partition, Seq, StepId, TraceContext};
use omium_store::{Store, StoreError};
use opentelemetry::trace::TraceContextExt;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::cell::{Cell, Leaving, View};
use super::clock;
use super::telemetry::{Stage, Telemetry};
use crate::key::{StreamKey, open_prefix, partition_prefix, position_key, stream_of};
use crate::port::{Answer, Blobs, Dispatch, Ended, Input, Output, Submission};
use crate::sealing::Vault;
use crate::shell::{Config, Shell};
use crate::snapshot::Position;

/// How much is read from the log at once.
const READ: usize = 4 << 20;
/// How often a shell is told that time has passed.
const TICK: Duration = Duration::from_millis(100);

/// What a node does to the world outside.
pub trait World: Send + Sync {
    /// Have this attempt performed. Its outcome comes back as a command.
    fn dispatch(&self, dispatch: Dispatch);

    /// A block is durable and counts.
    fn publish(&self, _partition: Partition, _block: Bytes) {}

    /// A partition of this node has ended and another shell must take over from the log. On disk that is the end of
    /// the process: what the kernel still holds cannot be trusted after a failed write.
    fn ended(&self, partition: Partition, why: Ended);
}

/// What a node is made of.
pub struct NodeParts {
    /// The log.
    pub log: Arc<dyn Log>,
    /// The store beside it.
    pub store: Arc<dyn Store>,
    /// Where long content goes.
    pub blobs: Arc<dyn Blobs>,
    /// The keys of content.
    pub vault: Arc<dyn Vault>,
    /// The world.
    pub world: Arc<dyn World>,
    /// How its shells are set.
    pub config: Config,
}

/// A node.
pub struct Node<P: Processors> {
    cells: Vec<Arc<Cell<P>>>,
    tasks: Vec<JoinHandle<()>>,
    stopping: watch::Sender<bool>,
    log: Arc<dyn Log>,
    store: Arc<dyn Store>,
}

impl<P: Processors> Node<P> {
    /// Opens every partition: state from the store, the rest from the log, an epoch of its own. Returns when it leads
    /// all of them.
    pub async fn open(parts: NodeParts) -> Result<Node<P>, OpenError> {
        let (stopping, _) = watch::channel(false);
        let telemetry = Telemetry::new(&opentelemetry::global::meter("omium"));
        let mut cells = Vec::new();
        let mut arriving = Vec::new();
        for partition in (0..parts.log.partitions()).map(Partition) {
            let shell = open_shell(&parts, partition)?;
            let (cell, outputs) =
                Cell::new(shell, parts.store.clone(), parts.world.clone(), telemetry.clone());
            cells.push(cell);
            arriving.push(outputs);
        }
        let mut tasks = Vec::new();
        for (partition, outputs) in (0..).map(Partition).zip(arriving) {
            let carrier = Carrier {
                partition,
                cells: cells.clone(),
                log: parts.log.clone(),
                store: parts.store.clone(),
                blobs: parts.blobs.clone(),
            };
            tasks.push(tokio::spawn(carrier.run(outputs, stopping.subscribe())));
        }
        let node = Node { cells, tasks, stopping, log: parts.log, store: parts.store };
        node.take_over().await?;
        Ok(node)
    }

    async fn take_over(&self) -> Result<(), OpenError> {
        for (partition, cell) in (0..).map(Partition).zip(&self.cells) {
            catch_up(&*self.log, partition, cell).await?;
            cell.attach(self.log.attach(partition, cell.clone())?);
            let epoch = cell.lock().shell.epoch().next();
            cell.feed(Input::Lead(epoch, clock::random()));
        }
        for (partition, cell) in (0..).map(Partition).zip(&self.cells) {
            let mut leading = cell.leading.subscribe();
            leading.wait_for(|leading| *leading).await.map_err(|_| OpenError::NotLed(partition))?;
        }
        Ok(())
    }

    /// How many partitions it has.
    pub fn partitions(&self) -> u16 {
        self.cells.len() as u16
    }

    /// Decides a command and answers when the answer is durable.
    pub async fn submit(&self, request: Request) -> Answer {
        let cell = self.cell(&request.key);
        let partition = request.key.stream.partition(request.key.tenant, self.partitions());
        let span = Telemetry::span("omium.command", request.trace.as_ref(), partition);
        let origin = Origin {
            key: request.idempotency,
            request: request.digest,
            entropy: clock::random(),
            control: request.control,
        };
        let Request { key, actor, trace, command, .. } = request;
        let answer = cell.ask(|ticket| {
            Input::Submit(Box::new(Submission { ticket: Some(ticket), key, actor, trace, origin, command }))
        });
        if let Some(span) = &span {
            span.span().add_event("decided", Vec::new());
        }
        let answer = answer.await.unwrap_or(Answer::Unknown);
        if let Some(span) = span {
            span.span().end();
        }
        answer
    }

    /// A stream as it is, once that is durable.
    pub async fn view(&self, key: StreamKey) -> Result<View<P>, Answer> {
        for _ in 0..2 {
            match self.cell(&key).view(key).await.unwrap_or(Err(Answer::Unknown)) {
                // It was not in memory; by now it is.
                Err(Answer::Busy) => {}
                outcome => return outcome,
            }
        }
        Err(Answer::Busy)
    }

    /// Tells every partition what the control stream says.
    pub fn control(&self, seq: Seq, digest: Digest, body: &Bytes) {
        self.cells.iter().for_each(|cell| cell.feed(Input::Control(seq, digest, body.clone())));
    }

    /// Whoever was to perform this sending is gone.
    pub fn lost(&self, key: StreamKey, step: StepId, branch: Branch, epoch: Epoch, delivery: i64) {
        self.cell(&key).feed(Input::Lost(key, step, branch, epoch, delivery));
    }

    /// Finishes what is on its way, writes the state to the store and stops.
    pub async fn stop(mut self) -> Result<(), StoreError> {
        self.cells.iter().for_each(|cell| cell.feed(Input::Stop));
        for cell in &self.cells {
            // A partition that has ended has nothing to finish; the sender lives as long as its cell.
            let _ = cell.stopped.subscribe().wait_for(|stopped| *stopped).await;
        }
        self.stopping.send_replace(true);
        for task in self.tasks.drain(..) {
            if let Err(error) = task.await {
                tracing::error!(%error, "a partition's task ended badly");
            }
        }
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || store.flush()).await.unwrap_or(Ok(()))
    }

    fn cell(&self, key: &StreamKey) -> &Arc<Cell<P>> {
        &self.cells[usize::from(key.stream.partition(key.tenant, self.partitions()).0)]
    }
}

/// A command as callers give it.
#[derive(Clone, Debug)]
pub struct Request {
    /// The stream it is for.
    pub key: StreamKey,
    /// Who issues it.
    pub actor: Option<String>,
    /// The trace it belongs to.
    pub trace: Option<TraceContext>,
    /// The idempotency key.
    pub idempotency: Option<Bytes>,
    /// The digest of what is asked for.
    pub digest: Option<Digest>,
    /// The seq of control that the caller was told.
    pub control: Seq,
    /// The command.
    pub command: Command,
}

impl Request {
    /// A command without any extras.
    pub fn new(key: StreamKey, command: impl Into<Command>) -> Request {
        let command = command.into();
        Request { key, actor: None, trace: None, idempotency: None, digest: None, control: Seq(0), command }
    }

    /// The same with an idempotency key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<Bytes>) -> Request {
        self.idempotency = Some(key.into());
        self
    }
}

/// Why a node does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A partition did not come under this node's lead.
    #[error("partition {0} did not come under this node's lead; the log above says why")]
    NotLed(Partition),
}

fn open_shell<P: Processors>(parts: &NodeParts, partition: Partition) -> Result<Shell<P>, OpenError> {
    let row = parts.store.get(&[position_key(partition)])?.pop().flatten();
    let position = row.as_deref().and_then(Position::read).filter(|position| position.layout == P::layout());
    if position.is_none() {
        wipe(&*parts.store, partition)?;
    }
    Ok(Shell::new(partition, parts.config.clone(), parts.vault.clone(), position))
}

/// Resolves when the node has finished.
async fn told_to_stop(stopping: &mut watch::Receiver<bool>) {
    // An error means that the node is gone, which is the same news.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// State of another layout, or none that can be read: it is folded again from the log.
fn wipe(store: &dyn Store, partition: Partition) -> Result<(), StoreError> {
    loop {
        let rows = store.scan(&partition_prefix(partition), None, 10_000)?;
        if rows.is_empty() {
            return Ok(());
        }
        let mut batch = omium_store::Batch::default();
        rows.into_iter().for_each(|(key, _)| batch.delete(key));
        store.write(batch)?;
    }
}

async fn catch_up<P: Processors>(
    log: &dyn Log,
    partition: Partition,
    cell: &Cell<P>,
) -> Result<(), LogError> {
    loop {
        let from = cell.lock().shell.next().max(log.start(partition)?);
        let entries = log.read(partition, from, READ).await?;
        if entries.is_empty() {
            return Ok(());
        }
        cell.feed(Input::Entries(entries));
        if cell.lock().shell.role() == crate::Role::Ended {
            return Err(LogError::Closed);
        }
    }
}

/// Carries out what leaves one partition.
struct Carrier<P: Processors> {
    partition: Partition,
    cells: Vec<Arc<Cell<P>>>,
    log: Arc<dyn Log>,
    store: Arc<dyn Store>,
    blobs: Arc<dyn Blobs>,
}

impl<P: Processors> Carrier<P> {
    async fn run(
        self,
        mut outputs: mpsc::UnboundedReceiver<Leaving<P>>,
        mut stopping: watch::Receiver<bool>,
    ) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                output = outputs.recv() => match output {
                    Some(output) => self.carry_out(output).await,
                    None => return,
                },
                () = told_to_stop(&mut stopping) => return,
                _ = ticks.tick() => {
                    self.cell().feed(Input::Tick);
                    self.cell().report();
                }
            }
        }
    }

    fn cell(&self) -> &Arc<Cell<P>> {
        &self.cells[usize::from(self.partition.0)]
    }

    async fn carry_out(&self, output: Leaving<P>) {
        match output {
            Output::Dispatch(dispatch) => self.cell().world.dispatch(*dispatch),
            Output::Deliver(parcel) => {
                let to = usize::from(parcel.to_partition.0);
                self.cells[to].feed(Input::Message(parcel));
            }
            Output::Acknowledge(to, through) => {
                self.cells[usize::from(to.0)].feed(Input::Acknowledged(self.partition, through));
            }
            Output::Publish(block) => self.cell().world.publish(self.partition, block),
            Output::Flush(snapshot) => self.flush(*snapshot),
            Output::StoreBlob(digest, bytes) => self.store_blob(digest, bytes),
            Output::LoadWaiting => self.load_waiting().await,
            Output::Fetch(from, through) => self.fetch(from, through).await,
            Output::Led(epoch) => {
                tracing::info!(partition = self.partition.0, epoch = epoch.0, "leading");
                self.cell().leading.send_replace(true);
            }
            Output::Stopped => drop(self.cell().stopped.send_replace(true)),
            Output::Ended(why) => {
                self.cell().leading.send_replace(false);
                self.cell().stopped.send_replace(true);
                self.cell().world.ended(self.partition, why);
            }
            Output::Alarm(text) => tracing::error!(partition = self.partition.0, "{text}"),
            // These never come this far: the cell answers them itself.
            Output::Ready | Output::Load(..) | Output::Answer(..) | Output::View(..) => {}
        }
    }

    fn flush(&self, snapshot: crate::Snapshot<P::State>) {
        let (cell, store) = (self.cell().clone(), self.store.clone());
        tokio::task::spawn_blocking(move || {
            let since = clock::now().boot;
            let no = omium_schemas::BlockNo(snapshot.position.no);
            let written = snapshot.batches().into_iter().try_for_each(|batch| store.write(batch));
            match written.and_then(|()| store.flush()) {
                Ok(()) => {
                    cell.measured(Stage::Flush, since);
                    cell.feed(Input::Flushed(no));
                }
                // The state stays in memory and is written with the next snapshot's successor after a restart.
                Err(error) => tracing::error!(%error, "the state could not be saved"),
            }
        });
    }

    fn store_blob(&self, digest: Digest, bytes: Bytes) {
        let (cell, blobs) = (self.cell().clone(), self.blobs.clone());
        tokio::task::spawn_blocking(move || match blobs.put(&digest, &bytes) {
            Ok(()) => cell.feed(Input::BlobStored(digest)),
            Err(error) => {
                // The block that names it must not be written, so this partition cannot go on.
                cell.feed(Input::Settled(Err(error)));
            }
        });
    }

    async fn load_waiting(&self) {
        let (store, partition, cell) = (self.store.clone(), self.partition, self.cell().clone());
        let scan = move || {
            let since = clock::now().boot;
            let mut after: Option<Vec<u8>> = None;
            loop {
                let rows = match store.scan(&open_prefix(partition), after.as_deref(), 1_000) {
                    Ok(rows) => rows,
                    Err(error) => return tracing::error!(%error, "waiting streams could not be read"),
                };
                let Some((last, _)) = rows.last() else { return cell.measured(Stage::Load, since) };
                after = Some(last.clone());
                cell.feed(Input::Waiting(rows.iter().filter_map(|(key, _)| stream_of(key)).collect()));
            }
        };
        if tokio::task::spawn_blocking(scan).await.is_err() {
            tracing::error!("reading the waiting streams was cut short");
        }
    }

    async fn fetch(&self, mut from: Offset, through: Offset) {
        while from <= through {
            match self.log.read(self.partition, from, READ).await {
                Ok(entries) => {
                    let Some(last) = entries.last() else { return };
                    from = last.offset.next();
                    self.cell().feed(Input::Entries(entries));
                }
                Err(error) => return self.cell().feed(Input::Settled(Err(error.to_string()))),
            }
        }
    }
}
