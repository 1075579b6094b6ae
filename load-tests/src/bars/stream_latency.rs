//! How soon an event is with those who listen for it.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::json;

use super::{Bar, Setting};
use crate::finding::{Finding, Part};
use crate::latency::Latencies;
use crate::work::listeners::{Heard, Listener};
use crate::work::server::{Server, fresh, prepare};
use crate::work::{callers, runs};

pub(super) const BAR: Bar = Bar {
    name: "stream-latency",
    what: "an event on the WebSocket after its commit, with 1,000 subscribers: p99 under 50 ms",
    prepare,
    run,
};

/// How many listen to one execution.
const EACH: usize = 10;
/// From one event to the next.
const PAUSE: Duration = Duration::from_millis(20);

fn run(setting: &Setting) -> anyhow::Result<Finding> {
    callers::runtime()?.block_on(measure(setting))
}

async fn measure(setting: &Setting) -> anyhow::Result<Finding> {
    let subscribers = if setting.quick { 200 } else { 1_000 };
    let events = if setting.quick { 100 } else { 1_000 };
    let server = Server::start(&fresh(&setting.dir, "stream")?).await?;
    let mut connection = server.connect().await?;
    connection.publish(runs::NOTE).await?;
    let ids = runs::open(&server.address, subscribers / EACH, "note", &[]).await?;
    setting.say(&format!("{subscribers} subscribers of {} executions", ids.len()));
    let mut listeners = Vec::new();
    for at in 0..subscribers {
        let execution = at % ids.len();
        listeners.push(Listener::open(&server.address, execution, &ids[execution]).await?);
    }
    let (mut p99s, mut since_asked, mut number) = (Vec::new(), Vec::new(), 0);
    for _ in 0..setting.runs() {
        let (mut after, mut asked) = (Latencies::default(), Latencies::default());
        for _ in 0..events {
            let execution = number % ids.len();
            let path = format!("/api/v1/executions/{}/checkpoints", ids[execution]);
            let sent = Instant::now();
            let done = connection.post(&path, &json!({ "name": format!("mark-{number}") })).await?;
            let told = Instant::now();
            let seq = done["seq"].as_u64().context("a checkpoint has a seq")?;
            for listener in listeners.iter_mut().filter(|listener| listener.execution == execution) {
                let Heard { at, .. } = listener.until(seq).await?;
                // The one who asked is told when the event is durable: whoever hears of it before waited for nothing.
                after.record(at.saturating_duration_since(told).as_micros() as u64);
                asked.record(at.duration_since(sent).as_micros() as u64);
            }
            number += 1;
            tokio::time::sleep(PAUSE).await;
        }
        p99s.push(after.quantile(0.99) / 1e3);
        since_asked.push(asked.quantile(0.99) / 1e3);
    }
    server.stop()?;
    let mut finding = Finding::default();
    let what = |what: &str| format!("p99 in ms from {what} to {subscribers} subscribers");
    finding.parts.push(Part::at_most(&what("commit"), &p99s, 50.0));
    // The commit itself included: stricter than what was promised, and no clock of ours decides when that was.
    finding.parts.push(Part::at_most(&what("request"), &since_asked, 50.0));
    Ok(finding)
}
