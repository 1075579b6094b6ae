//! Carrying forward: what the front of the log still holds for anyone is written again before the front is dropped.
//!
//! The leader is given the records below the mark, in order. Frames of streams on which work goes on are copied as they
//! are, in blocks that begin with a `CarryStream` of the book and hold nothing but copies behind it: whoever has the
//! stream skips them by their seq. All other streams get one `CarryStream` frame whose events stand for their whole
//! state, and for the idempotency keys that were used below the mark. Last comes the book, and then `LogStarted`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use omium_log::Entry;
use omium_processor::{Keep, Processors, Refusal, Why};
use omium_schemas::catalogue::{
    CarryStream, Command, Event, KeyUsed, KeysCarried, LogStarted, SchemaTaught, TrimLog,
};
use omium_schemas::{Block, BlockError, Filter, Frame, Offset, Seq, StreamKind, Time, Verdict};

use super::{Role, Shell};
use crate::key::StreamKey;
use crate::port::{Answer, Done, Now, Output, Ticket};
use crate::window::WINDOW_MICROS;

/// How many streams are carried at once, so that commands do not wait for all of them.
const STREAMS: usize = 256;
/// How many keys, messages or schemas one frame carries.
const TOGETHER: usize = 100;

/// A trim on its way.
#[derive(Default)]
pub(super) struct Carry {
    ticket: Option<Ticket>,
    /// What counts among the records, once the first one has been seen.
    filter: Option<Filter>,
    /// The last block that counts: the log will start with it, so that a reader knows the filter's state there.
    mark: Option<(Offset, Vec<Frame>)>,
    /// Frames below the mark that were not looked at yet.
    frames: VecDeque<Frame>,
    /// Streams whose frames are copied.
    copied: BTreeSet<StreamKey>,
    /// The other streams that stand below the mark, with the keys used there.
    opened: BTreeMap<StreamKey, BTreeMap<Seq, KeyUsed>>,
    taught: BTreeMap<i32, SchemaTaught>,
    /// The keys that were used on the book itself.
    of_book: BTreeMap<Seq, KeyUsed>,
    /// How many microseconds streams are kept after they have ended.
    keep: u64,
    /// Whether all records have come.
    complete: bool,
}

impl<P: Processors> Shell<P> {
    /// Whether a trim is on its way.
    pub fn is_carrying(&self) -> bool {
        self.carrying.is_some()
    }

    pub(super) fn carry(&mut self, ticket: Ticket, entries: Vec<Entry>, keep: u64, now: Now) {
        if !matches!(self.role, Role::Leading(_)) || self.stopping {
            return self.answer_at_once(Some(ticket), Answer::NotLeading);
        }
        let mut carry = self.carrying.take().unwrap_or_default();
        if let Some(waiting) = carry.ticket.replace(ticket) {
            self.answer_at_once(Some(waiting), Answer::Busy);
        }
        carry.keep = keep;
        carry.complete |= entries.is_empty();
        let read = entries.iter().try_for_each(|entry| carry.read(entry));
        self.carrying = Some(carry);
        match read {
            Ok(()) => self.carry_on(now),
            Err(why) => self.give_up_carrying(why),
        }
    }

    /// Goes on with what was given, until rows of the store are needed.
    pub(super) fn carry_on(&mut self, now: Now) {
        let Some(mut carry) = self.carrying.take().filter(|carry| carry.ticket.is_some()) else { return };
        let mut wanted: BTreeSet<StreamKey> = carry.frames.iter().map(key_of).collect();
        wanted.insert(StreamKey::book(self.partition));
        if carry.complete {
            wanted.extend(carry.opened.keys().take(STREAMS));
        }
        wanted.retain(|key| !self.residents.has(key));
        if !wanted.is_empty() {
            self.carrying = Some(carry);
            return self.need(wanted.into_iter().collect(), Vec::new());
        }
        let time = self.time(now);
        let step = self
            .copy(&mut carry, time)
            .and_then(|()| if carry.complete { self.open_streams(&mut carry, time) } else { Ok(false) });
        let ticket = carry.ticket.take();
        match step {
            Ok(finished) => {
                self.carrying = Some(carry).filter(|_| !finished);
                let last = self.seq_of(&StreamKey::book(self.partition)).unwrap_or_default();
                self.answer(
                    ticket,
                    Answer::Done(Done {
                        first: last,
                        last,
                        repeated: false,
                        events: std::sync::Arc::from([]),
                    }),
                );
            }
            Err(why) => {
                carry.ticket = ticket;
                self.carrying = Some(carry);
                self.give_up_carrying(why);
            }
        }
    }

    /// Nothing is dropped then; what was written already changes nothing.
    fn give_up_carrying(&mut self, why: String) {
        let ticket = self.carrying.take().and_then(|carry| carry.ticket);
        let text = format!("the log of partition {} keeps its front: {why}", self.partition);
        self.outputs.push(Output::Alarm(text.clone()));
        self.answer(ticket, Answer::Refused(Refusal::new(Why::Conflict, text)));
    }

    /// What stands for the stream's whole state; nothing where its frames are still needed.
    fn opening(&self, key: &StreamKey, keep: &Keep) -> Option<Vec<Event>> {
        let value = &self.residents.get(key)?.value;
        if value.quarantine.is_some() || !value.held.is_empty() {
            return None;
        }
        P::carry(&value.state, keep)
    }

    fn copy(&mut self, carry: &mut Carry, time: Time) -> Result<(), String> {
        let mut copies = VecDeque::new();
        let keep = Keep { now: time, micros: carry.keep };
        for frame in std::mem::take(&mut carry.frames) {
            let key = key_of(&frame);
            if self.frozen.contains(&key) {
                return Err(format!("{} is frozen on this node", key.stream));
            }
            if key.stream.kind() == StreamKind::Book {
                carry.note_schemas(&frame)?;
                carry.of_book.extend(keys_of(&frame, time)?);
            } else if carry.copied.contains(&key) {
                copies.push_back(frame);
            } else if carry.opened.contains_key(&key) || self.opening(&key, &keep).is_some() {
                carry.opened.entry(key).or_default().extend(keys_of(&frame, time)?);
            } else {
                carry.copied.insert(key);
                copies.push_back(frame);
            }
        }
        self.write_copies(copies, carry.before(), time)
    }

    fn write_copies(
        &mut self,
        mut copies: VecDeque<Frame>,
        before: Offset,
        time: Time,
    ) -> Result<(), String> {
        while !copies.is_empty() {
            if !self.open.is_empty() {
                self.close(time);
            }
            self.write(StreamKey::book(self.partition), CarryStream { before }, Vec::new(), time)?;
            let mut some = false;
            while let Some(frame) = copies.front() {
                let start = self.open.buffer().len();
                self.open.buffer().extend_from_slice(frame.bytes());
                if !self.open.fits() {
                    self.open.undo(start);
                    break;
                }
                self.open.push(frame.bytes().len(), frame.hash());
                copies.pop_front();
                some = true;
            }
            self.close(time);
            if !some {
                return Err("a frame fills a whole block, so no copy of it can be marked as one".to_owned());
            }
        }
        Ok(())
    }

    fn write(
        &mut self,
        key: StreamKey,
        command: impl Into<Command>,
        events: Vec<Event>,
        time: Time,
    ) -> Result<(), String> {
        let mut own = self.own(key, command.into());
        match self.commit(&mut own, events, time) {
            Ok(_) => Ok(()),
            Err(_) => Err(format!("what stands for {} could not be written", key.stream)),
        }
    }

    /// True once everything is written, `LogStarted` too.
    fn open_streams(&mut self, carry: &mut Carry, time: Time) -> Result<bool, String> {
        let Some((before, _)) = carry.mark else {
            return Err("no block that counts stands below that offset".to_owned());
        };
        let keep = Keep { now: time, micros: carry.keep };
        for _ in 0..STREAMS {
            let Some((key, keys)) = carry.opened.pop_first() else { break };
            let Some(opening) = self.opening(&key, &keep) else {
                return Err(format!(
                    "{} goes on or was quarantined meanwhile; it is tried again",
                    key.stream
                ));
            };
            self.write(key, CarryStream { before }, opening, time)?;
            self.write_keys(key, keys.into_values().collect(), before, time)?;
        }
        if !carry.opened.is_empty() {
            return Ok(false);
        }
        let book = StreamKey::book(self.partition);
        let taught = &self.book.taught;
        carry.taught.retain(|id, schema| taught.get(&(*id as u16)) == Some(&schema.fingerprint));
        let mut events = self.book.owed();
        events.extend(std::mem::take(&mut carry.taught).into_values().map(Event::from));
        events.push(self.book.carried().into());
        for events in events.chunks(TOGETHER) {
            self.write(book, CarryStream { before }, events.to_vec(), time)?;
        }
        self.write_keys(book, std::mem::take(&mut carry.of_book).into_values().collect(), before, time)?;
        self.write(book, TrimLog { before }, vec![LogStarted { at: before }.into()], time)?;
        Ok(true)
    }

    fn write_keys(
        &mut self,
        key: StreamKey,
        keys: Vec<KeyUsed>,
        before: Offset,
        time: Time,
    ) -> Result<(), String> {
        for keys in keys.chunks(TOGETHER) {
            self.write(key, CarryStream { before }, vec![KeysCarried { keys: keys.to_vec() }.into()], time)?;
        }
        Ok(())
    }
}

impl Carry {
    pub(super) fn ticket(&self) -> Option<Ticket> {
        self.ticket
    }

    fn before(&self) -> Offset {
        self.mark.as_ref().map(|(offset, _)| *offset).unwrap_or_default()
    }

    /// Takes in one record. Its frames are below the mark only once another block has come that counts.
    fn read(&mut self, entry: &Entry) -> Result<(), String> {
        let place = |error: String| format!("offset {}: {error}", entry.offset);
        let block = match Block::parse(entry.bytes.clone()) {
            Ok(block) => block,
            Err(BlockError::Magic) => return Ok(()),
            Err(error) => return Err(place(error.to_string())),
        };
        let filter = self.filter.get_or_insert_with(|| match entry.offset {
            Offset(0) => Filter::new(),
            _ => Filter::starting_at(&block.head),
        });
        if filter.judge(&block.head) != Verdict::Counts {
            filter.admit(&block.head, None);
            return Ok(());
        }
        let hash = block.hash().map_err(|error| place(error.to_string()))?;
        filter.admit(&block.head, Some(hash));
        let frames = block.frames().map_err(|error| place(error.to_string()))?;
        if let Some((_, below)) = self.mark.replace((entry.offset, frames)) {
            self.frames.extend(below);
        }
        Ok(())
    }

    fn note_schemas(&mut self, frame: &Frame) -> Result<(), String> {
        for record in frame.records().skip(1).filter(|record| record.kind == SchemaTaught::TYPE_ID) {
            if let Event::SchemaTaught(taught) =
                Event::decode(record.kind, record.body).map_err(|error| error.to_string())?
            {
                self.taught.insert(taught.id, taught);
            }
        }
        Ok(())
    }
}

/// The idempotency keys that a frame says were used, and that still count.
fn keys_of(frame: &Frame, now: Time) -> Result<impl Iterator<Item = (Seq, KeyUsed)> + use<>, String> {
    let mut records = frame.records();
    let record = records.next().expect("a frame holds at least its command");
    let (origin, _) = Command::decode(record.kind, record.body).map_err(|error| error.to_string())?;
    let mut used = Vec::new();
    if let Some(key) = origin.key {
        let (seq, last, at, request) = (frame.head.first, frame.last(), frame.head.time, origin.request);
        used.push(KeyUsed { key, request, last, seq, at });
    }
    for record in records.filter(|record| record.kind == KeysCarried::TYPE_ID) {
        if let Event::KeysCarried(carried) =
            Event::decode(record.kind, record.body).map_err(|error| error.to_string())?
        {
            used.extend(carried.keys);
        }
    }
    used.retain(|used| used.at.0.saturating_add(WINDOW_MICROS) > now.0);
    Ok(used.into_iter().map(|used| (used.seq, used)))
}

fn key_of(frame: &Frame) -> StreamKey {
    StreamKey::new(frame.head.tenant, frame.head.stream)
}
