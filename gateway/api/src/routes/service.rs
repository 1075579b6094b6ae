//! What a node says of itself, to probes and to who reads its API.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::SchemaGenerator;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Body, Route, json_of};
use crate::port::Role;
use crate::problem::Problem;
use crate::request::{InQuery, Known, Shared, has_key};
use crate::views::{Health, Ready};

pub(super) fn routes(schemas: &mut SchemaGenerator) -> Vec<Route> {
    let version = env!("CARGO_PKG_VERSION");
    let lives = json_of::<Health>(schemas, json!({ "status": "ok", "version": version }));
    let takes_work = json_of::<Ready>(schemas, json!({ "status": "ready" }));
    let numbers = Body::Text("text/plain", "omium_active_executions{framework=\"native\"} 3\n");
    let document = Body::Json(json!({ "type": "object" }), json!({ "openapi": "3.1.0" }));
    vec![
        Route::get("/health", "health", "Whether the process lives", lives, health).for_everybody(),
        Route::get("/ready", "ready", "Whether it takes work; 503 where not", takes_work, ready)
            .for_everybody(),
        Route::get("/metrics", "metrics", "Metrics in the text format of Prometheus", numbers, metrics)
            .for_everybody(),
        Route::get("/openapi.json", "openapi", "This document", document, openapi).for_everybody(),
    ]
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

async fn metrics(State(shared): State<Shared>, known: Result<Known, Problem>) -> Response {
    // Without an admin's key there are numbers, and nobody's name.
    let named = known.is_ok_and(|known| known.may(Role::Admin).is_ok());
    let text = shared.engine.meters().text(named);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}
