//! What the process, its program and its log take.

use std::time::Duration;

use super::disk_overhead::bytes;
use super::{Bar, Setting};
use crate::finding::{Finding, Part};
use crate::work::callers;
use crate::work::http::Connection;
use crate::work::runs::{self, AsyncEach};
use crate::work::server::{Server, binary, fresh, prepare};

pub(super) const BAR: Bar = Bar {
    name: "footprint",
    what: "memory idle and after 100,000 finished executions, the program's size, bytes of log per step",
    prepare,
    run,
};

/// Restate's memory after 100,000 finished workflows, in MB, of which a third is allowed.
const RESTATE_AFTER: f64 = 827.0;
/// Steps of one execution, so that its beginning weighs little.
const STEPS: usize = 10;

fn run(setting: &Setting) -> anyhow::Result<Finding> {
    callers::runtime()?.block_on(measure(setting))
}

async fn measure(setting: &Setting) -> anyhow::Result<Finding> {
    let mut finding = Finding::default();
    let n = if setting.quick { 10_000 } else { 100_000 };
    let (mut idle, mut after) = (Vec::new(), Vec::new());
    for _ in 0..if setting.quick { 1 } else { 5 } {
        let server = Server::start(&fresh(&setting.dir, "weighed")?).await?;
        // Threads that have just begun are still taking memory.
        tokio::time::sleep(Duration::from_secs(1)).await;
        idle.push(server.resident_mb());
        setting.say(&format!("finishing {n} executions"));
        runs::finish(&server.address, n).await?;
        after.push(server.resident_mb());
        server.stop()?;
    }
    finding.parts.push(Part::at_most("MB of memory, idle", &idle, 80.0));
    let what = format!("MB of memory after {n} finished executions, against a third of 827");
    finding.parts.push(Part::at_most(&what, &after, RESTATE_AFTER / 3.0));
    let size = std::fs::metadata(binary()?)?.len() as f64 / 1e6;
    finding.parts.push(Part::at_most("MB of the program", &[size], 100.0));
    for (clients, most) in [(1, 300.0), (100, 220.0)] {
        setting.say(&format!("steps by {clients} clients"));
        let used = per_step(setting, clients).await?;
        let what = format!("bytes of log per step that a signal completes, {clients} clients");
        finding.parts.push(Part::at_most(&what, &[used], most));
    }
    Ok(finding)
}

/// Whole executions are counted, so that their beginning and end are spread over their steps; what an empty log has in
/// it does not count.
async fn per_step(setting: &Setting, clients: usize) -> anyhow::Result<f64> {
    let executions = if setting.quick { 200 } else { 2_000 };
    let empty = log_after(setting, 0, clients).await?;
    let used = log_after(setting, executions, clients).await? - empty;
    Ok(used as f64 / (executions * STEPS) as f64)
}

/// How long the log of a server is in the end that was asked for so many executions.
async fn log_after(setting: &Setting, executions: usize, clients: usize) -> anyhow::Result<u64> {
    let server = Server::start(&fresh(&setting.dir, "log-bytes")?).await?;
    server.connect().await?.publish(&ten()).await?;
    runs::spread(&server.address, executions, clients, Through).await?;
    let log = server.log();
    // Only a stopped one lets others read its log.
    server.stop()?;
    bytes(&log)
}

/// Its steps come one after the other.
fn ten() -> String {
    let steps: String = (0..STEPS).map(|step| format!("  - {{id: s{step}, framework: human}}\n")).collect();
    format!("name: ten\ninputs: {{type: object, required: [run]}}\nagents:\n{steps}")
}

/// Begins an execution and brings it to its end.
struct Through;

impl AsyncEach for Through {
    async fn call(&self, connection: &mut Connection, number: usize) -> anyhow::Result<()> {
        let id = connection.start("ten", number).await?;
        for step in 0..STEPS {
            connection.signal(&id, &format!("s{step}")).await?;
        }
        Ok(())
    }
}
