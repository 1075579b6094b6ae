//! What clients are answered.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use omium_edge::Code;
use omium_openai::Endpoint;
use omium_schemas::Seq;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};

use crate::port::{Failed, Refused};
use crate::tail::{self, Parts};
use crate::to_the_end::ToTheEnd;

/// How long a client hears nothing while its answer is held back; then it is told that something is on its way.
const SILENCE: Duration = Duration::from_secs(10);

/// An answer on its way to a client.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.body).into_response();
        response.headers_mut().remove(header::CONTENT_TYPE);
        response.headers_mut().extend(self.headers);
        response
    }
}

impl Reply {
    /// An answer that was recorded, in the form that is asked for now.
    pub(crate) fn recorded(endpoint: Endpoint, body: &Bytes, stream: bool, usage: bool, at: Seq) -> Reply {
        let is_body = omium_limits::json::check(body, &omium_limits::Limits::BYTES).is_ok();
        let shaped = match (stream, is_body) {
            (true, true) => omium_openai::as_events(endpoint, body, usage),
            (false, false) => omium_openai::as_body(endpoint, body),
            (true, false) if !usage => Some(omium_openai::without_usage(body)),
            _ => None,
        };
        let kind = if stream { "text/event-stream" } else { "application/json" };
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert("x-omium-recorded", HeaderValue::from(at.0));
        let body = shaped.map_or_else(|| body.clone(), Bytes::from);
        Reply { status: StatusCode::OK, headers, body }
    }
}

/// OpenAI's own form of an error, so that every client shows its text.
impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(self.body())).into_response();
        response.extensions_mut().insert(Code(self.code));
        let headers = response.headers_mut();
        // Clients obey this before they look at the status.
        headers.insert("x-should-retry", HeaderValue::from_static(if self.again { "true" } else { "false" }));
        if self.again {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl Refused {
    pub(crate) fn new(
        status: u16,
        code: &'static str,
        detail: impl Into<String>,
        hint: impl Into<String>,
    ) -> Refused {
        Refused { status, code, detail: detail.into(), hint: hint.into(), again: false }
    }

    fn body(&self) -> serde_json::Value {
        let message = format!("omium: {}; {}", self.detail, self.hint);
        json!({
            "error": { "message": message, "type": "omium", "code": self.code, "param": null },
            "code": self.code, "detail": self.detail, "hint": self.hint,
        })
    }

    /// What the listener has no room for.
    pub(crate) fn of_listener(refusal: omium_edge::Refusal) -> Refused {
        let again = refusal.status == StatusCode::SERVICE_UNAVAILABLE;
        Refused { again, ..Refused::new(refusal.status.as_u16(), refusal.code, refusal.detail, refusal.hint) }
    }

    /// A model without an answer, as its client is told.
    pub(crate) fn of_model(failed: &Failed) -> Refused {
        let again = failed.retryable;
        let hint = "`omium show` has the call; ask again, or see to the model's server".to_owned();
        Refused { status: 502, code: "no-answer", detail: failed.reason.clone(), hint, again }
    }
}

/// What comes of a request.
pub(crate) enum Passed {
    /// Something whole, which may have been held back.
    Whole(Result<Reply, Refused>),
    /// A stream that has begun.
    Parts(HeaderMap, Parts),
}

/// Waits for an answer that may be held back. A client of a stream is kept from giving up.
pub(crate) async fn held(stream: bool, mut answer: ToTheEnd<Passed>) -> Response {
    let settled = match stream {
        false => Some((&mut answer).await),
        true => tokio::time::timeout(SILENCE, &mut answer).await.ok(),
    };
    match settled {
        None => kept_alive(answer),
        Some(Some(Passed::Whole(Ok(reply)))) => reply.into_response(),
        Some(Some(Passed::Whole(Err(refused)))) => refused.into_response(),
        Some(Some(Passed::Parts(headers, parts))) => streamed(headers, parts),
        Some(None) => lost().into_response(),
    }
}

fn lost() -> Refused {
    let hint = "its record is whole; run the program again with --resume";
    Refused { again: false, ..Refused::new(500, "lost", "the gate lost this request", hint) }
}

/// The head of the answer is sent; what comes of it can only be told inside the stream from here on.
fn kept_alive(mut answer: ToTheEnd<Passed>) -> Response {
    let (parts, body) = mpsc::channel::<Result<Bytes, std::io::Error>>(4);
    tokio::spawn(async move {
        let answer = loop {
            if parts.send(Ok(Bytes::from_static(b": omium waits with you\n\n"))).await.is_err() {
                return;
            }
            if let Ok(answer) = tokio::time::timeout(SILENCE, &mut answer).await {
                break answer.unwrap_or_else(|| Passed::Whole(Err(lost())));
            }
        };
        let last = match answer {
            Passed::Whole(Ok(reply)) if tail::is_stream(&reply.headers) => reply.body,
            Passed::Whole(Ok(reply)) => as_event(&reply.body),
            Passed::Whole(Err(refused)) => Bytes::from(format!("data: {}\n\n", refused.body())),
            Passed::Parts(_, mut begun) => {
                while let Some(part) = begun.next().await {
                    if parts.send(part).await.is_err() {
                        // The call goes on to its end: whoever passes the parts on does not depend on us.
                        begun.close();
                    }
                }
                return;
            }
        };
        let _ = parts.send(Ok(last)).await;
    });
    streamed(HeaderMap::new(), ReceiverStream::new(body))
}

/// What is no stream of events, as one event of it.
fn as_event(body: &[u8]) -> Bytes {
    let lines = body.split(|byte| matches!(byte, b'\n' | b'\r')).filter(|line| !line.is_empty());
    let mut event: Vec<u8> = lines.flat_map(|line| [b"data: ", line, b"\n"].concat()).collect();
    event.push(b'\n');
    event.into()
}

/// An answer in parts.
fn streamed(
    mut headers: HeaderMap,
    parts: impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
) -> Response {
    headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("text/event-stream"));
    let mut response = Response::new(Body::from_stream(parts));
    response.headers_mut().extend(headers);
    response
}
