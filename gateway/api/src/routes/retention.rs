//! Letting go of what was kept long enough.

use axum::extract::State;
use axum::{Extension, Json};
use schemars::SchemaGenerator;
use serde_json::json;

use super::{Answer, Route, json_of};
use crate::port::{Caller, Role};
use crate::request::Shared;
use crate::views::LetGo;

pub(super) fn routes(schemas: &mut SchemaGenerator) -> Vec<Route> {
    let partition = json!({ "partition": 0, "starts_at": 1200, "dropped": 1200, "kept_because": null });
    let example = json!({
        "keep_ms": 7_776_000_000_u64, "partitions": [partition], "blobs_removed": 3, "blob_bytes": 1_572_864,
    });
    let done = json_of::<LetGo>(schemas, example);
    let summary = "Lets go at once of what ended longer ago than the server keeps it";
    // How long that is says who runs the server, so nobody can drop what others keep.
    vec![Route::post("/api/v1/trim", "trim", summary, done, trim).role(Role::Admin)]
}

async fn trim(State(shared): State<Shared>, Extension(caller): Extension<Caller>) -> Answer<Json<LetGo>> {
    Ok(Json(shared.engine.trim(&caller).await?))
}
