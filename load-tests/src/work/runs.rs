//! Many executions at once: begun, brought to a certain point, and timed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::http::{Address, Connection};
use crate::latency::Latencies;

/// Two steps that wait for a human: they take no worker, and a signal completes each.
pub(crate) const REVIEW: &str = "
name: review
inputs: {type: object, required: [run]}
agents:
  - {id: check, framework: human}
  - {id: sign, framework: human}
";

/// One step that waits for a human.
pub(crate) const NOTE: &str = "
name: note
inputs: {type: object, required: [run]}
agents:
  - {id: read, framework: human}
";

/// Calls `each` for 0, 1, 2 … n - 1 over so many connections, and says how long the calls took.
pub(crate) async fn spread<F>(
    address: &Address,
    n: usize,
    connections: usize,
    each: F,
) -> anyhow::Result<Latencies>
where
    F: AsyncEach + 'static,
{
    let (next, each) = (Arc::new(AtomicUsize::new(0)), Arc::new(each));
    let mut tasks = Vec::new();
    for _ in 0..connections.min(n) {
        let mut connection = Connection::open(address).await?;
        let (next, each) = (next.clone(), each.clone());
        tasks.push(tokio::spawn(async move {
            let mut latencies = Latencies::default();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= n {
                    return anyhow::Ok(latencies);
                }
                let since = Instant::now();
                each.call(&mut connection, number).await?;
                latencies.record(since.elapsed().as_micros() as u64);
            }
        }));
    }
    let mut latencies = Latencies::default();
    for task in tasks {
        latencies.add(&task.await??);
    }
    Ok(latencies)
}

/// What is done with each number.
pub(crate) trait AsyncEach: Send + Sync {
    fn call(
        &self,
        connection: &mut Connection,
        number: usize,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// Begins an execution of `note` and ends it.
pub(crate) struct Finish;

impl AsyncEach for Finish {
    async fn call(&self, connection: &mut Connection, number: usize) -> anyhow::Result<()> {
        let id = connection.start("note", number).await?;
        connection.signal(&id, "read").await
    }
}

/// Begins an execution, and keeps its id; brings it past its first steps, where there are any to pass.
pub(crate) struct Open {
    pub(crate) workflow: &'static str,
    pub(crate) signals: &'static [&'static str],
    pub(crate) ids: std::sync::Mutex<Vec<String>>,
}

impl Open {
    pub(crate) fn new(workflow: &'static str, signals: &'static [&'static str]) -> Open {
        Open { workflow, signals, ids: std::sync::Mutex::default() }
    }
}

impl AsyncEach for Arc<Open> {
    async fn call(&self, connection: &mut Connection, number: usize) -> anyhow::Result<()> {
        let id = connection.start(self.workflow, number).await?;
        for signal in self.signals {
            connection.signal(&id, signal).await?;
        }
        self.ids.lock().expect("nobody panics while holding ids").push(id);
        Ok(())
    }
}

/// Begins so many executions, and says their ids.
pub(crate) async fn open(
    address: &Address,
    n: usize,
    workflow: &'static str,
    signals: &'static [&'static str],
) -> anyhow::Result<Vec<String>> {
    let opened = Arc::new(Open::new(workflow, signals));
    spread(address, n, 128, opened.clone()).await?;
    Ok(std::mem::take(&mut *opened.ids.lock().expect("nobody panics while holding ids")))
}

/// Begins and ends so many executions.
pub(crate) async fn finish(address: &Address, n: usize) -> anyhow::Result<()> {
    Connection::open(address).await?.publish(NOTE).await?;
    spread(address, n, 128, Finish).await.map(drop)
}
