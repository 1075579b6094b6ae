//! Bodies that nobody thought of: each is answered, soon, and the node is as it was. A hundred of them; as many as
//! `OMIUM_RANDOM_BODIES` says where somebody wants more, from the seed `OMIUM_RANDOM_SEED` on.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod desk;
#[path = "random/grammar.rs"]
mod grammar;

use std::time::{Duration, Instant};

use desk::Dev;
use grammar::Dice;
use serde_json::{Value, json};

/// Nobody waits longer for an answer than this; it is far more than the two seconds of the bar, for machines that do
/// much else beside.
const HANGS: Duration = Duration::from_secs(20);
/// A text that the grammar knows, to start what was published.
const WAITS: &str = "/api/v1/executions?wait_ms=1000";

struct Node {
    client: reqwest::Client,
    url: String,
    key: String,
    slowest: Duration,
}

impl Node {
    fn of(dev: &Dev) -> Node {
        let (url, key) = dev.address();
        let client = reqwest::Client::builder().no_proxy().timeout(HANGS).build().unwrap();
        Node { client, url, key, slowest: Duration::ZERO }
    }

    /// The status and the body of an answer that is never the server's fault.
    async fn asks(&mut self, path: &str, body: &str, counts: bool) -> (u16, String) {
        let began = Instant::now();
        let kind =
            if path.starts_with("/api/v1/workflows") { "application/yaml" } else { "application/json" };
        let request = self.client.post(format!("{}{path}", self.url)).bearer_auth(&self.key);
        let response = request
            .header("content-type", kind)
            .header("x-omium-step", "one")
            .body(body.to_owned())
            .send()
            .await;
        let response = response.unwrap_or_else(|why| panic!("{path}: {why}: {body}"));
        let (status, text) = (response.status().as_u16(), response.text().await.unwrap());
        if counts {
            self.slowest = self.slowest.max(began.elapsed());
        }
        assert!(status < 500, "{path}: {status} {text}: {body}");
        assert!(
            text.len() < 64 << 20 && (status < 400 || text.len() < 64 << 10),
            "{path}: {} bytes",
            text.len()
        );
        (status, text)
    }

    /// Where a program of its own asks its models.
    async fn gate(&mut self) -> String {
        let (_, opened) = self.asks("/api/v1/programs", r#"{"name": "random"}"#, true).await;
        let opened: Value = serde_json::from_str(&opened).unwrap();
        let attempts = format!("/api/v1/executions/{}/attempts", opened["id"].as_str().unwrap());
        let (_, attempt) = self.asks(&attempts, "{}", true).await;
        let attempt: Value = serde_json::from_str(&attempt).unwrap();
        format!("{}/v1/chat/completions", attempt["path"].as_str().unwrap())
    }
}

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

#[tokio::test]
async fn bodies_that_nobody_thought_of_are_answered() {
    let dev = Dev::start();
    let mut node = Node::of(&dev);
    let (first, many) = (number("OMIUM_RANDOM_SEED", 1), number("OMIUM_RANDOM_BODIES", 100));
    let gate = node.gate().await;
    let (mut taken, mut ran, mut refused) = (0, 0, 0);
    for seed in first..first + many {
        let mut dice = Dice::new(seed);
        let (path, text) = match dice.below(8) {
            0 => ("/api/v1/workflows/validate", dice.yaml(4)),
            1 => (gate.as_str(), dice.conversation()),
            2 => (WAITS, format!(r#"{{"workflow": "random", "inputs": {}}}"#, dice.json(4))),
            3 => ("/api/v1/programs", dice.json(3)),
            _ => ("/api/v1/workflows", dice.workflow()),
        };
        let text = if path == "/api/v1/workflows" { text } else { dice.spoiled(text) };
        let (status, _) = node.asks(path, &text, path != WAITS).await;
        refused += u64::from(status >= 400);
        if path != "/api/v1/workflows" || status >= 300 {
            continue;
        }
        taken += 1;
        let input = json!({ "a": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaab", "list": (0..500).collect::<Vec<u32>>() });
        let start = json!({ "workflow": "random", "inputs": input }).to_string();
        let (status, shown) = node.asks(WAITS, &start, false).await;
        if status < 300 {
            let shown: Value = serde_json::from_str(&shown).unwrap();
            ran += u64::from(shown["ended"]["status"] == "completed");
            let id = shown["id"].as_str().unwrap();
            node.asks(&format!("/api/v1/executions/{id}/cancel"), "", true).await;
        }
    }
    println!(
        "{many} bodies: {refused} refused, {taken} workflows taken, {ran} completed; slowest {:?}",
        node.slowest
    );
    assert!(many < 100 || (refused > 0 && taken > 5 && ran > 0), "the grammar is not only nonsense");
    let good = "name: good\nagents: [{id: one, framework: native, prompt: hello}]";
    assert_eq!(node.asks("/api/v1/workflows", good, true).await.0, 201);
    let (_, shown) = node.asks("/api/v1/executions?wait_ms=20000", r#"{"workflow": "good"}"#, false).await;
    assert!(shown.contains(r#""status":"completed""#), "{shown}");
}
