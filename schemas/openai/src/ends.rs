//! How answers end. Not every answer without words is a bad one: some go on later, some only warm a cache, some refuse.

use serde_json::Value;

use crate::Endpoint;

/// How an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is what was asked for.
    Final,
    /// It is on the way: the provider works on, or waits for the program.
    GoesOn,
    /// Nothing was asked: the request was there to make the next ones cheaper.
    WarmUp,
    /// The model, or its provider, does not answer this.
    Refused,
}

/// What an answer says at a place, and how it ends then. The first row that fits counts.
const ENDS: &[(Endpoint, &str, &str, End)] = &[
    (Endpoint::Chat, "/choices/0/finish_reason", "content_filter", End::Refused),
    (Endpoint::Completions, "/choices/0/finish_reason", "content_filter", End::Refused),
    (Endpoint::Responses, "/status", "queued", End::GoesOn),
    (Endpoint::Responses, "/status", "in_progress", End::GoesOn),
    (Endpoint::Responses, "/status", "requires_action", End::GoesOn),
    (Endpoint::Responses, "/incomplete_details/reason", "content_filter", End::Refused),
];

/// Items of an answer that are no result: the provider asks for something, or has only tidied up.
const ON_THE_WAY: &[&str] = &["compaction", "mcp_approval_request", "mcp_list_tools", "reasoning"];

/// Where a request says `false` or 0 that asks for no answer.
const WARM_UPS: &[&str] = &["/generate", "/max_tokens", "/max_completion_tokens", "/max_output_tokens"];

/// How an answer ends, by what it says.
pub(crate) fn of(endpoint: Endpoint, body: &Value) -> End {
    let says = |place: &str, value: &str| body.pointer(place).and_then(Value::as_str) == Some(value);
    let listed = ENDS.iter().find(|(of, place, value, _)| *of == endpoint && says(place, value));
    if let Some((.., end)) = listed {
        return *end;
    }
    match endpoint {
        Endpoint::Chat if body.pointer("/choices/0/message/refusal").is_some_and(says_something) => {
            End::Refused
        }
        Endpoint::Responses => of_items(body),
        Endpoint::Chat | Endpoint::Completions | Endpoint::Embeddings => End::Final,
    }
}

fn says_something(text: &Value) -> bool {
    text.as_str().is_some_and(|text| !text.trim().is_empty())
}

fn of_items(body: &Value) -> End {
    let items = body["output"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut parts = items.iter().filter_map(|item| item["content"].as_array()).flatten();
    if parts.any(|part| part["type"] == "refusal") {
        return End::Refused;
    }
    let kind = |item: &Value| item["type"].as_str().unwrap_or_default().to_owned();
    let asks = items.iter().any(|item| kind(item) == "mcp_approval_request");
    let only_on_the_way = items.iter().all(|item| ON_THE_WAY.contains(&kind(item).as_str()));
    let compacted = items.iter().any(|item| kind(item) == "compaction");
    if only_on_the_way && (asks || compacted) { End::GoesOn } else { End::Final }
}

/// Whether a request, with or without its messages, asks for no answer at all.
pub(crate) fn asks_for_nothing(request: &Value) -> bool {
    let says_none = |place: &&str| {
        let found = request.pointer(place);
        found.is_some_and(|found| found.as_bool() == Some(false) || found.as_u64() == Some(0))
    };
    WARM_UPS.iter().any(says_none)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ends_are_told_apart() {
        let chat = |choice: Value| of(Endpoint::Chat, &json!({ "choices": [choice] }));
        assert_eq!(chat(json!({"message": {"content": "x"}, "finish_reason": "stop"})), End::Final);
        assert_eq!(chat(json!({"message": {"content": null, "refusal": "no"}})), End::Refused);
        assert_eq!(chat(json!({"message": {"content": "x", "refusal": null}})), End::Final);
        assert_eq!(chat(json!({"message": {"content": "x", "refusal": ""}})), End::Final);
        assert_eq!(chat(json!({"message": {}, "finish_reason": "content_filter"})), End::Refused);
        let response = |body: Value| of(Endpoint::Responses, &body);
        for status in ["queued", "in_progress", "requires_action"] {
            assert_eq!(response(json!({"status": status, "output": []})), End::GoesOn, "{status}");
        }
        let items = |kinds: &[&str]| {
            let items: Vec<Value> = kinds.iter().map(|kind| json!({ "type": kind })).collect();
            response(json!({"status": "completed", "output": items}))
        };
        assert_eq!(items(&["compaction"]), End::GoesOn);
        assert_eq!(items(&["reasoning", "mcp_approval_request"]), End::GoesOn);
        assert_eq!(items(&["compaction", "message"]), End::Final);
        assert_eq!(items(&["reasoning"]), End::Final, "it only thought: that is an empty answer");
        assert_eq!(items(&[]), End::Final);
        let refusal = json!({"type": "message", "content": [{"type": "refusal", "refusal": "no"}]});
        assert_eq!(response(json!({"status": "completed", "output": [refusal]})), End::Refused);
        for odd in [json!(null), json!([]), json!({"output": 1}), json!({"output": [1, {"content": [1]}]})] {
            assert_eq!(response(odd), End::Final);
        }
    }

    #[test]
    fn a_request_that_only_warms_a_cache_is_known() {
        for body in [json!({"generate": false}), json!({"max_tokens": 0}), json!({"max_output_tokens": 0})] {
            assert!(asks_for_nothing(&body), "{body}");
        }
        for body in
            [json!({}), json!({"generate": true}), json!({"max_tokens": 1}), json!({"max_tokens": null})]
        {
            assert!(!asks_for_nothing(&body), "{body}");
        }
    }
}
