//! What of a request every route needs: who asks, and a body that may be wrong.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use omium_edge::{Slot, Unread, read_body};
use omium_limits::{Limits, clipped, json};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::port::{Action, Caller, Engine, Failure, Role};
use crate::problem::Problem;
use crate::views::Done;

/// The largest body that is taken.
pub(crate) const MAX_BODY: usize = 16 << 20;
/// How much of what is wrong with a body is told, in bytes: it may name what stands there.
const MOST_TOLD: usize = 500;

/// What routes share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) engine: Arc<dyn Engine>,
}

impl Shared {
    pub(crate) fn new(engine: Arc<dyn Engine>) -> Shared {
        crate::metrics::watch(&engine);
        Shared { engine }
    }

    /// Does something to an execution, and notes how long checkpoints and rollbacks take.
    pub(crate) async fn act(
        &self,
        caller: &Caller,
        execution: &str,
        action: Action,
        idempotency: Option<String>,
    ) -> Result<Done, Failure> {
        let (goes_back, marks) =
            (matches!(action, Action::RollBack { .. }), matches!(action, Action::Checkpoint { .. }));
        let began = Instant::now();
        let done = self.engine.act(caller, execution, action, idempotency).await;
        if done.is_ok() && (goes_back || marks) {
            let (meters, seconds) = (self.engine.meters(), began.elapsed().as_secs_f64());
            let instruments = meters.instruments();
            if goes_back { instruments.rollback(seconds) } else { instruments.checkpoint(seconds) }
        }
        done
    }
}

/// How long it may take to know a key where the answer does not depend on it.
const KNOWN_WITHIN: Duration = Duration::from_secs(1);

/// Whoever asks, known by his key.
pub(crate) struct Known(pub(crate) Caller);

impl FromRequestParts<Shared> for Known {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Known, Problem> {
        let Some(key) = key(parts) else {
            return Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "no-key",
                "the request has no key",
                "send `Authorization: Bearer om_…`; `omium dev` writes one to dev.json",
            ));
        };
        match shared.engine.authenticate(&key).await? {
            Some(caller) => {
                omium_telemetry::caller_is_known();
                if let Some(slot) = parts.extensions.get::<Slot>() {
                    slot.belongs_to(caller.tenant)?;
                }
                Ok(Known(caller))
            }
            None => Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "bad-key",
                "the key is unknown, revoked or too old",
                "ask an admin of the tenant for a new one",
            )),
        }
    }
}

/// Whether these headers hold a good key, as far as that is known soon: a node that is not well may not know it at all.
pub(crate) async fn has_key(shared: &Shared, headers: &HeaderMap) -> bool {
    let Some(key) = bearer(headers) else { return false };
    let known = tokio::time::timeout(KNOWN_WITHIN, shared.engine.authenticate(&key)).await;
    matches!(known, Ok(Ok(Some(_))))
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    Some(value.strip_prefix("Bearer ")?.trim().to_owned())
}

impl Known {
    /// The caller, where his role allows it.
    pub(crate) fn may(self, least: Role) -> Result<Caller, Problem> {
        if self.0.role >= least {
            return Ok(self.0);
        }
        let detail =
            format!("a key of role {:?} may not do this; it takes {least:?}", self.0.role).to_lowercase();
        Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail, "use a key of a higher role"))
    }
}

// A browser cannot set headers on a WebSocket; there alone the key may stand in the address.
fn key(parts: &Parts) -> Option<String> {
    if let Some(key) = bearer(&parts.headers) {
        return Some(key);
    }
    let upgrades = parts
        .headers
        .get(header::UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let query = parts.uri.query().filter(|_| upgrades)?;
    query.split('&').find_map(|pair| pair.strip_prefix("key=")).map(str::to_owned)
}

/// A body as JSON; an empty one as nothing.
pub(crate) fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Problem> {
    let text: &[u8] = if body.iter().all(u8::is_ascii_whitespace) { b"{}" } else { body };
    let wrong = |why: &str| {
        let detail = format!("the body is not what this route takes: {}", clipped(why, MOST_TOLD));
        let hint = "see /openapi.json for its form and an example";
        Problem::new(StatusCode::BAD_REQUEST, "bad-body", detail, hint)
    };
    // Counted before it is built: a small body may hold very many values.
    json::check(text, &Limits::VALUES).map_err(|why| wrong(&why.to_string()))?;
    json::typed(text).map_err(|why| wrong(&why.to_string()))
}

pub(crate) fn idempotency(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    match value.to_str().ok().and_then(idempotency_key) {
        Some(key) => Ok(Some(key)),
        None => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "bad-idempotency-key",
            "the Idempotency-Key is no text of 1 to 256 characters",
            "a uuid will do",
        )),
    }
}

/// A text that may be an idempotency key.
pub(crate) fn idempotency_key(text: &str) -> Option<String> {
    let visible = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    (visible && (1..=256).contains(&text.len())).then(|| text.to_owned())
}

/// The name or id in the path, or several of them.
pub(crate) struct InPath<T = String>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Shared> for InPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<InPath<T>, Problem> {
        let found = axum::extract::Path::<T>::from_request_parts(parts, shared).await;
        found.map(|path| InPath(path.0)).map_err(|rejection| {
            let hint = "names and ids are UTF-8, percent-encoded";
            Problem::new(StatusCode::BAD_REQUEST, "bad-path", rejection.body_text(), hint)
        })
    }
}

/// What stands behind the question mark.
pub(crate) struct InQuery<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<Shared> for InQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<InQuery<T>, Problem> {
        let found = axum::extract::Query::<T>::from_request_parts(parts, shared).await;
        found.map(|query| InQuery(query.0)).map_err(|rejection| {
            let hint = "see /openapi.json for the parameters";
            Problem::new(StatusCode::BAD_REQUEST, "bad-query", rejection.body_text(), hint)
        })
    }
}

/// A body that has arrived whole, in time, and is not too long. It is read behind the check of the key: a stranger's is
/// not read.
pub(crate) struct Whole(pub(crate) Bytes);

impl axum::extract::FromRequest<Shared> for Whole {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Shared) -> Result<Whole, Problem> {
        let (parts, body) = request.into_parts();
        read_body(parts.extensions.get::<Slot>(), body, MAX_BODY).await.map(Whole).map_err(unread)
    }
}

fn unread(unread: Unread) -> Problem {
    let (status, code, detail, hint) = match unread {
        Unread::TooLong => (
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            format!("the body has more than {MAX_BODY} bytes"),
            "pass a reference to the data instead",
        ),
        Unread::TooSlow => (
            StatusCode::REQUEST_TIMEOUT,
            "slow-body",
            "the body came too slowly".to_owned(),
            "send it again, faster",
        ),
        Unread::NoRoom => (
            StatusCode::SERVICE_UNAVAILABLE,
            "busy",
            "as many bodies as fit are in memory".to_owned(),
            "send it again in a moment",
        ),
        Unread::Broken(why) => (StatusCode::BAD_REQUEST, "cut-body", why, "send the whole body"),
    };
    Problem::new(status, code, detail, hint)
}

/// Whoever waits for something longer, and when he has to stop because the node does.
pub(crate) struct Waiting(pub(crate) Option<Slot>);

impl FromRequestParts<Shared> for Waiting {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Waiting, Self::Rejection> {
        Ok(Waiting(parts.extensions.get::<Slot>().cloned()))
    }
}

impl Waiting {
    /// Resolves when the node stops.
    pub(crate) async fn over(&self) {
        match &self.0 {
            Some(slot) => slot.stop().begun().await,
            None => std::future::pending().await,
        }
    }
}
