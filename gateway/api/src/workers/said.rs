//! What a worker says about a step, made sure of before the engine hears it.

use omium_schemas::catalogue::{EffectClass, FailureClass};
use omium_schemas::{Branch, Epoch, Money, Seq, StepId};
use serde_json::Value;

use crate::grpc::proto::worker_item::Kind;
use crate::grpc::proto::{self, EngineItem, Perform, Refusal, Refused, end_tool, engine_item};
use crate::port::{Failure, FailureKind, Outcome, Sending, Task, ToolCall, ToolEnd};

/// The largest result, in bytes.
const MAX_VALUE: usize = 8 << 20;

/// A sending and its execution.
pub(super) type Of = (String, Sending);

/// Something about one sending.
#[derive(Debug)]
pub(super) enum Said {
    Begin,
    Progress,
    Checkpoint(String),
    CallTool(ToolCall),
    EndTool(Seq, ToolEnd),
    Finish(Outcome),
    Release,
}

impl Said {
    /// Whether the worker does nothing for the step any more.
    pub(super) fn is_last(&self) -> bool {
        matches!(self, Said::Finish(_) | Said::Release)
    }
}

/// Which sending an item is about, and what it says of it, if that makes sense.
pub(super) type About = (Of, Result<Said, Failure>);

/// Reads an item that is about a sending; nothing where it is about the worker.
pub(super) fn about(kind: Kind) -> Option<Result<About, Failure>> {
    let (sending, said) = match kind {
        Kind::Begin(begin) => (begin.sending, Ok(Said::Begin)),
        Kind::Progress(progress) => (progress.sending, Ok(Said::Progress)),
        Kind::Checkpoint(take) => (take.sending, Ok(Said::Checkpoint(take.name))),
        Kind::CallTool(call) => (call.sending.clone(), tool_call(call)),
        Kind::EndTool(end) => (end.sending.clone(), tool_end(end)),
        Kind::Complete(complete) => (complete.sending.clone(), completed(&complete)),
        Kind::Fail(fail) => (fail.sending.clone(), Ok(failed(fail))),
        Kind::Release(release) => (release.sending, Ok(Said::Release)),
        Kind::Register(_) | Kind::Heartbeat(_) | Kind::Credit(_) | Kind::Drain(_) => return None,
    };
    Some(match sending {
        Some(sending) => Ok((read(sending), said)),
        None => Err(senseless("no-sending", "the item does not say which sending it is about")),
    })
}

pub(super) fn read(sending: proto::Sending) -> Of {
    let proto::Sending { execution, step, branch, epoch, delivery } = sending;
    (execution, Sending { step: StepId(step), branch: Branch(branch), epoch: Epoch(epoch), delivery })
}

pub(super) fn write((execution, sending): &Of) -> proto::Sending {
    let Sending { step, branch, epoch, delivery } = *sending;
    proto::Sending { execution: execution.clone(), step: step.0, branch: branch.0, epoch: epoch.0, delivery }
}

/// The name of a task's sending.
pub(super) fn of(task: &Task) -> Of {
    (task.execution.clone(), task.sending())
}

pub(super) fn perform(task: &Task) -> engine_item::Kind {
    let (traceparent, tracestate) = task.trace.as_ref().map(omium_telemetry::traceparent).unwrap_or_default();
    engine_item::Kind::Perform(Perform {
        sending: Some(write(&of(task))),
        workflow: task.workflow.clone(),
        agent: task.agent.clone(),
        framework: task.framework.clone(),
        attempt: task.attempt,
        effect_key: task.effect_key.clone(),
        definition_json: task.definition.to_string(),
        input_json: task.input.to_string(),
        timeout_ms: task.timeout_ms.unwrap_or(0),
        traceparent,
        tracestate: tracestate.unwrap_or_default(),
    })
}

pub(super) fn refused(no: u64, failure: Failure) -> EngineItem {
    let again = matches!(failure.kind, FailureKind::Busy | FailureKind::Full | FailureKind::Unknown);
    let Failure { code, detail, hint, .. } = failure;
    let refusal = Refusal { code: code.to_owned(), detail, hint, again };
    EngineItem { kind: Some(engine_item::Kind::Refused(Refused { no, refusal: Some(refusal) })) }
}

fn completed(complete: &proto::Complete) -> Result<Said, Failure> {
    let output = json("output_json", &complete.output_json)?;
    let cost = match complete.cost_usd.as_str() {
        "" => Money::ZERO,
        text => omium_workflow::parse_money(text).filter(|cost| *cost >= Money::ZERO).ok_or_else(|| {
            senseless("bad-money", format!("cost_usd `{text}` is no amount of dollars like \"0.0125\""))
        })?,
    };
    Ok(Said::Finish(Outcome::Completed { output, cost }))
}

fn failed(fail: proto::Fail) -> Said {
    // The schema's order is the protocol's, after "not said".
    let class = usize::try_from(fail.class).ok().and_then(|class| class.checked_sub(1));
    let class = class.and_then(|class| FailureClass::ALL.get(class)).copied().unwrap_or(FailureClass::Other);
    let mut reason = fail.reason;
    let end = (0..=reason.len().min(16 << 10)).rev().find(|end| reason.is_char_boundary(*end));
    reason.truncate(end.unwrap_or(0));
    Said::Finish(Outcome::Failed { class, reason, retryable: fail.retryable, retry_after: None })
}

fn tool_call(call: proto::CallTool) -> Result<Said, Failure> {
    if !(1..=256).contains(&call.tool.len()) {
        return Err(senseless("bad-tool", "a tool's name has 1 to 256 bytes"));
    }
    let effect = match call.effect() {
        proto::EffectClass::Read => EffectClass::Read,
        proto::EffectClass::Idempotent => EffectClass::Idempotent,
        proto::EffectClass::Write => EffectClass::Write,
        proto::EffectClass::Irreversible | proto::EffectClass::Unspecified => EffectClass::Irreversible,
    };
    let arguments = json("arguments_json", &call.arguments_json)?;
    Ok(Said::CallTool(ToolCall { tool: call.tool, effect, arguments }))
}

fn tool_end(end: proto::EndTool) -> Result<Said, Failure> {
    let call = Seq(end.call);
    match end.end {
        Some(end_tool::End::ResultJson(text)) => {
            Ok(Said::EndTool(call, ToolEnd::Answered { result: json("result_json", &text)? }))
        }
        Some(end_tool::End::Failure(reason)) => Ok(Said::EndTool(call, ToolEnd::Failed { reason })),
        None => Err(senseless("no-end", "the item does not say how the call ended")),
    }
}

fn json(what: &str, text: &str) -> Result<Value, Failure> {
    if text.len() > MAX_VALUE {
        let detail = format!("{what} has {} bytes; at most {MAX_VALUE} are taken", text.len());
        return Err(senseless("too-large", detail));
    }
    omium_limits::json::parse(text.as_bytes(), &omium_limits::Limits::VALUES)
        .map_err(|why| senseless("bad-json", format!("{what} is not taken: {why}")))
}

fn senseless(code: &'static str, detail: impl Into<String>) -> Failure {
    let hint = "the step is still with this worker: send what is right, or `fail`";
    Failure::new(FailureKind::Invalid, code, detail, hint)
}
