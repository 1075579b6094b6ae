//! The routes: one OpenAI-compatible address for each execution. The token is looked at before the body is read.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use bytes::Bytes;
use omium_edge::{Slot, Unread, read_body};
use omium_openai::Endpoint;
use serde::Deserialize;

use crate::gate::{self, Incoming};
use crate::port::{Attempt, Ledger, Refused};
use crate::reply::Reply;
use crate::rounds::Rounds;
use crate::tools;
use crate::upstream::{Upstream, passed_back, whole};

/// The largest body that is taken.
const MAX_BODY: usize = 32 << 20;
/// Where a program asks how many tokens a request has.
const COUNT: &str = "responses/input_tokens";
/// The longest list of models.
const MAX_MODELS: usize = 4 << 20;

#[derive(Clone)]
struct Gate {
    ledger: Arc<dyn Ledger>,
    upstream: Upstream,
    rounds: Rounds,
}

/// Everything below `/x/`.
pub fn router(ledger: Arc<dyn Ledger>, upstream: Upstream) -> Router {
    let inner = Router::new()
        .route("/{execution}/v1/{*path}", any(model))
        .route("/{execution}/tools", any(begin_tool))
        .route("/{execution}/tools/{call}", any(end_tool))
        .route("/{execution}/fence", any(fence))
        // The same with the token in the path, where a program's own key does not overwrite it.
        .route("/{execution}/{token}/v1/{*path}", any(model))
        .route("/{execution}/{token}/tools", any(begin_tool))
        .route("/{execution}/{token}/tools/{call}", any(end_tool))
        .route("/{execution}/{token}/fence", any(fence))
        .fallback(unknown)
        .layer(axum::middleware::from_fn(omium_telemetry::in_request))
        .with_state(Gate { ledger, upstream, rounds: Rounds::default() });
    Router::new().nest("/x", inner)
}

/// What an address says. `rest` is the operation or the call.
#[derive(Deserialize)]
struct At {
    execution: String,
    token: Option<String>,
    #[serde(default, alias = "path", alias = "call")]
    rest: String,
}

/// Somebody whose token was good, and what he has sent.
struct Asked {
    attempt: Attempt,
    parts: Parts,
    body: Body,
}

/// The same with the body, and its room in memory until the request is done with.
struct Posted {
    at: At,
    attempt: Attempt,
    body: Bytes,
    _slot: Option<Slot>,
}

impl Gate {
    /// A token in the path is the one that counts: what else a program sends as a key is its own, and dropped unread.
    async fn attempt(&self, at: &At, headers: &HeaderMap) -> Result<Attempt, Refused> {
        if let Some(token) = &at.token {
            return self.ledger.attempt(&at.execution, token).await;
        }
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some(token) = bearer.and_then(|value| value.strip_prefix("Bearer ")) else {
            let hint = "`omium exec` gives each attempt one as OPENAI_API_KEY";
            return Err(Refused::new(401, "no-token", "the request has no token", hint));
        };
        self.ledger.attempt(&at.execution, token.trim()).await
    }

    /// Looks at the head alone.
    async fn asked(&self, at: &At, request: Request) -> Result<Asked, Refused> {
        let (parts, body) = request.into_parts();
        let attempt = self.attempt(at, &parts.headers).await?;
        omium_telemetry::caller_is_known();
        if let Some(slot) = parts.extensions.get::<Slot>() {
            slot.belongs_to(attempt.tenant).map_err(Refused::of_listener)?;
        }
        Ok(Asked { attempt, parts, body })
    }

    /// The whole of a request that has to be a POST; nothing where it is another.
    async fn posted(
        &self,
        path: Result<Path<At>, PathRejection>,
        request: Request,
    ) -> Result<Option<Posted>, Refused> {
        let Path(at) = path.map_err(bad_path)?;
        let Asked { attempt, parts, body } = self.asked(&at, request).await?;
        if parts.method != Method::POST {
            return Ok(None);
        }
        let slot = parts.extensions.get::<Slot>().cloned();
        let body = read(slot.as_ref(), body).await?;
        Ok(Some(Posted { at, attempt, body, _slot: slot }))
    }
}

async fn read(slot: Option<&Slot>, body: Body) -> Result<Bytes, Refused> {
    read_body(slot, body, MAX_BODY).await.map_err(|unread| match unread {
        Unread::TooLong => {
            let detail = format!("the body has more than {MAX_BODY} bytes");
            Refused::new(413, "too-large", detail, "send less at once, or a reference to the data")
        }
        Unread::TooSlow => Refused {
            again: true,
            ..Refused::new(408, "slow-body", "the body came too slowly", "send it again, faster")
        },
        Unread::NoRoom => {
            let detail = "as many bodies as fit are in memory";
            Refused { again: true, ..Refused::new(503, "busy", detail, "send it again in a moment") }
        }
        Unread::Broken(why) => Refused::new(400, "cut-body", why, "send the whole body"),
    })
}

async fn model(
    State(gate): State<Gate>,
    path: Result<Path<At>, PathRejection>,
    request: Request,
) -> Result<Response, Refused> {
    let Path(at) = path.map_err(bad_path)?;
    let Asked { attempt, parts, body } = gate.asked(&at, request).await?;
    let path = at.rest;
    let Parts { method, headers, extensions, .. } = parts;
    let slot = extensions.get::<Slot>().cloned();
    match (Endpoint::at(&path), model_name(&path)) {
        (Some(endpoint), _) if method == Method::POST => {
            let body = read(slot.as_ref(), body).await?;
            let Gate { ledger, upstream, rounds } = gate;
            Ok(gate::answer(Incoming {
                ledger,
                upstream,
                attempt,
                endpoint,
                headers,
                body,
                rounds,
                _slot: slot,
            })
            .await)
        }
        (Some(_), _) => Ok(wrong_method("POST")),
        (None, _) if path == COUNT && method == Method::POST => {
            let body = read(slot.as_ref(), body).await?;
            counted(&gate, &headers, body).await
        }
        (None, _) if path == COUNT => Ok(wrong_method("POST")),
        (None, Some(name)) if method == Method::GET => models(&gate, name, &headers).await,
        (None, Some(_)) => Ok(wrong_method("GET")),
        (None, None) => Err(unknown_operation(&path)),
    }
}

/// Which model a path asks about, or `None` inside for all of them; nothing where it asks about something else. Ids of
/// some providers have a slash, and no other letter that would lead elsewhere.
fn model_name(path: &str) -> Option<Option<&str>> {
    if path == "models" {
        return Some(None);
    }
    let name = path.strip_prefix("models/")?;
    let good = |part: &str| {
        let letters = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:-@+".contains(&byte));
        letters && !part.is_empty() && !part.bytes().all(|byte| byte == b'.')
    };
    (name.len() <= 256 && name.split('/').all(good)).then_some(Some(name))
}

/// What models there are changes nothing and costs nothing: it is passed on and not recorded.
async fn models(gate: &Gate, name: Option<&str>, headers: &HeaderMap) -> Result<Response, Refused> {
    let arriving = gate.upstream.models(name, headers).await?;
    let (status, headers) = (arriving.response.status(), passed_back(arriving.response.headers()));
    let body = whole(arriving, MAX_MODELS).await.map_err(|failed| Refused::of_model(&failed))?;
    Ok(Reply { status, headers, body }.into_response())
}

/// How many tokens a request has changes nothing either: it is no call of a model, and shifts none.
async fn counted(gate: &Gate, headers: &HeaderMap, body: Bytes) -> Result<Response, Refused> {
    gate.upstream.is_there()?;
    let arriving =
        gate.upstream.send(COUNT, headers, body).await.map_err(|failed| Refused::of_model(&failed))?;
    let (status, headers) = (arriving.response.status(), passed_back(arriving.response.headers()));
    let body = whole(arriving, MAX_MODELS).await.map_err(|failed| Refused::of_model(&failed))?;
    Ok(Reply { status, headers, body }.into_response())
}

async fn begin_tool(
    State(gate): State<Gate>,
    path: Result<Path<At>, PathRejection>,
    request: Request,
) -> Result<Response, Refused> {
    let Some(Posted { attempt, body, _slot, .. }) = gate.posted(path, request).await? else {
        return Ok(wrong_method("POST"));
    };
    tools::begin(&*gate.ledger, &attempt, &body).await
}

async fn end_tool(
    State(gate): State<Gate>,
    path: Result<Path<At>, PathRejection>,
    request: Request,
) -> Result<Response, Refused> {
    let Some(Posted { at, attempt, body, _slot }) = gate.posted(path, request).await? else {
        return Ok(wrong_method("POST"));
    };
    tools::end(&*gate.ledger, &attempt, &at.rest, &body).await
}

async fn fence(
    State(gate): State<Gate>,
    path: Result<Path<At>, PathRejection>,
    request: Request,
) -> Result<Response, Refused> {
    let Some(Posted { attempt, body, _slot, .. }) = gate.posted(path, request).await? else {
        return Ok(wrong_method("POST"));
    };
    tools::fence(&*gate.ledger, &attempt, &body).await
}

async fn unknown(request: Request) -> Refused {
    unknown_operation(request.uri().path())
}

fn unknown_operation(path: &str) -> Refused {
    let known: Vec<&str> = Endpoint::ALL.iter().map(|endpoint| endpoint.path()).collect();
    let path: String = path.chars().filter(|letter| !letter.is_control()).take(200).collect();
    let detail = format!("the gate does not know `{path}`: what it let pass there could not be recorded");
    Refused::new(404, "unknown-operation", detail, format!("it knows models, {COUNT}, {}", known.join(", ")))
}

fn bad_path(why: PathRejection) -> Refused {
    Refused::new(400, "bad-path", why.body_text(), "paths are UTF-8, percent-encoded")
}

fn wrong_method(right: &'static str) -> Response {
    let hint = format!("send {right}");
    let refused = Refused::new(405, "wrong-method", "this address does not take this method", hint);
    ([(header::ALLOW, right)], refused).into_response()
}
