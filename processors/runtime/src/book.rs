//! A partition's own state: everything that is folded from its records and belongs to no single stream.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use omium_schemas::catalogue::{
    BookCarried, BookOpened, ControlSeen, Event, LogStarted, LogicAdopted, Message, MessageCarried,
    MessageReceived, MessageSent, MessagesAcknowledged, Numbered, SchemaTaught,
};
use omium_schemas::{Avro, Digest, Offset, Partition, Reader, Seq};
use serde::{Deserialize, Serialize};

use crate::key::StreamKey;

/// A message that its receiver has not acknowledged yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unacknowledged {
    /// Who sent it.
    pub from: StreamKey,
    /// The message's Avro bytes, content sealed.
    pub message: Bytes,
    /// The record that sent it, and the nonces of its content, which it takes to open it for the receiver.
    pub seq: Seq,
    /// The entropy of the command that sent it.
    pub entropy: [u8; 16],
}

impl Unacknowledged {
    /// The message.
    pub fn message(&self) -> Option<Message> {
        Message::read(&mut Reader::new(&self.message)).ok()
    }
}

/// What a partition knows beside its streams.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Book {
    /// How many partitions there are, once the book is opened.
    pub partitions: u16,
    /// The version of the rules to decide by.
    pub logic: i32,
    /// The fingerprints of the schemas that the log has been taught, by type.
    pub taught: Arc<BTreeMap<u16, i64>>,
    /// The last control record seen, its digest and its content.
    pub control: (Seq, Digest, Bytes),
    /// The last number sent to each partition.
    pub sent: BTreeMap<Partition, i64>,
    /// The last number received from each partition.
    pub received: BTreeMap<Partition, i64>,
    /// Messages that are not acknowledged, by receiving partition and number.
    pub outbox: BTreeMap<(Partition, i64), Arc<Unacknowledged>>,
    /// The first offset that is kept.
    pub start: Offset,
    /// The entropy of the command that opened it. That of partition 0 is the id of the log.
    pub id: [u8; 16],
}

impl Book {
    /// The id of the log, as partition 0 knows it once it is opened.
    pub fn log(&self) -> Option<[u8; 16]> {
        (self.partitions != 0).then_some(self.id)
    }

    /// Folds one event of any stream of the partition.
    pub fn apply(&mut self, key: &StreamKey, seq: Seq, entropy: &[u8; 16], event: &Event) {
        match event {
            Event::BookOpened(BookOpened { partitions, .. }) => {
                self.partitions = *partitions as u16;
                self.id = *entropy;
            }
            Event::LogicAdopted(LogicAdopted { logic }) => self.logic = *logic,
            Event::SchemaTaught(SchemaTaught { id, fingerprint, .. }) => {
                Arc::make_mut(&mut self.taught).insert(*id as u16, *fingerprint);
            }
            Event::ControlSeen(ControlSeen { seq, digest, body }) => {
                self.control = (*seq, *digest, body.clone())
            }
            Event::MessageSent(sent) => self.post(key, seq, entropy, sent),
            Event::MessageReceived(MessageReceived { from_partition, number }) => {
                // A message that was held back is received a second time when its stream is released.
                let last = self.received.entry(*from_partition).or_default();
                *last = (*number).max(*last);
            }
            Event::MessagesAcknowledged(MessagesAcknowledged { to_partition, through }) => {
                let gone = (*to_partition, 0)..=(*to_partition, *through);
                let gone: Vec<_> = self.outbox.range(gone).map(|(key, _)| *key).collect();
                gone.iter().for_each(|key| drop(self.outbox.remove(key)));
            }
            Event::MessageCarried(carried) => {
                let MessageCarried { to_partition, number, from_tenant, from, seq, entropy, message } =
                    carried;
                let from = StreamKey::new(*from_tenant, *from);
                let kept = Unacknowledged { from, message: message.clone(), seq: *seq, entropy: *entropy };
                self.outbox.insert((*to_partition, *number), Arc::new(kept));
            }
            Event::BookCarried(carried) => self.take_over(carried),
            Event::LogStarted(LogStarted { at }) => self.start = *at,
            _ => {}
        }
    }

    /// The book as it was carried forward; messages that are still owed stand in events before this one.
    fn take_over(&mut self, carried: &BookCarried) {
        self.sent = carried.sent.iter().map(|entry| (entry.partition, entry.number)).collect();
        self.received = carried.received.iter().map(|entry| (entry.partition, entry.number)).collect();
        self.logic = carried.logic;
        self.control = (carried.control, carried.control_digest, carried.control_body.clone());
        self.partitions = carried.partitions as u16;
        self.id = carried.id;
    }

    pub(crate) fn carried(&self) -> BookCarried {
        let entry =
            |(partition, number): (&Partition, &i64)| Numbered { partition: *partition, number: *number };
        BookCarried {
            sent: self.sent.iter().map(entry).collect(),
            received: self.received.iter().map(entry).collect(),
            logic: self.logic,
            control: self.control.0,
            control_digest: self.control.1,
            control_body: self.control.2.clone(),
            partitions: i32::from(self.partitions),
            id: self.id,
        }
    }

    /// One event for each message that is still owed.
    pub(crate) fn owed(&self) -> Vec<Event> {
        let event = |((to_partition, number), kept): (&(Partition, i64), &Arc<Unacknowledged>)| {
            let Unacknowledged { from, message, seq, entropy } = (**kept).clone();
            let (from_tenant, from) = (from.tenant, from.stream);
            let (to_partition, number) = (*to_partition, *number);
            MessageCarried { to_partition, number, from_tenant, from, seq, entropy, message }.into()
        };
        self.outbox.iter().map(event).collect()
    }

    fn post(&mut self, from: &StreamKey, seq: Seq, entropy: &[u8; 16], sent: &MessageSent) {
        let mut message = Vec::new();
        sent.message.write(&mut message).expect("an event that is in the log was written before");
        let kept = Unacknowledged { from: *from, message: message.into(), seq, entropy: *entropy };
        self.outbox.insert((sent.to_partition, sent.number), Arc::new(kept));
        self.sent.insert(sent.to_partition, sent.number);
    }

    /// The canonical bytes.
    pub fn bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("a book holds nothing that cannot be serialised")
    }
}
