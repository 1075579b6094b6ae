//! The two forms of an answer: a body, or events. A recorded answer is given in the form that is asked for now.

use std::collections::BTreeMap;

use omium_limits::json;
use serde_json::{Map, Value, json};

use crate::answer::LIMITS;
use crate::events::Event;
use crate::{Endpoint, Events};

/// Events put together to a body; nothing where they are none, or have no such form.
pub fn as_body(endpoint: Endpoint, events: &[u8]) -> Option<Vec<u8>> {
    whole(endpoint, &Events::all(events)).map(|body| body.to_string().into_bytes())
}

/// Events put together; each of them is built alone and dropped again.
pub(crate) fn whole(endpoint: Endpoint, events: &[Event]) -> Option<Value> {
    let mut parts = Parts::default();
    let mut last = None;
    for mut chunk in events.iter().filter_map(Event::json) {
        match endpoint {
            Endpoint::Chat | Endpoint::Completions => parts.take(endpoint, chunk),
            Endpoint::Responses if chunk["response"]["output"].is_array() => {
                last = Some(chunk["response"].take())
            }
            Endpoint::Responses | Endpoint::Embeddings => {}
        }
    }
    match endpoint {
        Endpoint::Chat => parts.end("chat.completion"),
        Endpoint::Completions => parts.end("text_completion"),
        Endpoint::Responses => last,
        Endpoint::Embeddings => None,
    }
}

/// A body cut into events; nothing where it is none, or has no such form.
pub fn as_events(endpoint: Endpoint, body: &[u8], usage: bool) -> Option<Vec<u8>> {
    let body: Value = json::parse(body, &LIMITS).ok()?;
    let mut out = Vec::new();
    match endpoint {
        Endpoint::Chat | Endpoint::Completions => {
            for chunk in chunks_of(endpoint, &body, usage)? {
                out.extend(format!("data: {chunk}\n\n").into_bytes());
            }
            out.extend_from_slice(b"data: [DONE]\n\n");
        }
        Endpoint::Responses => {
            for (number, kind) in ["response.created", "response.completed"].into_iter().enumerate() {
                let event = json!({ "type": kind, "sequence_number": number, "response": body });
                out.extend(format!("event: {kind}\ndata: {event}\n\n").into_bytes());
            }
        }
        Endpoint::Embeddings => return None,
    }
    Some(out)
}

/// How long what all parts repeat may get together.
const MOST: usize = 64 << 20;

fn chunks_of(endpoint: Endpoint, body: &Value, usage: bool) -> Option<Vec<Value>> {
    let chat = endpoint == Endpoint::Chat;
    // Without the choices: each part repeats what is left.
    let own = |name: &&String| !matches!(name.as_str(), "choices" | "usage");
    let fields = body.as_object().into_iter().flatten().filter(|(name, _)| own(name));
    let mut head: Value =
        fields.map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>().into();
    if let (true, Some(fields)) = (chat, head.as_object_mut()) {
        fields.insert("object".into(), "chat.completion.chunk".into());
    }
    let mut chunks = Vec::new();
    let choices = body["choices"].as_array().map_or(0, Vec::len).max(1);
    omium_limits::json::written_within(&head, MOST / choices)?;
    for choice in body["choices"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let mut part = choice.clone();
        if let (true, Some(fields)) = (chat, part.as_object_mut()) {
            let message = fields.remove("message").unwrap_or_default();
            fields.insert("delta".into(), numbered(message));
        }
        let mut chunk = head.clone();
        chunk["choices"] = json!([part]);
        chunks.push(chunk);
    }
    if usage && body["usage"].is_object() {
        head["choices"] = json!([]);
        head["usage"] = body["usage"].clone();
        chunks.push(head);
    }
    Some(chunks)
}

/// In parts, tool calls say which of them they belong to.
fn numbered(mut message: Value) -> Value {
    // A model's server may say anything: what is no message stays what it is.
    let Some(fields) = message.as_object_mut() else { return message };
    match fields.get_mut("tool_calls") {
        Some(Value::Array(calls)) => {
            for (at, call) in calls.iter_mut().enumerate().filter(|(_, call)| call.is_object()) {
                call["index"] = at.into();
            }
        }
        Some(Value::Null) => {
            fields.remove("tool_calls");
        }
        _ => {}
    }
    message
}

/// An answer that is put together from its parts.
#[derive(Default)]
struct Parts {
    /// What all parts say alike, as the first of them says it.
    head: Option<Map<String, Value>>,
    usage: Value,
    choices: Vec<Value>,
    /// Where the choice of a number stands.
    places: BTreeMap<u64, usize>,
}

impl Parts {
    fn take(&mut self, endpoint: Endpoint, mut chunk: Value) {
        if !chunk.is_object() {
            return;
        }
        if chunk["usage"].is_object() {
            self.usage = chunk["usage"].take();
        }
        let Value::Array(parts) = chunk["choices"].take() else { return };
        if let (None, Value::Object(fields)) = (&self.head, chunk) {
            self.head = Some(fields);
        }
        for part in &parts {
            let choice = self.choice(part);
            match endpoint {
                Endpoint::Chat => add_delta(choice, &part["delta"]),
                _ => append(choice, "text", &part["text"]),
            }
            if !part["finish_reason"].is_null() {
                choice["finish_reason"] = part["finish_reason"].clone();
            }
        }
    }

    /// The choice that a part belongs to.
    fn choice(&mut self, part: &Value) -> &mut Value {
        let index = part["index"].as_u64().unwrap_or(0);
        let choices = &mut self.choices;
        let at = *self.places.entry(index).or_insert_with(|| {
            choices.push(json!({ "index": index, "finish_reason": null }));
            choices.len() - 1
        });
        &mut choices[at]
    }

    fn end(self, object: &str) -> Option<Value> {
        let mut fields = self.head?;
        fields.insert("object".into(), object.into());
        fields.insert("usage".into(), self.usage);
        fields.insert("choices".into(), self.choices.into());
        Some(fields.into())
    }
}

fn add_delta(choice: &mut Value, delta: &Value) {
    for field in ["content", "refusal", "reasoning_content"] {
        append(&mut choice["message"], field, &delta[field]);
    }
    if let Some(role) = delta["role"].as_str() {
        choice["message"]["role"] = role.into();
    }
    for call in delta["tool_calls"].as_array().into_iter().flatten() {
        add_call(&mut choice["message"], call);
    }
}

fn append(to: &mut Value, field: &str, more: &Value) {
    let Some(more) = more.as_str() else { return };
    match &mut to[field] {
        // Grown where it stands: a text of many parts costs its length.
        Value::String(text) => text.push_str(more),
        other => *other = more.into(),
    }
}

fn add_call(message: &mut Value, part: &Value) {
    if !message["tool_calls"].is_array() {
        message["tool_calls"] = json!([]);
    }
    let index = part["index"].as_u64().unwrap_or(0) as usize;
    let Some(calls) = message["tool_calls"].as_array_mut() else { return };
    // A number far beyond what there is would make room for nothing but memory.
    if index > calls.len() {
        return;
    }
    if index == calls.len() {
        calls.push(json!({ "id": null, "type": "function", "function": { "name": "", "arguments": "" } }));
    }
    let call = &mut calls[index];
    if let Some(id) = part["id"].as_str() {
        call["id"] = id.into();
    }
    append(&mut call["function"], "name", &part["function"]["name"]);
    append(&mut call["function"], "arguments", &part["function"]["arguments"]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_survives_the_way_through_events() {
        let body = json!({"id": "x", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi", "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}, "finish_reason": "tool_calls"}],
            "usage": {"prompt_tokens": 1}});
        let events = as_events(Endpoint::Chat, body.to_string().as_bytes(), true).unwrap();
        let back = as_body(Endpoint::Chat, &events).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&back).unwrap(), body);
    }

    #[test]
    fn usage_is_told_only_to_those_who_ask() {
        let body =
            json!({"choices": [{"index": 0, "message": {"content": "hi"}}], "usage": {"prompt_tokens": 1}});
        let events = as_events(Endpoint::Chat, body.to_string().as_bytes(), false).unwrap();
        assert!(!String::from_utf8(events).unwrap().contains("prompt_tokens"));
    }

    #[test]
    fn many_parts_and_many_choices_cost_their_length() {
        let part = |index: usize| {
            format!("data: {{\"choices\":[{{\"index\":{index},\"delta\":{{\"content\":\"abc\"}}}}]}}\n\n")
        };
        let parts: String = (0..20_000).map(|_| part(0)).chain((0..20_000).map(part)).collect();
        let body = as_body(Endpoint::Chat, parts.as_bytes()).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["choices"].as_array().map(Vec::len), Some(20_000));
        assert_eq!(body["choices"][0]["message"]["content"].as_str().map(str::len), Some(20_001 * 3));
        let events = as_events(Endpoint::Chat, body.to_string().as_bytes(), true).unwrap();
        assert!(events.len() < 200 * 20_000 + 100_000);
        let mut repeated = body;
        repeated["note"] = "x".repeat(1 << 20).into();
        assert!(as_events(Endpoint::Chat, repeated.to_string().as_bytes(), true).is_none());
    }

    #[test]
    fn what_has_another_form_than_it_should_is_passed_over() {
        for message in ["1", "\"x\"", "[]", "null", "{\"tool_calls\":[1]}", "{\"tool_calls\":{}}"] {
            let body = format!("{{\"choices\":[{{\"message\":{message}}}, 1, []]}}");
            assert!(as_events(Endpoint::Chat, body.as_bytes(), true).is_some());
        }
        for body in ["1", "[]", "null", "{\"choices\":1}", "{\"choices\":[1]}"] {
            for endpoint in Endpoint::ALL {
                let _ = as_events(endpoint, body.as_bytes(), true);
                let chunk = format!(
                    "data: {body}\n\ndata: {{\"choices\":[{body},{{\"delta\":{body}}},{{\"delta\":{{\"tool_calls\":[{body}],\"content\":{body}}}}}]}}\n\n"
                );
                let _ = as_body(endpoint, chunk.as_bytes());
                let _ = crate::read(endpoint, body.as_bytes());
            }
        }
    }

    #[test]
    fn a_part_that_claims_to_be_far_away_costs_nothing() {
        let stream = "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":4000000000,\"id\":\"c\"}]}}]}\n\n";
        let body = as_body(Endpoint::Chat, stream.as_bytes()).unwrap();
        assert!(body.len() < 300);
    }
}
