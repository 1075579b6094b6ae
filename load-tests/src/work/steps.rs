//! Workflows of steps that do nothing, as clients of either server see them: one request begins a workflow, and its
//! answer comes when the last step is in the log.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::ensure;
use serde_json::{Value, json};

use super::callers::{self, Caller};
use super::http::{Address, Connection};
use super::server::{Server, fresh};
use super::worker::Worker;
use crate::once::Figures;

/// What is run and by how many.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Steps of a workflow, one after the other.
    pub(crate) steps: usize,
    pub(crate) clients: usize,
    pub(crate) seconds: f64,
}

/// A run of Omium that is over.
pub(crate) struct Ran {
    pub(crate) figures: Figures,
    /// What it wrote.
    pub(crate) log: PathBuf,
    /// How many workflows that holds, those before and after the measured time too.
    pub(crate) workflows: usize,
}

/// One client, who asks again as soon as he is answered.
pub(crate) struct Client {
    connection: Connection,
    path: String,
    body: Value,
    right: fn(&Value) -> bool,
    asked: Arc<AtomicUsize>,
}

impl Caller for Client {
    async fn call(&mut self) -> anyhow::Result<()> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let answer = self.connection.post(&self.path, &self.body).await?;
        ensure!((self.right)(&answer), "this is no workflow that has been completed: {answer}");
        Ok(())
    }
}

/// How a workflow is begun, and what its answer must say.
pub(crate) struct Asking {
    pub(crate) path: String,
    pub(crate) body: Value,
    pub(crate) right: fn(&Value) -> bool,
}

/// Lets clients ask, and says how often they did beside the figures.
pub(crate) async fn drive(
    address: &Address,
    shape: Shape,
    asking: &Asking,
) -> anyhow::Result<(Figures, usize)> {
    let asked = Arc::new(AtomicUsize::new(0));
    let mut clients = Vec::new();
    for _ in 0..shape.clients {
        let connection = Connection::open(address).await?;
        let (path, body, asked) = (asking.path.clone(), asking.body.clone(), asked.clone());
        clients.push(Client { connection, path, body, right: asking.right, asked });
    }
    let figures = callers::drive(shape.seconds, clients).await?;
    Ok((figures, asked.load(Ordering::Relaxed)))
}

/// Runs the shape on an Omium of its own, its steps in a process of their own.
pub(crate) async fn omium(dir: &Path, shape: Shape) -> anyhow::Result<Ran> {
    let server = Server::start(&fresh(dir, "steps")?).await?;
    server.connect().await?.publish(&definition(shape.steps)).await?;
    let worker = Worker::start(&server.address).await?;
    let asking = Asking {
        path: "/api/v1/executions?wait_ms=60000".to_owned(),
        body: json!({ "workflow": "steps", "inputs": { "run": 1 } }),
        right: |answer| answer["ended"]["status"] == "completed",
    };
    let (figures, workflows) = drive(&server.address, shape, &asking).await?;
    worker.stop()?;
    let log = server.log();
    server.stop()?;
    Ok(Ran { figures, log, workflows })
}

/// The log of an Omium that has run nothing.
pub(crate) async fn idle(dir: &Path, shape: Shape) -> anyhow::Result<PathBuf> {
    let server = Server::start(&fresh(dir, "steps")?).await?;
    server.connect().await?.publish(&definition(shape.steps)).await?;
    let log = server.log();
    server.stop()?;
    Ok(log)
}

fn definition(steps: usize) -> String {
    // A step gets nothing and gives nothing: what is measured is the step.
    let step = |step| format!("  - {{id: s{step}, framework: program, input: 0}}\n");
    let steps: String = (0..steps).map(step).collect();
    format!("name: steps\ninputs: {{type: object, required: [run]}}\nagents:\n{steps}")
}
