//! What calls cost: kept aside before they are made, where a budget holds the run, and counted when they are answered.

use omium_api::port::Failure;
use omium_execution::Run;
use omium_openai::{Answer, Request};
use omium_runtime::StreamKey;
use omium_schemas::catalogue::Usage;
use omium_schemas::{Money, Price, Seq, StepId};

use crate::{Engine, prices};

/// A token is three bytes of a request at least, on average over whole requests.
const BYTES_PER_TOKEN: u64 = 3;
/// How long an answer may be where the request does not say.
const ANSWER: u64 = 4_096;

/// How large a call is, before anybody has counted its tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    input: u64,
    output: u64,
}

impl Size {
    pub(super) fn of(request: &Request<'_>) -> Size {
        Size {
            input: (request.body.len() as u64).div_ceil(BYTES_PER_TOKEN),
            output: request.most_tokens(ANSWER),
        }
    }

    fn cost(self, price: Price) -> Money {
        let tokens = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        price.of(&Usage { input: tokens(self.input), cached: 0, output: tokens(self.output), reasoning: 0 })
    }
}

/// Whether a budget holds a step's calls.
pub(super) fn is_under_budget(run: &Run, step: StepId) -> bool {
    run.budget.is_some() || run.step(step).is_some_and(|(plan, _)| plan.budget.is_some())
}

/// What a call cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    /// Nothing where its model has no price.
    pub(super) amount: Option<Money>,
    /// The provider told no usage that can be believed: the amount is what was kept aside.
    pub(super) estimated: bool,
}

impl Engine {
    /// What is kept aside for a call: nothing where no budget holds the run, or the model has no price.
    pub(super) async fn reserve(
        &self,
        key: StreamKey,
        run: &Run,
        step: StepId,
        model: &str,
        size: Size,
    ) -> Result<Option<Money>, Failure> {
        if !is_under_budget(run, step) {
            return Ok(None);
        }
        let control = self.control().await?;
        let price = prices::price_under_budget(&control, key.tenant, run.price_list, model);
        Ok(price.map(|price| size.cost(price)))
    }

    /// What an answered call cost. Providers answer with a dated name of the model that was asked for.
    pub(super) async fn cost(&self, key: StreamKey, call: Seq, said: &Answer) -> Cost {
        let estimated = !said.told_usage;
        let Some(asked) = self.in_flight.asked(key, call) else { return Cost { amount: None, estimated } };
        let control = match self.control_insisted().await {
            Some(control) => control,
            None => return Cost { amount: None, estimated },
        };
        let of = if asked.under_budget { prices::price_under_budget } else { prices::price };
        let price = |model: &str| of(&control, key.tenant, asked.price_list, model);
        let Some(price) = price(&said.model).or_else(|| price(&asked.model)) else {
            return Cost { amount: None, estimated };
        };
        let amount = if estimated { asked.size.cost(price) } else { price.of(&said.usage) };
        Cost { amount: Some(amount), estimated }
    }
}
