//! What earlier attempts of a step have asked, for a record in memory. The product has its own, in the execution processor.

use omium_schemas::catalogue::EffectClass;
use omium_schemas::{Digest, Seq};
use serde_json::Value;

use omium_agents::native::{BegunTool, ToolCall, ToolFailure};

/// One call of an earlier attempt.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EarlierCall {
    /// Its seq.
    pub(crate) at: Seq,
    /// The tool that was called; nothing where it was a model.
    pub(crate) tool: Option<String>,
    /// Who called.
    pub(crate) caller: String,
    /// The digest of the canonical request.
    pub(crate) request: Digest,
    /// What came of it.
    pub(crate) outcome: EarlierOutcome,
}

/// What came of an earlier call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum EarlierOutcome {
    /// Nobody knows.
    Open,
    /// The model's bytes, or the tool's result as JSON.
    Answered(Vec<u8>),
    /// It failed; a model's failure is asked again whatever it says.
    Failed(ToolFailure),
}

/// The calls of earlier attempts, each of which is served once, in the order in which they were begun.
#[derive(Clone, Debug, Default)]
pub(crate) struct Earlier {
    calls: Vec<EarlierCall>,
}

impl Earlier {
    /// All of them, in the order in which they were begun, without those that a remedy condemned.
    pub(crate) fn new(calls: Vec<EarlierCall>) -> Earlier {
        Earlier { calls }
    }

    /// The answer to an equal request. One that was never answered, or failed, is asked again.
    pub(crate) fn model(&mut self, caller: &str, request: Digest) -> Option<Vec<u8>> {
        let at = self.calls.iter().position(|call| {
            call.tool.is_none()
                && call.caller == caller
                && call.request == request
                && matches!(call.outcome, EarlierOutcome::Answered(_))
        })?;
        match self.calls.remove(at).outcome {
            EarlierOutcome::Answered(answer) => Some(answer),
            _ => None,
        }
    }

    /// What came of an equal call. A write without an outcome stays unknown until somebody says what came of it.
    pub(crate) fn tool(&mut self, call: &ToolCall<'_>, request: Digest) -> Option<BegunTool> {
        let changes = matches!(call.effect, EffectClass::Write | EffectClass::Irreversible);
        let at = self.calls.iter().position(|known| {
            known.tool.as_deref() == Some(call.tool)
                && known.caller == call.caller
                && known.request == request
                && (changes || known.outcome != EarlierOutcome::Open)
        })?;
        if self.calls[at].outcome == EarlierOutcome::Open {
            return Some(BegunTool::Unknown(self.calls[at].at));
        }
        let known = self.calls.remove(at);
        Some(match known.outcome {
            EarlierOutcome::Open => BegunTool::Unknown(known.at),
            EarlierOutcome::Answered(result) => match serde_json::from_slice::<Value>(&result) {
                Ok(result) => BegunTool::Recorded(result),
                Err(_) => BegunTool::Unknown(known.at),
            },
            EarlierOutcome::Failed(failure) => BegunTool::Failed(failure),
        })
    }
}
