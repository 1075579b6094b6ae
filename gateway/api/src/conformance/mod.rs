//! A test of workers in any language: an engine that gives steps, breaks connections and looks whether the worker holds to
//! the protocol.
//!
//! The worker under test connects to the address and key that it is given, performs steps of the framework `conformance`,
//! and does what their input says: `{"give": X}` completes with X; `{"fail": "why"}` fails with that reason;
//! `{"wait_ms": N}` takes so long, says `progress` meanwhile, and completes with `{"waited_ms": N}`.

mod kit;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::Instant;

use self::kit::Kit;
use self::wire::Wire;
use crate::WorkerTimes;
use crate::port::Outcome;

/// Where the worker under test connects to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The address.
    pub url: String,
    /// The key.
    pub key: String,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What a worker does.
    pub case: &'static str,
    /// What this one did instead.
    pub wrong: Option<String>,
}

/// How often a worker says that it lives and that a step goes on. One that keeps the usual five seconds is fast enough
/// for `Pace::default()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace(pub Duration);

impl Default for Pace {
    fn default() -> Pace {
        Pace(Duration::from_secs(5))
    }
}

/// Tests the worker that `start` starts.
pub async fn check(pace: Pace, start: impl FnOnce(Place)) -> std::io::Result<Vec<Finding>> {
    let Pace(pace) = pace;
    let times = WorkerTimes { heartbeat: pace, idle: pace, reconnect: pace };
    let kit = Arc::new(Kit::new());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let server = listener.local_addr()?;
    let router = crate::router_with(kit.clone(), times);
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let wire = Wire::to(server).await?;
    start(Place { url: format!("http://{}", wire.address()), key: kit::KEY.to_owned() });
    let findings = cases(&kit, &wire, pace).await;
    serving.abort();
    Ok(findings)
}

async fn cases(kit: &Kit, wire: &Wire, pace: Duration) -> Vec<Finding> {
    // How long anything may take that a worker does at once, also on a busy machine.
    let soon = (2 * pace).max(Duration::from_secs(3));
    let registered = registers(kit, soon).await;
    let there = registered.is_ok();
    let mut findings = vec![finding("registers for the framework `conformance`", registered)];
    if there {
        findings.push(finding("gives back values exactly as they are", gives_back(kit, soon).await));
        findings.push(finding("tells why a step failed", fails(kit, soon).await));
        findings.push(finding(
            "performs as many steps at once as it registered for",
            at_once(kit, pace, soon).await,
        ));
        let lives = lives(kit, pace, soon).await;
        findings.push(finding("sends heartbeats and progress while a step takes long", lives));
        let back = comes_back(kit, wire, pace, soon).await;
        findings.push(finding("comes back after a broken connection and keeps its step", back));
        findings.push(finding("goes on after a step was cancelled", goes_on(kit, soon).await));
    }
    findings
}

fn finding(case: &'static str, result: Result<(), String>) -> Finding {
    Finding { case, wrong: result.err() }
}

async fn registers(kit: &Kit, soon: Duration) -> Result<(), String> {
    let info = kit.seated(soon).await.ok_or_else(|| format!("no worker registered within {soon:?}"))?;
    if info.frameworks.iter().any(|framework| framework == kit::FRAMEWORK) {
        return Ok(());
    }
    Err(format!("it registered for {:?}", info.frameworks))
}

async fn gives_back(kit: &Kit, soon: Duration) -> Result<(), String> {
    let values = [
        json!(u64::MAX),
        json!(i64::MIN),
        json!(0.1),
        json!(""),
        json!("\u{0}\u{7f}ü\u{2028}\u{1f600}"),
        json!({}),
        json!([]),
        Value::Null,
        json!({ "a": [{ "b": [[[]]] }], "": false }),
        json!("x".repeat(1 << 20)),
    ];
    for value in values {
        let step = kit.give(json!({ "give": value })).await?;
        match kit.outcome(&step, soon).await? {
            Outcome::Completed { output, .. } if output == value => {}
            other => return Err(format!("{} came back as {}", short(&value), told(&other))),
        }
    }
    Ok(())
}

async fn fails(kit: &Kit, soon: Duration) -> Result<(), String> {
    let step = kit.give(json!({ "fail": "no such rate" })).await?;
    match kit.outcome(&step, soon).await? {
        Outcome::Failed { reason, .. } if reason.contains("no such rate") => Ok(()),
        other => Err(format!("a step that was to fail ended with {}", told(&other))),
    }
}

async fn at_once(kit: &Kit, pace: Duration, soon: Duration) -> Result<(), String> {
    let capacity = kit.seated(soon).await.map_or(1, |info| info.capacity.min(4));
    // All of them one after the other would still be in time, so that it is this which is found.
    let each = pace / 8;
    let began = Instant::now();
    let mut steps = Vec::new();
    for _ in 0..capacity {
        steps.push(kit.give(json!({ "wait_ms": each.as_millis() as u64 })).await?);
    }
    for step in &steps {
        waited(kit.outcome(step, soon).await?)?;
    }
    let (took, together) = (began.elapsed(), each * capacity);
    if capacity > 1 && took >= together {
        return Err(format!("{capacity} steps of {each:?} took {took:?}: one after the other"));
    }
    Ok(())
}

async fn lives(kit: &Kit, pace: Duration, soon: Duration) -> Result<(), String> {
    let wait = 3 * pace;
    let step = kit.give(json!({ "wait_ms": wait.as_millis() as u64 })).await?;
    waited(kit.outcome(&step, wait + soon).await?)
}

async fn comes_back(kit: &Kit, wire: &Wire, pace: Duration, soon: Duration) -> Result<(), String> {
    let wait = pace.min(Duration::from_secs(2));
    let step = kit.give(json!({ "wait_ms": wait.as_millis() as u64 })).await?;
    // In the middle of the work, so that there is something to keep.
    tokio::time::sleep(wait / 2).await;
    wire.cut();
    waited(kit.outcome(&step, wait + pace + soon).await?)?;
    // What came back is the same session, so that it is still there for more.
    let more = kit.give(json!({ "give": 1 })).await?;
    kit.outcome(&more, soon).await.map(|_| ())
}

async fn goes_on(kit: &Kit, soon: Duration) -> Result<(), String> {
    let step = kit.give(json!({ "wait_ms": 60_000 })).await?;
    kit.cancel(&step)?;
    let after = kit.give(json!({ "give": 2 })).await?;
    kit.outcome(&after, soon).await.map(|_| ())
}

fn waited(outcome: Outcome) -> Result<(), String> {
    match outcome {
        Outcome::Completed { output, .. } if output.get("waited_ms").is_some() => Ok(()),
        other => Err(format!("a step that was to wait ended with {}", told(&other))),
    }
}

fn told(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Completed { output, .. } => short(output),
        Outcome::Failed { reason, .. } => format!("a failure: {reason}"),
    }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text,
    }
}
