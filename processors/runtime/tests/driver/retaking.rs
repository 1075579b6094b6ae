//! Appends that fail on a log that can be trusted afterwards: the node takes over from itself.

use std::sync::Arc;

use omium_runtime::{Answer, Ended, Request};
use omium_schemas::catalogue::TransferMoney;
use omium_schemas::{Money, Partition};

use crate::bank::{BankNode, account, balance, top_up};
use crate::faulty::{Fault, FaultyLog};
use crate::place::Place;

fn faulty(partitions: u16) -> (Arc<FaultyLog>, Place) {
    let log = FaultyLog::new(partitions);
    (log.clone(), Place::Faulty(log, Arc::default()))
}

#[tokio::test]
async fn after_a_failed_append_the_log_tells_whether_the_command_was_taken() {
    for (fault, taken) in [(Fault::FailsAfter, true), (Fault::FailsBefore, false)] {
        let (log, place) = faulty(1);
        let mut node: BankNode = place.open().await;
        node.done(account("a"), top_up(1)).await;
        log.next(fault, 1);
        let request = Request::new(account("a"), top_up(1)).with_key("once");
        let both = tokio::join!(node.node.submit(request.clone()), node.submit(account("b"), top_up(1)));
        assert_eq!(both.0, Answer::Unknown);
        assert!(matches!(both.1, Answer::Unknown | Answer::NotLeading), "{both:?}");
        assert_eq!(node.insist(request).await.repeated, taken, "{fault:?}");
        let state = node.until(account("a"), |_| true).await;
        assert_eq!(balance(&state), Money::dollars(2));
        node.catch_up();
        assert!(matches!(&node.retaken[..], [Ended::AppendFailed(why)] if why.contains("the test says so")));
        assert!(node.ended.is_empty());
        node.node.stop().await.expect("nothing fails");
    }
}

#[tokio::test]
async fn a_take_over_that_fails_is_tried_again_and_again() {
    for fault in [Fault::FailsAfter, Fault::FailsBefore] {
        let (log, place) = faulty(1);
        let mut node: BankNode = place.open().await;
        log.next(fault, 4);
        node.insist(Request::new(account("a"), top_up(1)).with_key("once")).await;
        node.catch_up();
        assert_eq!(node.retaken.len(), 4);
        assert_eq!(balance(&node.until(account("a"), |_| true).await), Money::dollars(1));
        node.node.stop().await.expect("nothing fails");
    }
}

#[tokio::test]
async fn money_between_partitions_is_neither_lost_nor_doubled_by_failing_appends() {
    let (log, place) = faulty(8);
    let mut node: BankNode = place.open().await;
    node.done(account("source"), top_up(100)).await;
    let targets: Vec<_> = (0..8).map(|n| account(&format!("target-{n}"))).collect();
    for round in 0..3 {
        for (n, target) in targets.iter().enumerate() {
            let fault = if (n + round) % 2 == 0 { Fault::FailsAfter } else { Fault::FailsBefore };
            if n % 3 == 0 {
                log.next(fault, 1);
            }
            let moved = TransferMoney { to: target.stream, amount: Money::dollars(1) };
            node.insist(Request::new(account("source"), moved).with_key(format!("{round}/{n}"))).await;
        }
    }
    for target in &targets {
        loop {
            // A partition that has failed answers nothing for a while.
            let view = node.node.view(*target).await.ok().flatten();
            if view.is_some_and(|stream| balance(&stream.state) == Money::dollars(3)) {
                break;
            }
            node.hear().await;
        }
    }
    node.catch_up();
    assert!(node.retaken.len() == 9, "{} take-overs", node.retaken.len());
    assert_eq!(balance(&node.until(account("source"), |_| true).await), Money::dollars(76));
    node.node.stop().await.expect("nothing fails");
}

#[tokio::test]
async fn a_node_that_another_leader_has_replaced_does_not_take_over_again() {
    let (log, place) = faulty(1);
    let mut node: BankNode = place.open().await;
    node.done(account("a"), top_up(1)).await;
    log.next(Fault::Usurped, 1);
    assert_eq!(node.submit(account("a"), top_up(1)).await, Answer::Unknown);
    while node.ended.is_empty() {
        node.hear().await;
    }
    assert!(matches!(node.ended[..], [(Partition(0), Ended::Superseded(epoch))] if epoch.0 == 11));
    assert_eq!(node.submit(account("a"), top_up(1)).await, Answer::NotLeading);
    assert!(!node.node.is_led(Partition(0)).await);
    node.node.stop().await.expect("nothing fails");
}

#[tokio::test]
async fn a_node_that_is_halted_while_it_takes_over_lets_go_of_the_log() {
    for retakes in 1..6 {
        let (log, place) = faulty(1);
        let mut node: BankNode = place.open().await;
        // What the node itself writes at its start is in the log by then: the fault meets the command below.
        node.done(account("first"), top_up(9)).await;
        log.next(Fault::FailsAfter, retakes);
        assert_eq!(node.submit(account("a"), top_up(1)).await, Answer::Unknown);
        while node.retaken.is_empty() {
            node.hear().await;
        }
        node.node.halt().await;
        node.catch_up();
        assert!(node.ended.is_empty(), "a halt is no end that anybody has to hear of: {:?}", node.ended);
        // Another node has the log to itself from here on.
        log.next(Fault::FailsAfter, 0);
        let next: BankNode = place.open().await;
        assert_eq!(node.submit(account("a"), top_up(1)).await, Answer::NotLeading);
        next.done(account("a"), top_up(1)).await;
        next.node.stop().await.expect("nothing fails");
    }
}

#[tokio::test]
async fn a_node_that_is_stopped_while_it_takes_over_stops() {
    let (log, place) = faulty(1);
    let mut node: BankNode = place.open().await;
    node.done(account("first"), top_up(9)).await;
    log.next(Fault::FailsBefore, u32::MAX);
    assert_eq!(node.submit(account("a"), top_up(1)).await, Answer::Unknown);
    while node.retaken.len() < 3 {
        node.hear().await;
    }
    node.node.stop().await.expect("nothing fails");
}
