//! A turn of a partition that panics outside of its processors: the shell ends, and nobody waits for it in vain.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use omium_log::{Log, MemoryLog};
use omium_processor::testkit::BankSuite;
use omium_runtime::{Answer, Config, DataKey, MemoryVault, Node, NodeParts, Request, StreamKey, Vault};
use omium_schemas::catalogue::StartExecution;
use omium_schemas::{Content, KeyId, Money};
use omium_store::MemoryStore;

use crate::bank::{BankNode, account, balance, job, start, top_up};
use crate::place::{KeptBlobs, Place};
use crate::world::{Running, TestWorld};

/// Panics once when a test says so, in the middle of a frame.
struct Rigged {
    inner: MemoryVault,
    panics: AtomicBool,
}

impl Vault for Rigged {
    fn sealing(&self, stream: &StreamKey) -> Option<DataKey> {
        assert!(!self.panics.swap(false, Ordering::SeqCst), "a fault of the test");
        self.inner.sealing(stream)
    }

    fn opening(&self, stream: &StreamKey, id: KeyId) -> Option<DataKey> {
        self.inner.opening(stream, id)
    }
}

#[tokio::test]
async fn after_a_panic_in_a_turn_nobody_waits_in_vain_and_another_shell_takes_over() {
    let log: Arc<dyn Log> = Arc::new(MemoryLog::new(1).expect("a thread"));
    let vault = Arc::new(Rigged { inner: MemoryVault::new([7; 32]), panics: AtomicBool::new(false) });
    let (world, told) = TestWorld::new();
    let parts = NodeParts {
        log,
        store: Arc::<MemoryStore>::default(),
        blobs: Arc::<KeptBlobs>::default(),
        vault: vault.clone(),
        world,
        config: Config { partitions: 1, ..Config::default() },
        root: None,
    };
    let mut node: BankNode = Running::new(Node::<BankSuite>::open(parts).await.expect("a node"), told);
    node.done(account("a"), top_up(1)).await;
    vault.panics.store(true, Ordering::SeqCst);
    let command = StartExecution { inputs: Some(Content::open("sealed")), ..start(1, None) };
    let request = Request::new(job(1), command).with_key("once");
    let answer = tokio::time::timeout(Duration::from_secs(10), node.node.submit(request.clone())).await;
    assert_eq!(answer.expect("its ticket is let go of at once"), Answer::Unknown);
    assert!(!node.insist(request).await.repeated, "it was not taken before");
    node.insist(Request::new(account("a"), top_up(1)).with_key("after")).await;
    let state = node.node.view(account("a")).await.expect("a view").expect("it exists");
    assert_eq!(balance(&state.state), Money::dollars(2));
    node.catch_up();
    assert!(node.retaken.iter().any(|why| why.to_string().contains("panicked")), "{:?}", node.retaken);
    node.node.stop().await.expect("nothing fails");
}

#[tokio::test]
async fn a_command_that_panics_and_so_ends_three_processes_in_a_row_is_quarantined() {
    let place = Place::disk(1);
    let Place::Disk(dir, _) = &place else { unreachable!("it was made on disk") };
    let vault = Arc::new(Rigged { inner: MemoryVault::new([7; 32]), panics: AtomicBool::new(false) });
    let open = || async {
        let ((log, store), (world, told)) = (place.parts(), TestWorld::new());
        let (blobs, config) = (Arc::<KeptBlobs>::default(), place.config());
        let root = Some(dir.path().to_owned());
        let parts = NodeParts { log, store, blobs, vault: vault.clone(), world, config, root };
        Running::new(Node::<BankSuite>::open(parts).await.expect("a node"), told)
    };
    let command = StartExecution { inputs: Some(Content::open("sealed")), ..start(1, None) };
    let poison = Request::new(job(1), command);
    for _ in 0..3 {
        let mut node: BankNode = open().await;
        node.done(account("a"), top_up(1)).await;
        vault.panics.store(true, Ordering::SeqCst);
        assert_eq!(node.node.submit(poison.clone()).await, Answer::Unknown);
        while node.ended.is_empty() {
            node.hear().await;
        }
        node.node.halt().await;
    }
    let node = open().await;
    let answer = node.node.submit(poison).await;
    assert!(matches!(answer, Answer::Quarantined(_)), "{answer:?}");
    node.done(account("a"), top_up(1)).await;
    node.node.stop().await.expect("nothing fails");
}
