//! One record per execution that has ended: JSON, keyed by its id, so that a later one replaces an earlier one.

use std::collections::BTreeSet;
use std::sync::Weak;

use anyhow::{Context as _, bail};
use async_trait::async_trait;
use clap::ValueEnum;
use omium_api::views::ExecutionView;
use omium_log::{KafkaTopic, Outgoing};
use omium_runtime::{Answer, StreamKey};
use omium_schemas::catalogue::{ExecutionCancelled, ExecutionCarried, ExecutionCompleted, ExecutionFailed};
use omium_schemas::{Frame, StreamKind, TypeId};
use serde_json::{Value, json};

use super::Publication;
use crate::Engine;

/// How the topic is made: the newest result of each execution stays.
pub(super) const SETTINGS: [(&str, &str); 2] =
    [("cleanup.policy", "compact"), ("max.message.bytes", "2097152")];

/// Events after which there is a result.
const ENDS: [TypeId; 3] =
    [ExecutionCompleted::TYPE_ID, ExecutionFailed::TYPE_ID, ExecutionCancelled::TYPE_ID];
/// The longest output that travels with its result.
const LONGEST: usize = 512 << 10;

/// How much of a result is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shown {
    /// All of it; outputs are readable for all who may read the topic.
    Whole,
    /// All but the output.
    Status,
    /// Results are not published.
    Off,
}

pub(super) struct Results {
    pub(super) topic: KafkaTopic,
    pub(super) engine: Weak<Engine>,
    pub(super) shown: Shown,
}

#[async_trait]
impl Publication for Results {
    fn topic(&self) -> &KafkaTopic {
        &self.topic
    }

    async fn records(&self, frames: &[Frame]) -> anyhow::Result<Vec<Outgoing>> {
        let ended: BTreeSet<StreamKey> = frames
            .iter()
            .filter(|frame| frame.head.stream.kind() == StreamKind::Execution)
            .filter(|frame| frame.records().skip(1).any(|record| ENDS.contains(&record.kind)))
            .filter(|frame| !frame.records().any(|record| record.kind == ExecutionCarried::TYPE_ID))
            .map(|frame| StreamKey::new(frame.head.tenant, frame.head.stream))
            .collect();
        let mut records = Vec::new();
        for key in ended {
            records.extend(self.record(key).await?);
        }
        Ok(records)
    }
}

impl Results {
    /// Nothing where it goes on again: then another end follows. The state is asked for, which is answered when all that
    /// it rests on is durable.
    async fn record(&self, key: StreamKey) -> anyhow::Result<Option<Outgoing>> {
        let engine = self.engine.upgrade().context("the engine is gone")?;
        let stream = match engine.node().view(key).await {
            Ok(Some(stream)) => stream,
            Ok(None) => return Ok(None),
            Err(Answer::Quarantined(_) | Answer::Frozen) => {
                tracing::error!(stream = %key.stream, "a result cannot be published: this node cannot fold the stream");
                return Ok(None);
            }
            Err(answer) => bail!("the state of {} cannot be read now: {answer:?}", key.stream),
        };
        let Some(run) = stream.state.0.run() else { return Ok(None) };
        let Some(ended) = run.ended else { return Ok(None) };
        let view = engine.shown(key, &stream.state.0, stream.seq).await;
        let view = view
            .map_err(|failure| anyhow::anyhow!("{} cannot be shown now: {}", key.stream, failure.detail))?;
        let headers = vec![
            ("tenant", key.tenant.to_string()),
            ("execution", view.id.clone()),
            ("workflow", view.workflow.clone()),
            ("status", view.status.clone()),
            ("seq", view.seq.to_string()),
        ];
        let payload = result(&view, &key, self.shown).to_string().into_bytes();
        Ok(Some(Outgoing { key: view.id, headers, payload, time: ended }))
    }
}

fn result(view: &ExecutionView, key: &StreamKey, shown: Shown) -> Value {
    let mut result = json!({
        "execution": view.id,
        "tenant": key.tenant.to_string(),
        "workflow": view.workflow,
        "version": view.version,
        "status": view.status,
        "failure": view.failure,
        "branch": view.branch,
        "seq": view.seq,
        "started_at": view.started_at,
        "ended_at": view.ended_at,
        "cost_usd": view.cost_usd,
        "unpriced_calls": view.unpriced_calls,
    });
    if shown == Shown::Whole {
        // A consumer must not take what was left out for an output of nothing.
        match view.output.to_string().len() {
            0..=LONGEST => result["output"] = view.output.clone(),
            length => result["output_left_out_bytes"] = length.into(),
        }
    }
    result
}
