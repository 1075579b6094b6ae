//! The gRPC side: who calls, and errors as statuses. Its routes stand beside those of REST, on the same port.

mod checkpoints;

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use omium_edge::{Refusal, Slot};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

pub(crate) use self::checkpoints::Checkpoints;
use crate::port::{Caller, Engine, Failure, FailureKind, Role};

/// The protocol, made from `proto/omium/v1`.
#[allow(missing_docs, clippy::all, clippy::unwrap_used, unreachable_pub)]
pub mod proto {
    tonic::include_proto!("omium.v1");
}

/// The largest message that is taken: an output of 8 MiB and what stands around it, twice over.
pub(crate) const MAX_MESSAGE: usize = 32 << 20;

/// Who calls, where his role allows it.
pub(crate) async fn caller(
    engine: &Arc<dyn Engine>,
    metadata: &MetadataMap,
    least: Role,
) -> Result<Caller, Status> {
    let bearer = metadata.get("authorization").and_then(|value| value.to_str().ok());
    let Some(key) = bearer.and_then(|value| value.strip_prefix("Bearer ")) else {
        return Err(Status::unauthenticated("the call has no key; send `authorization: Bearer om_…`"));
    };
    let Some(caller) = engine.authenticate(key.trim()).await.map_err(status)? else {
        return Err(Status::unauthenticated(
            "the key is unknown, revoked or too old; ask an admin of the tenant for a new one",
        ));
    };
    if caller.role < least {
        let text = format!("a key of role {:?} may not do this; it takes {least:?}", caller.role);
        return Err(Status::permission_denied(text.to_lowercase()));
    }
    Ok(caller)
}

/// The largest message about checkpoints: ids and names.
pub(crate) const MAX_QUESTION: usize = 64 << 10;

/// Looks at the key before a message is read: what decodes messages does so before any of our code is asked.
pub(crate) async fn with_key(
    State(engine): State<Arc<dyn Engine>>,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    let metadata = MetadataMap::from_headers(request.headers().clone());
    match caller(&engine, &metadata, Role::Viewer).await {
        Ok(caller) => {
            omium_telemetry::caller_is_known();
            let slot = request.extensions().get::<Slot>();
            match slot.map_or(Ok(()), |slot| slot.belongs_to(caller.tenant)) {
                Ok(()) => next.run(request).await,
                Err(refusal) => {
                    let Refusal { code, detail, hint, .. } = refusal;
                    status(Failure::new(FailureKind::Busy, code, detail, hint)).into_http()
                }
            }
        }
        Err(status) => status.into_http(),
    }
}

/// A failure as gRPC tells it; code and hint go along as metadata.
pub(crate) fn status(failure: Failure) -> Status {
    let code = match failure.kind {
        FailureKind::NotFound | FailureKind::Gone => Code::NotFound,
        FailureKind::Conflict => Code::FailedPrecondition,
        FailureKind::Invalid => Code::InvalidArgument,
        FailureKind::Exhausted | FailureKind::Full => Code::ResourceExhausted,
        FailureKind::Busy | FailureKind::Unknown => Code::Unavailable,
    };
    let mut status = Status::new(code, format!("{}; {}", failure.detail, failure.hint));
    let metadata = status.metadata_mut();
    metadata.insert("omium-code", tonic::metadata::MetadataValue::from_static(failure.code));
    if let Ok(hint) = failure.hint.parse() {
        metadata.insert("omium-hint", hint);
    }
    status
}
