//! Content: sealed in the log, opened for who decides, and in a blob where it is long.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use omium_log::blobs::Swept;
use omium_log::contract::Waiting;
use omium_log::{BlobError, Blobs, LogError};
use omium_runtime::{Answer, Request};
use omium_schemas::catalogue::StartExecution;
use omium_schemas::{Content, Digest};
use tokio::sync::{Mutex, mpsc};

use crate::bank::{BankNode, account, job, start, top_up};
use crate::place::{KeptBlobs, Place};

fn start_with(inputs: Vec<u8>) -> StartExecution {
    StartExecution { inputs: Some(Content::open(inputs)), ..start(1, None) }
}

#[tokio::test]
async fn no_content_stands_in_the_log_in_plain() {
    use omium_log::Log as _;
    let place = Place::memory(1);
    let node: BankNode = place.open().await;
    node.done(job(1), start_with(b"the secret recipe".to_vec())).await;
    node.node.stop().await.unwrap();
    let Place::Memory(log, _) = &place else { unreachable!("it was made in memory") };
    let entries = log.read(omium_schemas::Partition(0), omium_schemas::Offset(0), 1 << 30).await.unwrap();
    let holds = |needle: &[u8]| {
        entries.iter().any(|entry| entry.bytes.windows(needle.len()).any(|window| window == needle))
    };
    assert!(!holds(b"the secret recipe"));
    assert!(holds(b"ExecutionStarted"), "the schemas are taught in plain");
}

/// Blobs that are stored only when the test says so.
struct Gate {
    arrived: mpsc::UnboundedSender<()>,
    open: Mutex<mpsc::UnboundedReceiver<()>>,
    inner: KeptBlobs,
}

impl Gate {
    fn new() -> (Arc<Gate>, mpsc::UnboundedReceiver<()>, mpsc::UnboundedSender<()>) {
        let (arrived, arrives) = mpsc::unbounded_channel();
        let (opens, open) = mpsc::unbounded_channel();
        (Arc::new(Gate { arrived, open: Mutex::new(open), inner: KeptBlobs::default() }), arrives, opens)
    }
}

impl Blobs for Gate {
    fn put(&self, sealed: Bytes) -> Waiting<'_, Result<Digest, BlobError>> {
        Box::pin(async move {
            self.arrived.send(()).expect("the test listens");
            match self.open.lock().await.recv().await {
                Some(()) => self.inner.put(sealed).await,
                None => Err(BlobError::Disk(LogError::Closed)),
            }
        })
    }

    fn get(&self, name: Digest) -> Waiting<'_, Result<Bytes, BlobError>> {
        self.inner.get(name)
    }

    fn sweep(&self, named: BTreeSet<Digest>, before: SystemTime) -> Waiting<'_, Result<Swept, BlobError>> {
        self.inner.sweep(named, before)
    }
}

#[tokio::test]
async fn a_block_waits_for_the_blob_that_it_names_and_other_partitions_do_not() {
    let place = Place::memory(8);
    let (gate, mut arrives, opens) = Gate::new();
    let mut node: BankNode = place.open_with(place.config(), gate).await;
    let partition = |key: omium_runtime::StreamKey| key.stream.partition(key.tenant, 8);
    let elsewhere = (0..).map(|n| account(&format!("{n}"))).find(|key| partition(*key) != partition(job(1)));
    let elsewhere = elsewhere.expect("eight partitions are used");
    let long = node.node.submit(Request::new(job(1), start_with(vec![7; 100_000])));
    let others = async {
        arrives.recv().await.expect("the blob is given to the store");
        for _ in 0..100 {
            node.done(elsewhere, top_up(1)).await;
        }
        opens.send(()).unwrap();
    };
    let (answer, ()) = tokio::join!(long, others);
    assert!(matches!(answer, Answer::Done(_)));
    node.until_seen(job(1), "ExecutionStarted").await;
    let order: Vec<_> = node.seen.iter().map(|seen| seen.key).collect();
    let at = |key| order.iter().rposition(|seen| *seen == key).expect("it was published");
    assert!(at(job(1)) > at(elsewhere), "the block went before its blob");
}

#[tokio::test]
async fn a_blob_that_cannot_be_stored_ends_the_partition_and_the_outcome_is_unknown() {
    let place = Place::disk(1);
    let (gate, _arrives, opens) = Gate::new();
    drop(opens);
    let mut node: BankNode = place.open_with(place.config(), gate).await;
    assert_eq!(node.submit(job(1), start_with(vec![7; 100_000])).await, Answer::Unknown);
    while node.ended.is_empty() {
        node.hear().await;
    }
    assert!(node.ended[0].1.to_string().contains("the log is closed"));
    node.node.halt().await;
    drop(node);
    // The block was not written, so after a new start nothing of it is there.
    let node: BankNode = place.open().await;
    assert!(node.node.view(job(1)).await.unwrap().is_none());
}

#[tokio::test]
async fn long_content_is_named_by_its_sealed_bytes() {
    let place = Place::disk(1);
    let blobs = Arc::<KeptBlobs>::default();
    let node: BankNode = place.open_with(place.config(), blobs.clone()).await;
    node.done(job(1), start_with(vec![7; 100_000])).await;
    let kept = std::mem::take(&mut *blobs.0.lock().unwrap());
    let (_, bytes) = kept.iter().next().expect("one blob");
    assert_eq!((kept.len(), bytes.len()), (1, 100_000 + 16));
    assert!(!bytes.windows(32).any(|window| window == [7; 32]));
    node.node.halt().await;
}
