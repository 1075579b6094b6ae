//! A node that leads every partition of its log: the embedded default, and one node on Kafka.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use omium_log::{BlobError, Blobs, Log, LogError};
use omium_processor::Processors;
use omium_schemas::catalogue::{Command, Origin};
use omium_schemas::{Branch, Digest, Epoch, Offset, Partition, Seq, StepId, StreamKind, TraceContext};
use omium_store::{Store, StoreError};
use opentelemetry::trace::TraceContextExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::carrier::{Carrier, Phase};
use super::cell::{Cell, Standing, View, Work};
use super::content::{Contents, left_out};
use super::intact::Rests;
use super::keys::Keys;
use super::opening::{catch_up, open_shell};
use super::places::Places;
use super::seen::{self, Seen};
use super::suspects::{Suspects, Working};
use super::telemetry::{self, Telemetry};
use super::trim::{self, TrimError};
use super::watch::Watch;
use super::{clock, deadline};
use crate::key::StreamKey;
use crate::port::{Answer, Dispatch, Ended, Input, Submission};
use crate::sealing::Vault;
use crate::shell::{Config, Role, log_id};
use crate::vault::VaultError;

/// How often it is looked whether a partition has stopped, or never will.
const LOOK: Duration = Duration::from_millis(500);
/// After how many microseconds of one turn nobody waits for a partition any more.
const HOPELESS: u64 = 5_000_000;
/// How long a store that met a full disk is asked again at the end: it looks for room every five seconds.
const ROOM_WITHIN: Duration = Duration::from_secs(7);
/// How often it is asked.
const ROOM_AGAIN: Duration = Duration::from_millis(100);

/// What a node does to the world outside.
pub trait World: Send + Sync {
    /// Have this attempt performed. Its outcome comes back as a command.
    fn dispatch(&self, dispatch: Dispatch);

    /// A block is durable and counts.
    fn publish(&self, _partition: Partition, _block: Bytes) {}

    /// While the node is opened: a partition is folded up to `at`, and the log holds it up to `end`.
    fn folds(&self, _partition: Partition, _at: Offset, _end: Offset) {}

    /// Before anything is led: why what the world keeps beside this log, whose partitions end so, does not fit it.
    fn misfits(&self, _log: [u8; 16], _ends: &[Offset]) -> Vec<String> {
        Vec::new()
    }

    /// An append failed, so what is in the log is not known: the partition's memory is thrown away, and this node takes
    /// over from itself. Until it leads again the partition answers [`Answer::NotLeading`].
    fn retaken(&self, _partition: Partition, _why: &Ended) {}

    /// A partition of this node has ended for good. On disk that is the end of the process: what the kernel still holds
    /// cannot be trusted after a failed write.
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
    /// The folder that all of this lies in; nothing where it lies in none. The node looks there whether everything is in
    /// its place, and notes what takes long, so that the next process knows what has ended this one.
    pub root: Option<PathBuf>,
}

/// A node.
pub struct Node<P: Processors> {
    cells: Vec<Arc<Cell<P>>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    phase: watch::Sender<Phase>,
    log: Arc<dyn Log>,
    store: Arc<dyn Store>,
    vault: Arc<dyn Vault>,
    contents: Contents,
    keys: Keys,
    deadline: Duration,
    suspects: Arc<Suspects>,
    watch: Mutex<Option<Watch>>,
    log_id: [u8; 16],
    places: Arc<Places>,
    seen: Option<Seen>,
}

/// How one partition is doing, told without asking it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionStanding {
    /// The partition.
    pub partition: Partition,
    /// Whether this node leads it.
    pub led: bool,
    /// Why it has ended on this node, where it has.
    pub ended: Option<String>,
    /// Why its log takes nothing for now, where it does not.
    pub full: Option<String>,
    /// For how long it has been computing without an end, where that is long.
    pub computing: Duration,
}

impl<P: Processors> Node<P> {
    /// Opens every partition: state from the store, the rest from the log, an epoch of its own. Returns when it leads
    /// all of them.
    pub async fn open(parts: NodeParts) -> Result<Node<P>, OpenError> {
        let parts = Arc::new(parts);
        let phase = watch::Sender::new(Phase::Running);
        let telemetry = Telemetry::new(&opentelemetry::global::meter("omium"));
        let suspects = Suspects::open(parts.root.as_ref().map(|root| root.join("under-way")));
        let convicted = suspects.convicted();
        let mut cells = Vec::new();
        let (mut arriving, mut resting) = (Vec::new(), Vec::new());
        for partition in (0..parts.log.partitions()).map(Partition) {
            let (mut shell, rests) = open_shell(&parts, partition)?;
            let here =
                |key: &StreamKey| key.stream.partition(key.tenant, parts.log.partitions()) == partition;
            shell.suspect(convicted.iter().copied().filter(here).collect());
            resting.push(rests);
            let (store, world) = (parts.store.clone(), parts.world.clone());
            let (cell, outputs) = Cell::new(shell, store, world, telemetry.clone(), suspects.clone());
            cells.push(cell);
            arriving.push(outputs);
        }
        let mut tasks = Vec::new();
        for (partition, outputs) in (0..).map(Partition).zip(arriving) {
            let carrier = Carrier::new(partition, cells.clone(), parts.clone(), phase.subscribe());
            tasks.push(tokio::spawn(carrier.run(outputs)));
        }
        tasks.push(tokio::spawn(deadline::keep(
            cells.clone(),
            parts.config.deadline_micros,
            phase.subscribe(),
        )));
        let mut node = Node {
            suspects: suspects.clone(),
            watch: Mutex::default(),
            log_id: [0; 16],
            places: Arc::new(Places::open(None, [0; 16], true)),
            seen: None,
            deadline: Duration::from_micros(parts.config.deadline_micros),
            cells,
            tasks: Mutex::new(tasks),
            phase,
            log: parts.log.clone(),
            store: parts.store.clone(),
            vault: parts.vault.clone(),
            contents: Contents { vault: parts.vault.clone(), blobs: parts.blobs.clone() },
            keys: Keys::new(parts.vault.clone()),
        };
        match node.take_over(parts.root.as_deref(), &*parts.world, resting).await {
            Ok((log_id, places)) => (node.log_id, node.places) = (log_id, places),
            Err(error) => {
                node.halt().await;
                return Err(error);
            }
        }
        node.note_what_is_seen(parts.root.as_deref());
        let watch = Watch::begin(&node.cells, suspects, node.places.clone());
        *node.watch.lock().unwrap_or_else(PoisonError::into_inner) = Some(watch);
        convicted.iter().for_each(|key| node.suspects.acquit(key));
        Ok(node)
    }

    async fn take_over(
        &self,
        root: Option<&Path>,
        world: &dyn World,
        resting: Vec<Option<Rests>>,
    ) -> Result<([u8; 16], Arc<Places>), OpenError> {
        // Whoever is told how far it is knows from the beginning how far there is to go.
        for (partition, cell) in (0..).map(Partition).zip(&self.cells) {
            world.folds(partition, cell.lock().shell.next(), *self.log.tail(partition)?.borrow());
        }
        let log = || self.cells.first().and_then(|cell| cell.lock().shell.book().log());
        let saved = log();
        // What lies beside an older log says best why the saved state does not rest on it.
        saved.map_or(Ok(()), |id| self.check_ages(root, id, world))?;
        for ((partition, cell), rests) in (0..).map(Partition).zip(&self.cells).zip(resting) {
            catch_up(&*self.log, partition, cell, rests).await.map_err(|why| match why {
                Ended::OtherAge(why) => OpenError::OtherAges(vec![why]),
                why => OpenError::NotLed(partition, why),
            })?;
        }
        let folded = log().filter(|_| saved.is_none());
        folded.map_or(Ok(()), |id| self.check_ages(root, id, world))?;
        // Beside a partition that could not be folded no other one is led.
        for cell in &self.cells {
            let ended = cell.lock().shell.role() == Role::Ended;
            if ended {
                known_as_led(cell).await?;
            }
        }
        let seed = clock::random();
        let new = log().is_none();
        let log_id = log().unwrap_or_else(|| log_id(&seed));
        // Before anything is written: keys that are not this log's must not seal anything of it.
        self.vault.bind(log_id, new)?;
        self.vault
            .reaches(self.cells.iter().map(|cell| cell.lock().shell.keys()).max().unwrap_or_default())
            .map_err(|why| match why {
                VaultError::Older { .. } => OpenError::OtherAges(vec![why.to_string()]),
                why => why.into(),
            })?;
        let places = Arc::new(Places::open(root, log_id, new));
        places.wholeness().iter().for_each(|reason| tracing::error!("{reason}"));
        for (at, cell) in self.cells.iter().enumerate() {
            cell.lead(&*self.log, if at == 0 { seed } else { clock::random() })?;
        }
        for cell in &self.cells {
            known_as_led(cell).await?;
        }
        Ok((log_id, places))
    }

    /// Before anything is led: an older copy among newer parts would be written on until nobody can tell any more.
    fn check_ages(&self, root: Option<&Path>, log: [u8; 16], world: &dyn World) -> Result<(), OpenError> {
        // The log's own word: a partition may be one that cannot be folded, or whose records are all trimmed.
        let end = |n| Ok::<_, LogError>((*self.log.tail(n)?.borrow()).max(self.log.start(n)?));
        let ends = (0..self.partitions()).map(Partition).map(end).collect::<Result<Vec<Offset>, _>>()?;
        let mut reasons: Vec<String> =
            root.and_then(|root| Seen::new(root, log).log_is_older(&ends)).into_iter().collect();
        reasons.extend(world.misfits(log, &ends));
        if reasons.is_empty() { Ok(()) } else { Err(OpenError::OtherAges(reasons)) }
    }

    /// From here on it is noted how far the log was seen, unless that would hide that something is older.
    fn note_what_is_seen(&mut self, root: Option<&Path>) {
        if !self.places.wholeness().is_empty() {
            return;
        }
        self.seen = root.map(|root| Seen::new(root, self.log_id));
        let (Some(seen), log, phase) = (self.seen.clone(), self.log.clone(), self.phase.subscribe()) else {
            return;
        };
        let noting = tokio::spawn(seen::keep(seen, log, phase));
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(noting);
    }

    /// What tells this log from all others.
    pub fn log_id(&self) -> [u8; 16] {
        self.log_id
    }

    /// Why this node is not whole: folders that are gone, or are of another log. Waits for nobody.
    pub fn wholeness(&self) -> Vec<String> {
        self.places.wholeness()
    }

    /// How many partitions it has.
    pub fn partitions(&self) -> u16 {
        self.cells.len() as u16
    }

    /// Decides a command and answers when the answer is durable. An answer that does not come within the deadline is
    /// [`Answer::Unknown`]: sent again with the same idempotency key, the command is still decided once.
    pub async fn submit(&self, mut request: Request) -> Answer {
        match self.provide(&request).await {
            Ok(true) => {}
            // It will be refused: nothing is made or stored for it.
            Ok(false) => return self.decide(request).await,
            Err(answer) => return answer,
        }
        let storing = self.contents.move_out(&request.key, &mut request.command);
        let blobs = match tokio::time::timeout(self.deadline, storing).await {
            Ok(Ok(blobs)) => blobs,
            Ok(Err(answer)) => return answer,
            Err(_) => return Answer::Full("the blob store did not answer in time".to_owned()),
        };
        let answer = self.decide(request).await;
        if !blobs.is_empty() && left_out(&answer) {
            self.contents.remove(blobs).await;
        }
        answer
    }

    async fn decide(&self, request: Request) -> Answer {
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
        let found = origin.key.as_ref().filter(|used| !cell.is_new(&key, used));
        let found = found.and_then(|used| cell.find(partition, &key, used));
        let mut submission = Box::new(Submission { ticket: None, key, actor, trace, origin, found, command });
        let work = if ends_work(&submission.command) { Work::Ends } else { Work::Begins };
        let answer = cell.ask(work, move |ticket| {
            submission.ticket = Some(ticket);
            Input::Submit(submission)
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

    /// A new stream's key is made here, where waiting for the disk holds nobody else up. Whether there is a stream for it.
    async fn provide(&self, request: &Request) -> Result<bool, Answer> {
        if !request.command.has_content() || self.vault.has(&request.key) {
            return Ok(true);
        }
        // Nobody makes keys of streams that there are not: whoever may write could fill the vault with names.
        if request.key.stream.kind() == StreamKind::Execution
            && !opens_execution(&request.command)
            && self.view(request.key).await?.is_none()
        {
            return Ok(false);
        }
        self.provide_key(request.key).await.map(|()| true)
    }

    /// Makes a stream's key where it has none, and returns when that is durable.
    pub async fn provide_key(&self, stream: StreamKey) -> Result<(), Answer> {
        match tokio::time::timeout(self.deadline, self.keys.provide(stream)).await {
            Ok(made) => made.map_err(Answer::Full),
            Err(_) => Err(Answer::Unknown),
        }
    }

    /// Why no keys of streams can be made for now, where that is so. Waits for nobody.
    pub fn no_keys(&self) -> Option<String> {
        self.keys.refused()
    }

    /// A stream as it is, once that is durable.
    pub async fn view(&self, key: StreamKey) -> Result<View<P>, Answer> {
        self.cell(&key).view(key).await.unwrap_or(Err(Answer::Unknown))
    }

    /// How every partition is doing. Waits for nobody.
    pub fn standing(&self) -> Vec<PartitionStanding> {
        let of = |cell: &Arc<Cell<P>>| {
            let standing = cell.standing.borrow().clone();
            let ended = if let Standing::Ended(why) = &standing { Some(why.to_string()) } else { None };
            let computing = Duration::from_micros(cell.busy.micros());
            PartitionStanding {
                partition: cell.partition(),
                led: standing == Standing::Leading,
                ended,
                full: cell.full(),
                computing,
            }
        };
        self.cells.iter().map(of).collect()
    }

    /// Work for a stream begins outside of its partition; it ends when what this gives is dropped. What is under way at
    /// three unclean ends of the process in a row is quarantined.
    pub fn work_on(&self, key: StreamKey) -> Working {
        self.suspects.begin(key, clock::now().boot)
    }

    /// Waits while a partition is being taken over. Whether it is led then.
    pub async fn is_led(&self, partition: Partition) -> bool {
        let Some(cell) = self.cells.get(usize::from(partition.0)) else { return false };
        let mut standing = cell.standing.subscribe();
        // The sender lives as long as its cell.
        let known = standing.wait_for(|standing| *standing != Standing::Opening).await;
        known.is_ok_and(|standing| *standing == Standing::Leading)
    }

    /// Tells every partition what the control stream says.
    pub fn control(&self, seq: Seq, digest: Digest, body: &Bytes) {
        self.cells.iter().for_each(|cell| cell.feed(Input::Control(seq, digest, body.clone())));
    }

    /// Whoever was to perform this sending is gone.
    pub fn lost(&self, key: StreamKey, step: StepId, branch: Branch, epoch: Epoch, delivery: i64) {
        self.cell(&key).feed(Input::Lost(key, step, branch, epoch, delivery));
    }

    /// Drops records of a partition before this offset, or somewhat earlier, from the log. What is still needed of them
    /// is written again first: what goes on, what ended no longer ago than `keep` or than it says itself, balances, lessons,
    /// idempotency keys, messages, schemas. One at a time.
    pub async fn trim(
        &self,
        partition: Partition,
        before: Offset,
        keep: Duration,
    ) -> Result<Offset, TrimError> {
        trim::trim(&*self.log, partition, &self.cells[usize::from(partition.0)], before, keep).await
    }

    /// Finishes what is on its way, writes the state to the store and stops.
    pub async fn stop(&self) -> Result<(), StoreError> {
        self.phase.send_if_modified(|phase| advance(phase, Phase::Finishing));
        self.cells.iter().for_each(|cell| cell.feed(Input::Stop));
        for cell in &self.cells {
            self.stopped(cell).await;
        }
        self.halt().await;
        self.suspects.end_well();
        if let Some(seen) = self.seen.clone() {
            seen::note(&seen, &*self.log).await;
        }
        self.flush().await
    }

    /// Writes what the store keeps in memory to its files. A store that has met a full disk looks for room only every few
    /// seconds, so it is asked again for a while.
    async fn flush(&self) -> Result<(), StoreError> {
        let mut left = ROOM_WITHIN;
        loop {
            let store = self.store.clone();
            match tokio::task::spawn_blocking(move || store.flush()).await.unwrap_or(Ok(())) {
                Err(StoreError::Full { .. }) if !left.is_zero() => {
                    left = left.saturating_sub(ROOM_AGAIN);
                    tokio::time::sleep(ROOM_AGAIN).await;
                }
                flushed => return flushed,
            }
        }
    }

    /// Waits for a partition to stop, but not for one that computes without an end.
    async fn stopped(&self, cell: &Cell<P>) {
        let mut standing = cell.standing.subscribe();
        loop {
            // A partition that has ended has nothing to finish; the sender lives as long as its cell.
            let stopped = standing.wait_for(|now| matches!(now, Standing::Stopped | Standing::Ended(_)));
            if tokio::time::timeout(LOOK, stopped).await.is_ok() {
                return;
            }
            if cell.busy.micros() >= HOPELESS {
                let partition = cell.partition();
                tracing::error!(%partition, "a partition computes without an end; the node stops without it");
                return;
            }
        }
    }

    /// Stops at once: what is not in the log yet may be lost, and state that is not in the store is folded again. When
    /// this returns, nothing of the node touches log or store any more.
    pub async fn halt(&self) {
        self.phase.send_replace(Phase::Over);
        self.cells.iter().for_each(|cell| cell.detach());
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a partition's task ended badly");
            }
        }
        drop(self.watch.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    fn cell(&self, key: &StreamKey) -> &Arc<Cell<P>> {
        &self.cells[usize::from(key.stream.partition(key.tenant, self.partitions()).0)]
    }
}

/// Waits until a partition is led, or never will be.
async fn known_as_led<P: Processors>(cell: &Cell<P>) -> Result<(), OpenError> {
    let mut standing = cell.standing.subscribe();
    let known = standing.wait_for(|standing| *standing != Standing::Opening).await;
    match known.map(|standing| standing.clone()) {
        Ok(Standing::Ended(why)) => Err(OpenError::NotLed(cell.partition(), why)),
        _ => Ok(()),
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
    /// A command without any extras, in the trace of what is worked on now.
    pub fn new(key: StreamKey, command: impl Into<Command>) -> Request {
        let command = command.into();
        Request {
            key,
            actor: None,
            trace: telemetry::current(),
            idempotency: None,
            digest: None,
            control: Seq(0),
            command,
        }
    }

    /// The same with an idempotency key. Keys that rise, as counters, ULIDs and UUIDs of version 7 do, cost least.
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
    /// Blobs cannot be kept.
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// There are no keys.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// There is no place for all this.
    #[error("the directory {0} cannot be made: {1}; give another one, or make it yourself")]
    Directory(PathBuf, String),
    /// Parts of the data folder are older than others; one sentence each.
    #[error("{}", .0.join("; "))]
    OtherAges(Vec<String>),
    /// A partition did not come under this node's lead.
    #[error("partition {0} cannot be led by this node: {1}")]
    NotLed(Partition, Ended),
}

/// Whether a command begins the stream that it is for.
pub fn opens_execution(command: &Command) -> bool {
    matches!(command, Command::StartExecution(_) | Command::StartFork(_) | Command::StartProgram(_))
}

/// Whether a command brings the end of what is under way: that was paid for already, or stops what costs more. A log
/// without room for anything else keeps some for it.
fn ends_work(command: &Command) -> bool {
    matches!(
        command,
        Command::CancelExecution(_)
            | Command::FinishExecution(_)
            | Command::CompleteStep(_)
            | Command::FailStep(_)
            | Command::LoseStep(_)
            | Command::CompleteLlmCall(_)
            | Command::FailLlmCall(_)
            | Command::CompleteToolCall(_)
            | Command::FailToolCall(_)
    )
}

fn advance(phase: &mut Phase, to: Phase) -> bool {
    let forward = *phase < to;
    *phase = to.max(*phase);
    forward
}
