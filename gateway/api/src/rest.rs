//! The routes.

use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use omium_schemas::{Money, Seq};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::port::{Action, Caller, Filter, Role, StartRequest};
use crate::problem::Problem;
use crate::request::{InPath, InQuery, Known, Shared, Waiting, Whole, has_key, idempotency, read};
use crate::views::{CheckpointView, Done, Health, Items, Ready, Validated, WorkflowView};

type Answer<T> = Result<T, Problem>;

/// A path and what answers there.
type Route = (&'static str, fn() -> MethodRouter<Shared>);

/// Every path. The document of the API is compared with this list.
pub(crate) const ROUTES: &[Route] = &[
    ("/api/v1/workflows", || get(workflows).post(publish)),
    ("/api/v1/workflows/validate", || post(validate)),
    ("/api/v1/workflows/{name}", || get(workflow)),
    ("/api/v1/executions", || get(list).post(start)),
    ("/api/v1/executions/{id}", || get(show)),
    ("/api/v1/executions/{id}/content/{content}", || get(content)),
    ("/api/v1/executions/{id}/pause", || acts(Role::Developer, Action::Pause)),
    ("/api/v1/executions/{id}/resume", || acts(Role::Developer, Action::Resume)),
    ("/api/v1/executions/{id}/cancel", || acts(Role::Developer, Action::Cancel)),
    ("/api/v1/executions/{id}/retry", || acts(Role::Developer, Action::Retry)),
    ("/api/v1/executions/{id}/release", || acts(Role::Admin, Action::Release)),
    ("/api/v1/executions/{id}/signal", || post(signal)),
    ("/api/v1/executions/{id}/answer", || post(crate::answer::answer)),
    ("/api/v1/executions/{id}/rollback", || post(roll_back)),
    ("/api/v1/executions/{id}/fork", || post(fork)),
    ("/api/v1/executions/{id}/checkpoints", || get(checkpoints).post(checkpoint)),
    ("/api/v1/executions/{id}/events", || get(crate::follow::events)),
    ("/api/v1/executions/{id}/stream", || get(crate::follow::socket)),
    ("/api/v1/keys", || get(crate::keys::keys).post(crate::keys::issue)),
    ("/api/v1/keys/{key}", || delete(crate::keys::revoke)),
    ("/api/v1/prices", || get(crate::prices::prices).put(crate::prices::set)),
    ("/api/v1/trim", || post(crate::trim::trim)),
    ("/api/v1/programs", || post(crate::programs::open)),
    ("/api/v1/executions/{id}/attempts", || post(crate::programs::begin)),
    ("/api/v1/executions/{id}/attempts/end", || post(crate::programs::end)),
    ("/api/v1/executions/{id}/decision", || post(crate::programs::decide)),
    ("/api/v1/guards", || get(crate::programs::guards).post(crate::programs::set_guard)),
    ("/api/v1/guards/{name}", || delete(crate::programs::drop_guard)),
    ("/api/v1/schemas/workflow", || get(schema)),
    ("/health", || get(health)),
    ("/ready", || get(ready)),
    ("/metrics", || get(crate::metrics::metrics)),
    ("/openapi.json", || get(openapi)),
];

pub(crate) fn routes(shared: Shared) -> Router {
    let router = ROUTES.iter().fold(Router::new(), |router, (path, methods)| router.route(path, methods()));
    router.fallback(unknown).method_not_allowed_fallback(wrong_method).with_state(shared)
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

async fn health() -> Json<Health> {
    Json(Health { status: "ok".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() })
}

const NOT_LED: &str = "this node does not lead all partitions yet; its lines on stderr say what is missing";
const LOOK_AGAIN: &str = "try again in a moment; `/metrics` and the lines of the node say why";

#[derive(Deserialize)]
struct ReadyFor {
    r#for: Option<String>,
}

async fn ready(
    State(shared): State<Shared>,
    InQuery(ReadyFor { r#for }): InQuery<ReadyFor>,
    headers: HeaderMap,
) -> Answer<Json<Ready>> {
    let ready = match r#for.as_deref() {
        None | Some("write") => shared.engine.ready(),
        Some("read") => shared.engine.readable(),
        Some(_) => {
            let hint = "ask `?for=read`, or leave it out to be told whether all can be written too";
            return Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "bad-query",
                "`for` is `read` or `write`",
                hint,
            ));
        }
    };
    if ready {
        return Ok(Json(Ready { status: "ready".to_owned() }));
    }
    let mut reasons = shared.engine.wholeness();
    let (detail, hint) = if r#for.as_deref() == Some("read") {
        ("what is there cannot be read now".to_owned(), LOOK_AGAIN)
    } else if reasons.is_empty() {
        (NOT_LED.to_owned(), LOOK_AGAIN)
    } else if has_key(&shared, &headers).await {
        (reasons.into_iter().map(|reason| reason.text).collect::<Vec<_>>().join("; "), LOOK_AGAIN)
    } else {
        reasons.dedup_by_key(|reason| reason.kind);
        let kinds: Vec<&str> = reasons.iter().map(|reason| reason.kind).collect();
        (format!("not whole: {}", kinds.join("; ")), "ask with a key to be told more")
    };
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", detail, hint))
}

async fn openapi() -> Json<Value> {
    Json(crate::openapi::document())
}

async fn schema() -> Response {
    ([(header::CONTENT_TYPE, "application/schema+json")], omium_workflow::JSON_SCHEMA).into_response()
}

async fn workflows(State(shared): State<Shared>, known: Known) -> Answer<Json<Items<WorkflowView>>> {
    let caller = known.may(Role::Viewer)?;
    Ok(Json(Items { items: shared.engine.workflows(&caller).await? }))
}

async fn workflow(State(shared): State<Shared>, known: Known, InPath(name): InPath) -> Answer<Response> {
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
    InQuery(File { file }): InQuery<File>,
    Whole(body): Whole,
) -> Answer<Response> {
    let caller = known.may(Role::Developer)?;
    let view =
        shared.engine.publish(&caller, file.as_deref().unwrap_or("definition"), definition(&body)?).await?;
    Ok((StatusCode::CREATED, Json(view)).into_response())
}

async fn validate(
    State(shared): State<Shared>,
    known: Known,
    InQuery(File { file }): InQuery<File>,
    Whole(body): Whole,
) -> Answer<Json<Validated>> {
    known.may(Role::Viewer)?;
    Ok(Json(match shared.engine.read(file.as_deref().unwrap_or("definition"), definition(&body)?) {
        Ok(definition) => Validated { valid: true, name: Some(definition.name), problems: json!([]) },
        Err(problems) => Validated { valid: false, name: None, problems: json!(problems.problems) },
    }))
}

/// What an execution is started with.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Start {
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
    known: Known,
    InQuery(Waits { wait_ms }): InQuery<Waits>,
    waiting: Waiting,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer<Response> {
    let caller = known.may(Role::Developer)?;
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

pub(crate) fn money(text: &str) -> Answer<Money> {
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
    InQuery(listing): InQuery<Listing>,
) -> Answer<Response> {
    let caller = known.may(Role::Viewer)?;
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
    known: Known,
    InPath(id): InPath,
    InQuery(At { at, wait_ms }): InQuery<At>,
    waiting: Waiting,
) -> Answer<Response> {
    let caller = known.may(Role::Viewer)?;
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
    known: Known,
    InPath(Place { id, content }): InPath<Place>,
    InQuery(At { at, .. }): InQuery<At>,
) -> Answer<Response> {
    let caller = known.may(Role::Viewer)?;
    let at = meant(&shared, &caller, &id, at).await?;
    let bytes = shared.engine.content(&caller, &id, &content, at).await?;
    // What agents and models have said is data, whatever it looks like to a browser.
    let headers =
        [(header::CONTENT_TYPE, "application/octet-stream"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    Ok((headers, bytes).into_response())
}

/// One action on one execution.
async fn act(
    shared: &Shared,
    caller: &Caller,
    id: &str,
    headers: &HeaderMap,
    action: Action,
) -> Answer<Json<Done>> {
    Ok(Json(shared.act(caller, id, action, idempotency(headers)?).await?))
}

/// An action that takes nothing but its execution.
fn acts(role: Role, action: Action) -> MethodRouter<Shared> {
    post(async move |State(shared): State<Shared>, known: Known, InPath(id): InPath, headers: HeaderMap| {
        act(&shared, &known.may(role)?, &id, &headers, action).await
    })
}

/// A signal.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignalBody {
    /// The signal's name.
    name: String,
    /// What comes with it.
    #[serde(default)]
    body: Value,
}

async fn signal(
    State(shared): State<Shared>,
    known: Known,
    InPath(id): InPath,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer<Json<Done>> {
    let caller = known.may(Role::Developer)?;
    let SignalBody { name, body } = read(&body)?;
    act(&shared, &caller, &id, &headers, Action::Signal { name, body }).await
}

/// Where an execution goes back to.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Back {
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
    known: Known,
    InPath(id): InPath,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer<Json<Done>> {
    let caller = known.may(Role::Developer)?;
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
pub(crate) struct ForkBody {
    /// A checkpoint's address.
    at: Value,
    /// Other inputs than the first one had.
    inputs: Option<Value>,
}

async fn fork(
    State(shared): State<Shared>,
    known: Known,
    InPath(id): InPath,
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
    InPath(id): InPath,
) -> Answer<Json<Items<CheckpointView>>> {
    let caller = known.may(Role::Viewer)?;
    Ok(Json(Items { items: shared.engine.checkpoints(&caller, &id).await? }))
}

/// A checkpoint that is taken.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Named {
    /// Its name.
    name: String,
}

async fn checkpoint(
    State(shared): State<Shared>,
    known: Known,
    InPath(id): InPath,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer<Response> {
    let caller = known.may(Role::Developer)?;
    let Named { name } = read(&body)?;
    Ok((StatusCode::CREATED, act(&shared, &caller, &id, &headers, Action::Checkpoint { name }).await?)
        .into_response())
}
