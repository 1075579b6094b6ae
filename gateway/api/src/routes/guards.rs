//! Checks on agents of programs.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use schemars::SchemaGenerator;
use serde_json::json;

use super::{Answer, Body, Route, json_of};
use crate::port::Caller;
use crate::request::{InPath, Shared, Whole, read};
use crate::views::{GuardView, Items};

pub(super) fn routes(schemas: &mut SchemaGenerator) -> Vec<Route> {
    let guard = json!({
        "name": "apr-range", "program": null, "agent": "Writer", "field": "apr", "extract": null,
        "rule": "value >= 2.5 && value <= 8.5", "schema": null, "hint": "APR must be between 2.5% and 8.5%.",
    });
    let list = json_of::<Items<GuardView>>(schemas, json!({ "items": [guard] }));
    let one = || Body::Json(json!({ "$ref": "#/components/schemas/GuardView" }), guard.clone());
    vec![
        Route::get("/api/v1/guards", "listGuards", "The checks on agents of programs", list, guards),
        Route::post(
            "/api/v1/guards",
            "setGuard",
            "Puts a check on an agent; one of the same name is replaced",
            one(),
            set_guard,
        )
        .body(one())
        .status(201),
        Route::delete(
            "/api/v1/guards/{name}",
            "dropGuard",
            "Takes a check away, and says what it was",
            one(),
            drop_guard,
        ),
    ]
}

async fn guards(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
) -> Answer<Json<Items<GuardView>>> {
    Ok(Json(Items { items: shared.engine.guards(&caller).await? }))
}

async fn set_guard(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Whole(body): Whole,
) -> Answer<Response> {
    let guard = shared.engine.set_guard(&caller, read(&body)?).await?;
    Ok((StatusCode::CREATED, Json(guard)).into_response())
}

async fn drop_guard(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    InPath(name): InPath,
) -> Answer<Json<GuardView>> {
    Ok(Json(shared.engine.drop_guard(&caller, &name).await?))
}
