//! From a command to a frame: decide, react until quiet, seal, number, encode, hash, apply.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use omium_processor::{Context, Processors, Recorded, Refusal, Why};
use omium_schemas::catalogue::{
    BookOpened, Command, ControlSeen, DeliverMessage, Event, FrameRefused, LogStarted, LogicAdopted, Message,
    MessageReceived, MessagesAcknowledged, QuarantineStream, SchemaTaught, SeeControl, StreamQuarantined,
    StreamReleased,
};
use omium_schemas::mutant::Mutant;
use omium_schemas::{Content, Digest, EncodeError, FrameBuilder, FrameHead, MAX_FRAME, Partition, Seq, Time};

use super::commands::Asked;
use super::{Role, Shell};
use crate::book::Book;
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
    events: Vec<Event>,
    parcels: Vec<Parcel>,
    blobs: Vec<(Digest, bytes::Bytes)>,
    last: Seq,
}

impl<P: Processors> Shell<P> {
    pub(super) fn decide(&mut self, mut asked: Asked, now: Now) {
        let Submission { ticket, key, .. } = *asked.submission;
        if let Some(answer) = self.known_answer(&asked) {
            return self.answer(ticket, answer);
        }
        if let Some(refusal) = self.wrong_sending(&asked.submission) {
            return self.refuse(ticket, refusal);
        }
        let time = self.time(now);
        let decided = catch_unwind(AssertUnwindSafe(|| self.events_of(&asked.submission, time)));
        let outcome = match decided {
            Ok(Ok(events)) if events.is_empty() && ticket.is_none() => return,
            Ok(Ok(events)) => self.commit(&mut asked, events, time),
            Ok(Err(refusal)) => return self.refuse(ticket, refusal),
            Err(_) => Err(Trouble::Panic("decide")),
        };
        match outcome {
            Ok(done) => {
                self.figures.decided += 1;
                self.answer(ticket, Answer::Done(done));
                self.settle_due(&key, now);
                match asked.submission.command {
                    Command::SeeControl(_) => self.control_arrived(now),
                    Command::ReleaseStream(_) => self.hear_held(&key, now),
                    _ => {}
                }
            }
            Err(trouble) => self.trouble(asked, trouble, now),
        }
    }

    fn trouble(&mut self, mut asked: Asked, trouble: Trouble, now: Now) {
        let Submission { ticket, key, .. } = *asked.submission;
        let time = self.time(now);
        match trouble {
            Trouble::Erased => self.without_content(asked, now),
            Trouble::Apply => self.freeze(key, ticket),
            Trouble::Panic(where_) => {
                let reason = format!("a processor panicked in {where_}");
                let event = StreamQuarantined { reason: reason.clone() }.into();
                self.outputs.push(Output::Alarm(format!("{} is quarantined: {reason}", key.stream)));
                if self.commit(&mut asked, vec![event], time).is_err() {
                    return self.freeze(key, ticket);
                }
                self.answer(ticket, Answer::Quarantined(reason));
            }
            Trouble::TooLarge(size, reason) => {
                let command = QuarantineStream { reason: reason.clone() }.into();
                let event = FrameRefused { reason: reason.clone(), size: size as i64 }.into();
                let mut own = self.own(key, command);
                if self.commit(&mut own, vec![event], time).is_err() {
                    return self.freeze(key, ticket);
                }
                self.refuse(ticket, Refusal::new(Why::Invalid, reason));
            }
        }
    }

    /// The subject's key is destroyed: nothing can be added to what is known of it. A message is taken all the same, without
    /// its content and, where it causes content, without what it causes, for others wait behind it.
    fn without_content(&mut self, mut asked: Asked, now: Now) {
        let Submission { ticket, key, .. } = *asked.submission;
        let Command::DeliverMessage(deliver) = &mut asked.submission.command else {
            let text = "the key of this stream's content was destroyed; nothing can be added to it";
            return self.refuse(ticket, Refusal::new(Why::Conflict, text));
        };
        let DeliverMessage { from_partition, number, .. } = *deliver;
        let had_content = deliver.message.body.take().is_some();
        let text =
            format!("message {number} of partition {from_partition} came to {}, which is erased", key.stream);
        self.outputs.push(Output::Alarm(text));
        if had_content {
            return self.decide(asked, now);
        }
        let (received, time) = (MessageReceived { from_partition, number }.into(), self.time(now));
        if self.commit(&mut asked, vec![received], time).is_err() {
            self.freeze(key, ticket);
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
        let context = context(&self.book, submission, slot.value.seq.next(), time, &open);
        P::decide(&slot.value.state, &submission.command, &context)
    }

    /// Makes the frame, puts it into the open block and moves the state on.
    pub(super) fn commit(
        &mut self,
        asked: &mut Asked,
        mut events: Vec<Event>,
        time: Time,
    ) -> Result<Done, Trouble> {
        let first = self.seq_of(&asked.submission.key).unwrap_or_default().next();
        if Mutant::SplitFrame.on() && events.len() > 1 {
            let (rest, window) = (events.split_off(1), asked.window.clone());
            self.commit_one(asked, events, time)?;
            self.close(time);
            (events, asked.window) = (rest, window);
        }
        let (last, events) = self.commit_one(asked, events, time)?;
        Ok(Done { first, last, repeated: false, events: events.into() })
    }

    fn commit_one(
        &mut self,
        asked: &mut Asked,
        events: Vec<Event>,
        time: Time,
    ) -> Result<(Seq, Vec<Event>), Trouble> {
        let start = self.open.buffer().len();
        let made = match self.assemble(&asked.submission, events, time) {
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
        Ok(self.enter(asked, made, time))
    }

    fn assemble(
        &mut self,
        submission: &Submission,
        mut events: Vec<Event>,
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
        let mut parcels = Vec::new();
        let open = |content: &Content| sealing::open(&*vault, *key, content);
        let context = context(&self.book, submission, first, time, &open);
        // What reactions cause stands behind what caused it; each with the record that caused it and its round.
        let mut causes = vec![(0_u8, 0_u8); events.len()];
        let mut at = 0;
        while let Some(event) = events.get_mut(at) {
            let (cause, round) = causes[at];
            if at == EVENTS || round > ROUNDS {
                let text =
                    format!("the command causes more than {EVENTS} events or {ROUNDS} rounds of reactions");
                return Err(Trouble::TooLarge(at, text));
            }
            at += 1;
            let seq = Seq(first.0 + at as u64);
            parcels.extend(post.number(event, &self.book.sent));
            let plain = event.has_content().then(|| event.clone());
            if plain.is_some() {
                sealer.seal(seq, |visit| event.contents_mut(visit))?;
            }
            frame.record(event.type_id(), cause, |out| event.encode(out)).map_err(too_large)?;
            let (tenant, stream) = (key.tenant, key.stream);
            let recorded = Recorded { tenant, stream, seq, time, event, command: &command };
            state = state.apply::<P>(&recorded).ok_or(Trouble::Apply)?;
            let seen = plain.as_ref().unwrap_or(event);
            let react = || (0..P::COUNT).flat_map(|which| P::react(which, &state.state, seen, &context));
            let caused = catch_unwind(AssertUnwindSafe(|| react().collect::<Vec<Event>>()))
                .map_err(|_| Trouble::Panic("react"))?;
            causes.extend(caused.iter().map(|_| (at.min(255) as u8, round + 1)));
            events.extend(caused);
        }
        let (length, hash) = frame.finish();
        let last = Seq(first.0 + events.len() as u64);
        state.seq = last;
        state.hash = hash;
        Ok(Made { state, length, hash, events, parcels, blobs: sealer.blobs, last })
    }

    /// The frame is in the open block: everything in memory moves on, everything that leaves waits for the block.
    fn enter(&mut self, asked: &mut Asked, made: Made<P::State>, time: Time) -> (Seq, Vec<Event>) {
        let Made { state, hash, events, parcels, blobs, last, .. } = made;
        let Submission { key, ref origin, .. } = *asked.submission;
        let first = Seq(last.0 - events.len() as u64);
        let no = self.ahead.no.next();
        self.residents.change(&key, state, LastFrame::Hashed(hash), no);
        self.ahead.time = time;
        if let Some(window) = asked.window.take() {
            self.use_key(window, Used { first, last, at: time, request: origin.request });
        }
        for (event, seq) in events.iter().zip(first.0 + 1..) {
            self.book.apply(&key, Seq(seq), &origin.entropy, event);
        }
        for (digest, bytes) in blobs {
            self.blobs.insert(digest, no);
            self.outputs.push(Output::StoreBlob(digest, bytes));
        }
        let records = events.len() as u64 + 1;
        self.figures.records += records;
        self.unsaved_records += records;
        self.post(parcels);
        if self.flight.is_none() && matches!(self.role, Role::Leading(_)) {
            self.outputs.push(Output::Ready);
        }
        (last, events)
    }
}

/// What the processors are told of a command on a stream that goes on at `seq`.
fn context<'a>(
    book: &'a Book,
    submission: &Submission,
    seq: Seq,
    now: Time,
    open: &'a dyn Fn(&Content) -> Option<bytes::Bytes>,
) -> Context<'a> {
    let StreamKey { tenant, stream } = submission.key;
    let (entropy, control) = (submission.origin.entropy, &book.control.2);
    Context { tenant, stream, now, seq, entropy, logic: book.logic, control, open }
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
