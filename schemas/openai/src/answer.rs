//! What an answer says, whichever way it came.

use omium_limits::{Limits, json};
use omium_schemas::catalogue::{FinishReason, Usage};
use serde_json::{Value, json};

use crate::form::whole;
use crate::{End, Endpoint, Events, ends};

/// What is said of a body in which nothing answers.
const NO_ANSWER: &str = "the model's server answered with a good status and no answer in it";
/// How much of what a provider says about an error is kept.
const SAID: usize = 500;
/// More tokens than one call can use: whoever tells more is not believed.
const MOST_TOKENS: i64 = 100_000_000;
/// What an answer may cost once it is built. It is only looked at, and stays the bytes it is.
pub(crate) const LIMITS: Limits =
    Limits { bytes: 64 << 20, nodes: 4_000_000, memory: 256 << 20, ..Limits::BYTES };

/// An answer, as far as anybody has to understand it.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The model that answered.
    pub model: String,
    /// What it says; nothing where it says nothing in words.
    pub text: Option<String>,
    /// The tools that it wants called.
    pub tools: Vec<CalledTool>,
    /// Why it stopped.
    pub finish: FinishReason,
    /// Whether it is a result.
    pub end: End,
    /// What was used.
    pub usage: Usage,
    /// Whether the provider has said what was used, in numbers that can be believed.
    pub told_usage: bool,
    /// Why it is no answer at all, where it is none: an error with a good status, a page of a proxy, a cut text.
    pub fault: Option<String>,
    /// Whether it is all there: the JSON is whole, the stream came to its end.
    pub whole: bool,
}

/// A tool that the model wants called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CalledTool {
    /// Its name.
    pub name: String,
    /// Its arguments, as the model wrote them.
    pub arguments: String,
}

/// Reads an answer. One that nobody understands is there, but not whole.
pub fn read(endpoint: Endpoint, bytes: &[u8]) -> Answer {
    let (body, whole) = body(endpoint, bytes);
    body.map_or_else(no_answer, |body| of_body(endpoint, &body, whole))
}

/// Reads the answer of a conversation, with its message as it goes back with the next question.
pub fn read_message(bytes: &[u8]) -> (Answer, Value) {
    let (body, whole) = body(Endpoint::Chat, bytes);
    let Some(mut body) = body else { return (no_answer(), Value::Null) };
    let answer = of_body(Endpoint::Chat, &body, whole);
    let mut part = |name: &str| body.pointer_mut(&format!("/choices/0/message/{name}")).map(Value::take);
    let mut message = json!({ "role": "assistant", "content": part("content") });
    if let Some(calls @ Value::Array(_)) = part("tool_calls") {
        message["tool_calls"] = calls;
    }
    (answer, message)
}

fn no_answer() -> Answer {
    Answer { fault: Some(NO_ANSWER.to_owned()), ..nothing() }
}

fn of_body(endpoint: Endpoint, body: &Value, whole: bool) -> Answer {
    let mut answer = match endpoint {
        Endpoint::Chat => chat(body),
        Endpoint::Completions => completion(body),
        Endpoint::Responses => response(body),
        Endpoint::Embeddings => Answer { finish: FinishReason::Stop, ..nothing() },
    };
    answer.model = body["model"].as_str().unwrap_or_default().to_owned();
    (answer.usage, answer.told_usage) = usage(&body["usage"]);
    answer.end = ends::of(endpoint, body);
    // What says something is a result, whatever its status says of it.
    if answer.end == End::GoesOn && (answer.text.is_some() || !answer.tools.is_empty()) {
        answer.end = End::Final;
    }
    answer.fault = fault(endpoint, body, whole);
    answer.whole = whole;
    answer
}

/// What only looks like an answer. Asking again is what helps, and no person has to decide about it.
fn fault(endpoint: Endpoint, body: &Value, whole: bool) -> Option<String> {
    if let Some(error) = body.get("error").filter(|error| !error.is_null()) {
        let said = error["message"].as_str().or_else(|| error.as_str()).unwrap_or("(it does not say why)");
        let said: String = said.chars().take(SAID).collect();
        return Some(format!("the model's server answered with a good status and an error: {said}"));
    }
    let there = match endpoint {
        Endpoint::Chat => body["choices"]
            .as_array()
            .is_some_and(|choices| choices.first().is_some_and(|choice| choice["message"].is_object())),
        Endpoint::Completions => body["choices"].as_array().is_some_and(|choices| !choices.is_empty()),
        Endpoint::Responses => body["output"].is_array() || body["status"].is_string(),
        Endpoint::Embeddings => body["data"].is_array(),
    };
    match (there, whole) {
        (false, _) => Some(NO_ANSWER.to_owned()),
        (true, false) => Some("the model's answer ended in the middle".to_owned()),
        (true, true) => None,
    }
}

fn nothing() -> Answer {
    let usage = Usage { input: 0, cached: 0, output: 0, reasoning: 0 };
    Answer {
        told_usage: false,
        fault: None,
        model: String::new(),
        text: None,
        tools: Vec::new(),
        finish: FinishReason::Other,
        end: End::Final,
        usage,
        whole: false,
    }
}

fn body(endpoint: Endpoint, bytes: &[u8]) -> (Option<Value>, bool) {
    if let Ok(body) = json::parse(bytes, &LIMITS) {
        return (Some(body), true);
    }
    let events = Events::all(bytes);
    let ended = |event: &crate::events::Event| match endpoint {
        Endpoint::Responses => event.is_last(),
        _ => event.is_done(),
    };
    let is_whole = events.iter().any(ended) && !events.iter().any(crate::events::Event::is_cut);
    (whole(endpoint, &events), is_whole)
}

fn chat(body: &Value) -> Answer {
    let choice = &body["choices"][0];
    let message = &choice["message"];
    let called = message["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = message["content"].as_str().or_else(|| message["refusal"].as_str());
    Answer {
        text: text.map(str::to_owned),
        tools: called.iter().map(|call| tool(&call["function"])).collect(),
        finish: finish(choice["finish_reason"].as_str()),
        ..nothing()
    }
}

fn completion(body: &Value) -> Answer {
    let choice = &body["choices"][0];
    Answer {
        text: choice["text"].as_str().map(str::to_owned),
        finish: finish(choice["finish_reason"].as_str()),
        ..nothing()
    }
}

fn response(body: &Value) -> Answer {
    let items = body["output"].as_array().map(Vec::as_slice).unwrap_or_default();
    let parts =
        items.iter().filter(|item| item["type"] == "message").flat_map(|item| item["content"].as_array());
    let text: String = parts.flatten().filter_map(|part| part["text"].as_str()).collect();
    let tools: Vec<CalledTool> =
        items.iter().filter(|item| item["type"] == "function_call").map(tool).collect();
    let finish = match (body["status"].as_str(), body["incomplete_details"]["reason"].as_str()) {
        (Some("completed"), _) if !tools.is_empty() => FinishReason::ToolCalls,
        (Some("completed"), _) => FinishReason::Stop,
        (_, Some("max_output_tokens")) => FinishReason::Length,
        (_, Some("content_filter")) => FinishReason::ContentFilter,
        _ => FinishReason::Other,
    };
    Answer { text: Some(text).filter(|text| !text.is_empty()), tools, finish, ..nothing() }
}

fn tool(function: &Value) -> CalledTool {
    let text = |name: &str| function[name].as_str().unwrap_or_default().to_owned();
    CalledTool { name: text("name"), arguments: text("arguments") }
}

fn finish(reason: Option<&str>) -> FinishReason {
    match reason {
        Some("stop") => FinishReason::Stop,
        Some("length") => FinishReason::Length,
        Some("tool_calls" | "function_call") => FinishReason::ToolCalls,
        Some("content_filter") => FinishReason::ContentFilter,
        _ => FinishReason::Other,
    }
}

/// Two forms of the same figures: the newer operation names them otherwise.
fn usage(usage: &Value) -> (Usage, bool) {
    let told = std::cell::Cell::new(usage.is_object());
    let first = |names: [&str; 2]| {
        let Some(found) = names.iter().find_map(|pointer| usage.pointer(pointer)) else { return 0 };
        let believable = found.as_i64().filter(|tokens| (0..=MOST_TOKENS).contains(tokens));
        if believable.is_none() && !found.is_null() {
            told.set(false);
        }
        believable.unwrap_or(0)
    };
    let read = Usage {
        input: first(["/prompt_tokens", "/input_tokens"]),
        cached: first(["/prompt_tokens_details/cached_tokens", "/input_tokens_details/cached_tokens"]),
        output: first(["/completion_tokens", "/output_tokens"]),
        reasoning: first([
            "/completion_tokens_details/reasoning_tokens",
            "/output_tokens_details/reasoning_tokens",
        ]),
    };
    let counted = ["prompt_tokens", "input_tokens"].iter().any(|name| usage[*name].is_i64());
    (read, told.get() && counted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversations_answer_is_understood_whole_and_in_parts() {
        let whole = json!({"model": "m", "choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3, "completion_tokens": 2}});
        let whole = read(Endpoint::Chat, whole.to_string().as_bytes());
        assert_eq!(
            (whole.text.as_deref(), whole.finish, whole.usage.input, whole.whole),
            (Some("hi"), FinishReason::Stop, 3, true)
        );
        let parts = concat!(
            "data: {\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"h\"}}]}\n\n",
            "data: {\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"i\"},\"finish_reason\":\"stop\"}]}\n\n",
            "data: {\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n",
            "data: [DONE]\n\n"
        );
        assert_eq!(read(Endpoint::Chat, parts.as_bytes()), whole);
        let cut = read(Endpoint::Chat, &parts.as_bytes()[..120]);
        assert_eq!((cut.text.as_deref(), cut.whole), (Some("h"), false));
    }

    #[test]
    fn tools_that_are_called_are_put_together_from_their_parts() {
        let parts = concat!(
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c\",\"function\":{\"name\":\"rates\",\"arguments\":\"{\\\"a\\\"\"}}]}}]}\n\n",
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\":1}\"}}]},\"finish_reason\":\"tool_calls\"}]}\n\n",
            "data: [DONE]\n\n"
        );
        let answer = read(Endpoint::Chat, parts.as_bytes());
        assert_eq!(answer.tools, [CalledTool { name: "rates".into(), arguments: "{\"a\":1}".into() }]);
        assert_eq!(answer.finish, FinishReason::ToolCalls);
    }

    #[test]
    fn the_newer_operation_is_understood_too() {
        let body = json!({"model": "m", "status": "completed", "output": [
            {"type": "message", "content": [{"type": "output_text", "text": "hi"}]}],
            "usage": {"input_tokens": 3, "output_tokens": 2}});
        let answer = read(Endpoint::Responses, body.to_string().as_bytes());
        assert_eq!(
            (answer.text.as_deref(), answer.finish, answer.usage.output),
            (Some("hi"), FinishReason::Stop, 2)
        );
        let stream = format!(
            "event: response.completed\ndata: {}\n\n",
            json!({"type": "response.completed", "response": body})
        );
        assert_eq!(read(Endpoint::Responses, stream.as_bytes()), answer);
    }

    #[test]
    fn a_hiccup_with_a_good_status_is_told_from_an_answer() {
        let none = [
            "",
            "<html>502</html>",
            "[]",
            "null",
            "{\"error\":{\"message\":\"overloaded\"}}",
            "{\"choices\":[]}",
            "\"x\"",
            "{}",
        ];
        for body in none {
            assert!(read(Endpoint::Chat, body.as_bytes()).fault.is_some(), "{body}");
            assert!(read_message(body.as_bytes()).0.fault.is_some(), "{body}");
        }
        let empty = r#"{"choices":[{"message":{"content":""},"finish_reason":"stop"}]}"#;
        assert_eq!(read(Endpoint::Chat, empty.as_bytes()).fault, None, "an empty answer is one");
        let cut = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"h\"}}]}\n\n";
        assert!(read(Endpoint::Chat, cut.as_bytes()).fault.unwrap().contains("middle"));
    }

    #[test]
    fn usage_that_is_missing_or_absurd_is_not_believed() {
        let told = |usage: &str| {
            let body = format!(r#"{{"choices":[{{"message":{{"content":"x"}}}}]{usage}}}"#);
            read(Endpoint::Chat, body.as_bytes()).told_usage
        };
        assert!(told(r#","usage":{"prompt_tokens":3,"completion_tokens":2}"#));
        for usage in [
            "",
            r#","usage":null"#,
            r#","usage":[1]"#,
            r#","usage":{}"#,
            r#","usage":{"prompt_tokens":"3","completion_tokens":2}"#,
            r#","usage":{"prompt_tokens":3,"completion_tokens":-2}"#,
            r#","usage":{"prompt_tokens":3.5,"completion_tokens":2}"#,
            r#","usage":{"prompt_tokens":9000000000000000000,"completion_tokens":2}"#,
        ] {
            assert!(!told(usage), "{usage}");
        }
    }

    #[test]
    fn nonsense_is_not_whole() {
        for bytes in [&b""[..], b"{\"choices\":", b"<html>", &[255, 254]] {
            assert!(!read(Endpoint::Chat, bytes).whole);
            assert!(read_message(bytes).0.fault.is_some());
        }
    }
}
