//! The engine behind the API: a node that runs workflows, an index of what it holds, and a board where steps wait for
//! whoever performs them.

mod answers;
mod board;
mod calls;
mod contents;
mod control;
mod control_seen;
mod core;
mod counted;
mod dispatch;
mod draining;
mod ends;
mod events;
mod executions;
mod history;
mod host;
mod index;
mod keys;
mod metrics;
mod native;
mod offline;
mod opening;
mod prices;
mod programs;
mod publish;
pub mod readable;
mod reading;
mod retention;
mod standing;
#[cfg(test)]
mod tests;
mod token;
mod traces;
mod unserved;
mod view;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use omium_detector::Detector;
use omium_execution::{Execution, Phase, Run, Step};
use omium_log::{Blobs, KafkaLog, KafkaOptions};
use omium_processor::Processors;
use omium_recovery::Recovery;
use omium_runtime::{Config, Dispatch, Ended, Node, NodeParts, StreamKey, StreamState, Vault, World};
use omium_schemas::{Content, Digest, Offset, Partition, StreamId, TenantId};
pub use omium_store::StoreError;
use omium_store::{RocksStore, Settings};
use omium_workflow::Definition;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use board::Board;
use ends::Ends;
use history::History;
use index::Index;
use metrics::Metrics;

pub use calls::Gate;
pub use host::Host;
pub use native::seat as seat_native;
pub use offline::{adopt as adopt_offline, cancel as cancel_offline};
pub use opening::{Opening, of_other_ages};
pub use publish::{Shown, Topics, start as publish};
pub use retention::SHORTEST as SHORTEST_KEEP;

/// What a partition runs.
pub type Suite = (Execution, Detector, Recovery);

/// What one stream holds.
type State = StreamState<<Suite as Processors>::State>;

/// How many streams that wait for nothing each partition keeps in memory: somebody may look at what has just ended.
const RESIDENTS: usize = 2_000;

/// The folders of what is made again from the log where it is damaged.
const STORES: [&str; 2] = ["state", "index"];

/// How an engine is set.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where everything lies.
    pub data: PathBuf,
    /// How many partitions a new log gets.
    pub partitions: u16,
    /// The log, where it is not on this disk.
    pub kafka: Option<KafkaOptions>,
    /// What tools of workflows may do on this machine.
    pub host: Host,
}

/// The engine.
pub struct Engine {
    node: OnceLock<Node<Suite>>,
    vault: Arc<dyn Vault>,
    blobs: Arc<dyn Blobs>,
    history: History,
    host: Host,
    board: Board,
    metrics: Metrics,
    /// Definitions by the hash of their text: versions never change.
    definitions: Mutex<BTreeMap<Digest, Arc<Definition>>>,
    /// The last seq of streams that somebody follows.
    followed: Mutex<BTreeMap<StreamKey, watch::Sender<omium_schemas::Seq>>>,
    ends: Ends,
    ended: watch::Sender<Option<String>>,
    followers: Mutex<Vec<tokio::task::JoinHandle<()>>>,
    troubles: publish::Troubles,
    readers: reading::Readers,
    in_flight: calls::InFlight,
    order: calls::Order,
    opening: tokio::sync::Semaphore,
    room: calls::Room,
    verified: keys::Verified,
    native_calls: draining::Calls,
    /// How long what has ended is kept, where that is said.
    keep: OnceLock<Duration>,
    letting_go: tokio::sync::Mutex<retention::LettingGo>,
    /// How far control has come.
    control_moves: watch::Sender<omium_schemas::Seq>,
    published: publish::Reached,
    traces: traces::Traces,
}

/// What the node does to the world: hands work on, and says when a partition has ended.
struct Outside {
    dispatches: mpsc::UnboundedSender<Dispatch>,
    ended: watch::Sender<Option<String>>,
    index: OnceLock<Arc<Index>>,
    published: PathBuf,
    opening: Arc<Opening>,
}

impl World for Outside {
    fn dispatch(&self, dispatch: Dispatch) {
        // Nobody listens any more where the engine is being dropped.
        let _ = self.dispatches.send(dispatch);
    }

    fn folds(&self, partition: Partition, at: Offset, end: Offset) {
        self.opening.folds(partition, at, end);
    }

    fn misfits(&self, log: [u8; 16], ends: &[Offset]) -> Vec<String> {
        let index = self.index.get().and_then(|index| index.is_ahead(log, ends));
        index.into_iter().chain(publish::is_ahead(&self.published, log, ends)).collect()
    }

    fn ended(&self, partition: Partition, why: Ended) {
        if why != Ended::Halted {
            self.ended.send_replace(Some(format!("partition {partition}: {why}")));
        }
    }
}

impl Engine {
    /// Opens everything in a directory. Returns when all partitions are led.
    pub async fn open(options: &Options) -> anyhow::Result<Arc<Engine>> {
        Engine::open_telling(options, &Arc::default()).await
    }

    /// The same, and says meanwhile how far it is.
    pub async fn open_telling(options: &Options, opening: &Arc<Opening>) -> anyhow::Result<Arc<Engine>> {
        write_carefully()?;
        for _ in STORES {
            match Engine::open_once(options, opening).await {
                // What was found damaged meanwhile is marked, and made anew by the next opening: that is this one.
                Err(error) if STORES.iter().any(|store| RocksStore::is_marked(&options.data.join(store))) => {
                    tracing::warn!("the data folder is opened once more: {error:#}");
                }
                opened => return opened,
            }
        }
        Engine::open_once(options, opening).await
    }

    async fn open_once(options: &Options, opening: &Arc<Opening>) -> anyhow::Result<Arc<Engine>> {
        let (dispatches, incoming) = mpsc::unbounded_channel();
        let ended = watch::Sender::new(None);
        let published = options.data.join("published");
        let world = Outside {
            dispatches,
            ended: ended.clone(),
            index: OnceLock::new(),
            published,
            opening: opening.clone(),
        };
        let world = Arc::new(world);
        let config = Config { partitions: options.partitions, residents: RESIDENTS, ..Config::default() };
        let parts = match &options.kafka {
            None => NodeParts::in_directory(&options.data, config, world.clone()),
            Some(kafka) => {
                let log = Arc::new(KafkaLog::open(kafka.clone()).await?);
                NodeParts::beside(&options.data, log, config, world.clone())
            }
        };
        let parts = parts.map_err(|error| in_use(&options.data, error.into()))?;
        let small = Settings { cache_bytes: 8 << 20, write_bytes: 8 << 20 };
        let store = RocksStore::open(&options.data.join("index"), small)
            .map_err(|error| in_use(&options.data, error.into()))?;
        let index = Arc::new(Index::new(Arc::new(store), parts.log.partitions()));
        assert!(world.index.set(index.clone()).is_ok(), "nobody else sets it");
        let engine = Arc::new(Engine {
            node: OnceLock::new(),
            vault: parts.vault.clone(),
            blobs: parts.blobs.clone(),
            history: History { log: parts.log.clone(), index },
            host: options.host.clone(),
            board: Board::default(),
            metrics: Metrics::since(executions::now()),
            definitions: Mutex::default(),
            followed: Mutex::default(),
            ends: Ends::default(),
            ended,
            followers: Mutex::default(),
            troubles: publish::Troubles::default(),
            readers: reading::Readers::default(),
            in_flight: calls::InFlight::default(),
            order: calls::Order::default(),
            opening: tokio::sync::Semaphore::new(dispatch::OPENED_AT_ONCE),
            room: calls::Room::default(),
            verified: keys::Verified::default(),
            native_calls: draining::Calls::default(),
            keep: OnceLock::new(),
            letting_go: tokio::sync::Mutex::default(),
            control_moves: watch::Sender::default(),
            published: publish::Reached::default(),
            traces: traces::Traces::default(),
        });
        let log = parts.log.clone();
        let node = Node::open(parts).await?;
        if let Err(error) = engine.history.index.belongs_to(node.log_id()) {
            node.halt().await;
            return Err(error.context("the index can be deleted; it is made anew"));
        }
        assert!(engine.node.set(node).is_ok(), "nobody else sets it");
        for partition in (0..log.partitions()).map(Partition) {
            let (index, log) = (engine.history.index.clone(), log.clone());
            let (weak, over) = (Arc::downgrade(&engine), engine.ended.clone());
            let mut ended = engine.ended.subscribe();
            let follower = tokio::spawn(async move {
                let moved = move |moved| {
                    if let Some(engine) = weak.upgrade() {
                        engine.moved(moved);
                    }
                };
                tokio::select! {
                    damaged = index.follow(log, partition, moved) => if let Some(damaged) = damaged {
                        end(&over, &damaged);
                    },
                    _ = ended.wait_for(Option::is_some) => {}
                }
            });
            engine.followers.lock().unwrap_or_else(PoisonError::into_inner).push(follower);
        }
        metrics::watch(&engine);
        control_seen::watch(&engine);
        dispatch::run(&engine, incoming);
        unserved::watch(&engine);
        Ok(engine)
    }

    fn node(&self) -> &Node<Suite> {
        self.node.get().expect("it is set before anybody has the engine")
    }

    /// Why a partition has ended by itself, as soon as one has.
    pub fn stopped(&self) -> watch::Receiver<Option<String>> {
        self.ended.subscribe()
    }

    /// Native agents begin no call any more. Resolves when those that are on their way have their end in the log.
    pub async fn drain(&self) {
        self.native_calls.drain().await;
    }

    /// Saves everything and stops.
    pub async fn stop(&self) -> Result<(), StoreError> {
        end(&self.ended, &"stopped");
        let stopped = self.node().stop().await;
        let followers = std::mem::take(&mut *self.followers.lock().unwrap_or_else(PoisonError::into_inner));
        for follower in followers {
            // One that panicked has said so; nothing is lost with it.
            let _ = follower.await;
        }
        stopped
    }

    fn moved(self: &Arc<Self>, moved: index::Moved) {
        self.metrics.moved(&moved);
        if moved.key == control_key() {
            moves_on(&self.control_moves, moved.last);
        }
        if let Some((_, line)) = &moved.change
            && !line.status.is_open()
        {
            self.order.forget(&moved.key);
            self.traces.forget(&moved.key);
            self.ends.tell(&moved.key);
        }
        let followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = followed.get(&moved.key) {
            moves_on(sender, moved.last);
        }
        drop(followed);
        if moved.withdraws {
            dispatch::withdraw(self, moved.key);
        }
    }
}

/// The node ends, and this is why, unless another reason came first. So it does over a damaged store: that is made anew by
/// the next start, and nothing that waits for it can go on before.
fn end(over: &watch::Sender<Option<String>>, reason: &dyn std::fmt::Display) {
    over.send_if_modified(|why| {
        let first = why.is_none();
        why.get_or_insert_with(|| reason.to_string());
        first
    });
}

/// Tells those who follow a stream how far it has come. What is carried forward takes it back nowhere.
fn moves_on(follows: &watch::Sender<omium_schemas::Seq>, last: omium_schemas::Seq) {
    follows.send_if_modified(|seq| {
        let further = last > *seq;
        *seq = last.max(*seq);
        further
    });
}

/// Whatever this process writes is for its user alone, and a limit on the size of files is an error of the write that
/// meets it, which is answered as a full disk is: without a handler the signal would end the process.
fn write_carefully() -> anyhow::Result<()> {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let too_large = tokio::signal::unix::SignalKind::from_raw(SIGXFSZ);
    // Nobody listens: being handled is all that it takes.
    drop(tokio::signal::unix::signal(too_large).context("no handler for files that grow too large")?);
    Ok(())
}

/// The same number on all systems that Omium runs on.
const SIGXFSZ: i32 = 25;

/// A node writes also where it is only read: a lock, an epoch, the state.
pub fn unwritable(data: &Path, why: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "{place} cannot be written ({why}), and Omium does not serve what it cannot write. Nothing was changed. Make it \
         writable for this user, or start with a copy: `cp -a {place} COPY` and --data COPY. `omium log inspect` and \
         `omium log verify` read {place}/log as it is",
        place = data.display()
    )
}

/// Whoever opens a folder that another process has meets the state's lock first, whose message is not for people.
fn in_use(data: &Path, error: anyhow::Error) -> anyhow::Error {
    let text = format!("{error:#}");
    // The store tidies its own old notes before it locks, and two that do so at once get in each other's way.
    let tidied = text.contains("while unlink()") && text.contains("LOG.old");
    let taken = text.contains("While lock file") || text.contains("lock hold by") || tidied;
    if text.contains("No space left") || text.contains("Disk quota exceeded") {
        return anyhow::anyhow!(
            "there is no space left for {}: free some and start again; nothing is lost ({text})",
            data.display()
        );
    }
    if let Some(why) = ["Read-only file system", "Permission denied"].iter().find(|why| text.contains(**why))
    {
        tracing::debug!("{text}");
        return unwritable(data, why);
    }
    if !taken {
        return error;
    }
    anyhow::anyhow!(
        "{} is in use by another omium process; stop it first, or start this one with another folder (--data, OMIUM_DATA)",
        data.display()
    )
}

/// The contents of a run that views and templates look at.
fn contents(run: &Run) -> impl Iterator<Item = &Content> {
    let found = run.program.iter().flat_map(|program| &program.findings);
    let found = found.filter_map(|found| found.detail.as_ref());
    run.inputs.iter().chain(run.steps.iter().filter_map(content_of)).chain(found)
}

fn content_of(step: &Step) -> Option<&Content> {
    match &step.phase {
        Phase::Done { output, .. } => output.as_ref(),
        Phase::Failed { reason, .. } => reason.as_ref(),
        _ => None,
    }
}

/// What lies squeezed in the log is shown as it was.
fn shown(bytes: &[u8]) -> Value {
    match omium_openai::unpack(bytes) {
        Ok(bytes) => json(&bytes),
        Err(_) => "(squeezed after an earlier answer)".into(),
    }
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned().into())
}

fn control_key() -> StreamKey {
    StreamKey::new(TenantId::SYSTEM, StreamId::control())
}
