//! Commands on their way to a decision: what must be in memory first, and what is answered without deciding.

use omium_processor::{Processors, Refusal};
use omium_schemas::catalogue::{Command, Origin};
use omium_schemas::mutant::Mutant;

use super::{Role, Shell};
use crate::key::{StreamKey, WindowKey};
use crate::port::{Answer, Done, Ended, Input, Loaded, Now, Output, Submission, Ticket};
use crate::snapshot::Used;
use crate::stream::StreamState;

impl<P: Processors> Shell<P> {
    pub(super) fn submit(&mut self, submission: Submission, now: Now) {
        if !matches!(self.role, Role::Leading(_)) || self.stopping {
            return self.answer_at_once(submission.ticket, Answer::NotLeading);
        }
        if self.is_full() && submission.ticket.is_some() {
            return self.answer_at_once(submission.ticket, Answer::Busy);
        }
        if submission.origin.control > self.book.control.0 {
            return self.awaiting_control.push(submission);
        }
        if self.parked.contains_key(&submission.key) || !self.is_ready(&submission) {
            return self.park(submission);
        }
        self.decide(submission, now);
    }

    /// Issues a command of the shell's own.
    pub(super) fn issue(&mut self, key: StreamKey, command: impl Into<Command>, now: Now) {
        let submission = self.own(key, command.into());
        self.submit(submission, now);
    }

    pub(super) fn own(&mut self, key: StreamKey, command: Command) -> Submission {
        let origin =
            Origin { key: None, request: None, entropy: self.entropy(), control: self.book.control.0 };
        Submission { ticket: None, key, actor: None, trace: None, origin, command }
    }

    fn entropy(&mut self) -> [u8; 16] {
        self.seed.1 += 1;
        let mut message = [0; 24];
        message[..16].copy_from_slice(&self.seed.0);
        message[16..].copy_from_slice(&self.seed.1.to_le_bytes());
        let mut entropy = [0; 16];
        entropy.copy_from_slice(&omium_schemas::Digest::of(&message).0[..16]);
        entropy
    }

    /// Whether blocks pile up behind the one in flight, or commands in front of the store.
    pub(super) fn is_full(&self) -> bool {
        let control = self.awaiting_control.len();
        self.closed.len() >= self.config.waiting_blocks
            || self.parked_count + control >= self.config.waiting_commands
    }

    fn is_ready(&self, submission: &Submission) -> bool {
        self.residents.has(&submission.key)
            && window_key(submission)
                .is_none_or(|key| self.recent.contains_key(&key) || self.looked_up.contains_key(&key))
    }

    fn park(&mut self, submission: Submission) {
        let key = submission.key;
        let streams = if self.residents.has(&key) { Vec::new() } else { vec![key] };
        let window = window_key(&submission).filter(|key| !self.recent.contains_key(key));
        self.need(streams, window.into_iter().collect());
        self.parked.entry(key).or_default().push_back(submission);
        self.parked_count += 1;
    }

    /// Asks for rows of the store. A stream that is on its way already is not asked for again: what waits for it is
    /// looked after when it comes, and two who ask for each other's answers would never end.
    pub(super) fn need(&mut self, streams: Vec<StreamKey>, window: Vec<WindowKey>) {
        let streams: Vec<StreamKey> = streams.into_iter().filter(|key| self.loading.insert(*key)).collect();
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
            self.looked_up.insert(key, used);
        }
        let mut keys = Vec::new();
        for (key, state) in loaded.streams {
            self.loading.remove(&key);
            let state = match state {
                Some(bytes) => match StreamState::read(&bytes) {
                    Some(state) => state,
                    None => {
                        return self.end(Ended::Unreadable(format!("the stored state of {}", key.stream)));
                    }
                },
                None => StreamState::default(),
            };
            self.residents.load(key, state);
            keys.push(key);
        }
        if !self.folding.is_empty() {
            self.fold_on(now);
        }
        if matches!(self.role, Role::Leading(_)) {
            for key in &keys {
                self.settle_due(key, now);
                self.hear_held(key, now);
            }
            self.unpark(now);
            self.carry_on(now);
            self.empty_inbox(now);
            self.reopen_more();
        }
    }

    fn unpark(&mut self, now: Now) {
        let mut ready: Vec<StreamKey> =
            self.parked.keys().copied().filter(|key| self.residents.has(key)).collect();
        ready.sort_unstable();
        for key in ready {
            while let Some(queue) = self.parked.get_mut(&key) {
                let Some(submission) = queue.pop_front() else {
                    self.parked.remove(&key);
                    break;
                };
                if !self.is_ready(&submission) {
                    self.parked.entry(key).or_default().push_front(submission);
                    break;
                }
                self.parked_count -= 1;
                self.decide(submission, now);
            }
        }
    }

    /// Answers what can be answered without deciding. Gives the submission back where it must be decided.
    pub(super) fn answer_known(&mut self, submission: Submission) -> Option<Submission> {
        if self.frozen.contains(&submission.key) {
            self.answer(submission.ticket, Answer::Frozen);
            return None;
        }
        if let Some(key) = window_key(&submission)
            && let Some(used) = self.used(&key)
            && !Mutant::NoDedupe.on()
        {
            let other = used.request.is_some() && used.request != submission.origin.request;
            let done = Done { first: used.first, last: used.last, repeated: true };
            self.figures.repeated += 1;
            self.answer(submission.ticket, if other { Answer::OtherRequest } else { Answer::Done(done) });
            return None;
        }
        let quarantine = self.residents.get(&submission.key).and_then(|slot| slot.value.quarantine.clone());
        match (quarantine, &submission.command) {
            (None, _) | (_, Command::ReleaseStream(_) | Command::DeliverMessage(_)) => Some(submission),
            (Some(reason), _) => {
                self.answer(submission.ticket, Answer::Quarantined(reason));
                None
            }
        }
    }

    fn used(&mut self, key: &WindowKey) -> Option<Used> {
        let looked_up = self.looked_up.remove(key).flatten();
        self.recent.get(key).map(|(_, used)| used.clone()).or(looked_up)
    }

    pub(super) fn read(&mut self, ticket: Ticket, key: StreamKey) {
        if !matches!(self.role, Role::Leading(_)) {
            return self.answer_at_once(Some(ticket), Answer::NotLeading);
        }
        let Some(slot) = self.residents.get(&key) else {
            // Asked again once the stream is here: the caller of a read waits, it does not queue.
            self.need(vec![key], Vec::new());
            return self.answer_at_once(Some(ticket), Answer::Busy);
        };
        let view = Some(slot.value()).filter(|value| value.seq.0 > 0);
        self.gate(Output::View(ticket, view));
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
        let mut waiting: Vec<Submission> = std::mem::take(&mut self.awaiting_control);
        if let Some(ticket) = self.carrying.take().and_then(|carry| carry.ticket()) {
            self.outputs.push(Output::Answer(ticket, Answer::Unknown));
        }
        waiting.extend(std::mem::take(&mut self.parked).into_values().flatten());
        let mut tickets: Vec<Ticket> =
            waiting.into_iter().filter_map(|submission| submission.ticket).collect();
        tickets.sort_unstable();
        tickets.into_iter().for_each(|ticket| self.answer_at_once(Some(ticket), Answer::NotLeading));
    }

    pub(super) fn refuse_all(&mut self, input: Input) {
        match input {
            Input::Submit(submission) => self.answer_at_once(submission.ticket, Answer::NotLeading),
            Input::Read(ticket, _) | Input::Carry(ticket, _) => {
                self.answer_at_once(Some(ticket), Answer::NotLeading)
            }
            _ => {}
        }
    }
}

pub(super) fn window_key(submission: &Submission) -> Option<WindowKey> {
    submission.origin.key.as_ref().map(|key| WindowKey { stream: submission.key, key: key.to_vec() })
}
