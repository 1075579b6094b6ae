//! Changes of a request at named places; all else stays the bytes it is.

use serde_json::{Value, json};

use crate::place::{Kind, Place};
use crate::{Endpoint, Request};

/// Adds a text at the end of the last system or developer message, so that the provider's cache of what stands before
/// survives. A conversation without one gets one at its front. Nothing where the operation has no such place.
pub fn append_instruction(request: &Request<'_>, text: &str) -> Option<String> {
    match request.endpoint {
        Endpoint::Chat => in_messages(request, text),
        Endpoint::Responses => {
            Some(match request.place.get("instructions").filter(|place| place.kind == Kind::Text) {
                Some(place) => at_end_of_text(request.body, place, text),
                None => with_member(request, "instructions", &json!(text)),
            })
        }
        Endpoint::Completions | Endpoint::Embeddings => None,
    }
}

fn in_messages(request: &Request<'_>, text: &str) -> Option<String> {
    let body = request.body;
    let messages = request.place.get("messages")?;
    let Some(message) = messages.items().iter().rev().find(|message| request.instructs(message)) else {
        let Kind::Array(items) = &messages.kind else { return None };
        let comma = if items.is_empty() { "" } else { "," };
        let message = json!({ "role": "system", "content": text });
        return Some(inserted(body, messages.start + 1, &format!("{message}{comma}")));
    };
    let content = message.get("content")?;
    match &content.kind {
        Kind::Text => Some(at_end_of_text(body, content, text)),
        Kind::Array(parts) => {
            let comma = if parts.is_empty() { "" } else { "," };
            let part = json!({ "type": "text", "text": text });
            Some(inserted(body, content.end - 1, &format!("{comma}{part}")))
        }
        Kind::Object(_) | Kind::Other => None,
    }
}

fn at_end_of_text(body: &str, place: &Place, text: &str) -> String {
    let escaped = Value::from(format!("\n\n{text}")).to_string();
    inserted(body, place.end - 1, &escaped[1..escaped.len() - 1])
}

/// Has the provider hold the answer to a JSON Schema.
pub fn hold_to_schema(request: &Request<'_>, name: &str, schema: &Value) -> Option<String> {
    let format =
        json!({ "type": "json_schema", "json_schema": { "name": name, "schema": schema, "strict": true } });
    request.takes_schema().then(|| with_member(request, "response_format", &format))
}

/// Has the provider say at the end of a stream what was used, which it does not do unasked.
pub fn ask_for_usage(request: &Request<'_>) -> String {
    let asked = json!({ "include_usage": true });
    match request.place.get("stream_options") {
        Some(options) if options.is_object() => match options.get("include_usage") {
            Some(said) => replaced(request.body, said, "true"),
            None => {
                let comma = if matches!(&options.kind, Kind::Object(members) if members.is_empty()) {
                    ""
                } else {
                    ","
                };
                inserted(request.body, options.end - 1, &format!("{comma}\"include_usage\":true"))
            }
        },
        Some(other) => replaced(request.body, other, &asked.to_string()),
        None => with_member(request, "stream_options", &asked),
    }
}

fn with_member(request: &Request<'_>, name: &str, value: &Value) -> String {
    let empty = matches!(&request.place.kind, Kind::Object(members) if members.is_empty());
    let comma = if empty { "" } else { "," };
    inserted(request.body, request.place.end - 1, &format!("{comma}{}:{value}", Value::from(name)))
}

fn inserted(body: &str, at: usize, text: &str) -> String {
    format!("{}{text}{}", &body[..at], &body[at..])
}

fn replaced(body: &str, place: &Place, text: &str) -> String {
    format!("{}{text}{}", &body[..place.start], &body[place.end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(body: &str) -> Request<'_> {
        Request::read(Endpoint::Chat, body.as_bytes()).unwrap()
    }

    #[track_caller]
    fn appended(before: &str, after: &str) {
        assert_eq!(append_instruction(&chat(before), "Stay \"calm\".").unwrap(), after);
    }

    #[test]
    fn an_instruction_lands_at_the_end_of_the_last_system_message_and_nowhere_else() {
        appended(
            r#"{"seed":9007199254740993, "messages":[{"role":"system","content":"A"},{"role":"developer","content":"B"},{"role":"user","content":"C"}],"x":1.0}"#,
            r#"{"seed":9007199254740993, "messages":[{"role":"system","content":"A"},{"role":"developer","content":"B\n\nStay \"calm\"."},{"role":"user","content":"C"}],"x":1.0}"#,
        );
        appended(
            r#"{"messages":[{"content":[{"type":"text","text":"A"}],"role":"system"}]}"#,
            r#"{"messages":[{"content":[{"type":"text","text":"A"},{"text":"Stay \"calm\".","type":"text"}],"role":"system"}]}"#,
        );
        appended(
            r#"{"messages":[{"role":"user","content":"C"}]}"#,
            r#"{"messages":[{"content":"Stay \"calm\".","role":"system"},{"role":"user","content":"C"}]}"#,
        );
    }

    #[test]
    fn usage_is_asked_for_beside_whatever_stands_there() {
        assert_eq!(
            ask_for_usage(&chat(r#"{"stream":true}"#)),
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#
        );
        assert_eq!(
            ask_for_usage(&chat(r#"{"stream_options":{"a":1}}"#)),
            r#"{"stream_options":{"a":1,"include_usage":true}}"#
        );
        assert_eq!(
            ask_for_usage(&chat(r#"{"stream_options":{"include_usage":false}}"#)),
            r#"{"stream_options":{"include_usage":true}}"#
        );
        assert_eq!(
            ask_for_usage(&chat(r#"{"stream_options":null}"#)),
            r#"{"stream_options":{"include_usage":true}}"#
        );
    }

    #[test]
    fn a_schema_is_added_only_where_there_is_none() {
        let schema = json!({ "type": "object" });
        let with = hold_to_schema(&chat(r#"{"messages":[]}"#), "answer", &schema).unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&with).unwrap()["response_format"]["json_schema"]["schema"],
            schema
        );
        assert_eq!(hold_to_schema(&chat(r#"{"response_format":{"type":"text"}}"#), "answer", &schema), None);
    }
}
