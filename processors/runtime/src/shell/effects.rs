//! Work for the world and deadlines: read from state, sent out once it is durable, sent again when it was lost.

use omium_processor::{Effect, Processors, Refusal, Why};
use omium_schemas::catalogue::{Command, MeetDeadline};
use omium_schemas::mutant::Mutant;
use omium_schemas::{Branch, Epoch, StepId, Time};

use super::{Role, Shell};
use crate::key::StreamKey;
use crate::port::{Dispatch, Now, Output, Submission};

impl<P: Processors> Shell<P> {
    /// Sends out what a stream now waits for and has not been sent, forgets what it no longer waits for, sets its timer.
    pub(super) fn settle_due(&mut self, key: &StreamKey, now: Now) {
        let (time, Role::Leading(epoch)) = (self.time_of(key, now), self.role) else { return };
        let Some(slot) = self.residents.get_mut(key) else { return };
        let due = P::due(&slot.value.state);
        if slot.value.quarantine.is_some() || self.suspects.contains(key) {
            // Nothing of it would be taken. What is out already keeps its number.
            slot.waits = !due.is_empty() || !slot.value.held.is_empty();
            slot.timer.take().map(|at| self.timers.remove(&(at, *key)));
            return;
        }
        slot.waits = !due.is_empty() || !slot.value.held.is_empty();
        slot.sent.retain(|(effect, _)| due.effects.contains(effect));
        let mut timer = due.deadline;
        let mut sending = Vec::new();
        for effect in due.effects {
            if slot.sent.iter().any(|(sent, _)| *sent == effect) {
                continue;
            }
            if effect.not_before > time {
                timer = timer.into_iter().chain([effect.not_before]).min();
            } else {
                self.delivery += 1;
                slot.sent.push((effect, self.delivery));
                sending.push((effect, self.delivery));
            }
        }
        let timer = timer.map(|at| Time(at.0.saturating_sub(slot.ahead)));
        let before = std::mem::replace(&mut slot.timer, timer);
        if before != timer {
            before.map(|at| self.timers.remove(&(at, *key)));
            timer.map(|at| self.timers.insert((at, *key)));
        }
        for (effect, delivery) in sending {
            self.figures.dispatched += 1;
            self.gate(Output::Dispatch(Box::new(Dispatch { key: *key, effect, epoch, delivery })));
        }
    }

    /// Whether the command answers a sending that is over. A completion of an older one is refused.
    pub(super) fn wrong_sending(&self, submission: &Submission) -> Option<Refusal> {
        let key = &submission.key;
        let (step, branch, epoch, delivery) = match &submission.command {
            Command::CompleteStep(done) => (done.step, done.branch, done.epoch, done.delivery),
            Command::FailStep(failed) => (failed.step, failed.branch, failed.epoch, failed.delivery),
            Command::LoseStep(lost) => (lost.step, lost.branch, lost.epoch, lost.delivery),
            Command::StartLlmCall(call) => {
                return self.wrong_caller(key, call.step, call.branch, call.delivery);
            }
            Command::StartToolCall(call) => {
                return self.wrong_caller(key, call.step, call.branch, call.delivery);
            }
            Command::ServeAnswer(ask) => return self.wrong_caller(key, ask.step, ask.branch, ask.delivery),
            _ => return None,
        };
        let current = self.sending(&submission.key, step, branch);
        if Role::Leading(epoch) == self.role && current.is_some_and(|(_, sent)| sent == delivery) {
            return None;
        }
        let text = format!(
            "sending {epoch}/{delivery} of {step} on branch {branch} is over; its outcome is not needed"
        );
        Some(Refusal::new(Why::Conflict, text))
    }

    /// Whether the attempt that calls is over. A step that nobody was sent is a program's, whose attempts the execution
    /// itself tells apart.
    fn wrong_caller(&self, key: &StreamKey, step: StepId, branch: Branch, taking: i64) -> Option<Refusal> {
        let (_, sent) = self.sending(key, step, branch)?;
        let Role::Leading(epoch) = self.role else { return None };
        // Attempts of programs are small numbers: no leader's epoch is in them.
        if taking < omium_schemas::taking(omium_schemas::Epoch(1), 0) {
            return None;
        }
        if taking == omium_schemas::taking(epoch, sent) {
            return None;
        }
        let text =
            format!("another sending of {step} on branch {branch} is under way; this one's calls are over");
        Some(Refusal::new(Why::Conflict, text))
    }

    fn sending(&self, key: &StreamKey, step: StepId, branch: Branch) -> Option<(Effect, i64)> {
        let sent = &self.residents.get(key)?.sent;
        sent.iter().find(|(effect, _)| effect.step == step && effect.branch == branch).copied()
    }

    /// Whoever had the sending is gone: it goes out again under another number.
    pub(super) fn lost(
        &mut self,
        key: StreamKey,
        step: StepId,
        branch: Branch,
        sending: (Epoch, i64),
        now: Now,
    ) {
        if self.role != Role::Leading(sending.0) {
            return;
        }
        if let Some(slot) = self.residents.get_mut(&key) {
            slot.sent.retain(|(effect, sent)| {
                !(effect.step == step && effect.branch == branch && *sent == sending.1)
            });
        }
        self.settle_due(&key, now);
    }

    pub(super) fn tick(&mut self, now: Now) {
        self.residents.evict();
        if !matches!(self.role, Role::Leading(_)) || self.stopping {
            return;
        }
        self.empty_inbox(now);
        self.resend(now);
        self.write_acknowledgements(now);
        let time = self.time(now);
        while let Some((at, key)) = self.timers.first().copied().filter(|(at, _)| *at <= time) {
            self.timers.remove(&(at, key));
            match self.residents.get_mut(&key) {
                Some(slot) => slot.timer = None,
                None => {
                    self.need(vec![key], Vec::new());
                    continue;
                }
            }
            self.ring(key, now);
        }
    }

    fn ring(&mut self, key: StreamKey, now: Now) {
        let deadline = self.residents.get(&key).and_then(|slot| P::due(&slot.value.state).deadline);
        if let Some(at) = deadline.filter(|at| *at <= self.time_of(&key, now)) {
            let mark = self.figures.decided;
            self.issue(key, MeetDeadline { at }, now);
            if self.figures.decided == mark {
                // Nobody minds the deadline. Asking again at every tick would change nothing.
                return;
            }
        }
        self.settle_due(&key, now);
    }

    /// Streams that the store says wait for something are looked at, some at a time.
    pub(super) fn reopen(&mut self, streams: Vec<StreamKey>, now: Now) {
        for key in streams {
            if self.residents.has(&key) { self.settle_due(&key, now) } else { self.reopening.push_back(key) }
        }
        self.reopen_more();
    }

    pub(super) fn reopen_more(&mut self) {
        let some: Vec<StreamKey> = (0..256).map_while(|_| self.reopening.pop_front()).collect();
        if !some.is_empty() {
            self.need(some, Vec::new());
        }
    }

    /// All that was outstanding when the last leader stopped.
    pub(super) fn redispatch(&mut self, now: Now) {
        if Mutant::NoRedispatch.on() {
            return;
        }
        self.outputs.push(Output::LoadWaiting);
        for key in self.residents.keys() {
            self.set_ahead(&key, now);
            self.settle_due(&key, now);
            self.hear_held(&key, now);
        }
    }
}
