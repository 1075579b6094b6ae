//! The same workflow with the log on a real broker.
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

use desk::{Dev, plain};
use servers::Server;

#[test]
fn a_workflow_on_kafka_survives_a_kill_and_ends_where_it_should() {
    let Some(broker) = Server::start("kafka", None) else { return };
    let log = format!("kafka://{}", broker.value("bootstrap"));
    let mut node = Dev::start_as(&["serve", "--log", &log, "--partitions", "2", "--replication", "1"]);
    let id = node.started();
    node.says(&["signal", &id, "check", r#"{"fine": 1}"#]);
    let before = node.says(&["show", &id]);
    node.kill_and_start();
    assert_eq!(node.says(&["show", &id]), before);
    node.says(&["signal", &id, "sign", r#"{"ok": true, "by": "Ann"}"#]);
    let shown: serde_json::Value = serde_json::from_str(&node.says(&["show", &id, "--json"])).unwrap();
    assert_eq!((&shown["status"], &shown["output"]["by"]), (&"completed".into(), &"Ann".into()));
    let replayed = node.says(&["replay", &id]);
    assert!(
        plain(&replayed, &id).ends_with("folded 15 records again: the same state as the live one, HASH"),
        "{replayed}"
    );
    let other = node.run(&["serve", "--log", "http://x"]);
    assert_eq!(other.status.code(), Some(1));
}
