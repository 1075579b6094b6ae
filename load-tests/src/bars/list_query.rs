//! Lists of executions, plain and filtered, where there are very many.

use std::time::Instant;

use super::{Bar, Setting};
use crate::finding::{Finding, Part};
use crate::latency::Latencies;
use crate::work::http::Connection;
use crate::work::server::{Server, fresh, prepare};
use crate::work::{callers, runs};

pub(super) const BAR: Bar = Bar {
    name: "list-query",
    what: "lists and filters over very many executions: p95 under 20 ms",
    prepare,
    run,
};

/// One in so many is left open: what a filter has to find among the others.
const OPEN: usize = 1_000;

const QUERIES: &[(&str, &str)] = &[
    ("the newest", ""),
    ("by status", "status=completed"),
    ("by a status that few have", "status=running"),
    ("by a status that none has", "status=failed"),
    ("by workflow", "workflow=review"),
    ("by workflow and status", "workflow=note&status=completed"),
    ("by workflow and a status that none has", "workflow=note&status=running"),
];

fn run(setting: &Setting) -> anyhow::Result<Finding> {
    callers::runtime()?.block_on(measure(setting))
}

async fn measure(setting: &Setting) -> anyhow::Result<Finding> {
    let n = if setting.quick { 20_000 } else { 1_000_000 };
    let server = Server::start(&fresh(&setting.dir, "list")?).await?;
    let mut connection = server.connect().await?;
    connection.publish(runs::REVIEW).await?;
    setting.say(&format!("{n} executions, one in {OPEN} of them open"));
    // The few stand among the oldest: a filter that walks from the newest has the longest way to them.
    runs::open(&server.address, n / OPEN, "review", &["check"]).await?;
    runs::finish(&server.address, n - n / OPEN).await?;
    let asked = if setting.quick { 100 } else { 500 };
    let mut finding = Finding::default();
    for (what, filter) in QUERIES {
        setting.say(what);
        let p95s = times(setting, asked, &mut connection, filter).await?;
        finding.parts.push(Part::at_most(&format!("p95 in ms, {what}, of {n}"), &p95s, 20.0));
    }
    // The headline is the slowest.
    finding.parts.sort_by(|a, b| b.value.total_cmp(&a.value));
    server.stop()?;
    Ok(finding)
}

/// The p95 of each run: first pages and the pages after them in turn.
async fn times(
    setting: &Setting,
    asked: usize,
    connection: &mut Connection,
    filter: &str,
) -> anyhow::Result<Vec<f64>> {
    let mut p95s = Vec::new();
    for _ in 0..setting.runs() {
        let (mut latencies, mut cursor) = (Latencies::default(), None::<String>);
        for _ in 0..asked {
            let from = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
            let since = Instant::now();
            let page = connection.get(&format!("/api/v1/executions?limit=50&{filter}{from}")).await?;
            latencies.record(since.elapsed().as_micros() as u64);
            cursor = page["next"].as_str().map(str::to_owned);
        }
        p95s.push(latencies.quantile(0.95) / 1e3);
    }
    Ok(p95s)
}
