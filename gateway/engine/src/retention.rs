//! Letting go of what was kept long enough: the front of each partition's log, the lines of the executions that ended in
//! it, and the blobs that nothing names any more.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use async_trait::async_trait;
use omium_api::port::{Caller, Failure, FailureKind, Retention};
use omium_api::views::{LetGo, LetGoPartition};
use omium_log::Log;
use omium_runtime::{Answer, TrimError};
use omium_schemas::catalogue::{Command, Event};
use omium_schemas::{BlobId, Block, BlockError, Content, Offset, Partition, Time};

use super::{Engine, answers, executions};

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(60 * 60);
/// How often blobs are looked through though nothing was dropped: of a put whose command was refused one may be left.
const SWEEPS: Duration = Duration::from_secs(24 * 60 * 60);
/// How much of the log is read at once.
const READ: usize = 1 << 20;
/// A blob is put before the frame that names it; no command is under way for longer, also by a clock that jumps.
const UNDER_WAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How many records are dropped at once.
const STEP: u64 = 20_000;
/// Idempotency keys count for a day, and what they stand for has to be known as long.
pub const SHORTEST: Duration = Duration::from_millis(omium_workflow::SHORTEST_KEEP_MS);

/// What letting go knows of earlier times. To find the blobs that nothing names takes reading all of the log.
#[derive(Debug, Default)]
pub(super) struct LettingGo {
    /// When blobs were looked through last.
    swept: Option<Instant>,
    /// Whether records were dropped since.
    dropped: bool,
}

impl LettingGo {
    fn sweeps(&self) -> bool {
        self.dropped || self.swept.is_none_or(|swept| swept.elapsed() >= SWEEPS)
    }
}

impl Engine {
    /// From now on what ended longer ago than this is let go of, now and then.
    pub fn keep(self: &Arc<Self>, keep: Duration) {
        assert!(self.keep.set(keep).is_ok(), "it is said once");
        let (weak, mut ended) = (Arc::downgrade(self), self.stopped());
        let task = tokio::spawn(async move {
            let over = async { drop(ended.wait_for(Option::is_some).await) };
            tokio::pin!(over);
            loop {
                let Some(engine) = weak.upgrade() else { return };
                tokio::select! {
                    let_go = engine.let_go(keep) => told(let_go),
                    () = &mut over => return,
                }
                drop(engine);
                tokio::select! {
                    () = tokio::time::sleep(EVERY) => {}
                    () = &mut over => return,
                }
            }
        });
        self.followers.lock().unwrap_or_else(PoisonError::into_inner).push(task);
    }

    /// What ended longer ago than `keep`, or than its workflow says, is dropped. What goes on, keys, workflows and prices
    /// are carried forward, so that the rest of the log says all that counts.
    pub(super) async fn let_go(&self, keep: Duration) -> anyhow::Result<LetGo> {
        let mut one_at_a_time = self.letting_go.lock().await;
        let instruments = self.metrics.meters.instruments();
        let now = executions::now();
        let least = self.least(keep).await;
        let log = self.history.log.clone();
        let mut done =
            LetGo { keep_ms: u64::try_from(keep.as_millis()).unwrap_or(u64::MAX), ..LetGo::default() };
        let mut moved = false;
        for partition in (0..log.partitions()).map(Partition) {
            self.history.index.caught_up(&*log, partition).await?;
            let start = log.start(partition)?;
            let mut mark = marked(&*log, partition, now, (least, keep)).await?;
            // What others read of the log is published first.
            mark = mark.min(self.published.reached(partition).unwrap_or(mark));
            let mut part =
                LetGoPartition { partition: partition.0, starts_at: start.0, ..LetGoPartition::default() };
            // In steps: what a step has to carry is in memory until it is written.
            while part.starts_at < mark.0 {
                let step = Offset(mark.0.min(part.starts_at + STEP));
                match self.node().trim(partition, step, keep).await {
                    Ok(new) if new.0 > part.starts_at => part.starts_at = new.0,
                    Ok(_) => break,
                    Err(TrimError::NotCarried(_, Answer::Refused(refusal))) => {
                        // A step that ends within a single block has nothing to drop.
                        part.kept_because = Some(refusal.text).filter(|_| part.starts_at + 1 < mark.0);
                        break;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            part.dropped = part.starts_at - start.0;
            moved |= part.dropped > 0;
            one_at_a_time.dropped |= part.dropped > 0;
            instruments.log_dropped(part.dropped);
            done.partitions.push(part);
        }
        if moved {
            let starts = self.starts()?;
            for partition in (0..log.partitions()).map(Partition) {
                self.history.index.caught_up(&*log, partition).await?;
            }
            let index = self.history.index.clone();
            tokio::task::spawn_blocking(move || index.let_go(&starts)).await.context("the index")??;
        }
        // What waits for room is in no frame of the log yet, however long that takes.
        if !one_at_a_time.sweeps() || self.full().is_some() {
            return Ok(done);
        }
        let named = self.named_blobs().await?;
        if self.full().is_some() {
            return Ok(done);
        }
        let before = SystemTime::now().checked_sub(UNDER_WAY).context("the clock stands before 1970")?;
        let swept = self.blobs.sweep(named, before).await?;
        *one_at_a_time = LettingGo { swept: Some(Instant::now()), dropped: false };
        instruments.blobs_removed(swept.removed);
        (done.blobs_removed, done.blob_bytes) = (swept.removed, swept.bytes);
        Ok(done)
    }

    fn starts(&self) -> anyhow::Result<Vec<Offset>> {
        let log = &self.history.log;
        Ok((0..log.partitions()).map(|n| log.start(Partition(n))).collect::<Result<_, _>>()?)
    }

    /// The shortest time that anything is kept. A definition that cannot be read may say anything.
    async fn least(&self, keep: Duration) -> Duration {
        let Ok(control) = self.control().await else { return keep.min(SHORTEST) };
        let mut least = keep;
        for version in control.workflows.values().flatten() {
            least = match self.definition(version).await {
                Ok(definition) => {
                    definition.keep_ms.map_or(least, |millis| least.min(Duration::from_millis(millis)))
                }
                Err(_) => least.min(SHORTEST),
            };
        }
        least
    }

    /// All blobs that any frame of the log names.
    async fn named_blobs(&self) -> anyhow::Result<BTreeSet<BlobId>> {
        let log = &self.history.log;
        let mut named = BTreeSet::new();
        for partition in (0..log.partitions()).map(Partition) {
            let mut next = log.start(partition)?;
            let end = *log.tail(partition)?.borrow();
            while next < end {
                let entries = log.read(partition, next, READ).await?;
                let Some(last) = entries.last() else { break };
                next = last.offset.next();
                for entry in entries {
                    match Block::trusted(entry.bytes) {
                        Ok(block) => names(&block, &mut named)?,
                        // Somebody else wrote it.
                        Err(BlockError::Magic) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                // Others run beside it.
                tokio::task::yield_now().await;
            }
        }
        Ok(named)
    }
}

#[async_trait]
impl Retention for Engine {
    /// Lets go of it at once, for whoever does not want to wait.
    async fn trim(&self, _caller: &Caller) -> Result<LetGo, Failure> {
        let Some(keep) = self.keep.get() else {
            return Err(Failure::new(
                FailureKind::Conflict,
                "keeps-everything",
                "this server keeps everything: nobody has said for how long",
                "start it with `--keep 90d`, or write `keep = \"90d\"` below `[server]` in its omium.toml",
            ));
        };
        self.letting_go.lock().await.swept = None;
        self.let_go(*keep).await.map_err(|error| answers::broken(&error))
    }
}

fn told(let_go: anyhow::Result<LetGo>) {
    match let_go {
        Ok(done) => {
            let dropped: u64 = done.partitions.iter().map(|part| part.dropped).sum();
            let LetGo { blobs_removed, blob_bytes, .. } = done;
            tracing::info!(dropped, blobs_removed, blob_bytes, "let go of what was kept long enough");
            for part in done.partitions {
                if let Some(why) = part.kept_because {
                    tracing::warn!(partition = part.partition, why, "the front of a log is kept for now");
                }
            }
        }
        Err(error) => {
            tracing::error!(
                error = format!("{error:#}"),
                "nothing more was let go of; it is tried again in an hour"
            );
        }
    }
}

/// Up to where a partition is looked through. A workflow that keeps its executions for less than the node does would have
/// all that is kept longer copied again and again, so for its sake the front is looked at only once a tenth of the node's
/// time has gathered there: nothing is copied more than ten times.
async fn marked(
    log: &dyn Log,
    partition: Partition,
    now: Time,
    (least, keep): (Duration, Duration),
) -> anyhow::Result<Offset> {
    let before =
        |keep: Duration| Time(now.0.saturating_sub(u64::try_from(keep.as_micros()).unwrap_or(u64::MAX)));
    let gathers =
        Time(before(least).0.saturating_sub(u64::try_from((keep / 10).as_micros()).unwrap_or(u64::MAX)));
    let start = log.start(partition)?;
    let until = if least < keep && first_since(log, partition, gathers).await? == start {
        before(keep)
    } else {
        before(least)
    };
    first_since(log, partition, until).await
}

/// The first offset whose block was closed at this time or later. Blocks are closed in the order of their times.
async fn first_since(log: &dyn Log, partition: Partition, since: Time) -> anyhow::Result<Offset> {
    let (mut low, mut high) = (log.start(partition)?.0, log.tail(partition)?.borrow().0);
    while low < high {
        let middle = low + (high - low) / 2;
        let entry = log.read(partition, Offset(middle), 1).await?.into_iter().next();
        let older = match entry.map(|entry| Block::trusted(entry.bytes)) {
            Some(Ok(block)) => block.head.time < since,
            // What is nobody's block has no time, and is as old as what stands behind it.
            Some(Err(BlockError::Magic)) | None => false,
            Some(Err(error)) => return Err(error.into()),
        };
        if older { low = middle + 1 } else { high = middle }
    }
    Ok(Offset(low))
}

fn names(block: &Block, named: &mut BTreeSet<BlobId>) -> anyhow::Result<()> {
    let mut note = |_: u16, content: &Content| {
        if let Content::Blob(place) = content {
            named.insert(place.blob);
        }
    };
    for frame in block.frames()? {
        for (n, record) in frame.records().enumerate() {
            if n == 0 {
                Command::decode(record.kind, record.body)?.1.contents(&mut note);
            } else {
                Event::decode(record.kind, record.body)?.contents(&mut note);
            }
        }
    }
    Ok(())
}
