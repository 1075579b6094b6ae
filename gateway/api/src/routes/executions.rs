//! Executions: started, listed, looked at.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use omium_schemas::Seq;
use schemars::{JsonSchema, SchemaGenerator};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Body, Parameter, Route, examples, json_of, money};
use crate::port::{Caller, Filter, StartRequest};
use crate::problem::Problem;
use crate::request::{InPath, InQuery, Shared, Waiting, Whole, idempotency, read};
use crate::views::{ExecutionSummary, ExecutionView, Page, Started};

const WAIT: Parameter = (
    "wait_ms",
    "integer",
    "Answers as soon as the execution has ended, or after so many ms, at most 60000, however it stands then.",
    "30000",
);

pub(super) fn routes(schemas: &mut SchemaGenerator) -> Vec<Route> {
    let started = json_of::<Started>(schemas, examples::started());
    let list =
        json_of::<Page<ExecutionSummary>>(schemas, json!({ "items": [examples::summary()], "next": null }));
    let one = json_of::<ExecutionView>(schemas, examples::execution());
    let start_body =
        json!({ "workflow": "loan-decision", "inputs": { "amount": 20000 }, "budget_usd": "0.50" });
    vec![
        Route::post(
            "/api/v1/executions",
            "startExecution",
            "Starts an execution; 200 where the same request had started it before",
            started,
            start,
        )
        .query(&[WAIT])
        .body(json_of::<Start>(schemas, start_body))
        .status(201),
        Route::get("/api/v1/executions", "listExecutions", "Executions, the newest first", list, self::list).query(&[
            ("workflow", "string", "Only those of this workflow.", "loan-decision"),
            ("status", "string", "running, paused, suspended, completed, failed or cancelled.", "running"),
            ("cursor", "string", "`next` of the page before.", ""),
            ("limit", "integer", "At most so many, 1 to 1000; else 50.", "50"),
        ]),
        Route::get("/api/v1/executions/{id}", "getExecution", "One execution", one, show).query(&[
            (
                "at",
                "string",
                "As it was at this seq or checkpoint: also `step:NAME:before`, `step:NAME:after`, a name, or `last`.",
                "last",
            ),
            WAIT,
        ]),
        Route::get(
            "/api/v1/executions/{id}/content/{content}",
            "getContent",
            "One content, whole: `inputs`, or what a view left out as `omium:too-large`, at the path that stands there; 410 where it was erased",
            Body::Text("application/octet-stream", "{\"amount\":20000}"),
            content,
        )
        .query(&[(
            "at",
            "string",
            "Where it is not there any more: as it was at this seq or checkpoint.",
            "last",
        )]),
    ]
}

/// What an execution is started with.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Start {
    /// `name` or `name@3`.
    workflow: String,
    /// Its inputs.
    #[serde(default)]
    inputs: Value,
    /// The most it may cost, in dollars, as digits; where that is less than the definition says.
    budget_usd: Option<String>,
}

/// The longest that a request may wait for the end of an execution, in ms: less than what lies between client and
/// server usually cuts off.
const MAX_WAIT: u64 = 60_000;

#[derive(Deserialize)]
struct Waits {
    wait_ms: Option<u64>,
}

async fn start(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    InQuery(Waits { wait_ms }): InQuery<Waits>,
    waiting: Waiting,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer<Response> {
    let limit = wait(wait_ms)?;
    let Start { workflow, inputs, budget_usd } = read(&body)?;
    let budget = budget_usd.as_deref().map(money).transpose()?;
    let request = StartRequest { workflow, inputs, idempotency: idempotency(&headers)?, budget };
    let mut started = shared.engine.start(&caller, request).await?;
    if let Some(limit) = limit {
        // It has been started whatever becomes of the waiting: the answer says so.
        started.ended = tokio::select! {
            ended = shared.engine.ended(&caller, &started.id, limit) => ended.unwrap_or(None),
            () = waiting.over() => None,
        };
    }
    let status = if started.repeated { StatusCode::OK } else { StatusCode::CREATED };
    let place = format!("/api/v1/executions/{}", started.id);
    Ok((status, [(header::LOCATION, place)], Json(started)).into_response())
}

fn wait(wait_ms: Option<u64>) -> Answer<Option<Duration>> {
    match wait_ms {
        Some(ms) if ms > MAX_WAIT => Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "bad-wait",
            format!("wait_ms {ms} is more than {MAX_WAIT}"),
            "ask again when the time is over: waiting costs nothing",
        )),
        wait_ms => Ok(wait_ms.map(Duration::from_millis)),
    }
}

#[derive(Deserialize)]
struct Listing {
    workflow: Option<String>,
    status: Option<String>,
    cursor: Option<String>,
    limit: Option<usize>,
}

async fn list(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    InQuery(listing): InQuery<Listing>,
) -> Answer<Response> {
    let Listing { workflow, status, cursor, limit } = listing;
    let limit = limit.unwrap_or(50);
    if !(1..=1_000).contains(&limit) {
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "bad-limit",
            format!("limit {limit} is not from 1 to 1000"),
            "leave it out for the usual number",
        ));
    }
    Ok(Json(shared.engine.list(&caller, Filter { workflow, status, cursor, limit }).await?).into_response())
}

#[derive(Deserialize)]
struct At {
    at: Option<String>,
    wait_ms: Option<u64>,
}

/// The seq that is meant: one that is said, or that of a checkpoint by its address.
async fn meant(shared: &Shared, caller: &Caller, id: &str, at: Option<String>) -> Answer<Option<Seq>> {
    Ok(match at {
        None => None,
        Some(text) => Some(match text.parse() {
            Ok(seq) => Seq(seq),
            Err(_) => shared.engine.place(caller, id, &text).await?,
        }),
    })
}

async fn show(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    InPath(id): InPath,
    InQuery(At { at, wait_ms }): InQuery<At>,
    waiting: Waiting,
) -> Answer<Response> {
    if let Some(limit) = wait(wait_ms)? {
        tokio::select! {
            ended = shared.engine.ended(&caller, &id, limit) => drop(ended?),
            () = waiting.over() => {}
        }
    }
    let at = meant(&shared, &caller, &id, at).await?;
    Ok(Json(shared.engine.show(&caller, &id, at).await?).into_response())
}

#[derive(Deserialize)]
struct Place {
    id: String,
    content: String,
}

async fn content(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    InPath(Place { id, content }): InPath<Place>,
    InQuery(At { at, .. }): InQuery<At>,
) -> Answer<Response> {
    let at = meant(&shared, &caller, &id, at).await?;
    let bytes = shared.engine.content(&caller, &id, &content, at).await?;
    // What agents and models have said is data, whatever it looks like to a browser.
    let headers =
        [(header::CONTENT_TYPE, "application/octet-stream"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    Ok((headers, bytes).into_response())
}
