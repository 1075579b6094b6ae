//! The forms in which an answer is written: chat completion, completion, response; and embeddings.

use omium_schemas::Digest;
use serde_json::{Value, json};

use super::answer::Said;
use super::question::{Question, words};

/// Which of OpenAI's interfaces is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Chat,
    Completion,
    Response,
}

impl Form {
    pub(super) fn path(self) -> &'static str {
        match self {
            Form::Chat => "/chat/completions",
            Form::Completion => "/completions",
            Form::Response => "/responses",
        }
    }

    /// The answer as one JSON.
    pub(super) fn plain(self, question: &Question, said: &Said) -> Value {
        let model = &question.model;
        match self {
            Form::Chat => json!({
                "id": "chatcmpl-script", "object": "chat.completion", "created": 0, "model": model,
                "choices": [{"index": 0, "message": message(said), "logprobs": null, "finish_reason": said.finish}],
                "usage": usage(said),
            }),
            Form::Completion => json!({
                "id": "cmpl-script", "object": "text_completion", "created": 0, "model": model,
                "choices": [{"index": 0, "text": text(said), "logprobs": null, "finish_reason": said.finish}],
                "usage": usage(said),
            }),
            Form::Response => response(model, said, "completed"),
        }
    }

    /// The answer as server-sent events.
    pub(super) fn stream(self, question: &Question, said: &Said) -> Vec<String> {
        match self {
            Form::Chat => chat_stream(question, said),
            Form::Completion => completion_stream(question, said),
            Form::Response => response_stream(question, said),
        }
    }
}

fn text(said: &Said) -> &str {
    said.text.as_deref().unwrap_or_default()
}

/// How many parts an answer comes in at most: each of them is an event that is much longer than a word.
const MOST_PIECES: usize = 5_000;

/// A text word by word, or, where it is long, in as many pieces.
fn pieces(text: &str) -> Vec<&str> {
    let between = |letter: char| matches!(letter, ',' | ' ');
    if text.chars().filter(|letter| between(*letter)).count() < MOST_PIECES {
        return text.split_inclusive(between).collect();
    }
    let (length, mut rest, mut pieces) = (text.len() / MOST_PIECES, text, Vec::new());
    while rest.len() > length + 4 {
        let (piece, after) = rest.split_at(rest.ceil_char_boundary(length));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    pieces
}

fn message(said: &Said) -> Value {
    let mut message = json!({"role": "assistant", "content": said.text, "refusal": null});
    if said.tool_calls.is_empty() {
        message["content"] = text(said).into();
    } else {
        message["tool_calls"] =
            said.tool_calls.iter().enumerate().map(|(index, call)| tool_call(index, call)).collect();
    }
    message
}

fn tool_call(index: usize, (name, arguments): &(String, String)) -> Value {
    json!({"id": format!("call_{}", index + 1), "type": "function", "function": {"name": name, "arguments": arguments}})
}

fn usage(said: &Said) -> Value {
    json!({
        "prompt_tokens": said.input_tokens,
        "completion_tokens": said.output_tokens,
        "total_tokens": said.input_tokens + said.output_tokens,
    })
}

fn data(value: &Value) -> String {
    format!("data: {value}\n\n")
}

fn chat_stream(question: &Question, said: &Said) -> Vec<String> {
    let chunk = |delta: Value, finish: Value| {
        data(&json!({
            "id": "chatcmpl-script", "object": "chat.completion.chunk", "created": 0, "model": question.model,
            "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}],
        }))
    };
    let mut events = vec![chunk(json!({"role": "assistant", "content": ""}), Value::Null)];
    for word in pieces(text(said)) {
        events.push(chunk(json!({"content": word}), Value::Null));
    }
    for (index, (name, arguments)) in said.tool_calls.iter().enumerate() {
        let id = format!("call_{}", index + 1);
        let function = json!({"name": name, "arguments": ""});
        let first =
            json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": function}]});
        events.push(chunk(first, Value::Null));
        for part in pieces(arguments) {
            let part = json!({"tool_calls": [{"index": index, "function": {"arguments": part}}]});
            events.push(chunk(part, Value::Null));
        }
    }
    events.push(chunk(json!({}), said.finish.clone().into()));
    if question.include_usage {
        events.push(data(&json!({
            "id": "chatcmpl-script", "object": "chat.completion.chunk", "created": 0, "model": question.model,
            "choices": [], "usage": usage(said),
        })));
    }
    events.push("data: [DONE]\n\n".to_owned());
    events
}

fn completion_stream(question: &Question, said: &Said) -> Vec<String> {
    let chunk = |text: &str, finish: Value| {
        data(&json!({
            "id": "cmpl-script", "object": "text_completion", "created": 0, "model": question.model,
            "choices": [{"index": 0, "text": text, "logprobs": null, "finish_reason": finish}],
        }))
    };
    let mut events: Vec<String> =
        pieces(text(said)).into_iter().map(|word| chunk(word, Value::Null)).collect();
    events.push(chunk("", said.finish.clone().into()));
    events.push("data: [DONE]\n\n".to_owned());
    events
}

fn response(model: &str, said: &Said, status: &str) -> Value {
    let mut output: Vec<Value> = said
        .tool_calls
        .iter()
        .enumerate()
        .map(|(index, (name, arguments))| {
            let id = format!("call_{}", index + 1);
            json!({"type": "function_call", "id": id, "call_id": id, "name": name, "arguments": arguments})
        })
        .collect();
    if output.is_empty() {
        let content = json!([{"type": "output_text", "text": text(said), "annotations": []}]);
        let message = json!({
            "type": "message", "id": "msg-script", "role": "assistant", "status": status, "content": content,
        });
        output.push(message);
    }
    json!({
        "id": "resp-script", "object": "response", "created_at": 0, "status": status, "model": model,
        "output": output, "parallel_tool_calls": true, "tool_choice": "auto", "tools": [],
        "usage": {
            "input_tokens": said.input_tokens,
            "output_tokens": said.output_tokens,
            "total_tokens": said.input_tokens + said.output_tokens,
        },
    })
}

/// Clients build the answer up from its parts, so each is announced before text comes into it.
fn response_stream(question: &Question, said: &Said) -> Vec<String> {
    let mut events: Vec<String> = Vec::new();
    let mut event = |kind: &str, mut body: Value| {
        body["type"] = kind.into();
        body["sequence_number"] = events.len().into();
        events.push(format!("event: {kind}\n{}", data(&body)));
    };
    let whole = response(&question.model, said, "completed");
    let mut begun = whole.clone();
    (begun["status"], begun["output"], begun["usage"]) = ("in_progress".into(), json!([]), Value::Null);
    event("response.created", json!({"response": begun}));
    for (index, item) in whole["output"].as_array().into_iter().flatten().enumerate() {
        let mut empty = item.clone();
        empty["status"] = "in_progress".into();
        let (place, key) = match item.get("content") {
            Some(_) => (json!({"item_id": item["id"], "output_index": index, "content_index": 0}), "content"),
            None => (json!({"item_id": item["id"], "output_index": index}), "arguments"),
        };
        empty[key] = if key == "content" { json!([]) } else { "".into() };
        event("response.output_item.added", json!({"output_index": index, "item": empty}));
        let with = |more: &[(&str, Value)]| {
            let mut body = place.clone();
            more.iter().for_each(|(key, value)| body[*key] = value.clone());
            body
        };
        if key == "content" {
            let part = json!({"type": "output_text", "text": "", "annotations": []});
            event("response.content_part.added", with(&[("part", part)]));
            for word in pieces(text(said)) {
                event("response.output_text.delta", with(&[("delta", word.into()), ("logprobs", json!([]))]));
            }
            event("response.output_text.done", with(&[("text", text(said).into()), ("logprobs", json!([]))]));
            event("response.content_part.done", with(&[("part", item["content"][0].clone())]));
        } else {
            event("response.function_call_arguments.delta", with(&[("delta", item["arguments"].clone())]));
            let done = with(&[("arguments", item["arguments"].clone()), ("name", item["name"].clone())]);
            event("response.function_call_arguments.done", done);
        }
        event("response.output_item.done", json!({"output_index": index, "item": item}));
    }
    event("response.completed", json!({"response": whole}));
    events
}

/// One vector per text, the same for the same text, of length one.
///
/// Nothing where it would be too much: many texts, of many numbers each.
pub(super) fn embeddings(request: &Value) -> Option<Value> {
    let texts: Vec<String> = match &request["input"] {
        Value::Array(items) => {
            items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned)).collect()
        }
        Value::String(text) => vec![text.clone()],
        other => vec![other.to_string()],
    };
    let dimensions = request["dimensions"].as_u64().unwrap_or(64).clamp(1, 4096) as usize;
    let length: usize = texts.iter().map(String::len).sum();
    if texts.len() * dimensions > MOST_NUMBERS || length.saturating_mul(dimensions) > MOST_HASHED {
        return None;
    }
    let data: Vec<Value> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| json!({"object": "embedding", "index": index, "embedding": vector(text, dimensions)}))
        .collect();
    let tokens: u64 = texts.iter().map(|text| words(text)).sum();
    Some(json!({
        "object": "list", "data": data, "model": request["model"],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }))
}

/// How many numbers all vectors of an answer may have, and how much work hashing their texts may be.
const MOST_NUMBERS: usize = 1_000_000;
const MOST_HASHED: usize = 1 << 32;

fn vector(text: &str, dimensions: usize) -> Vec<f64> {
    let raw: Vec<f64> = (0..dimensions.div_ceil(32))
        .flat_map(|round| Digest::of(format!("{round} {text}").as_bytes()).0)
        .map(|byte| f64::from(byte) - 127.5)
        .take(dimensions)
        .collect();
    let length = raw.iter().map(|value| value * value).sum::<f64>().sqrt();
    raw.into_iter().map(|value| value / length).collect()
}
