//! From a command to a frame: decide, react until quiet, seal, number, encode, hash, apply.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use omium_processor::{Context, Processors, Recorded, Refusal, Why};
use omium_schemas::catalogue::{
    BookOpened, Command, ControlSeen, DeliverMessage, Event, FrameRefused, LogStarted, LogicAdopted, Message,
    MessageReceived, MessagesAcknowledged, QuarantineStream, SchemaTaught, SeeControl, StreamQuarantined,
    StreamReleased,
};
use omium_schemas::frame::MAX_RECORDS;
use omium_schemas::mutant::Mutant;
use omium_schemas::{
    BlobRef, Content, Digest, EncodeError, FrameBuilder, FrameHead, MAX_FRAME, Partition, Seq, Time,
};

use super::commands::Asked;
use super::needs::{Hand, IN_PLACE, Lack, Opener, too_much};
use super::{Role, Shell};
use crate::book::Book;
use crate::key::StreamKey;
use crate::port::{Answer, Done, Needs, Now, Output, Parcel, Submission};
use crate::sealing::{self, DataKey, Place};
use crate::snapshot::Used;
use crate::stream::{LastFrame, StreamState};

/// How many times events may cause events in turn.
const ROUNDS: u8 = 8;
/// How many events one command may cause.
const EVENTS: usize = MAX_RECORDS - 1;
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
    /// Content that has to be at hand is not.
    Lacks(Lack),
}

impl From<Lack> for Trouble {
    fn from(lack: Lack) -> Trouble {
        Trouble::Lacks(lack)
    }
}

/// A frame that stands at the end of the open block.
struct Made<S> {
    state: StreamState<S>,
    length: usize,
    hash: Digest,
    events: Vec<Event>,
    parcels: Vec<Parcel>,
    last: Seq,
    /// The contents that stand in the frame itself.
    in_place: Vec<Bytes>,
}

impl<P: Processors> Shell<P> {
    /// Decides a command. It comes back where something has to be fetched or stored first.
    pub(super) fn decide(&mut self, asked: Asked, now: Now) -> Option<Asked> {
        let undecided = self.decide_now(asked, now);
        self.deciding.end();
        undecided
    }

    fn decide_now(&mut self, mut asked: Asked, now: Now) -> Option<Asked> {
        let Submission { ticket, key, .. } = *asked.submission;
        if let Some(answer) = self.known_answer(&asked) {
            self.answer(ticket, answer);
            return None;
        }
        if let Some(refusal) = self.wrong_sending(&asked.submission) {
            self.refuse(ticket, refusal);
            return None;
        }
        let time = self.time_of(&key, now);
        self.deciding.begin(&key);
        let outcome = match self.drafted(&asked.submission, time) {
            Ok(Ok(events)) if events.is_empty() && ticket.is_none() => return None,
            Ok(Ok(events)) => self.commit(&mut asked, events, time),
            Ok(Err(refusal)) => {
                self.refuse(ticket, refusal);
                return None;
            }
            Err(trouble) => Err(trouble),
        };
        match outcome {
            Err(Trouble::Lacks(Lack::Needs(needs))) => return self.ask_for(asked, needs),
            Ok(done) => {
                self.figures.decided += 1;
                self.answer(ticket, Answer::Done(done));
                self.settle_due(&key, now);
                match asked.submission.command {
                    Command::SeeControl(_) => self.control_arrived(now),
                    Command::ReleaseStream(_) => self.hear_held(&key, now),
                    Command::QuarantineStream(_) => self.suspects.retain(|suspect| *suspect != key),
                    _ => {}
                }
            }
            Err(trouble) => self.trouble(asked, trouble, now),
        }
        None
    }

    /// What the command causes, decided with all content at hand that was looked at.
    fn drafted(&self, submission: &Submission, time: Time) -> Result<Result<Vec<Event>, Refusal>, Trouble> {
        let opener = Opener::new(&*self.vault, submission.key, self.hands.get(&submission.key));
        let decided = catch_unwind(AssertUnwindSafe(|| self.events_of(submission, time, &opener)));
        opener.check()?;
        decided.map_err(|_| Trouble::Panic("decide"))
    }

    fn trouble(&mut self, mut asked: Asked, trouble: Trouble, now: Now) {
        let Submission { ticket, key, .. } = *asked.submission;
        let time = self.time_of(&key, now);
        match trouble {
            Trouble::Erased => self.without_content(asked, now),
            Trouble::Lacks(Lack::Unreadable(why)) => self.cannot_read(&asked, why),
            Trouble::Lacks(Lack::Needs(_)) => {
                // The caller has seen to it.
            }
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
            // Without content there is nothing to be stored, and what cannot be read is refused.
            let _ = self.decide(asked, now);
            return;
        }
        let (received, time) = (MessageReceived { from_partition, number }.into(), self.time_of(&key, now));
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
    fn events_of(
        &self,
        submission: &Submission,
        time: Time,
        opener: &Opener<'_>,
    ) -> Result<Vec<Event>, Refusal> {
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
                let caused = if quarantined {
                    Vec::new()
                } else {
                    self.ask(submission, time, opener).unwrap_or_default()
                };
                std::iter::once(received).chain(caused).collect()
            }
            _ => return self.ask(submission, time, opener),
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

    fn ask(&self, submission: &Submission, time: Time, opener: &Opener<'_>) -> Result<Vec<Event>, Refusal> {
        let slot = self.residents.get(&submission.key).expect("a stream is loaded before it is decided on");
        let open = |content: &Content| opener.open(content);
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
            Ok(made) if made.length > MAX_FRAME => Err(match too_much(made.length, made.in_place) {
                Some(store) => Lack::Needs(Needs { store, ..Needs::default() }).into(),
                None => {
                    let text = format!("the frame has {} bytes, a block holds {MAX_FRAME}", made.length);
                    Trouble::TooLarge(made.length, text)
                }
            }),
            other => other,
        };
        let made = made.inspect_err(|_| self.open.undo(start))?;
        if !self.open.fits() {
            let next = self.open.move_last(made.length);
            self.close(time);
            // The state is still the one before the frame that did not fit. Where blocks are always full, there is no
            // other moment to save it.
            self.snapshot_if_due(self.moment);
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
        let hand = self.hands.get(key);
        let opener = Opener::new(&*vault, *key, hand);
        let mut sealer = Sealer {
            key: *key,
            entropy: origin.entropy,
            data: None,
            vault: &*vault,
            hand,
            opener: &opener,
            store: Vec::new(),
            in_place: Vec::new(),
        };
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
        let open = |content: &Content| opener.open(content);
        let context = context(&self.book, submission, first, time, &open);
        // What reactions cause stands behind what caused it; each with the record that caused it and its round.
        let mut causes = vec![(0_u16, 0_u8); events.len()];
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
                .map_err(|_| opener.check().err().map_or(Trouble::Panic("react"), Trouble::from))?;
            causes.extend(caused.iter().map(|_| (at as u16, round + 1)));
            events.extend(caused);
        }
        opener.check()?;
        if !sealer.store.is_empty() {
            return Err(Lack::Needs(Needs { store: sealer.store, ..Needs::default() }).into());
        }
        let in_place = sealer.in_place;
        self.keys = self.keys.max(sealer.data.as_ref().map(|data| data.id).unwrap_or_default());
        let (length, hash) = frame.finish();
        let last = Seq(first.0 + events.len() as u64);
        state.seq = last;
        state.hash = hash;
        Ok(Made { state, length, hash, events, parcels, last, in_place })
    }

    /// The frame is in the open block: everything in memory moves on, everything that leaves waits for the block.
    fn enter(&mut self, asked: &mut Asked, made: Made<P::State>, time: Time) -> (Seq, Vec<Event>) {
        let Made { state, hash, events, parcels, last, .. } = made;
        let Submission { key, ref origin, .. } = *asked.submission;
        let first = Seq(last.0 - events.len() as u64);
        let no = self.ahead.no.next();
        self.residents.change(&key, state, (LastFrame::Hashed(hash), time), no);
        self.ahead.time = self.ahead.time.max(time);
        if let Some(window) = asked.window.take() {
            self.use_key(window, Used { first, last, at: time, request: origin.request });
        }
        for (event, seq) in events.iter().zip(first.0 + 1..) {
            self.book.apply(&key, Seq(seq), &origin.entropy, event);
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
    open: &'a dyn Fn(&Content) -> Option<Bytes>,
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
    hand: Option<&'a Hand>,
    opener: &'a Opener<'a>,
    /// What has to be stored before the frame can be made.
    store: Vec<Bytes>,
    in_place: Vec<Bytes>,
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
        visit(&mut |field, content| *content = self.sealed(seq, field, content));
        Ok(())
    }

    fn sealed(&mut self, seq: Seq, field: u16, content: &Content) -> Content {
        let plain = match content {
            Content::Open(plain) => plain,
            Content::Moved(moved) => return self.moved(moved.to, moved.plain.clone()),
            content => return content.clone(),
        };
        if let Some(place) = self.hand.and_then(|hand| hand.place_of(plain)) {
            return self.moved(place, plain.clone());
        }
        if plain.len() > IN_PLACE {
            // The draft goes on, so that everything it needs is asked for at once.
            self.store.push(plain.clone());
            return Content::Blob(Box::default());
        }
        self.in_place.push(plain.clone());
        let data = self.data.as_ref().expect("set before the first content is visited");
        sealing::seal(data, &Place { stream: self.key, seq, field }, &self.entropy, plain)
    }

    fn moved(&self, place: BlobRef, plain: Bytes) -> Content {
        self.opener.keep(place, plain);
        Content::Blob(Box::new(place))
    }
}
