//! A second folder, which is no shell: it reads the frames that count one after another and knows nothing else.

use std::collections::BTreeMap;

use bytes::Bytes;
use omium_processor::testkit::BankSuite;
use omium_processor::{Processors, Recorded};
use omium_runtime::{Place, StreamKey, StreamState, place};
use omium_schemas::catalogue::{Command, Event, SignalReceived};
use omium_schemas::{Content, Frame, Origin, Seq};

use crate::truth::{Counted, Truth, Violation, broken};

pub(crate) type State = StreamState<<BankSuite as Processors>::State>;

/// The streams of one partition as they fold.
#[derive(Default)]
pub(crate) struct Folder {
    states: BTreeMap<StreamKey, State>,
}

/// A frame, decoded.
pub(crate) struct Decoded {
    pub(crate) origin: Origin,
    pub(crate) command: Command,
    pub(crate) events: Vec<(Seq, Event)>,
}

impl Decoded {
    pub(crate) fn of(counted: &Counted) -> Result<Decoded, Violation> {
        let mut decoded = decode(&counted.frame)?;
        let (stream, entropy) = (counted.key, decoded.origin.entropy);
        let settle = |seq: Seq, field: u16, content: &mut Content| {
            let taken = std::mem::replace(content, Content::Open(Bytes::new()));
            *content = place(taken, &Place { stream, seq, field }, &entropy);
        };
        let first = counted.first;
        decoded.command.contents_mut(&mut |field, content| settle(first, field, content));
        for (seq, event) in &mut decoded.events {
            event.contents_mut(&mut |field, content| settle(*seq, field, content));
        }
        Ok(decoded)
    }
}

fn decode(frame: &Frame) -> Result<Decoded, Violation> {
    let mut records = frame.records();
    let record = records.next().expect("a frame holds at least its command");
    let unreadable = |error: omium_schemas::DecodeError| broken(2, error.to_string());
    let (origin, command) = Command::decode(record.kind, record.body).map_err(unreadable)?;
    let mut events = Vec::with_capacity(frame.count() as usize);
    for (record, seq) in records.zip(frame.head.first.0 + 1..) {
        events.push((Seq(seq), Event::decode(record.kind, record.body).map_err(unreadable)?));
    }
    Ok(Decoded { origin, command, events })
}

impl Folder {
    pub(crate) fn fold(&mut self, counted: &Counted, decoded: &Decoded) -> Result<(), Violation> {
        let (key, time) = (counted.key, counted.frame.head.time);
        let mut state = self.states.remove(&key).unwrap_or_default();
        for (seq, event) in &decoded.events {
            let (tenant, stream, seq, command) = (key.tenant, key.stream, *seq, &decoded.command);
            if let Event::SignalReceived(SignalReceived { name }) = event
                && name == "read null"
            {
                return Err(broken(
                    5,
                    format!("{stream} at seq {seq} decided on content that it did not have"),
                ));
            }
            let recorded = Recorded { tenant, stream, seq, time, event, command };
            state = state.apply::<BankSuite>(&recorded).ok_or_else(|| {
                broken(5, format!("{stream} at seq {seq}: a processor panicked while folding"))
            })?;
        }
        state.seq = counted.last;
        self.states.insert(key, state);
        Ok(())
    }

    /// The streams, each with the hash of its last frame.
    pub(crate) fn end(mut self, truth: &Truth) -> BTreeMap<StreamKey, State> {
        for (key, state) in &mut self.states {
            state.hash = truth.hash(key);
        }
        self.states
    }
}
