//! One record per execution that has ended: JSON, keyed by its id, so that a later one replaces an earlier one. Where the
//! execution is let go of, a record without a value follows, so that the topic lets go of it too.

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

/// Events after which there is a result, or none any more.
const ENDS: [TypeId; 4] = [
    ExecutionCompleted::TYPE_ID,
    ExecutionFailed::TYPE_ID,
    ExecutionCancelled::TYPE_ID,
    ExecutionCarried::TYPE_ID,
];
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
        let engine = self.engine.upgrade().context("the engine is gone")?;
        engine.results(frames, self.shown).await
    }
}

impl Engine {
    /// What is published of the executions that have ended in these frames.
    pub(crate) async fn results(&self, frames: &[Frame], shown: Shown) -> anyhow::Result<Vec<Outgoing>> {
        let ended: BTreeSet<StreamKey> = frames
            .iter()
            .filter(|frame| frame.head.stream.kind() == StreamKind::Execution)
            .filter(|frame| frame.records().skip(1).any(|record| ENDS.contains(&record.kind)))
            .map(|frame| StreamKey::new(frame.head.tenant, frame.head.stream))
            .collect();
        let mut records = Vec::new();
        for key in ended {
            records.extend(self.result(key, shown).await?);
        }
        Ok(records)
    }

    /// Nothing where it goes on again: then another end follows. The state is asked for, which is answered when all that
    /// it rests on is durable.
    async fn result(&self, key: StreamKey, shown: Shown) -> anyhow::Result<Option<Outgoing>> {
        let stream = match self.node().view(key).await {
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
        if run.let_go {
            let headers = vec![("tenant", key.tenant.to_string()), ("execution", key.stream.to_string())];
            return Ok(Some(Outgoing { key: key.stream.to_string(), headers, payload: None, time: ended }));
        }
        let view = self.shown(key, &stream.state.0, stream.seq).await;
        let view = view
            .map_err(|failure| anyhow::anyhow!("{} cannot be shown now: {}", key.stream, failure.detail))?;
        let headers = vec![
            ("tenant", key.tenant.to_string()),
            ("execution", view.id.clone()),
            ("workflow", view.workflow.clone()),
            ("status", view.status.clone()),
            ("seq", view.seq.to_string()),
        ];
        let payload = result(&view, &key, shown).to_string().into_bytes();
        Ok(Some(Outgoing { key: view.id, headers, payload: Some(payload), time: ended }))
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
