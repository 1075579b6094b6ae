//! What a request asks, as far as rules look at it.

use axum::http::HeaderMap;
use serde_json::Value;

use super::script::When;

/// One request.
#[derive(Clone, Debug, Default)]
pub(super) struct Question {
    pub(super) model: String,
    pub(super) system: String,
    pub(super) last_user: String,
    pub(super) step: String,
    pub(super) tool_result: bool,
    pub(super) schema: Option<Value>,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    /// Words of all that was said, for usage.
    pub(super) words: u64,
}

impl Question {
    /// Of a chat completion, a completion or a response: they differ in where the texts stand.
    pub(super) fn of(body: &Value, headers: &HeaderMap) -> Question {
        let messages = messages(body);
        let said = |role: &str| {
            messages
                .iter()
                .filter(|(known, _)| known == role)
                .map(|(_, text)| text.as_str())
                .collect::<Vec<_>>()
        };
        let last_user_at = messages.iter().rposition(|(role, _)| role == "user");
        let after_user = &messages[last_user_at.unwrap_or(0)..];
        Question {
            model: body["model"].as_str().unwrap_or_default().to_owned(),
            system: [said("system"), said("developer")].concat().join("\n"),
            last_user: said("user").last().copied().unwrap_or_default().to_owned(),
            step: headers.get("x-omium-step").map(|value| unescape(value.as_bytes())).unwrap_or_default(),
            tool_result: after_user.iter().any(|(role, _)| role == "tool"),
            schema: schema(body),
            stream: body["stream"] == true,
            include_usage: body["stream_options"]["include_usage"] == true,
            words: messages.iter().map(|(_, text)| words(text)).sum(),
        }
    }

    /// Whether everything holds that a rule names, but for how often it did.
    pub(super) fn fits(&self, when: &When) -> bool {
        let within = |wanted: &Option<String>, text: &str| {
            wanted.as_ref().is_none_or(|wanted| text.to_lowercase().contains(&wanted.to_lowercase()))
        };
        when.model.as_ref().is_none_or(|model| *model == self.model)
            && within(&when.system, &self.system)
            && within(&when.user, &self.last_user)
            && when.user_matches.as_ref().is_none_or(|regex| regex.is_match(&self.last_user))
            && when.step.as_ref().is_none_or(|step| self.is_step(step))
            && when.tool_result.is_none_or(|wanted| wanted == self.tool_result)
    }

    // `writer` means every call of the agent, `writer#2` its third.
    fn is_step(&self, wanted: &str) -> bool {
        self.step == wanted || self.step.split('#').next() == Some(wanted)
    }
}

/// Roles and texts, in their order.
fn messages(body: &Value) -> Vec<(String, String)> {
    if let Some(prompt) = body.get("prompt") {
        return vec![("user".to_owned(), text_of(prompt))];
    }
    let mut all = Vec::new();
    if let Some(instructions) = body["instructions"].as_str() {
        all.push(("system".to_owned(), instructions.to_owned()));
    }
    match body.get("messages").or_else(|| body.get("input")) {
        Some(Value::Array(items)) => all.extend(items.iter().map(|item| {
            let output = item["type"] == "function_call_output";
            let role = if output { "tool" } else { item["role"].as_str().unwrap_or("user") };
            (
                role.to_owned(),
                text_of(item.get("content").or_else(|| item.get("output")).unwrap_or(&Value::Null)),
            )
        })),
        Some(Value::String(text)) => all.push(("user".to_owned(), text.clone())),
        _ => {}
    }
    all
}

/// A text, or the texts of a list of parts.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts
            .iter()
            .filter_map(|part| part.as_str().or_else(|| part["text"].as_str()))
            .collect::<Vec<_>>()
            .join("\n"),
        _ => String::new(),
    }
}

fn schema(body: &Value) -> Option<Value> {
    let chat = &body["response_format"];
    let response = &body["text"]["format"];
    match (chat["type"].as_str(), response["type"].as_str()) {
        (Some("json_schema"), _) => chat["json_schema"].get("schema").cloned(),
        (_, Some("json_schema")) => response.get("schema").cloned(),
        _ => None,
    }
}

pub(super) fn words(text: &str) -> u64 {
    text.split_whitespace().count() as u64
}

/// Percent-encoding undone; what is not valid stays as it is.
fn unescape(bytes: &[u8]) -> String {
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if bytes[at] == b'%' => {
                plain.push(byte);
                at += 3;
            }
            _ => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}
