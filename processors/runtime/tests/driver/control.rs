//! The control stream, and which version of the rules decides.

use omium_processor::Why;
use omium_runtime::{Answer, Request, StreamKey};
use omium_schemas::catalogue::{AdoptLogic, TransferMoney};
use omium_schemas::{Digest, Money, Partition, Seq};

use crate::bank::{BankNode, account, top_up};
use crate::place::Place;

#[tokio::test]
async fn a_command_waits_for_the_control_record_that_its_caller_was_told_of() {
    for place in Place::all() {
        let node: BankNode = place.open().await;
        node.done(account("a"), top_up(10)).await;
        let transfer = TransferMoney { to: account("b").stream, amount: Money::dollars(2) };
        let request = Request { control: Seq(4), ..Request::new(account("a"), transfer.clone()) };
        let cap = Money::dollars(1).0.to_string();
        let told = async {
            // A command that waits for nothing passes the one that does.
            node.done(account("a"), transfer.clone()).await;
            node.node.control(Seq(4), Digest::of(cap.as_bytes()), &cap.clone().into());
        };
        let (answer, ()) = tokio::join!(node.node.submit(request), told);
        assert!(matches!(answer, Answer::Refused(refusal) if refusal.why == Why::Exhausted));
        node.node.stop().await.unwrap();
        drop(node);
        // It is in the partition's own log now, so the next leader decides by it without being told.
        let node: BankNode = place.open().await;
        let answer = node.submit(account("a"), transfer).await;
        assert!(matches!(answer, Answer::Refused(refusal) if refusal.why == Why::Exhausted));
        node.node.stop().await.unwrap();
    }
}

#[tokio::test]
async fn who_waits_for_control_when_the_node_stops_is_told() {
    let node: BankNode = Place::memory(1).open().await;
    let request = Request { control: Seq(1), ..Request::new(account("a"), top_up(1)) };
    let (answer, stopped) = tokio::join!(biased; node.node.submit(request), node.node.stop());
    assert_eq!(answer, Answer::NotLeading);
    stopped.unwrap();
}

#[tokio::test]
async fn logic_is_adopted_by_an_event_and_only_where_it_is_known() {
    let place = Place::disk(1);
    let config = omium_runtime::Config { logic: 2, ..place.config() };
    let book = StreamKey::book(Partition(0));
    let node: BankNode =
        place.open_with(config.clone(), std::sync::Arc::<crate::place::KeptBlobs>::default()).await;
    let unknown = node.submit(book, AdoptLogic { logic: 3 }).await;
    assert!(matches!(unknown, Answer::Refused(refusal) if refusal.why == Why::Invalid));
    node.done(book, AdoptLogic { logic: 2 }).await;
    node.node.stop().await.unwrap();
    drop(node);
    // A program that knows only the first logic does not decide by guess.
    let (log, store) = place.parts();
    let (world, _told) = crate::world::TestWorld::new();
    let vault = std::sync::Arc::new(omium_runtime::MemoryVault::new([7; 32]));
    let blobs = std::sync::Arc::<crate::place::KeptBlobs>::default();
    let parts =
        omium_runtime::NodeParts { log, store, blobs, vault, world, config: place.config(), under_way: None };
    let error = omium_runtime::Node::<omium_processor::testkit::BankSuite>::open(parts).await.err().unwrap();
    assert!(error.to_string().contains("upgrade omium"), "{error}");
}
