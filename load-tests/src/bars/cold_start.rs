//! How long `omium dev` takes until it is ready.

use std::path::Path;
use std::time::{Duration, Instant};

use super::{Bar, Setting};
use crate::finding::{Finding, Part};
use crate::work::callers;
use crate::work::http::{Address, Connection};
use crate::work::runs::{self, AsyncEach as _, Finish};
use crate::work::server::{Server, free_port, fresh, prepare};

pub(super) const BAR: Bar = Bar {
    name: "cold-start",
    what: "`omium dev` until ready, empty and with many finished executions; the first step after a kill -9",
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

    let n = if setting.quick { 10_000 } else { 100_000 };
    let mut first = Vec::new();
    let data = fresh(&setting.dir, "loaded")?;
    let server = Server::start(&data).await?;
    runs::finish(&server.address, n).await?;
    server.stop()?;
    for _ in 0..setting.runs() {
        setting.say("a kill -9 under load, and the first step after it");
        first.push(first_step(&data).await?);
    }
    let what =
        format!("s from the start to the first step, after a kill -9 under load, {n} executions retained");
    finding.parts.push(Part::at_most(&what, &first, 1.0));
    Ok(finding)
}

/// How many clients there are before the kill, and come back after it.
const CLIENTS: usize = 32;
/// How many executions one more client ends before it.
const BEFORE: usize = 200;

/// Kills a server under load, starts it again, and says how long it took until somebody's step was done.
async fn first_step(data: &Path) -> anyhow::Result<f64> {
    let port = free_port()?;
    let server = Server::start_at(data, port, None).await?;
    let address = server.address.clone();
    let before = tokio::spawn({
        let address = address.clone();
        async move { runs::spread(&address, usize::MAX, CLIENTS, Finish).await.map(drop) }
    });
    runs::spread(&address, BEFORE, 1, Finish).await?;
    server.kill()?;
    // They end with an error, since the server is gone.
    anyhow::ensure!(before.await?.is_err(), "the clients had nothing to do when the server was killed");
    let since = Instant::now();
    let mut again = tokio::task::JoinSet::new();
    (0..CLIENTS).for_each(|number| drop(again.spawn(insist(address.clone(), number))));
    let server = Server::start_at(data, port, None).await?;
    let done = again.join_next().await;
    let seconds = since.elapsed().as_secs_f64();
    done.transpose()?;
    again.shutdown().await;
    server.stop()?;
    Ok(seconds)
}

/// Tries until an execution of its own has begun and ended.
async fn insist(address: Address, number: usize) {
    loop {
        if let Ok(mut connection) = Connection::open(&address).await
            && Finish.call(&mut connection, number).await.is_ok()
        {
            return;
        }
        // A client that comes back does not come back without a pause.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
