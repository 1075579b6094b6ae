//! A job: steps that the world performs one after another, paid from a slice, with checkpoints to go back to.

use omium_schemas::catalogue::{
    BranchRaised, CheckpointTaken, CompleteStep, CostRecorded, Event, ExecutionCancelled, ExecutionCarried,
    ExecutionCompleted, ExecutionFailed, ExecutionPaused, ExecutionResumed, ExecutionStarted, FailStep,
    FailureClass, LoseStep, Message, MessageKind, RollBack, SignalReceived, SliceReceived, StartExecution,
    StepCompleted, StepFailed, StepLost, StepScheduled, StepTimedOut,
};
use omium_schemas::mutant::Mutant;
use omium_schemas::{Branch, Content, Money, Seq, StepId, StreamId, Time};
use serde::{Deserialize, Serialize};

use super::account::send;
use crate::{Context, Due, Effect, Refusal, Why};

/// How often a step is tried before its job fails.
const ATTEMPTS: i32 = 3;
/// How long an attempt may take.
const TIMEOUT_MS: u64 = 20_000;

/// A step that the job waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Which one.
    pub step: StepId,
    /// Which attempt at it.
    pub attempt: i32,
    /// When it may begin.
    pub not_before: Time,
    /// When it counts as lost.
    pub timeout_at: Time,
}

/// What a checkpoint restores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// Where it was taken.
    pub at: Seq,
    /// How many steps were done.
    pub done: u32,
}

/// What a job holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// The steps planned; 0 where it has not started.
    pub planned: u32,
    /// Who pays.
    pub account: Option<StreamId>,
    /// The steps done, with their outputs (sealed).
    pub done: Vec<Option<Content>>,
    /// The step that it waits for.
    pub waiting: Option<Step>,
    /// The generation of its effects.
    pub branch: Branch,
    /// The slice granted, and how much of it is spent.
    pub slice: Option<Money>,
    /// What it has cost.
    pub spent: Money,
    /// Where it can go back to.
    pub marks: Vec<Mark>,
    /// Whether it has ended, whichever way.
    pub ended: bool,
    /// Whether it waits for a human.
    pub paused: bool,
    /// Signals heard.
    pub heard: Vec<String>,
    /// How often workers have lost a step.
    pub losses: u32,
}

impl Job {
    pub(super) fn start(
        &self,
        command: &StartExecution,
        context: &Context<'_>,
    ) -> Result<Vec<Event>, Refusal> {
        if self.planned > 0 {
            return Err(Refusal::new(Why::Conflict, format!("{} was started before", context.stream)));
        }
        if !(1..=1000).contains(&command.steps) {
            let text = format!("a job has 1 to 1000 steps, not {}", command.steps);
            return Err(Refusal::new(Why::Invalid, text));
        }
        let StartExecution { workflow, steps, account, slice, timeout_ms, .. } = command.clone();
        let deadline = timeout_ms.map(|millis| context.now.plus_millis(millis.max(0).unsigned_abs()));
        let mut events: Vec<Event> = vec![ExecutionStarted { workflow, steps, account, deadline }.into()];
        match (account, slice) {
            (Some(account), Some(slice)) => {
                events.push(send(context.tenant, account, MessageKind::SliceAsked, Some(slice)));
            }
            _ => events.push(self.schedule(StepId(1), 1, context)),
        }
        Ok(events)
    }

    pub(super) fn hear(&self, message: &Message, context: &Context<'_>) -> Vec<Event> {
        let amount = message.amount.unwrap_or_default();
        match message.kind {
            MessageKind::SliceGranted if self.ended => {
                let back =
                    self.account.map(|to| send(context.tenant, to, MessageKind::SliceReturned, Some(amount)));
                [Some(SliceReceived { amount }.into()), back].into_iter().flatten().collect()
            }
            MessageKind::SliceGranted => {
                vec![SliceReceived { amount }.into(), self.schedule(StepId(1), 1, context)]
            }
            MessageKind::SliceRefused if !self.ended => {
                vec![ExecutionFailed { class: FailureClass::Budget }.into()]
            }
            MessageKind::Signal => {
                vec![SignalReceived { name: message.label.clone().unwrap_or_default() }.into()]
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn complete(
        &self,
        command: &CompleteStep,
        context: &Context<'_>,
    ) -> Result<Vec<Event>, Refusal> {
        let step = self.expects(command.step, command.branch)?;
        if self.left() < command.cost && !Mutant::ForeignBudget.on() {
            return Ok(self.fail(FailureClass::Budget, context));
        }
        let output = command.output.clone();
        let mut events: Vec<Event> =
            vec![StepCompleted { step: step.step, branch: self.branch, output }.into()];
        if command.cost > Money::ZERO {
            events.push(CostRecorded { step: Some(step.step), amount: command.cost }.into());
        }
        events.push(CheckpointTaken { name: None }.into());
        if step.step.0 < self.planned {
            events.push(self.schedule(StepId(step.step.0 + 1), 1, context));
        } else {
            events.push(ExecutionCompleted {}.into());
            events.extend(self.give_back(command.cost, context));
        }
        Ok(events)
    }

    pub(super) fn fail_step(&self, command: &FailStep, context: &Context<'_>) -> Result<Vec<Event>, Refusal> {
        let step = self.expects(command.step, command.branch)?;
        let FailStep { class, retryable, .. } = *command;
        let mut events: Vec<Event> =
            vec![StepFailed { step: step.step, branch: self.branch, class, retryable, reason: None }.into()];
        events.extend(self.again(step, class, retryable, context));
        Ok(events)
    }

    /// The attempt goes on with another worker.
    pub(super) fn lose_step(&self, command: &LoseStep) -> Result<Vec<Event>, Refusal> {
        self.expects(command.step, command.branch)?;
        let LoseStep { step, branch, delivery, reason, .. } = *command;
        Ok(vec![StepLost { step, branch, delivery, reason }.into()])
    }

    pub(super) fn meet_deadline(&self, context: &Context<'_>) -> Vec<Event> {
        let Some(step) = self.waiting.as_ref().filter(|step| !self.paused && step.timeout_at <= context.now)
        else {
            return Vec::new();
        };
        let mut events: Vec<Event> = vec![StepTimedOut { step: step.step, branch: self.branch }.into()];
        events.extend(self.again(step, FailureClass::Timeout, true, context));
        events
    }

    pub(super) fn roll_back(&self, command: &RollBack, context: &Context<'_>) -> Result<Vec<Event>, Refusal> {
        self.running()?;
        if self.account.is_some() && self.slice.is_none() {
            let text = "the job waits for its money; nothing has been done that could be rolled back";
            return Err(Refusal::new(Why::Conflict, text));
        }
        let Some(mark) = self.marks.iter().find(|mark| mark.at == command.to) else {
            let text = format!("seq {} is not a checkpoint of {}", command.to, context.stream);
            return Err(Refusal::new(Why::NotFound, text));
        };
        if self.waiting.is_some() && !command.cancel_running {
            let text = "a step is running; wait for it, or roll back with `cancel_running`";
            return Err(Refusal::new(Why::Conflict, text));
        }
        let raised = if Mutant::BranchNotRaised.on() { self.branch } else { self.branch.next() };
        let next = Job { branch: raised, ..self.clone() };
        let schedule = next.schedule(StepId(mark.done + 1), 1, context);
        Ok(vec![BranchRaised { branch: raised, to: command.to }.into(), schedule])
    }

    pub(super) fn cancel(&self, context: &Context<'_>) -> Result<Vec<Event>, Refusal> {
        self.running()?;
        let mut events: Vec<Event> = vec![ExecutionCancelled {}.into()];
        events.extend(self.give_back(Money::ZERO, context));
        Ok(events)
    }

    pub(super) fn pause(&self, pause: bool) -> Result<Vec<Event>, Refusal> {
        self.running()?;
        match (self.paused, pause) {
            (false, true) => Ok(vec![ExecutionPaused {}.into()]),
            (true, false) => Ok(vec![ExecutionResumed {}.into()]),
            _ => Err(Refusal::new(Why::Conflict, "it is so already")),
        }
    }

    pub(super) fn checkpoint(&self, name: &str) -> Result<Vec<Event>, Refusal> {
        self.running()?;
        Ok(vec![CheckpointTaken { name: Some(name.to_owned()) }.into()])
    }

    /// A signal called `read` looks at the last output and tells its length.
    pub(super) fn signal(&self, name: &str, context: &Context<'_>) -> Result<Vec<Event>, Refusal> {
        self.running()?;
        let last = self.done.last().and_then(Option::as_ref).filter(|_| name == "read");
        let read =
            last.map(|output| (context.open)(output).map_or("null".to_owned(), |all| all.len().to_string()));
        let name = read.map_or(name.to_owned(), |length| format!("read {length}"));
        Ok(vec![SignalReceived { name }.into()])
    }

    fn running(&self) -> Result<(), Refusal> {
        if self.planned == 0 {
            return Err(Refusal::new(Why::NotFound, "there is no such job; start it first"));
        }
        if self.ended {
            return Err(Refusal::new(Why::Conflict, "the job has ended; nothing changes it any more"));
        }
        Ok(())
    }

    fn expects(&self, step: StepId, branch: Branch) -> Result<&Step, Refusal> {
        self.running()?;
        if branch != self.branch {
            let text = format!("branch {branch} is over; the job is on branch {}", self.branch);
            return Err(Refusal::new(Why::Conflict, text));
        }
        self.waiting
            .as_ref()
            .filter(|waiting| waiting.step == step)
            .ok_or_else(|| Refusal::new(Why::Conflict, format!("{step} is not awaited")))
    }

    fn left(&self) -> Money {
        Money(self.slice.map_or(i128::MAX, |slice| slice.0 - self.spent.0))
    }

    fn schedule(&self, step: StepId, attempt: i32, context: &Context<'_>) -> Event {
        // Backoff doubles; the jitter is drawn from the command's entropy, so that a replay draws the same.
        let backoff = if attempt == 1 { 0 } else { (500 << attempt) + context.draw(1, 500) };
        let not_before = context.now.plus_millis(backoff);
        let timeout_at = Some(not_before.plus_millis(TIMEOUT_MS));
        StepScheduled { step, branch: self.branch, attempt, not_before, timeout_at }.into()
    }

    fn again(&self, step: &Step, class: FailureClass, retryable: bool, context: &Context<'_>) -> Vec<Event> {
        if retryable && step.attempt < ATTEMPTS {
            vec![self.schedule(step.step, step.attempt + 1, context)]
        } else {
            self.fail(class, context)
        }
    }

    fn fail(&self, class: FailureClass, context: &Context<'_>) -> Vec<Event> {
        let mut events: Vec<Event> = vec![ExecutionFailed { class }.into()];
        events.extend(self.give_back(Money::ZERO, context));
        events
    }

    fn give_back(&self, last_cost: Money, context: &Context<'_>) -> Option<Event> {
        let left = Money(self.slice?.0 - self.spent.0 - last_cost.0);
        Some(send(context.tenant, self.account?, MessageKind::SliceReturned, Some(left)))
    }

    /// Its sums, once it has ended and no slice is on its way to it any more.
    pub(super) fn carry(&self) -> Option<Event> {
        let settled = self.ended && (self.account.is_none() || self.slice.is_some());
        let (steps, account, slice, spent) = (self.planned as i32, self.account, self.slice, self.spent);
        settled.then(|| ExecutionCarried { steps, account, slice, spent }.into())
    }

    pub(super) fn apply(&mut self, event: &Event, seq: Seq) {
        match event {
            Event::ExecutionStarted(ExecutionStarted { steps, account, .. }) => {
                self.planned = steps.unsigned_abs();
                self.account = *account;
            }
            Event::ExecutionCarried(ExecutionCarried { steps, account, slice, spent }) => {
                let (planned, account, slice, spent) = (steps.unsigned_abs(), *account, *slice, *spent);
                *self = Job { planned, account, slice, spent, ended: true, ..Job::default() };
            }
            Event::SliceReceived(SliceReceived { amount }) => self.slice = Some(*amount),
            Event::StepScheduled(StepScheduled { step, attempt, not_before, timeout_at, .. }) => {
                let timeout_at = timeout_at.unwrap_or(Time(u64::MAX));
                self.waiting =
                    Some(Step { step: *step, attempt: *attempt, not_before: *not_before, timeout_at });
            }
            Event::StepCompleted(StepCompleted { output, .. }) => {
                self.waiting = None;
                self.done.push(output.clone());
            }
            Event::StepFailed(_) | Event::StepTimedOut(_) => self.waiting = None,
            Event::CostRecorded(CostRecorded { amount, .. }) => self.spent.0 += amount.0,
            Event::CheckpointTaken(_) => self.marks.push(Mark { at: seq, done: self.done.len() as u32 }),
            Event::BranchRaised(BranchRaised { branch, to }) => self.go_back(*branch, *to),
            Event::ExecutionCompleted(_) | Event::ExecutionFailed(_) | Event::ExecutionCancelled(_) => {
                self.ended = true;
                self.waiting = None;
            }
            Event::ExecutionPaused(_) => self.paused = true,
            Event::ExecutionResumed(_) => self.paused = false,
            Event::SignalReceived(SignalReceived { name }) => self.heard.push(name.clone()),
            Event::StepLost(_) => self.losses += 1,
            _ => {}
        }
    }

    fn go_back(&mut self, branch: Branch, to: Seq) {
        self.branch = branch;
        self.waiting = None;
        self.marks.retain(|mark| mark.at <= to);
        let done = self.marks.last().map_or(0, |mark| mark.done);
        self.done.truncate(done as usize);
    }

    pub(super) fn due(&self) -> Due {
        match &self.waiting {
            Some(step) if !self.paused => Due {
                effects: vec![Effect {
                    step: step.step,
                    branch: self.branch,
                    attempt: step.attempt,
                    not_before: step.not_before,
                }],
                deadline: Some(step.timeout_at),
            },
            _ => Due::default(),
        }
    }
}
