//! What happens next: which steps can begin, which never will, and whether all is over.

use std::cell::Cell;

use omium_limits::Fuel;
use omium_processor::Context;
use omium_schemas::catalogue::{
    CheckpointTaken, ExecutionCompleted, ExecutionFailed, FailureClass, PlannedStep, StepCancelled,
    StepCompleted, StepFailed, StepScheduled, StepSkipped,
};
use omium_schemas::{Content, StepId, Time};

use crate::draft::{Draft, said};
use crate::rules;
use crate::state::{Phase, Run, Status};

impl Draft<'_> {
    /// Carries the run on as far as it goes without the world: begins what can begin, skips what cannot be done any
    /// more, and ends the run when nothing is left to wait for.
    pub(crate) fn go_on(&mut self) {
        match self.run.status {
            Status::Running => {}
            Status::Paused => return self.hear_all(),
            Status::Completed | Status::Failed(_) | Status::Cancelled => return,
        }
        loop {
            let mut moved = false;
            for step in self.run.ids() {
                moved |= self.advance(step);
                if self.run.status != Status::Running {
                    return;
                }
            }
            if !moved {
                break;
            }
        }
        self.finish();
    }

    /// A pause lets what runs end, and a step that waits for somebody's word runs: it must not be late for a word
    /// that has been said.
    fn hear_all(&mut self) {
        for step in self.run.running() {
            self.hear(step);
        }
    }

    /// One step, if there is something to decide about it.
    fn advance(&mut self, step: StepId) -> bool {
        let Some((plan, state)) = self.run.step(step) else { return false };
        match &state.phase {
            Phase::Blocked => match self.run.before(step) {
                Before::Done => self.begin(step),
                Before::Dead => {
                    let branch = self.run.branch;
                    self.push(StepSkipped { step, branch });
                    true
                }
                Before::Open => false,
            },
            Phase::Failed { retryable: true, .. } if state.attempts < plan.attempts => {
                let attempt = state.attempts + 1;
                self.schedule(step, attempt)
            }
            Phase::Failed { class, .. } if self.run.on_failure.0 => {
                let class = *class;
                self.end_failed(class);
                true
            }
            Phase::Waiting { .. } => self.hear(step),
            _ => false,
        }
    }

    fn begin(&mut self, step: StepId) -> bool {
        let rule = self.run.step(step).and_then(|(plan, _)| plan.require.clone());
        if let Some(rule) = rule
            && let Err(why) = rules::holds(&rule, &self.run, None, self.context, &self.fuel)
        {
            let (branch, class) = (self.run.branch, FailureClass::Policy);
            self.push(StepFailed { step, branch, class, retryable: false, reason: said(&why) });
            self.push(CheckpointTaken { name: None });
            return true;
        }
        self.schedule(step, 1)
    }

    pub(crate) fn schedule(&mut self, step: StepId, attempt: i32) -> bool {
        let Some((plan, _)) = self.run.step(step) else { return false };
        // Backoff doubles; the jitter is drawn from the command's entropy, so that a replay draws the same.
        let base = plan.backoff_ms.max(0) as u64;
        let doubled = base.saturating_mul(1 << (attempt - 2).clamp(0, 12)).min(600_000);
        let wait = if attempt == 1 { 0 } else { doubled + self.context.draw(step.0 as u8, doubled / 2 + 1) };
        let not_before = self.context.now.plus_millis(wait);
        // Only the step that failed is asked to wait: its attempt is not the first one.
        let not_before =
            self.not_before.filter(|_| attempt > 1).map_or(not_before, |asked| asked.max(not_before));
        let timeout_at = timeout_of(plan, not_before);
        let branch = self.run.branch;
        self.push(StepScheduled { step, branch, attempt, not_before, timeout_at });
        self.hear(step);
        true
    }

    /// An attempt whose time came during a pause: it is the same one, and has all of its time before it.
    pub(crate) fn send_late(&mut self, step: StepId) {
        let (now, branch) = (self.context.now, self.run.branch);
        let Some((plan, state)) = self.run.step(step) else { return };
        if !matches!(state.phase, Phase::Waiting { not_before, .. } if not_before < now) {
            return;
        }
        let (attempt, timeout_at) = (state.attempts, timeout_of(plan, now));
        self.push(StepScheduled { step, branch, attempt, not_before: now, timeout_at });
    }

    /// The attempt that had asked a person: it is the same one, has all of its time before it, and is served what is known.
    pub(crate) fn send_again(&mut self, step: StepId) {
        let (not_before, branch) = (self.context.now, self.run.branch);
        let Some((plan, state)) = self.run.step(step) else { return };
        if self.run.status != Status::Running || !matches!(state.phase, Phase::Waiting { .. }) {
            return;
        }
        let (attempt, timeout_at) = (state.attempts, timeout_of(plan, not_before));
        self.push(StepScheduled { step, branch, attempt, not_before, timeout_at });
    }

    /// A step that waits for a signal that has come.
    fn hear(&mut self, step: StepId) -> bool {
        let Some((plan, _)) = self.run.step(step) else { return false };
        let Some(wanted) = &plan.signal else { return false };
        let heard = self.run.signals.iter().find(|signal| signal.taken.is_none() && signal.name == *wanted);
        let Some(body) = heard.map(|signal| signal.body.clone()) else { return false };
        let branch = self.run.branch;
        match self.run.accepts(step, body.as_ref(), self.context, &self.fuel) {
            Ok(()) => self.push(StepCompleted { step, branch, output: None }),
            // It came before the step waited, when nobody could tell that it would not do.
            Err(why) => {
                let (class, reason) = (FailureClass::Rejected, said(&why));
                self.push(StepFailed { step, branch, class, retryable: false, reason });
            }
        }
        self.push(CheckpointTaken { name: None });
        true
    }

    fn finish(&mut self) {
        let waits = |phase: &Phase| matches!(phase, Phase::Waiting { .. } | Phase::Blocked);
        if self.run.steps.iter().any(|step| waits(&step.phase)) {
            return;
        }
        let failed = self.run.steps.iter().find_map(|step| match &step.phase {
            Phase::Failed { class, .. } => Some(*class),
            _ => None,
        });
        match failed {
            Some(class) => self.push(ExecutionFailed { class }),
            None => self.push(ExecutionCompleted {}),
        }
    }

    /// Ends the run as failed. What runs is cancelled in the same frame, so that late completions find it over.
    pub(crate) fn end_failed(&mut self, class: FailureClass) {
        self.cancel_running();
        self.push(ExecutionFailed { class });
    }

    pub(crate) fn cancel_running(&mut self) {
        let branch = self.run.branch;
        for step in self.run.running() {
            self.push(StepCancelled { step, branch });
        }
    }
}

fn timeout_of(plan: &PlannedStep, not_before: Time) -> Option<Time> {
    (plan.timeout_ms > 0).then(|| not_before.plus_millis(plan.timeout_ms as u64))
}

/// What stands before a step.
enum Before {
    Done,
    Open,
    Dead,
}

impl Run {
    fn before(&self, step: StepId) -> Before {
        let Some((plan, _)) = self.step(step) else { return Before::Dead };
        let mut outcome = Before::Done;
        for other in &plan.after {
            let Some((plan, state)) = self.step(StepId(other.unsigned_abs())) else { return Before::Dead };
            match &state.phase {
                Phase::Done { .. } => {}
                Phase::Skipped | Phase::Cancelled => return Before::Dead,
                Phase::Failed { retryable, .. } if !(*retryable && state.attempts < plan.attempts) => {
                    return Before::Dead;
                }
                _ => outcome = Before::Open,
            }
        }
        outcome
    }

    /// Whether a step's result keeps the rule that it has.
    pub(crate) fn accepts(
        &self,
        step: StepId,
        output: Option<&Content>,
        context: &Context<'_>,
        fuel: &Cell<Fuel>,
    ) -> Result<(), String> {
        match self.step(step).and_then(|(plan, _)| plan.ensure.as_ref()) {
            Some(rule) => rules::holds(rule, self, output, context, fuel),
            None => Ok(()),
        }
    }

    /// Whether a step in this phase is held back: its repetition was not sent before the pause, and waits for its end.
    pub(crate) fn holds(&self, phase: &Phase) -> bool {
        let paused = self.paused_at.filter(|_| self.status == Status::Paused);
        matches!((phase, paused), (Phase::Waiting { not_before, .. }, Some(paused)) if *not_before > paused)
    }

    /// The steps that are held back.
    pub(crate) fn held(&self) -> Vec<StepId> {
        let held = |step: &StepId| self.step(*step).is_some_and(|(_, state)| self.holds(&state.phase));
        self.ids().filter(held).collect()
    }

    /// The steps that run or are about to.
    pub fn running(&self) -> Vec<StepId> {
        let waits = |step: &StepId| {
            self.step(*step).is_some_and(|(_, state)| matches!(state.phase, Phase::Waiting { .. }))
        };
        self.ids().filter(waits).collect()
    }
}
