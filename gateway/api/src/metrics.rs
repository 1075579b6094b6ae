//! `/metrics`, in the text format of Prometheus.

use std::sync::{Arc, Weak};

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::port::{Engine, Role};
use crate::problem::Problem;
use crate::request::{Known, Shared};

/// What is only known when somebody asks: open executions, and whether the parts are well.
pub(crate) fn watch(engine: &Arc<dyn Engine>) {
    let meters = engine.meters();
    let weak: Weak<dyn Engine> = Arc::downgrade(engine);
    let active = weak.clone();
    meters
        .instruments()
        .watch_active(move || active.upgrade().map(|engine| engine.active()).unwrap_or_default());
    meters
        .instruments()
        .watch_health(move || weak.upgrade().map(|engine| engine.health()).unwrap_or_default());
}

pub(crate) async fn metrics(State(shared): State<Shared>, known: Result<Known, Problem>) -> Response {
    // Without an admin's key there are numbers, and nobody's name.
    let named = known.is_ok_and(|known| known.may(Role::Admin).is_ok());
    let text = shared.engine.meters().text(named);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}
