//! One stream in memory: where it ends, and the states that its events fold to.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use omium_processor::{Processors, Recorded};
use omium_schemas::catalogue::{Command, DeliverMessage, Event, Message, MessageReceived, StreamQuarantined};
use omium_schemas::{Avro, Content, Digest, Partition, Reader, Seq, StreamId};
use serde::{Deserialize, Serialize};

/// A stream as its events fold to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StreamState<S> {
    /// Its last record.
    pub seq: Seq,
    /// The hash of its last frame.
    pub hash: Digest,
    /// Why it is quarantined, where it is.
    pub quarantine: Option<String>,
    /// Messages that arrived while it was quarantined: they are heard when it is released.
    pub held: Vec<Held>,
    /// What the processors keep.
    pub state: S,
}

/// A message that a stream has not heard yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// The partition it came from.
    pub from_partition: Partition,
    /// Its number.
    pub number: i64,
    /// The stream it came from.
    pub from: StreamId,
    /// The message's Avro bytes, content sealed.
    pub message: Bytes,
    /// The record that holds it, and what it takes to open its body.
    pub body: Option<Content>,
}

impl Held {
    /// The message, without its body.
    pub fn message(&self) -> Option<Message> {
        Message::read(&mut Reader::new(&self.message)).ok()
    }
}

impl<S> StreamState<S> {
    fn hear(&mut self, received: &MessageReceived, command: &Command) {
        let this =
            |held: &Held| (held.from_partition, held.number) == (received.from_partition, received.number);
        let Command::DeliverMessage(delivered) = command else { return };
        if self.quarantine.is_none() {
            return self.held.retain(|held| !this(held));
        }
        let mut message = delivered.message.clone();
        let body = message.body.take();
        let mut bytes = Vec::new();
        message.write(&mut bytes).expect("a message without content can always be written");
        let DeliverMessage { from_partition, number, from, .. } = *delivered;
        self.held.push(Held { from_partition, number, from, message: bytes.into(), body });
    }
}

impl<S: Clone + Default> StreamState<S> {
    /// Folds one event. Nothing is given back where a processor panicked: the state is lost then.
    pub fn apply<P: Processors<State = S>>(mut self, recorded: &Recorded<'_>) -> Option<StreamState<S>> {
        match recorded.event {
            Event::StreamQuarantined(StreamQuarantined { reason }) => self.quarantine = Some(reason.clone()),
            Event::StreamReleased(_) => self.quarantine = None,
            Event::MessageReceived(received) if self.quarantine.is_some() || !self.held.is_empty() => {
                self.hear(received, recorded.command);
            }
            _ => {}
        }
        self.seq = recorded.seq;
        self.state = catch_unwind(AssertUnwindSafe(|| P::apply(self.state, recorded))).ok()?;
        Some(self)
    }
}

impl<S: Serialize + for<'a> Deserialize<'a>> StreamState<S> {
    /// The canonical bytes: equal states give equal bytes.
    pub fn bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("states hold nothing that cannot be serialised")
    }

    /// Reads what [`StreamState::bytes`] wrote.
    pub fn read(bytes: &[u8]) -> Option<StreamState<S>> {
        postcard::from_bytes(bytes).ok()
    }

    /// The hash of the canonical bytes.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes())
    }
}

/// The hash of a stream's last frame: known, or still to be made of the frame's bytes where a reader trusts its log.
#[derive(Clone, Debug)]
pub(crate) enum LastFrame {
    Hashed(Digest),
    Bytes(Bytes),
}

impl LastFrame {
    pub(crate) fn hash(&self) -> Digest {
        match self {
            LastFrame::Hashed(hash) => *hash,
            LastFrame::Bytes(bytes) => Digest::of(bytes),
        }
    }
}
