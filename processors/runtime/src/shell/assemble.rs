//! From a command to a frame: decide, react until quiet, seal, number, encode, hash, apply.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};

use omium_processor::{Context, Processors, Recorded, Refusal, Why};
use omium_schemas::catalogue::{
    BookOpened, Command, ControlSeen, DeliverMessage, Event, FrameRefused, LogStarted, LogicAdopted, Message,
    MessageReceived, MessagesAcknowledged, QuarantineStream, SchemaTaught, SeeControl, StreamQuarantined,
    StreamReleased,
};
use omium_schemas::mutant::Mutant;
use omium_schemas::{Content, Digest, EncodeError, FrameBuilder, FrameHead, MAX_FRAME, Partition, Seq, Time};

use super::commands::window_key;
use super::{Role, Shell};
use crate::key::StreamKey;
use crate::port::{Answer, Done, Now, Output, Parcel, Submission};
use crate::sealing::{self, DataKey, Place};
use crate::snapshot::Used;
use crate::stream::{LastFrame, StreamState};

/// How many times events may cause events in turn.
const ROUNDS: u8 = 8;
/// How many events one command may cause.
const EVENTS: usize = 256;
/// Content above this goes to the blob store.
const IN_PLACE: usize = 64 * 1024;

/// Why a frame was not made.
pub(super) enum Trouble {
    /// A processor panicked while it decided or reacted.
    Panic(&'static str),
    /// A processor panicked while it applied.
    Apply,
    /// The frame does not fit.
    TooLarge(usize, String),
    /// The subject's key is destroyed.
    Erased,
}

/// A frame that stands at the end of the open block.
struct Made<S> {
    state: StreamState<S>,
    length: usize,
    hash: Digest,
    events: Vec<(Seq, Event)>,
    parcels: Vec<Parcel>,
    blobs: Vec<(Digest, bytes::Bytes)>,
    last: Seq,
}

impl<P: Processors> Shell<P> {
    pub(super) fn decide(&mut self, submission: Submission, now: Now) {
        let Some(submission) = self.answer_known(submission) else { return };
        if let Some(refusal) = self.wrong_sending(&submission) {
            return self.refuse(submission.ticket, refusal);
        }
        let time = self.time(now);
        let decided = catch_unwind(AssertUnwindSafe(|| self.events_of(&submission, time)));
        let outcome = match decided {
            Ok(Ok(events)) if events.is_empty() && submission.ticket.is_none() => return,
            Ok(Ok(events)) => self.commit(&submission, events, time),
            Ok(Err(refusal)) => return self.refuse(submission.ticket, refusal),
            Err(_) => Err(Trouble::Panic("decide")),
        };
        match outcome {
            Ok(done) => {
                self.figures.decided += 1;
                self.answer(submission.ticket, Answer::Done(done));
                self.settle_due(&submission.key, now);
                match submission.command {
                    Command::SeeControl(_) => self.control_arrived(now),
                    Command::ReleaseStream(_) => self.hear_held(&submission.key, now),
                    _ => {}
                }
            }
            Err(trouble) => self.trouble(submission, trouble, time),
        }
    }

    fn trouble(&mut self, submission: Submission, trouble: Trouble, time: Time) {
        let Submission { ticket, key, .. } = submission;
        match trouble {
            Trouble::Apply => self.freeze(key, ticket),
            Trouble::Erased => {
                let text = "the key of this stream's content was destroyed; nothing can be added to it";
                self.refuse(ticket, Refusal::new(Why::Conflict, text));
            }
            Trouble::Panic(where_) => {
                let reason = format!("a processor panicked in {where_}");
                let event = StreamQuarantined { reason: reason.clone() }.into();
                self.outputs.push(Output::Alarm(format!("{} is quarantined: {reason}", key.stream)));
                if self.commit(&submission, vec![event], time).is_err() {
                    return self.freeze(key, ticket);
                }
                self.answer(ticket, Answer::Quarantined(reason));
            }
            Trouble::TooLarge(size, reason) => {
                let command = QuarantineStream { reason: reason.clone() }.into();
                let event = FrameRefused { reason: reason.clone(), size: size as i64 }.into();
                let own = self.own(key, command);
                if self.commit(&own, vec![event], time).is_err() {
                    return self.freeze(key, ticket);
                }
                self.refuse(ticket, Refusal::new(Why::Invalid, reason));
            }
        }
    }

    fn freeze(&mut self, key: StreamKey, ticket: Option<crate::Ticket>) {
        self.frozen.insert(key);
        self.outputs
            .push(Output::Alarm(format!("{} is frozen on this node: folding it panicked", key.stream)));
        self.answer(ticket, Answer::Frozen);
    }

    /// What the command causes: the shell's own part, then the processors'.
    fn events_of(&self, submission: &Submission, time: Time) -> Result<Vec<Event>, Refusal> {
        let events = match &submission.command {
            Command::OpenBook(open) => {
                let opened = BookOpened { partitions: open.partitions, partition: open.partition }.into();
                vec![opened, LogicAdopted { logic: self.config.logic }.into()]
            }
            Command::TeachSchemas(_) => self.lessons(),
            Command::SeeControl(SeeControl { seq, digest, body }) => {
                vec![ControlSeen { seq: *seq, digest: *digest, body: body.clone() }.into()]
            }
            Command::AdoptLogic(adopt) if (1..=self.config.logic).contains(&adopt.logic) => {
                vec![LogicAdopted { logic: adopt.logic }.into()]
            }
            Command::AdoptLogic(adopt) => {
                let text = format!(
                    "logic {} is not known here; this program knows up to {}",
                    adopt.logic, self.config.logic
                );
                return Err(Refusal::new(Why::Invalid, text));
            }
            Command::AcknowledgeMessages(ack) => {
                vec![MessagesAcknowledged { to_partition: ack.to_partition, through: ack.through }.into()]
            }
            Command::TrimLog(trim) => vec![LogStarted { at: trim.before }.into()],
            Command::QuarantineStream(quarantine) => {
                vec![StreamQuarantined { reason: quarantine.reason.clone() }.into()]
            }
            Command::ReleaseStream(_) => vec![StreamReleased {}.into()],
            Command::DeliverMessage(DeliverMessage { from_partition, number, .. }) => {
                let received = MessageReceived { from_partition: *from_partition, number: *number }.into();
                let quarantined =
                    self.residents.get(&submission.key).is_some_and(|s| s.value.quarantine.is_some());
                // A message is taken once, whatever its receiver thinks of it: others wait behind it.
                let caused =
                    if quarantined { Vec::new() } else { self.ask(submission, time).unwrap_or_default() };
                std::iter::once(received).chain(caused).collect()
            }
            _ => return self.ask(submission, time),
        };
        Ok(events)
    }

    fn lessons(&self) -> Vec<Event> {
        let untaught = self.untaught().take(100);
        let teach = |schema: &omium_schemas::Schema| {
            let (id, json) = (i32::from(schema.id.0), schema.json.to_owned());
            SchemaTaught { id, fingerprint: schema.fingerprint as i64, json }.into()
        };
        untaught.map(teach).collect()
    }

    fn ask(&self, submission: &Submission, time: Time) -> Result<Vec<Event>, Refusal> {
        let slot = self.residents.get(&submission.key).expect("a stream is loaded before it is decided on");
        let open = |content: &Content| sealing::open(&*self.vault, submission.key, content);
        let context = Context {
            tenant: submission.key.tenant,
            stream: submission.key.stream,
            now: time,
            seq: slot.value.seq.next(),
            entropy: submission.origin.entropy,
            logic: self.book.logic,
            control: &self.book.control.2,
            open: &open,
        };
        P::decide(&slot.value.state, &submission.command, &context)
    }

    /// Makes the frame, puts it into the open block and moves the state on.
    pub(super) fn commit(
        &mut self,
        submission: &Submission,
        mut events: Vec<Event>,
        time: Time,
    ) -> Result<Done, Trouble> {
        let first = self.seq_of(&submission.key).unwrap_or_default().next();
        if Mutant::SplitFrame.on() && events.len() > 1 {
            let rest = events.split_off(1);
            self.commit_one(submission, events, time)?;
            self.close(time);
            events = rest;
        }
        let last = self.commit_one(submission, events, time)?;
        Ok(Done { first, last, repeated: false })
    }

    fn commit_one(
        &mut self,
        submission: &Submission,
        events: Vec<Event>,
        time: Time,
    ) -> Result<Seq, Trouble> {
        let start = self.open.buffer().len();
        let made = match self.assemble(submission, events, time) {
            Ok(made) if made.length > MAX_FRAME => {
                let text = format!("the frame has {} bytes, a block holds {MAX_FRAME}", made.length);
                Err(Trouble::TooLarge(made.length, text))
            }
            other => other,
        };
        let made = made.inspect_err(|_| self.open.undo(start))?;
        if !self.open.fits() {
            let next = self.open.move_last(made.length);
            self.close(time);
            self.open = next;
        }
        self.open.push(made.length, made.hash);
        Ok(self.enter(submission, made, time))
    }

    fn assemble(
        &mut self,
        submission: &Submission,
        events: Vec<Event>,
        time: Time,
    ) -> Result<Made<P::State>, Trouble> {
        let Submission { key, origin, .. } = submission;
        let slot = self.residents.get(key).expect("a stream is loaded before it is decided on");
        let mut state = (*slot.value).clone();
        let first = state.seq.next();
        let head = FrameHead {
            tenant: key.tenant,
            stream: key.stream,
            first,
            time,
            prev: slot.last.hash(),
            actor: submission.actor.clone(),
            trace: submission.trace,
        };
        let vault = self.vault.clone();
        let mut sealer =
            Sealer { key: *key, entropy: origin.entropy, data: None, vault: &*vault, blobs: Vec::new() };
        let mut command = submission.command.clone();
        if command.has_content() {
            sealer.seal(first, |visit| command.contents_mut(visit))?;
        }
        let mut frame = FrameBuilder::new(&head, self.open.buffer());
        frame.record(command.type_id(), 0, |out| command.encode(origin, out)).map_err(too_large)?;
        let mut post = Post {
            from: *key,
            here: self.partition,
            partitions: self.config.partitions,
            next: BTreeMap::new(),
        };
        let mut made = Vec::with_capacity(events.len());
        let mut parcels = Vec::new();
        let mut queue: VecDeque<(Event, u8, u8)> = events.into_iter().map(|event| (event, 0, 0)).collect();
        while let Some((mut event, cause, depth)) = queue.pop_front() {
            if made.len() == EVENTS || depth > ROUNDS {
                let text =
                    format!("the command causes more than {EVENTS} events or {ROUNDS} rounds of reactions");
                return Err(Trouble::TooLarge(made.len(), text));
            }
            let seq = Seq(first.0 + made.len() as u64 + 1);
            parcels.extend(post.number(&mut event, &self.book.sent));
            let plain = event.has_content().then(|| event.clone());
            if plain.is_some() {
                sealer.seal(seq, |visit| event.contents_mut(visit))?;
            }
            frame.record(event.type_id(), cause, |out| event.encode(out)).map_err(too_large)?;
            let recorded = Recorded {
                tenant: key.tenant,
                stream: key.stream,
                seq,
                time,
                event: &event,
                command: &command,
            };
            state = state.apply::<P>(&recorded).ok_or(Trouble::Apply)?;
            let seen = plain.as_ref().unwrap_or(&event);
            let open = |content: &Content| sealing::open(&*vault, *key, content);
            let context = Context {
                tenant: key.tenant,
                stream: key.stream,
                now: time,
                seq: first,
                entropy: origin.entropy,
                logic: self.book.logic,
                control: &self.book.control.2,
                open: &open,
            };
            for which in 0..P::COUNT {
                let caused = catch_unwind(AssertUnwindSafe(|| P::react(which, &state.state, seen, &context)))
                    .map_err(|_| Trouble::Panic("react"))?;
                queue.extend(
                    caused.into_iter().map(|event| (event, (made.len() + 1).min(255) as u8, depth + 1)),
                );
            }
            made.push((seq, event));
        }
        let (length, hash) = frame.finish();
        let last = Seq(first.0 + made.len() as u64);
        state.seq = last;
        state.hash = hash;
        Ok(Made { state, length, hash, events: made, parcels, blobs: sealer.blobs, last })
    }

    /// The frame is in the open block: everything in memory moves on, everything that leaves waits for the block.
    fn enter(&mut self, submission: &Submission, made: Made<P::State>, time: Time) -> Seq {
        let Made { state, hash, events, parcels, blobs, last, .. } = made;
        let key = submission.key;
        let first = Seq(last.0 - events.len() as u64);
        self.residents.change(&key, state, LastFrame::Hashed(hash));
        self.ahead.time = time;
        let no = self.ahead.no.next();
        if let Some(window) = window_key(submission) {
            let used = Used { first, last, at: time, request: submission.origin.request };
            self.recent.insert(window, (no, used));
        }
        for (seq, event) in &events {
            self.book.apply(&key, *seq, &submission.origin.entropy, event);
        }
        for (digest, bytes) in blobs {
            self.blobs.insert(digest, no);
            self.outputs.push(Output::StoreBlob(digest, bytes));
        }
        let records = events.len() as u64 + 1;
        self.figures.records += records;
        self.unsaved_records += records;
        parcels.into_iter().for_each(|parcel| self.gate(Output::Deliver(Box::new(parcel))));
        if self.flight.is_none() && matches!(self.role, Role::Leading(_)) {
            self.outputs.push(Output::Ready);
        }
        last
    }
}

fn too_large(error: EncodeError) -> Trouble {
    Trouble::TooLarge(0, error.to_string())
}

/// Numbers the messages of one frame.
struct Post {
    from: StreamKey,
    here: Partition,
    partitions: u16,
    next: BTreeMap<Partition, i64>,
}

impl Post {
    fn number(&mut self, event: &mut Event, sent: &BTreeMap<Partition, i64>) -> Option<Parcel> {
        let Event::MessageSent(message) = event else { return None };
        let Message { to, to_tenant, .. } = &message.message;
        let to_partition = to.partition(*to_tenant, self.partitions);
        let last =
            self.next.entry(to_partition).or_insert_with(|| sent.get(&to_partition).copied().unwrap_or(0));
        *last += 1;
        message.to_partition = to_partition;
        message.number = *last;
        let (from_partition, from) = (self.here, self.from);
        Some(Parcel { from_partition, to_partition, number: *last, from, message: message.message.clone() })
    }
}

/// Seals the content of one frame.
struct Sealer<'a> {
    key: StreamKey,
    entropy: [u8; 16],
    data: Option<DataKey>,
    vault: &'a dyn sealing::Vault,
    blobs: Vec<(Digest, bytes::Bytes)>,
}

impl Sealer<'_> {
    fn seal(
        &mut self,
        seq: Seq,
        visit: impl FnOnce(&mut dyn FnMut(u16, &mut Content)),
    ) -> Result<(), Trouble> {
        if self.data.is_none() {
            self.data = Some(self.vault.sealing(&self.key).ok_or(Trouble::Erased)?);
        }
        let data = self.data.as_ref().expect("set just above");
        let (blobs, stream, entropy) = (&mut self.blobs, self.key, &self.entropy);
        visit(&mut |field, content| {
            let Content::Open(plain) = content else { return };
            *content = sealing::seal(data, &Place { stream, seq, field }, entropy, plain);
            if plain_is_long(content) {
                blobs.extend(move_out(content));
            }
        });
        Ok(())
    }
}

fn plain_is_long(content: &Content) -> bool {
    matches!(content, Content::Kept(kept) if matches!(&kept.content, Content::Sealed { bytes, .. } if bytes.len() > IN_PLACE))
}

/// Replaces long sealed bytes by the name of the blob that holds them.
fn move_out(content: &mut Content) -> Option<(Digest, bytes::Bytes)> {
    let Content::Kept(kept) = content else { return None };
    let Content::Sealed { key, bytes } = &kept.content else { return None };
    let (key, bytes, sha256) = (*key, bytes.clone(), Digest::of(bytes));
    kept.content = Content::Blob { key, sha256, length: bytes.len() as u64 };
    Some((sha256, bytes))
}
