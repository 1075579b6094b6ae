//! Tool calls of workers: what a worker's session asks of the recorder.

use std::sync::Arc;

use omium_api::port::{Failure, FailureKind, Sending, ToolBegun, ToolCall, ToolEnd};
use omium_api::views::Done;
use omium_runtime::StreamKey;
use omium_schemas::Seq;
use omium_schemas::catalogue::ToolErrorClass;

use super::{Asker, BegunTool, Owner, Recorder, run_of};
use crate::{Engine, answers};

impl Engine {
    /// Records that a tool is about to be called: the seq of the answer names the call. What an earlier sending of the step
    /// has called is not called again, and where its outcome is unknown a person is asked.
    pub(crate) async fn start_tool(
        self: &Arc<Self>,
        worker: &str,
        (key, sending): (StreamKey, Sending),
        call: ToolCall,
    ) -> Result<ToolBegun, Failure> {
        let ToolCall { tool, effect, arguments } = call;
        let recorder = Recorder::new(self, Owner::sending(key, sending));
        let state = recorder.seen().await?;
        let agent = run_of(&state)?.step(sending.step).ok_or_else(answers::no_open_call)?.0.agent.clone();
        let asker = Asker { agent: &agent, caller: &agent, position: None };
        let call = super::ToolCall { asker, tool: &tool, effect, arguments: &arguments, repeats: false };
        let begun = |at: Seq, repeated, recorded| {
            let done = Done { seq: at.0, last: at.0, repeated };
            Ok(ToolBegun { done, recorded })
        };
        match recorder.start_tool(&call).await? {
            BegunTool::New(at) => begun(at, false, None),
            BegunTool::Recorded { at, result } => begun(at, true, Some(Ok(result))),
            BegunTool::Failed { at, reason } => begun(at, true, Some(Err(reason))),
            BegunTool::Unknown(at, _) => Err(self.asked_instead(worker, (key, sending), at, &tool).await),
        }
    }

    /// The attempt ends with a question; its worker is told to drop the step.
    async fn asked_instead(
        self: &Arc<Self>,
        worker: &str,
        (key, sending): (StreamKey, Sending),
        call: Seq,
        tool: &str,
    ) -> Failure {
        let text = format!(
            "`{tool}` was called by an earlier attempt that ended before its answer came, and it changes something"
        );
        self.ask_about(key, sending, worker, call, &text).await;
        self.board.withdraw(key, sending);
        let hint = "drop the step; it is sent again when a person has said what is known";
        Failure::new(FailureKind::Conflict, "asked", format!("{text} (seq {call})"), hint)
    }

    /// Records what became of a tool call of this very sending's step.
    pub(crate) async fn end_tool(
        self: &Arc<Self>,
        key: StreamKey,
        sending: Sending,
        call: Seq,
        end: ToolEnd,
    ) -> Result<Done, Failure> {
        let end = match end {
            ToolEnd::Answered { result } => super::ToolEnd::Answered(result),
            ToolEnd::Failed { reason } => super::ToolEnd::Failed(ToolErrorClass::Other, reason),
        };
        let done = Recorder::new(self, Owner::sending(key, sending)).end_tool(call, end).await?;
        Ok(answers::shown(&done))
    }
}
