//! The routes: one OpenAI-compatible address for each execution.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, Method, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use omium_openai::Endpoint;

use crate::gate::{self, Incoming};
use crate::port::{Attempt, Ledger, Refused};
use crate::reply::Reply;
use crate::tools;
use crate::upstream::{Upstream, passed_back};

/// The largest body that is taken.
const MAX_BODY: usize = 32 << 20;

#[derive(Clone)]
struct Gate {
    ledger: Arc<dyn Ledger>,
    upstream: Upstream,
}

/// Everything below `/x/`.
pub fn router(ledger: Arc<dyn Ledger>, upstream: Upstream) -> Router {
    Router::new()
        .route("/x/{execution}/v1/{*path}", any(model))
        .route("/x/{execution}/tools", post(begin_tool))
        .route("/x/{execution}/tools/{call}", post(end_tool))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Gate { ledger, upstream })
}

impl Gate {
    async fn attempt(&self, execution: &str, headers: &HeaderMap) -> Result<Attempt, Refused> {
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some(token) = bearer.and_then(|value| value.strip_prefix("Bearer ")) else {
            let hint = "`omium exec` gives each attempt one as OPENAI_API_KEY";
            return Err(Refused::new(401, "no-token", "the request has no token", hint));
        };
        self.ledger.attempt(execution, token.trim()).await
    }
}

async fn model(
    State(gate): State<Gate>,
    Path((execution, path)): Path<(String, String)>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let attempt = match gate.attempt(&execution, &headers).await {
        Ok(attempt) => attempt,
        Err(refused) => return refused.into_response(),
    };
    match (Endpoint::at(&path), method) {
        (Some(endpoint), Method::POST) => {
            let Gate { ledger, upstream } = gate;
            gate::answer(Incoming { ledger, upstream, attempt, endpoint, headers, body }).await
        }
        (None, Method::GET) if path == "models" || path.starts_with("models/") => {
            models(&gate, &path, &headers).await.unwrap_or_else(IntoResponse::into_response)
        }
        _ => {
            let known: Vec<&str> = Endpoint::ALL.iter().map(|endpoint| endpoint.path()).collect();
            let detail =
                format!("the gate does not know `{path}`: what it let pass there could not be recorded");
            let hint = format!("it knows models, {}", known.join(", "));
            Refused::new(404, "unknown-operation", detail, hint).into_response()
        }
    }
}

/// What models there are changes nothing and costs nothing: it is passed on and not recorded.
async fn models(gate: &Gate, path: &str, headers: &HeaderMap) -> Result<Response, Refused> {
    let answer =
        gate.upstream.send(path, headers, None).await.map_err(|failed| Refused::of_model(&failed))?;
    let (status, headers) = (answer.status(), passed_back(answer.headers()));
    let body =
        answer.bytes().await.map_err(|error| Refused::of_model(&crate::upstream::unreached(&error)))?;
    Ok(Reply { status, headers, body }.into_response())
}

async fn begin_tool(
    State(gate): State<Gate>,
    Path(execution): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refused> {
    let attempt = gate.attempt(&execution, &headers).await?;
    tools::begin(&*gate.ledger, &attempt, &body).await
}

async fn end_tool(
    State(gate): State<Gate>,
    Path((execution, call)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refused> {
    let attempt = gate.attempt(&execution, &headers).await?;
    tools::end(&*gate.ledger, &attempt, &call, &body).await
}
