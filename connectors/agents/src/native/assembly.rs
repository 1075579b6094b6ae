//! A streamed answer put together again, so that what is recorded does not depend on how it came.

use serde_json::{Map, Value, json};

use super::calls::ModelFailure;
use super::model::malformed;

/// What has come of a stream so far.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    /// How many bytes have been read.
    read: usize,
    done: bool,
    head: Map<String, Value>,
    text: String,
    tool_calls: Vec<ToolCall>,
    finish: Value,
    usage: Value,
}

#[derive(Debug, Default)]
struct ToolCall {
    id: String,
    name: String,
    arguments: String,
}

/// More calls than any answer has; an index beyond would only be a way to fill the memory.
const MOST_CALLS: usize = 128;

impl Assembly {
    /// Reads on in all that has come, and returns the text that is new.
    pub(super) fn take(&mut self, all: &[u8]) -> Result<String, ModelFailure> {
        let before = self.text.len();
        // Only whole lines: a chunk may end in the middle of a letter.
        while let Some(length) = all[self.read..].iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&all[self.read..self.read + length]).into_owned();
            self.read += length + 1;
            self.line(line.trim_end())?;
        }
        Ok(self.text[before..].to_owned())
    }

    fn line(&mut self, line: &str) -> Result<(), ModelFailure> {
        let Some(data) = line.strip_prefix("data:").map(str::trim) else { return Ok(()) };
        if data == "[DONE]" {
            self.done = true;
            return Ok(());
        }
        let limits = &omium_limits::Limits::BYTES;
        let chunk: Value = omium_limits::json::parse(data.as_bytes(), limits).map_err(|why| {
            malformed(200, format!("a part of the model's answer is not whole JSON: {why}"))
        })?;
        if let Some(message) = chunk["error"]["message"].as_str() {
            return Err(malformed(200, format!("the model broke off: {message}")));
        }
        self.chunk(&chunk);
        Ok(())
    }

    fn chunk(&mut self, chunk: &Value) {
        for key in ["id", "created", "model"] {
            if let Some(value) = chunk.get(key) {
                self.head.entry(key).or_insert_with(|| value.clone());
            }
        }
        if chunk["usage"].is_object() {
            self.usage = chunk["usage"].clone();
        }
        let choice = &chunk["choices"][0];
        if !choice["finish_reason"].is_null() {
            self.finish = choice["finish_reason"].clone();
        }
        self.text.push_str(choice["delta"]["content"].as_str().unwrap_or_default());
        for part in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
            self.tool_call(part);
        }
    }

    fn tool_call(&mut self, part: &Value) {
        let at = part["index"].as_u64().unwrap_or(0) as usize;
        if at >= MOST_CALLS {
            return;
        }
        if self.tool_calls.len() <= at {
            self.tool_calls.resize_with(at + 1, ToolCall::default);
        }
        let call = &mut self.tool_calls[at];
        let mut add = |to: fn(&mut ToolCall) -> &mut String, text: &Value| {
            to(call).push_str(text.as_str().unwrap_or_default());
        };
        add(|call| &mut call.id, &part["id"]);
        add(|call| &mut call.name, &part["function"]["name"]);
        add(|call| &mut call.arguments, &part["function"]["arguments"]);
    }

    /// The answer as it would have come in one piece.
    pub(super) fn whole(self) -> Result<Vec<u8>, ModelFailure> {
        if !self.done && self.finish.is_null() {
            return Err(malformed(200, "the model's answer ended in the middle".to_owned()));
        }
        let mut message = json!({"role": "assistant", "content": self.text});
        if !self.tool_calls.is_empty() {
            message["tool_calls"] = self.tool_calls.into_iter().map(ToolCall::json).collect();
        }
        let mut answer = Value::Object(self.head);
        answer["object"] = "chat.completion".into();
        answer["choices"] = json!([{"index": 0, "message": message, "finish_reason": self.finish}]);
        answer["usage"] = self.usage;
        Ok(answer.to_string().into_bytes())
    }
}

impl ToolCall {
    fn json(self) -> Value {
        let function = json!({"name": self.name, "arguments": self.arguments});
        json!({"id": self.id, "type": "function", "function": function})
    }
}
