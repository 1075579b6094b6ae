//! What only a person can say: whether a tool that changes something did so, after a crash in the middle of its call. Until
//! somebody has said it, the step waits: nothing is repeated in silence.

use omium_processor::{Refusal, Why};
use omium_schemas::catalogue::{
    ApprovalAsked, ApprovalExpired, ApprovalGiven, ApprovalRefused, ApprovalSubject, AskApproval, Command,
    Event, FailureClass, GiveApproval, RefuseApproval, StepFailed, SuspendReason,
};
use omium_schemas::{Seq, StepId, Time};

use crate::apply::Fact;
use crate::draft::{Draft, conflict, invalid};
use crate::state::{Call, CallKind, Outcome, Phase, Question, Run};

impl Draft<'_> {
    pub(crate) fn ask(&mut self, ask: &AskApproval) -> Result<(), Refusal> {
        let AskApproval { subject, about, expires_at, .. } = ask.clone();
        let Some(at) = about.filter(|_| subject == ApprovalSubject::ToolCall) else {
            return invalid("an execution asks about calls of tools alone; name the call's seq");
        };
        let Some(call) = self.run.calls.iter().find(|call| call.at == at) else {
            return conflict(format!("no call at seq {at} is awaited; its step may be over"));
        };
        let (step, branch) = (call.step, call.branch);
        if !is_unknown(call) {
            return conflict(format!(
                "what came of the call at seq {at} is known, or calling it again does no harm"
            ));
        }
        if self.run.question_about(at).is_some() {
            return conflict(format!("somebody is asked about the call at seq {at} already"));
        }
        self.awaited(step, branch)?;
        if expires_at.is_some_and(|end| end <= self.context.now) {
            return invalid("the time for an answer has passed already");
        }
        self.push(ApprovalAsked { subject, about, expires_at });
        Ok(())
    }

    /// It did not happen, or may happen twice: the tool is called again.
    pub(crate) fn give(&mut self, given: &GiveApproval) -> Result<(), Refusal> {
        let step = self.asked(given.approval)?;
        self.push(ApprovalGiven { approval: given.approval });
        self.go_on_again(step);
        Ok(())
    }

    /// The step is given up.
    pub(crate) fn refuse(&mut self, refused: &RefuseApproval) -> Result<(), Refusal> {
        let (step, branch) = (self.asked(refused.approval)?, self.run.branch);
        self.push(ApprovalRefused { approval: refused.approval });
        if self.run.program.is_some() {
            self.end_failed(FailureClass::Rejected);
            return Ok(());
        }
        self.attempt_failed(StepFailed {
            step,
            branch,
            class: FailureClass::Rejected,
            retryable: false,
            reason: None,
        })
    }

    /// Nobody answered in time. Gives the steps that were given up.
    pub(crate) fn expire_questions(&mut self) -> Vec<StepId> {
        let (now, branch) = (self.context.now, self.run.branch);
        let late = |question: &&Question| question.expires_at.is_some_and(|end| end <= now);
        let late: Vec<(Seq, StepId)> =
            self.run.questions.iter().filter(late).map(|question| (question.at, question.step)).collect();
        for (approval, step) in &late {
            self.push(ApprovalExpired { approval: *approval });
            let step = *step;
            if self.run.is_waiting(step) {
                self.push(StepFailed {
                    step,
                    branch,
                    class: FailureClass::Rejected,
                    retryable: false,
                    reason: None,
                });
            }
        }
        late.into_iter().map(|(_, step)| step).collect()
    }

    /// Somebody has found out what came of a call that was asked about.
    pub(crate) fn found_out(&mut self, step: StepId) {
        self.go_on_again(step);
    }

    fn go_on_again(&mut self, step: StepId) {
        if self.run.program.is_some() {
            return self.awake();
        }
        if !self.ends_over_budget(&[step]) && !self.run.asks(step) {
            self.send_again(step);
        }
    }

    /// The step of an open question.
    fn asked(&self, approval: Seq) -> Result<StepId, Refusal> {
        self.open()?;
        let stream = self.context.stream;
        match self.run.questions.iter().find(|question| question.at == approval) {
            Some(question) => Ok(question.step),
            None => Err(Refusal::new(
                Why::NotFound,
                format!("{stream} asks nothing at seq {approval}; `omium show {stream}` lists what it asks"),
            )),
        }
    }
}

/// Whether nobody knows what came of a call that must not be made twice.
fn is_unknown(call: &Call) -> bool {
    call.outcome == Outcome::Open && matches!(call.kind, CallKind::Tool { repeatable: false, .. })
}

impl Run {
    pub(crate) fn apply_question(&mut self, fact: Fact<'_>) {
        let Fact { seq, time, event, command } = fact;
        match event {
            Event::ApprovalAsked(ApprovalAsked {
                subject: ApprovalSubject::ToolCall,
                about: Some(about),
                expires_at,
            }) => {
                let Some(call) = self.calls.iter().find(|call| call.at == *about) else { return };
                let (step, text) = (
                    call.step,
                    match command {
                        Command::AskApproval(AskApproval { question, .. }) => question.clone(),
                        _ => None,
                    },
                );
                let question =
                    Question { at: seq, step, call: *about, since: time, expires_at: *expires_at, text };
                self.questions.push(question);
            }
            Event::ApprovalGiven(ApprovalGiven { approval })
                if self.suspended == Some((SuspendReason::Budget, Some(*approval))) =>
            {
                self.unpriced_allowed = true;
            }
            Event::ApprovalGiven(ApprovalGiven { approval }) => {
                if let Some(question) = self.answered(*approval, time) {
                    // As if it had never been begun: whoever goes on calls it anew.
                    self.calls.retain(|call| call.at != question.call);
                    self.settle_write(question.call, false);
                }
            }
            Event::ApprovalRefused(ApprovalRefused { approval })
            | Event::ApprovalExpired(ApprovalExpired { approval }) => {
                self.answered(*approval, time);
            }
            // What detectors, recovery and costs have found is theirs; messages and votes do not steer a run yet.
            _ => {}
        }
    }

    /// A question is over. During a pause its step is held back with all else until the end of it.
    fn answered(&mut self, approval: Seq, time: Time) -> Option<Question> {
        let at = self.questions.iter().position(|question| question.at == approval)?;
        let question = self.questions.remove(at);
        if let Some(step) = self.step_mut(question.step)
            && let Phase::Waiting { not_before, begun, .. } = &mut step.phase
        {
            (*not_before, *begun) = (time, None);
        }
        Some(question)
    }

    /// What came of a call is known now, whoever found out: nobody is asked about it any more.
    pub(crate) fn settle_question(&mut self, call: Seq, time: Time) {
        if let Some(at) = self.question_about(call).map(|question| question.at) {
            self.answered(at, time);
        }
    }

    pub(crate) fn question_about(&self, call: Seq) -> Option<&Question> {
        self.questions.iter().find(|question| question.call == call)
    }

    /// Whether a step waits for a person's word.
    pub fn asks(&self, step: StepId) -> bool {
        self.questions.iter().any(|question| question.step == step)
    }

    fn is_waiting(&self, step: StepId) -> bool {
        self.step(step).is_some_and(|(_, state)| matches!(state.phase, Phase::Waiting { .. }))
    }
}
