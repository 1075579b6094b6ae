//! A log that is not what it was: another one, one that lost its end, one whose front somebody has removed.

use std::sync::Arc;

use omium_log::{Log, MemoryLog};
use omium_runtime::{Answer, Ended, MemoryVault, Node, NodeParts, OpenError};
use omium_schemas::{Offset, Partition};

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
    let ((_, store), (log, _)) = (state.parts(), log.parts());
    let parts = NodeParts {
        log,
        store,
        blobs: Arc::<KeptBlobs>::default(),
        vault: Arc::new(MemoryVault::new([7; 32])),
        world: TestWorld::new().0,
        config: state.config(),
        under_way: None,
    };
    let opened = Node::<omium_processor::testkit::BankSuite>::open(parts).await;
    let Err(OpenError::NotLed(Partition(0), why @ Ended::Unreadable(_))) = opened else {
        panic!("it opened")
    };
    why.to_string()
}

#[tokio::test]
async fn state_is_not_taken_on_by_another_log_that_is_as_long() {
    let (state, other) = (used(5).await, used(9).await);
    let why = refusal(&state, &other).await;
    assert!(why.contains("does not hold block") && why.contains("it is another log"), "{why}");
}

#[tokio::test]
async fn a_log_that_ends_before_the_saved_state_is_an_alarm() {
    for commands in [0, 2] {
        let why = refusal(&used(5).await, &used(commands).await).await;
        assert!(why.contains("records that were there are gone"), "{why}");
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
