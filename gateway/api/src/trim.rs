//! Letting go of what was kept long enough.

use axum::Json;
use axum::extract::State;

use crate::port::Role;
use crate::problem::Problem;
use crate::request::{Known, Shared};
use crate::views::LetGo;

/// How long that is says who runs the server, so nobody can drop what others keep.
pub(crate) async fn trim(State(shared): State<Shared>, known: Known) -> Result<Json<LetGo>, Problem> {
    let caller = known.may(Role::Admin)?;
    Ok(Json(shared.engine.trim(&caller).await?))
}
