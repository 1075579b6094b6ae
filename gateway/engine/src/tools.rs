//! Tool calls of workers: each stands in the log before it is made, and its end after.

use omium_agents::native::canonical;
use omium_api::port::{Failure, FailureKind, Sending, ToolBegun, ToolCall, ToolEnd};
use omium_api::views::Done;
use omium_execution::{Call, CallKind, Outcome, Run};
use omium_runtime::{Request, StreamKey};
use omium_schemas::catalogue::{Command, CompleteToolCall, FailToolCall, StartToolCall, ToolErrorClass};
use omium_schemas::{Content, Seq};
use serde_json::{Value, json};

use super::{Engine, answers};

/// What a call that is about to be made is to those that stand in the log.
enum Before {
    /// It was not made before.
    Never,
    /// It was, and answered so.
    Answered(Seq, Option<Content>),
    /// It was, it changes something, and nobody knows whether it did.
    Unknown(Seq),
}

impl Engine {
    /// Records that a tool is about to be called: the seq of the answer names the call. What an earlier sending of the step
    /// has called is not called again, and where nobody knows what came of it a person is asked.
    pub(super) async fn start_tool(
        &self,
        seat: u64,
        worker: &str,
        (key, sending): (StreamKey, Sending),
        call: ToolCall,
    ) -> Result<ToolBegun, Failure> {
        let Sending { step, branch, .. } = sending;
        let ToolCall { tool, effect, arguments } = call;
        let request = self
            .vault
            .sealing(&key)
            .ok_or_else(erased)?
            .digest(&canonical(&json!({ "tool": tool, "arguments": arguments })));
        let own = self.board.calls_of(seat, key, sending);
        let (caller, before) = self
            .seen(key, |run| {
                let agent = run.step(step)?.0.agent.clone();
                let of_step = run
                    .calls
                    .iter()
                    .map(AsRef::as_ref)
                    .filter(|call: &&Call| (call.step, call.branch) == (step, branch));
                let equal = of_step.filter(|call| call.caller == agent && call.request == request);
                let before = before(equal.filter(|call| !own.contains(&call.at)), &tool);
                Some((agent, before))
            })
            .await?
            .ok_or_else(not_open)?;
        match before {
            Before::Never => {}
            Before::Answered(at, result) => {
                self.board.note_call(seat, key, sending, at);
                let done = Done { seq: at.0, last: at.0, repeated: true };
                return Ok(ToolBegun { done, recorded: Some(self.result(key, result).await?) });
            }
            Before::Unknown(at) => return Err(self.asked_instead(worker, (key, sending), at, &tool).await),
        }
        let arguments = Some(Content::open(arguments.to_string()));
        let start = StartToolCall { step, branch, caller, tool, effect, request, arguments, delivery: 0 };
        let done = answers::done(self.node().submit(Request::new(key, start)).await)?;
        // The command takes the frame's first seq; the event that names the call follows it.
        let done = Done { seq: done.seq + 1, ..done };
        self.board.note_call(seat, key, sending, Seq(done.seq));
        Ok(ToolBegun { done, recorded: None })
    }

    async fn result(&self, key: StreamKey, result: Option<Content>) -> Result<Value, Failure> {
        let blobs = self.opened(key, result.iter()).await;
        let read = |result| self.read(key, &blobs, result);
        let result = result.as_ref().map_or(Ok(Value::Null), read);
        result.map_err(|why| answers::unreadable("the recorded result", &why))
    }

    /// The attempt ends with a question; its worker is told to drop the step.
    async fn asked_instead(
        &self,
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

/// The first of the equal calls that says something. Reads that were cut off are made again.
fn before<'c>(equal: impl Iterator<Item = &'c Call>, wanted: &str) -> Before {
    for call in equal {
        match (&call.kind, &call.outcome) {
            (CallKind::Tool { tool, .. }, Outcome::Answered(result)) if tool == wanted => {
                return Before::Answered(call.at, result.clone());
            }
            (CallKind::Tool { tool, repeatable: false }, Outcome::Open) if tool == wanted => {
                return Before::Unknown(call.at);
            }
            _ => {}
        }
    }
    Before::Never
}

pub(super) fn ended(call: Seq, end: ToolEnd) -> Command {
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
