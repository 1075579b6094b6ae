//! What a run keeps of its calls, and of what detectors and recovery said about the answers of a program.

use std::sync::Arc;

use omium_schemas::catalogue::{
    AnswersCondemned, ApprovalAsked, ApprovalSubject, Command, Event, FindingDismissed, FindingReported,
    GateVerdict, LlmAnswerJudged, LlmAnswerServed, PlannedStep, RemedyChosen, RemedyFailed, RemedySucceeded,
    RemedySuggested, RunDrifted, StartLlmCall, StartProgram, ToolResultServed,
};
use omium_schemas::{Branch, Digest, Money, Seq, StepId, Time};

use crate::apply::Fact;
use crate::state::{Call, CallKind, FindingState, Outcome, Program, Run, Step, Suggested};

/// How many findings are kept. Whoever has more has a program that is beyond repair.
const MAX_FINDINGS: usize = 1_000;

impl Call {
    pub(crate) fn begun(
        at: Seq,
        (step, branch): (StepId, Branch),
        kind: CallKind,
        (agent, caller): (&str, &str),
        (request, occurrence): (Digest, i32),
    ) -> Call {
        Call {
            at,
            step,
            branch,
            kind,
            agent: agent.to_owned(),
            caller: caller.to_owned(),
            request,
            alias: None,
            position: None,
            occurrence,
            outcome: Outcome::Open,
            done: None,
            lost: None,
            taken: 0,
            served: None,
            condemned: false,
            passed_over: false,
            released: false,
            verdict: None,
            patch_set: None,
            thread: None,
            usage: None,
            cost: None,
            reserved: Money::ZERO,
        }
    }
}

impl Run {
    /// A program has one step, which is done when it has ended well.
    pub(crate) fn of_program(start: &StartProgram, deadline: Option<Time>, time: Time) -> Run {
        let step = PlannedStep {
            agent: start.program.clone(),
            framework: "program".to_owned(),
            after: Vec::new(),
            attempts: 1,
            backoff_ms: 0,
            timeout_ms: 0,
            budget: None,
            require: None,
            ensure: None,
            signal: None,
        };
        Run {
            workflow: start.program.clone(),
            plan: Arc::from([step].as_slice()),
            inputs: start.inputs.clone(),
            started: time,
            deadline,
            price_list: start.price,
            steps: vec![Step::default()],
            budget: start.budget,
            program: Some(Box::default()),
            ..Run::default()
        }
    }

    /// The next request need not bring what the log holds already.
    pub(crate) fn keep_messages(&mut self, start: &StartLlmCall) {
        if let Some(program) = self.program.as_mut().filter(|_| !start.stored.is_empty()) {
            Arc::make_mut(&mut program.messages).extend(start.stored.iter().map(|message| message.digest));
        }
    }

    /// Nobody resumes what has ended for good: its answers are in the log, the state need not hold them.
    pub(crate) fn let_go_of_answers(&mut self) {
        for call in &mut self.calls {
            match &mut Arc::make_mut(call).outcome {
                Outcome::Answered(answer) => *answer = None,
                Outcome::Failed { reason, .. } => *reason = None,
                Outcome::Open => {}
            }
        }
        if let Some(program) = &mut self.program {
            program.messages = Arc::default();
        }
    }

    pub(crate) fn apply_gate(&mut self, fact: Fact<'_>) {
        let Fact { seq, event, command, .. } = fact;
        match event {
            Event::LlmAnswerServed(LlmAnswerServed { recorded, .. })
            | Event::ToolResultServed(ToolResultServed { recorded, .. }) => {
                let taking = match command {
                    Command::ServeAnswer(ask) => ask.delivery,
                    _ => self.program.as_ref().map_or(0, |program| program.attempt),
                };
                self.serve(*recorded, taking, seq);
            }
            Event::LlmAnswerJudged(LlmAnswerJudged { call, verdict, .. }) => {
                if let Some(call) = self.call_mut(*call) {
                    call.released &= *verdict == GateVerdict::Release;
                    call.verdict = call.verdict.max_with(*verdict);
                }
            }
            Event::AnswersCondemned(AnswersCondemned { answers, .. }) => {
                for call in
                    self.calls.iter_mut().filter(|call| call.done.is_some_and(|at| answers.contains(&at)))
                {
                    Arc::make_mut(call).condemned = true;
                }
            }
            Event::FindingDismissed(FindingDismissed { finding }) => {
                self.release_judged(*finding);
                if let Some(program) = &mut self.program {
                    program.apply(seq, event);
                }
            }
            Event::RunDrifted(RunDrifted { expected, .. }) => {
                if let Some(call) =
                    self.calls.iter_mut().find(|call| call.done.is_some() && call.done == *expected)
                {
                    Arc::make_mut(call).passed_over = true;
                }
                if let Some(program) = &mut self.program {
                    program.drifts += 1;
                }
            }
            _ => {
                if let Some(program) = &mut self.program {
                    program.apply(seq, event);
                }
            }
        }
    }

    fn serve(&mut self, recorded: Seq, taking: i64, seq: Seq) {
        if let Some(call) = self.calls.iter_mut().find(|call| call.done == Some(recorded)) {
            let call = Arc::make_mut(call);
            (call.taken, call.served, call.released) = (taking, Some(seq), true);
        }
    }
}

impl Run {
    /// Somebody said that the finding is none: the answer that it is about is given as it is.
    fn release_judged(&mut self, finding: Seq) {
        let findings = self.program.iter().flat_map(|program| &program.findings);
        let call = findings.into_iter().find(|found| found.at == finding).and_then(|found| found.call);
        if let Some(call) = call.and_then(|call| self.call_mut(call)) {
            call.verdict = Some(GateVerdict::Release);
        }
    }
}

impl Program {
    fn apply(&mut self, seq: Seq, event: &Event) {
        match event {
            Event::FindingReported(found) if self.findings.len() < MAX_FINDINGS => {
                self.findings.push(FindingState::new(seq, found));
            }
            Event::RemedySuggested(suggested) => {
                if let Some(found) = self.found(suggested.finding) {
                    found.suggested.push(Suggested::new(suggested));
                }
            }
            Event::RemedyChosen(RemedyChosen { finding, number, .. }) => {
                self.asked = None;
                if let Some(found) = self.found(*finding) {
                    found.chosen = Some(*number);
                }
            }
            Event::RemedySucceeded(RemedySucceeded { finding, .. }) => self.helped(*finding, true),
            Event::RemedyFailed(RemedyFailed { finding, .. }) => self.helped(*finding, false),
            Event::FindingDismissed(FindingDismissed { finding }) => {
                self.asked = None;
                if let Some(found) = self.found(*finding) {
                    found.dismissed = true;
                }
            }
            Event::ApprovalAsked(ApprovalAsked { subject: ApprovalSubject::Remedy, .. }) => {
                self.asked = self.asked.or(Some(seq));
            }
            // What else detectors, recovery and costs have found is theirs; messages and votes do not steer a run yet.
            _ => {}
        }
    }

    fn found(&mut self, finding: Seq) -> Option<&mut FindingState> {
        self.findings.iter_mut().find(|found| found.at == finding)
    }

    fn helped(&mut self, finding: Seq, helped: bool) {
        if let Some(found) = self.found(finding) {
            found.helped = Some(helped);
        }
    }
}

impl FindingState {
    fn new(at: Seq, reported: &FindingReported) -> FindingState {
        let FindingReported { kind, severity, detector, call, detail, .. } = reported.clone();
        let (suggested, chosen, helped, dismissed) = (Vec::new(), None, None, false);
        FindingState { at, call, kind, severity, detector, detail, suggested, chosen, helped, dismissed }
    }
}

impl Suggested {
    fn new(suggested: &RemedySuggested) -> Suggested {
        let RemedySuggested { number, kind, confidence, text, .. } = suggested.clone();
        Suggested { number, kind, confidence, text }
    }
}

/// Of two verdicts about one answer the stricter one stands.
trait Stricter {
    fn max_with(self, other: GateVerdict) -> Option<GateVerdict>;
}

impl Stricter for Option<GateVerdict> {
    fn max_with(self, other: GateVerdict) -> Option<GateVerdict> {
        let weight = |verdict: GateVerdict| match verdict {
            GateVerdict::Release => 0,
            GateVerdict::AskAgain => 1,
            GateVerdict::Suspend => 2,
        };
        match self {
            Some(known) if weight(known) > weight(other) => Some(known),
            _ => Some(other),
        }
    }
}
