//! What others read: topics that are derived from the log. Like the index it follows the log and nothing else, so what is
//! published has been durable and accepted before. Each record is published at least once.

mod events;
mod position;
mod results;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use omium_log::{KafkaOptions, KafkaTopic, Log, Outgoing, Registry, RegistryOptions};
use omium_schemas::{Block, BlockError, BlockKind, Filter, Frame, Offset, Partition, Verdict};

use super::Engine;
use events::Events;
use position::Position;
use results::Results;
pub use results::Shown;

/// How much of the log is read at once.
const READ: usize = 1 << 20;
/// How long a broker or a registry that does not answer is left alone, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// What is published, and where.
#[derive(Clone, Debug)]
pub struct Topics {
    /// The registry's Confluent API. Without one there is nobody to say what an event's bytes mean, and none is published.
    pub registry: Option<String>,
    /// The topic of events.
    pub events: String,
    /// The topic of results.
    pub results: String,
    /// How much of a result is shown.
    pub shown: Shown,
}

impl Topics {
    /// What is published, for whoever starts the node.
    pub fn told(&self) -> String {
        let events = match &self.registry {
            Some(registry) => {
                format!("events go to `{}`, content sealed, their schemas to {registry}", self.events)
            }
            None => "events are not published: --registry URL names a schema registry for them".to_owned(),
        };
        match self.shown {
            Shown::Off => format!("{events}; results are not published"),
            Shown::Status => format!("{events}; results without outputs go to `{}`", self.results),
            Shown::Whole => {
                format!("{events}; results go to `{}`, readable for all who may read it", self.results)
            }
        }
    }
}

/// What one topic holds of the log.
#[async_trait]
trait Publication: Send + Sync {
    fn topic(&self) -> &KafkaTopic;

    /// What frames of the log are to readers outside.
    async fn records(&self, frames: &[Frame]) -> anyhow::Result<Vec<Outgoing>>;
}

/// Why publications stand still, where they do.
#[derive(Default)]
pub(super) struct Troubles(Mutex<Vec<(String, Partition)>>);

impl Troubles {
    /// Whether all is published as it comes.
    pub(super) fn none(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn note(&self, topic: &str, partition: Partition, stands_still: bool) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(name, of)| (name.as_str(), *of) != (topic, partition));
        if stands_still {
            known.push((topic.to_owned(), partition));
        }
    }
}

/// Up to where each topic has been published: the log keeps what stands behind that.
#[derive(Default)]
pub(super) struct Reached(Mutex<BTreeMap<(String, Partition), Offset>>);

impl Reached {
    /// Up to where all of them are; nothing where nothing is published.
    pub(super) fn reached(&self, partition: Partition) -> Option<Offset> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().filter(|((_, of), _)| *of == partition).map(|(_, reached)| *reached).min()
    }

    fn note(&self, topic: &str, partition: Partition, reached: Offset) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert((topic.to_owned(), partition), reached);
    }
}

/// Publishes until the engine ends. Returns when the topics are there.
pub async fn start(
    engine: &Arc<Engine>,
    data: &std::path::Path,
    kafka: &KafkaOptions,
    topics: &Topics,
) -> anyhow::Result<()> {
    let place = data.join("published");
    std::fs::create_dir_all(&place).with_context(|| format!("{} cannot be made", place.display()))?;
    let of = |topic: &str| KafkaOptions { topic: topic.to_owned(), ..kafka.clone() };
    if let Some(registry) = &topics.registry {
        let registry = Registry::new(RegistryOptions::new(registry, &topics.events))?;
        let topic = KafkaTopic::open(of(&topics.events), &events::SETTINGS).await?;
        follow(engine, &place, Arc::new(Events { topic, registry }));
    }
    if topics.shown != Shown::Off {
        let topic = KafkaTopic::open(of(&topics.results), &results::SETTINGS).await?;
        let (engine_of, shown) = (Arc::downgrade(engine), topics.shown);
        follow(engine, &place, Arc::new(Results { topic, engine: engine_of, shown }));
    }
    Ok(())
}

/// Why the log, whose partitions end so, is older than what was published of it; nothing where it is not.
pub(crate) fn is_ahead(published: &std::path::Path, log: [u8; 16], ends: &[Offset]) -> Option<String> {
    for file in std::fs::read_dir(published).ok()?.flatten() {
        let name = file.file_name();
        let partition = name.to_str().and_then(|name| name.strip_suffix(".json")?.rsplit_once('-'));
        let partition = partition.and_then(|(_, number)| number.parse::<u16>().ok());
        let Some((partition, end)) = partition.and_then(|n| Some((n, ends.get(usize::from(n))?))) else {
            continue;
        };
        let Some(position) = Position::load(&file.path(), log).filter(|position| position.next > *end) else {
            continue;
        };
        return Some(format!(
            "the log is older than what was published of it: partition {partition} ends before offset {end}, and {} says \
             that its records were published up to offset {}. Bring the newest copy of the log back; if there is none, \
             remove the folder `published` to publish all of this log again and go on without the records that are missing",
            file.path().display(),
            position.next
        ));
    }
    None
}

fn follow(engine: &Arc<Engine>, place: &std::path::Path, publication: Arc<dyn Publication>) {
    let log = engine.history.log.clone();
    for partition in (0..log.partitions()).map(Partition) {
        let follower = Follower {
            engine: Arc::downgrade(engine),
            log: log.clone(),
            id: engine.node().log_id(),
            partition,
            publication: publication.clone(),
            file: place.join(format!("{}-{}.json", publication.topic().name(), partition.0)),
        };
        let reached = Position::load(&follower.file, follower.id).map(|position| position.next);
        engine.published.note(publication.topic().name(), partition, reached.unwrap_or_default());
        let mut ended = engine.stopped();
        let task = tokio::spawn(async move {
            tokio::select! {
                () = follower.run() => {}
                _ = ended.wait_for(Option::is_some) => {}
            }
        });
        engine.followers.lock().unwrap_or_else(PoisonError::into_inner).push(task);
    }
}

/// One publication of one partition.
struct Follower {
    engine: Weak<Engine>,
    log: Arc<dyn Log>,
    /// What tells the log from all others.
    id: [u8; 16],
    partition: Partition,
    publication: Arc<dyn Publication>,
    file: PathBuf,
}

impl Follower {
    /// Goes on where it was, whatever happens to broker and registry: the node works without them being read.
    async fn run(&self) {
        let topic = self.publication.topic().name();
        let mut wait = AGAIN.0;
        let mut position = Position::load(&self.file, self.id);
        loop {
            let before = position.clone();
            let Err(error) = self.advance(&mut position).await else { return };
            if position != before {
                wait = AGAIN.0;
            }
            let partition = self.partition;
            tracing::warn!(topic, %partition, error = format!("{error:#}"), "publishing stands still; it is tried again");
            self.note(true);
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(AGAIN.1);
        }
    }

    fn note(&self, stands_still: bool) {
        if let Some(engine) = self.engine.upgrade() {
            engine.troubles.note(self.publication.topic().name(), self.partition, stands_still);
        }
    }

    async fn advance(&self, position: &mut Option<Position>) -> anyhow::Result<()> {
        let start = self.log.start(self.partition)?;
        if position.as_ref().is_some_and(|position| position.next < start) {
            tracing::error!(
                topic = self.publication.topic().name(),
                partition = %self.partition,
                "the front of the log was dropped before it was published; publishing goes on where the log begins"
            );
            *position = None;
        }
        let mut tail = self.log.tail(self.partition)?;
        let (mut next, mut filter, copies_until) = match position.as_ref() {
            Some(position) => (position.next, Some(position.filter()), position.copies_until),
            // Whoever begins behind a front that was dropped finds what was carried forward as copies alone.
            None if start > Offset(0) => (start, None, *tail.borrow()),
            None => (start, None, Offset(0)),
        };
        loop {
            tail.wait_for(|tail| *tail > next).await.context("the log is gone")?;
            let mut frames = Vec::new();
            let mut reached = filter.clone();
            for entry in self.log.read(self.partition, next, READ).await? {
                next = entry.offset.next();
                match Block::parse(entry.bytes) {
                    Ok(block) => {
                        let copies = entry.offset < copies_until;
                        take(entry.offset, block, copies, &mut reached, &mut frames)?;
                    }
                    // Somebody else wrote it; who leads has said so.
                    Err(BlockError::Magic) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            let records = self.publication.records(&frames).await?;
            self.publication.topic().publish(&records).await?;
            filter = reached;
            if let Some(filter) = &filter {
                let reached = Position::new(self.id, next, filter).with_copies_until(copies_until);
                // Only what is acknowledged is behind a position: a crash in between doubles records and loses none.
                reached.save(&self.file)?;
                if let Some(engine) = self.engine.upgrade() {
                    engine.published.note(self.publication.topic().name(), self.partition, next);
                }
                *position = Some(reached);
            }
            self.note(false);
        }
    }
}

/// The frames of a block, where it counts. On a broker several may write, so that hashes are compared too.
pub(crate) fn take(
    offset: Offset,
    block: Block,
    copies: bool,
    filter: &mut Option<Filter>,
    frames: &mut Vec<Frame>,
) -> anyhow::Result<()> {
    let filter = filter.get_or_insert_with(|| match offset {
        Offset(0) => Filter::new(),
        _ => Filter::starting_at(&block.head),
    });
    let hash = match block.head.kind {
        BlockKind::Frames => Some(block.hash()?),
        BlockKind::Epoch => None,
    };
    if filter.admit(&block.head, hash) == Verdict::Counts {
        let of_block = block.frames()?;
        // What is carried forward was published where it stood first.
        if copies || !omium_runtime::holds_copies(&of_block) {
            frames.extend(of_block);
        }
    }
    Ok(())
}
