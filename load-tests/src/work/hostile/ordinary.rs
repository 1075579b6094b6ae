//! Ordinary runs at a steady rate: what everybody else notices.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::json;
use tokio::task::JoinHandle;

use super::super::http::{Address, Connection, Request};
use crate::latency::Latencies;

/// One step of a native agent.
const WORKFLOW: &str = "
name: ordinary
inputs: {type: object, required: [run]}
agents: [{id: only, framework: native, model: good, prompt: 'run {{ inputs.run }} .'}]
";

/// What came of the runs since it was last asked.
#[derive(Default)]
pub(crate) struct Came {
    pub(crate) latencies: Latencies,
    /// Those that did not complete.
    pub(crate) failed: u64,
}

/// They go on until this is dropped or stopped.
pub(crate) struct Ordinary {
    came: Arc<Mutex<Came>>,
    over: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Ordinary {
    pub(crate) async fn begin(address: &Address, per_second: f64) -> anyhow::Result<Ordinary> {
        Connection::open(address).await?.publish(WORKFLOW).await?;
        let (came, over) = (Arc::new(Mutex::new(Came::default())), Arc::new(AtomicBool::new(false)));
        let task = tokio::spawn(go_on(address.clone(), per_second, came.clone(), over.clone()));
        Ok(Ordinary { came, over, task })
    }

    pub(crate) fn take(&self) -> Came {
        std::mem::take(&mut self.came.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) async fn stop(self) -> anyhow::Result<Came> {
        self.over.store(true, Ordering::Relaxed);
        self.task.await?;
        let mut came = self.came.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut *came))
    }
}

/// Each run has its moment, however slow those before it are.
async fn go_on(address: Address, per_second: f64, came: Arc<Mutex<Came>>, over: Arc<AtomicBool>) {
    let (since, mut number) = (Instant::now(), 0_u32);
    let mut open = tokio::task::JoinSet::new();
    while !over.load(Ordering::Relaxed) {
        tokio::time::sleep_until((since + Duration::from_secs_f64(f64::from(number) / per_second)).into())
            .await;
        number += 1;
        let (address, came) = (address.clone(), came.clone());
        open.spawn(async move {
            let begun = Instant::now();
            let done = tokio::time::timeout(Duration::from_secs(20), once(&address, number)).await;
            let mut came = came.lock().unwrap_or_else(PoisonError::into_inner);
            came.latencies.record(begun.elapsed().as_micros() as u64);
            came.failed += u64::from(!matches!(done, Ok(Ok(()))));
        });
        while open.try_join_next().is_some() {}
    }
    open.join_all().await;
}

async fn once(address: &Address, number: u32) -> anyhow::Result<()> {
    let body = json!({ "workflow": "ordinary", "inputs": { "run": number } });
    let mut connection = Connection::open(address).await?;
    let answer = connection.ask(&Request::post("/api/v1/executions?wait_ms=15000", &body)).await?.json()?;
    ensure!(answer["ended"]["status"] == "completed", "a run has not completed: {answer}");
    Ok(())
}
