//! What happens when there is too much of something.

use std::sync::Arc;

use omium_runtime::{Answer, Config, Request};
use omium_schemas::{Digest, Seq};

use crate::bank::{BankNode, account, balance, top_up};
use crate::place::{KeptBlobs, Place};

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
