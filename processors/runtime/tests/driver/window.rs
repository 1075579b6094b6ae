//! Idempotency keys that are old leave the store, unless work on their stream goes on.

use std::sync::Arc;

use omium_runtime::{Answer, Config, Request, StreamKey, Used, WindowKey, window_key};
use omium_schemas::{Money, Partition, Time};
use omium_store::{Batch, MemoryStore, Store};

use crate::bank::{BankNode, account, balance, job, start, top_up};
use crate::place::{KeptBlobs, Place};
use crate::world::Outcome;

const HOUR: u64 = 3_600_000_000;

fn row(stream: StreamKey, key: &str) -> Vec<u8> {
    window_key(Partition(0), &WindowKey { stream, key: key.as_bytes().to_vec() })
}

fn is_kept(store: &MemoryStore, stream: StreamKey, key: &str) -> bool {
    store.get(&[row(stream, key)]).expect("readable")[0].is_some()
}

/// Lets a key look as if it had been used so many hours earlier.
fn age(store: &MemoryStore, stream: StreamKey, key: &str, hours: u64) {
    let row = row(stream, key);
    let bytes = store.get(std::slice::from_ref(&row)).expect("readable").remove(0).expect("it was saved");
    let mut used = Used::read(&bytes).expect("sound");
    used.at = Time(used.at.0 - hours * HOUR);
    let mut batch = Batch::default();
    batch.put(row, postcard::to_stdvec(&used).expect("it can be written"));
    store.write(batch).expect("written");
}

/// Works until a key has left the store.
async fn until_forgotten(node: &BankNode, store: &MemoryStore, stream: StreamKey, key: &str) {
    let gone = async {
        while is_kept(store, stream, key) {
            node.done(account("other"), top_up(1)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), gone).await.expect("it is forgotten");
}

#[tokio::test]
async fn keys_older_than_a_day_are_forgotten_once_their_streams_work_is_over() {
    let place = Place::memory(1);
    let Place::Memory(_, store) = &place else { unreachable!("it was made in memory") };
    let config = Config { flush_records: 1, ..place.config() };
    let node: BankNode = place.open_with(config.clone(), Arc::<KeptBlobs>::default()).await;
    for key in ["old", "young"] {
        node.insist(Request::new(account("a"), top_up(1)).with_key(key)).await;
    }
    let started = Request::new(job(1), start(1, None)).with_key("running");
    node.insist(started.clone()).await;
    node.node.stop().await.expect("nothing fails");
    drop(node);
    age(store, account("a"), "old", 25);
    age(store, account("a"), "young", 23);
    age(store, job(1), "running", 48);

    let mut node: BankNode = place.open_with(config, Arc::<KeptBlobs>::default()).await;
    until_forgotten(&node, store, account("a"), "old").await;
    let repeated = node.node.submit(Request::new(account("a"), top_up(1)).with_key("young")).await;
    assert!(matches!(&repeated, Answer::Done(done) if done.repeated), "{repeated:?}");
    assert!(matches!(node.node.submit(started).await, Answer::Done(done) if done.repeated));
    let anew = node.node.submit(Request::new(account("a"), top_up(1)).with_key("old")).await;
    assert!(matches!(&anew, Answer::Done(done) if !done.repeated), "{anew:?}");
    assert_eq!(balance(&node.until(account("a"), |_| true).await), Money::dollars(3));

    let step = node.next_dispatch().await;
    assert!(matches!(node.perform(&step, Outcome::Succeed).await, Some(Answer::Done(_))));
    until_forgotten(&node, store, job(1), "running").await;
    assert!(is_kept(store, account("a"), "young"));
    node.node.stop().await.expect("nothing fails");
}
