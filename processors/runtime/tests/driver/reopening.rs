//! Stopping, crashing and opening again: the same state, whatever was in the store.

use std::collections::BTreeSet;

use omium_log::Log;
use omium_runtime::{Answer, Config, StreamKey};
use omium_schemas::Money;
use omium_schemas::catalogue::TransferMoney;
use std::sync::Arc;

use crate::bank::{BankNode, account, balance, job, start, top_up};
use crate::place::{KeptBlobs, Place};
use crate::world::Outcome;

/// Something of everything: accounts, transfers, a finished job, one that waits for a step, one that was rolled back.
async fn busy(node: &mut BankNode) -> BTreeSet<StreamKey> {
    for n in 0..12 {
        node.done(account(&format!("{n}")), top_up(10 + n)).await;
    }
    for n in 0..12 {
        let to = account(&format!("{}", (n + 1) % 12)).stream;
        node.done(account(&format!("{n}")), TransferMoney { to, amount: Money::dollars(3) }).await;
    }
    node.done(job(1), start(2, Some(account("3")))).await;
    node.work_until(job(1), |state| state.0.job().ended).await;
    node.done(job(2), start(2, None)).await;
    let first = node.next_dispatch().await;
    node.perform(&first, Outcome::Succeed).await;
    node.next_dispatch().await;
    for n in 0..12 {
        // Everyone has given three and got three; one has also paid for a job.
        let due = if n == 3 { Money(Money::dollars(13).0 - 6) } else { Money::dollars(10 + n) };
        node.until(account(&format!("{n}")), |state| balance(state) == due).await;
    }
    node.catch_up();
    let mut keys: BTreeSet<StreamKey> = node.seen.iter().map(|seen| seen.key).collect();
    keys.retain(|key| key.tenant == crate::bank::TENANT);
    assert!(keys.len() >= 15, "{keys:?}");
    keys
}

#[tokio::test]
async fn a_stopped_node_opens_with_the_same_state() {
    for place in Place::all() {
        let mut node: BankNode = place.open().await;
        let keys = busy(&mut node).await;
        let before = node.hashes(&keys).await;
        node.node.stop().await.unwrap();
        drop(node);
        let node: BankNode = place.open().await;
        assert_eq!(node.hashes(&keys).await, before);
        node.node.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_node_that_did_not_stop_folds_what_the_store_lacks() {
    for place in Place::all() {
        // The store gets a snapshot every few records, so some of the state is in it and some is not.
        for flush_records in [25, u64::MAX] {
            let config = Config { flush_records, ..place.config() };
            let mut node: BankNode = place.open_with(config, Arc::<KeptBlobs>::default()).await;
            let keys = if node.node.view(job(1)).await.unwrap().is_none() {
                busy(&mut node).await
            } else {
                node.done(account("0"), top_up(1)).await;
                (0..12).map(|n| account(&format!("{n}"))).chain([job(1), job(2)]).collect()
            };
            let before = node.hashes(&keys).await;
            node.node.halt().await;
            drop(node);
            place.lose_unflushed_state();
            let node: BankNode = place.open().await;
            assert_eq!(node.hashes(&keys).await, before);
            node.node.halt().await;
        }
    }
}

#[tokio::test]
async fn state_that_is_gone_is_folded_again_from_the_log() {
    let place = Place::memory(8);
    let mut node: BankNode = place.open().await;
    let keys = busy(&mut node).await;
    let before = node.hashes(&keys).await;
    node.node.stop().await.unwrap();
    let Place::Memory(log, _) = place else { unreachable!("it was made in memory") };
    let bare = Place::Memory(log, Arc::default());
    let node: BankNode = bare.open().await;
    assert_eq!(node.hashes(&keys).await, before);
}

#[tokio::test]
async fn the_next_leader_sends_out_what_the_last_one_left_unfinished() {
    for place in Place::all() {
        let mut node: BankNode = place.open().await;
        node.done(job(1), start(2, None)).await;
        let first = node.next_dispatch().await;
        node.perform(&first, Outcome::Succeed).await;
        let left = node.next_dispatch().await;
        node.node.halt().await;
        drop(node);
        let mut node: BankNode = place.open().await;
        let again = node.next_dispatch().await;
        assert_eq!((again.key, again.effect, again.effect_key()), (left.key, left.effect, left.effect_key()));
        assert!(again.epoch > left.epoch);
        let stale = node.perform(&left, Outcome::Succeed).await.unwrap();
        assert!(matches!(stale, Answer::Refused(_)), "{stale:?}");
        node.perform(&again, Outcome::Succeed).await;
        node.until(job(1), |state| state.0.job().ended).await;
        node.node.halt().await;
    }
}

#[tokio::test]
async fn what_a_replaced_leader_decides_is_never_answered_as_done() {
    let place = Place::memory(1);
    let first: BankNode = place.open().await;
    first.done(account("a"), top_up(1)).await;
    let second: BankNode = place.open().await;
    second.done(account("a"), top_up(1)).await;
    let Place::Memory(log, _) = &place else { unreachable!("it was made in memory") };
    let tail = *log.tail(omium_schemas::Partition(0)).unwrap().borrow();
    // The first one's appender is detached: what it decides now can never be answered "done".
    let lost = first.node.submit(omium_runtime::Request::new(account("a"), top_up(1)));
    tokio::pin!(lost);
    assert!(poll_once(lost.as_mut()).await.is_none());
    second.done(account("a"), top_up(1)).await;
    assert!(poll_once(lost.as_mut()).await.is_none());
    first.node.halt().await;
    assert_eq!(lost.await, Answer::Unknown);
    assert_eq!(log.tail(omium_schemas::Partition(0)).unwrap().borrow().0, tail.0 + 1);
}

/// Polls a future once.
async fn poll_once<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match std::pin::Pin::new(&mut future).poll(context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}
