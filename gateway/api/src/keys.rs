//! Keys: who may come in, and as what.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::port::{NewKey, Role};
use crate::problem::Problem;
use crate::request::{InPath, Known, Shared, Whole, read};
use crate::views::{Items, KeyView};

/// The longest that a key which ends may last: ten years.
const MAX_DAYS: u32 = 3_650;

/// A key that is wanted.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyBody {
    /// What it may do.
    role: Role,
    /// How many days it lasts, 1 to 3650; until somebody revokes it where this is left out.
    days: Option<u32>,
    /// What people call it: 1 to 64 of A-Z a-z 0-9 _ . -
    name: Option<String>,
}

pub(crate) async fn keys(
    State(shared): State<Shared>,
    known: Known,
) -> Result<Json<Items<KeyView>>, Problem> {
    let caller = known.may(Role::Admin)?;
    Ok(Json(Items { items: shared.engine.keys(&caller).await? }))
}

pub(crate) async fn issue(
    State(shared): State<Shared>,
    known: Known,
    Whole(body): Whole,
) -> Result<Response, Problem> {
    let caller = known.may(Role::Admin)?;
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

pub(crate) async fn revoke(
    State(shared): State<Shared>,
    known: Known,
    InPath(key): InPath,
) -> Result<Json<KeyView>, Problem> {
    let caller = known.may(Role::Admin)?;
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
