//! The two forms of an answer: a body, or events. A recorded answer is given in the form that is asked for now.

use serde_json::{Map, Value, json};

use crate::{Endpoint, Events};

/// Events put together to a body; nothing where they are none, or have no such form.
pub fn as_body(endpoint: Endpoint, events: &[u8]) -> Option<Vec<u8>> {
    let chunks: Vec<Value> = Events::all(events).iter().filter_map(|event| event.json()).collect();
    let body = match endpoint {
        Endpoint::Chat => whole_chat(&chunks)?,
        Endpoint::Completions => whole_text(&chunks)?,
        Endpoint::Responses => {
            chunks.iter().rev().find(|chunk| chunk["response"]["output"].is_array())?["response"].clone()
        }
        Endpoint::Embeddings => return None,
    };
    Some(body.to_string().into_bytes())
}

/// A body cut into events; nothing where it is none, or has no such form.
pub fn as_events(endpoint: Endpoint, body: &[u8], usage: bool) -> Option<Vec<u8>> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let mut out = Vec::new();
    match endpoint {
        Endpoint::Chat | Endpoint::Completions => {
            for chunk in chunks_of(endpoint, &body, usage) {
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

fn chunks_of(endpoint: Endpoint, body: &Value, usage: bool) -> Vec<Value> {
    let chat = endpoint == Endpoint::Chat;
    let mut head = body.clone();
    if let Some(fields) = head.as_object_mut() {
        fields.remove("usage");
        if chat {
            fields.insert("object".into(), "chat.completion.chunk".into());
        }
    }
    let mut chunks = Vec::new();
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
    chunks
}

/// In parts, tool calls say which of them they belong to.
fn numbered(mut message: Value) -> Value {
    for (at, call) in message["tool_calls"].as_array_mut().into_iter().flatten().enumerate() {
        call["index"] = at.into();
    }
    if message["tool_calls"].is_null()
        && let Some(fields) = message.as_object_mut()
    {
        fields.remove("tool_calls");
    }
    message
}

fn whole_chat(chunks: &[Value]) -> Option<Value> {
    let mut body = head(chunks, "chat.completion")?;
    let mut choices: Vec<Value> = Vec::new();
    for part in chunks.iter().filter_map(|chunk| chunk["choices"].as_array()).flatten() {
        let choice = choice(&mut choices, part);
        let delta = &part["delta"];
        for field in ["content", "refusal", "reasoning_content"] {
            append(&mut choice["message"], field, &delta[field]);
        }
        if let Some(role) = delta["role"].as_str() {
            choice["message"]["role"] = role.into();
        }
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            add_call(&mut choice["message"], call);
        }
        if !part["finish_reason"].is_null() {
            choice["finish_reason"] = part["finish_reason"].clone();
        }
    }
    body["choices"] = choices.into();
    Some(body)
}

fn whole_text(chunks: &[Value]) -> Option<Value> {
    let mut body = head(chunks, "text_completion")?;
    let mut choices: Vec<Value> = Vec::new();
    for part in chunks.iter().filter_map(|chunk| chunk["choices"].as_array()).flatten() {
        let choice = choice(&mut choices, part);
        append(choice, "text", &part["text"]);
        if !part["finish_reason"].is_null() {
            choice["finish_reason"] = part["finish_reason"].clone();
        }
    }
    body["choices"] = choices.into();
    Some(body)
}

/// What all parts say alike, and what the last one says about usage.
fn head(chunks: &[Value], object: &str) -> Option<Value> {
    let first = chunks.iter().find(|chunk| chunk["choices"].is_array())?;
    let mut fields: Map<String, Value> = first.as_object()?.clone();
    fields.insert("object".into(), object.into());
    let usage = chunks.iter().rev().find(|chunk| chunk["usage"].is_object());
    fields.insert("usage".into(), usage.map_or(Value::Null, |chunk| chunk["usage"].clone()));
    Some(fields.into())
}

/// The choice that a part belongs to.
fn choice<'a>(choices: &'a mut Vec<Value>, part: &Value) -> &'a mut Value {
    let index = part["index"].as_u64().unwrap_or(0);
    let at = choices.iter().position(|choice| choice["index"] == index).unwrap_or_else(|| {
        choices.push(json!({ "index": index, "finish_reason": null }));
        choices.len() - 1
    });
    &mut choices[at]
}

fn append(to: &mut Value, field: &str, more: &Value) {
    if let Some(more) = more.as_str() {
        let before = to[field].as_str().unwrap_or_default();
        to[field] = format!("{before}{more}").into();
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
    fn a_part_that_claims_to_be_far_away_costs_nothing() {
        let stream = "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":4000000000,\"id\":\"c\"}]}}]}\n\n";
        let body = as_body(Endpoint::Chat, stream.as_bytes()).unwrap();
        assert!(body.len() < 300);
    }
}
