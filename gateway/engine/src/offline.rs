//! What an operator does to a log that no process has open, where opening it in the ordinary way does not end well.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use omium_log::LogError;
use omium_runtime::{
    Answer, Config, Dispatch, Ended, Node, NodeParts, OpenError, Request, StreamKey, World, open_prefix,
    stream_of,
};
use omium_schemas::catalogue::{AdoptLogic, CancelExecution, ReleaseStream};
use omium_schemas::{ExecutionId, Partition, StreamId};

use super::Suite;

/// Nothing is performed.
struct Nothing;

impl World for Nothing {
    fn dispatch(&self, _: Dispatch) {}

    fn ended(&self, partition: Partition, why: Ended) {
        tracing::error!(%partition, %why, "a partition has ended");
    }
}

/// Cancels an execution in a data folder that no process has open, whoever's it is. Nothing else is performed there.
pub async fn cancel(data: &Path, execution: &str) -> anyhow::Result<()> {
    let stream = execution.parse::<ExecutionId>().context("an execution's id begins with `ex_`")?.stream();
    let parts = parts(data)?;
    let waiting = waiting(&parts, stream)?;
    let node: Node<Suite> = Node::open(parts).await?;
    // What waits and was never saved is saved when the node stops.
    let (node, key) = match waiting {
        Some(key) => (node, key),
        None => {
            node.stop().await?;
            drop(node);
            let parts = self::parts(data)?;
            let found = self::waiting(&parts, stream)?;
            let key =
                found.with_context(|| format!("no execution {execution} goes on in {}", data.display()))?;
            (Node::open(parts).await?, key)
        }
    };
    let outcome = cancelled(&node, key).await;
    node.stop().await?;
    outcome
}

async fn cancelled(node: &Node<Suite>, key: StreamKey) -> anyhow::Result<()> {
    let mut answer = node.submit(Request::new(key, CancelExecution {})).await;
    if let Answer::Quarantined(_) = answer {
        node.submit(Request::new(key, ReleaseStream {})).await;
        answer = node.submit(Request::new(key, CancelExecution {})).await;
    }
    match answer {
        Answer::Done(_) => Ok(()),
        Answer::Refused(refusal) => bail!("{refusal}"),
        Answer::Full(why) => bail!("{why}"),
        other => bail!("it could not be cancelled: {other:?}; try again"),
    }
}

/// From now on everything in a data folder that no process has open is decided by this version of the logic.
pub async fn adopt(data: &Path, logic: i32) -> anyhow::Result<()> {
    let parts = parts(data)?;
    let partitions = parts.log.partitions();
    let node: Node<Suite> = Node::open(parts).await?;
    let mut outcome = Ok(());
    for partition in (0..partitions).map(Partition) {
        outcome = match node.submit(Request::new(StreamKey::book(partition), AdoptLogic { logic })).await {
            Answer::Done(_) => continue,
            Answer::Refused(refusal) => Err(anyhow::anyhow!("{refusal}")),
            other => Err(anyhow::anyhow!("partition {partition} has not adopted it: {other:?}; try again")),
        };
        break;
    }
    node.stop().await?;
    outcome
}

/// The number of partitions is the log's own.
fn parts(data: &Path) -> anyhow::Result<NodeParts> {
    if !data.join("log").is_dir() {
        bail!("{} holds no log of omium; give the data folder that holds `log`", data.display());
    }
    let mut config = Config::default();
    for _ in 0..2 {
        match NodeParts::in_directory(data, config.clone(), Arc::new(Nothing)) {
            Err(OpenError::Log(LogError::OtherPartitions { found, .. })) => config.partitions = found,
            opened => return opened.map_err(|error| super::in_use(data, error.into())),
        }
    }
    bail!("the number of partitions of {} is not known", data.join("log").display())
}

/// Whose execution of this id waits for something, as far as that was saved.
fn waiting(parts: &NodeParts, stream: StreamId) -> anyhow::Result<Option<StreamKey>> {
    for partition in (0..parts.log.partitions()).map(Partition) {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let rows = parts.store.scan(&open_prefix(partition), after.as_deref(), 1_000)?;
            let Some((last, _)) = rows.last() else { break };
            after = Some(last.clone());
            let found = rows.iter().filter_map(|(key, _)| stream_of(key)).find(|key| key.stream == stream);
            if found.is_some() {
                return Ok(found);
            }
        }
    }
    Ok(None)
}
