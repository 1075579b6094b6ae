//! The kit that tests workers, on workers that are right and wrong in known ways.

use std::time::Duration;

use omium_api::conformance::{Finding, Pace, Place, check};
use omium_api::proto::worker_item::Kind as Say;
use omium_api::proto::workers_client::WorkersClient;
use omium_api::proto::{
    Complete, EngineMessage, Fail, Heartbeat, Perform, Progress, Register, Sending, WorkerItem,
    WorkerMessage, engine_item::Kind,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Streaming};

/// In what a worker is wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    NoHeartbeat,
    NoProgress,
    OneByOne,
    NewSession,
    ThroughFloats,
}

const BEAT: Duration = Duration::from_millis(50);

async fn worker(place: Place, flaw: Flaw) {
    let (outcome, mut outcomes) = mpsc::channel::<(Sending, Say)>(64);
    let mut holding: Vec<Sending> = Vec::new();
    for life in 0.. {
        let session = if flaw == Flaw::NewSession { format!("s{life}") } else { "s".to_owned() };
        let Some((say, mut told)) = connect(&place, session, holding.clone()).await else { return };
        let beating = beat(say.clone(), flaw);
        loop {
            tokio::select! {
                message = told.message() => {
                    let Ok(Some(message)) = message else { break };
                    for item in message.items {
                        if let Some(Kind::Perform(perform)) = item.kind {
                            holding.extend(perform.sending.clone());
                            let work = perform_step(perform, say.clone(), outcome.clone(), flaw);
                            if flaw == Flaw::OneByOne { work.await } else { drop(tokio::spawn(work)) }
                        }
                    }
                }
                Some((sending, kind)) = outcomes.recv() => {
                    holding.retain(|held| *held != sending);
                    let _ = say.send(one(kind)).await;
                }
            }
        }
        beating.abort();
    }
}

fn one(kind: Say) -> WorkerMessage {
    WorkerMessage { items: vec![WorkerItem { no: 1, kind: Some(kind) }] }
}

async fn connect(
    place: &Place,
    session: String,
    holding: Vec<Sending>,
) -> Option<(mpsc::Sender<WorkerMessage>, Streaming<EngineMessage>)> {
    let channel = Channel::from_shared(place.url.clone()).unwrap().connect().await.ok()?;
    let (say, said) = mpsc::channel(64);
    let register = Register {
        name: "w".to_owned(),
        session,
        frameworks: vec!["conformance".to_owned()],
        capacity: 4,
        holding,
        ..Register::default()
    };
    say.send(one(Say::Register(register))).await.unwrap();
    let mut request = Request::new(ReceiverStream::new(said));
    request.metadata_mut().insert("authorization", format!("Bearer {}", place.key).parse().unwrap());
    let told = WorkersClient::new(channel).work(request).await.ok()?.into_inner();
    Some((say, told))
}

fn beat(say: mpsc::Sender<WorkerMessage>, flaw: Flaw) -> JoinHandle<()> {
    tokio::spawn(async move {
        if flaw == Flaw::NoHeartbeat {
            return;
        }
        while say.send(one(Say::Heartbeat(Heartbeat { nonce: 0 }))).await.is_ok() {
            tokio::time::sleep(BEAT).await;
        }
    })
}

async fn perform_step(
    perform: Perform,
    say: mpsc::Sender<WorkerMessage>,
    outcome: mpsc::Sender<(Sending, Say)>,
    flaw: Flaw,
) {
    let (input, sending) =
        (serde_json::from_str::<Value>(&perform.input_json).unwrap(), perform.sending.unwrap());
    let mut output = input["give"].clone();
    if let Some(wait) = input["wait_ms"].as_u64() {
        let over = tokio::time::Instant::now() + Duration::from_millis(wait);
        while tokio::time::Instant::now() < over {
            tokio::time::sleep(BEAT.min(over - tokio::time::Instant::now())).await;
            if !matches!(flaw, Flaw::NoProgress | Flaw::NoHeartbeat) {
                // Where the connection is broken this is lost, and the next one comes over the new one.
                let _ = say.try_send(one(Say::Progress(Progress { sending: Some(sending.clone()) })));
            }
        }
        output = json!({ "waited_ms": wait });
    }
    if flaw == Flaw::ThroughFloats && output.is_number() {
        output = json!(output.as_f64());
    }
    let of = Some(sending.clone());
    let said = match input["fail"].as_str() {
        Some(reason) => Say::Fail(Fail { sending: of, reason: reason.to_owned(), ..Fail::default() }),
        None => {
            Say::Complete(Complete { sending: of, output_json: output.to_string(), cost_usd: String::new() })
        }
    };
    let _ = outcome.send((sending, said)).await;
}

async fn wrong(flaw: Flaw) -> Vec<Finding> {
    let mut running = None;
    let pace = Pace(Duration::from_millis(800));
    let findings = check(pace, |place| running = Some(tokio::spawn(worker(place, flaw)))).await.unwrap();
    running.unwrap().abort();
    assert!(findings.len() == 7, "{findings:?}");
    findings.into_iter().filter(|finding| finding.wrong.is_some()).collect()
}

#[tokio::test]
async fn a_worker_that_holds_to_the_protocol_passes() {
    assert_eq!(wrong(Flaw::None).await, []);
}

#[tokio::test]
async fn each_flaw_is_found_and_said() {
    let flaws = [
        (Flaw::NoHeartbeat, "it was silent: no heartbeat came in time"),
        (Flaw::NoProgress, "its step made no progress in time"),
        (Flaw::OneByOne, "one after the other"),
        (Flaw::NewSession, "it did not come back in time under the same name and session"),
        (Flaw::ThroughFloats, "18446744073709551615 came back as 1.84"),
    ];
    let found = flaws.map(|(flaw, said)| (tokio::spawn(wrong(flaw)), said));
    for (found, said) in found {
        let found = found.await.unwrap();
        assert!(
            found.iter().any(|finding| finding.wrong.as_ref().is_some_and(|text| text.contains(said))),
            "`{said}` is not among {found:?}"
        );
    }
}

#[tokio::test]
async fn a_worker_that_does_not_come_is_said_to_be_missing() {
    let findings = check(Pace(Duration::from_millis(100)), drop).await.unwrap();
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].wrong.as_deref(), Some("no worker registered within 3s"));
}
