//! Keys: who may come in, and as what.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use schemars::{JsonSchema, SchemaGenerator};
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Route, examples, json_of};
use crate::port::{Caller, NewKey, Role};
use crate::problem::Problem;
use crate::request::{InPath, Shared, Whole, read};
use crate::views::{IssuedKey, Items, KeyView};

pub(super) fn routes(schemas: &mut SchemaGenerator) -> Vec<Route> {
    let key =
        json!({ "key": examples::KEY, "name": "ci", "role": "developer", "expires_at": examples::LATER });
    let list = json_of::<Items<KeyView>>(schemas, json!({ "items": [key] }));
    let mut issued = key.clone();
    issued["bearer"] = json!("om_9f86d081884c7d65_…");
    vec![
        Route::get("/api/v1/keys", "listKeys", "The keys of the tenant", list, keys).role(Role::Admin),
        Route::post(
            "/api/v1/keys",
            "issueKey",
            "Lets a new key in; the answer alone says what it is",
            json_of::<IssuedKey>(schemas, issued),
            issue,
        )
        .role(Role::Admin)
        .body(json_of::<KeyBody>(schemas, json!({ "role": "developer", "days": 90, "name": "ci" })))
        .status(201),
        Route::delete(
            "/api/v1/keys/{key}",
            "revokeKey",
            "Shuts a key out from here on, and says what it was; a key does not revoke itself",
            json_of::<KeyView>(schemas, key),
            revoke,
        )
        .role(Role::Admin),
    ]
}

/// The longest that a key which ends may last: ten years.
const MAX_DAYS: u32 = 3_650;

/// A key that is wanted.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct KeyBody {
    /// What it may do.
    role: Role,
    /// How many days it lasts, 1 to 3650; until somebody revokes it where this is left out.
    days: Option<u32>,
    /// What people call it: 1 to 64 of A-Z a-z 0-9 _ . -
    name: Option<String>,
}

async fn keys(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
) -> Answer<Json<Items<KeyView>>> {
    Ok(Json(Items { items: shared.engine.keys(&caller).await? }))
}

async fn issue(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Whole(body): Whole,
) -> Answer<Response> {
    let KeyBody { role, days, name } = read(&body)?;
    if days.is_some_and(|days| !(1..=MAX_DAYS).contains(&days)) {
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "bad-days",
            "a key cannot last so many days",
            format!("say 1 to {MAX_DAYS}, or leave `days` out for a key that lasts until it is revoked"),
        ));
    }
    let issued = shared.engine.issue_key(&caller, NewKey { role, days, name }).await?;
    Ok((StatusCode::CREATED, Json(issued)).into_response())
}

async fn revoke(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    InPath(key): InPath,
) -> Answer<Json<KeyView>> {
    // Thus one key that may do everything is always left.
    if caller.key == key {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "own-key",
            "a key does not revoke itself",
            "use another key of role admin",
        ));
    }
    Ok(Json(shared.engine.revoke_key(&caller, &key).await?))
}
