//! What others read: events and results on topics of a real broker, their schemas in a real registry.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test starts the servers that it needs"
)]

mod desk;
#[path = "../../processors/log/tests/servers/mod.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod servers;
mod topic;

use std::collections::BTreeMap;

use desk::Dev;
use omium_log::{Registry, RegistryOptions};
use serde_json::Value;
use servers::Server;
use topic::{Record, read};

/// Told to one run, and to nobody who reads the events.
const SECRET: &str = "Ann of Ulm";

fn node(broker: &str, more: &[&str]) -> Dev {
    let log = format!("kafka://{broker}");
    let mut words = vec!["serve", "--log", &log, "--partitions", "2", "--replication", "1"];
    words.extend_from_slice(more);
    Dev::start_as(&words)
}

/// Begins some runs and ends all but the last.
fn work(node: &Dev) -> Vec<String> {
    let runs: Vec<String> = (0..6).map(|_| node.started()).collect();
    for run in &runs {
        node.says(&["signal", run, "check", "1"]);
    }
    for run in &runs[..5] {
        node.says(&["signal", run, "sign", &format!(r#"{{"ok": true, "by": "{SECRET}"}}"#)]);
    }
    runs
}

/// Type and seq of all events that the API shows of a run.
fn told(node: &Dev, run: &str) -> BTreeMap<u64, String> {
    let shown: Value = serde_json::from_str(&node.says(&["logs", run, "--json"])).unwrap();
    let events = shown["items"].as_array().unwrap().iter().filter(|event| event["command"] == false);
    events.map(|event| (event["seq"].as_u64().unwrap(), event["kind"].as_str().unwrap().to_owned())).collect()
}

/// The same from the topic, where every run's events are in order and only repeated, never missed.
fn published(records: &[Record]) -> BTreeMap<String, BTreeMap<u64, String>> {
    let mut runs: BTreeMap<String, BTreeMap<u64, String>> = BTreeMap::new();
    for record in records {
        let run = record.headers["execution"].clone();
        assert_eq!((&record.key, &record.headers["stream"]), (&run, &run));
        let (seq, kind) = (record.headers["seq"].parse().unwrap(), record.headers["type"].clone());
        let known = runs.entry(run).or_default();
        if let Some(before) = known.insert(seq, kind.clone()) {
            assert_eq!(before, kind, "a repeated record is the same one");
        }
    }
    runs
}

#[test]
fn every_event_and_result_is_published_also_through_kills() {
    let Some(broker) = Server::start("kafka", None) else { return };
    let Some(registry) = Server::start("registry", None) else { return };
    let (bootstrap, url) = (broker.value("bootstrap"), registry.value("url"));
    let mut node = node(&bootstrap, &["--registry", &url]);
    let mut runs = work(&node);
    node.kill_and_start();
    runs.extend(work(&node));
    // Killed in the middle of what it publishes, and once more before it has done so.
    node.kill_and_start();
    node.kill_and_start();
    node.says(&["cancel", &runs[5]]);

    let wanted: BTreeMap<String, BTreeMap<u64, String>> =
        runs.iter().map(|run| (run.clone(), told(&node, run))).collect();
    let all = |records: &[Record]| published(records) == wanted;
    let events = read(&bootstrap, "omium.events", all);
    assert_eq!(published(&events), wanted, "all of it, in order, without a gap");
    readable(&events, &url);

    let ended: BTreeMap<&str, &str> = runs
        .iter()
        .enumerate()
        .filter(|(at, _)| *at != 11)
        .map(|(at, run)| (run.as_str(), if at == 5 { "cancelled" } else { "completed" }))
        .collect();
    let newest = |records: &[Record]| -> BTreeMap<String, Value> {
        records
            .iter()
            .map(|record| (record.key.clone(), serde_json::from_slice(&record.payload).unwrap()))
            .collect()
    };
    let results = newest(&read(&bootstrap, "omium.results", |records| newest(records).len() == ended.len()));
    for (run, status) in ended {
        let result = &results[run];
        let shown: Value = serde_json::from_str(&node.says(&["show", run, "--json"])).unwrap();
        assert_eq!(result["status"], status);
        for field in ["output", "workflow", "version", "seq", "ended_at", "cost_usd"] {
            assert_eq!(result[field], shown[field], "{field} of {run}");
        }
        assert_eq!(result["execution"], run);
    }
}

/// Each record is what its schema in the registry says, and nobody reads in it what people wrote.
fn readable(events: &[Record], url: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let reader = Registry::new(RegistryOptions::new(url, "omium.events")).unwrap();
    for record in events {
        let decoded = runtime.block_on(reader.decode(&record.payload)).unwrap();
        assert_eq!(decoded.name, format!("omium.{}", record.headers["type"]));
        let text = String::from_utf8_lossy(&record.payload).into_owned();
        assert!(!text.contains(SECRET), "content is sealed");
    }
    assert!(events.iter().any(|record| record.headers["type"] == "SignalReceived"));
}

#[test]
fn work_goes_on_without_a_registry_and_events_are_published_from_the_first_one_on_when_there_is_one() {
    let Some(broker) = Server::start("kafka", None) else { return };
    let Some(registry) = Server::start("registry", None) else { return };
    let bootstrap = broker.value("bootstrap");
    let mut node = node(&bootstrap, &["--results", "status", "--registry", "http://127.0.0.1:1"]);
    let run = node.started();
    node.says(&["signal", &run, "check", "1"]);
    node.says(&["signal", &run, "sign", r#"{"ok": true}"#]);
    let results = read(&bootstrap, "omium.results", |records| !records.is_empty());
    let result: Value = serde_json::from_slice(&results[0].payload).unwrap();
    assert_eq!((&result["execution"], &result["status"]), (&run.as_str().into(), &"completed".into()));
    assert!(result.get("output").is_none(), "{result}");
    assert_eq!(results[0].headers["status"], "completed");
    assert_eq!(publisher(&node), "0");

    node.words =
        ["serve", "--log", &format!("kafka://{bootstrap}"), "--partitions", "2", "--replication", "1"]
            .iter()
            .chain(&["--results", "off", "--registry", &registry.value("url")])
            .map(|word| (*word).to_owned())
            .collect();
    node.kill_and_start();
    let wanted = BTreeMap::from([(run.clone(), told(&node, &run))]);
    let events = read(&bootstrap, "omium.events", |records| published(records) == wanted);
    assert_eq!(published(&events), wanted);
    assert_eq!(publisher(&node), "1");

    let alone = node.run(&["serve", "--registry", "http://127.0.0.1:1"]);
    assert_eq!(alone.status.code(), Some(2), "there is nothing to publish where the log is not on Kafka");
}

/// How the publisher is, as metrics say it.
fn publisher(node: &Dev) -> String {
    let (url, _) = node.address();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let text = runtime
        .block_on(async { reqwest::get(format!("{url}/metrics")).await.unwrap().text().await.unwrap() });
    let line = text.lines().find(|line| line.contains(r#"service="publisher""#));
    line.unwrap().rsplit(' ').next().unwrap().to_owned()
}
