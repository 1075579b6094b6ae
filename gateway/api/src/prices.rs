//! What models cost, as people write it: dollars for a million tokens.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use omium_schemas::{Money, Price};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::port::Role;
use crate::problem::Problem;
use crate::request::{Known, Shared, Whole, read};
use crate::views::{PriceView, PricesView};

const MILLION: i128 = 1_000_000;

/// What a model costs.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PriceBody {
    /// The model, as agents and programs name it.
    model: String,
    /// Dollars for a million tokens of requests, as digits.
    input_usd: String,
    /// Of those that the provider had cached; else as all others.
    cached_usd: Option<String>,
    /// Dollars for a million tokens of answers.
    output_usd: String,
}

pub(crate) async fn prices(State(shared): State<Shared>, known: Known) -> Result<Json<PricesView>, Problem> {
    let caller = known.may(Role::Viewer)?;
    Ok(Json(shared.engine.prices(&caller).await?))
}

pub(crate) async fn set(
    State(shared): State<Shared>,
    known: Known,
    Whole(body): Whole,
) -> Result<Json<PriceView>, Problem> {
    let caller = known.may(Role::Admin)?;
    let PriceBody { model, input_usd, cached_usd, output_usd } = read(&body)?;
    let price = Price {
        input: per_token(&input_usd)?,
        cached: per_token(cached_usd.as_deref().unwrap_or(&input_usd))?,
        output: per_token(&output_usd)?,
    };
    Ok(Json(shared.engine.set_price(&caller, model, price).await?))
}

/// A millionth of what is written, exactly: a price that is rounded would make every sum wrong.
fn per_token(text: &str) -> Result<Money, Problem> {
    let amount = omium_workflow::parse_money(text).ok_or_else(|| {
        let detail = format!("`{text}` is no amount of dollars");
        wrong(detail, "write digits with at most six decimals, as a text: \"2.50\"")
    })?;
    if amount.0 % MILLION != 0 {
        let detail = format!("`{text}` for a million tokens is not a whole number of pico-dollars for one");
        return Err(wrong(detail, "write at most six decimals"));
    }
    Ok(Money(amount.0 / MILLION))
}

fn wrong(detail: String, hint: &str) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-price", detail, hint)
}
