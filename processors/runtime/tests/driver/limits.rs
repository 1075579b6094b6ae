//! What happens when there is too much of something.

use std::sync::Arc;

use omium_runtime::{Answer, Config, Request};
use omium_schemas::catalogue::TransferMoney;
use omium_schemas::{Digest, Money, Seq};

use crate::bank::{BankNode, account, balance, top_up};
use crate::place::{KeptBlobs, Place};
use crate::world::PATIENCE;

#[tokio::test]
async fn a_full_queue_says_busy_and_takes_again_when_it_has_emptied() {
    let place = Place::memory(1);
    let config = Config { waiting_commands: 2, ..place.config() };
    let node: BankNode = place.open_with(config, Arc::<KeptBlobs>::default()).await;
    let waiting = || node.node.submit(Request { control: Seq(1), ..Request::new(account("a"), top_up(1)) });
    let overflow = async {
        assert_eq!(waiting().await, Answer::Busy);
        node.node.control(Seq(1), Digest::of(b""), &bytes::Bytes::new());
    };
    let (one, two, ()) = tokio::join!(biased; waiting(), waiting(), overflow);
    assert!(matches!((one, two), (Answer::Done(_), Answer::Done(_))));
    node.done(account("a"), top_up(1)).await;
}

#[tokio::test]
async fn more_streams_than_memory_may_hold_are_still_all_there() {
    for place in [Place::memory(1), Place::disk(1)] {
        let config = Config { residents: 4, flush_records: 8, ..place.config() };
        let mut node: BankNode = place.open_with(config, Arc::<KeptBlobs>::default()).await;
        for round in 1..=3 {
            for n in 0..40 {
                node.done(account(&format!("{n}")), top_up(1)).await;
            }
            for n in 0..40 {
                let key = account(&format!("{n}"));
                let state = node.until(key, |_| true).await;
                assert_eq!(balance(&state), omium_schemas::Money::dollars(round));
            }
        }
        node.node.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_of_more_streams_than_memory_may_hold_never_drive_each_other_away() {
    let place = Place::disk(1);
    let config = Config { residents: 1, flush_records: 1, ..place.config() };
    let node: BankNode = place.open_with(config, Arc::<KeptBlobs>::default()).await;
    for n in 0..16 {
        node.done(account(&format!("{n}")), top_up(1)).await;
    }
    let node = Arc::new(node.node);
    let mut readers = tokio::task::JoinSet::new();
    for reader in 0..8 {
        let node = node.clone();
        readers.spawn(async move {
            for n in 0..400 {
                let key = account(&format!("{}", (n + 2 * reader) % 16));
                let stream = node.view(key).await.expect("a view").expect("a stream");
                assert_eq!(balance(&stream.state), Money::dollars(1));
                let topped = Request::new(account(&format!("other {reader}")), top_up(1));
                assert!(matches!(node.submit(topped).await, Answer::Done(_)));
            }
        });
    }
    readers.join_all().await;
    node.stop().await.unwrap();
}

#[tokio::test]
async fn messages_that_wait_for_room_leave_with_every_acknowledgement_and_not_with_the_clock() {
    for place in Place::all() {
        let config = Config { message_window: 1, ..place.config() };
        let mut node: BankNode = place.open_with(config, Arc::<KeptBlobs>::default()).await;
        let (source, target) = (account("source"), account("target"));
        node.done(source, top_up(1_000)).await;
        for _ in 0..300 {
            let moved = TransferMoney { to: target.stream, amount: Money::dollars(1) };
            node.done(source, moved).await;
        }
        let arrived = node.until(target, |state| balance(state) == Money::dollars(300));
        tokio::time::timeout(PATIENCE, arrived).await.expect("no message waits for the clock");
        node.node.stop().await.unwrap();
    }
}

#[tokio::test]
async fn callers_come_later_while_too_many_messages_wait_for_their_receivers() {
    let place = Place::memory(8);
    let config = Config { message_window: 1, waiting_messages: 3, ..place.config() };
    let node: BankNode = place.open_with(config, Arc::<KeptBlobs>::default()).await;
    let (source, target) = (account("source"), account("target"));
    node.done(source, top_up(1_000)).await;
    let node = Arc::new(node.node);
    let moved = Request::new(source, TransferMoney { to: target.stream, amount: Money::dollars(1) });
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let (node, moved) = (node.clone(), moved.clone());
        calls.spawn(async move { node.submit(moved).await });
    }
    let answers = calls.join_all().await;
    let done = answers.iter().filter(|answer| matches!(answer, Answer::Done(_))).count() as i64;
    let busy = answers.iter().filter(|answer| **answer == Answer::Busy).count() as i64;
    assert!(busy > 0 && done >= 3 && done + busy == 40, "{done} were taken, {busy} were not");
    let taken_again = async { while node.submit(moved.clone()).await == Answer::Busy {} };
    tokio::time::timeout(PATIENCE, taken_again).await.expect("the messages arrive");
    let arrived = async {
        loop {
            let view = node.view(target).await.expect("a view");
            if view.is_some_and(|stream| balance(&stream.state) == Money::dollars(done + 1)) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, arrived).await.expect("the messages arrive");
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_callers_at_once_are_all_answered() {
    let place = Place::disk(8);
    let node: BankNode = place.open().await;
    let node = Arc::new(node.node);
    let callers: Vec<_> = (0..64)
        .map(|n| {
            let node = node.clone();
            tokio::spawn(async move {
                for _ in 0..20 {
                    let request = Request::new(account(&format!("{}", n % 16)), top_up(1));
                    assert!(matches!(node.submit(request).await, Answer::Done(_)));
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    for n in 0..16 {
        let stream = node.view(account(&format!("{n}"))).await.unwrap().unwrap();
        assert_eq!(balance(&stream.state), omium_schemas::Money::dollars(80));
    }
    node.stop().await.unwrap();
}
