//! The only way in which a run changes: one recorded event at a time. Never fails: what is in the log has happened.

use std::sync::Arc;

use omium_schemas::catalogue::{
    BranchRaised, CheckpointTaken, Command, CompleteLlmCall, CompleteStep, CompleteToolCall, CostRecorded,
    Event, ExecutionCarried, ExecutionFailed, ExecutionStarted, FailLlmCall, FailStep, FailToolCall,
    ForkStarted, LlmCallCompleted, LlmCallFailed, LlmCallStarted, SignalExecution, SignalReceived,
    StepCancelled, StepCompleted, StepFailed, StepLost, StepScheduled, StepSkipped, StepStarted,
    StepTimedOut, ToolCallCompleted, ToolCallFailed, ToolCallStarted, VersionsPinned,
};
use omium_schemas::catalogue::{EffectClass, FailureClass};
use omium_schemas::{Content, Money, Seq, StepId, Time};

use crate::bounds;
use crate::concerns::concerns;
use crate::money::sum;
use crate::state::{Call, CallKind, Mark, Outcome, Phase, Run, Signal, Status, Step};

/// One event in its frame.
#[derive(Clone, Copy)]
pub(crate) struct Fact<'a> {
    pub(crate) seq: Seq,
    pub(crate) time: Time,
    pub(crate) event: &'a Event,
    pub(crate) command: &'a Command,
}

impl Run {
    pub(crate) fn apply(&mut self, fact: Fact<'_>) {
        // A command takes a seq of its own, so an event that follows another one at once is of the same frame.
        let begins = fact.seq != self.last.next();
        self.apply_event(fact);
        self.last = fact.seq;
        let command = if begins { bounds::of_command(fact.command) } else { 0 };
        self.bytes = self.bytes.saturating_add(command).saturating_add(bounds::of_event(fact.event));
    }

    fn apply_event(&mut self, fact: Fact<'_>) {
        if !concerns(fact.event) {
            return;
        }
        let Fact { seq, time, event, command } = fact;
        match event {
            Event::ExecutionStarted(started) => self.start(started, time, command),
            Event::ExecutionCarried(ExecutionCarried { spent, .. }) => {
                let (status, ended) = (Status::Completed, Some(time));
                *self = Run { spent: *spent, status, ended, let_go: true, ..Run::default() };
            }
            Event::VersionsPinned(VersionsPinned { workflow, price, .. }) => {
                let of_command = match command {
                    Command::StartExecution(start) => start.price_list,
                    Command::StartFork(fork) => fork.price_list,
                    _ => None,
                };
                (self.version, self.price_list) = (Some(*workflow), price.or(of_command));
            }
            Event::ForkStarted(ForkStarted { source, at, .. }) => self.source = Some((*source, *at)),
            Event::ExecutionPaused(_) => (self.status, self.paused_at) = (Status::Paused, Some(time)),
            Event::ExecutionResumed(_) => {
                (self.status, self.paused_at, self.ended, self.suspended) =
                    (Status::Running, None, None, None);
            }
            Event::ExecutionSuspended(suspended) => {
                (self.status, self.paused_at) = (Status::Paused, Some(time));
                self.suspended = Some((suspended.reason, suspended.about));
            }
            Event::ExecutionCompleted(_) => self.end(Status::Completed, time),
            Event::ExecutionFailed(ExecutionFailed { class }) => self.end(Status::Failed(*class), time),
            Event::ExecutionCancelled(_) => self.end(Status::Cancelled, time),
            Event::SignalReceived(SignalReceived { name }) => {
                let body = match command {
                    Command::SignalExecution(SignalExecution { body, .. }) => body.clone(),
                    _ => None,
                };
                self.signals.push(Signal { name: name.clone(), at: seq, body, taken: None });
            }
            Event::CheckpointTaken(CheckpointTaken { name }) => {
                self.marks.push(Mark { at: seq, time, name: name.clone() });
            }
            Event::BranchRaised(BranchRaised { branch, to }) => {
                self.branch = *branch;
                // Whoever tries again goes on with all that is known, also with what no checkpoint has seen.
                let again = matches!(command, Command::RetryExecution(_));
                self.go_back(*to, if again { seq } else { *to });
            }
            Event::CostRecorded(CostRecorded { step, amount }) => {
                self.spent = sum(self.spent, *amount);
                if let Some(step) = step.and_then(|step| self.step_mut(step)) {
                    step.spent = sum(step.spent, *amount);
                }
            }
            _ => self.apply_step(fact),
        }
    }

    fn apply_step(&mut self, fact: Fact<'_>) {
        let Fact { seq, time, event, command } = fact;
        match event {
            Event::StepScheduled(StepScheduled { step, attempt, not_before, timeout_at, .. }) => {
                if let Some(step) = self.step_mut(*step) {
                    (step.attempts, step.losses) = (*attempt, 0);
                    step.phase = Phase::Waiting {
                        since: time,
                        not_before: *not_before,
                        timeout_at: *timeout_at,
                        begun: None,
                    };
                }
            }
            Event::StepStarted(StepStarted { step, .. }) => {
                if let Some(Step { phase: Phase::Waiting { begun, .. }, .. }) = self.step_mut(*step) {
                    *begun = Some(time);
                }
                if let (Some(program), Command::StartStep(start)) = (&mut self.program, command) {
                    program.attempt = start.delivery;
                    self.lose_tools(seq);
                }
            }
            Event::StepLost(StepLost { step, .. }) => {
                if let Some(step) = self.step_mut(*step) {
                    step.losses += 1;
                    if let Phase::Waiting { begun, .. } = &mut step.phase {
                        *begun = None;
                    }
                }
            }
            Event::StepCompleted(StepCompleted { step, output, .. }) => {
                let output = self.output_of(*step, output, seq, command);
                self.settle(*step, Phase::Done { at: seq, time, output });
            }
            Event::StepFailed(StepFailed { step, class, retryable, reason, .. }) => {
                let of_command = match command {
                    Command::FailStep(FailStep { reason, .. }) => reason.clone(),
                    _ => None,
                };
                let reason = reason.clone().or(of_command);
                // A word that did not do is used up: whoever tries again waits for another.
                if *class == FailureClass::Rejected {
                    self.take_signal(*step, seq);
                }
                self.settle(*step, Phase::Failed { at: seq, class: *class, retryable: *retryable, reason });
            }
            Event::StepTimedOut(StepTimedOut { step, .. }) => {
                let class = FailureClass::Timeout;
                self.settle(*step, Phase::Failed { at: seq, class, retryable: true, reason: None });
            }
            Event::StepSkipped(StepSkipped { step, .. }) => self.settle(*step, Phase::Skipped),
            Event::StepCancelled(StepCancelled { step, .. }) => self.settle(*step, Phase::Cancelled),
            _ => self.apply_call(fact),
        }
    }

    fn apply_call(&mut self, fact: Fact<'_>) {
        let Fact { seq, time, event, command } = fact;
        match event {
            Event::LlmCallStarted(LlmCallStarted {
                step,
                branch,
                caller,
                request,
                occurrence,
                patch_set,
                ..
            }) => {
                let (model, agent) = match command {
                    Command::StartLlmCall(start) => (start.model.clone(), start.agent.as_str()),
                    _ => (String::new(), caller.as_str()),
                };
                let (kind, names) = (CallKind::Model(model), (agent, caller.as_str()));
                let mut call = Call::begun(seq, (*step, *branch), kind, names, (*request, *occurrence));
                call.patch_set = *patch_set;
                if let Command::StartLlmCall(start) = command {
                    (call.taken, call.thread) = (start.delivery, start.thread);
                    (call.alias, call.position) = (start.alias, start.position.clone());
                    call.reserved = start.reserve.unwrap_or(Money::ZERO);
                    self.keep_messages(start);
                }
                self.calls.push(Arc::new(call));
            }
            Event::ToolCallStarted(ToolCallStarted {
                step,
                branch,
                caller,
                tool,
                effect,
                request,
                occurrence,
            }) => {
                let repeatable = matches!(effect, EffectClass::Read | EffectClass::Idempotent);
                let kind = CallKind::Tool { tool: tool.clone(), repeatable };
                let agent = match command {
                    Command::StartToolCall(start) => start.agent.as_str(),
                    _ => caller.as_str(),
                };
                let names = (agent, caller.as_str());
                let mut call = Call::begun(seq, (*step, *branch), kind, names, (*request, *occurrence));
                if let Command::StartToolCall(start) = command {
                    call.taken = start.delivery;
                    (call.alias, call.position) = (start.alias, start.position.clone());
                }
                self.note_write(&call);
                self.calls.push(Arc::new(call));
            }
            Event::LlmCallCompleted(LlmCallCompleted { call, usage, .. }) => {
                let answer = match command {
                    Command::CompleteLlmCall(CompleteLlmCall { answer, .. }) => Some(answer.clone()),
                    _ => None,
                };
                self.answer(*call, seq, Outcome::Answered(answer));
                if let Command::CompleteLlmCall(done) = command {
                    self.price(*call, done.cost);
                }
                if let Some(known) = self.call_mut(*call) {
                    (known.usage, known.released) = (Some(usage.clone()), true);
                }
            }
            Event::ToolCallCompleted(ToolCallCompleted { call }) => {
                let result = match command {
                    Command::CompleteToolCall(CompleteToolCall { result, .. }) => result.clone(),
                    _ => None,
                };
                self.answer(*call, seq, Outcome::Answered(result));
                self.settle_write(*call, true);
                self.settle_question(*call, time);
            }
            Event::LlmCallFailed(LlmCallFailed { call, retryable, .. }) => {
                let reason = match command {
                    Command::FailLlmCall(FailLlmCall { reason, .. }) => reason.clone(),
                    _ => None,
                };
                self.answer(*call, seq, Outcome::Failed { retryable: *retryable, reason });
            }
            Event::ToolCallFailed(ToolCallFailed { call, .. }) => {
                let reason = match command {
                    Command::FailToolCall(FailToolCall { reason, .. }) => reason.clone(),
                    _ => None,
                };
                self.answer(*call, seq, Outcome::Failed { retryable: false, reason });
                self.settle_write(*call, false);
                self.settle_question(*call, time);
            }
            _ => {
                self.apply_question(fact);
                self.apply_gate(fact);
            }
        }
    }

    fn start(&mut self, started: &ExecutionStarted, time: Time, command: &Command) {
        if let Command::StartProgram(start) = command {
            *self = Run::of_program(start, started.deadline, time);
            return;
        }
        let (plan, on_failure, inputs, budget, keep) = match command {
            Command::StartExecution(start) => {
                (&start.plan, start.on_failure, &start.inputs, start.slice, start.keep_ms)
            }
            Command::StartFork(fork) => (&fork.plan, fork.on_failure, &fork.inputs, fork.slice, fork.keep_ms),
            _ => return,
        };
        *self = Run {
            workflow: started.workflow.clone(),
            plan: Arc::from(plan.as_slice()),
            on_failure: on_failure.into(),
            inputs: inputs.clone(),
            started: time,
            deadline: started.deadline,
            keep_ms: keep.and_then(|millis| u64::try_from(millis).ok()),
            steps: vec![Step::default(); plan.len()],
            budget,
            ..Run::default()
        };
    }

    fn end(&mut self, status: Status, time: Time) {
        (self.status, self.ended, self.paused_at, self.suspended) = (status, Some(time), None, None);
        self.questions = Vec::new();
        let for_good = matches!(status, Status::Completed | Status::Cancelled);
        if for_good {
            self.writes = Vec::new();
        }
        match self.program {
            Some(_) if for_good => self.let_go_of_answers(),
            Some(_) => {}
            None if for_good => self.keep_calls(|_| false),
            // Whoever tries again is not to repeat what was done.
            None => self.keep_calls(Call::may_have_changed_something),
        }
    }

    /// A step has ended, whichever way: its calls are not needed again.
    fn settle(&mut self, step: StepId, phase: Phase) {
        match &phase {
            // What a program was answered is served again when it is run again.
            _ if self.program.is_some() => {}
            Phase::Done { .. } | Phase::Skipped => self.keep_calls(|call| call.step != step),
            Phase::Cancelled => {
                self.keep_calls(|call| call.step != step || call.may_have_changed_something());
            }
            Phase::Failed { class, .. } => self.blame(step, *class),
            Phase::Blocked | Phase::Waiting { .. } => {}
        }
        self.questions.retain(|question| question.step != step);
        if let Some(step) = self.step_mut(step) {
            step.phase = phase;
        }
    }

    /// What the next attempt must not hear again: failures, and the answers of models where these were at fault. What
    /// tools have done stays known, so that no write is repeated in silence.
    fn blame(&mut self, step: StepId, class: FailureClass) {
        let answers = matches!(
            class,
            FailureClass::Hallucination | FailureClass::ModelError | FailureClass::LogicError
        );
        self.keep_calls(|call| {
            let forget = match (&call.outcome, &call.kind) {
                (Outcome::Failed { .. }, _) => true,
                (Outcome::Answered(_), CallKind::Model(_)) => answers,
                _ => false,
            };
            call.step != step || !forget
        });
    }

    /// A result stands in the event, or in the frame's command, or in the signal that the step has waited for.
    fn output_of(
        &mut self,
        step: StepId,
        output: &Option<Content>,
        seq: Seq,
        command: &Command,
    ) -> Option<Content> {
        if output.is_some() {
            return output.clone();
        }
        if let Command::FinishExecution(end) = command {
            return end.output.clone();
        }
        if let Command::CompleteStep(CompleteStep { step: of, output: Some(output), .. }) = command
            && *of == step
        {
            return Some(output.clone());
        }
        if let Command::StartFork(fork) = command {
            return fork.done.iter().find(|done| done.step == step).and_then(|done| done.output.clone());
        }
        self.take_signal(step, seq)
    }

    /// The first signal that this step waits for and nobody has taken, with what came with it.
    fn take_signal(&mut self, step: StepId, seq: Seq) -> Option<Content> {
        let wanted = self.step(step)?.0.signal.clone()?;
        let signal =
            self.signals.iter_mut().find(|signal| signal.taken.is_none() && signal.name == wanted)?;
        signal.taken = Some(seq);
        signal.body.clone()
    }

    /// What a rollback restores: the steps that were done there, what was heard until then, and nothing that ran. Of the
    /// calls it keeps what was known at that seq.
    fn go_back(&mut self, to: Seq, known: Seq) {
        for step in &mut self.steps {
            if !matches!(step.phase, Phase::Done { at, .. } if at <= to) {
                (step.phase, step.attempts, step.losses) = (Phase::Blocked, 0, 0);
            }
        }
        self.marks.retain(|mark| mark.at <= to);
        self.signals.retain(|signal| signal.at <= to);
        for signal in &mut self.signals {
            signal.taken = signal.taken.filter(|at| *at <= to);
        }
        self.undo_calls(known);
        self.questions.clear();
        (self.status, self.ended, self.paused_at, self.suspended) = (Status::Running, None, None, None);
    }

    /// What an answer cost. One without a price is counted, so that nobody takes it for free.
    fn price(&mut self, call: Seq, cost: Option<Money>) {
        let Some(found) = self.call_mut(call) else { return };
        found.cost = cost;
        let step = found.step;
        if cost.is_none() {
            self.unpriced = self.unpriced.saturating_add(1);
            if let Some(step) = self.step_mut(step) {
                step.unpriced = step.unpriced.saturating_add(1);
            }
        }
    }

    /// Forgets calls. What was kept aside for one whose end nobody knows may have been charged by the provider: it is
    /// counted as lost, or each new attempt could spend it again.
    pub(crate) fn keep_calls(&mut self, keep: impl Fn(&Call) -> bool) {
        let lost = self.calls.iter().filter(|call| !keep(call)).map(|call| call.reserved);
        self.lost = lost.fold(self.lost, sum);
        self.calls.retain(|call| keep(call));
    }

    fn answer(&mut self, call: Seq, at: Seq, outcome: Outcome) {
        if let Some(found) = self.call_mut(call) {
            (found.outcome, found.done, found.reserved) = (outcome, Some(at), Money::ZERO);
        }
    }

    /// An attempt of a program begins: who has called a tool before, and has not heard of it, never will.
    fn lose_tools(&mut self, attempt: Seq) {
        let is_lost = |call: &Call| {
            call.outcome == Outcome::Open && call.lost.is_none() && matches!(call.kind, CallKind::Tool { .. })
        };
        for call in self.calls.iter_mut().filter(|call| is_lost(call)) {
            Arc::make_mut(call).lost = Some(attempt);
        }
    }

    pub(crate) fn call_mut(&mut self, call: Seq) -> Option<&mut Call> {
        self.calls.iter_mut().rev().find(|known| known.at == call).map(Arc::make_mut)
    }
}
