//! A run as the API shows it.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use omium_api::views::{CallView, ExecutionView, StepView};
use omium_execution::{CallKind, Outcome, Phase, Run, Status};
use omium_schemas::catalogue::FailureClass;
use omium_schemas::{Content, Digest, Money, Seq, StepId, StreamId, Time};
use omium_workflow::Definition;
use serde_json::{Map, Value, json};

use super::index::Standing;

/// Content opened ahead: looking at a run then needs no waiting.
pub(crate) struct Opened<'a>(pub(crate) &'a dyn Fn(&Content) -> Value);

pub(crate) fn time(time: Time) -> String {
    humantime::format_rfc3339_micros(UNIX_EPOCH + Duration::from_micros(time.0)).to_string()
}

/// Dollars with all the digits there are, and no more.
pub(crate) fn dollars(money: Money) -> String {
    let sign = if money.0 < 0 { "-" } else { "" };
    let pico = money.0.unsigned_abs();
    let text = format!("{sign}{}.{:012}", pico / 1_000_000_000_000, pico % 1_000_000_000_000);
    let trimmed = text.trim_end_matches('0');
    trimmed.strip_suffix('.').unwrap_or(trimmed).to_owned()
}

pub(crate) fn standing(status: Status) -> Standing {
    match status {
        Status::Running => Standing::Running,
        Status::Paused => Standing::Paused,
        Status::Completed => Standing::Completed,
        Status::Failed(_) => Standing::Failed,
        Status::Cancelled => Standing::Cancelled,
    }
}

pub(crate) fn class(class: FailureClass) -> String {
    let name = format!("{class:?}");
    let mut words = String::new();
    for character in name.chars() {
        if character.is_uppercase() && !words.is_empty() {
            words.push('-');
        }
        words.extend(character.to_lowercase());
    }
    words
}

/// What templates and rules of a definition look at.
pub(crate) fn scope(run: &Run, opened: &Opened<'_>) -> Value {
    let outputs: Map<String, Value> = run
        .plan
        .iter()
        .zip(&run.steps)
        .filter_map(|(plan, step)| match &step.phase {
            Phase::Done { output, .. } => Some((plan.agent.clone(), content(output.as_ref(), opened))),
            _ => None,
        })
        .collect();
    json!({ "inputs": content(run.inputs.as_ref(), opened), "outputs": outputs })
}

fn content(content: Option<&Content>, opened: &Opened<'_>) -> Value {
    content.map_or(Value::Null, |content| (opened.0)(content))
}

/// The result of a run: what the definition says, else the outputs of the steps that nobody comes after.
fn output(run: &Run, definition: Option<&Definition>, opened: &Opened<'_>) -> Value {
    if run.status != Status::Completed {
        return Value::Null;
    }
    let scope = scope(run, opened);
    if let Some(template) = definition.and_then(|definition| definition.output.as_ref()) {
        return template.render(&scope).unwrap_or_else(|missing| json!({ "error": missing.to_string() }));
    }
    let needed: Vec<i32> = run.plan.iter().flat_map(|plan| plan.after.clone()).collect();
    let mut last: BTreeMap<String, Value> = run
        .ids()
        .filter(|step| !needed.contains(&(step.0 as i32)))
        .filter_map(|step| {
            let agent = run.step(step)?.0.agent.clone();
            let value = scope["outputs"].get(&agent)?.clone();
            Some((agent, value))
        })
        .collect();
    match last.len() {
        1 => last.pop_first().map_or(Value::Null, |(_, value)| value),
        _ => json!(last),
    }
}

pub(crate) fn execution(
    id: StreamId,
    run: &Run,
    seq: Seq,
    hash: Digest,
    definition: Option<&Definition>,
    opened: &Opened<'_>,
) -> ExecutionView {
    ExecutionView {
        id: id.to_string(),
        workflow: run.workflow.clone(),
        version: run.version.map(|version| version.hex()),
        status: standing(run.status).name().to_owned(),
        failure: match run.status {
            Status::Failed(failed) => Some(class(failed)),
            _ => None,
        },
        branch: run.branch.0,
        seq: seq.0,
        started_at: time(run.started),
        ended_at: run.ended.map(time),
        inputs: content(run.inputs.as_ref(), opened),
        output: output(run, definition, opened),
        cost_usd: dollars(run.spent),
        unpriced_calls: run.unpriced,
        steps: run.ids().filter_map(|id| step(id, run, opened)).collect(),
        // Whoever shows it looks up what the calls in question were given.
        questions: Vec::new(),
        forked_from: run.source.map(|(source, at)| (source.to_string(), at.0)),
        state_hash: hash.hex(),
    }
}

fn step(id: StepId, run: &Run, opened: &Opened<'_>) -> Option<StepView> {
    let (plan, step) = run.step(id)?;
    let (status, since, ended, output, failure, reason) = match &step.phase {
        Phase::Blocked => ("blocked", None, None, None, None, None),
        Phase::Waiting { since, begun, .. } => {
            let status = match (plan.signal.is_some() || run.asks(id), begun) {
                (true, _) => "asking",
                (false, Some(_)) => "running",
                (false, None) => "waiting",
            };
            (status, Some(begun.unwrap_or(*since)), None, None, None, None)
        }
        Phase::Done { time, output, .. } => ("done", None, Some(*time), output.as_ref(), None, None),
        Phase::Failed { class: failed, reason, .. } => {
            ("failed", None, None, None, Some(class(*failed)), reason.as_ref())
        }
        Phase::Skipped => ("skipped", None, None, None, None, None),
        Phase::Cancelled => ("cancelled", None, None, None, None, None),
    };
    Some(StepView {
        step: id.0,
        agent: plan.agent.clone(),
        framework: plan.framework.clone(),
        status: status.to_owned(),
        attempts: step.attempts,
        since: since.map(time),
        ended_at: ended.map(time),
        output: content(output, opened),
        failure,
        reason: reason.map(|reason| match (opened.0)(reason) {
            Value::String(text) => text,
            other => other.to_string(),
        }),
        cost_usd: dollars(step.spent),
        unpriced_calls: step.unpriced,
        signal: plan.signal.clone(),
        calls: run.calls.iter().filter(|call| call.step == id).map(call).collect(),
    })
}

fn call(call: &omium_execution::Call) -> CallView {
    let (kind, name) = match &call.kind {
        CallKind::Model(model) => ("model", model.clone()),
        CallKind::Tool { tool, .. } => ("tool", tool.clone()),
    };
    let status = match call.outcome {
        Outcome::Open => "open",
        Outcome::Answered(_) => "answered",
        Outcome::Failed { .. } => "failed",
    };
    let cost_usd = match (&call.kind, &call.outcome) {
        (CallKind::Model(_), Outcome::Answered(_)) => {
            Some(call.cost.map_or_else(|| "unpriced".to_owned(), dollars))
        }
        _ => None,
    };
    CallView { seq: call.at.0, kind: kind.to_owned(), name, status: status.to_owned(), cost_usd }
}
