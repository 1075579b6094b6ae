//! Content: sealed in the log, opened for who decides, and in a blob where it is long.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use omium_log::blobs::Swept;
use omium_log::contract::Waiting;
use omium_log::{BlobError, Blobs, LogError};
use omium_processor::Why;
use omium_runtime::{Answer, Dispatch, Request};
use omium_schemas::catalogue::{CompleteStep, NewMessage, SignalExecution, StartExecution, StartLlmCall};
use omium_schemas::{BlobId, BlobRef, Branch, Content, Digest, Money, StepId};

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

/// A blob store that fails while the test says so, and counts what it is asked.
#[derive(Default)]
struct Moody {
    full: AtomicBool,
    failing: AtomicBool,
    puts: AtomicUsize,
    inner: KeptBlobs,
}

impl Moody {
    fn trouble(&self) -> Result<(), BlobError> {
        if self.full.load(Ordering::SeqCst) {
            let why = "No space left on device".to_owned();
            return Err(BlobError::Disk(LogError::Full { place: "blobs".into(), why }));
        }
        if self.failing.load(Ordering::SeqCst) {
            let why = "Input/output error".to_owned();
            return Err(BlobError::Disk(LogError::Io { doing: "opening", place: "blobs".into(), why }));
        }
        Ok(())
    }

    fn names(&self) -> Vec<BlobId> {
        self.inner.0.lock().expect("no panic").keys().copied().collect()
    }
}

impl Blobs for Moody {
    fn put(&self, name: BlobId, sealed: Bytes) -> Waiting<'_, Result<(), BlobError>> {
        self.puts.fetch_add(1, Ordering::SeqCst);
        match self.trouble() {
            Ok(()) => self.inner.put(name, sealed),
            Err(error) => Box::pin(async { Err(error) }),
        }
    }

    fn get(&self, place: BlobRef) -> Waiting<'_, Result<Bytes, BlobError>> {
        match self.trouble() {
            Ok(()) => self.inner.get(place),
            Err(error) => Box::pin(async { Err(error) }),
        }
    }

    fn remove(&self, name: BlobId) -> Waiting<'_, Result<(), BlobError>> {
        self.inner.remove(name)
    }

    fn sweep(&self, named: BTreeSet<BlobId>, before: SystemTime) -> Waiting<'_, Result<Swept, BlobError>> {
        self.inner.sweep(named, before)
    }
}

async fn moody(place: &Place) -> (BankNode, Arc<Moody>) {
    let blobs = Arc::<Moody>::default();
    (place.open_with(place.config(), blobs.clone()).await, blobs)
}

fn signal(name: &str) -> SignalExecution {
    SignalExecution { name: name.into(), body: None }
}

/// A job whose first step is done, with a long output.
async fn with_long_output(node: &mut BankNode) {
    node.done(job(1), start(2, None)).await;
    let Dispatch { key, effect, epoch, delivery } = node.next_dispatch().await;
    let output = Some(Content::open(vec![7; 100_000]));
    let (step, branch) = (effect.step, effect.branch);
    node.done(key, CompleteStep { step, branch, epoch, delivery, output, cost: Money(3) }).await;
}

#[tokio::test]
async fn long_content_is_sealed_and_stored_before_its_command_is_decided() {
    let place = Place::disk(1);
    let (node, blobs) = moody(&place).await;
    node.done(job(1), start_with(vec![7; 100_000])).await;
    let kept = std::mem::take(&mut *blobs.inner.0.lock().unwrap());
    let (_, bytes) = kept.iter().next().expect("one blob");
    assert_eq!((kept.len(), bytes.len()), (1, 100_000 + 16));
    assert!(!bytes.windows(32).any(|window| window == [7; 32]));
    node.node.halt().await;
}

#[tokio::test]
async fn a_store_that_is_full_or_fails_is_an_answer_and_nothing_ends() {
    for place in Place::all() {
        let (mut node, blobs) = moody(&place).await;
        for trouble in [&blobs.full, &blobs.failing] {
            trouble.store(true, Ordering::SeqCst);
            let answer = node.submit(job(1), start_with(vec![7; 100_000])).await;
            assert!(matches!(&answer, Answer::Full(why) if why.contains("blobs")), "{answer:?}");
            node.done(account("a"), top_up(1)).await;
            trouble.store(false, Ordering::SeqCst);
        }
        node.done(job(1), start_with(vec![7; 100_000])).await;
        node.catch_up();
        assert!(node.ended.is_empty() && node.retaken.is_empty());
        node.node.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_value_that_is_too_long_is_refused_as_such() {
    let place = Place::memory(1);
    let (node, blobs) = moody(&place).await;
    let answer = node.submit(job(1), start_with(vec![7; omium_log::blobs::MAX_BLOB])).await;
    assert!(matches!(&answer, Answer::Refused(refusal) if refusal.why == Why::Invalid), "{answer:?}");
    assert!(blobs.names().is_empty());
    node.node.stop().await.unwrap();
}

#[tokio::test]
async fn what_a_refused_command_brought_is_removed_again() {
    let place = Place::memory(1);
    let (node, blobs) = moody(&place).await;
    let request = Request::new(job(1), start_with(vec![7; 100_000])).with_key("k");
    node.insist(request.clone()).await;
    let named = blobs.names();
    assert!(node.insist(request).await.repeated);
    assert!(matches!(node.submit(job(1), start_with(vec![8; 100_000])).await, Answer::Refused(_)));
    assert_eq!(blobs.names(), named);
    assert_eq!(blobs.puts.load(Ordering::SeqCst), 3);
    node.node.stop().await.unwrap();
}

#[tokio::test]
async fn who_decides_reads_what_lies_in_a_blob() {
    for place in Place::all() {
        let (mut node, _blobs) = moody(&place).await;
        with_long_output(&mut node).await;
        let signals = (0..3).map(|_| node.submit(job(1), signal("read")));
        let mut answers = Vec::new();
        for signal in signals {
            answers.push(signal.await);
        }
        assert!(answers.iter().all(|answer| matches!(answer, Answer::Done(_))), "{answers:?}");
        assert_eq!(node.until(job(1), |_| true).await.0.job().heard, ["read 100000"; 3]);
        node.node.stop().await.unwrap();
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_and_never_decided_without() {
    for place in Place::all() {
        let (mut node, blobs) = moody(&place).await;
        with_long_output(&mut node).await;
        blobs.full.store(true, Ordering::SeqCst);
        assert_eq!(node.submit(job(1), signal("read")).await, Answer::Busy, "it may work later");
        blobs.full.store(false, Ordering::SeqCst);
        blobs.failing.store(true, Ordering::SeqCst);
        let failed = node.submit(job(1), signal("read")).await;
        blobs.failing.store(false, Ordering::SeqCst);
        blobs.inner.0.lock().unwrap().clear();
        let missing = node.submit(job(1), signal("read")).await;
        for answer in [failed, missing] {
            assert!(
                matches!(&answer, Answer::Refused(refusal) if refusal.text.contains("cannot be read")),
                "{answer:?}"
            );
        }
        node.done(job(1), signal("other")).await;
        assert_eq!(node.until(job(1), |_| true).await.0.job().heard, ["other"]);
        node.node.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_frame_of_many_contents_that_are_too_much_together_moves_some_out() {
    for place in Place::all() {
        for (count, length) in [(12, 50 * 1024), (1_000, 1_000), (30, 60_000)] {
            let (node, blobs) = moody(&place).await;
            let key = job(count as u8);
            node.done(key, start(1, None)).await;
            let messages = (0..count).map(|n: usize| NewMessage {
                digest: Digest([2; 32]),
                body: Content::open(format!("{n:08}{}", "x".repeat(length - 8))),
            });
            node.done(key, call(messages.collect())).await;
            assert_eq!(blobs.puts.load(Ordering::SeqCst), 1, "all of them in one blob");
            node.node.stop().await.unwrap();
            drop(node);
        }
    }
}

fn call(stored: Vec<NewMessage>) -> StartLlmCall {
    StartLlmCall {
        step: StepId(1),
        branch: Branch(0),
        agent: "writer".into(),
        caller: "writer#1".into(),
        model: "default".into(),
        request: Digest([1; 32]),
        patch_set: None,
        messages: vec![Digest([2; 32]); stored.len()],
        stored,
        parameters: None,
        delivery: 1,
        endpoint: "chat/completions".into(),
        continues: None,
        thread: None,
        before: None,
        after: None,
        difference: None,
        position: None,
        alias: None,
        reserve: None,
    }
}
