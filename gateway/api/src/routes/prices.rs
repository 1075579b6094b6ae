//! What models cost, as people write it: dollars for a million tokens.

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use omium_schemas::{Money, Price};
use schemars::{JsonSchema, SchemaGenerator};
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Route, examples, json_of};
use crate::port::{Caller, Role};
use crate::problem::Problem;
use crate::request::{Shared, Whole, read};
use crate::views::{PriceView, PricesView};

pub(super) fn routes(schemas: &mut SchemaGenerator) -> Vec<Route> {
    let price =
        json!({ "model": "gpt-4o-mini", "input_usd": "0.15", "cached_usd": "0.075", "output_usd": "0.6" });
    let list = json_of::<PricesView>(schemas, json!({ "items": [price], "list": examples::HASH }));
    let one = json_of::<PriceView>(schemas, price.clone());
    vec![
        Route::get(
            "/api/v1/prices",
            "listPrices",
            "What models cost, in dollars for a million tokens",
            list,
            prices,
        ),
        Route::put(
            "/api/v1/prices",
            "setPrice",
            "Sets what a model costs, for executions that begin from now on",
            one,
            set,
        )
        .role(Role::Admin)
        .body(json_of::<PriceBody>(schemas, price)),
    ]
}

const MILLION: i128 = 1_000_000;

/// What a model costs.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PriceBody {
    /// The model, as agents and programs name it.
    model: String,
    /// Dollars for a million tokens of requests, as digits.
    input_usd: String,
    /// Of those that the provider had cached; else as all others.
    cached_usd: Option<String>,
    /// Dollars for a million tokens of answers.
    output_usd: String,
}

async fn prices(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
) -> Answer<Json<PricesView>> {
    Ok(Json(shared.engine.prices(&caller).await?))
}

async fn set(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Whole(body): Whole,
) -> Answer<Json<PriceView>> {
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
