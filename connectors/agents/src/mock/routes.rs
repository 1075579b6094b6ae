//! The routes, and how a request becomes an answer or a fault.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use omium_limits::Limits;
use serde_json::{Value, json};

use super::answer::{Said, said};
use super::forms::{Form, embeddings};
use super::pieces::{Piece, body};
use super::question::Question;
use super::script::Fault;
use super::server::{Seen, Shared};

const LARGEST: usize = 64 << 20;
/// What a body may cost once it is built.
const LIMITS: Limits = Limits { bytes: LARGEST, nodes: 2_000_000, memory: 256 << 20, ..Limits::BYTES };

pub(super) fn router(shared: Arc<Shared>) -> axum::Router {
    axum::Router::new()
        .route("/v1/chat/completions", post(|state, headers, body| asked(Form::Chat, state, headers, body)))
        .route("/v1/completions", post(|state, headers, body| asked(Form::Completion, state, headers, body)))
        .route("/v1/responses", post(|state, headers, body| asked(Form::Response, state, headers, body)))
        .route("/v1/embeddings", post(embedded))
        .route("/v1/models", get(models))
        .route("/health", get(|| async { "ok" }))
        .layer(DefaultBodyLimit::max(LARGEST))
        .with_state(shared)
}

async fn models(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let models: Vec<Value> = shared
        .actor
        .script
        .models
        .iter()
        .map(|id| json!({"id": id, "object": "model", "created": 0, "owned_by": "script"}))
        .collect();
    Json(json!({"object": "list", "data": models}))
}

async fn embedded(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let request = match omium_limits::json::parse(&body, &LIMITS) {
        Ok(request) => request,
        Err(why) => {
            return error(StatusCode::BAD_REQUEST, "invalid_json", &format!("the body is not taken: {why}"));
        }
    };
    let Some(answer) = embeddings(&request) else {
        return error(
            StatusCode::BAD_REQUEST,
            "too_many_inputs",
            "these are too many texts or too many dimensions at once",
        );
    };
    shared.record(Seen { path: "/embeddings", step: String::new(), body: request, rule: None });
    Json(answer).into_response()
}

async fn asked(form: Form, State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let request = match omium_limits::json::parse(&body, &LIMITS) {
        Ok(request) => request,
        Err(why) => {
            return error(StatusCode::BAD_REQUEST, "invalid_json", &format!("the body is not taken: {why}"));
        }
    };
    let question = Question::of(&request, &headers);
    let chosen = shared.actor.choose(&question).map(|(rule, n)| (rule.clone(), n));
    let rule = chosen.as_ref().map(|(rule, _)| rule.name.clone());
    shared.record(Seen { path: form.path(), step: question.step.clone(), body: request, rule });
    let Some((rule, n)) = chosen else {
        let text = format!(
            "no rule of the script fits: model `{}`, step `{}`, last user message `{}`; add one without `when`",
            question.model,
            question.step,
            question.last_user.chars().take(80).collect::<String>()
        );
        return error(StatusCode::NOT_FOUND, "no_rule", &text);
    };
    if !rule.answer.delay.is_zero() {
        tokio::select! {
            () = tokio::time::sleep(rule.answer.delay) => {}
            () = shared.stopped() => {}
        }
    }
    match rule.answer.fault {
        Some(Fault::RateLimited { retry_after_s }) => {
            let refused = error(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", "too many requests");
            ([(header::RETRY_AFTER, retry_after_s)], refused).into_response()
        }
        Some(Fault::Status(status)) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            error(status, "server_error", "the script says that this fails")
        }
        Some(Fault::Hang) => {
            shared.stopped().await;
            error(StatusCode::SERVICE_UNAVAILABLE, "stopped", "the server stops")
        }
        fault => match said(&rule, &question, n) {
            Ok(said) => answered(form, &shared, &question, said, fault),
            Err(why) => error(StatusCode::BAD_REQUEST, "answer_too_long", &why.to_string()),
        },
    }
}

fn answered(
    form: Form,
    shared: &Arc<Shared>,
    question: &Question,
    mut said: Said,
    fault: Option<Fault>,
) -> Response {
    if fault == Some(Fault::Empty) {
        (said.text, said.tool_calls, said.output_tokens) = (None, Vec::new(), 0);
    }
    let (kind, mut pieces) = if question.stream {
        ("text/event-stream", form.stream(question, &said))
    } else {
        ("application/json", vec![form.plain(question, &said).to_string()])
    };
    let between = match fault {
        Some(Fault::Slow(between)) => between,
        _ => std::time::Duration::ZERO,
    };
    if matches!(fault, Some(Fault::Slow(_))) && !question.stream {
        pieces = parts(&pieces.concat(), 8);
    }
    let mut pieces: Vec<Piece> = pieces.into_iter().map(Piece::Text).collect();
    match fault {
        Some(Fault::CutJson) => cut(&mut pieces),
        Some(Fault::Drop) => {
            cut(&mut pieces);
            pieces.push(Piece::Break);
        }
        _ => {}
    }
    let body: Body = body(shared.clone(), pieces, between);
    ([(header::CONTENT_TYPE, kind)], body).into_response()
}

/// Leaves the first half, and of its last piece the first half again, so that JSON is cut and not only a stream.
fn cut(pieces: &mut Vec<Piece>) {
    pieces.truncate(pieces.len().div_ceil(2));
    if let Some(Piece::Text(text)) = pieces.last_mut() {
        let half = (0..=text.len() / 2).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(half);
    }
}

fn parts(text: &str, count: usize) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    letters.chunks(letters.len().div_ceil(count).max(1)).map(|part| part.iter().collect()).collect()
}

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    let kind = if status.is_server_error() { "server_error" } else { "invalid_request_error" };
    let body = json!({"error": {"message": message, "type": kind, "param": null, "code": code}});
    (status, Json(body)).into_response()
}
