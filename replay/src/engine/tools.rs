//! Tool calls of workers: each stands in the log before it is made, and its end after.

use omium_agents::native::canonical;
use omium_api::port::{Failure, FailureKind, Sending, ToolCall, ToolEnd};
use omium_api::views::Done;
use omium_execution::{CallKind, Outcome, Run};
use omium_runtime::{Request, StreamKey};
use omium_schemas::catalogue::{Command, CompleteToolCall, FailToolCall, StartToolCall, ToolErrorClass};
use omium_schemas::{Content, Seq};
use serde_json::json;

use super::{Engine, answers};

impl Engine {
    /// Records that a tool is about to be called. The seq of the answer names the call.
    pub(super) async fn start_tool(
        &self,
        key: StreamKey,
        sending: Sending,
        call: ToolCall,
    ) -> Result<Done, Failure> {
        let Sending { step, branch, .. } = sending;
        let agent = self.seen(key, |run| run.step(step).map(|(plan, _)| plan.agent.clone())).await?;
        let ToolCall { tool, effect, arguments } = call;
        let request = self
            .vault
            .sealing(&key)
            .ok_or_else(erased)?
            .digest(&canonical(&json!({ "tool": tool, "arguments": arguments })));
        let arguments = Some(Content::open(arguments.to_string()));
        let caller = agent.ok_or_else(not_open)?;
        let start = StartToolCall { step, branch, caller, tool, effect, request, arguments, delivery: 0 };
        let done = answers::done(self.node().submit(Request::new(key, start)).await)?;
        // The command takes the frame's first seq; the event that names the call follows it.
        Ok(Done { seq: done.seq + 1, ..done })
    }

    /// Records what became of a tool call of this very sending's step.
    pub(super) async fn end_tool(
        &self,
        key: StreamKey,
        sending: Sending,
        call: Seq,
        end: ToolEnd,
    ) -> Result<Done, Failure> {
        let open = |run: &Run| {
            run.calls.iter().any(|known| {
                (known.at, known.step, known.branch) == (call, sending.step, sending.branch)
                    && matches!(known.kind, CallKind::Tool { .. })
                    && matches!(known.outcome, Outcome::Open)
            })
        };
        if !self.seen(key, open).await? {
            return Err(not_open());
        }
        answers::done(self.node().submit(Request::new(key, ended(call, end))).await)
    }

    async fn seen<T>(&self, key: StreamKey, look: impl FnOnce(&Run) -> T) -> Result<T, Failure> {
        let stream = self.node().view(key).await.ok().flatten().ok_or_else(answers::unknown)?;
        stream.state.0.run().map(look).ok_or_else(not_open)
    }
}

fn ended(call: Seq, end: ToolEnd) -> Command {
    match end {
        ToolEnd::Answered { result } => {
            CompleteToolCall { call, result: Some(Content::open(result.to_string())) }.into()
        }
        ToolEnd::Failed { reason } => {
            let reason = Some(Content::open(json!(reason).to_string()));
            FailToolCall { call, class: ToolErrorClass::Other, reason }.into()
        }
    }
}

pub(super) fn not_open() -> Failure {
    let detail = "the step has no such open call";
    let hint = "`call` is the seq that `call_tool` was accepted with; a call ends once";
    Failure::new(FailureKind::Conflict, "no-open-call", detail, hint)
}

pub(super) fn erased() -> Failure {
    let detail = "the execution's key was destroyed: nothing of it is recorded any more";
    Failure::new(FailureKind::Conflict, "erased", detail, "start another execution")
}
