//! Guards that had nothing to look at: their agent's name is mistyped, or its calls came without a name.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::cli::output::text;

/// The most names of agents that are listed.
const LISTED: usize = 12;

/// One line for each guard of this program whose agent made no call of a model.
pub(super) fn unmatched(guards: &Value, view: &Value) -> Vec<String> {
    let seen = agents(view);
    let own = |guard: &&Value| guard["program"].is_null() || guard["program"] == view["workflow"];
    let guards = guards["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    guards
        .iter()
        .filter(own)
        .filter(|guard| {
            let agent = text(&guard["agent"]);
            !seen.iter().any(|known| known.trim().eq_ignore_ascii_case(agent.trim()))
        })
        .map(|guard| {
            let known: Vec<&str> = seen.iter().take(LISTED).map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            format!(
                "the guard `{}` checked nothing: no call came from an agent named `{}`; agents of this run: {known}",
                text(&guard["name"]),
                text(&guard["agent"]),
            )
        })
        .collect()
}

fn agents(view: &Value) -> BTreeSet<String> {
    let steps = view["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    let calls = steps.iter().filter_map(|step| step["calls"].as_array()).flatten();
    let callers = calls.filter(|call| call["kind"] == "model").map(|call| text(&call["caller"]));
    callers
        .map(|caller| caller.rsplit_once('#').map_or(caller.clone(), |(agent, _)| agent.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(guard: Value, callers: &[&str], expected: &[&str]) {
        let calls: Vec<Value> =
            callers.iter().map(|caller| json!({ "kind": "model", "caller": caller })).collect();
        let view = json!({ "workflow": "crew", "steps": [{ "calls": calls }] });
        assert_eq!(unmatched(&json!({ "items": [guard] }), &view), expected);
    }

    #[test]
    fn a_guard_whose_agent_made_no_call_is_named_with_the_agents_that_did() {
        let guard =
            |agent: &str, program: Option<&str>| json!({ "name": "apr", "agent": agent, "program": program });
        check(guard("writer ", None), &["Writer#2"], &[]);
        check(
            guard("Writter", Some("crew")),
            &["Writer#0", "Writer#1", "A#b#0"],
            &[
                "the guard `apr` checked nothing: no call came from an agent named `Writter`; agents of this run: A#b, Writer",
            ],
        );
        check(guard("Writer", Some("other")), &["Reader#0"], &[]);
        check(
            guard("Writer", None),
            &[],
            &[
                "the guard `apr` checked nothing: no call came from an agent named `Writer`; agents of this run: none",
            ],
        );
    }
}
