//! What model calls cost. Which price list counts is pinned when an execution begins, and what a call cost is recorded with
//! its answer: a replay looks nothing up.

use async_trait::async_trait;
use omium_api::port::{Caller, Failure, Keys as _, Prices, Role};
use omium_api::views::{PriceView, PricesView};
use omium_execution::Control;
use omium_schemas::catalogue::SetPrice;
use omium_schemas::{Digest, Money, Price, TenantId};

use super::{Engine, view};

/// People speak of a million tokens.
const MILLION: i128 = 1_000_000;

/// What a model costs by a version of the tenant's price list. Nothing where it has no price: its calls are unpriced, which
/// is not the same as free.
pub(crate) fn price(control: &Control, tenant: TenantId, list: Option<Digest>, model: &str) -> Option<Price> {
    control.prices.get(&tenant)?.of(list?, model)
}

/// The same for a run under a budget, which waits for a price where the list that it began with has none: it goes on with
/// the price that was set since.
pub(crate) fn price_under_budget(
    control: &Control,
    tenant: TenantId,
    list: Option<Digest>,
    model: &str,
) -> Option<Price> {
    let newest = || price(control, tenant, control.prices.get(&tenant)?.version(), model);
    price(control, tenant, list, model).or_else(newest)
}

impl Engine {
    /// Gives a model a price where it has none. What somebody has set stays.
    pub async fn suggest_price(&self, key: &str, model: &str, price: Price) -> Result<(), Failure> {
        let Some(caller) = self.authenticate(key).await?.filter(|caller| caller.role >= Role::Admin) else {
            return Ok(());
        };
        let known = self.prices(&caller).await?;
        if known.items.iter().all(|known| known.model != model) {
            self.set_price(&caller, model.to_owned(), price).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Prices for Engine {
    async fn prices(&self, caller: &Caller) -> Result<PricesView, Failure> {
        let control = self.control().await?;
        let Some(prices) = control.prices.get(&caller.tenant) else {
            return Ok(PricesView { items: Vec::new(), list: None });
        };
        let items = prices.now().map(|(model, price)| shown(model, price)).collect();
        Ok(PricesView { items, list: prices.version().map(|list| list.hex()) })
    }

    async fn set_price(&self, caller: &Caller, model: String, price: Price) -> Result<PriceView, Failure> {
        let view = shown(&model, price);
        let Price { input, cached, output } = price;
        self.tell_control(Some(caller), SetPrice { tenant: caller.tenant, model, input, cached, output })
            .await?;
        Ok(view)
    }
}

fn shown(model: &str, price: Price) -> PriceView {
    let million = |each: Money| view::dollars(Money(each.0.saturating_mul(MILLION)));
    PriceView {
        model: model.to_owned(),
        input_usd: million(price.input),
        cached_usd: million(price.cached),
        output_usd: million(price.output),
    }
}
