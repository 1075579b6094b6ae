//! Dropping the front of the log: the rest of it says everything that is still needed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use omium_log::Log;
use omium_runtime::{Answer, Done, Request, StreamKey};
use omium_schemas::catalogue::{AdoptLogic, TransferMoney};
use omium_schemas::{Money, Offset, Partition};

use crate::bank::{BankNode, account, balance, job, start, top_up};
use crate::place::Place;
use crate::world::Outcome;

/// A finished job, an open one, accounts that have sent and received.
async fn busy(node: &mut BankNode) -> BTreeSet<StreamKey> {
    let accounts: Vec<StreamKey> = (0..6).map(|n| account(&format!("{n}"))).collect();
    for key in &accounts {
        node.done(*key, top_up(10)).await;
    }
    for n in 0..6 {
        let to = accounts[(n + 1) % 6].stream;
        node.done(accounts[n], TransferMoney { to, amount: Money::dollars(2) }).await;
    }
    node.done(job(1), start(2, Some(accounts[0]))).await;
    node.work_until(job(1), |state| state.0.job().ended).await;
    for (n, key) in accounts.iter().enumerate() {
        let due = if n == 0 { Money(Money::dollars(10).0 - 6) } else { Money::dollars(10) };
        node.until(*key, |state| balance(state) == due).await;
    }
    node.done(job(2), start(3, None)).await;
    let first = node.next_dispatch().await;
    node.perform(&first, Outcome::Succeed).await;
    accounts.into_iter().chain([job(1), job(2)]).collect()
}

async fn trim_all(node: &BankNode, before: Offset) -> Vec<Offset> {
    let mut starts = Vec::new();
    for partition in (0..node.node.partitions()).map(Partition) {
        match node.node.trim(partition, before, Duration::ZERO).await {
            Ok(start) => starts.push(start),
            // A partition in which hardly anything happened has nothing to drop.
            Err(omium_runtime::TrimError::NotCarried(_, Answer::Refused(_))) => {}
            Err(error) => panic!("{error}"),
        }
    }
    starts
}

/// The same log, with a store that knows nothing.
fn without_state(place: Place) -> Place {
    if let Place::Disk(dir, _) = &place {
        std::fs::remove_dir_all(dir.path().join("state")).expect("the store's directory");
    }
    if let Place::Memory(log, _) = place { Place::Memory(log, Arc::default()) } else { place }
}

#[tokio::test]
async fn what_is_left_of_a_log_folds_to_the_same_state() {
    for place in [Place::memory(1), Place::memory(8), Place::disk(1)] {
        let mut node: BankNode = place.open().await;
        let keys = busy(&mut node).await;
        let starts = trim_all(&node, Offset(u64::MAX)).await;
        assert!(starts.iter().any(|start| *start > Offset(0)), "{starts:?}");
        let before = node.hashes(&keys).await;
        node.node.stop().await.unwrap();
        drop(node);
        let node: BankNode = place.open().await;
        assert_eq!(node.hashes(&keys).await, before, "with the store");
        node.node.stop().await.unwrap();
        drop(node);
        let place = without_state(place);
        let mut node: BankNode = place.open().await;
        assert_eq!(node.hashes(&keys).await, before, "without the store");
        // The open job goes on, money goes on arriving once.
        node.work_until(job(2), |state| state.0.job().ended).await;
        let (from, to) = (account("1"), account("2"));
        node.done(from, TransferMoney { to: to.stream, amount: Money::dollars(1) }).await;
        node.until(to, |state| balance(state) == Money::dollars(11)).await;
        node.node.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_key_that_was_used_in_the_dropped_part_is_still_known() {
    let place = Place::memory(1);
    let node: BankNode = place.open().await;
    let request = || Request::new(account("a"), top_up(5)).with_key("once");
    let of_book = || Request::new(StreamKey::book(Partition(0)), AdoptLogic { logic: 1 }).with_key("once");
    let Answer::Done(first) = node.node.submit(request()).await else { panic!("it is the first one") };
    let Answer::Done(adopted) = node.node.submit(of_book()).await else { panic!("it is the first one") };
    node.done(account("b"), top_up(1)).await;
    node.node.trim(Partition(0), Offset(u64::MAX), Duration::ZERO).await.unwrap();
    node.node.halt().await;
    drop(node);
    let node: BankNode = without_state(place).open().await;
    assert_eq!(node.node.submit(request()).await, Answer::Done(Done { repeated: true, ..first }));
    assert_eq!(node.node.submit(of_book()).await, Answer::Done(Done { repeated: true, ..adopted }));
    node.node.halt().await;
}

#[tokio::test]
async fn a_front_is_dropped_again_and_again() {
    let mut place = Place::memory(1);
    let mut node: BankNode = place.open().await;
    let keys = busy(&mut node).await;
    for round in 0..4 {
        let Place::Memory(log, _) = &place else { unreachable!("it was made in memory") };
        let (start, tail) = (log.start(Partition(0)).unwrap(), *log.tail(Partition(0)).unwrap().borrow());
        // Now somewhere in the middle of what the last round carried, now all of it.
        let mark = if round % 2 == 0 { Offset((start.0 + tail.0) / 2) } else { tail };
        let started = node.node.trim(Partition(0), mark, Duration::ZERO).await.unwrap();
        assert!(started > start && started < mark, "{start} {started} {mark}");
        assert_eq!(log.start(Partition(0)).unwrap(), started);
        node.done(account("0"), top_up(1)).await;
        let after = node.hashes(&keys).await;
        node.node.halt().await;
        place = without_state(place);
        node = place.open().await;
        assert_eq!(node.hashes(&keys).await, after, "round {round}");
    }
    node.node.halt().await;
}

#[tokio::test]
async fn a_log_whose_front_was_dropped_by_hand_is_not_led() {
    let place = Place::memory(1);
    let mut node: BankNode = place.open().await;
    busy(&mut node).await;
    node.node.halt().await;
    let Place::Memory(log, _) = &place else { unreachable!("it was made in memory") };
    log.trim(Partition(0), Offset(5)).await.unwrap();
    let (log, store) = without_state(place).parts();
    let (world, _events) = crate::world::TestWorld::new();
    let vault = Arc::new(omium_runtime::MemoryVault::new([7; 32]));
    let config = omium_runtime::Config { partitions: 1, ..Default::default() };
    let blobs = Arc::<crate::place::KeptBlobs>::default();
    let parts = omium_runtime::NodeParts { log, store, blobs, vault, world, config, root: None };
    let opened = omium_runtime::Node::<omium_processor::testkit::BankSuite>::open(parts).await;
    let why = opened.err().expect("nobody can know what was there").to_string();
    assert!(why.contains("restore the log from a backup"), "{why}");
}
