//! A worker that holds to the protocol, or breaks it in one known way.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use omium_api::conformance::Place;
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
pub(crate) enum Flaw {
    None,
    NoHeartbeat,
    NoProgress,
    OneByOne,
    NewSession,
    ThroughFloats,
}

const BEAT: Duration = Duration::from_millis(50);

pub(crate) async fn worker(place: Place, flaw: Flaw) {
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
