//! What an answer says, whichever way it came.

use omium_limits::{Limits, json};
use omium_schemas::catalogue::{FinishReason, Usage};
use serde_json::Value;

use crate::form::whole;
use crate::{Endpoint, Events};

/// What an answer may cost once it is built. It is only looked at, and stays the bytes it is.
pub(crate) const LIMITS: Limits =
    Limits { bytes: 64 << 20, depth: json::DEPTH, nodes: 4_000_000, memory: 256 << 20, as_bytes: true };

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
    /// What was used.
    pub usage: Usage,
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
    let Some(body) = body else { return nothing() };
    let mut answer = match endpoint {
        Endpoint::Chat => chat(&body),
        Endpoint::Completions => completion(&body),
        Endpoint::Responses => response(&body),
        Endpoint::Embeddings => Answer { finish: FinishReason::Stop, ..nothing() },
    };
    answer.model = body["model"].as_str().unwrap_or_default().to_owned();
    answer.usage = usage(&body["usage"]);
    answer.whole = whole;
    answer
}

fn nothing() -> Answer {
    let usage = Usage { input: 0, cached: 0, output: 0, reasoning: 0 };
    Answer {
        model: String::new(),
        text: None,
        tools: Vec::new(),
        finish: FinishReason::Other,
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
fn usage(usage: &Value) -> Usage {
    let first = |names: [&str; 2]| {
        let found = names.iter().find_map(|pointer| usage.pointer(pointer)?.as_i64());
        found.unwrap_or(0).max(0)
    };
    Usage {
        input: first(["/prompt_tokens", "/input_tokens"]),
        cached: first(["/prompt_tokens_details/cached_tokens", "/input_tokens_details/cached_tokens"]),
        output: first(["/completion_tokens", "/output_tokens"]),
        reasoning: first([
            "/completion_tokens_details/reasoning_tokens",
            "/output_tokens_details/reasoning_tokens",
        ]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
    fn nonsense_is_not_whole() {
        for bytes in [&b""[..], b"{\"choices\":", b"<html>", &[255, 254]] {
            assert!(!read(Endpoint::Chat, bytes).whole);
        }
    }
}
