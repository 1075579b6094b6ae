//! How long it takes to take a checkpoint and to roll back, while many executions are open.

use std::sync::Arc;

use serde_json::json;

use super::{Bar, Setting};
use crate::finding::{Finding, Part};
use crate::work::callers;
use crate::work::http::Connection;
use crate::work::runs::{self, AsyncEach};
use crate::work::server::{Server, fresh, prepare};

pub(super) const BAR: Bar = Bar {
    name: "checkpoint-latency",
    what: "taking a checkpoint and rolling back, with 10,000 executions open: p95",
    prepare,
    run,
};

/// How many ask at the same time.
const CALLERS: usize = 8;

fn run(setting: &Setting) -> anyhow::Result<Finding> {
    callers::runtime()?.block_on(measure(setting))
}

async fn measure(setting: &Setting) -> anyhow::Result<Finding> {
    let n = if setting.quick { 1_000 } else { 10_000 };
    let server = Server::start(&fresh(&setting.dir, "checkpoints")?).await?;
    server.connect().await?.publish(runs::REVIEW).await?;
    setting.say(&format!("opening {n} executions"));
    let ids: Arc<[String]> = runs::open(&server.address, n, "review", &["check"]).await?.into();
    let (mut taken, mut back) = (Vec::new(), Vec::new());
    for round in 0..setting.runs() {
        setting.say("a checkpoint of each, then each back to it");
        let take = Take { ids: ids.clone(), round };
        taken.push(runs::spread(&server.address, n, CALLERS, take).await?.quantile(0.95) / 1e3);
        let roll = RollBack { ids: ids.clone(), round };
        back.push(runs::spread(&server.address, n, CALLERS, roll).await?.quantile(0.95) / 1e3);
    }
    server.stop()?;
    let mut finding = Finding::default();
    let what = |what: &str| format!("p95 in ms of {what}, {n} executions open");
    finding.parts.push(Part::at_most(&what("a checkpoint"), &taken, 10.0));
    finding.parts.push(Part::at_most(&what("a rollback"), &back, 20.0));
    Ok(finding)
}

struct Take {
    ids: Arc<[String]>,
    round: usize,
}

impl AsyncEach for Take {
    async fn call(&self, connection: &mut Connection, number: usize) -> anyhow::Result<()> {
        let path = format!("/api/v1/executions/{}/checkpoints", self.ids[number]);
        connection.post(&path, &json!({ "name": format!("round-{}", self.round) })).await.map(drop)
    }
}

struct RollBack {
    ids: Arc<[String]>,
    round: usize,
}

impl AsyncEach for RollBack {
    async fn call(&self, connection: &mut Connection, number: usize) -> anyhow::Result<()> {
        let path = format!("/api/v1/executions/{}/rollback", self.ids[number]);
        let to = format!("round-{}", self.round);
        connection.post(&path, &json!({ "to": to, "cancel_running": true })).await.map(drop)
    }
}
