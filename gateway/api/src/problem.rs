//! Errors as RFC 9457 problems: what failed, what is true now, what to do next.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use crate::port::{Failure, FailureKind};
use crate::views::ProblemView;

/// An error as callers see it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    hint: String,
    problems: Value,
}

impl Problem {
    /// An error that the engine was not even asked about.
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        detail: impl Into<String>,
        hint: impl Into<String>,
    ) -> Problem {
        Problem { status, code, detail: detail.into(), hint: hint.into(), problems: Value::Null }
    }
}

impl From<omium_edge::Refusal> for Problem {
    fn from(refusal: omium_edge::Refusal) -> Problem {
        Problem::new(refusal.status, refusal.code, refusal.detail, refusal.hint)
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Problem {
        let status = match failure.kind {
            FailureKind::NotFound => StatusCode::NOT_FOUND,
            FailureKind::Conflict => StatusCode::CONFLICT,
            FailureKind::Gone => StatusCode::GONE,
            FailureKind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            FailureKind::Exhausted => StatusCode::TOO_MANY_REQUESTS,
            FailureKind::Busy | FailureKind::Unknown => StatusCode::SERVICE_UNAVAILABLE,
            FailureKind::Full => StatusCode::INSUFFICIENT_STORAGE,
        };
        let Failure { code, detail, hint, problems, .. } = failure;
        Problem { status, code, detail, hint, problems }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = ProblemView {
            r#type: format!("https://omium.invalid/problems/{}", self.code),
            title: self.status.canonical_reason().unwrap_or("Error").to_owned(),
            status: self.status.as_u16(),
            code: self.code.to_owned(),
            detail: self.detail,
            hint: self.hint,
            problems: self.problems,
        };
        let mut response = (self.status, Json(body)).into_response();
        response.extensions_mut().insert(omium_edge::Code(self.code));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
