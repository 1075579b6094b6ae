//! What is to be done, and what came of it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use omium_schemas::Seq;
use omium_schemas::catalogue::{FailureClass, Usage};
use serde_json::Value;

use super::grants::Grants;

/// One step of a native agent.
#[derive(Clone, Debug)]
pub struct NativeTask {
    /// The agent's name.
    pub agent: String,
    /// The agent's name with its loop index, `writer#0`.
    pub caller: String,
    /// The agent's `definition`: model, prompt, system, tools, max_turns, parameters.
    pub definition: Value,
    /// The workflow's tools, by name.
    pub tools: BTreeMap<String, Value>,
    /// What placeholders of prompt and system are filled from: `inputs`, `outputs`, `input`.
    pub scope: Value,
    /// The step's input; the user message where there is no prompt.
    pub input: Value,
    /// What the output has to be.
    pub output_schema: Option<Value>,
    /// Who answers for models.
    pub upstream: Upstream,
    /// The same for all attempts of the step on its branch, and for no other step: keys of effects are made of it.
    pub effect_key: String,
    /// How long all of it may take.
    pub deadline: Duration,
    /// What the operator grants to its tools.
    pub grants: Grants,
}

/// Who answers for models.
#[derive(Clone, Default)]
pub struct Upstream {
    /// With `/v1`, without `/chat/completions`.
    pub base_url: String,
    /// The bearer key.
    pub key: Option<String>,
    /// Further headers.
    pub headers: Vec<(String, String)>,
}

// Keys and headers reach no log.
impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It is done.
    Completed {
        /// What it results in.
        output: Value,
        /// Tokens of the calls that were made now; what was served again costs nothing.
        usage: Usage,
    },
    /// It is not.
    Failed(Failure),
    /// A tool that changes something was called and nobody knows whether it did: somebody has to find out and complete
    /// or fail this call.
    Unknown {
        /// The call without an outcome.
        call: Seq,
        /// The tool.
        tool: String,
        /// What is known.
        reason: String,
    },
    /// The record took no more; whoever owns the step now goes on.
    NotRecorded(String),
}

/// Why a step failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    /// How.
    pub class: FailureClass,
    /// What happened and what to do about it.
    pub reason: String,
    /// Whether another attempt may help.
    pub retryable: bool,
    /// Not before then, where somebody said so.
    pub retry_after: Option<Duration>,
    /// Recorded answers are to blame: served again they would fail again.
    pub blames_answers: bool,
}

impl Failure {
    pub(crate) fn new(class: FailureClass, reason: impl Into<String>) -> Failure {
        Failure { class, reason: reason.into(), retryable: false, retry_after: None, blames_answers: false }
    }
}
