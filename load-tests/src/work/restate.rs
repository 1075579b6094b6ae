//! A Restate server and an endpoint that performs its steps, each a process of its own.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::http::{Address, Connection};
use super::peers;
use super::process::Process;
use super::server::{free_port, fresh};
use super::steps::{self, Asking, Shape};
use crate::once::Figures;

/// Whoever is not ready by then has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Both processes, and where clients ask.
struct Restate {
    server: Process,
    endpoint: Process,
    ingress: Address,
}

/// Runs the shape on a server of its own with its defaults: every step is synced.
pub(crate) async fn run(dir: &Path, shape: Shape) -> anyhow::Result<Figures> {
    let asking = Asking {
        path: format!("/Steps/{}", handler(shape.steps)?),
        body: json!(1),
        right: |answer| answer.is_u64(),
    };
    let mut restate = Restate::start(&fresh(dir, "restate")?).await?;
    restate.first_answer(&asking).await?;
    let driven = steps::drive(&restate.ingress, shape, &asking).await;
    restate.server.runs()?;
    restate.server.stop()?;
    restate.endpoint.stop()?;
    Ok(driven?.0)
}

fn handler(steps: usize) -> anyhow::Result<&'static str> {
    match steps {
        3 => Ok("Three"),
        10 => Ok("Ten"),
        other => anyhow::bail!("the endpoint has no workflow of {other} steps"),
    }
}

impl Restate {
    async fn start(data: &Path) -> anyhow::Result<Restate> {
        let [server, endpoint] = peers::prepared("restate")?;
        let (ingress, admin, fabric, steps) = (free_port()?, free_port()?, free_port()?, free_port()?);
        let mut command = Command::new(endpoint);
        command.arg(format!("127.0.0.1:{steps}")).stdout(Stdio::null());
        let endpoint = Process::start(&mut command)?;
        std::fs::create_dir_all(data)?;
        let said = std::fs::File::create(data.with_extension("log"))?;
        let mut command = Command::new(server);
        command.arg("--no-logo").arg("--base-dir").arg(data).args(["--node-name", "load"]);
        command.args(["--listen-mode", "tcp", "--bind-ip", "127.0.0.1"]);
        command.args(["--bind-port", &fabric.to_string()]);
        command.env("RESTATE_INGRESS__BIND_PORT", ingress.to_string());
        command.env("RESTATE_ADMIN__BIND_PORT", admin.to_string());
        // Nothing of what is measured here leaves the machine.
        command.env("RESTATE_DISABLE_TELEMETRY", "true").env("DO_NOT_TRACK", "1");
        let server = Process::start(command.stdout(said.try_clone()?).stderr(said))?;
        let address = |port| Address { port, key: String::new() };
        let mut restate = Restate { server, endpoint, ingress: address(ingress) };
        restate.register(&address(admin), steps).await?;
        Ok(restate)
    }

    /// Tells the server where its steps are performed, as soon as it listens.
    async fn register(&mut self, admin: &Address, steps: u16) -> anyhow::Result<()> {
        let body = json!({ "uri": format!("http://127.0.0.1:{steps}") });
        self.insist(async || Connection::open(admin).await?.post("/deployments", &body).await.map(drop))
            .await
            .context("Restate did not take its endpoint")
    }

    /// The first one waits until every partition is led, which is not what is measured.
    async fn first_answer(&mut self, asking: &Asking) -> anyhow::Result<()> {
        let ingress = self.ingress.clone();
        self.insist(async || {
            let answer: Value = Connection::open(&ingress).await?.post(&asking.path, &asking.body).await?;
            ensure!((asking.right)(&answer), "{answer}");
            Ok(())
        })
        .await
        .context("Restate answered no request")
    }

    async fn insist(&mut self, mut each: impl AsyncFnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
        let since = Instant::now();
        loop {
            self.server.runs()?;
            self.endpoint.runs()?;
            match each().await {
                Ok(()) => return Ok(()),
                Err(error) if since.elapsed() > PATIENCE => return Err(error),
                // A server that is only just starting is asked again in a moment.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}
