//! Processors that panic, and frames that do not fit: one stream suffers, the others do not notice.

use omium_processor::{Context, Processor, Recorded, Refusal};
use omium_runtime::{Answer, StreamKey};
use omium_schemas::catalogue::{Command, Event, ReleaseStream, SignalExecution, SignalReceived};

use crate::bank::job;
use crate::place::Place;
use crate::world::Running;

/// Counts signals, and panics where the signal says so.
struct Touchy;

impl Processor for Touchy {
    type State = u64;

    const NAME: &'static str = "touchy";
    const LAYOUT: u16 = 1;

    fn decide(_: &u64, command: &Command, _: &Context<'_>) -> Result<Vec<Event>, Refusal> {
        let Command::SignalExecution(SignalExecution { name, .. }) = command else { return Ok(Vec::new()) };
        assert_ne!(name, "decide", "the processor's own bug");
        let count = if name == "huge" { 200 } else { 1 };
        let name = if name == "huge" { "x".repeat(10_000) } else { name.clone() };
        Ok(vec![SignalReceived { name }.into(); count])
    }

    fn react(_: &u64, event: &Event, _: &Context<'_>) -> Vec<Event> {
        let Event::SignalReceived(SignalReceived { name }) = event else { return Vec::new() };
        assert_ne!(name, "react", "the processor's own bug");
        if name == "for ever" { vec![event.clone()] } else { Vec::new() }
    }

    fn apply(count: u64, recorded: &Recorded<'_>) -> u64 {
        let Event::SignalReceived(SignalReceived { name }) = recorded.event else { return count };
        assert_ne!(name, "apply", "the processor's own bug");
        count + 1
    }
}

type TouchyNode = Running<(Touchy,)>;

fn signal(name: &str) -> SignalExecution {
    SignalExecution { name: name.into(), body: None }
}

async fn count(node: &TouchyNode, key: StreamKey) -> u64 {
    node.node.view(key).await.expect("a view").map_or(0, |stream| stream.state.0)
}

#[tokio::test]
async fn a_panic_in_decide_or_react_quarantines_the_stream_until_it_is_released() {
    for place in [Place::memory(1), Place::disk(1)] {
        for (n, where_) in [(1, "decide"), (2, "react")] {
            let node: TouchyNode = place.open().await;
            node.done(job(n), signal("fine")).await;
            let answer = node.submit(job(n), signal(where_)).await;
            assert!(matches!(&answer, Answer::Quarantined(why) if why.contains(where_)), "{answer:?}");
            assert!(matches!(node.submit(job(n), signal("fine")).await, Answer::Quarantined(_)));
            node.done(job(9), signal("fine")).await;
            node.node.stop().await.unwrap();
            drop(node);
            // It is an event, so it holds for the next leader too.
            let node: TouchyNode = place.open().await;
            assert!(matches!(node.submit(job(n), signal("fine")).await, Answer::Quarantined(_)));
            node.done(job(n), ReleaseStream {}).await;
            node.done(job(n), signal("fine")).await;
            assert_eq!(count(&node, job(n)).await, 2);
            node.node.stop().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_panic_in_apply_freezes_the_stream_on_this_node_and_writes_nothing() {
    let place = Place::memory(1);
    let mut node: TouchyNode = place.open().await;
    node.done(job(1), signal("fine")).await;
    assert_eq!(node.submit(job(1), signal("apply")).await, Answer::Frozen);
    assert_eq!(node.submit(job(1), signal("fine")).await, Answer::Frozen);
    node.done(job(2), signal("fine")).await;
    node.until_seen(job(2), "SignalReceived").await;
    assert_eq!(node.seen.iter().filter(|seen| seen.key == job(1)).count(), 2);
    node.node.stop().await.unwrap();
    // Nothing of it is in the log, so another node (or the same one, once it is repaired) goes on.
    let node: TouchyNode = place.open().await;
    node.done(job(1), signal("fine")).await;
    assert_eq!(count(&node, job(1)).await, 2);
}

#[tokio::test]
async fn a_frame_that_cannot_fit_is_a_refusal_with_a_name_and_a_record_in_the_log() {
    for (name, text) in [("huge", "bytes"), ("for ever", "rounds")] {
        let place = Place::disk(1);
        let mut node: TouchyNode = place.open().await;
        node.done(job(1), signal("fine")).await;
        let Answer::Refused(refusal) = node.submit(job(1), signal(name)).await else { panic!("a refusal") };
        assert!(refusal.text.contains(text), "{refusal}");
        node.until_seen(job(1), "FrameRefused").await;
        node.done(job(1), signal("fine")).await;
        assert_eq!(count(&node, job(1)).await, 2);
        node.node.stop().await.unwrap();
    }
}
