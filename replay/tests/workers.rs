//! A worker in a process of its own, on the real stream of workers, through the kill of its server.
#![allow(clippy::unwrap_used, reason = "tests")]

mod desk;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use desk::Dev;
use omium_api::proto::worker_item::Kind as Say;
use omium_api::proto::workers_client::WorkersClient;
use omium_api::proto::{Complete, Register, WorkerItem, WorkerMessage, engine_item::Kind};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::transport::Channel;

const STEPS: &str = "
name: three
agents:
  - {id: a, framework: program}
  - {id: b, framework: program, input: '{{ outputs.a.n }}'}
  - {id: c, framework: program, input: '{{ outputs.b.n }}'}
";

/// What the world has seen: how often each effect was performed, by its key.
type Effects = Arc<Mutex<BTreeMap<String, u32>>>;

/// Works until the server goes away.
async fn work(data: &Path, effects: Effects) {
    let noted: Value = serde_json::from_slice(&std::fs::read(data.join("dev.json")).unwrap()).unwrap();
    let url = noted["url"].as_str().unwrap().to_owned();
    let Ok(channel) = Channel::from_shared(url).unwrap().connect().await else { return };
    let (say, said) = mpsc::channel(64);
    let mut request = Request::new(ReceiverStream::new(said));
    let key = format!("Bearer {}", noted["key"].as_str().unwrap());
    request.metadata_mut().insert("authorization", key.parse().unwrap());
    let register = Register {
        name: "w".into(),
        session: "s".into(),
        frameworks: vec!["program".into()],
        capacity: 16,
        ..Register::default()
    };
    let items = vec![WorkerItem { no: 1, kind: Some(Say::Register(register)) }];
    say.send(WorkerMessage { items }).await.unwrap();
    let Ok(told) = WorkersClient::new(channel).work(request).await else { return };
    let mut told = told.into_inner();
    let mut no = 1;
    while let Ok(Some(message)) = told.message().await {
        let mut items = Vec::new();
        for kind in message.items.into_iter().filter_map(|item| item.kind) {
            let Kind::Perform(step) = kind else { continue };
            *effects.lock().unwrap().entry(step.effect_key.clone()).or_default() += 1;
            let input: Value = serde_json::from_str(&step.input_json).unwrap();
            let n = input.as_u64().unwrap_or_default() + 1;
            no += 1;
            let complete = Complete {
                sending: step.sending,
                output_json: json!({ "n": n }).to_string(),
                cost_usd: "0.01".into(),
            };
            items.push(WorkerItem { no, kind: Some(Say::Complete(complete)) });
        }
        if !items.is_empty() && say.send(WorkerMessage { items }).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_of_a_worker_are_done_once_each_through_the_kill_of_the_server() {
    let mut dev = Dev::start();
    let file = dev.data.path().join("three.yaml");
    std::fs::write(&file, STEPS).unwrap();
    dev.says(&["workflows", "publish", file.to_str().unwrap()]);
    let effects = Effects::default();
    let place = dev.data.path().to_owned();
    let first = tokio::spawn({
        let (place, effects) = (place.clone(), effects.clone());
        async move { work(&place, effects).await }
    });
    let ids: Vec<String> = (0..20).map(|_| dev.says(&["run", "three"])).collect();
    dev.kill_and_start();
    first.await.unwrap();
    let second = tokio::spawn({
        let effects = effects.clone();
        async move { work(&place, effects).await }
    });
    for id in &ids {
        // Returns when the execution has ended.
        let said = dev.says(&["logs", "--follow", id]);
        let done = said.lines().filter(|line| line.contains(" StepCompleted ")).count();
        assert!(done == 3 && said.ends_with("ExecutionCompleted"), "{said}");
        let shown: Value = serde_json::from_str(&dev.says(&["show", id, "--json"])).unwrap();
        assert_eq!((&shown["output"], &shown["cost_usd"]), (&json!({ "n": 3 }), &json!("0.03")));
    }
    let effects = effects.lock().unwrap().clone();
    assert_eq!(effects.len(), 3 * ids.len(), "a key for each step");
    let repeated = effects.values().filter(|times| **times > 1).count();
    assert!(repeated <= 16, "only what was under way at the kill is sent again: {repeated}");
    second.abort();
}
