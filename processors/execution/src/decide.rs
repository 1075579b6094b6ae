//! Commands of an execution: which events they cause, or why they are refused.

use std::collections::BTreeSet;

use omium_processor::{Context, Refusal, Why};
use omium_schemas::catalogue::{
    BranchRaised, CheckpointTaken, Command, CompleteStep, CostRecorded, DeadlinePassed, Event,
    ExecutionCancelled, ExecutionForked, ExecutionPaused, ExecutionResumed, ExecutionStarted, FailStep,
    FailureClass, ForkExecution, ForkStarted, LoseStep, PlannedStep, RollBack, SignalExecution,
    SignalReceived, StartExecution, StartFork, StartStep, StepCompleted, StepFailed, StepLost, StepStarted,
    StepTimedOut, TakeCheckpoint, VersionsPinned,
};
use omium_schemas::{Branch, Digest, Money, Seq, StepId, Time};

use crate::bounds;
use crate::draft::{Draft, conflict, invalid, said};
use crate::state::{Phase, Run, Status};
use crate::{program, rules};

/// How many steps a plan may have.
const MAX_STEPS: usize = 1_000;
/// How many signals an execution keeps.
const MAX_SIGNALS: usize = 1_000;
/// How long somebody may ask that another attempt waits.
const MAX_WAIT_MS: u64 = 24 * 3_600 * 1_000;
/// How often workers may lose one attempt before it counts as failed.
const MAX_LOSSES: u32 = 5;

type Decided = Result<Vec<Event>, Refusal>;

/// Decides for a stream that is an execution.
pub(crate) fn decide(run: Option<&Run>, command: &Command, context: &Context<'_>) -> Decided {
    let run = match (run, command) {
        (None, Command::StartExecution(start)) => return begin(start, command, context),
        (None, Command::StartFork(fork)) => return begin_fork(fork, command, context),
        (None, Command::StartProgram(start)) => return program::begin(start, command, context),
        // Nobody sends messages to executions yet; one that comes is received and changes nothing.
        (_, Command::DeliverMessage(_)) => return Ok(Vec::new()),
        (Some(_), Command::StartExecution(_) | Command::StartFork(_) | Command::StartProgram(_)) => {
            return conflict(format!(
                "{} was started before; `omium show {}` says how it stands",
                context.stream, context.stream
            ));
        }
        (None, _) => {
            let text =
                format!("there is no execution {}; `omium list` shows those that there are", context.stream);
            return Err(Refusal::new(Why::NotFound, text));
        }
        (Some(run), _) if run.let_go => {
            let text = format!(
                "the records of {} were let go of: they were kept as long as its workflow and the server say",
                context.stream
            );
            return Err(Refusal::new(Why::NotFound, text));
        }
        (Some(run), _) => run,
    };
    bounds::room(run, command, context)?;
    let mut draft = Draft::new(run.clone(), command, context);
    match command {
        Command::CompleteStep(done) => draft.complete(done)?,
        Command::FailStep(failed) => draft.fail(failed)?,
        Command::StartStep(started) => draft.begin_attempt(started)?,
        Command::LoseStep(lost) => draft.lost(lost)?,
        Command::MeetDeadline(_) => draft.meet_deadline(),
        Command::PauseExecution(_) => draft.pause()?,
        Command::ResumeExecution(_) => draft.resume()?,
        Command::CancelExecution(_) => draft.cancel()?,
        Command::SignalExecution(signal) => draft.signal(signal)?,
        Command::TakeCheckpoint(checkpoint) => draft.checkpoint(checkpoint)?,
        Command::RollBack(back) => draft.roll_back(back)?,
        Command::RetryExecution(_) => draft.retry()?,
        Command::ForkExecution(fork) => draft.fork(fork)?,
        Command::AskApproval(ask) => draft.ask(ask)?,
        Command::GiveApproval(given) if draft.asks_about_money(given.approval) => {
            draft.allow_unpriced(given.approval);
        }
        Command::GiveApproval(given) => draft.give(given)?,
        Command::StartLlmCall(call) => draft.start_model_call(call)?,
        Command::CompleteLlmCall(call) => draft.complete_model_call(call)?,
        Command::FailLlmCall(call) => draft.fail_model_call(call)?,
        Command::StartToolCall(call) => draft.start_tool_call(call)?,
        Command::CompleteToolCall(call) => draft.complete_tool_call(call)?,
        Command::FailToolCall(call) => draft.fail_tool_call(call)?,
        Command::ServeAnswer(ask) => draft.serve(ask)?,
        Command::FinishExecution(end) => draft.finish_program(end)?,
        Command::ChooseRemedy(choice) => draft.choose(choice)?,
        Command::DismissFinding(dismissal) => draft.dismiss(dismissal)?,
        Command::RefuseApproval(refused) if draft.asks_about_finding(refused.approval) => {
            draft.refuse_remedies(refused);
        }
        Command::RefuseApproval(refused) if draft.asks_about_money(refused.approval) => {
            draft.refuse_unpriced(refused.approval);
        }
        Command::RefuseApproval(refused) => draft.refuse(refused)?,
        other => return invalid(format!("{} is nothing that an execution understands", other.name())),
    }
    Ok(draft.events())
}

fn begin(start: &StartExecution, command: &Command, context: &Context<'_>) -> Decided {
    check_plan(&start.plan)?;
    let deadline = deadline(start.timeout_ms, context)?;
    let mut draft = Draft::new(Run::default(), command, context);
    let StartExecution { workflow, account, .. } = start.clone();
    draft.push(ExecutionStarted { workflow, steps: start.plan.len() as i32, account, deadline });
    draft.pin(start.workflow_version);
    draft.push(CheckpointTaken { name: None });
    draft.go_on();
    Ok(draft.events())
}

fn begin_fork(fork: &StartFork, command: &Command, context: &Context<'_>) -> Decided {
    check_plan(&fork.plan)?;
    let deadline = deadline(fork.timeout_ms, context)?;
    check_done(fork)?;
    let mut draft = Draft::new(Run::default(), command, context);
    let StartFork { workflow, source, at, state_hash, .. } = fork.clone();
    draft.push(ExecutionStarted { workflow, steps: fork.plan.len() as i32, account: None, deadline });
    draft.push(ForkStarted { source, at, state_hash });
    draft.pin(fork.workflow_version);
    let branch = draft.run.branch;
    for done in &fork.done {
        draft.push(StepCompleted { step: done.step, branch, output: None });
    }
    draft.push(CheckpointTaken { name: None });
    draft.go_on();
    Ok(draft.events())
}

/// When what begins now has to have ended: by the time that the log believes, as everything that is compared with it.
pub(crate) fn deadline(timeout_ms: Option<i64>, context: &Context<'_>) -> Result<Option<Time>, Refusal> {
    let Some(timeout) = timeout_ms else { return Ok(None) };
    match u64::try_from(timeout) {
        Ok(millis) if millis > 0 => Ok(Some(context.now.plus_millis(millis))),
        _ => invalid("a timeout is one millisecond at least"),
    }
}

/// What a fork has behind it is what a checkpoint can hold: each step once, and none before those it comes after.
fn check_done(fork: &StartFork) -> Result<(), Refusal> {
    let done: BTreeSet<StepId> = fork.done.iter().map(|done| done.step).collect();
    if done.len() < fork.done.len() {
        return invalid("a step that a fork begins with is done once, not twice");
    }
    for step in done.iter().copied() {
        let Some(plan) = (step.0 as usize).checked_sub(1).and_then(|at| fork.plan.get(at)) else {
            return invalid(format!("the plan has no {step}"));
        };
        if !plan.after.iter().all(|before| done.contains(&StepId(before.unsigned_abs()))) {
            return invalid(format!("{step} cannot be done before those that it comes after"));
        }
    }
    Ok(())
}

fn check_plan(plan: &[PlannedStep]) -> Result<(), Refusal> {
    if plan.is_empty() || plan.len() > MAX_STEPS {
        return invalid(format!("a plan has 1 to {MAX_STEPS} steps, not {}", plan.len()));
    }
    let mut ordered: BTreeSet<i32> = BTreeSet::new();
    for rule in plan.iter().flat_map(|step| [&step.require, &step.ensure]).flatten() {
        rules::compiles(rule).or_else(invalid)?;
    }
    while ordered.len() < plan.len() {
        let ready = (1..=plan.len() as i32).filter(|step| !ordered.contains(step));
        let ready: Vec<i32> = ready
            .filter(|step| plan[*step as usize - 1].after.iter().all(|other| ordered.contains(other)))
            .collect();
        if ready.is_empty() {
            return invalid("the plan has steps that wait for each other, or for one that there is not");
        }
        ordered.extend(ready);
    }
    if plan.iter().any(|step| step.attempts < 1) {
        return invalid("a step is tried at least once");
    }
    Ok(())
}

impl Draft<'_> {
    /// The price list stands in the command: an event that repeats it makes each execution's log longer.
    fn pin(&mut self, version: Option<Digest>) {
        if let Some(workflow) = version {
            let logic = self.context.logic;
            self.push(VersionsPinned { workflow, policy: None, price: None, logic });
        }
    }

    fn complete(&mut self, done: &CompleteStep) -> Result<(), Refusal> {
        self.awaited(done.step, done.branch)?;
        let (step, branch) = (done.step, self.run.branch);
        let cost = done.cost;
        if cost < Money::ZERO {
            return invalid("a cost is not negative");
        }
        let before = self.fuel.get().refused();
        let accepted = self.run.accepts(step, done.output.as_ref(), self.context, &self.fuel);
        if let Err(why) = accepted {
            self.charge(step, cost);
            let class = FailureClass::Hallucination;
            // A rule that costs too much is not checked of the next answer either, which has to be paid for.
            let retryable = self.fuel.get().refused() == before;
            return self.attempt_failed(StepFailed { step, branch, class, retryable, reason: said(&why) });
        }
        // The result stands in the command; an event that repeats it doubles the log of whoever has long results.
        self.push(StepCompleted { step, branch, output: None });
        self.charge(step, cost);
        self.push(CheckpointTaken { name: None });
        self.go_on_within_budget(&[step]);
        Ok(())
    }

    pub(crate) fn charge(&mut self, step: StepId, amount: Money) {
        if amount > Money::ZERO {
            self.push(CostRecorded { step: Some(step), amount });
        }
    }

    /// What has been spent is spent; what comes next is not begun with money that is not there. Calls are paid while
    /// their step runs, so it may have gone whatever the command is. `steps` are those that the command speaks of.
    fn go_on_within_budget(&mut self, steps: &[StepId]) {
        if !self.ends_over_budget(steps) {
            self.go_on();
        }
    }

    pub(crate) fn ends_over_budget(&mut self, steps: &[StepId]) -> bool {
        let over = |spent: Money, most: Option<Money>| most.is_some_and(|most| spent > most);
        let mut steps = steps.iter().filter_map(|step| self.run.step(*step));
        let of_step = steps.any(|(plan, state)| over(state.spent, plan.budget));
        let unfinished = self.run.steps.iter().any(|step| !matches!(step.phase, Phase::Done { .. }));
        let ends = unfinished && (of_step || over(self.run.spent, self.run.budget));
        if ends {
            self.end_failed(FailureClass::Budget);
        }
        ends
    }

    fn fail(&mut self, failed: &FailStep) -> Result<(), Refusal> {
        self.awaited(failed.step, failed.branch)?;
        let FailStep { step, class, retryable, cost, .. } = *failed;
        let branch = self.run.branch;
        self.charge(step, cost.unwrap_or(Money::ZERO));
        self.not_before = failed
            .retry_after_ms
            .and_then(|wait| u64::try_from(wait).ok())
            .map(|wait| self.context.now.plus_millis(wait.min(MAX_WAIT_MS)));
        self.attempt_failed(StepFailed { step, branch, class, retryable, reason: None })
    }

    pub(crate) fn attempt_failed(&mut self, failed: StepFailed) -> Result<(), Refusal> {
        let step = failed.step;
        self.push(failed);
        self.push(CheckpointTaken { name: None });
        self.go_on_within_budget(&[step]);
        Ok(())
    }

    pub(crate) fn started(&mut self, started: &StartStep) -> Result<(), Refusal> {
        self.awaited(started.step, started.branch)?;
        let StartStep { step, branch, delivery, .. } = *started;
        self.push(StepStarted { step, branch, delivery });
        Ok(())
    }

    fn lost(&mut self, lost: &LoseStep) -> Result<(), Refusal> {
        self.awaited(lost.step, lost.branch)?;
        let LoseStep { step, branch, delivery, reason, .. } = *lost;
        self.push(StepLost { step, branch, delivery, reason });
        if self.run.step(step).is_some_and(|(_, state)| state.losses >= MAX_LOSSES) {
            return self.attempt_failed(StepFailed {
                step,
                branch,
                class: FailureClass::Crashed,
                retryable: true,
                reason: None,
            });
        }
        Ok(())
    }

    fn meet_deadline(&mut self) {
        let now = self.context.now;
        if !self.run.status.is_open() {
            return;
        }
        if let Some(at) = self.run.deadline.filter(|at| *at <= now) {
            self.push(DeadlinePassed { at });
            return self.end_failed(FailureClass::Timeout);
        }
        let branch = self.run.branch;
        let late = |run: &Run, step: &StepId| {
            let phase = run.step(*step).map(|(_, state)| &state.phase);
            matches!(phase, Some(phase @ Phase::Waiting { timeout_at: Some(at), .. }) if *at <= now && !run.holds(phase))
                && !run.asks(*step)
        };
        let mut late: Vec<StepId> = self.run.ids().filter(|step| late(&self.run, step)).collect();
        for step in &late {
            self.push(StepTimedOut { step: *step, branch });
        }
        late.extend(self.expire_questions());
        if late.is_empty() {
            return;
        }
        self.push(CheckpointTaken { name: None });
        self.go_on_within_budget(&late);
    }

    fn pause(&mut self) -> Result<(), Refusal> {
        self.open()?;
        if self.run.status == Status::Paused {
            return conflict(format!("{} is paused already", self.context.stream));
        }
        self.push(ExecutionPaused {});
        Ok(())
    }

    fn resume(&mut self) -> Result<(), Refusal> {
        self.open()?;
        if self.run.status != Status::Paused {
            return conflict(format!("{} is not paused; it runs", self.context.stream));
        }
        if let Some((_, Some(about))) = self.run.suspended {
            let stream = self.context.stream;
            return conflict(format!(
                "{stream} waits for a decision about seq {about}: `omium approve {stream}` or `omium dismiss {stream}`"
            ));
        }
        let held = self.run.held();
        self.push(ExecutionResumed {});
        if self.ends_over_budget(&[]) {
            return Ok(());
        }
        for step in held {
            self.send_late(step);
        }
        self.go_on();
        Ok(())
    }

    fn cancel(&mut self) -> Result<(), Refusal> {
        self.open()?;
        self.cancel_running();
        self.push(ExecutionCancelled {});
        Ok(())
    }

    fn signal(&mut self, signal: &SignalExecution) -> Result<(), Refusal> {
        self.open()?;
        if signal.name.trim().is_empty() || signal.name.len() > 256 {
            return invalid("a signal has a name of 1 to 256 bytes");
        }
        if self.run.signals.len() >= MAX_SIGNALS {
            let text = format!("{} keeps {MAX_SIGNALS} signals, and has as many", self.context.stream);
            return Err(Refusal::new(Why::Exhausted, text));
        }
        self.welcome(signal)?;
        self.push(SignalReceived { name: signal.name.clone() });
        self.go_on_within_budget(&[]);
        Ok(())
    }

    /// A signal that a step waits for keeps that step's rule, or whoever sent it hears at once that it does not.
    fn welcome(&self, signal: &SignalExecution) -> Result<(), Refusal> {
        let waits = |step: &StepId| {
            let (plan, state) = self.run.step(*step)?;
            let waiting = matches!(state.phase, Phase::Waiting { .. });
            (waiting && plan.signal.as_ref() == Some(&signal.name)).then_some(*step)
        };
        let Some(step) = self.run.ids().find_map(|step| waits(&step)) else { return Ok(()) };
        let accepted = self.run.accepts(step, signal.body.as_ref(), self.context, &self.fuel);
        accepted.or_else(|why| {
            invalid(format!(
                "`{}` is not what the step waits for: {why}; correct it and send it again",
                signal.name
            ))
        })
    }

    fn checkpoint(&mut self, checkpoint: &TakeCheckpoint) -> Result<(), Refusal> {
        self.open()?;
        let name = &checkpoint.name;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if !(1..=64).contains(&name.len())
            || !name.bytes().all(allowed)
            || name == "last"
            || name.bytes().all(|byte| byte.is_ascii_digit())
        {
            return invalid(
                "a checkpoint's name has 1 to 64 of A-Z a-z 0-9 _ . -, is no number and not `last`",
            );
        }
        if self.run.marks.iter().any(|mark| mark.name.as_ref() == Some(name)) {
            return conflict(format!("{} has a checkpoint `{name}` already", self.context.stream));
        }
        self.push(CheckpointTaken { name: Some(name.clone()) });
        Ok(())
    }

    fn roll_back(&mut self, back: &RollBack) -> Result<(), Refusal> {
        let stream = self.context.stream;
        if matches!(self.run.status, Status::Completed | Status::Cancelled) {
            return conflict(match self.run.program {
                Some(_) => format!("{stream} has ended for good; `omium exec` runs the program again"),
                None => format!(
                    "{stream} has ended for good; `omium fork {stream} {}` starts a new one from there",
                    back.to
                ),
            });
        }
        if self.run.mark(back.to).is_none() {
            let text = format!(
                "seq {} is not a checkpoint of {stream}; `omium checkpoints list {stream}` shows them",
                back.to
            );
            return Err(Refusal::new(Why::NotFound, text));
        }
        let running = self.run.running();
        if !running.is_empty() && !back.cancel_running {
            let names: Vec<&str> =
                running.iter().filter_map(|step| Some(self.run.step(*step)?.0.agent.as_str())).collect();
            return conflict(format!(
                "{} still runs; wait for it, or roll back with `--cancel-running`",
                names.join(", ")
            ));
        }
        self.in_time()?;
        self.over_writes(back)?;
        self.cancel_running();
        self.raise(back.to);
        Ok(())
    }

    fn raise(&mut self, to: Seq) {
        let branch = self.run.branch.next();
        self.push(BranchRaised { branch, to });
        self.go_on();
    }

    /// Whether there is time to go on in: a deadline that has passed would end what is begun again at once.
    pub(crate) fn in_time(&self) -> Result<(), Refusal> {
        if self.run.deadline.is_some_and(|deadline| deadline <= self.context.now) {
            let again = if self.run.program.is_some() { "omium exec" } else { "omium fork" };
            return conflict(format!(
                "the deadline of {} has passed; `{again}` starts one with its own",
                self.context.stream
            ));
        }
        Ok(())
    }

    fn retry(&mut self) -> Result<(), Refusal> {
        self.is_no_program()?;
        if !matches!(self.run.status, Status::Failed(_)) {
            return conflict(format!("{} has not failed; there is nothing to retry", self.context.stream));
        }
        let Some(last) = self.run.marks.last().map(|mark| mark.at) else {
            return conflict(format!(
                "{} has no checkpoint to go on from; start it again",
                self.context.stream
            ));
        };
        self.in_time()?;
        self.raise(last);
        Ok(())
    }

    /// Only its own process performs a program's step: what this node would begin again, nothing would ever run.
    fn is_no_program(&self) -> Result<(), Refusal> {
        let stream = self.context.stream;
        if self.run.program.is_some() {
            return conflict(format!("{stream} is a program; `omium exec --resume {stream}` runs it again"));
        }
        Ok(())
    }

    fn fork(&mut self, fork: &ForkExecution) -> Result<(), Refusal> {
        self.is_no_program()?;
        if self.run.mark(fork.at).is_none() {
            let stream = self.context.stream;
            let text = format!(
                "seq {} is not a checkpoint of {stream}; `omium checkpoints list {stream}` shows them",
                fork.at
            );
            return Err(Refusal::new(Why::NotFound, text));
        }
        self.push(ExecutionForked { to: fork.to, at: fork.at });
        Ok(())
    }

    pub(crate) fn open(&self) -> Result<(), Refusal> {
        let stream = self.context.stream;
        match self.run.status {
            Status::Running | Status::Paused => Ok(()),
            Status::Failed(_) if self.run.program.is_some() => {
                conflict(format!("{stream} has failed; `omium exec --resume {stream}` runs it again"))
            }
            Status::Failed(_) => {
                conflict(format!("{stream} has failed; `omium retry {stream}` tries the failed step again"))
            }
            Status::Completed => conflict(format!("{stream} is completed; nothing changes it any more")),
            Status::Cancelled => conflict(format!("{stream} was cancelled; nothing changes it any more")),
        }
    }

    pub(crate) fn awaited(&self, step: StepId, branch: Branch) -> Result<(), Refusal> {
        self.open()?;
        if branch != self.run.branch {
            return conflict(format!(
                "branch {branch} is over; {} is on branch {}",
                self.context.stream, self.run.branch
            ));
        }
        match self.run.step(step).map(|(_, state)| &state.phase) {
            Some(Phase::Waiting { .. }) if self.run.asks(step) => conflict(format!(
                "{step} waits for a person's word about a tool; `omium show {}` says which",
                self.context.stream
            )),
            Some(Phase::Waiting { .. }) => Ok(()),
            Some(_) => conflict(format!("{step} is not awaited; its outcome is not needed")),
            None => Err(Refusal::new(Why::NotFound, format!("{} has no {step}", self.context.stream))),
        }
    }
}
