//! A node on a real broker that dies and comes back.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test starts the servers that it needs"
)]

#[path = "../../log/tests/servers/mod.rs"]
mod servers;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use omium_log::blobs::BlobDirectory;
use omium_log::{KafkaLog, KafkaOptions, Log};
use omium_processor::testkit::{BankState, BankSuite};
use omium_runtime::{
    Answer, Config, Dispatch, Done, Ended, MemoryVault, Node, NodeParts, OpenError, Request, StreamKey, World,
};
use omium_schemas::catalogue::{TopUpAccount, TransferMoney};
use omium_schemas::{Money, Offset, Partition, StreamId, StreamKind, TenantId};
use omium_store::MemoryStore;
use servers::Server;
use tokio::sync::mpsc;
use tokio::time::timeout;

type BankNode = Node<BankSuite>;

/// Brokers are large: one test at a time.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

const PARTITIONS: u16 = 2;
/// Far more than anything here takes; a test that reaches it hangs.
const LONG: Duration = Duration::from_secs(120);

/// Passes on what a node says about its partitions.
struct Ears(mpsc::UnboundedSender<Ended>, mpsc::UnboundedSender<Ended>);

impl World for Ears {
    fn dispatch(&self, _: Dispatch) {}

    fn retaken(&self, _: Partition, why: &Ended) {
        // A test that has ended does not listen any more.
        let _ = self.0.send(why.clone());
    }

    fn ended(&self, _: Partition, why: Ended) {
        let _ = self.1.send(why);
    }
}

struct Running {
    node: BankNode,
    retaken: mpsc::UnboundedReceiver<Ended>,
    ended: mpsc::UnboundedReceiver<Ended>,
}

async fn open(options: &KafkaOptions, store: &Arc<MemoryStore>, blobs: &Path) -> Running {
    try_open(options, store, blobs).await.expect("a node")
}

async fn try_open(
    options: &KafkaOptions,
    store: &Arc<MemoryStore>,
    blobs: &Path,
) -> Result<Running, OpenError> {
    let ((retakes, retaken), (ends, ended)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
    let parts = NodeParts {
        log: Arc::new(KafkaLog::open(options.clone()).await.expect("a topic")),
        store: store.clone(),
        blobs: Arc::new(BlobDirectory::open(blobs.to_owned()).expect("a directory")),
        vault: Arc::new(MemoryVault::new([7; 32])),
        world: Arc::new(Ears(retakes, ends)),
        config: Config { partitions: PARTITIONS, ..Config::default() },
        under_way: None,
    };
    Ok(Running { node: Node::open(parts).await?, retaken, ended })
}

fn account(name: &str) -> StreamKey {
    StreamKey::new(TenantId([1; 16]), StreamId::named(StreamKind::Account, name))
}

fn top_up(name: &str, key: &str) -> Request {
    Request::new(account(name), TopUpAccount { amount: Money::dollars(1) }).with_key(key.to_owned())
}

/// Submits until the answer is known.
async fn insist(node: &BankNode, request: Request) -> Done {
    let partition = request.key.stream.partition(request.key.tenant, PARTITIONS);
    let insisting = async {
        loop {
            match node.submit(request.clone()).await {
                Answer::Done(done) => return done,
                Answer::Unknown | Answer::NotLeading => {
                    assert!(node.is_led(partition).await, "the partition has ended");
                    tokio::task::yield_now().await;
                }
                other => panic!("{other:?}"),
            }
        }
    };
    timeout(LONG, insisting).await.expect("an answer")
}

async fn balance(node: &BankNode, name: &str) -> Money {
    let stream = node.view(account(name)).await.expect("a view").expect("it exists");
    match &stream.state.0 {
        BankState::Account(account) => account.balance,
        other => panic!("{other:?}"),
    }
}

fn options(server: &Server) -> KafkaOptions {
    let mut options = KafkaOptions::new(server.value("bootstrap"), "omium.log");
    (options.partitions, options.replication, options.timeout) = (PARTITIONS, 1, Duration::from_secs(3));
    options
}

/// Ends the broker of `dir` as a crash would.
fn crash(dir: &Path) {
    let status = Command::new(servers::script("kafka")).arg("kill").arg("--dir").arg(dir).status();
    assert!(status.expect("the script runs").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_outlives_a_broker_that_dies_and_comes_back() {
    let _turn = TURN.lock().await;
    let (dir, blobs) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let Some(server) = Server::start("kafka", Some(dir.path())) else { return };
    let (options, store) = (options(&server), Arc::default());
    let mut running = open(&options, &store, blobs.path()).await;
    for n in 0..20 {
        insist(&running.node, top_up("a", &format!("before {n}"))).await;
    }
    crash(dir.path());
    assert_eq!(running.node.submit(top_up("a", "during")).await, Answer::Unknown);
    let why = timeout(LONG, running.retaken.recv()).await.expect("a take-over").expect("the node lives");
    assert!(matches!(why, Ended::AppendFailed(_)), "{why}");
    drop(server);
    let _again = Server::start("kafka", Some(dir.path())).expect("it could be started before");

    // The same key: whether the first sending was written or not, it counts once.
    insist(&running.node, top_up("a", "during")).await;
    let moved = TransferMoney { to: account("b").stream, amount: Money::dollars(5) };
    insist(&running.node, Request::new(account("a"), moved).with_key("moved")).await;
    for n in 0..20 {
        assert!(insist(&running.node, top_up("a", &format!("before {n}"))).await.repeated);
    }
    assert_eq!(balance(&running.node, "a").await, Money::dollars(16));
    assert!(running.ended.try_recv().is_err(), "a partition has ended");
    running.node.stop().await.expect("nothing fails");
    drop(running);

    let running = open(&options, &Arc::default(), blobs.path()).await;
    assert_eq!(balance(&running.node, "a").await, Money::dollars(16), "folded from the log alone");
    running.node.stop().await.expect("nothing fails");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_brokers_dies_and_nothing_is_lost_or_doubled() {
    let _turn = TURN.lock().await;
    let (dir, blobs) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let Some(server) = Server::start("kafka-cluster", Some(dir.path())) else { return };
    let mut options = options(&server);
    (options.replication, options.timeout) = (3, Duration::from_secs(10));
    let mut running = open(&options, &Arc::default(), blobs.path()).await;
    for n in 0..90 {
        if n == 30 {
            crash(&dir.path().join("1"));
        }
        let name = if n % 2 == 0 { "a" } else { "c" };
        assert!(!insist(&running.node, top_up(name, &format!("{n}"))).await.repeated || n >= 30, "{n}");
    }
    assert!(running.ended.try_recv().is_err(), "a partition has ended");
    running.node.stop().await.expect("nothing fails");
    drop(running);

    let running = open(&options, &Arc::default(), blobs.path()).await;
    for name in ["a", "c"] {
        assert_eq!(balance(&running.node, name).await, Money::dollars(45), "folded from two brokers' copies");
    }
    running.node.stop().await.expect("nothing fails");
}

/// Kafka's own tool, for what we would never do to a topic.
fn alter(options: &KafkaOptions, args: &[&str]) {
    let libs = Command::new(servers::script("kafka")).arg("libs").output().expect("the script runs").stdout;
    let libs = String::from_utf8(libs).expect("a path");
    let done = Command::new("java")
        .args(["-Xmx64m", "-cp", &format!("{}/*", libs.trim()), "org.apache.kafka.tools.TopicCommand"])
        .args(["--bootstrap-server", &options.bootstrap, "--topic", &options.topic])
        .args(args)
        .output()
        .expect("java runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_truncated_or_made_anew_stops_the_partition_with_a_clear_message() {
    let _turn = TURN.lock().await;
    let blobs = tempfile::tempdir().expect("a directory");
    let Some(server) = Server::start("kafka", None) else { return };
    let (mut options, store) = (options(&server), Arc::default());
    let mut running = open(&options, &store, blobs.path()).await;
    for n in 0..10 {
        insist(&running.node, top_up("a", &format!("{n}"))).await;
    }
    let partition = account("a").stream.partition(account("a").tenant, PARTITIONS);

    // Made anew while the node runs: what it decides then is never said to be done.
    alter(&options, &["--delete"]);
    let made = async {
        while KafkaLog::open(options.clone()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, made).await.expect("a topic");
    let why = loop {
        let answer = running.node.submit(top_up("a", "lost")).await;
        assert!(!matches!(answer, Answer::Done(_)), "{answer:?}");
        if let Ok(why) = running.ended.try_recv() {
            break why;
        }
        running.node.is_led(partition).await;
    };
    assert!(
        matches!(&why, Ended::Unreadable(why) if why.contains("records that were there are gone")),
        "{why}"
    );
    running.node.stop().await.expect("nothing fails");
    let Err(error) = try_open(&options, &store, blobs.path()).await else { panic!("it opened") };
    assert!(error.to_string().contains("records that were there are gone"), "{error}");

    // Records deleted from the front of a topic that is used.
    options.topic = "omium.another".into();
    let store = Arc::default();
    let mut running = open(&options, &store, blobs.path()).await;
    for n in 0..10 {
        insist(&running.node, top_up("a", &format!("{n}"))).await;
    }
    let tool = KafkaLog::open(options.clone()).await.expect("a topic");
    tool.trim(partition, Offset(4)).await.expect("deleted");
    let why = timeout(LONG, running.ended.recv()).await.expect("an alarm").expect("the node lives");
    assert!(why.to_string().contains("were removed from the log, and not by omium"), "{why}");
    running.node.stop().await.expect("nothing fails");
}
