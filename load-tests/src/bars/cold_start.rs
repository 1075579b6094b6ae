//! How long `omium dev` takes until it is ready.

use super::{Bar, Setting};
use crate::finding::{Finding, Part};
use crate::work::server::{Server, fresh, prepare};
use crate::work::{callers, runs};

pub(super) const BAR: Bar = Bar {
    name: "cold-start",
    what: "`omium dev` until /ready answers: on an empty directory, and with many finished executions",
    prepare,
    run,
};

fn run(setting: &Setting) -> anyhow::Result<Finding> {
    callers::runtime()?.block_on(measure(setting))
}

async fn measure(setting: &Setting) -> anyhow::Result<Finding> {
    let mut finding = Finding::default();
    let mut empty = Vec::new();
    for _ in 0..setting.runs() {
        let server = Server::start(&fresh(&setting.dir, "empty")?).await?;
        empty.push(server.took.as_secs_f64() * 1e3);
        server.stop()?;
    }
    finding.parts.push(Part::at_most("ms until ready on an empty directory", &empty, 300.0));

    let n = if setting.quick { 10_000 } else { 1_000_000 };
    setting.say(&format!("finishing {n} executions"));
    let data = fresh(&setting.dir, "full")?;
    let server = Server::start(&data).await?;
    runs::finish(&server.address, n).await?;
    server.stop()?;
    let (mut calm, mut killed) = (Vec::new(), Vec::new());
    for _ in 0..setting.runs() {
        setting.say("starting after a stop, and after a kill -9");
        let server = Server::start(&data).await?;
        calm.push(server.took.as_secs_f64());
        server.kill()?;
        let server = Server::start(&data).await?;
        killed.push(server.took.as_secs_f64());
        server.stop()?;
    }
    finding.parts.push(Part::at_most(&format!("s until ready with {n} finished executions"), &calm, 2.0));
    let what = format!("s until ready with {n} finished executions, after a kill -9");
    finding.parts.push(Part::at_most(&what, &killed, 2.0));
    Ok(finding)
}
