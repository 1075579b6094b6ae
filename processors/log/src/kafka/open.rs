//! Opening a topic as a log, and what is asked of it.

use std::sync::Arc;
use std::time::Duration;

use omium_schemas::{Offset, Partition};
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::BaseConsumer;
use rdkafka::{Offset as At, TopicPartitionList};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::watch;

use super::client::{base, broken, signed};
use super::ends::ends;
use super::follower::Follower;
use super::place::Place;
use super::producer::Attachment;
use super::reader::Reader;
use super::topic;
use crate::contract::Waiting;
use crate::{Appender, Entry, Log, LogError, Source};

/// Where the log is, and what it must look like.
#[derive(Clone, Debug)]
pub struct KafkaOptions {
    /// `host:port`, several separated by commas.
    pub bootstrap: String,
    /// The topic that holds the blocks.
    pub topic: String,
    /// How many partitions the topic must have; fixed when it is made.
    pub partitions: u16,
    /// On how many brokers each partition must be: 3 in production, 1 where there is only one broker.
    pub replication: u16,
    /// Whether to make the topic when it is missing.
    pub create: bool,
    /// How long one call may take, an append with the client's own repetitions included. Seconds, not minutes: a
    /// leader that cannot append must notice.
    pub timeout: Duration,
    /// Further settings of the client (`security.protocol`, `sasl.username` …), in its own names.
    pub extra: Vec<(String, String)>,
}

impl KafkaOptions {
    /// The topic `topic` at `bootstrap` with 48 partitions on 3 brokers, made when missing.
    pub fn new(bootstrap: impl Into<String>, topic: impl Into<String>) -> Self {
        KafkaOptions {
            bootstrap: bootstrap.into(),
            topic: topic.into(),
            partitions: 48,
            replication: 3,
            create: true,
            timeout: Duration::from_secs(10),
            extra: Vec::new(),
        }
    }
}

/// The log on Kafka.
pub struct KafkaLog {
    options: KafkaOptions,
    admin: AdminClient<DefaultClientContext>,
    /// Asks for the first and last offset of partitions; never assigned to one.
    asker: Arc<BaseConsumer>,
    partitions: Vec<Arc<Place>>,
    /// The runtime that opened the log; followers live there also when asked for from elsewhere.
    runtime: Handle,
}

impl KafkaLog {
    /// Opens the topic, makes it when that is asked for, and refuses it when its settings could lose what was
    /// acknowledged.
    pub async fn open(options: KafkaOptions) -> Result<Self, LogError> {
        let config = base(&options);
        let admin: AdminClient<DefaultClientContext> =
            config.create().map_err(|error| broken("creating a client", &error))?;
        let asker: BaseConsumer = config.create().map_err(|error| broken("creating a client", &error))?;
        let asker = Arc::new(asker);
        topic::ready(&options, &admin, &asker).await?;
        let partitions = (0..options.partitions).map(|_| Arc::default()).collect();
        Ok(KafkaLog { options, admin, asker, partitions, runtime: Handle::current() })
    }

    fn place(&self, partition: Partition) -> Result<&Arc<Place>, LogError> {
        self.partitions
            .get(usize::from(partition.0))
            .ok_or(LogError::NoPartition { wanted: partition, partitions: self.options.partitions })
    }

    /// Where the partition begins and ends, asked without blocking a thread of the runtime.
    async fn ends(&self, partition: Partition) -> Result<(Offset, Offset), LogError> {
        let (asker, options) = (self.asker.clone(), self.options.clone());
        tokio::task::spawn_blocking(move || ends(&asker, &options, partition))
            .await
            .map_err(|_| LogError::Closed)?
    }

    async fn read_from(
        &self,
        partition: Partition,
        from: Offset,
        bytes: usize,
    ) -> Result<Vec<Entry>, LogError> {
        let place = self.place(partition)?;
        let follower = place.follower();
        if let Some(follower) = follower.as_ref().filter(|follower| follower.covers(from)) {
            return follower.read(from, bytes, self.options.timeout).await;
        }
        let mut slot = place.reader.lock().await;
        let known = slot.as_ref().filter(|reader| reader.next() == from).map(Reader::until);
        let until = match known {
            Some(until) if from < until => until,
            _ => match self.checked_end(partition, from).await? {
                until if until == from => {
                    // At the tail a follower takes over, and the client for catching up is given back.
                    if follower.is_some() {
                        discard(&mut slot);
                    }
                    return Ok(Vec::new());
                }
                until => until,
            },
        };
        let mut reader = match slot.take() {
            Some(reader) if reader.next() == from => reader,
            old => {
                old.into_iter().for_each(Reader::discard);
                Reader::new(&self.options, partition, from)?
            }
        };
        let entries = match reader.read(until, bytes).await {
            Ok(entries) => entries,
            Err(error) => {
                reader.discard();
                // A prefix may have been dropped meanwhile, or a suffix lost: then this says so.
                self.checked_end(partition, from).await?;
                return Err(error);
            }
        };
        // Only a reader that has not failed is kept: after an error the next read begins with a new one.
        *slot = Some(reader);
        Ok(entries)
    }

    /// The end of the partition, when `from` lies between its ends.
    async fn checked_end(&self, partition: Partition, from: Offset) -> Result<Offset, LogError> {
        let (start, end) = self.ends(partition).await?;
        if from < start {
            return Err(LogError::Trimmed { partition, wanted: from, start });
        }
        if from > end {
            return Err(LogError::Truncated { partition, wanted: from, end });
        }
        Ok(end)
    }

    async fn delete_before(&self, partition: Partition, before: Offset) -> Result<(), LogError> {
        let (start, end) = self.ends(partition).await?;
        if before <= start {
            return Ok(());
        }
        let mut offsets = TopicPartitionList::new();
        let before = before.min(end);
        offsets
            .add_partition_offset(&self.options.topic, i32::from(partition.0), At::Offset(signed(before.0)))
            .map_err(|error| broken("trimming", &error))?;
        let options = topic::admin_options(&self.options);
        let done = self
            .admin
            .delete_records(&offsets, &options)
            .await
            .map_err(|error| broken("trimming", &error))?;
        done.elements()
            .iter()
            .try_for_each(|element| element.error())
            .map_err(|error| broken("trimming", &error))
    }
}

impl Log for KafkaLog {
    fn partitions(&self) -> u16 {
        self.options.partitions
    }

    fn attach(&self, partition: Partition, source: Arc<dyn Source>) -> Result<Box<dyn Appender>, LogError> {
        let place = self.place(partition)?;
        let attachment = Attachment::start(&self.runtime, &self.options, partition, place.clone(), source)?;
        place.replace(attachment.clone());
        Ok(Box::new(Handed(attachment)))
    }

    fn read(
        &self,
        partition: Partition,
        from: Offset,
        bytes: usize,
    ) -> Waiting<'_, Result<Vec<Entry>, LogError>> {
        Box::pin(self.read_from(partition, from, bytes))
    }

    /// The first call for a partition asks the broker and starts to follow it.
    fn tail(&self, partition: Partition) -> Result<watch::Receiver<Offset>, LogError> {
        self.place(partition)?.followed(|| {
            let (_, end) = aside(|| ends(&self.asker, &self.options, partition))?;
            Follower::start(&self.runtime, &self.options, partition, end)
        })
    }

    fn start(&self, partition: Partition) -> Result<Offset, LogError> {
        self.place(partition)?;
        aside(|| ends(&self.asker, &self.options, partition)).map(|(start, _)| start)
    }

    fn trim(&self, partition: Partition, before: Offset) -> Waiting<'_, Result<(), LogError>> {
        Box::pin(async move {
            self.place(partition)?;
            self.delete_before(partition, before).await
        })
    }
}

impl Drop for KafkaLog {
    fn drop(&mut self) {
        for place in &self.partitions {
            place.close();
        }
    }
}

/// The handle that a source's owner holds.
struct Handed(Arc<Attachment>);

impl Appender for Handed {
    fn wake(&self) {
        self.0.wake();
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        self.0.detach();
    }
}

/// Runs what waits for the broker where the trait allows no `await`, without holding up other tasks of the thread.
fn aside<T>(wait: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(wait),
        _ => wait(),
    }
}

fn discard(slot: &mut Option<Reader>) {
    slot.take().into_iter().for_each(Reader::discard);
}
