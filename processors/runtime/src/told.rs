//! One frame as it was told to the log: its command and events, their content ready to be opened.

use omium_schemas::catalogue::{Command, Event, Origin};
use omium_schemas::{Content, DecodeError, Frame, Seq, Time};

use crate::key::StreamKey;
use crate::sealing::{self, Place};

/// A frame, decoded.
#[derive(Clone, Debug)]
pub struct Told {
    /// The stream.
    pub key: StreamKey,
    /// The seq of the command.
    pub first: Seq,
    /// When it was decided.
    pub time: Time,
    /// Who issued it.
    pub actor: Option<String>,
    /// Its idempotency key, entropy and control seq.
    pub origin: Origin,
    /// What was asked for.
    pub command: Command,
    /// What it caused.
    pub events: Vec<(Seq, Event)>,
}

impl Told {
    /// Decodes a frame.
    pub fn read(frame: &Frame) -> Result<Told, DecodeError> {
        let key = StreamKey::new(frame.head.tenant, frame.head.stream);
        let first = frame.head.first;
        let mut records = frame.records();
        let record =
            records.next().ok_or(DecodeError::Malformed { what: "a frame", why: "it holds no record" })?;
        let (origin, mut command) = Command::decode(record.kind, record.body)?;
        command.contents_mut(&mut |field, content| settle(key, first, &origin, field, content));
        let mut events = Vec::new();
        for (record, seq) in records.zip(first.0 + 1..) {
            let seq = Seq(seq);
            let mut event = Event::decode(record.kind, record.body)?;
            event.contents_mut(&mut |field, content| settle(key, seq, &origin, field, content));
            events.push((seq, event));
        }
        let (time, actor) = (frame.head.time, frame.head.actor.clone());
        Ok(Told { key, first, time, actor, origin, command, events })
    }
}

fn settle(stream: StreamKey, seq: Seq, origin: &Origin, field: u16, content: &mut Content) {
    let taken = std::mem::replace(content, Content::Open(bytes::Bytes::new()));
    *content = sealing::place(taken, &Place { stream, seq, field }, &origin.entropy);
}
