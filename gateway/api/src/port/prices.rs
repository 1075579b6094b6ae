//! What models cost.

use async_trait::async_trait;
use omium_schemas::Price;

use super::{Caller, Failure};
use crate::views::{PriceView, PricesView};

/// The prices of a tenant.
#[async_trait]
pub trait Prices: Send + Sync + 'static {
    /// What models cost.
    async fn prices(&self, caller: &Caller) -> Result<PricesView, Failure>;

    /// Sets what a token of a model costs, for executions that begin from now on.
    async fn set_price(&self, caller: &Caller, model: String, price: Price) -> Result<PriceView, Failure>;
}
