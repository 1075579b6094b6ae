//! Calls of native agents: what an agent that is performed inside the engine asks of the recorder.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use omium_agents::native::{
    BegunModel, BegunTool, Calls, ModelCall, ModelFailure, NotRecorded, ToolCall, ToolFailure,
};
use omium_api::port::{Failure, FailureKind, Sending};
use omium_execution::Outcome;
use omium_openai::{Endpoint, Request};
use omium_runtime::StreamKey;
use omium_schemas::Seq;
use omium_schemas::catalogue::{FailureClass, ToolErrorClass};
use serde_json::Value;

use super::{Asker, Begun, BegunTool as Tool, Known, ModelFailed, Owner, Patched, Recorder, ToolEnd};
use crate::draining::Underway;
use crate::reading::Told;
use crate::{Engine, answers};

/// The record of one sending of a native agent's step.
pub(crate) struct NativeRecord<'e> {
    engine: &'e Arc<Engine>,
    key: StreamKey,
    sending: Sending,
    told: Told,
    /// Calls that were begun and have not ended: they are not in flight any more when this is dropped.
    open: Mutex<Vec<(Seq, Underway)>>,
}

impl<'e> NativeRecord<'e> {
    pub(crate) fn new(engine: &'e Arc<Engine>, key: StreamKey, sending: Sending) -> NativeRecord<'e> {
        NativeRecord { engine, key, sending, told: Told::default(), open: Mutex::default() }
    }

    fn recorder(&self) -> Recorder<'e> {
        Recorder::new(self.engine, Owner::sending(self.key, self.sending))
    }

    fn open(&self) -> std::sync::MutexGuard<'_, Vec<(Seq, Underway)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node that stops begins no call any more.
    fn begins(&self) -> Result<Underway, NotRecorded> {
        let reason = "this node stops; the step goes on where it starts again";
        self.engine.native_calls.begin().ok_or_else(|| NotRecorded { reason: reason.to_owned(), fails: None })
    }

    fn close(&self, call: Seq) {
        self.open().retain(|(open, _)| *open != call);
    }
}

impl Drop for NativeRecord<'_> {
    fn drop(&mut self) {
        for (call, _) in self.open().drain(..) {
            self.engine.in_flight.untrack(self.key, call);
        }
    }
}

/// Where there is no money or no room left the step fails by it; all else is somebody else's by now, or comes again.
fn not_recorded(failure: Failure) -> NotRecorded {
    let fails = match failure.kind {
        FailureKind::Exhausted => Some(FailureClass::Budget),
        FailureKind::Invalid => Some(FailureClass::InvalidInput),
        // What is recorded cannot be read, now or later: to begin again would come to the same place for ever.
        FailureKind::Conflict if matches!(failure.code, "unreadable" | "erased") => {
            Some(FailureClass::InvalidInput)
        }
        _ => None,
    };
    NotRecorded { reason: format!("{}; {}", failure.detail, failure.hint), fails }
}

#[async_trait]
impl Calls for NativeRecord<'_> {
    async fn start_model(&self, call: ModelCall<'_>) -> Result<BegunModel, NotRecorded> {
        let body = call.request.to_string();
        let request = Request::read(Endpoint::Chat, body.as_bytes())
            .map_err(|bad| NotRecorded { reason: bad.0, fails: Some(FailureClass::InvalidInput) })?;
        let recorder = self.recorder();
        let digest = |bytes: &[u8]| recorder.digest(bytes).map_err(not_recorded);
        let asked = super::ModelCall {
            asker: Asker { agent: call.agent, caller: call.caller, position: None },
            request: &request,
            digest: digest(&omium_openai::canonical(Endpoint::Chat.path(), body.as_bytes()))?,
            alias: omium_openai::second_key(&request).map(|key| digest(&key)).transpose()?,
            repeats: false,
        };
        let state = match recorder.model(&asked).await.map_err(not_recorded)? {
            Known::Nothing(state) | Known::Unknown(_, state) => state,
            Known::Recorded(known) => {
                let Outcome::Answered(Some(answer)) = &known.outcome else {
                    return Err(not_recorded(answers::unknown()));
                };
                let answer = self.engine.content_bytes(self.key, answer).await.map_err(not_recorded)?;
                return Ok(BegunModel::Recorded(answer.to_vec()));
            }
        };
        let underway = self.begins()?;
        let begun = recorder.start_model(&state, &asked, Patched::default()).await.map_err(not_recorded)?;
        let Begun::New(call) = begun else { return Err(not_recorded(answers::unknown())) };
        self.open().push((call, underway));
        Ok(BegunModel::New(call))
    }

    fn reads_along(&self) -> bool {
        self.engine.readers.are_there(&self.key)
    }

    async fn delta(&self, call: Seq, text: &str) {
        self.told.tell(&self.engine.readers, &self.key, self.sending.step, call, text);
    }

    async fn complete_model(&self, call: Seq, answer: &[u8]) -> Result<(), NotRecorded> {
        let said = omium_openai::read(Endpoint::Chat, answer);
        let told = self.recorder().answer_model(call, said, answer, false).await;
        self.close(call);
        told.map(|_| ()).map_err(not_recorded)
    }

    async fn fail_model(&self, call: Seq, failure: &ModelFailure) -> Result<(), NotRecorded> {
        let ModelFailure { class, status, reason, retryable, .. } = failure.clone();
        let told = self.recorder().fail_model(call, ModelFailed { class, status, reason, retryable }).await;
        self.close(call);
        told.map_err(not_recorded)
    }

    async fn start_tool(&self, call: ToolCall<'_>) -> Result<BegunTool, NotRecorded> {
        let ToolCall { agent, caller, tool, effect, arguments } = call;
        let asker = Asker { agent, caller, position: None };
        let call = super::ToolCall { asker, tool, effect, arguments, repeats: false };
        let underway = self.begins()?;
        Ok(match self.recorder().start_tool(&call).await.map_err(not_recorded)? {
            Tool::New(call) => {
                self.open().push((call, underway));
                BegunTool::New(call)
            }
            Tool::Recorded { result, .. } => BegunTool::Recorded(result),
            Tool::Failed { reason, .. } => {
                BegunTool::Failed(ToolFailure { class: ToolErrorClass::Other, reason })
            }
            Tool::Unknown(call, _) => BegunTool::Unknown(call),
        })
    }

    async fn complete_tool(&self, call: Seq, result: &Value) -> Result<(), NotRecorded> {
        let told = self.recorder().end_tool(call, ToolEnd::Answered(result.clone())).await;
        self.close(call);
        told.map(|_| ()).map_err(not_recorded)
    }

    async fn fail_tool(&self, call: Seq, failure: &ToolFailure) -> Result<(), NotRecorded> {
        let ToolFailure { class, reason } = failure.clone();
        let told = self.recorder().end_tool(call, ToolEnd::Failed(class, reason)).await;
        self.close(call);
        told.map(|_| ()).map_err(not_recorded)
    }
}
