//! Money under a budget: kept aside before a model is asked, settled when it has answered. So calls that run at once are
//! held by the budget too, and a model without a price is not asked until somebody says that it may be.

use omium_processor::{Refusal, Why};
use omium_schemas::catalogue::{
    ApprovalAsked, ApprovalGiven, ApprovalRefused, ApprovalSubject, ExecutionResumed, ExecutionSuspended,
    FailureClass, StartLlmCall, SuspendReason,
};
use omium_schemas::{Money, Seq, StepId};

use crate::draft::Draft;
use crate::state::Run;

impl Draft<'_> {
    /// Refuses a call that the budget does not cover. A program whose model has no price is suspended instead: true.
    pub(crate) fn suspends_for_money(&mut self, call: &StartLlmCall) -> Result<bool, Refusal> {
        let budgets = self.run.budgets(call.step);
        if budgets.is_empty() {
            return Ok(false);
        }
        let Some(wanted) = call.reserve else { return self.unpriced(&call.model) };
        for (most, taken) in budgets {
            let after = taken.plus(wanted).unwrap_or(Money::MAX);
            if taken >= most || after > most {
                let text = format!(
                    "the budget of {} is ${}, ${} are spent or kept aside, and the call may cost ${}; \
                     start it with a larger one",
                    self.context.stream,
                    dollars(most),
                    dollars(taken),
                    dollars(wanted)
                );
                return Err(Refusal::new(Why::Exhausted, text));
            }
        }
        Ok(false)
    }

    fn unpriced(&mut self, model: &str) -> Result<bool, Refusal> {
        if self.run.unpriced_allowed {
            return Ok(false);
        }
        if self.run.program.is_none() {
            let text = format!(
                "`{model}` has no price, so the budget of {} cannot hold it; `omium prices set {model}` sets one, \
                 then `omium retry {}`",
                self.context.stream, self.context.stream
            );
            return Err(Refusal::new(Why::Exhausted, text));
        }
        self.push(ApprovalAsked { subject: ApprovalSubject::Budget, about: None, expires_at: None });
        let about = Some(self.last());
        self.push(ExecutionSuspended { reason: SuspendReason::Budget, about });
        Ok(true)
    }

    /// Whether this approval is about calls without a price.
    pub(crate) fn asks_about_money(&self, approval: Seq) -> bool {
        self.run.suspended == Some((SuspendReason::Budget, Some(approval)))
    }

    /// Somebody lets models be asked that have no price.
    pub(crate) fn allow_unpriced(&mut self, approval: Seq) {
        self.push(ApprovalGiven { approval });
        self.push(ExecutionResumed {});
    }

    pub(crate) fn refuse_unpriced(&mut self, approval: Seq) {
        self.push(ApprovalRefused { approval });
        self.end_failed(FailureClass::Rejected);
    }
}

impl Run {
    /// The budgets that hold a step, each with what is taken of it: spent, or kept aside for calls that are open.
    fn budgets(&self, step: StepId) -> Vec<(Money, Money)> {
        let reserved = |of: &dyn Fn(StepId) -> bool| {
            let open = self.calls.iter().filter(|call| of(call.step)).map(|call| call.reserved);
            open.fold(Money::ZERO, sum)
        };
        let whole = self.budget.map(|most| (most, sum(sum(self.spent, self.lost), reserved(&|_| true))));
        let own = self.step(step).and_then(|(plan, state)| {
            plan.budget.map(|most| (most, sum(state.spent, reserved(&|of| of == step))))
        });
        whole.into_iter().chain(own).collect()
    }
}

/// Money does not wrap around: what cannot be said any more is the most that can be.
pub(crate) fn sum(one: Money, other: Money) -> Money {
    one.plus(other).unwrap_or(Money::MAX)
}

fn dollars(amount: Money) -> String {
    let nano = amount.nano_dollars();
    format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000)
}
