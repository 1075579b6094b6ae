//! Answers in parts: server-sent events, cut where they end and otherwise left as they are.

use serde_json::Value;

/// Cuts a stream of bytes into events.
#[derive(Clone, Debug, Default)]
pub struct Events {
    rest: Vec<u8>,
}

/// One event as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its bytes, with the empty line at its end.
    pub raw: Vec<u8>,
    /// What its `data` lines say.
    pub data: String,
}

impl Events {
    /// Takes more bytes and gives the events that are whole by now.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Event> {
        self.rest.extend_from_slice(bytes);
        let mut events = Vec::new();
        let mut from = 0;
        while let Some(length) = end_of_event(&self.rest[from..]) {
            let raw = self.rest[from..from + length].to_vec();
            from += length;
            events.push(Event { data: data(&raw), raw });
        }
        self.rest.drain(..from);
        events
    }

    /// What came after the last whole event.
    pub fn rest(&self) -> &[u8] {
        &self.rest
    }

    /// The events of a whole answer; one that is cut in its middle is left out.
    pub fn all(bytes: &[u8]) -> Vec<Event> {
        Events::default().push(bytes)
    }
}

impl Event {
    /// Whether it says that no more will come.
    pub fn is_done(&self) -> bool {
        self.data.trim() == "[DONE]"
    }

    /// What it says, where that is JSON.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_str(&self.data).ok()
    }

    /// Whether it only tells what was used, as streams do at their end when they are asked to.
    pub fn is_usage_alone(&self) -> bool {
        self.json().is_some_and(|chunk| {
            chunk["usage"].is_object() && chunk["choices"].as_array().is_some_and(Vec::is_empty)
        })
    }

    /// Whether something ends with it: the reason to stop, or what comes after that.
    pub fn is_last(&self) -> bool {
        if self.is_done() {
            return true;
        }
        let Some(chunk) = self.json() else { return false };
        let ends = |choice: &Value| !choice["finish_reason"].is_null();
        chunk["choices"].as_array().is_some_and(|choices| choices.is_empty() || choices.iter().any(ends))
            || matches!(
                chunk["type"].as_str(),
                Some("response.completed" | "response.incomplete" | "response.failed")
            )
    }
}

/// A whole stream without the part that only tells what was used: for a client that did not ask for it.
pub fn without_usage(bytes: &[u8]) -> Vec<u8> {
    let mut events = Events::default();
    let mut kept: Vec<u8> = events
        .push(bytes)
        .into_iter()
        .filter(|event| !event.is_usage_alone())
        .flat_map(|event| event.raw)
        .collect();
    kept.extend_from_slice(events.rest());
    kept
}

/// The length of the first event, its empty line included.
fn end_of_event(bytes: &[u8]) -> Option<usize> {
    let mut line_is_empty = true;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\n' if line_is_empty && at > 0 => return Some(at + 1),
            b'\n' => line_is_empty = true,
            b'\r' => {}
            _ => line_is_empty = false,
        }
        at += 1;
    }
    None
}

fn data(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw);
    let lines = text.lines().filter_map(|line| line.strip_prefix("data:"));
    lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_cut_where_they_end_however_the_bytes_arrive() {
        let stream = b"data: {\"a\":1}\n\n: alive\n\ndata: x\r\ndata: y\r\n\r\ndata: [DONE]\n\ndata: cut";
        let whole = Events::all(stream);
        let said: Vec<&str> = whole.iter().map(|event| event.data.as_str()).collect();
        assert_eq!(said, ["{\"a\":1}", "", "x\ny", "[DONE]"]);
        let mut events = Events::default();
        let byte_by_byte: Vec<Event> = stream.iter().flat_map(|byte| events.push(&[*byte])).collect();
        assert_eq!(byte_by_byte, whole);
        assert_eq!(events.rest(), b"data: cut");
        assert_eq!(
            whole.iter().flat_map(|event| event.raw.clone()).collect::<Vec<u8>>(),
            stream[..stream.len() - 9]
        );
    }

    #[test]
    fn the_part_about_usage_alone_is_taken_out_and_no_other() {
        let stream = "data: {\"choices\":[{\"delta\":{}}],\"usage\":null}\n\ndata: {\"choices\":[],\"usage\":{\"a\":1}}\n\ndata: [DONE]\n\n";
        let kept = without_usage(stream.as_bytes());
        assert_eq!(
            String::from_utf8(kept).unwrap(),
            "data: {\"choices\":[{\"delta\":{}}],\"usage\":null}\n\ndata: [DONE]\n\n"
        );
    }
}
