//! Where things stand in the log: for each stream its blocks and the seqs in them, and a line per execution for lists. A
//! fold of the log like all else, in a store of its own that may be deleted at any time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use omium_log::{Entry, Log};
use omium_runtime::{StreamKey, Told};
use omium_schemas::catalogue::{BranchRaised, Command, Event, StepCancelled, StepTimedOut};
use omium_schemas::{
    Block, BlockError, Digest, Filter, Frame, Offset, Partition, Seq, StreamId, StreamKind, TenantId, Time,
    TypeId, Verdict,
};
use omium_store::{Batch, Store, StoreError};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::counted::Counted;
use super::metrics::counts;

/// How long the index waits before it tries again, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long somebody waits for it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Under this key it says which log it is of, and how its rows are laid out. No other key begins so.
const LOG: &[u8] = b"\xfflog";
/// Changes when rows do. An index of another layout is made anew.
const LAYOUT: u8 = 2;

/// A line of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) workflow: String,
    /// Who performs its first step.
    pub(crate) framework: String,
    pub(crate) status: Standing,
    pub(crate) started: Time,
    pub(crate) ended: Option<Time>,
    /// The seq of the event that says how it stands: what is carried forward later says nothing new.
    pub(crate) at: Seq,
}

/// A block that holds frames of a stream, and which seqs they have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) last: Seq,
    pub(crate) offset: Offset,
}

/// How an execution stands, as lists say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Standing {
    Running,
    Paused,
    Completed,
    Failed,
    Cancelled,
    Suspended,
}

impl Standing {
    pub(crate) const ALL: [(&'static str, Standing); 6] = [
        ("running", Standing::Running),
        ("paused", Standing::Paused),
        ("completed", Standing::Completed),
        ("failed", Standing::Failed),
        ("cancelled", Standing::Cancelled),
        ("suspended", Standing::Suspended),
    ];

    pub(crate) fn name(self) -> &'static str {
        Standing::ALL[self as usize].0
    }

    pub(crate) fn is_open(self) -> bool {
        matches!(self, Standing::Running | Standing::Paused | Standing::Suspended)
    }
}

/// What of an execution changed, for those who count and follow.
pub(crate) struct Moved {
    pub(crate) key: StreamKey,
    pub(crate) last: Seq,
    /// Its line before, where its standing changed, and now.
    pub(crate) change: Option<(Option<Line>, Line)>,
    /// Whether work that was handed out may not be needed any more.
    pub(crate) withdraws: bool,
    /// The events that are counted.
    pub(crate) counted: Vec<TypeId>,
}

/// The index over all partitions.
pub(crate) struct Index {
    store: Arc<dyn Store>,
    progress: Vec<watch::Sender<Offset>>,
    /// Why a partition's part stands still.
    troubles: Vec<Mutex<Option<String>>>,
    /// Lines of open executions: what a status change needs to know.
    open: Mutex<BTreeMap<StreamKey, Line>>,
    /// How many executions are open, by partition and framework.
    active: Vec<Mutex<Active>>,
    /// What was counted so far, by partition.
    counted: Vec<Mutex<Counted>>,
}

/// How many executions are open, by framework. Its row is written with the position, so that it counts nothing twice.
type Active = BTreeMap<String, i64>;

/// Events after which work that was handed out may not be needed any more.
const WITHDRAW: [TypeId; 3] = [StepCancelled::TYPE_ID, StepTimedOut::TYPE_ID, BranchRaised::TYPE_ID];
/// How much of the log is read at once.
const READ: usize = 1 << 20;
/// How many places are given at once. About those of one page of events: a page of a long stream pays for what is given.
const PLACES: usize = 64;

// Every key but the positions begins with the tenant.
pub(crate) fn key(tenant: TenantId, space: u8, rest: &[&[u8]]) -> Vec<u8> {
    let mut key = tenant.0.to_vec();
    key.push(space);
    rest.iter().for_each(|part| key.extend_from_slice(part));
    key
}

fn position_key(partition: Partition) -> Vec<u8> {
    key(TenantId::SYSTEM, b'p', &[&partition.0.to_be_bytes()])
}

fn active_key(partition: Partition) -> Vec<u8> {
    key(TenantId::SYSTEM, b'a', &[&partition.0.to_be_bytes()])
}

fn count(active: &mut Active, before: Option<&Line>, line: &Line) {
    let of = active.entry(line.framework.clone()).or_default();
    match (before.is_some_and(|line| line.status.is_open()), line.status.is_open()) {
        (false, true) => *of += 1,
        (true, false) => *of -= 1,
        _ => {}
    }
}

/// What tells the index of a log from all others.
fn identity(log: [u8; 16]) -> Vec<u8> {
    [log.as_slice(), &[LAYOUT]].concat()
}

/// By the last seq that the block holds of the stream, so that whoever wants what follows a seq begins at its row.
fn place_key(key_of: &StreamKey, last: Seq) -> Vec<u8> {
    key(key_of.tenant, b'o', &[key_of.stream.bytes(), &last.0.to_be_bytes()])
}

fn placed(row: &[u8], value: &[u8]) -> Option<(StreamKey, Place)> {
    let (tenant, rest) = row.split_first_chunk::<16>()?;
    let (stream, last) = rest.strip_prefix(b"o")?.split_first_chunk::<16>()?;
    let key_of = StreamKey::new(TenantId(*tenant), StreamId::from_bytes(*stream).ok()?);
    let number = |bytes: &[u8]| Some(u64::from_be_bytes(bytes.try_into().ok()?));
    Some((key_of, Place { last: Seq(number(last)?), offset: Offset(number(value)?) }))
}

/// When the execution began, by which its line is found.
fn begun_key(key_of: &StreamKey) -> Vec<u8> {
    key(key_of.tenant, b'x', &[key_of.stream.bytes()])
}

/// How an execution stands whose beginning is still to come.
fn early_key(key_of: &StreamKey) -> Vec<u8> {
    key(key_of.tenant, b'u', &[key_of.stream.bytes()])
}

fn standing_after(event: &str) -> Option<Standing> {
    match event {
        "ExecutionStarted" | "ExecutionResumed" | "BranchRaised" => Some(Standing::Running),
        "ExecutionSuspended" => Some(Standing::Suspended),
        "ExecutionPaused" => Some(Standing::Paused),
        "ExecutionCompleted" => Some(Standing::Completed),
        "ExecutionFailed" => Some(Standing::Failed),
        "ExecutionCancelled" => Some(Standing::Cancelled),
        _ => None,
    }
}

/// The workflow of an execution that begins with this frame, and who performs its first step.
fn begun(frame: &Frame) -> anyhow::Result<Option<(String, String)>> {
    let told = Told::read(frame)?;
    let plan = match &told.command {
        Command::StartExecution(start) => start.plan.first(),
        Command::StartFork(fork) => fork.plan.first(),
        _ => None,
    };
    // A program has no plan: it decides its own steps.
    let framework = plan.map_or_else(|| "program".to_owned(), |plan| plan.framework.clone());
    Ok(told.events.into_iter().find_map(|(_, event)| match event {
        Event::ExecutionStarted(started) => Some((started.workflow, framework.clone())),
        _ => None,
    }))
}

/// Newest first: the time counts down.
fn line_key(key_of: &StreamKey, started: Time) -> Vec<u8> {
    Wanted::default().row(key_of, started)
}

/// What a list is asked for. Each combination has rows of its own, so that a list costs its length and not the number
/// of executions that there are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) status: Option<Standing>,
    pub(crate) workflow: Option<String>,
}

impl Wanted {
    fn prefix(&self, tenant: TenantId) -> Vec<u8> {
        let workflow = self.workflow.as_ref().map(|name| Digest::of(name.as_bytes()).0);
        let workflow = workflow.as_ref().map(|hash| &hash[..8]);
        match (self.status.map(|status| [status as u8]), workflow) {
            (None, None) => key(tenant, b'l', &[]),
            (Some(status), None) => key(tenant, b's', &[&status]),
            (None, Some(workflow)) => key(tenant, b'w', &[workflow]),
            (Some(status), Some(workflow)) => key(tenant, b'c', &[&status, workflow]),
        }
    }

    /// The row of an execution among those that are wanted.
    fn row(&self, key_of: &StreamKey, started: Time) -> Vec<u8> {
        let mut row = self.prefix(key_of.tenant);
        row.extend_from_slice(&(u64::MAX - started.0).to_be_bytes());
        row.extend_from_slice(key_of.stream.bytes());
        row
    }

    /// The three rows beside the line itself.
    fn others(line: &Line) -> [Wanted; 3] {
        let (status, workflow) = (Some(line.status), Some(line.workflow.clone()));
        [
            Wanted { status, workflow: None },
            Wanted { status: None, workflow: workflow.clone() },
            Wanted { status, workflow },
        ]
    }
}

impl Index {
    pub(crate) fn new(store: Arc<dyn Store>, partitions: u16) -> Index {
        let progress = (0..partitions).map(|_| watch::Sender::new(Offset(0))).collect();
        let troubles = (0..partitions).map(|_| Mutex::default()).collect();
        let active = (0..partitions).map(|_| Mutex::default()).collect();
        let counted = (0..partitions).map(|_| Mutex::default()).collect();
        Index { store, progress, troubles, open: Mutex::default(), active, counted }
    }

    /// Why the log, whose partitions end so, is older than what the index was made from; nothing where it is not.
    pub(crate) fn is_ahead(&self, log: [u8; 16], ends: &[Offset]) -> Option<String> {
        // What cannot be read is met again where the index begins to follow, and said there.
        let rows = |key: Vec<u8>| self.store.get(&[key]).ok()?.pop().flatten();
        if rows(LOG.to_vec()) != Some(identity(log)) {
            return None;
        }
        let next = |n| serde_json::from_slice::<Position>(&rows(position_key(Partition(n)))?).ok();
        let ahead = |(n, end): (u16, &Offset)| {
            next(n).map(|position| position.next).filter(|next| *next > end.0).map(|next| (n, *end, next))
        };
        let (partition, end, next) = (0..).zip(ends).find_map(ahead)?;
        Some(format!(
            "the log is older than the folder `index`: partition {partition} of the log ends before offset {end}, and the \
             index was made from its records up to offset {next}. Bring the newest copy of the log back; if there is \
             none, remove the folder `index`, which is made anew, to go on without the records that are missing"
        ))
    }

    /// What was kept of another log, or in another layout, is forgotten: everything is folded again from this one.
    pub(crate) fn belongs_to(&self, log: [u8; 16]) -> anyhow::Result<()> {
        let known = self.store.get(&[LOG.to_vec()])?.pop().flatten();
        if known == Some(identity(log)) {
            return Ok(());
        }
        loop {
            let rows = self.store.scan(&[], None, 10_000)?;
            if rows.is_empty() {
                break;
            }
            let mut batch = Batch::default();
            rows.into_iter().for_each(|(key, _)| batch.delete(key));
            self.store.write(batch)?;
        }
        let mut batch = Batch::default();
        batch.put(LOG.to_vec(), identity(log));
        self.store.write(batch)?;
        Ok(self.store.flush()?)
    }

    /// Follows one partition for as long as there is a log. What fails is tried again: what stands behind it, histories,
    /// streams and withdrawals, waits for nobody else. Ends where its store is damaged.
    pub(crate) async fn follow(
        self: Arc<Self>,
        log: Arc<dyn Log>,
        partition: Partition,
        moved: impl Fn(Moved) + Send,
    ) -> Option<StoreError> {
        let mut wait = AGAIN.0;
        loop {
            let before = *self.progress[usize::from(partition.0)].borrow();
            let mut error = self.advance(&*log, partition, &moved).await.err()?;
            // What is damaged stays so until the index is opened again, and made anew.
            error = match error.downcast::<StoreError>() {
                Ok(damaged @ StoreError::Damaged { .. }) => return Some(damaged),
                Ok(other) => other.into(),
                Err(error) => error,
            };
            if *self.progress[usize::from(partition.0)].borrow() > before {
                wait = AGAIN.0;
            }
            tracing::error!(error = format!("{error:#}"), %partition, "the index stands still; it is tried again");
            self.note(partition, Some(format!("{error:#}")));
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(AGAIN.1);
        }
    }

    /// Why parts of it stand still, where they do.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let of = |(n, trouble): (usize, &Mutex<Option<String>>)| {
            let why = trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
            Some(format!("the index of partition {n} stands still: {why}"))
        };
        self.troubles.iter().enumerate().filter_map(of).collect()
    }

    fn note(&self, partition: Partition, trouble: Option<String>) {
        *self.troubles[usize::from(partition.0)].lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    async fn advance(
        &self,
        log: &dyn Log,
        partition: Partition,
        moved: &(impl Fn(Moved) + Send),
    ) -> anyhow::Result<()> {
        // What was taken in and not written is taken in again.
        let elsewhere = |key: &StreamKey| key.stream.partition(key.tenant, log.partitions()) != partition;
        self.open.lock().unwrap_or_else(PoisonError::into_inner).retain(|key, _| elsewhere(key));
        let row = self.store.get(&[position_key(partition)])?.pop().flatten();
        let stored: Option<(Offset, Filter)> =
            row.and_then(|row| serde_json::from_slice::<Position>(&row).ok()).map(Position::split);
        let start = log.start(partition)?;
        let (mut next, mut filter) = match stored {
            Some((next, filter)) if next >= start => (next, Some(filter)),
            _ => (start, None),
        };
        let mut active: Active = Active::new();
        if filter.is_some() {
            let row = self.store.get(&[active_key(partition)])?.pop().flatten();
            active = row.and_then(|row| serde_json::from_slice(&row).ok()).unwrap_or_default();
            self.open_in(partition).clone_from(&active);
        } else {
            Counted::forget(&*self.store, partition)?;
        }
        *self.counted_in(partition) = Counted::read(&*self.store, partition)?;
        let mut tail = log.tail(partition)?;
        loop {
            tail.wait_for(|tail| *tail > next).await.context("the log's end is not told any more")?;
            let entries = log.read(partition, next, READ).await?;
            let mut rows = Rows::default();
            let mut news = Vec::new();
            for entry in &entries {
                self.take(entry, &mut filter, &mut rows, &mut news)?;
                next = entry.offset.next();
            }
            let mut batch = rows.batch();
            let changes = news.iter().filter_map(|moved: &Moved| moved.change.as_ref());
            changes.for_each(|(before, line)| count(&mut active, before.as_ref(), line));
            batch.put(active_key(partition), serde_json::to_vec(&active)?);
            if let Some(filter) = &filter {
                batch.put(position_key(partition), serde_json::to_vec(&Position::join(next, filter))?);
            }
            let counted = Counted::of(&news);
            self.counted_in(partition).write(&counted, partition, &mut batch)?;
            self.store.write(batch)?;
            self.open_in(partition).clone_from(&active);
            self.counted_in(partition).add(&counted);
            self.progress[usize::from(partition.0)].send_replace(next);
            self.note(partition, None);
            news.into_iter().for_each(moved);
        }
    }

    fn open_in(&self, partition: Partition) -> std::sync::MutexGuard<'_, Active> {
        self.active[usize::from(partition.0)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counted_in(&self, partition: Partition) -> std::sync::MutexGuard<'_, Counted> {
        self.counted[usize::from(partition.0)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was counted so far, over all partitions.
    pub(crate) fn counted(&self) -> Counted {
        let mut sum = Counted::default();
        (0..self.counted.len() as u16).for_each(|n| sum.add(&self.counted_in(Partition(n))));
        sum
    }

    /// How many executions are open, by framework.
    pub(crate) fn active(&self) -> Vec<(String, u64)> {
        let mut sums = BTreeMap::<String, i64>::new();
        for partition in (0..self.active.len() as u16).map(Partition) {
            for (framework, count) in &*self.open_in(partition) {
                *sums.entry(framework.clone()).or_default() += count;
            }
        }
        sums.into_iter().map(|(framework, count)| (framework, count.max(0) as u64)).collect()
    }

    fn take(
        &self,
        entry: &Entry,
        filter: &mut Option<Filter>,
        rows: &mut Rows,
        news: &mut Vec<Moved>,
    ) -> anyhow::Result<()> {
        let block = match Block::trusted(entry.bytes.clone()) {
            Ok(block) => block,
            // Somebody else wrote it; who leads has said so.
            Err(BlockError::Magic) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let first = entry.offset == Offset(0);
        let filter = filter
            .get_or_insert_with(|| if first { Filter::new() } else { Filter::starting_at(&block.head) });
        // Whether the chain holds is the business of who leads and of `log verify`.
        filter.prev = Some(block.head.prev);
        if filter.admit(&block.head, None) != Verdict::Counts {
            return Ok(());
        }
        let frames = block.frames()?;
        let copies = omium_runtime::holds_copies(&frames);
        // A row for the last frame of each stream; for each frame among copies, which stand in the order they were met in.
        let mut last: BTreeMap<(StreamKey, Seq), Seq> = BTreeMap::new();
        for frame in frames {
            let key_of = StreamKey::new(frame.head.tenant, frame.head.stream);
            if !matches!(key_of.stream.kind(), StreamKind::Execution | StreamKind::Control) {
                continue;
            }
            last.insert((key_of, if copies { frame.head.first } else { Seq(0) }), frame.last());
            let change = if key_of.stream.kind() == StreamKind::Execution {
                self.change(&key_of, &frame, copies, rows)?
            } else {
                None
            };
            let withdraws = frame.records().skip(1).any(|record| WITHDRAW.contains(&record.kind));
            // What is carried forward was counted where it stood first.
            let counted = frame.records().skip(1).map(|record| record.kind);
            let counted = counted.filter(|kind| !copies && counts(*kind)).collect();
            news.push(Moved { key: key_of, last: frame.last(), change, withdraws, counted });
        }
        for ((key_of, _), last) in last {
            // What is carried forward takes the place of what stood below the mark.
            rows.plain.put(place_key(&key_of, last), entry.offset.0.to_be_bytes().to_vec());
        }
        Ok(())
    }

    /// What a frame does to the execution's line. Only frames that may hold such an event are decoded whole. Where the front
    /// of the log was dropped, what was carried forward comes behind frames that go on from it.
    fn change(
        &self,
        key_of: &StreamKey,
        frame: &Frame,
        copied: bool,
        rows: &mut Rows,
    ) -> anyhow::Result<Option<(Option<Line>, Line)>> {
        let mut said = None;
        let mut names = None;
        for (record, seq) in frame.records().zip(frame.head.first.0..).skip(1) {
            let name = omium_schemas::schema(record.kind).map(|schema| schema.name);
            if name == Some("ExecutionCarried") {
                self.goes(key_of, rows)?;
                return Ok(None);
            }
            if name == Some("ExecutionStarted") {
                names = begun(frame)?;
            }
            if let Some(status) = name.and_then(standing_after) {
                said = Some((status, Seq(seq)));
            }
        }
        let Some((status, at)) = said else { return Ok(None) };
        let time = frame.head.time;
        // A stream begins once, so only copies are asked whether it is known.
        let before = if names.is_some() && !copied { None } else { self.known(key_of, rows)? };
        if copied && before.as_ref().is_some_and(|line| line.at >= at) {
            return Ok(None);
        }
        let ended = (!status.is_open()).then_some(time);
        let mut line = match (&before, names) {
            (Some(line), _) => Line { status, ended, at, ..line.clone() },
            (None, Some((workflow, framework))) => {
                Line { workflow, framework, status, started: time, ended, at }
            }
            (None, None) => {
                // It begins in what is still to come.
                let (workflow, framework) = (String::new(), String::new());
                let line = Line { workflow, framework, status, started: time, ended, at };
                rows.plain.put(early_key(key_of), serde_json::to_vec(&line)?);
                rows.early.insert(*key_of, line);
                return Ok(None);
            }
        };
        if copied
            && before.is_none()
            && let Some(early) = self.early(key_of, rows)?
        {
            rows.plain.delete(early_key(key_of));
            rows.early.remove(key_of);
            (line.status, line.ended, line.at) = (early.status, early.ended, early.at);
        }
        for old in before.iter().flat_map(Wanted::others) {
            rows.leaves(old.row(key_of, line.started));
        }
        for new in Wanted::others(&line) {
            rows.enters(new.row(key_of, line.started));
        }
        rows.lines.insert(*key_of, Some(line.clone()));
        rows.plain.put(line_key(key_of, line.started), serde_json::to_vec(&line)?);
        rows.plain.put(begun_key(key_of), line.started.0.to_be_bytes().to_vec());
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if line.status.is_open() {
            open.insert(*key_of, line.clone())
        } else {
            open.remove(key_of)
        };
        Ok(Some((before, line)))
    }

    /// An execution whose records are let go of stands in no list any more.
    fn goes(&self, key_of: &StreamKey, rows: &mut Rows) -> anyhow::Result<()> {
        if let Some(line) = self.known(key_of, rows)? {
            for old in Wanted::others(&line) {
                rows.leaves(old.row(key_of, line.started));
            }
            rows.plain.delete(line_key(key_of, line.started));
            rows.plain.delete(begun_key(key_of));
        }
        rows.plain.delete(early_key(key_of));
        rows.early.remove(key_of);
        rows.lines.insert(*key_of, None);
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(key_of);
        Ok(())
    }

    fn known(&self, key_of: &StreamKey, rows: &Rows) -> anyhow::Result<Option<Line>> {
        rows.lines.get(key_of).cloned().map_or_else(|| self.line(key_of), Ok)
    }

    fn early(&self, key_of: &StreamKey, rows: &Rows) -> anyhow::Result<Option<Line>> {
        if let Some(line) = rows.early.get(key_of) {
            return Ok(Some(line.clone()));
        }
        let row = self.store.get(&[early_key(key_of)])?.pop().flatten();
        Ok(row.and_then(|row| serde_json::from_slice(&row).ok()))
    }

    /// Forgets where things stood that the log does not hold any more: partitions begin at these offsets now.
    pub(crate) fn let_go(&self, starts: &[Offset]) -> anyhow::Result<()> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let rows = self.store.scan(&[], after.as_deref(), 10_000)?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            after = Some(last.clone());
            let mut batch = Batch::default();
            for (row, value) in &rows {
                if let Some((key_of, place)) = placed(row, value)
                    && place.offset
                        < starts[usize::from(key_of.stream.partition(key_of.tenant, starts.len() as u16).0)]
                {
                    batch.delete(row.clone());
                }
            }
            self.store.write(batch)?;
        }
    }

    fn line(&self, key_of: &StreamKey) -> anyhow::Result<Option<Line>> {
        if let Some(line) = self.open.lock().unwrap_or_else(PoisonError::into_inner).get(key_of) {
            return Ok(Some(line.clone()));
        }
        let row = self.store.get(&[begun_key(key_of)])?.pop().flatten();
        let Some(started) = row.and_then(|row| row.try_into().ok()).map(u64::from_be_bytes) else {
            return Ok(None);
        };
        let row = self.store.get(&[line_key(key_of, Time(started))])?.pop().flatten();
        Ok(row.and_then(|row| serde_json::from_slice(&row).ok()))
    }

    /// Returns when the index has seen all that the log holds now.
    pub(crate) async fn caught_up(&self, log: &dyn Log, partition: Partition) -> anyhow::Result<()> {
        let tail = *log.tail(partition)?.borrow();
        let mut progress = self.progress[usize::from(partition.0)].subscribe();
        let caught_up = tokio::time::timeout(PATIENCE, progress.wait_for(|next| *next >= tail)).await;
        drop(caught_up.with_context(|| {
            let why = self.troubles[usize::from(partition.0)].lock().unwrap_or_else(PoisonError::into_inner);
            let why = why.clone().unwrap_or_else(|| "it has much to catch up with".to_owned());
            format!("the index of partition {partition} is behind the log: {why}")
        })??);
        Ok(())
    }

    /// Where frames of a stream stand that hold seqs from `from` on, in the order of these; no more than a page of them.
    pub(crate) fn places(&self, key_of: &StreamKey, from: Seq) -> anyhow::Result<Vec<Place>> {
        let prefix = key(key_of.tenant, b'o', &[key_of.stream.bytes()]);
        let after = from.0.checked_sub(1).map(|before| place_key(key_of, Seq(before)));
        let rows = self.store.scan(&prefix, after.as_deref(), PLACES)?;
        Ok(rows.iter().filter_map(|(row, value)| Some(placed(row, value)?.1)).collect())
    }

    /// Lines of a tenant, newest first, after a cursor; and the cursor of the last one where there may be more.
    #[expect(clippy::type_complexity, reason = "a page: its lines and where the next one begins")]
    pub(crate) fn lines(
        &self,
        tenant: TenantId,
        wanted: &Wanted,
        cursor: Option<Vec<u8>>,
        limit: usize,
    ) -> anyhow::Result<(Vec<(StreamId, Line)>, Option<Vec<u8>>)> {
        let prefix = wanted.prefix(tenant);
        let after = cursor.map(|rest| [prefix.as_slice(), &rest].concat());
        let rows = self.store.scan(&prefix, after.as_deref(), limit)?;
        let last = rows.last().filter(|_| rows.len() == limit).map(|(row, _)| row[prefix.len()..].to_vec());
        let ends: Vec<&[u8]> = rows.iter().map(|(row, _)| &row[prefix.len()..]).collect();
        let keys: Vec<Vec<u8>> = ends.iter().map(|end| key(tenant, b'l', &[end])).collect();
        let values = self.store.get(&keys)?;
        let mut found = Vec::with_capacity(rows.len());
        for (end, value) in ends.into_iter().zip(values) {
            let stream = end.get(8..).and_then(|bytes| bytes.try_into().ok());
            let stream = stream.and_then(|bytes| StreamId::from_bytes(bytes).ok());
            if let (Some(stream), Some(value)) = (stream, value) {
                found.push((stream, serde_json::from_slice(&value)?));
            }
        }
        Ok((found, last))
    }
}

/// What is written of some blocks. An execution that begins and ends within them leaves no trace among those that run.
#[derive(Default)]
struct Rows {
    plain: Batch,
    /// Lines as they are now, which the store does not know yet; nothing where one is gone.
    lines: BTreeMap<StreamKey, Option<Line>>,
    /// How executions stand whose beginning is still to come.
    early: BTreeMap<StreamKey, Line>,
    /// Rows of lists, and whether they come or go.
    lists: BTreeMap<Vec<u8>, bool>,
}

impl Rows {
    fn enters(&mut self, row: Vec<u8>) {
        if self.lists.remove(&row).is_none() {
            self.lists.insert(row, true);
        }
    }

    fn leaves(&mut self, row: Vec<u8>) {
        if self.lists.remove(&row).is_none() {
            self.lists.insert(row, false);
        }
    }

    fn batch(self) -> Batch {
        let mut batch = self.plain;
        for (row, enters) in self.lists {
            if enters { batch.put(row, Vec::new()) } else { batch.take_back(row) }
        }
        batch
    }
}

/// A position as its row holds it.
#[derive(Serialize, Deserialize)]
struct Position {
    next: u64,
    epoch: u64,
    no: u64,
}

impl Position {
    fn join(next: Offset, filter: &Filter) -> Position {
        Position { next: next.0, epoch: filter.epoch.0, no: filter.no.0 }
    }

    fn split(self) -> (Offset, Filter) {
        let filter = Filter {
            epoch: omium_schemas::Epoch(self.epoch),
            no: omium_schemas::BlockNo(self.no),
            ..Filter::default()
        };
        (Offset(self.next), filter)
    }
}

#[cfg(test)]
mod tests {
    use omium_log::MemoryLog;
    use omium_store::Row;

    use super::*;

    /// A store whose files are not what it wrote.
    struct Flipped;

    impl Flipped {
        fn damaged<T>() -> Result<T, StoreError> {
            Err(StoreError::Damaged { doing: "reading", place: "index".into(), why: "bad checksum".into() })
        }
    }

    impl Store for Flipped {
        fn get(&self, _: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
            Flipped::damaged()
        }

        fn scan(&self, _: &[u8], _: Option<&[u8]>, _: usize) -> Result<Vec<Row>, StoreError> {
            Flipped::damaged()
        }

        fn write(&self, _: Batch) -> Result<(), StoreError> {
            Flipped::damaged()
        }

        fn flush(&self) -> Result<(), StoreError> {
            Flipped::damaged()
        }
    }

    #[tokio::test]
    async fn who_follows_into_a_damaged_store_is_told_and_does_not_stand_still_for_ever() {
        let index = Arc::new(Index::new(Arc::new(Flipped), 1));
        let log = MemoryLog::new(1).expect("a log");
        let told = index.follow(Arc::new(log), Partition(0), |_| {}).await;
        assert!(matches!(told, Some(StoreError::Damaged { .. })), "{told:?}");
    }
}
