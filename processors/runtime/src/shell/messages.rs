//! Messages between streams, over partitions: sent until they are acknowledged, taken once and in order.

use std::sync::Arc;

use omium_processor::Processors;
use omium_schemas::catalogue::{AcknowledgeMessages, DeliverMessage, Message};
use omium_schemas::mutant::Mutant;
use omium_schemas::{Content, Partition, Time};

use super::{Role, Shell};
use crate::book::Unacknowledged;
use crate::key::StreamKey;
use crate::port::{Now, Output, Parcel};
use crate::sealing::{self, Place};

/// How many parcels may wait for their turn.
const INBOX: usize = 4096;
/// How many are sent again at once.
const RESENT: usize = 256;
/// After how long an unacknowledged parcel is sent again.
const PATIENCE_MS: u64 = 1_000;
/// How many may be acknowledged before that is written down. Until then they are kept, so it must not be many.
const UNWRITTEN: i64 = 128;

impl<P: Processors> Shell<P> {
    pub(super) fn receive(&mut self, parcel: Parcel, now: Now) {
        if !matches!(self.role, Role::Leading(_)) {
            return;
        }
        let from = parcel.from_partition;
        let last = self.book.received.get(&from).copied().unwrap_or(0);
        let to = StreamKey::new(parcel.message.to_tenant, parcel.message.to);
        if Mutant::MessageWithoutNumber.on() && parcel.number <= last && self.residents.has(&to) {
            return self.take_in(parcel, now);
        }
        if parcel.number <= last {
            return self.gate(Output::Acknowledge(from, last));
        }
        if self.inbox.len() < INBOX {
            self.inbox.insert((from, parcel.number), parcel);
        }
        self.empty_inbox(now);
    }

    /// Takes in what is next, from each partition in turn. What comes later waits for what is missing.
    pub(super) fn empty_inbox(&mut self, now: Now) {
        if self.inbox.is_empty() || !matches!(self.role, Role::Leading(_)) || self.stopping {
            return;
        }
        let mut senders: Vec<Partition> = self.inbox.keys().map(|(from, _)| *from).collect();
        senders.dedup();
        for from in senders {
            loop {
                let next = self.book.received.get(&from).copied().unwrap_or(0) + 1;
                let Some(parcel) = self.inbox.get(&(from, next)) else { break };
                let key = StreamKey::new(parcel.message.to_tenant, parcel.message.to);
                if self.is_full() {
                    return;
                }
                if !self.residents.has(&key) {
                    self.need(vec![key], Vec::new());
                    break;
                }
                let parcel = self.inbox.remove(&(from, next)).expect("it was just looked at");
                self.take_in(parcel, now);
                if self.book.received.get(&from).copied() != Some(next) {
                    break;
                }
            }
            self.inbox.retain(|(sender, number), _| {
                *sender != from || *number > self.book.received.get(&from).copied().unwrap_or(0)
            });
        }
    }

    fn take_in(&mut self, parcel: Parcel, now: Now) {
        let Parcel { from_partition, number, from, message, .. } = parcel;
        let mut key = StreamKey::new(message.to_tenant, message.to);
        if self.frozen.contains(&key) {
            // Others wait behind it, so its number is used up; what it says stays readable in the log.
            self.outputs.push(Output::Alarm(format!("a message for {} was put into the book", key.stream)));
            key = StreamKey::book(self.partition);
        }
        let asked =
            self.own(key, DeliverMessage { from_partition, number, from: from.stream, message }.into());
        self.decide(asked, now);
        if self.book.received.get(&from_partition).copied() == Some(number) {
            self.gate(Output::Acknowledge(from_partition, number));
        }
    }

    /// What was held back while a stream was quarantined is heard now, in the order in which it came.
    pub(super) fn hear_held(&mut self, key: &StreamKey, now: Now) {
        let Some(slot) = self.residents.get(key).filter(|slot| slot.value.quarantine.is_none()) else {
            return;
        };
        for held in slot.value.held.clone() {
            let Some(mut message) = held.message() else { continue };
            message.body =
                held.body.and_then(|body| sealing::open(&*self.vault, *key, &body)).map(Content::Open);
            let (from_partition, number, from) = (held.from_partition, held.number, held.from);
            let asked = self.own(*key, DeliverMessage { from_partition, number, from, message }.into());
            self.decide(asked, now);
        }
    }

    pub(super) fn acknowledged(&mut self, partition: Partition, through: i64) {
        let known = self.acknowledged.entry(partition).or_default();
        *known = through.max(*known);
    }

    /// Writes down what was acknowledged, now and then: until then it is only sent once more than needed.
    pub(super) fn send_acknowledgements(&mut self, now: Now) {
        for (to_partition, through) in self.acknowledged.clone() {
            let first = self.book.outbox.range((to_partition, 0)..).next().map(|(key, _)| *key);
            let unwritten = match first {
                Some((partition, first)) if partition == to_partition => through - first + 1,
                _ => 0,
            };
            if unwritten >= UNWRITTEN || (unwritten > 0 && self.is_quiet()) {
                let book = StreamKey::book(self.partition);
                self.issue(book, AcknowledgeMessages { to_partition, through }, now);
            }
        }
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.flight.is_none() && self.open.is_empty() && self.closed.is_empty()
    }

    pub(super) fn resend(&mut self, now: Now) {
        if now.wall < self.resent_at.plus_millis(PATIENCE_MS) && now.wall >= self.resent_at {
            return;
        }
        self.resent_at = now.wall;
        self.send_unacknowledged();
    }

    /// Everything in the outbox was decided, but it may run ahead of the log: it is gated like the first sending.
    pub(super) fn send_unacknowledged(&mut self) {
        let acknowledged = self.acknowledged.clone();
        let missing =
            |(to, number): &(Partition, i64)| acknowledged.get(to).is_none_or(|through| number > through);
        let parcels: Vec<((Partition, i64), Arc<Unacknowledged>)> = (self.book.outbox.iter())
            .filter(|(key, _)| missing(key))
            .take(RESENT)
            .map(|(key, kept)| (*key, kept.clone()))
            .collect();
        for ((to_partition, number), kept) in parcels {
            let Some(message) = self.opened(&kept) else {
                self.outputs
                    .push(Output::Alarm(format!("message {number} of {} cannot be read", kept.from.stream)));
                continue;
            };
            let parcel =
                Parcel { from_partition: self.partition, to_partition, number, from: kept.from, message };
            self.gate(Output::Deliver(Box::new(parcel)));
        }
    }

    /// Content is sealed for the sender's place; the receiver seals it anew for its own.
    fn opened(&self, kept: &Unacknowledged) -> Option<Message> {
        let mut message = kept.message()?;
        if let Some(body) = message.body.take() {
            let place = Place { stream: kept.from, seq: kept.seq, field: 0 };
            let body = sealing::place(body, &place, &kept.entropy);
            message.body = sealing::open(&*self.vault, kept.from, &body).map(Content::Open);
        }
        Some(message)
    }

    pub(super) fn forget_sendings(&mut self) {
        self.resent_at = Time(0);
        self.acknowledged.clear();
    }
}
