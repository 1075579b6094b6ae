//! What model calls cost. Which price list counts is pinned when an execution begins, and what a call cost is recorded with
//! its answer: a replay looks nothing up.

use omium_api::port::{Caller, Failure, Role};
use omium_api::views::{PriceView, PricesView};
use omium_execution::Control;
use omium_schemas::catalogue::{SetPrice, Usage};
use omium_schemas::{Digest, Money, Price, TenantId};

use super::{Engine, view};

/// People speak of a million tokens.
const MILLION: i128 = 1_000_000;

/// What a call cost by a version of the tenant's price list; nothing where the list has no price for the model, or where
/// there was no list: the call is unpriced, which is not the same as free.
pub(crate) fn cost(
    control: &Control,
    tenant: TenantId,
    list: Option<Digest>,
    model: &str,
    usage: &Usage,
) -> Option<Money> {
    control.prices.get(&tenant)?.of(list?, model).map(|price| price.of(usage))
}

impl Engine {
    pub(super) async fn known_prices(&self, caller: &Caller) -> Result<PricesView, Failure> {
        let control = self.control().await?;
        let Some(prices) = control.prices.get(&caller.tenant) else {
            return Ok(PricesView { items: Vec::new(), list: None });
        };
        let items = prices.now().map(|(model, price)| shown(model, price)).collect();
        Ok(PricesView { items, list: prices.version().map(|list| list.hex()) })
    }

    pub(super) async fn price_set(
        &self,
        caller: &Caller,
        model: String,
        price: Price,
    ) -> Result<PriceView, Failure> {
        let view = shown(&model, price);
        let Price { input, cached, output } = price;
        self.tell_control(SetPrice { tenant: caller.tenant, model, input, cached, output }).await?;
        Ok(view)
    }

    /// Gives a model a price where it has none. What somebody has set stays.
    pub async fn suggest_price(&self, key: &str, model: &str, price: Price) -> Result<(), Failure> {
        let Some(caller) = self.known_key(key).await?.filter(|caller| caller.role >= Role::Admin) else {
            return Ok(());
        };
        let known = self.known_prices(&caller).await?;
        if known.items.iter().all(|known| known.model != model) {
            self.price_set(&caller, model.to_owned(), price).await?;
        }
        Ok(())
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
