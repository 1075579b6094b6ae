//! A run as the API shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, UNIX_EPOCH};

use omium_api::views::{CallView, Ended, ExecutionView, FindingView, RemedyView, StepView};
use omium_execution::{CallKind, FindingState, Outcome, Phase, Run, Status, Step};
use omium_schemas::catalogue::{FailureClass, GateVerdict};
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
    words(&format!("{class:?}"))
}

/// `AskAgain` as people write it: `ask-again`.
fn words(name: &str) -> String {
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
    if let Some(template) = definition.and_then(|definition| definition.output.as_ref()) {
        let rendered = template.render(&scope(run, opened));
        return rendered.unwrap_or_else(|missing| json!({ "error": missing.to_string() }));
    }
    let needed: BTreeSet<i32> = run.plan.iter().flat_map(|plan| plan.after.iter().copied()).collect();
    let last = run.ids().filter(|step| !needed.contains(&(step.0 as i32)));
    // Only these are opened: a long run has many others.
    let mut last: BTreeMap<String, Value> = last
        .filter_map(|step| match run.step(step)? {
            (plan, Step { phase: Phase::Done { output, .. }, .. }) => {
                Some((plan.agent.clone(), content(output.as_ref(), opened)))
            }
            _ => None,
        })
        .collect();
    match last.len() {
        1 => last.pop_first().map_or(Value::Null, |(_, value)| value),
        _ => json!(last),
    }
}

/// How a run has ended.
pub(crate) fn ended(run: &Run, definition: Option<&Definition>, opened: &Opened<'_>) -> Ended {
    Ended { status: status(run).to_owned(), failure: failure(run), output: output(run, definition, opened) }
}

fn failure(run: &Run) -> Option<String> {
    match run.status {
        Status::Failed(failed) => Some(class(failed)),
        _ => None,
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
        status: status(run).to_owned(),
        failure: failure(run),
        branch: run.branch.0,
        seq: seq.0,
        started_at: time(run.started),
        ended_at: run.ended.map(time),
        inputs: content(run.inputs.as_ref(), opened),
        output: output(run, definition, opened),
        cost_usd: dollars(run.spent),
        unpriced_calls: run.unpriced,
        steps: run.ids().filter_map(|id| step(id, run, opened)).collect(),
        findings: findings(run, opened),
        attempt: run.program.as_ref().map(|program| program.attempt),
        drifts: run.program.as_ref().map_or(0, |program| program.drifts),
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
        reason: reason.map(|reason| plain(reason, opened)),
        cost_usd: dollars(step.spent),
        unpriced_calls: step.unpriced,
        signal: plan.signal.clone(),
        calls: run.calls.iter().filter(|known| known.step == id).map(|known| call(known, opened)).collect(),
    })
}

/// Content as text: what is no text stands there as JSON.
fn plain(content: &Content, opened: &Opened<'_>) -> String {
    match (opened.0)(content) {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

fn call(call: &omium_execution::Call, opened: &Opened<'_>) -> CallView {
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
    let verdict = call.verdict.filter(|verdict| *verdict != GateVerdict::Release);
    CallView {
        seq: call.at.0,
        kind: kind.to_owned(),
        name,
        status: status.to_owned(),
        caller: call.caller.clone(),
        tokens: call.usage.as_ref().map(|usage| (usage.input, usage.output)),
        verdict: verdict.map(|verdict| words(&format!("{verdict:?}"))),
        patched: call.patch_set.is_some(),
        condemned: call.condemned,
        served: call.served.is_some(),
        cost_usd,
        reason: match &call.outcome {
            Outcome::Failed { reason: Some(reason), .. } => Some(plain(reason, opened)),
            _ => None,
        },
    }
}

/// How a run stands: one that waits for a decision says so.
pub(crate) fn status(run: &Run) -> &'static str {
    if run.suspended.is_some() { "suspended" } else { standing(run.status).name() }
}

fn findings(run: &Run, opened: &Opened<'_>) -> Vec<FindingView> {
    let found = run.program.iter().flat_map(|program| &program.findings);
    found.map(|found| finding(found, run, opened)).collect()
}

fn finding(found: &FindingState, run: &Run, opened: &Opened<'_>) -> FindingView {
    let call = found.call.and_then(|call| run.calls.iter().find(|known| known.at == call));
    let detail = match content(found.detail.as_ref(), opened) {
        Value::String(text) => text,
        _ => String::new(),
    };
    let remedies = found.suggested.iter().map(|suggested| RemedyView {
        number: suggested.number,
        kind: words(&format!("{:?}", suggested.kind)),
        confidence: f64::from(suggested.confidence) / 1_000.0,
        text: suggested.text.clone(),
    });
    FindingView {
        seq: found.at.0,
        call: found.call.map(|call| call.0),
        caller: call.map(|call| call.caller.clone()),
        kind: words(&format!("{:?}", found.kind)),
        severity: words(&format!("{:?}", found.severity)),
        detector: found.detector.clone(),
        detail,
        remedies: remedies.collect(),
        chosen: found.chosen,
        helped: found.helped,
        dismissed: found.dismissed,
    }
}
