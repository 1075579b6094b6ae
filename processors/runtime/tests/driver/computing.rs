//! A partition that computes for long holds up nobody but itself.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use omium_processor::{Context, Processor, Recorded, Refusal, Why};
use omium_runtime::{Answer, MemoryVault, Node, NodeParts, Request, StreamKey};
use omium_schemas::catalogue::{AccountCredited, Command, Event, ReleaseStream};

use crate::bank::{account, top_up};
use crate::place::{KeptBlobs, Place};
use crate::world::{PATIENCE, Running, TestWorld};

/// Computes on the streams of this label until the test lets go.
static GATES: Mutex<Vec<(StreamKey, mpsc::Receiver<()>)>> = Mutex::new(Vec::new());

struct Slow;

impl Processor for Slow {
    type State = u64;

    const NAME: &'static str = "slow";
    const LAYOUT: u16 = 1;

    fn decide(_: &u64, command: &Command, context: &Context<'_>) -> Result<Vec<Event>, Refusal> {
        let Command::TopUpAccount(top_up) = command else {
            return Err(Refusal::new(Why::Invalid, "it only counts"));
        };
        let here = StreamKey::new(context.tenant, context.stream);
        let gate = {
            let mut gates = GATES.lock().expect("no panic");
            gates.iter().position(|(key, _)| *key == here).map(|at| gates.swap_remove(at).1)
        };
        if let Some(gate) = gate {
            // A test that is over lets go of it too.
            let _ = gate.recv();
        }
        Ok(vec![AccountCredited { amount: top_up.amount }.into()])
    }

    fn apply(state: u64, _: &Recorded<'_>) -> u64 {
        state + 1
    }
}

type SlowNode = Running<(Slow,)>;

fn closed_gate(key: StreamKey) -> mpsc::Sender<()> {
    let (opens, gate) = mpsc::channel();
    GATES.lock().expect("no panic").push((key, gate));
    opens
}

/// Another stream of the same partition, and one of another.
fn beside(key: StreamKey, partitions: u16) -> (StreamKey, StreamKey) {
    let of = |key: StreamKey| key.stream.partition(key.tenant, partitions);
    let others = || (0..1_000).map(|n| account(&format!("beside {n}")));
    let same = others().find(|other| of(*other) == of(key)).expect("one of a thousand");
    (same, others().find(|other| of(*other) != of(key)).expect("one of a thousand"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn while_one_partition_computes_all_others_commit_and_it_is_named() {
    for (n, place) in [Place::memory(8), Place::disk(8)].into_iter().enumerate() {
        let node: Arc<SlowNode> = Arc::new(place.open().await);
        let slow = account(&format!("slow {n}"));
        let (same, other) = beside(slow, 8);
        let opens = closed_gate(slow);
        let submit = |key| {
            let node = node.clone();
            tokio::spawn(async move { node.node.submit(Request::new(key, top_up(1))).await })
        };
        let slow = submit(slow);
        let computes =
            || node.node.standing().iter().filter(|one| one.computing > Duration::from_secs(1)).count();
        let named = async {
            while computes() == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, named).await.expect("the watch tells");
        let (waits, viewed) = (submit(same), {
            let node = node.clone();
            tokio::spawn(async move { node.node.view(same).await.is_ok() })
        });
        for _ in 0..20 {
            node.done(other, top_up(1)).await;
        }
        assert!(node.node.standing().iter().all(|one| one.led));
        assert!(!slow.is_finished() && !waits.is_finished() && !viewed.is_finished());
        drop(opens);
        assert!(matches!(slow.await.unwrap(), Answer::Done(_)));
        assert!(matches!(waits.await.unwrap(), Answer::Done(_)));
        assert!(viewed.await.unwrap());
        node.node.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_stops_without_a_partition_that_computes_without_an_end() {
    let place = Place::memory(8);
    let node: Arc<SlowNode> = Arc::new(place.open().await);
    let slow = account("never");
    let opens = closed_gate(slow);
    let never = {
        let node = node.clone();
        tokio::spawn(async move { node.node.submit(Request::new(slow, top_up(1))).await })
    };
    tokio::time::timeout(PATIENCE, node.node.stop()).await.expect("it stops").unwrap();
    drop(opens);
    assert_ne!(never.await.unwrap(), Answer::Busy);
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the test looks at what a process leaves")]
async fn what_ended_three_processes_in_a_row_is_quarantined_and_can_be_released() {
    let dir = tempfile::tempdir().unwrap();
    let notes = dir.path().join("under-way");
    let place = Place::memory(2);
    let open = async || {
        let (log, store) = place.parts();
        let (world, events) = TestWorld::new();
        let vault = Arc::new(MemoryVault::new([7; 32]));
        let (blobs, config) = (Arc::<KeptBlobs>::default(), place.config());
        let parts = NodeParts { log, store, blobs, vault, world, config, root: Some(dir.path().to_owned()) };
        Running::new(Node::open(parts).await.expect("a node"), events)
    };
    let stream = account("deadly");
    for _ in 0..3 {
        let node: SlowNode = open().await;
        node.done(stream, top_up(1)).await;
        let working = node.node.work_on(stream);
        let noted = async {
            while !std::fs::read_to_string(&notes).is_ok_and(|text| !text.is_empty()) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        tokio::time::timeout(PATIENCE, noted).await.expect("what takes long is noted");
        // The process ends: nobody ends the work.
        std::mem::forget(working);
        let left = std::fs::read_to_string(&notes).unwrap();
        node.node.halt().await;
        std::fs::write(&notes, left).unwrap();
    }
    let node: SlowNode = open().await;
    assert!(
        matches!(node.submit(stream, top_up(1)).await, Answer::Quarantined(why) if why.contains("in a row"))
    );
    node.done(account("other"), top_up(1)).await;
    node.done(stream, ReleaseStream {}).await;
    node.done(stream, top_up(1)).await;
    node.node.stop().await.unwrap();
}
