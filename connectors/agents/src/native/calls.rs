//! The record of a step's calls. Each is recorded before it is made and again when it is answered, so that an attempt
//! that begins again knows what was asked.

use std::time::Duration;

use async_trait::async_trait;
use omium_schemas::Seq;
use omium_schemas::catalogue::{EffectClass, FailureClass, ModelErrorClass, ToolErrorClass};
use serde_json::Value;

/// Where calls are recorded. It is asked in the order in which calls are made, one at a time.
#[async_trait]
pub trait Calls: Send + Sync {
    /// A model is about to be asked. Where an earlier attempt of the step has the same request answered, that answer.
    async fn start_model(&self, call: ModelCall<'_>) -> Result<BegunModel, NotRecorded>;

    /// Whether somebody wants to read along while models answer. If so they are asked to stream.
    fn reads_along(&self) -> bool {
        false
    }

    /// A part of an answer that is on its way: for eyes alone, nothing is decided by it and nothing records it.
    async fn delta(&self, _call: Seq, _text: &str) {}

    /// It answered. The answer is used once this returns, never before.
    async fn complete_model(&self, call: Seq, answer: &[u8]) -> Result<(), NotRecorded>;

    /// It failed.
    async fn fail_model(&self, call: Seq, failure: &ModelFailure) -> Result<(), NotRecorded>;

    /// A tool is about to be called. Where an earlier attempt has done so, what came of it.
    async fn start_tool(&self, call: ToolCall<'_>) -> Result<BegunTool, NotRecorded>;

    /// It answered.
    async fn complete_tool(&self, call: Seq, result: &Value) -> Result<(), NotRecorded>;

    /// It failed, and is known not to have done what it was asked for, or to be harmless.
    async fn fail_tool(&self, call: Seq, failure: &ToolFailure) -> Result<(), NotRecorded>;
}

/// The record did not take it, so the call may not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record refused: {reason}")]
pub struct NotRecorded {
    /// Why.
    pub reason: String,
    /// How the step fails by that. Nothing where the step belongs to somebody else by now, or the log is gone.
    pub fails: Option<FailureClass>,
}

/// A request to a model.
#[derive(Clone, Copy, Debug)]
pub struct ModelCall<'a> {
    /// Who asks, without loop index.
    pub agent: &'a str,
    /// Who asks, with loop index.
    pub caller: &'a str,
    /// The request.
    pub request: &'a Value,
}

/// What became of a model call that was to be started.
#[derive(Clone, Debug, PartialEq)]
pub enum BegunModel {
    /// It is recorded as started; this names it.
    New(Seq),
    /// It was answered before, with these bytes.
    Recorded(Vec<u8>),
}

/// How a model failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ModelFailure {
    /// How.
    pub class: ModelErrorClass,
    /// The HTTP status, or 0.
    pub status: u16,
    /// What was said.
    pub reason: String,
    /// Whether asking again may help.
    pub retryable: bool,
    /// When the provider wants to be asked again.
    pub retry_after: Option<Duration>,
}

/// A call of a tool.
#[derive(Clone, Copy, Debug)]
pub struct ToolCall<'a> {
    /// Who calls, without loop index.
    pub agent: &'a str,
    /// Who calls, with loop index.
    pub caller: &'a str,
    /// The tool.
    pub tool: &'a str,
    /// What calling it again would do.
    pub effect: EffectClass,
    /// The arguments.
    pub arguments: &'a Value,
}

/// What became of a tool call that was to be started.
#[derive(Clone, Debug, PartialEq)]
pub enum BegunTool {
    /// It is recorded as started; this names it.
    New(Seq),
    /// It was answered before.
    Recorded(Value),
    /// It failed before, and the model was told so.
    Failed(ToolFailure),
    /// It was begun before, it changes something, and nobody knows whether it did.
    Unknown(Seq),
}

/// How a tool failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ToolFailure {
    /// How.
    pub class: ToolErrorClass,
    /// What was said; secrets are taken out.
    pub reason: String,
}
