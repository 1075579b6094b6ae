//! Messages between streams, over partitions: sent until they are acknowledged, taken once and in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use omium_processor::Processors;
use omium_schemas::catalogue::{AcknowledgeMessages, Command, DeliverMessage, Message};
use omium_schemas::mutant::Mutant;
use omium_schemas::{Content, Partition, Time};

use super::commands::Asked;
use super::{Role, Shell};
use crate::book::Unacknowledged;
use crate::key::StreamKey;
use crate::port::{Now, Output, Parcel};
use crate::sealing::{self, Place};

/// After how long without any progress unacknowledged parcels are sent again.
const PATIENCE_MS: u64 = 1_000;
/// How many may be acknowledged before that is written down. Until then they are kept, so it must not be many.
const UNWRITTEN: i64 = 128;

/// How far the messages to one partition have come. What is not on its way yet waits in the book: a receiver that is
/// busy, or away, is owed any number of them and asked to hold a few.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lane {
    /// The last number that is on its way, or further.
    sent: i64,
    /// The last number that the receiver has for good.
    acknowledged: i64,
    /// What was acknowledged when it was last asked whether anything moves.
    before: i64,
}

impl<P: Processors> Shell<P> {
    pub(super) fn receive(&mut self, parcel: Parcel, now: Now) {
        if !matches!(self.role, Role::Leading(_)) {
            return;
        }
        let from = parcel.from_partition;
        let last = self.last_received(from);
        let to = StreamKey::new(parcel.message.to_tenant, parcel.message.to);
        if Mutant::MessageWithoutNumber.on() && parcel.number <= last && self.residents.has(&to) {
            return self.take_in(parcel, now);
        }
        if parcel.number <= last {
            return self.gate(Output::Acknowledge(from, last));
        }
        // A sender keeps to its window; what lies beyond it comes again.
        if parcel.number <= last.saturating_add(self.config.message_window) {
            self.inbox.entry(from).or_default().insert(parcel.number, parcel);
        }
        self.empty_inbox_of(from, now);
    }

    fn last_received(&self, from: Partition) -> i64 {
        self.book.received.get(&from).copied().unwrap_or(0)
    }

    /// Takes in what is next, from each partition in turn.
    pub(super) fn empty_inbox(&mut self, now: Now) {
        let senders: Vec<Partition> = self.inbox.keys().copied().collect();
        senders.into_iter().for_each(|from| self.empty_inbox_of(from, now));
    }

    /// Takes in what is next from this partition. What comes later waits for what is missing.
    fn empty_inbox_of(&mut self, from: Partition, now: Now) {
        while matches!(self.role, Role::Leading(_)) && !self.stopping && !self.blocks_pile_up() {
            let last = self.last_received(from);
            let Some(inbox) = self.inbox.get_mut(&from) else { return };
            while inbox.first_key_value().is_some_and(|(number, _)| *number <= last) {
                inbox.pop_first();
            }
            let Some((next, parcel)) = inbox.first_key_value() else {
                self.inbox.remove(&from);
                return;
            };
            if *next != last + 1 {
                return;
            }
            let key = StreamKey::new(parcel.message.to_tenant, parcel.message.to);
            if !self.residents.has(&key) {
                return self.need(vec![key], Vec::new());
            }
            if self.is_waiting_for_blobs(&key) {
                return;
            }
            let popped = self.inbox.get_mut(&from).and_then(BTreeMap::pop_first);
            let Some((next, parcel)) = popped else { return };
            self.take_in(parcel, now);
            if self.last_received(from) != next {
                return;
            }
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
        // Sealed for its sender, it is sealed anew for its receiver.
        let message = Message { body: message.body.map(plain), ..message };
        let asked =
            self.own(key, DeliverMessage { from_partition, number, from: from.stream, message }.into());
        if let Some(asked) = self.decide(asked, now) {
            return self.put_back(asked, from);
        }
        if self.book.received.get(&from_partition).copied() == Some(number) {
            self.gate(Output::Acknowledge(from_partition, number));
        }
    }

    /// A message whose receiver cannot decide yet is the next one still.
    fn put_back(&mut self, asked: Asked, from: StreamKey) {
        let Command::DeliverMessage(deliver) = asked.submission.command else { return };
        let DeliverMessage { from_partition, number, message, .. } = deliver;
        let parcel = Parcel { from_partition, to_partition: self.partition, number, from, message };
        self.inbox.entry(from_partition).or_default().insert(number, parcel);
    }

    /// What was held back while a stream was quarantined is heard now, in the order in which it came.
    pub(super) fn hear_held(&mut self, key: &StreamKey, now: Now) {
        let Some(slot) = self.residents.get(key).filter(|slot| slot.value.quarantine.is_none()) else {
            return;
        };
        for held in slot.value.held.clone() {
            let Some(mut message) = held.message() else { continue };
            message.body = match held.body {
                // It stays where it is: this is the stream that it was sealed for.
                Some(body @ Content::Blob(_)) => Some(body),
                body => {
                    body.and_then(|body| sealing::open(&*self.vault, *key, &body).ok()).map(Content::Open)
                }
            };
            let (from_partition, number, from) = (held.from_partition, held.number, held.from);
            let asked = self.own(*key, DeliverMessage { from_partition, number, from, message }.into());
            if self.decide(asked, now).is_some() {
                // It is heard when what it needs is at hand.
                return;
            }
        }
    }

    pub(super) fn acknowledged(&mut self, partition: Partition, through: i64, now: Now) {
        let lane = self.lane(partition);
        lane.acknowledged = through.max(lane.acknowledged);
        lane.sent = lane.sent.max(lane.acknowledged);
        if self.book.outbox.len() >= self.config.waiting_messages / 2 {
            // Callers would have to wait for what is owed to nobody any more.
            self.write_all_acknowledged(now);
        } else if self.unwritten(partition) >= UNWRITTEN {
            self.write_acknowledged(partition, now);
        }
        self.send_on(partition);
    }

    /// Everything that is acknowledged is written down once nothing else is to be done. Until then it is only sent
    /// once more than needed.
    pub(super) fn write_acknowledgements(&mut self, now: Now) {
        if self.is_quiet() {
            self.write_all_acknowledged(now);
        }
    }

    fn write_all_acknowledged(&mut self, now: Now) {
        let lanes: Vec<Partition> = self.lanes.keys().copied().collect();
        for partition in lanes {
            if self.unwritten(partition) > 0 {
                self.write_acknowledged(partition, now);
            }
        }
    }

    fn write_acknowledged(&mut self, to_partition: Partition, now: Now) {
        let through = self.lane(to_partition).acknowledged;
        self.issue(StreamKey::book(self.partition), AcknowledgeMessages { to_partition, through }, now);
    }

    /// How many messages to that partition are acknowledged and still in the book.
    fn unwritten(&mut self, to: Partition) -> i64 {
        match self.first_owed(to) {
            Some(first) => self.lane(to).acknowledged - first + 1,
            None => 0,
        }
    }

    fn first_owed(&self, to: Partition) -> Option<i64> {
        let owed = (to, i64::MIN)..=(to, i64::MAX);
        self.book.outbox.range(owed).next().map(|((_, number), _)| *number)
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.flight.is_none() && self.open.is_empty() && self.closed.is_empty()
    }

    fn lane(&mut self, to: Partition) -> &mut Lane {
        if !self.lanes.contains_key(&to) {
            let last = self.book.sent.get(&to).copied().unwrap_or(0);
            let done = self.first_owed(to).map_or(last, |first| first - 1);
            self.lanes.insert(to, Lane { sent: done, acknowledged: done, before: done });
        }
        self.lanes.get_mut(&to).expect("it was made where there was none")
    }

    /// A frame's own messages leave with its block, where the window has room for them.
    pub(super) fn post(&mut self, parcels: Vec<Parcel>) {
        let window = self.config.message_window;
        for parcel in parcels {
            let lane = self.lane(parcel.to_partition);
            if parcel.number == lane.sent + 1 && parcel.number <= lane.acknowledged.saturating_add(window) {
                lane.sent = parcel.number;
                self.gate(Output::Deliver(Box::new(parcel)));
            }
        }
    }

    /// Once nothing has moved for a while, what is on its way is taken for lost.
    pub(super) fn resend(&mut self, now: Now) {
        if now.wall < self.resent_at.plus_millis(PATIENCE_MS) && now.wall >= self.resent_at {
            return;
        }
        self.resent_at = now.wall;
        let mut stuck = Vec::new();
        for (to, lane) in &mut self.lanes {
            if lane.before == lane.acknowledged && lane.sent > lane.acknowledged {
                lane.sent = lane.acknowledged;
                stuck.push(*to);
            }
            lane.before = lane.acknowledged;
        }
        stuck.into_iter().for_each(|to| self.send_on(to));
    }

    /// Everything in the outbox was decided, but it may run ahead of the log: it is gated like the first sending.
    fn send_on(&mut self, to_partition: Partition) {
        let Lane { sent, acknowledged, .. } = *self.lane(to_partition);
        let end = acknowledged.saturating_add(self.config.message_window);
        let waiting = (to_partition, sent.saturating_add(1))..(to_partition, end.saturating_add(1));
        let parcels: Vec<(i64, Arc<Unacknowledged>)> =
            (self.book.outbox.range(waiting)).map(|((_, number), kept)| (*number, kept.clone())).collect();
        for (number, kept) in parcels {
            self.lane(to_partition).sent = number;
            let Some(message) = self.opened(&kept) else {
                let text = format!("message {number} of {} cannot be read", kept.from.stream);
                self.outputs.push(Output::Alarm(text));
                continue;
            };
            let parcel =
                Parcel { from_partition: self.partition, to_partition, number, from: kept.from, message };
            self.gate(Output::Deliver(Box::new(parcel)));
        }
    }

    /// A new leader knows of nothing that is on its way.
    pub(super) fn send_anew(&mut self) {
        self.resent_at = Time(0);
        self.lanes.clear();
        let mut owed: Vec<Partition> = self.book.outbox.keys().map(|(to, _)| *to).collect();
        owed.dedup();
        owed.into_iter().for_each(|to| self.send_on(to));
    }

    /// Content is sealed for the sender's place; the receiver seals it anew for its own. Where the sender's key is gone
    /// the message arrives without it: others wait behind it.
    fn opened(&mut self, kept: &Unacknowledged) -> Option<Message> {
        let mut message = kept.message()?;
        if let Some(body) = message.body.take() {
            let place = Place { stream: kept.from, seq: kept.seq, field: 0 };
            let body = sealing::place(body, &place, &kept.entropy);
            message.body = sealing::open(&*self.vault, kept.from, &body).ok().map(Content::Open);
            if message.body.is_none() {
                let text = format!("a message of {} leaves without its content", kept.from.stream);
                self.outputs.push(Output::Alarm(text));
            }
        }
        Some(message)
    }
}

/// Content as it was before anybody moved it out.
fn plain(content: Content) -> Content {
    match content {
        Content::Moved(moved) => Content::Open(moved.plain),
        content => content,
    }
}
