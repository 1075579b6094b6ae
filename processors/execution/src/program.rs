//! Programs that decide their own steps: one step that whoever started it performs, any number of attempts at it, and
//! answers that a later attempt is served again.

use omium_processor::{Context, Refusal, Why};
use omium_schemas::catalogue::{
    ApprovalAsked, ApprovalRefused, ApprovalSubject, CheckpointTaken, ChooseRemedy, ChosenBy, Command,
    DismissFinding, Event, ExecutionResumed, ExecutionStarted, ExecutionSuspended, FailureClass,
    FindingDismissed, FinishExecution, GateVerdict, LlmAnswerJudged, LlmAnswerServed, RefuseApproval,
    RemedyChosen, ServeAnswer, StartProgram, StartStep, StepCompleted, StepFailed, StepScheduled,
    StepStarted, SuspendReason, ToolResultServed,
};
use omium_schemas::{Seq, StepId};

use crate::decide::deadline;
use crate::draft::{Draft, conflict, invalid};
use crate::state::{CallKind, Program, Run, Status};

/// The one step of a program.
pub(crate) const STEP: StepId = StepId(1);
/// How many checks one program may be under.
const MAX_GUARDS: usize = 200;

/// Opens an execution for a program. It waits for somebody to run it.
pub(crate) fn begin(
    start: &StartProgram,
    command: &Command,
    context: &Context<'_>,
) -> Result<Vec<Event>, Refusal> {
    if start.program.trim().is_empty() || start.program.len() > 256 {
        return invalid("a program has a name of 1 to 256 bytes");
    }
    if start.guards.len() > MAX_GUARDS {
        return invalid(format!(
            "a program is under {MAX_GUARDS} checks at most, not {}",
            start.guards.len()
        ));
    }
    let deadline = deadline(start.timeout_ms, context)?;
    let mut draft = Draft::new(Run::default(), command, context);
    let StartProgram { program, .. } = start.clone();
    draft.push(ExecutionStarted { workflow: program, steps: 1, account: None, deadline });
    draft.push(CheckpointTaken { name: None });
    draft.go_on();
    Ok(draft.events())
}

impl Draft<'_> {
    /// An attempt begins. Whatever earlier attempts still ask is refused from here on.
    pub(crate) fn begin_attempt(&mut self, start: &StartStep) -> Result<(), Refusal> {
        let stream = self.context.stream;
        let Some(program) = &self.run.program else { return self.started(start) };
        let next = program.attempt + 1;
        if start.step != STEP || start.branch != self.run.branch {
            return invalid(format!(
                "{stream} is a program: its one step is {STEP} on branch {}",
                self.run.branch
            ));
        }
        if start.delivery != next {
            return conflict(format!("the next attempt at {stream} is {next}, not {}", start.delivery));
        }
        // Whether its model has a price now is seen when that is asked.
        if !matches!(self.run.suspended, Some((SuspendReason::Budget, _))) {
            self.may_go_on()?;
        }
        let (branch, attempt) = (self.run.branch, i32::try_from(next).unwrap_or(i32::MAX));
        if matches!(self.run.status, Status::Failed(_) | Status::Paused) {
            self.in_time()?;
            self.push(ExecutionResumed {});
        }
        if next > 1 {
            let not_before = self.context.now;
            self.push(StepScheduled { step: STEP, branch, attempt, not_before, timeout_at: None });
        }
        self.push(StepStarted { step: STEP, branch, delivery: next });
        Ok(())
    }

    /// Whether a program may run now, and what is to be done first where not.
    fn may_go_on(&self) -> Result<(), Refusal> {
        let stream = self.context.stream;
        match (self.run.status, self.run.suspended) {
            (Status::Failed(FailureClass::Rejected), _) => conflict(format!(
                "{stream} was refused by a person and does not go on; `omium exec` runs the program again from its beginning"
            )),
            (Status::Running | Status::Failed(_), _) => Ok(()),
            (Status::Paused, Some((_, Some(about)))) => conflict(format!(
                "{stream} is suspended: somebody has to decide about seq {about}; \
                 `omium show {stream}` says what, `omium approve`, `omium dismiss` or `omium answer` decide"
            )),
            (Status::Paused, _) => {
                conflict(format!("{stream} is paused; `omium resume {stream}` lets it go on"))
            }
            (Status::Completed, _) => {
                conflict(format!("{stream} is completed; `omium replay {stream}` shows what happened"))
            }
            (Status::Cancelled, _) => conflict(format!("{stream} was cancelled; start it anew")),
        }
    }

    /// Whether an attempt's call is to be taken: it is the one that runs, and nobody has stopped it.
    pub(crate) fn of_attempt(&self, delivery: i64) -> Result<(), Refusal> {
        let Some(program) = &self.run.program else { return Ok(()) };
        if delivery != program.attempt {
            let text = format!(
                "attempt {delivery} at {} is over: attempt {} runs",
                self.context.stream, program.attempt
            );
            return conflict(text);
        }
        self.may_go_on()
    }

    /// Serves the outcome of a recorded call, if this attempt has not had it yet.
    pub(crate) fn serve(&mut self, ask: &ServeAnswer) -> Result<(), Refusal> {
        self.awaited(ask.step, ask.branch)?;
        self.of_attempt(ask.delivery)?;
        let Some(found) = self.run.calls.iter().find(|call| call.at == ask.call) else {
            let text = format!("there is no call at seq {}; ask what is recorded again", ask.call);
            return Err(Refusal::new(Why::NotFound, text));
        };
        if found.step != ask.step || !self.run.may_serve(found, ask.delivery) {
            let text =
                format!("the outcome of the call at seq {} is taken; ask what is recorded again", ask.call);
            return Err(Refusal::new(Why::NotFound, text));
        }
        let (step, recorded) = (ask.step, found.done.unwrap_or(found.at));
        match found.kind {
            CallKind::Model(_) => self.push(LlmAnswerServed { step, recorded }),
            CallKind::Tool { .. } => self.push(ToolResultServed { step, recorded }),
        }
        Ok(())
    }

    /// The running attempt has ended. Whether the program is done is what the log says, not how it ended: one that was
    /// suspended or paused goes on when it is run again, whatever its exit code.
    pub(crate) fn finish_program(&mut self, end: &FinishExecution) -> Result<(), Refusal> {
        let stream = self.context.stream;
        let Some(program) = &self.run.program else {
            return invalid(format!("{stream} is no program; its steps end it"));
        };
        if end.delivery != program.attempt {
            return conflict(format!("attempt {} at {stream} is over already", end.delivery));
        }
        self.open()?;
        if self.run.status == Status::Paused {
            return Ok(());
        }
        let branch = self.run.branch;
        if end.code == 0 {
            self.push(StepCompleted { step: STEP, branch, output: None });
        } else {
            let class = FailureClass::Crashed;
            self.push(StepFailed { step: STEP, branch, class, retryable: false, reason: None });
        }
        self.push(CheckpointTaken { name: None });
        self.go_on();
        Ok(())
    }

    /// Somebody chooses what is done about the finding that the program waits for.
    pub(crate) fn choose(&mut self, choice: &ChooseRemedy) -> Result<(), Refusal> {
        self.decided_about(choice.finding)?;
        let suggested = |run: &Run| {
            let finding = run.program.as_ref()?.findings.iter().find(|found| found.at == choice.finding)?;
            finding.suggested.iter().any(|known| known.number == choice.number).then_some(())
        };
        if suggested(&self.run).is_none() {
            return invalid(format!(
                "the finding at seq {} has no suggestion {}",
                choice.finding, choice.number
            ));
        }
        let ChooseRemedy { finding, number } = *choice;
        self.push(RemedyChosen { finding, number, by: ChosenBy::Human });
        self.push(ExecutionResumed {});
        Ok(())
    }

    /// Somebody says that the finding is none: the answer is given as it is.
    pub(crate) fn dismiss(&mut self, dismissal: &DismissFinding) -> Result<(), Refusal> {
        self.decided_about(dismissal.finding)?;
        self.push(FindingDismissed { finding: dismissal.finding });
        self.push(ExecutionResumed {});
        Ok(())
    }

    /// Whether this approval is about a finding.
    pub(crate) fn asks_about_finding(&self, approval: Seq) -> bool {
        self.run.program.as_ref().is_some_and(|program| program.asked == Some(approval))
    }

    /// Somebody wants none of the remedies: the program does not go on.
    pub(crate) fn refuse_remedies(&mut self, refused: &RefuseApproval) {
        self.push(ApprovalRefused { approval: refused.approval });
        self.end_failed(FailureClass::Rejected);
    }

    /// What a suspended program waited for has come, unless it waits for more.
    pub(crate) fn awake(&mut self) {
        if self.run.suspended.is_some() && self.run.questions.is_empty() {
            self.push(ExecutionResumed {});
        }
    }

    fn decided_about(&self, finding: Seq) -> Result<(), Refusal> {
        match self.run.suspended {
            Some((SuspendReason::Approval, Some(about))) if about == finding => Ok(()),
            Some((_, Some(about))) => conflict(format!(
                "{} waits for a decision about seq {about}, not {finding}",
                self.context.stream
            )),
            _ => conflict(format!("{} waits for no decision", self.context.stream)),
        }
    }
}

/// What the execution does about what recovery has decided.
pub(crate) fn react(run: &Run, event: &Event) -> Vec<Event> {
    let Some(program) = &run.program else { return Vec::new() };
    let call_of = |finding: Seq| program.findings.iter().find(|found| found.at == finding)?.call;
    match event {
        Event::RemedyChosen(RemedyChosen { finding, by: ChosenBy::Policy, .. }) => {
            judged(call_of(*finding), GateVerdict::AskAgain, *finding)
        }
        // The program is to end: whoever answers lets it be run again.
        Event::ApprovalAsked(ApprovalAsked { subject: ApprovalSubject::ToolCall, about, .. }) => {
            let suspended = ExecutionSuspended { reason: SuspendReason::Approval, about: *about };
            if run.suspended.is_none() { vec![suspended.into()] } else { Vec::new() }
        }
        Event::ApprovalAsked(ApprovalAsked {
            subject: ApprovalSubject::Remedy,
            about: Some(finding),
            ..
        }) => {
            let mut events = judged(call_of(*finding), GateVerdict::Suspend, *finding);
            // One question at a time: the first finding of an answer is the one that is asked about.
            if run.suspended.is_none() {
                let reason = SuspendReason::Approval;
                events.push(ExecutionSuspended { reason, about: Some(*finding) }.into());
            }
            events
        }
        _ => Vec::new(),
    }
}

fn judged(call: Option<Seq>, verdict: GateVerdict, finding: Seq) -> Vec<Event> {
    call.map(|call| LlmAnswerJudged { call, verdict, finding: Some(finding) }.into()).into_iter().collect()
}

impl Program {
    /// A suggestion of a finding.
    pub fn suggestion(&self, finding: Seq, number: i32) -> Option<&crate::state::Suggested> {
        let found = self.findings.iter().find(|found| found.at == finding)?;
        found.suggested.iter().find(|known| known.number == number)
    }
}
