//! What a node answers before it is open: that it lives, and how far it is.

use std::sync::{Arc, OnceLock};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use omium_api::views::Health;
use omium_edge::Refusal;
use omium_engine::Opening;
use omium_schemas::Digest;
use tower::ServiceExt as _;

/// The way in, from the first moment on.
#[derive(Clone, Default)]
pub(crate) struct Entrance(Arc<Inside>);

#[derive(Default)]
struct Inside {
    opening: Arc<Opening>,
    /// All routes, once they are served.
    open: OnceLock<Router>,
    /// Why they never will be.
    closed: OnceLock<Closed>,
}

struct Closed {
    why: String,
    /// Who has this key is told all of it.
    key: Option<Digest>,
}

impl Closed {
    fn told(&self, headers: &HeaderMap) -> (&'static str, String, &'static str) {
        let bearer =
            headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let knows = bearer.is_some_and(|key| self.key == Some(Digest::of(key.trim().as_bytes())));
        let hint = "nothing was changed; put the folder right and start the node again";
        if knows {
            return ("other-ages", self.why.clone(), hint);
        }
        let detail =
            "parts of the data folder are older than others; ask with the key of this node to be told which";
        ("other-ages", detail.to_owned(), hint)
    }
}

impl Entrance {
    pub(crate) fn router(&self) -> Router {
        Router::new().fallback(answer).with_state(self.clone())
    }

    pub(crate) fn opening(&self) -> &Arc<Opening> {
        &self.0.opening
    }

    pub(crate) fn open(&self, router: Router) {
        assert!(self.0.open.set(router).is_ok(), "it is opened once");
    }

    /// Nothing is served; whoever asks is told so, and who has this key is told why.
    pub(crate) fn close(&self, why: String, key: &str) {
        let key = (!key.is_empty()).then(|| Digest::of(key.as_bytes()));
        assert!(self.0.closed.set(Closed { why, key }).is_ok(), "it is closed once");
    }
}

async fn answer(State(Entrance(inside)): State<Entrance>, request: Request) -> Response<Body> {
    if let Some(router) = inside.open.get() {
        return router.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
    }
    if request.uri().path() == "/health" {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        return Json(Health { status: "ok".to_owned(), version }).into_response();
    }
    let (code, detail, hint) = match inside.closed.get() {
        Some(closed) => closed.told(request.headers()),
        None => ("opening", inside.opening.to_string(), "ask again in a moment"),
    };
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, code, detail, hint).response()
}
