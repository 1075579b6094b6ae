//! The routes.

use axum::Json;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use omium_schemas::{Money, Seq};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::port::{Action, Filter, Role, StartRequest};
use crate::problem::Problem;
use crate::request::{Known, MAX_BODY, Shared, Whole, idempotency, read};
use crate::views::Done;

type Answer<T> = Result<T, Problem>;

pub(crate) fn routes(shared: Shared) -> Router {
    Router::new()
        .route("/api/v1/workflows", get(workflows).post(publish))
        .route("/api/v1/workflows/validate", post(validate))
        .route("/api/v1/workflows/{name}", get(workflow))
        .route("/api/v1/executions", get(list).post(start))
        .route("/api/v1/executions/{id}", get(show))
        .route("/api/v1/executions/{id}/pause", post(pause))
        .route("/api/v1/executions/{id}/resume", post(resume))
        .route("/api/v1/executions/{id}/cancel", post(cancel))
        .route("/api/v1/executions/{id}/retry", post(retry))
        .route("/api/v1/executions/{id}/signal", post(signal))
        .route("/api/v1/executions/{id}/rollback", post(roll_back))
        .route("/api/v1/executions/{id}/fork", post(fork))
        .route("/api/v1/executions/{id}/checkpoints", get(checkpoints).post(checkpoint))
        .route("/api/v1/executions/{id}/events", get(crate::follow::events))
        .route("/api/v1/executions/{id}/stream", get(crate::follow::socket))
        .route("/api/v1/schemas/workflow", get(schema))
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(crate::metrics::metrics))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(shared)
}

async fn unknown(uri: Uri) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "no-such-route",
        format!("there is nothing at {}", uri.path()),
        "/openapi.json lists all routes",
    )
}

async fn wrong_method(uri: Uri) -> Problem {
    let detail = format!("{} does not take this method", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "wrong-method", detail, "/openapi.json lists all routes")
}

async fn health() -> Json<Value> {
    Json(json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") }))
}

async fn ready(State(shared): State<Shared>) -> Response {
    if shared.engine.ready() {
        return Json(json!({ "status": "ready" })).into_response();
    }
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "not-ready",
        "not all partitions are led",
        "try again in a moment",
    )
    .into_response()
}

async fn schema() -> Response {
    ([(header::CONTENT_TYPE, "application/schema+json")], omium_workflow::JSON_SCHEMA).into_response()
}

async fn workflows(State(shared): State<Shared>, known: Known) -> Answer<Json<Value>> {
    let caller = known.may(Role::Viewer)?;
    Ok(Json(json!({ "items": shared.engine.workflows(&caller).await? })))
}

async fn workflow(State(shared): State<Shared>, known: Known, Path(name): Path<String>) -> Answer<Response> {
    let caller = known.may(Role::Viewer)?;
    Ok(Json(shared.engine.workflow(&caller, &name).await?).into_response())
}

#[derive(Deserialize)]
struct File {
    file: Option<String>,
}

fn definition(body: &[u8]) -> Answer<&str> {
    std::str::from_utf8(body).map_err(|error| {
        let detail = format!("the definition is not UTF-8: byte {} is wrong", error.valid_up_to());
        Problem::new(StatusCode::BAD_REQUEST, "bad-text", detail, "save the file as UTF-8")
    })
}

async fn publish(
    State(shared): State<Shared>,
    known: Known,
    Query(File { file }): Query<File>,
    Whole(body): Whole,
) -> Answer<Response> {
    let caller = known.may(Role::Developer)?;
    let view =
        shared.engine.publish(&caller, file.as_deref().unwrap_or("definition"), definition(&body)?).await?;
    Ok((StatusCode::CREATED, Json(view)).into_response())
}

async fn validate(
    known: Known,
    Query(File { file }): Query<File>,
    Whole(body): Whole,
) -> Answer<Json<Value>> {
    known.may(Role::Viewer)?;
    Ok(Json(match omium_workflow::parse(file.as_deref().unwrap_or("definition"), definition(&body)?) {
        Ok(definition) => json!({ "valid": true, "name": definition.name, "problems": [] }),
        Err(problems) => json!({ "valid": false, "problems": problems.problems }),
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    workflow: String,
    #[serde(default)]
    inputs: Value,
    budget_usd: Option<String>,
}

async fn start(
    State(shared): State<Shared>,
    known: Known,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer<Response> {
    let caller = known.may(Role::Developer)?;
    let Start { workflow, inputs, budget_usd } = read(&body)?;
    let budget = budget_usd.as_deref().map(money).transpose()?;
    let request = StartRequest { workflow, inputs, idempotency: idempotency(&headers)?, budget };
    let started = shared.engine.start(&caller, request).await?;
    let status = if started.repeated { StatusCode::OK } else { StatusCode::CREATED };
    let place = format!("/api/v1/executions/{}", started.id);
    Ok((status, [(header::LOCATION, place)], Json(started)).into_response())
}

fn money(text: &str) -> Answer<Money> {
    omium_workflow::parse_money(text).ok_or_else(|| {
        let detail = format!("`{text}` is no amount of dollars");
        Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "bad-money",
            detail,
            "write digits with at most twelve decimals, as a text: \"0.05\"",
        )
    })
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
    known: Known,
    query: Result<Query<Listing>, axum::extract::rejection::QueryRejection>,
) -> Answer<Response> {
    let caller = known.may(Role::Viewer)?;
    let Query(Listing { workflow, status, cursor, limit }) = query.map_err(bad_query)?;
    let limit = limit.unwrap_or(50);
    if !(1..=1_000).contains(&limit) {
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "bad-limit",
            format!("limit {limit} is not from 1 to 1000"),
            "leave it out for 50",
        ));
    }
    Ok(Json(shared.engine.list(&caller, Filter { workflow, status, cursor, limit }).await?).into_response())
}

pub(crate) fn bad_query(rejection: axum::extract::rejection::QueryRejection) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "bad-query",
        rejection.body_text(),
        "see /openapi.json for the parameters",
    )
}

#[derive(Deserialize)]
struct At {
    at: Option<u64>,
}

async fn show(
    State(shared): State<Shared>,
    known: Known,
    Path(id): Path<String>,
    query: Result<Query<At>, axum::extract::rejection::QueryRejection>,
) -> Answer<Response> {
    let caller = known.may(Role::Viewer)?;
    let Query(At { at }) = query.map_err(bad_query)?;
    Ok(Json(shared.engine.show(&caller, &id, at.map(Seq)).await?).into_response())
}

/// One action on one execution.
async fn act(
    shared: &Shared,
    known: Known,
    id: &str,
    headers: &HeaderMap,
    action: Action,
) -> Answer<Json<Done>> {
    let caller = known.may(Role::Developer)?;
    Ok(Json(shared.engine.act(&caller, id, action, idempotency(headers)?).await?))
}

async fn pause(
    State(shared): State<Shared>,
    known: Known,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer<Json<Done>> {
    act(&shared, known, &id, &headers, Action::Pause).await
}

async fn resume(
    State(shared): State<Shared>,
    known: Known,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer<Json<Done>> {
    act(&shared, known, &id, &headers, Action::Resume).await
}

async fn cancel(
    State(shared): State<Shared>,
    known: Known,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer<Json<Done>> {
    act(&shared, known, &id, &headers, Action::Cancel).await
}

async fn retry(
    State(shared): State<Shared>,
    known: Known,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer<Json<Done>> {
    act(&shared, known, &id, &headers, Action::Retry).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignalBody {
    name: String,
    #[serde(default)]
    body: Value,
}

async fn signal(
    State(shared): State<Shared>,
    known: Known,
    Path(id): Path<String>,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer<Json<Done>> {
    let SignalBody { name, body } = read(&body)?;
    act(&shared, known, &id, &headers, Action::Signal { name, body }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Back {
    to: Value,
    #[serde(default)]
    cancel_running: bool,
}

async fn roll_back(
    State(shared): State<Shared>,
    known: Known,
    Path(id): Path<String>,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer<Json<Done>> {
    let Back { to, cancel_running } = read(&body)?;
    act(&shared, known, &id, &headers, Action::RollBack { to: address(&to)?, cancel_running }).await
}

/// A checkpoint's address may be written as a number.
fn address(value: &Value) -> Answer<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) if number.is_u64() => Ok(number.to_string()),
        _ => Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "bad-address",
            "this is no checkpoint's address",
            "a seq, `step:NAME:before`, `step:NAME:after`, a name, or `last`",
        )),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ForkBody {
    at: Value,
    inputs: Option<Value>,
}

async fn fork(
    State(shared): State<Shared>,
    known: Known,
    Path(id): Path<String>,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer<Response> {
    let caller = known.may(Role::Developer)?;
    let ForkBody { at, inputs } = read(&body)?;
    let started = shared.engine.fork(&caller, &id, &address(&at)?, inputs, idempotency(&headers)?).await?;
    Ok((StatusCode::CREATED, Json(started)).into_response())
}

async fn checkpoints(
    State(shared): State<Shared>,
    known: Known,
    Path(id): Path<String>,
) -> Answer<Json<Value>> {
    let caller = known.may(Role::Viewer)?;
    Ok(Json(json!({ "items": shared.engine.checkpoints(&caller, &id).await? })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
}

async fn checkpoint(
    State(shared): State<Shared>,
    known: Known,
    Path(id): Path<String>,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer<Response> {
    let Named { name } = read(&body)?;
    Ok((StatusCode::CREATED, act(&shared, known, &id, &headers, Action::Checkpoint { name }).await?)
        .into_response())
}
