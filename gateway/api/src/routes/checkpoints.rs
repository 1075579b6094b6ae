//! Checkpoints: taken, listed, gone back to, forked from.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use schemars::{JsonSchema, SchemaGenerator};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Route, act, examples, json_of};
use crate::port::{Action, Caller};
use crate::problem::Problem;
use crate::request::{InPath, Shared, Whole, idempotency, read};
use crate::views::{CheckpointView, Done, Items, Started};

pub(super) fn routes(schemas: &mut SchemaGenerator) -> Vec<Route> {
    let mut done = || json_of::<Done>(schemas, examples::done());
    let (taken, gone_back) = (done(), done());
    let list = json_of::<Items<CheckpointView>>(schemas, json!({ "items": [examples::checkpoint()] }));
    let back = json!({ "to": "first", "cancel_running": true, "over_writes": false });
    let started = json_of::<Started>(schemas, examples::started());
    vec![
        Route::get(
            "/api/v1/executions/{id}/checkpoints",
            "listCheckpoints",
            "Its checkpoints, in order",
            list,
            checkpoints,
        ),
        Route::post(
            "/api/v1/executions/{id}/checkpoints",
            "takeCheckpoint",
            "Takes a named checkpoint",
            taken,
            checkpoint,
        )
        .body(json_of::<Named>(schemas, json!({ "name": "first" })))
        .status(201),
        Route::post(
            "/api/v1/executions/{id}/rollback",
            "rollBackExecution",
            "Goes back to a checkpoint",
            gone_back,
            roll_back,
        )
        .body(json_of::<Back>(schemas, back)),
        Route::post(
            "/api/v1/executions/{id}/fork",
            "forkExecution",
            "Starts another execution from a checkpoint of this one",
            started,
            fork,
        )
        .body(json_of::<ForkBody>(schemas, json!({ "at": "first", "inputs": null })))
        .status(201),
    ]
}

async fn checkpoints(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    InPath(id): InPath,
) -> Answer<Json<Items<CheckpointView>>> {
    Ok(Json(Items { items: shared.engine.checkpoints(&caller, &id).await? }))
}

/// A checkpoint that is taken.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Named {
    /// Its name.
    name: String,
}

async fn checkpoint(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    InPath(id): InPath,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer<Response> {
    let Named { name } = read(&body)?;
    Ok((StatusCode::CREATED, act(&shared, &caller, &id, &headers, Action::Checkpoint { name }).await?)
        .into_response())
}

/// Where an execution goes back to.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Back {
    /// A checkpoint's address: a seq, `step:NAME:before`, `step:NAME:after`, a name, or `last`.
    to: Value,
    /// Whether running steps are cancelled; else they are a reason to refuse.
    #[serde(default)]
    cancel_running: bool,
    /// Whether to go back although tools have changed something since, which the way forward may do again; else that is
    /// a reason to refuse, which names what was changed.
    #[serde(default)]
    over_writes: bool,
}

async fn roll_back(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    InPath(id): InPath,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer<Json<Done>> {
    let Back { to, cancel_running, over_writes } = read(&body)?;
    let back = Action::RollBack { to: address(&to)?, cancel_running, over_writes };
    act(&shared, &caller, &id, &headers, back).await
}

/// A checkpoint's address may be written as a number.
fn address(value: &Value) -> Answer<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => {
            let seq = number.as_u64().or_else(|| {
                number.as_f64().and_then(omium_limits::json::integer).and_then(|seq| u64::try_from(seq).ok())
            });
            seq.map(|seq| seq.to_string()).ok_or_else(no_address)
        }
        _ => Err(no_address()),
    }
}

fn no_address() -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "bad-address",
        "this is no checkpoint's address",
        "a seq, `step:NAME:before`, `step:NAME:after`, a name, or `last`",
    )
}

/// Where another execution begins.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ForkBody {
    /// A checkpoint's address.
    at: Value,
    /// Other inputs than the first one had.
    inputs: Option<Value>,
}

async fn fork(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    InPath(id): InPath,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer<Response> {
    let ForkBody { at, inputs } = read(&body)?;
    let started = shared.engine.fork(&caller, &id, &address(&at)?, inputs, idempotency(&headers)?).await?;
    Ok((StatusCode::CREATED, Json(started)).into_response())
}
