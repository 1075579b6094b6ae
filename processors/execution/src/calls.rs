//! Model and tool calls of a step: each is recorded before it is made and again when it is answered, so that a step
//! which begins again knows what was asked.

use omium_processor::Refusal;
use omium_schemas::catalogue::{
    CompleteLlmCall, CompleteToolCall, FailLlmCall, FailToolCall, LlmCallCompleted, LlmCallFailed,
    LlmCallPatched, LlmCallStarted, ModelErrorClass, RunDrifted, StartLlmCall, StartToolCall,
    ToolCallCompleted, ToolCallFailed, ToolCallStarted,
};
use omium_schemas::{Digest, Money, Seq, StepId};

use crate::draft::{Draft, conflict, invalid};
use crate::state::{Call, CallKind, Outcome};

/// How many calls one step may make.
const MAX_CALLS: usize = 1_000;
/// How many calls a program may make that has but one step.
const MAX_CALLS_OF_PROGRAM: usize = 10_000;

impl Draft<'_> {
    pub(crate) fn start_model_call(&mut self, call: &StartLlmCall) -> Result<(), Refusal> {
        self.awaited(call.step, call.branch)?;
        self.of_attempt(call.delivery)?;
        self.room(call.step)?;
        if self.suspends_for_money(call)? {
            return Ok(());
        }
        let expected = self.drifts_from(call);
        let StartLlmCall { step, branch, caller, request, patch_set, .. } = call.clone();
        let is_model = |known: &Call| matches!(known.kind, CallKind::Model(_));
        let (occurrence, open) = self.occurrence(step, &call.agent, request, is_model);
        // Equal calls that one attempt of a program has under way at once are meant; what an earlier one left open is not.
        let of_earlier = |known: &Call| {
            (&known.agent, known.request) == (&call.agent, request)
                && known.outcome == Outcome::Open
                && known.taken != call.delivery
        };
        let possible_double_charge = match &self.run.program {
            Some(_) => self.run.calls.iter().any(|known| of_earlier(known)),
            None => open,
        };
        self.push(LlmCallStarted {
            step,
            branch,
            caller,
            request,
            patch_set,
            occurrence,
            possible_double_charge,
        });
        if let (Some(patch_set), Some(before), Some(after)) = (patch_set, call.before, call.after) {
            let call = self.last();
            self.push(LlmCallPatched { call, patch_set, before, after });
        }
        if expected.is_some() {
            self.push(RunDrifted { step, expected, difference: call.difference.clone() });
        }
        Ok(())
    }

    /// The recorded answer that was to come next, where a resumed program asks for something else and nothing explains
    /// that.
    fn drifts_from(&self, call: &StartLlmCall) -> Option<Seq> {
        let resumed = self.run.program.as_ref().is_some_and(|program| program.attempt > 1);
        if !resumed || self.run.has_condemned_what_was_read() {
            return None;
        }
        self.run.expected(&call.caller, call.position.as_deref(), call.delivery)?.done
    }

    pub(crate) fn complete_model_call(&mut self, call: &CompleteLlmCall) -> Result<(), Refusal> {
        let step = self.open_model_call(call.call)?;
        if call.cost.is_some_and(|cost| cost < Money::ZERO) {
            return invalid("a cost is not negative");
        }
        self.push(LlmCallCompleted { call: call.call, usage: call.usage.clone(), finish: call.finish });
        self.charge(step, call.cost.unwrap_or(Money::ZERO));
        Ok(())
    }

    pub(crate) fn fail_model_call(&mut self, call: &FailLlmCall) -> Result<(), Refusal> {
        self.open_model_call(call.call)?;
        let FailLlmCall { call, class, retryable, .. } = *call;
        let retryable = retryable && class != ModelErrorClass::Unauthenticated;
        self.push(LlmCallFailed { call, class, retryable });
        Ok(())
    }

    pub(crate) fn start_tool_call(&mut self, call: &StartToolCall) -> Result<(), Refusal> {
        self.awaited(call.step, call.branch)?;
        self.of_attempt(call.delivery)?;
        self.room(call.step)?;
        let StartToolCall { step, branch, caller, tool, effect, request, .. } = call.clone();
        let is_tool =
            |known: &Call| matches!(&known.kind, CallKind::Tool { tool: known, .. } if *known == tool);
        let (occurrence, _) = self.occurrence(step, &call.agent, request, is_tool);
        self.push(ToolCallStarted { step, branch, caller, tool, effect, request, occurrence });
        Ok(())
    }

    pub(crate) fn complete_tool_call(&mut self, call: &CompleteToolCall) -> Result<(), Refusal> {
        let step = self.open_tool_call(call.call)?;
        let asked = self.run.question_about(call.call).is_some();
        self.push(ToolCallCompleted { call: call.call });
        if asked {
            self.found_out(step);
        }
        Ok(())
    }

    pub(crate) fn fail_tool_call(&mut self, call: &FailToolCall) -> Result<(), Refusal> {
        let step = self.open_tool_call(call.call)?;
        let asked = self.run.question_about(call.call).is_some();
        self.push(ToolCallFailed { call: call.call, class: call.class });
        if asked {
            self.found_out(step);
        }
        Ok(())
    }

    fn room(&self, step: StepId) -> Result<(), Refusal> {
        let most = if self.run.program.is_some() { MAX_CALLS_OF_PROGRAM } else { MAX_CALLS };
        if self.run.calls.iter().filter(|call| call.step == step).count() >= most {
            return invalid(format!("{step} has made {most} calls, the most that a step may make"));
        }
        Ok(())
    }

    /// How often the same was asked by the same agent, this time included, and whether one of these was never answered.
    fn occurrence(
        &self,
        step: StepId,
        agent: &str,
        request: Digest,
        kind: impl Fn(&Call) -> bool,
    ) -> (i32, bool) {
        let same: Vec<&Call> = self
            .run
            .calls
            .iter()
            .map(AsRef::as_ref)
            .filter(|call: &&Call| {
                call.step == step && call.agent == agent && call.request == request && kind(call)
            })
            .collect();
        (same.len() as i32 + 1, same.iter().any(|call| call.outcome == Outcome::Open))
    }

    /// The step of an open call of a model.
    fn open_model_call(&self, at: Seq) -> Result<StepId, Refusal> {
        self.open_call(at, "model", |kind| matches!(kind, CallKind::Model(_)))
    }

    /// The step of an open call of a tool.
    fn open_tool_call(&self, at: Seq) -> Result<StepId, Refusal> {
        self.open_call(at, "tool", |kind| matches!(kind, CallKind::Tool { .. }))
    }

    fn open_call(&self, at: Seq, what: &str, fits: impl Fn(&CallKind) -> bool) -> Result<StepId, Refusal> {
        match self.run.calls.iter().find(|call| call.at == at) {
            Some(call) if !fits(&call.kind) => {
                invalid(format!("the call at seq {at} is none of a {what}; answer it as what it is"))
            }
            Some(call) if call.outcome == Outcome::Open => Ok(call.step),
            Some(_) => conflict(format!("the call at seq {at} was answered before")),
            None => conflict(format!("no call at seq {at} is awaited; its step may be over")),
        }
    }
}
