//! How much memory very many open executions take.

use std::sync::Arc;

use super::{Bar, Setting};
use crate::finding::{Finding, Part};
use crate::work::callers;
use crate::work::http::Connection;
use crate::work::runs::{self, AsyncEach};
use crate::work::server::{Server, fresh, prepare};

pub(super) const BAR: Bar = Bar {
    name: "live-executions",
    what: "100,000 executions open at once, 10,000 of them active: under 2 GB of memory",
    prepare,
    run,
};

fn run(setting: &Setting) -> anyhow::Result<Finding> {
    callers::runtime()?.block_on(measure(setting))
}

async fn measure(setting: &Setting) -> anyhow::Result<Finding> {
    let n = if setting.quick { 10_000 } else { 100_000 };
    let server = Server::start(&fresh(&setting.dir, "live")?).await?;
    server.connect().await?.publish(runs::REVIEW).await?;
    setting.say(&format!("opening {n} executions"));
    let ids: Arc<[String]> = runs::open(&server.address, n, "review", &[]).await?.into();
    let opened = server.resident_mb();
    setting.say("a tenth of them goes on");
    let on = runs::spread(&server.address, n / 10, 128, GoOn(ids.clone())).await?;
    let active = server.resident_mb();
    let mut finding = Finding::default();
    let what = format!("MB of memory with {n} executions open, {} of them active", n / 10);
    finding.parts.push(Part::at_most(&what, &[active.max(opened)], 2_048.0));
    let running = open(&mut server.connect().await?).await?;
    finding.parts.push(Part::at_least("executions that are open", &[running as f64], n as f64));
    let per = (active - idle(setting).await?) * 1024.0 / n as f64;
    finding.notes.push(format!(
        "{opened:.0} MB once they were open; {per:.1} KB each; a step of an active one p99 {:.1} ms",
        on.quantile(0.99) / 1e3
    ));
    server.stop()?;
    Ok(finding)
}

/// What a process takes that has nothing to do.
async fn idle(setting: &Setting) -> anyhow::Result<f64> {
    let server = Server::start(&fresh(&setting.dir, "idle")?).await?;
    let idle = server.resident_mb();
    server.stop()?;
    Ok(idle)
}

/// How many the server says are open.
async fn open(connection: &mut Connection) -> anyhow::Result<usize> {
    let (mut count, mut cursor) = (0, String::new());
    loop {
        let page = connection.get(&format!("/api/v1/executions?limit=1000&status=running{cursor}")).await?;
        count += page["items"].as_array().map_or(0, Vec::len);
        let Some(next) = page["next"].as_str() else { return Ok(count) };
        cursor = format!("&cursor={next}");
    }
}

/// Brings an execution past its first step.
struct GoOn(Arc<[String]>);

impl AsyncEach for GoOn {
    async fn call(&self, connection: &mut Connection, number: usize) -> anyhow::Result<()> {
        connection.signal(&self.0[number], "check").await
    }
}
