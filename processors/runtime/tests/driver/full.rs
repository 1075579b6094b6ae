//! Disks that are full, or fail, beneath a node; stores that do not take its state.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use omium_log::embedded::JournalOptions;
use omium_log::{EmbeddedLog, EmbeddedOptions, Log, LogError};
use omium_processor::testkit::BankSuite;
use omium_runtime::{Answer, Config, Dispatch, Ended, MemoryVault, Node, NodeParts, position_key};
use omium_schemas::catalogue::{CompleteStep, StartExecution};
use omium_schemas::{Content, Money, Offset, Partition};
use omium_store::{Batch, MemoryStore, Row, Store, StoreError};
use tokio::sync::Notify;

use crate::bank::{BankNode, account, balance, job, start, top_up};
use crate::disk::{FailingDisk, Plan};
use crate::place::{KeptBlobs, Place};
use crate::world::{Running, TestWorld};

/// The smallest that a block of any size still fits.
const SEGMENT: u32 = 1 << 20;

async fn node_on(log: Arc<dyn Log>, store: Arc<dyn Store>, config: Config) -> BankNode {
    let (world, told) = TestWorld::new();
    let (blobs, vault) = (Arc::<KeptBlobs>::default(), Arc::new(MemoryVault::new([7; 32])));
    let parts = NodeParts { log, store, blobs, vault, world, config, root: None };
    Running::new(Node::<BankSuite>::open(parts).await.expect("a node"), told)
}

struct OnDisk {
    node: BankNode,
    plan: Arc<Plan>,
    failures: Arc<Mutex<Vec<LogError>>>,
    dir: tempfile::TempDir,
}

/// A node on small segments of a disk that does what a test says.
async fn on_disk() -> OnDisk {
    let (dir, disk) = (tempfile::tempdir().expect("a directory"), FailingDisk::default());
    let failures = Arc::new(Mutex::new(Vec::new()));
    let seen = failures.clone();
    let usual = JournalOptions::new(dir.path().join("log"), 1, [5; 16]);
    let options = EmbeddedOptions {
        journal: JournalOptions { first_segment: SEGMENT, last_segment: SEGMENT, reserve: SEGMENT, ..usual },
        on_failure: Arc::new(move |error| seen.lock().expect("no panic").push(error.clone())),
    };
    let plan = disk.plan.clone();
    let log = Arc::new(EmbeddedLog::open_on(disk, options).expect("a log"));
    let config = Config { partitions: 1, deadline_micros: 3_000_000, ..Config::default() };
    OnDisk { node: node_on(log, Arc::<MemoryStore>::default(), config).await, plan, failures, dir }
}

/// Starts jobs with long inputs until the answer is of one kind; every other one must be of the other. Gives the answer
/// and its job.
async fn until(
    node: &BankNode,
    first: u8,
    wanted: fn(&Answer) -> bool,
    before: fn(&Answer) -> bool,
) -> (Answer, u8) {
    let starting = async {
        for n in first.. {
            let inputs = Some(Content::open("x".repeat(50_000)));
            let answer = node.submit(job(n), StartExecution { inputs, ..start(1, None) }).await;
            if wanted(&answer) {
                return (answer, n);
            }
            assert!(before(&answer), "{answer:?}");
        }
        unreachable!("there is no room for that many")
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), starting).await.expect("the answer")
}

async fn exists(node: &BankNode, n: u8) -> bool {
    node.node.view(job(n)).await.expect("a view").is_some()
}

fn is_done(answer: &Answer) -> bool {
    matches!(answer, Answer::Done(_))
}

fn is_full(answer: &Answer) -> bool {
    matches!(answer, Answer::Full(_))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_commands_reads_go_on_and_it_resumes_by_itself() {
    let OnDisk { node, plan, failures, dir: _dir } = on_disk().await;
    plan.full.store(true, Ordering::SeqCst);
    let (refused, refused_job) = until(&node, 1, is_full, is_done).await;
    let Answer::Full(why) = refused else { unreachable!("it was asked for") };
    assert!(why.contains("writes are refused") && why.contains("reads go on"), "{why}");
    assert!(refused_job > 1, "what was zeroed before is still written");
    assert!(is_full(&node.submit(account("a"), top_up(1)).await));
    assert!(exists(&node, 1).await && exists(&node, refused_job - 1).await);
    assert!(!exists(&node, refused_job).await, "what was refused changes nothing");

    plan.full.store(false, Ordering::SeqCst);
    let resumed = async {
        loop {
            match node.submit(account("a"), top_up(1)).await {
                Answer::Done(_) => return,
                answer => assert!(is_full(&answer), "{answer:?}"),
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), resumed).await.expect("it resumes");
    until(&node, refused_job, |_| true, is_done).await;
    assert!(exists(&node, refused_job).await);
    assert!(failures.lock().expect("no panic").is_empty() && node.ended.is_empty());
    node.node.stop().await.expect("nothing fails");
}

/// Waits until the log has, or has not, the room that it keeps.
async fn reserved(dir: &tempfile::TempDir, there: bool) {
    let reserve = dir.path().join("log/journal/reserve");
    let waiting = async {
        while reserve.exists() != there {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), waiting).await.expect("the reserve");
}

fn outcome(dispatch: &Dispatch, length: usize) -> CompleteStep {
    CompleteStep {
        step: dispatch.effect.step,
        branch: dispatch.effect.branch,
        epoch: dispatch.epoch,
        delivery: dispatch.delivery,
        output: Some(Content::open("x".repeat(length))),
        cost: Money::ZERO,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_something_is_taken_on_a_full_disk_until_the_room_kept_for_it_is_used_up() {
    const LENGTH: usize = 50_000;
    let OnDisk { mut node, plan, failures, dir } = on_disk().await;
    node.done(job(200), start(1_000, None)).await;
    let mut dispatch = node.next_dispatch().await;
    reserved(&dir, true).await;
    plan.full.store(true, Ordering::SeqCst);
    until(&node, 1, is_full, is_done).await;
    let mut outcomes = 0;
    // The last one is taken while it is found that there is no room for it, so that nobody knows what becomes of it.
    let last = loop {
        match node.submit(job(200), outcome(&dispatch, LENGTH)).await {
            Answer::Done(_) => outcomes += 1,
            answer => break answer,
        }
        assert!(
            is_full(&node.submit(account("a"), top_up(1)).await),
            "what begins something uses none of it"
        );
        loop {
            let next = node.next_dispatch().await;
            if next.key == job(200) {
                dispatch = next;
                break;
            }
        }
    };
    assert!(matches!(last, Answer::Unknown | Answer::Full(_)), "{last:?}");
    // A frame holds its content twice, and what is left of a segment is less than one.
    assert!(
        outcomes * 2 * LENGTH > 1 << 20,
        "only {outcomes} outcomes were taken, then {last:?}: that is no reserve"
    );
    reserved(&dir, false).await;
    assert!(is_full(&node.submit(job(200), outcome(&dispatch, LENGTH)).await), "the reserve is used up");
    assert!(exists(&node, 1).await, "reads go on");

    plan.full.store(false, Ordering::SeqCst);
    reserved(&dir, true).await;
    let resumed = async {
        while is_full(&node.submit(account("a"), top_up(1)).await) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), resumed).await.expect("it resumes");
    let repeated = node.submit(job(200), outcome(&dispatch, LENGTH)).await;
    assert!(
        matches!(repeated, Answer::Done(_) | Answer::Refused(_)),
        "taken now, or taken before: {repeated:?}"
    );
    assert!(failures.lock().expect("no panic").is_empty() && node.ended.is_empty());
    node.node.stop().await.expect("nothing fails");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_begins_something_is_taken_again_when_there_is_room_also_where_the_reserve_was_used() {
    let OnDisk { mut node, plan, dir, .. } = on_disk().await;
    node.done(job(200), start(1_000, None)).await;
    let mut dispatch = node.next_dispatch().await;
    reserved(&dir, true).await;
    plan.full.store(true, Ordering::SeqCst);
    plan.no_sync_of_folders.store(true, Ordering::SeqCst);
    until(&node, 1, is_full, is_done).await;
    while let Answer::Done(_) = node.submit(job(200), outcome(&dispatch, 50_000)).await {
        while {
            dispatch = node.next_dispatch().await;
            dispatch.key != job(200)
        } {}
    }
    assert!(dir.path().join("log/journal/reserve").exists(), "what cannot be used for now is not lost");
    plan.no_sync_of_folders.store(false, Ordering::SeqCst);
    reserved(&dir, false).await;
    assert!(is_full(&node.submit(account("a"), top_up(1)).await));
    plan.full.store(false, Ordering::SeqCst);
    let resumed = async {
        while is_full(&node.submit(account("a"), top_up(1)).await) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), resumed)
        .await
        .expect("it resumes, and nothing ends");
    assert!(node.ended.is_empty());
    node.node.stop().await.expect("nothing fails");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_lets_go_of_its_front_on_a_full_disk_which_makes_room() {
    let OnDisk { mut node, plan, dir, .. } = on_disk().await;
    reserved(&dir, true).await;
    for n in 1..60 {
        let inputs = Some(Content::open("x".repeat(50_000)));
        node.done(job(n), StartExecution { inputs, ..start(1, None) }).await;
        let dispatch = node.next_dispatch().await;
        node.done(job(n), outcome(&dispatch, 10)).await;
    }
    reserved(&dir, true).await;
    plan.full.store(true, Ordering::SeqCst);
    until(&node, 60, is_full, is_done).await;
    let before =
        node.node.trim(Partition(0), Offset(100), Duration::ZERO).await.expect("the front is let go of");
    assert!(before > Offset(0));
    assert!(!dir.path().join("log/journal/00000001.seg").exists());
    node.node.halt().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_ends_the_partition_for_good_because_nobody_knows_what_the_disk_holds() {
    let OnDisk { mut node, plan, failures, dir: _dir } = on_disk().await;
    node.done(account("a"), top_up(1)).await;
    plan.failing_sync.store(1, Ordering::SeqCst);
    assert_eq!(node.submit(account("a"), top_up(1)).await, Answer::Unknown);
    while node.ended.is_empty() {
        node.hear().await;
    }
    assert!(
        matches!(&node.ended[0].1, Ended::AppendFailed(why) if why.contains("syncing")),
        "{:?}",
        node.ended
    );
    assert!(node.retaken.is_empty(), "it took over from itself");
    assert!(matches!(node.submit(account("a"), top_up(1)).await, Answer::Full(_) | Answer::NotLeading));
    assert_eq!(failures.lock().expect("no panic").len(), 1, "the process is ended once");
    node.node.stop().await.expect("nothing fails");
}

/// A store that takes nothing while a test says so.
#[derive(Default)]
struct Stubborn {
    inner: MemoryStore,
    fails: AtomicBool,
    failed: Notify,
    written: Notify,
}

impl Store for Stubborn {
    fn get(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        self.inner.get(keys)
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.inner.scan(prefix, after, limit)
    }

    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        self.inner.write(batch)
    }

    fn flush(&self) -> Result<(), StoreError> {
        if self.fails.load(Ordering::SeqCst) {
            self.failed.notify_one();
            let why = "the test says so".to_owned();
            return Err(StoreError::Failed { doing: "flushing", place: "nowhere".into(), why });
        }
        self.inner.flush()?;
        self.written.notify_one();
        Ok(())
    }
}

#[tokio::test]
async fn a_store_that_fails_holds_nobody_up_and_is_given_the_state_again() {
    let Place::Memory(log, _) = Place::memory(1) else { unreachable!("it was made in memory") };
    let store = Arc::new(Stubborn::default());
    let config = Config { partitions: 1, flush_records: 1, residents: 4, ..Config::default() };
    store.fails.store(true, Ordering::SeqCst);
    let node = node_on(log.clone(), store.clone(), config.clone()).await;
    for round in 0..2 {
        for n in 0..20 {
            node.done(account(&format!("{n}")), top_up(1)).await;
        }
        if round == 0 {
            store.failed.notified().await;
        }
    }
    store.failed.notified().await;
    store.inner.crash(0);
    assert!(
        store.get(&[position_key(Partition(0))]).expect("readable")[0].is_none(),
        "nothing is in the store"
    );
    for n in 0..20 {
        let stream = node.node.view(account(&format!("{n}"))).await.expect("a view").expect("it exists");
        assert_eq!(balance(&stream.state), Money::dollars(2), "what is not saved stays in memory");
    }
    store.fails.store(false, Ordering::SeqCst);
    store.written.notified().await;
    assert!(store.get(&[position_key(Partition(0))]).expect("readable")[0].is_some());
    assert!(node.ended.is_empty());
    node.node.stop().await.expect("nothing fails");
    drop(node);

    let node = node_on(log, store, config).await;
    for n in 0..20 {
        let stream = node.node.view(account(&format!("{n}"))).await.expect("a view").expect("it exists");
        assert_eq!(balance(&stream.state), Money::dollars(2));
    }
    node.node.stop().await.expect("nothing fails");
}

#[tokio::test]
async fn a_node_stops_also_where_its_store_fails_and_its_state_is_folded_again() {
    let Place::Memory(log, _) = Place::memory(1) else { unreachable!("it was made in memory") };
    let (store, config) = (Arc::new(Stubborn::default()), Config { partitions: 1, ..Config::default() });
    let node = node_on(log.clone(), store.clone(), config.clone()).await;
    node.done(account("a"), top_up(1)).await;
    store.fails.store(true, Ordering::SeqCst);
    let error = node.node.stop().await.expect_err("the store fails").to_string();
    assert!(error.contains("the state is a cache"), "{error}");
    drop(node);
    store.fails.store(false, Ordering::SeqCst);
    store.inner.crash(0);
    let node = node_on(log, store, config).await;
    let stream = node.node.view(account("a")).await.expect("a view").expect("it exists");
    assert_eq!(balance(&stream.state), Money::dollars(1));
    node.node.stop().await.expect("nothing fails");
}
