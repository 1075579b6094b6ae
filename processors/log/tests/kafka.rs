//! The log on a real broker: what Kafka adds to the contract that all logs keep.

mod contract;
mod servers;

use std::collections::VecDeque;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use contract::Subject;
use omium_log::{Appender, KafkaLog, KafkaOptions, KafkaTopic, Log, LogError, Outgoing, Source};
use omium_schemas::{Offset, Partition, Time};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::{ClientConfig, TopicPartitionList};
use servers::Server;
use tokio::sync::mpsc;
use tokio::time::timeout;

const P0: Partition = Partition(0);
/// Far more than anything here takes; a test that reaches it hangs.
const LONG: Duration = Duration::from_secs(60);

async fn kafka() -> Option<Subject> {
    let log = KafkaLog::open(options(2)?).await.expect("a fresh topic can be made");
    Some(Subject { log: Arc::new(log), keep: Box::new(()) })
}

contract_suite!(kafka);

#[tokio::test(flavor = "multi_thread")]
async fn records_come_back_in_order_from_any_position_and_in_portions() {
    let Some(log) = fresh(8).await else { return };
    let mut writer = Writer::attach(&log, Partition(7));
    let records: Vec<Bytes> = (0..200).map(|n| record(n, 1000)).collect();
    assert_eq!(writer.append_all(&records).await, (0..200).map(Offset).collect::<Vec<_>>());
    for from in [0, 1, 150, 3, 199] {
        let read = read_to_end(&log, Partition(7), from).await;
        assert_eq!(read, records[usize::try_from(from).expect("small")..], "from {from}");
    }
    let portion = log.read(Partition(7), Offset(10), 2500).await.expect("readable");
    assert!((2..=4).contains(&portion.len()), "about 2,500 bytes, got {} records", portion.len());
    assert_eq!(portion[0].offset, Offset(10));
    assert!(log.read(Partition(7), Offset(200), 1).await.expect("readable").is_empty());
    assert!(log.read(P0, Offset(0), 1).await.expect("readable").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_of_the_largest_size_passes() {
    let Some(log) = fresh(1).await else { return };
    let mut writer = Writer::attach(&log, P0);
    let largest = vec![record(1, omium_schemas::MAX_BLOCK), record(2, omium_schemas::MAX_BLOCK)];
    writer.append_all(&largest).await;
    assert_eq!(read_to_end(&log, P0, 0).await, largest);
    assert_eq!(log.read(P0, Offset(0), 1).await.expect("readable").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_in_another_process_is_woken_by_each_record_and_reads_it_from_memory() {
    let Some(log) = fresh(2).await else { return };
    let other = reopened(&log).await;
    let mut writer = Writer::attach(&log, P0);
    writer.append_all(&[record(0, 100)]).await;
    let mut tail = other.tail(P0).expect("followable");
    assert_eq!(*tail.borrow_and_update(), Offset(1), "what is there is known at once");
    for n in 1..20 {
        writer.append_all(&[record(n, 100)]).await;
        let seen = *timeout(LONG, tail.wait_for(|tail| tail.0 > n)).await.expect("pushed").expect("followed");
        let read = other.read(P0, Offset(n), 1).await.expect("readable");
        assert_eq!((seen, &read[0].bytes), (Offset(n + 1), &record(n, 100)));
    }
    assert_eq!(
        read_to_end(&other, P0, 0).await.len(),
        20,
        "what is older than the follower is read from the broker"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_was_replaced_hears_nothing_more() {
    let Some(log) = fresh(1).await else { return };
    let mut old = Writer::attach(&log, P0);
    old.append_all(&[record(1, 10)]).await;
    let mut new = Writer::attach(&log, P0);
    old.offer(record(2, 10));
    new.append_all(&[record(3, 10)]).await;
    assert_eq!(read_to_end(&log, P0, 0).await, [record(1, 10), record(3, 10)]);
    assert!(old.outcomes.try_recv().is_err(), "the old source was told something");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_may_both_append_and_the_log_keeps_what_both_wrote() {
    let Some(log) = fresh(1).await else { return };
    let other = reopened(&log).await;
    let (mut one, mut two) = (Writer::attach(&log, P0), Writer::attach(&other, P0));
    one.append_all(&[record(1, 10)]).await;
    two.append_all(&[record(2, 10)]).await;
    assert_eq!(one.append_all(&[record(3, 10)]).await, [Offset(2)]);
    assert_eq!(read_to_end(&other, P0, 0).await, [record(1, 10), record(2, 10), record(3, 10)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trimmed_prefix_is_gone_and_says_where_the_log_starts() {
    let Some(log) = fresh(1).await else { return };
    let mut writer = Writer::attach(&log, P0);
    writer.append_all(&(0..10).map(|n| record(n, 10)).collect::<Vec<_>>()).await;
    log.trim(P0, Offset(4)).await.expect("trimmed");
    assert_eq!(log.start(P0).expect("known"), Offset(4));
    let refused = log.read(P0, Offset(3), 1).await.expect_err("trimmed");
    assert!(matches!(refused, LogError::Trimmed { wanted: Offset(3), start: Offset(4), .. }), "{refused}");
    assert_eq!(read_to_end(&log, P0, 4).await.len(), 6);
    log.trim(P0, Offset(2)).await.expect("what is already gone may be let go of again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_behind_the_end_is_an_alarm_and_not_an_empty_answer() {
    let Some(log) = fresh(1).await else { return };
    let lost = log.read(P0, Offset(5), 1).await.expect_err("nothing was ever there");
    assert!(lost.to_string().contains("ends at 0, before 5"), "{lost}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_does_not_exist_is_named_with_the_number_of_those_that_do() {
    let Some(log) = fresh(2).await else { return };
    let refused = log.read(Partition(2), Offset(0), 1).await.expect_err("there are two");
    assert!(matches!(refused, LogError::NoPartition { wanted: Partition(2), partitions: 2 }), "{refused}");
    assert!(log.tail(Partition(9)).is_err() && log.start(Partition(9)).is_err());
    assert!(log.attach(Partition(9), Arc::new(Feed::new().0)).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_vanishes_closes_the_tail_and_ends_the_attachment() {
    let Some(options) = options(1) else { return };
    let options = KafkaOptions { timeout: Duration::from_secs(2), ..options };
    let log = KafkaLog::open(options.clone()).await.expect("made");
    let mut writer = Writer::attach(&log, P0);
    writer.append_all(&[record(1, 10)]).await;
    let mut tail = log.tail(P0).expect("followable");
    alter(&options, &["--delete"]);
    let ended = tail.wait_for(|tail| tail.0 > 1);
    timeout(LONG, ended).await.expect("within the time limit").expect_err("the tail is closed");
    writer.offer(record(2, 10));
    writer.outcome().await.expect_err("there is no topic");
    assert!(log.read(P0, Offset(0), 1).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_number_of_partitions_is_refused() {
    let Some(options) = options(4) else { return };
    KafkaLog::open(options.clone()).await.expect("made");
    let refused = KafkaLog::open(KafkaOptions { partitions: 8, ..options }).await.err().expect("it has 4");
    assert!(matches!(refused, LogError::OtherPartitions { found: 4, wanted: 8, .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_is_an_error_when_it_may_not_be_made() {
    let Some(options) = options(1) else { return };
    let refused = KafkaLog::open(KafkaOptions { create: false, ..options }).await.err().expect("missing");
    assert!(refused.to_string().contains("does not exist; create it"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_could_lose_records_are_refused_each_with_its_cure() {
    let Some(options) = options(1) else { return };
    alter(
        &options,
        &[
            "--create",
            "--partitions=1",
            "--config=cleanup.policy=compact",
            "--config=retention.ms=1000",
            "--config=max.message.bytes=1000",
            "--config=unclean.leader.election.enable=true",
        ],
    );
    let refused = KafkaLog::open(options).await.err().expect("wrong").to_string();
    for part in [
        "cleanup.policy is compact, and compaction removes records from the middle of the log: set it to delete",
        "retention.ms is 1000",
        "max.message.bytes is 1000",
        "unclean.leader.election.enable is true",
    ] {
        assert!(refused.contains(part), "no '{part}' in: {refused}");
    }
    assert!(!refused.contains("retention.bytes"), "what is right is not named: {refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fewer_replicas_than_asked_for_are_refused() {
    let Some(options) = options(1) else { return };
    KafkaLog::open(options.clone()).await.expect("made");
    let refused = KafkaLog::open(KafkaOptions { replication: 3, ..options })
        .await
        .err()
        .expect("one broker")
        .to_string();
    assert!(refused.contains("on 1 brokers only, not on 3"), "{refused}");
    assert!(refused.contains("min.insync.replicas is 1"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_without_a_value_takes_the_place_of_an_earlier_one_of_its_key() {
    let Some(options) = options(1) else { return };
    let topic = KafkaTopic::open(options.clone(), &[("cleanup.policy", "compact")]).await.expect("a topic");
    let record = |payload: Option<&[u8]>| Outgoing {
        key: "ex_1".to_owned(),
        headers: vec![("execution", "ex_1".to_owned())],
        payload: payload.map(<[u8]>::to_vec),
        time: Time(1_000),
    };
    let wanted = [Some(&b"ended"[..]), None, Some(&b""[..])];
    topic.publish(&wanted.map(record)).await.expect("a broker that answers");
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &options.bootstrap).set("group.id", "a-stranger");
    let consumer: BaseConsumer = client.create().expect("a consumer");
    let mut all = TopicPartitionList::new();
    all.add_partition_offset(&options.topic, 0, rdkafka::Offset::Beginning).expect("a partition");
    consumer.assign(&all).expect("it can be read");
    for payload in wanted {
        let read = consumer.poll(LONG).expect("there are three").expect("a record");
        assert_eq!((read.key(), read.payload()), (Some(&b"ex_1"[..]), payload));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_does_not_answer_is_named_within_the_time_limit() {
    let mut options = KafkaOptions::new("127.0.0.1:1", "nowhere");
    options.timeout = Duration::from_secs(1);
    let refused = timeout(Duration::from_secs(20), KafkaLog::open(options))
        .await
        .expect("seconds")
        .err()
        .expect("nobody there");
    assert!(refused.to_string().contains("is a broker listening at 127.0.0.1:1?"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_dies_ends_the_attachment_and_nothing_is_sent_again() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let Some(server) = Server::start("kafka", Some(dir.path())) else { return };
    let mut options = KafkaOptions::new(server.value("bootstrap"), "fragile");
    (options.partitions, options.replication, options.timeout) = (1, 1, Duration::from_secs(3));
    let log = KafkaLog::open(options.clone()).await.expect("made");
    let mut writer = Writer::attach(&log, P0);
    writer.append_all(&[record(1, 10)]).await;
    crash(dir.path());
    writer.offer(record(2, 10));
    let failed = writer.outcome().await.expect_err("the broker is dead");
    assert!(matches!(failed, LogError::Broker { doing: "appending", .. }), "{failed}");
    drop(server);

    let _again = Server::start("kafka", Some(dir.path())).expect("it could be started before");
    writer.offer(record(3, 10));
    let recovered = Writer::attach(&log, P0).append_all(&[record(4, 10)]).await;
    assert!(writer.outcomes.try_recv().is_err(), "a dead attachment took another record");
    let read = read_to_end(&log, P0, 0).await;
    assert_eq!((read.first(), read.last()), (Some(&record(1, 10)), Some(&record(4, 10))));
    assert_eq!(recovered, [Offset(u64::try_from(read.len()).expect("small") - 1)]);
    assert!(!read.contains(&record(3, 10)));
}

/// A topic of its own on the broker that all tests of this file share.
fn options(partitions: u16) -> Option<KafkaOptions> {
    static BROKER: OnceLock<Option<Server>> = OnceLock::new();
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let broker = BROKER.get_or_init(|| Server::start("kafka", None)).as_ref()?;
    let topic = format!("omium.log.{}", NEXT.fetch_add(1, Ordering::Relaxed));
    Some(KafkaOptions { partitions, replication: 1, ..KafkaOptions::new(broker.value("bootstrap"), topic) })
}

async fn fresh(partitions: u16) -> Option<Opened> {
    let options = options(partitions)?;
    Some(Opened { log: KafkaLog::open(options.clone()).await.expect("a fresh topic can be made"), options })
}

/// What another process would see.
async fn reopened(opened: &Opened) -> Opened {
    let options = opened.options.clone();
    Opened { log: KafkaLog::open(options.clone()).await.expect("it exists"), options }
}

struct Opened {
    log: KafkaLog,
    options: KafkaOptions,
}

impl std::ops::Deref for Opened {
    type Target = KafkaLog;
    fn deref(&self) -> &KafkaLog {
        &self.log
    }
}

/// Ends the broker of `dir` as a crash would.
fn crash(dir: &Path) {
    let status = Command::new(servers::script("kafka")).arg("kill").arg("--dir").arg(dir).status();
    assert!(status.expect("the script runs").success());
}

/// Kafka's own tool, for topics that we would never make.
fn alter(options: &KafkaOptions, args: &[&str]) {
    let libs = Command::new(servers::script("kafka")).arg("libs").output().expect("the script runs").stdout;
    let libs = String::from_utf8(libs).expect("a path");
    let status = Command::new("java")
        .args(["-Xmx64m", "-cp", &format!("{}/*", libs.trim()), "org.apache.kafka.tools.TopicCommand"])
        .args(["--bootstrap-server", &options.bootstrap, "--topic", &options.topic])
        .args(args)
        .output()
        .expect("java runs");
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stdout));
}

fn record(n: u64, length: usize) -> Bytes {
    let mut bytes = n.to_le_bytes().to_vec();
    bytes.resize(length.max(8), u8::try_from(n % 251).expect("below 251"));
    bytes.into()
}

async fn read_to_end(log: &KafkaLog, partition: Partition, from: u64) -> Vec<Bytes> {
    let mut found = Vec::new();
    let mut at = Offset(from);
    loop {
        let entries = log.read(partition, at, 64 * 1024).await.expect("readable");
        let Some(last) = entries.last() else { return found };
        for (entry, expected) in entries.iter().zip(at.0..) {
            assert_eq!(entry.offset, Offset(expected), "offsets are contiguous");
        }
        at = last.offset.next();
        found.extend(entries.into_iter().map(|entry| entry.bytes));
    }
}

/// A source that gives what it was offered.
struct Feed {
    offered: Mutex<VecDeque<Bytes>>,
    settled: mpsc::UnboundedSender<Result<Offset, LogError>>,
}

impl Feed {
    fn new() -> (Self, mpsc::UnboundedReceiver<Result<Offset, LogError>>) {
        let (settled, outcomes) = mpsc::unbounded_channel();
        (Feed { offered: Mutex::default(), settled }, outcomes)
    }
}

impl Source for Feed {
    fn take(&self) -> Option<Bytes> {
        self.offered.lock().expect("no test panics while it holds this").pop_front()
    }

    fn settled(&self, outcome: Result<Offset, LogError>) {
        let _ = self.settled.send(outcome);
    }
}

struct Writer {
    feed: Arc<Feed>,
    appender: Box<dyn Appender>,
    outcomes: mpsc::UnboundedReceiver<Result<Offset, LogError>>,
}

impl Writer {
    fn attach(log: &KafkaLog, partition: Partition) -> Self {
        let (feed, outcomes) = Feed::new();
        let feed = Arc::new(feed);
        let appender = log.attach(partition, feed.clone()).expect("attachable");
        Writer { feed, appender, outcomes }
    }

    fn offer(&self, record: Bytes) {
        self.feed.offered.lock().expect("no test panics while it holds this").push_back(record);
        self.appender.wake();
    }

    async fn outcome(&mut self) -> Result<Offset, LogError> {
        timeout(LONG, self.outcomes.recv())
            .await
            .expect("an outcome within the time limit")
            .expect("the feed lives")
    }

    async fn append_all(&mut self, records: &[Bytes]) -> Vec<Offset> {
        records.iter().for_each(|record| self.offer(record.clone()));
        let mut offsets = Vec::new();
        for _ in records {
            offsets.push(self.outcome().await.expect("appended"));
        }
        offsets
    }
}
