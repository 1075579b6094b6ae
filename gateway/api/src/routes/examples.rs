//! An example of everything that the document shows.

use serde_json::{Value, json};

pub(crate) const DEFINITION: &str = "\
name: loan-decision
inputs: {type: object, required: [amount], properties: {amount: {type: integer}}}
agents:
  - id: clerk
    framework: program
    definition: {}
";

const ID: &str = "ex_0190f3c1a2b34c5d8e9f0a1b2c3d4e5f";
pub(crate) const KEY: &str = "9f86d081884c7d65";
pub(crate) const LATER: &str = "2026-04-02T03:04:05.678Z";
const TIME: &str = "2026-01-02T03:04:05.678Z";
pub(crate) const HASH: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// What stands in a path.
pub(crate) fn in_path(name: &str) -> &'static str {
    match name {
        "id" => ID,
        "key" => KEY,
        "content" => "inputs",
        _ => "loan-decision",
    }
}

pub(crate) fn workflow(with_text: bool) -> Value {
    let mut view = json!({
        "name": "loan-decision", "version": 1, "hash": HASH, "published_at": TIME, "agents": ["clerk"],
    });
    if with_text {
        view["definition"] = json!(DEFINITION);
    }
    view
}

pub(crate) fn published() -> Value {
    let mut view = workflow(false);
    view["repeated"] = false.into();
    view["warnings"] = json!([
        "no worker for the framework `crewai` is registered, which `clerk` waits for; start one with the SDK"
    ]);
    view
}

pub(crate) fn started() -> Value {
    json!({ "id": ID, "repeated": false })
}

pub(crate) fn done() -> Value {
    json!({ "seq": 12, "last": 14, "repeated": false })
}

pub(crate) fn summary() -> Value {
    json!({ "id": ID, "workflow": "loan-decision", "status": "running", "started_at": TIME, "ended_at": null })
}

pub(crate) fn execution() -> Value {
    let call = json!({
        "seq": 13, "kind": "tool", "name": "rates", "status": "open", "caller": "clerk#0", "tokens": null,
        "verdict": null, "patched": false, "condemned": false, "served": false, "cost_usd": null,
        "reason": null,
    });
    let step = json!({
        "step": 1, "agent": "clerk", "framework": "program", "status": "running", "attempts": 1,
        "since": TIME, "ended_at": null, "output": null, "failure": null, "reason": null,
        "cost_usd": "0", "unpriced_calls": 0, "signal": null, "calls": [call],
    });
    let question = json!({
        "seq": 17, "step": 1, "agent": "clerk", "call": 13, "tool": "pay", "arguments": { "amount": 20000 },
        "text": "`pay` was called by an earlier attempt that ended before its answer came",
        "asked_at": TIME, "expires_at": null,
    });
    json!({
        "id": ID, "workflow": "loan-decision", "version": HASH, "status": "running", "failure": null,
        "branch": 0, "seq": 14, "started_at": TIME, "ended_at": null,
        "inputs": { "amount": 20000 }, "output": null, "cost_usd": "0.0125", "unpriced_calls": 0,
        "steps": [step], "questions": [question], "findings": [], "attempt": null, "drifts": 0,
        "forked_from": null, "state_hash": HASH,
    })
}

pub(crate) fn event() -> Value {
    json!({
        "seq": 1, "time": TIME, "kind": "StartExecution", "command": true, "actor": "om_3f2a",
        "body": { "workflow": "loan-decision" },
    })
}

pub(crate) fn checkpoint() -> Value {
    json!({ "seq": 7, "name": "first", "taken_at": TIME, "done": ["clerk"], "state_hash": HASH })
}

pub(crate) fn problem() -> Value {
    json!({
        "type": "https://omium.invalid/problems/no-such-execution", "title": "Not Found", "status": 404,
        "code": "no-such-execution", "detail": "there is no execution `ex_1`",
        "hint": "`omium list` shows them",
    })
}
