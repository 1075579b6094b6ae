//! Commands on their way to a decision: what must be in memory first, and what is answered without deciding.

use std::sync::Arc;

use omium_processor::{Processors, Refusal};
use omium_schemas::Time;
use omium_schemas::catalogue::{Command, Origin};
use omium_schemas::mutant::Mutant;

use super::{Role, Shell};
use crate::key::{StreamKey, WindowKey};
use crate::port::{Answer, Done, Ended, Input, Loaded, Now, Output, Submission, Ticket};
use crate::snapshot::{Used, time_in};
use crate::stream::StreamState;

/// A submission, and what its idempotency key is looked up by.
pub(super) struct Asked {
    pub(super) submission: Box<Submission>,
    pub(super) window: Option<WindowKey>,
}

impl Asked {
    pub(super) fn new(submission: Box<Submission>) -> Asked {
        let stream = submission.key;
        let window = submission.origin.key.as_ref().map(|key| WindowKey { stream, key: key.to_vec() });
        Asked { submission, window }
    }

    fn ticket(&self) -> Option<Ticket> {
        self.submission.ticket
    }
}

impl<P: Processors> Shell<P> {
    pub(super) fn submit(&mut self, asked: Asked, now: Now) {
        let Submission { ticket, key, ref origin, .. } = *asked.submission;
        if !matches!(self.role, Role::Leading(_)) || self.stopping {
            return self.answer_at_once(ticket, Answer::NotLeading);
        }
        if self.is_full() && ticket.is_some() {
            return self.answer_at_once(ticket, Answer::Busy);
        }
        if origin.control > self.book.control.0 {
            return self.awaiting_control.push(asked);
        }
        if self.parked.contains_key(&key) || !self.is_ready(&asked) {
            return self.park(asked);
        }
        self.decide_or_park(asked, now);
    }

    /// What needs something of the blob store waits for that in front of all others of its stream.
    fn decide_or_park(&mut self, asked: Asked, now: Now) {
        if let Some(asked) = self.decide(asked, now) {
            self.parked.entry(asked.submission.key).or_default().push_front(asked);
            self.parked_count += 1;
        }
    }

    /// Issues a command of the shell's own.
    pub(super) fn issue(&mut self, key: StreamKey, command: impl Into<Command>, now: Now) {
        let asked = self.own(key, command.into());
        self.submit(asked, now);
    }

    pub(super) fn own(&mut self, key: StreamKey, command: Command) -> Asked {
        let origin =
            Origin { key: None, request: None, entropy: self.entropy(), control: self.book.control.0 };
        let own = Submission { ticket: None, key, actor: None, trace: None, origin, found: None, command };
        Asked::new(Box::new(own))
    }

    fn entropy(&mut self) -> [u8; 16] {
        self.seed.1 += 1;
        entropy_of(&self.seed.0, self.seed.1)
    }

    /// Whether there is more than a caller may add to. What the shell does by itself goes on, so that it gets less.
    fn is_full(&self) -> bool {
        self.blocks_pile_up() || self.book.outbox.len() >= self.config.waiting_messages
    }

    /// Whether blocks pile up behind the one in flight, or commands in front of the store.
    pub(super) fn blocks_pile_up(&self) -> bool {
        let control = self.awaiting_control.len();
        self.closed.len() >= self.config.waiting_blocks
            || self.parked_count + control >= self.config.waiting_commands
    }

    fn is_ready(&self, asked: &Asked) -> bool {
        let known = |key: &WindowKey| {
            self.is_new(&key.stream, &key.key)
                || self.recent.get(key).is_some()
                || self.looked_up.contains_key(key)
        };
        self.residents.has(&asked.submission.key)
            && !self.is_waiting_for_blobs(&asked.submission.key)
            && (self.is_found(&asked.submission) || asked.window.as_ref().is_none_or(known))
    }

    /// Whether an idempotency key was never used on its stream, where that is known without asking the store.
    pub fn is_new(&self, stream: &StreamKey, key: &[u8]) -> bool {
        self.residents.is_above_all(stream, key)
    }

    /// An idempotency key was used.
    pub(super) fn use_key(&mut self, key: WindowKey, used: Used) {
        self.residents.note_key(&key);
        self.recent.insert(key, used);
    }

    /// Whether the store was asked before, and nothing has gone from memory into it since then.
    fn is_found(&self, submission: &Submission) -> bool {
        submission.found.as_ref().is_some_and(|found| found.stored == self.stored)
    }

    fn park(&mut self, asked: Asked) {
        self.need_for(&asked);
        self.parked.entry(asked.submission.key).or_default().push_back(asked);
        self.parked_count += 1;
    }

    fn need_for(&mut self, asked: &Asked) {
        let key = asked.submission.key;
        let streams = if self.residents.has(&key) { Vec::new() } else { vec![key] };
        let unknown = |window: &&WindowKey| self.recent.get(window).is_none();
        let window = asked.window.iter().filter(|_| !self.is_found(&asked.submission));
        let window: Vec<_> = window.filter(unknown).cloned().collect();
        self.need(streams, window);
    }

    /// Asks for rows of the store. What is here or on its way already is not asked for again: what waits for it is looked
    /// after when it comes, two who ask for each other's answers would never end, and an answer that nobody takes any
    /// more would lie there until it is wrong.
    pub(super) fn need(&mut self, streams: Vec<StreamKey>, window: Vec<WindowKey>) {
        let streams: Vec<StreamKey> = streams.into_iter().filter(|key| self.loading.insert(*key)).collect();
        let window: Vec<WindowKey> = window
            .into_iter()
            .filter(|key| !self.looked_up.contains_key(key) && self.looking_up.insert(key.clone()))
            .collect();
        if !streams.is_empty() || !window.is_empty() {
            self.outputs.push(Output::Load(streams, window));
        }
    }

    pub(super) fn loaded(&mut self, loaded: Loaded, now: Now) {
        for (key, used) in loaded.window {
            let used = match used {
                Some(bytes) => match Used::read(&bytes) {
                    Some(used) => Some(used),
                    None => {
                        return self
                            .end(Ended::Unreadable(format!("the idempotency key of {}", key.stream.stream)));
                    }
                },
                None => None,
            };
            if self.looking_up.remove(&key) {
                self.looked_up.insert(key, used);
            }
        }
        let mut keys = Vec::new();
        for (key, state) in loaded.streams {
            self.loading.remove(&key);
            let time = state.as_deref().map_or(Time(0), time_in);
            let state = match state {
                Some(bytes) => match StreamState::read(&bytes) {
                    Some(state) => state,
                    None => {
                        return self.end(Ended::Unreadable(format!("the stored state of {}", key.stream)));
                    }
                },
                None => StreamState::default(),
            };
            if self.residents.load(key, state, time) {
                self.set_ahead(&key, now);
            }
            keys.push(key);
        }
        if !self.folding.is_empty() {
            self.fold_on(now);
        }
        for key in &keys {
            // Before anything else may drive the stream out again.
            for ticket in self.readings.remove(key).unwrap_or_default() {
                self.read(ticket, *key);
            }
        }
        if matches!(self.role, Role::Leading(_)) {
            for key in &keys {
                self.settle_due(key, now);
                self.hear_held(key, now);
            }
            self.unpark(now);
            self.carry_on(now);
            self.empty_inbox(now);
            self.let_go_of_hands(&keys);
            self.reopen_more();
        }
    }

    pub(super) fn unpark(&mut self, now: Now) {
        let mut ready: Vec<StreamKey> =
            self.parked.keys().copied().filter(|key| self.residents.has(key)).collect();
        ready.sort_unstable();
        for key in ready {
            while let Some(queue) = self.parked.get_mut(&key) {
                let Some(asked) = queue.pop_front() else {
                    self.parked.remove(&key);
                    break;
                };
                if self.is_waiting_for_blobs(&key) {
                    self.parked.entry(key).or_default().push_front(asked);
                    break;
                }
                if !self.is_ready(&asked) {
                    // An earlier command with the same key has taken the answer, and was refused.
                    self.need_for(&asked);
                    self.parked.entry(key).or_default().push_front(asked);
                    break;
                }
                self.parked_count -= 1;
                self.decide_or_park(asked, now);
            }
        }
    }

    /// What can be answered without deciding.
    pub(super) fn known_answer(&mut self, asked: &Asked) -> Option<Answer> {
        let Submission { key, origin, command, .. } = &*asked.submission;
        if self.frozen.contains(key) {
            return Some(Answer::Frozen);
        }
        if let Some(used) = self.used(asked)
            && !Mutant::NoDedupe.on()
        {
            self.figures.repeated += 1;
            if used.request.is_some() && used.request != origin.request {
                return Some(Answer::OtherRequest);
            }
            return Some(Answer::Done(Done {
                first: used.first,
                last: used.last,
                repeated: true,
                events: Arc::from([]),
            }));
        }
        if matches!(command, Command::ReleaseStream(_) | Command::DeliverMessage(_)) {
            return None;
        }
        let reason = self.residents.get(key).and_then(|slot| slot.value.quarantine.clone());
        reason.map(Answer::Quarantined)
    }

    fn used(&mut self, asked: &Asked) -> Option<Used> {
        let key = asked.window.as_ref()?;
        // An answer that is still on its way tells of the time before this command; nobody may take it for later.
        self.looking_up.remove(key);
        let looked_up = if self.looked_up.is_empty() { None } else { self.looked_up.remove(key) };
        if self.is_new(&key.stream, &key.key) {
            return None;
        }
        if let Some(used) = self.recent.get(key) {
            return Some(used.clone());
        }
        if self.is_found(&asked.submission) {
            return asked.submission.found.as_ref()?.used.clone();
        }
        looked_up.flatten()
    }

    pub(super) fn read(&mut self, ticket: Ticket, key: StreamKey) {
        if !matches!(self.role, Role::Leading(_)) {
            return self.answer_at_once(Some(ticket), Answer::NotLeading);
        }
        let Some(slot) = self.residents.get(&key) else {
            self.readings.entry(key).or_default().push(ticket);
            return self.need(vec![key], Vec::new());
        };
        let (no, view) = (slot.changed, Some(slot.value()).filter(|value| value.seq.0 > 0));
        // Only what the stream itself has seen is waited for: what runs ahead elsewhere is not in this state.
        self.gate_at(no, Output::View(ticket, view));
    }

    pub(super) fn refuse(&mut self, ticket: Option<Ticket>, refusal: Refusal) {
        self.figures.refused += 1;
        if Mutant::RefuseEarly.on() {
            return self.answer_at_once(ticket, Answer::Refused(refusal));
        }
        self.answer(ticket, Answer::Refused(refusal));
    }

    /// Answers when all that the answer rests on is durable.
    pub(super) fn answer(&mut self, ticket: Option<Ticket>, answer: Answer) {
        if let Some(ticket) = ticket {
            self.gate(Output::Answer(ticket, answer));
        }
    }

    pub(super) fn answer_at_once(&mut self, ticket: Option<Ticket>, answer: Answer) {
        if let Some(ticket) = ticket {
            self.outputs.push(Output::Answer(ticket, answer));
        }
    }

    /// Everyone who waits learns that the outcome is unknown.
    pub(super) fn give_up(&mut self) {
        for (_, output) in std::mem::take(&mut self.gated) {
            if let Output::Answer(ticket, _) | Output::View(ticket, _) = output {
                self.outputs.push(Output::Answer(ticket, Answer::Unknown));
            }
        }
        for ticket in std::mem::take(&mut self.readings).into_values().flatten() {
            self.outputs.push(Output::Answer(ticket, Answer::Unknown));
        }
        let mut waiting: Vec<Asked> = std::mem::take(&mut self.awaiting_control);
        if let Some(ticket) = self.carrying.take().and_then(|carry| carry.ticket()) {
            self.outputs.push(Output::Answer(ticket, Answer::Unknown));
        }
        waiting.extend(std::mem::take(&mut self.parked).into_values().flatten());
        let mut tickets: Vec<Ticket> = waiting.iter().filter_map(Asked::ticket).collect();
        tickets.sort_unstable();
        tickets.into_iter().for_each(|ticket| self.answer_at_once(Some(ticket), Answer::NotLeading));
    }

    pub(super) fn refuse_all(&mut self, input: Input) {
        match input {
            Input::Submit(submission) => self.answer_at_once(submission.ticket, Answer::NotLeading),
            Input::Read(ticket, _) | Input::Carry(ticket, ..) => {
                self.answer_at_once(Some(ticket), Answer::NotLeading)
            }
            _ => {}
        }
    }
}

/// The id that a log gets whose first leader has this seed: the entropy of the command that opens its book, which is the
/// first one that a leader issues.
pub(crate) fn log_id(seed: &[u8; 16]) -> [u8; 16] {
    entropy_of(seed, 1)
}

fn entropy_of(seed: &[u8; 16], number: u64) -> [u8; 16] {
    let mut message = [0; 24];
    message[..16].copy_from_slice(seed);
    message[16..].copy_from_slice(&number.to_le_bytes());
    let mut entropy = [0; 16];
    entropy.copy_from_slice(&omium_schemas::Digest::of(&message).0[..16]);
    entropy
}
