//! Answers in parts: server-sent events, cut where they end and otherwise left as they are.

use omium_limits::{Limits, json};
use serde_json::Value;

/// How long one event may be. What is longer is cut here: its bytes go on, and nobody takes it for an event that was
/// understood.
pub(crate) const MAX_EVENT: usize = 16 << 20;

/// What an event may cost once it is built.
const LIMITS: Limits = Limits { bytes: MAX_EVENT, nodes: 2_000_000, memory: 128 << 20, ..Limits::BYTES };

/// Cuts a stream of bytes into events.
#[derive(Clone, Debug)]
pub struct Events {
    rest: Vec<u8>,
    /// How far the rest was looked through, so that no byte is looked at twice however small the pieces are.
    searched: usize,
    /// Whether the line that is being looked at has nothing in it yet.
    line_is_empty: bool,
}

/// One event as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its bytes, with the empty line at its end.
    pub raw: Vec<u8>,
    /// What its `data` lines say.
    pub data: String,
}

impl Default for Events {
    fn default() -> Events {
        Events { rest: Vec::new(), searched: 0, line_is_empty: true }
    }
}

impl Events {
    /// Takes more bytes and gives the events that are whole by now.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Event> {
        self.rest.extend_from_slice(bytes);
        let mut events = Vec::new();
        let mut from = 0;
        while let Some(end) = self.end_of_event(from) {
            let raw = self.rest[from..end].to_vec();
            from = end;
            events.push(Event { data: data(&raw), raw });
        }
        if self.rest.len() - from > MAX_EVENT {
            events.push(Event { data: String::new(), raw: self.rest[from..].to_vec() });
            from = self.rest.len();
            self.searched = from;
        }
        self.rest.drain(..from);
        self.searched -= from;
        events
    }

    /// Where the event that begins here ends, its empty line included.
    fn end_of_event(&mut self, from: usize) -> Option<usize> {
        while self.searched < self.rest.len() {
            let at = self.searched;
            self.searched += 1;
            match self.rest[at] {
                b'\n' if self.line_is_empty && at > from => return Some(at + 1),
                b'\n' => self.line_is_empty = true,
                b'\r' => {}
                _ => self.line_is_empty = false,
            }
        }
        None
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
        json::parse(self.data.as_bytes(), &LIMITS).ok()
    }

    /// The words that a part of a conversation's answer adds.
    pub fn words(&self) -> Option<String> {
        let chunk = self.json()?;
        chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned)
    }

    /// Whether it was cut because it is too long.
    pub fn is_cut(&self) -> bool {
        self.raw.len() > MAX_EVENT && self.data.is_empty()
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
    fn no_byte_of_a_long_event_is_looked_at_twice() {
        let mut events = Events::default();
        for _ in 0..20_000 {
            assert!(events.push(b"data: x").is_empty());
            assert_eq!(events.searched, events.rest.len());
        }
        assert_eq!(events.push(b"\n\n").len(), 1);
    }

    #[test]
    fn an_event_that_is_too_long_is_cut_and_its_bytes_go_on() {
        let mut events = Events::default();
        let long = [b"data: {}", vec![b' '; MAX_EVENT].as_slice()].concat();
        let cut = events.push(&long);
        assert_eq!((cut.len(), cut[0].raw.len(), cut[0].is_cut()), (1, long.len(), true));
        assert!(cut[0].json().is_none());
        let next = events.push(b"\n\ndata: [DONE]\n\n");
        assert!(next.last().unwrap().is_done() && events.rest().is_empty());
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
