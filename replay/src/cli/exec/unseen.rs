//! What of a program could not be seen.

use serde_json::Value;

/// Says it, from how the execution is shown; nothing where all was seen.
pub(super) fn unseen(view: &Value) -> Option<String> {
    let calls = view["steps"][0]["calls"].as_array().filter(|calls| !calls.is_empty());
    let Some(calls) = calls else {
        return Some(
            "no call is recorded: what was refused is not, and what does not go to OPENAI_BASE_URL is not seen".into(),
        );
    };
    let nameless =
        calls.iter().filter(|call| call["kind"] == "model" && is_nameless(&call["caller"])).count();
    let tools = calls.iter().any(|call| call["kind"] == "tool");
    let tools = if tools { "" } else { ", and what tools did between them was not seen" };
    (nameless > 0).then(|| {
        format!(
            "{nameless} of {} calls came without the name of an agent{tools}: programs in Python are instrumented, \
             others can name their agents in the header `x-omium-step`",
            calls.iter().filter(|call| call["kind"] == "model").count(),
        )
    })
}

/// Says that tools were not run again, for one that changes the program's own memory has left it as it was.
pub(super) fn served(view: &Value) -> Option<String> {
    let calls = view["steps"][0]["calls"].as_array()?;
    let served = calls.iter().filter(|call| call["kind"] == "tool" && call["served"] == true).count();
    (served > 0).then(|| {
        format!(
            "results of {served} tool calls were served from the record; a tool that changes the program's own memory has to \
             run in each attempt: OMIUM_TOOL_EFFECTS=NAME=local"
        )
    })
}

/// What the gate calls a caller that it can tell apart by its instructions at best.
fn is_nameless(caller: &Value) -> bool {
    let agent = caller.as_str().and_then(|caller| caller.rsplit_once('#')).map_or("", |(agent, _)| agent);
    let digest = agent.strip_prefix("agent-");
    agent == "unnamed"
        || digest.is_some_and(|hex| hex.len() == 8 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(calls: &[(&str, &str)], expected: Option<&str>) {
        let calls: Vec<Value> =
            calls.iter().map(|(kind, caller)| json!({ "kind": kind, "caller": caller })).collect();
        let said = unseen(&json!({ "steps": [{ "calls": calls }] }));
        let start = said.as_deref().map(|said| said.split(':').next().unwrap_or_default());
        assert_eq!(start, expected);
    }

    #[test]
    fn tools_whose_results_were_served_are_told() {
        let tool = |served: bool| json!({ "kind": "tool", "served": served });
        let model = json!({ "kind": "model", "served": true });
        assert_eq!(served(&json!({ "steps": [{ "calls": [tool(false), model] }] })), None);
        let said = served(&json!({ "steps": [{ "calls": [tool(true), tool(false), tool(true)] }] }));
        assert!(said.is_some_and(|said| said.starts_with("results of 2 tool calls were served")));
    }

    #[test]
    fn calls_without_a_name_are_counted_and_tools_that_nobody_saw_are_told() {
        check(&[], Some("no call is recorded"));
        check(&[("model", "Writer#0"), ("model", "agent-smith#1")], None);
        check(
            &[("model", "Writer#0"), ("model", "agent-0123abcd#0"), ("model", "unnamed#0")],
            Some(
                "2 of 3 calls came without the name of an agent, and what tools did between them was not seen",
            ),
        );
        check(
            &[("model", "unnamed#0"), ("tool", "unnamed#0")],
            Some("1 of 1 calls came without the name of an agent"),
        );
    }
}
