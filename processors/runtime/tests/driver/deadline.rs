//! Answers that do not come.

use std::sync::Arc;

use omium_runtime::{Answer, Config, Request};

use crate::bank::{BankNode, account, balance, top_up};
use crate::faulty::{Fault, FaultyLog};
use crate::place::{KeptBlobs, Place};

#[tokio::test]
async fn an_append_that_never_ends_is_an_unknown_outcome_for_callers_and_readers_alike() {
    let (log, store) = (FaultyLog::new(1), Arc::default());
    let place = Place::Faulty(log.clone(), store);
    let config = Config { deadline_micros: 300_000, ..place.config() };
    let node: BankNode = place.open_with(config, Arc::<KeptBlobs>::default()).await;
    let request = || Request::new(account("a"), top_up(1)).with_key("once");
    node.done(account("b"), top_up(1)).await;
    log.next(Fault::Silence, 1);
    let (first, second, view) = tokio::join!(
        biased;
        node.node.submit(request()),
        node.submit(account("b"), top_up(1)),
        node.node.view(account("b")),
    );
    assert_eq!((first, second), (Answer::Unknown, Answer::Unknown));
    assert_eq!(view.err(), Some(Answer::Unknown));
    // Later callers wait no longer than the first ones.
    assert_eq!(node.submit(account("c"), top_up(1)).await, Answer::Unknown);
    node.node.halt().await;
    drop(node);

    // The record was written after all: whoever asks again with the key learns what became of it.
    let node: BankNode = place.open().await;
    assert!(matches!(node.node.submit(request()).await, Answer::Done(done) if done.repeated));
    let stream = node.node.view(account("a")).await.expect("a view").expect("it exists");
    assert_eq!(balance(&stream.state), omium_schemas::Money::dollars(1));
    node.node.stop().await.expect("nothing fails");
}

#[tokio::test]
async fn a_reader_waits_for_what_its_own_stream_has_seen_and_for_nothing_else() {
    let (log, store) = (FaultyLog::new(1), Arc::default());
    let place = Place::Faulty(log.clone(), store);
    let config = Config { deadline_micros: 300_000, ..place.config() };
    let node: BankNode = place.open_with(config, Arc::<KeptBlobs>::default()).await;
    node.done(account("a"), top_up(1)).await;
    node.done(account("b"), top_up(1)).await;
    log.next(Fault::Silence, 1);
    let (second, a, b) = tokio::join!(
        biased;
        node.submit(account("b"), top_up(1)),
        node.node.view(account("a")),
        node.node.view(account("b")),
    );
    assert_eq!((second, b.err()), (Answer::Unknown, Some(Answer::Unknown)));
    let stream = a.expect("nothing of it is on its way").expect("it exists");
    assert_eq!(balance(&stream.state), omium_schemas::Money::dollars(1));
    node.node.halt().await;
}
