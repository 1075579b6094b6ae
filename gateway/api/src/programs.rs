//! Programs that decide their own steps, and the checks on their agents.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::port::{Decision, ProgramRequest, Role};
use crate::problem::Problem;
use crate::request::{InPath, Known, Shared, Whole, idempotency, read};
use crate::rest::money;
use crate::views::{Done, GuardView, Items};

type Answer<T> = Result<T, Problem>;

/// A program that is about to be run.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Open {
    /// The program's name.
    name: String,
    /// How it is called.
    #[serde(default)]
    arguments: Value,
    /// auto, approve or off: who applies remedies. Else auto.
    recovery: Option<String>,
    /// The most it may cost, in dollars, as digits.
    budget_usd: Option<String>,
}

pub(crate) async fn open(
    State(shared): State<Shared>,
    known: Known,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer<Response> {
    let caller = known.may(Role::Developer)?;
    let Open { name, arguments, recovery, budget_usd } = read(&body)?;
    let budget = budget_usd.as_deref().map(money).transpose()?;
    let request = ProgramRequest { name, arguments, recovery, budget, idempotency: idempotency(&headers)? };
    let started = shared.engine.open_program(&caller, request).await?;
    let status = if started.repeated { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json(started)).into_response())
}

/// An attempt at a program.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Begin {
    /// What tells the program's code apart from another version of it.
    code: Option<String>,
}

pub(crate) async fn begin(
    State(shared): State<Shared>,
    known: Known,
    InPath(id): InPath,
    Whole(body): Whole,
) -> Answer<Response> {
    let caller = known.may(Role::Developer)?;
    let Begin { code } = read(&body)?;
    let attempt = shared.engine.begin_attempt(&caller, &id, code).await?;
    Ok((StatusCode::CREATED, Json(attempt)).into_response())
}

/// How an attempt has ended.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct End {
    /// Which attempt.
    number: i64,
    /// Its exit code; 128 and a signal's number where a signal ended it.
    code: i32,
    /// Its result.
    #[serde(default)]
    output: Value,
}

pub(crate) async fn end(
    State(shared): State<Shared>,
    known: Known,
    InPath(id): InPath,
    Whole(body): Whole,
) -> Answer<Json<Done>> {
    let caller = known.may(Role::Developer)?;
    let End { number, code, output } = read(&body)?;
    Ok(Json(shared.engine.end_attempt(&caller, &id, number, code, output).await?))
}

/// What a person decides about a finding.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Decide {
    /// apply, dismiss or refuse.
    decision: String,
    /// With apply: which remedy; else the best one.
    remedy: Option<i32>,
}

pub(crate) async fn decide(
    State(shared): State<Shared>,
    known: Known,
    InPath(id): InPath,
    Whole(body): Whole,
) -> Answer<Json<Done>> {
    let caller = known.may(Role::Developer)?;
    let Decide { decision, remedy } = read(&body)?;
    let decision = match decision.as_str() {
        "apply" => Decision::Apply(remedy),
        "dismiss" => Decision::Dismiss,
        "refuse" => Decision::Refuse,
        other => {
            return Err(unprocessable(
                "bad-decision",
                format!("`{other}` is no decision"),
                "apply, dismiss or refuse",
            ));
        }
    };
    Ok(Json(shared.engine.decide(&caller, &id, decision).await?))
}

pub(crate) async fn guards(State(shared): State<Shared>, known: Known) -> Answer<Json<Items<GuardView>>> {
    let caller = known.may(Role::Viewer)?;
    Ok(Json(Items { items: shared.engine.guards(&caller).await? }))
}

pub(crate) async fn set_guard(
    State(shared): State<Shared>,
    known: Known,
    Whole(body): Whole,
) -> Answer<Response> {
    let caller = known.may(Role::Developer)?;
    let guard = shared.engine.set_guard(&caller, read(&body)?).await?;
    Ok((StatusCode::CREATED, Json(guard)).into_response())
}

pub(crate) async fn drop_guard(
    State(shared): State<Shared>,
    known: Known,
    InPath(name): InPath,
) -> Answer<Json<GuardView>> {
    let caller = known.may(Role::Developer)?;
    Ok(Json(shared.engine.drop_guard(&caller, &name).await?))
}

fn unprocessable(code: &'static str, detail: String, hint: &str) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail, hint)
}
