//! What the listener itself refuses, in a form that clients of the API and of models both read.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde_json::json;

/// The word in a refusal that programs compare. Routes put it beside their answers, so that refusals can be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub &'static str);

/// A request that no route has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status.
    pub status: StatusCode,
    /// A word that programs can compare.
    pub code: &'static str,
    /// What failed and what is true now.
    pub detail: String,
    /// What to do next.
    pub hint: &'static str,
}

impl Refusal {
    /// A refusal with all that it says.
    pub fn new(
        status: StatusCode,
        code: &'static str,
        detail: impl Into<String>,
        hint: &'static str,
    ) -> Refusal {
        Refusal { status, code, detail: detail.into(), hint }
    }

    pub(crate) fn stopping() -> Refusal {
        let hint = "send it again in a moment, to the node that takes its place";
        Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "stopping",
            "this node stops and takes nothing new",
            hint,
        )
    }

    pub(crate) fn too_many_connections(most: usize) -> Refusal {
        let detail =
            format!("callers of this tenant hold {most} connections, as many as one tenant may have here");
        let hint = "close some, or ask again in a moment; fewer connections, each kept open, do too";
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-connections", detail, hint)
    }

    pub(crate) fn readers_behind() -> Refusal {
        let detail = "too many long answers wait for their readers";
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail, "ask again in a moment, or for less")
    }

    fn body(&self) -> String {
        let message = format!("omium: {}; {}", self.detail, self.hint);
        json!({
            "type": format!("https://omium.invalid/problems/{}", self.code),
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "code": self.code, "detail": self.detail, "hint": self.hint,
            "error": { "message": message, "type": "omium", "code": self.code, "param": null },
        })
        .to_string()
    }

    /// What is answered; where it may be sent again, with the time after which.
    pub fn response(&self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body()));
        *response.status_mut() = self.status;
        response.extensions_mut().insert(Code(self.code));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        let again = self.status == StatusCode::SERVICE_UNAVAILABLE;
        headers.insert("x-should-retry", HeaderValue::from_static(if again { "true" } else { "false" }));
        if again {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }

    /// The same as bytes, for a connection that gets nothing else.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let body = self.body();
        format!(
            "HTTP/1.1 {} {}\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{body}",
            self.status.as_u16(),
            self.status.canonical_reason().unwrap_or("Error"),
            body.len()
        )
        .into_bytes()
    }
}
