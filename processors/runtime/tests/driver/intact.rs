//! A log that is not what it was: another one, one that lost its end, one whose front somebody has removed.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use omium_log::{Log, LogError, MemoryLog, Source};
use omium_runtime::{Answer, Config, Dispatch, Ended, MemoryVault, Node, NodeParts, OpenError, World};
use omium_schemas::{Offset, Partition};
use tokio::sync::mpsc;

use crate::bank::{BankNode, account, top_up};
use crate::place::{KeptBlobs, Place};
use crate::world::TestWorld;

/// A place where so many commands were taken.
async fn used(commands: u32) -> Place {
    let place = Place::memory(1);
    let node: BankNode = place.open().await;
    for _ in 0..commands {
        node.done(account("a"), top_up(1)).await;
    }
    node.node.stop().await.expect("nothing fails");
    place
}

/// Why a node does not open with the state of one place and the log of another one.
async fn refusal(state: &Place, log: &Place) -> String {
    refusal_in(state, log, TestWorld::new().0).await
}

async fn refusal_in(state: &Place, log: &Place, world: Arc<dyn World>) -> String {
    let ((_, store), (log, _)) = (state.parts(), log.parts());
    let parts = NodeParts {
        log,
        store,
        blobs: Arc::<KeptBlobs>::default(),
        vault: Arc::new(MemoryVault::new([7; 32])),
        world,
        config: Config { verify: true, ..state.config() },
        root: None,
    };
    let opened = Node::<omium_processor::testkit::BankSuite>::open(parts).await;
    match opened.err() {
        Some(OpenError::NotLed(_, why @ Ended::Unreadable(_))) => why.to_string(),
        Some(OpenError::OtherAges(whys)) => format!("other ages: {}", whys.join("; ")),
        other => panic!("it opened, or not for its age: {other:?}"),
    }
}

#[tokio::test]
async fn state_is_not_taken_on_by_another_log_that_is_as_long() {
    let (state, other) = (used(5).await, used(9).await);
    let why = refusal(&state, &other).await;
    assert!(
        why.starts_with("other ages: ")
            && why.contains("does not hold block")
            && why.contains("it is another log"),
        "{why}"
    );
}

#[tokio::test]
async fn a_log_that_ends_before_the_saved_state_is_an_alarm() {
    for commands in [0, 2] {
        let why = refusal(&used(5).await, &used(commands).await).await;
        assert!(why.starts_with("other ages: ") && why.contains("records that were there are gone"), "{why}");
    }
}

#[tokio::test]
async fn lives_that_did_nothing_leave_the_saved_state_usable() {
    let place = used(1).await;
    for _ in 0..40 {
        let node: BankNode = place.open().await;
        node.node.stop().await.expect("nothing fails");
    }
    let node: BankNode = place.open().await;
    node.done(account("a"), top_up(1)).await;
    node.node.stop().await.expect("nothing fails");
}

#[tokio::test]
async fn a_front_that_somebody_else_removes_ends_the_partition() {
    let place = used(5).await;
    let Place::Memory(log, _) = &place else { unreachable!("it was made in memory") };
    let log: &MemoryLog = log;
    let mut node: BankNode = place.open().await;
    node.done(account("a"), top_up(1)).await;
    log.trim(Partition(0), Offset(3)).await.expect("the log lets go of anything");
    while node.ended.is_empty() {
        node.hear().await;
    }
    assert!(
        node.ended[0].1.to_string().contains("offsets 0 to 3 of partition 0 were removed"),
        "{:?}",
        node.ended
    );
    assert_eq!(node.submit(account("a"), top_up(1)).await, Answer::NotLeading);
    node.node.stop().await.expect("nothing fails");
    assert!(refusal(&place, &place).await.contains("restore the log from a backup"));
}

/// Has one record to append, and tells when it is in the log.
struct One(Mutex<Option<Bytes>>, mpsc::UnboundedSender<Result<Offset, LogError>>);

impl Source for One {
    fn take(&self) -> Option<Bytes> {
        self.0.lock().expect("no panic").take()
    }

    fn settled(&self, outcome: Result<Offset, LogError>) {
        let _ = self.1.send(outcome);
    }
}

/// Keeps something that was made from a newer log.
struct Newer;

impl World for Newer {
    fn dispatch(&self, _: Dispatch) {}

    fn misfits(&self, _: [u8; 16], ends: &[Offset]) -> Vec<String> {
        vec![format!("{ends:?} is older")]
    }

    fn ended(&self, _: Partition, _: Ended) {}
}

#[tokio::test]
async fn a_partition_that_cannot_be_folded_hides_no_older_log() {
    let place = Place::memory(2);
    let node: BankNode = place.open().await;
    node.done(account("a"), top_up(1)).await;
    node.node.stop().await.expect("nothing fails");
    let (log, _) = place.parts();
    let whole =
        log.read(Partition(1), Offset(0), 1 << 20).await.expect("it is read").pop().expect("a record");
    let (sender, mut settled) = mpsc::unbounded_channel();
    let mut bytes = whole.bytes.to_vec();
    *bytes.last_mut().expect("a block") ^= 1;
    let appender =
        log.attach(Partition(1), Arc::new(One(Mutex::new(Some(bytes.into())), sender))).expect("a partition");
    appender.wake();
    settled.recv().await.expect("an outcome").expect("it is appended");
    drop((settled, appender));
    let ends: Vec<Offset> = (0..2).map(|n| *log.tail(Partition(n)).expect("a partition").borrow()).collect();
    assert!(refusal(&place, &place).await.contains("offset"), "that partition cannot be folded");
    let kept = (0..2).map(|n| *log.tail(Partition(n)).expect("a partition").borrow());
    assert_eq!(kept.collect::<Vec<_>>(), ends, "nothing is led beside it");
    assert_eq!(refusal_in(&place, &place, Arc::new(Newer)).await, format!("other ages: {ends:?} is older"));
}
