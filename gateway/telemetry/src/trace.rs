//! The trace that a request belongs to: taken from the caller, current while the request is worked on, and handed on to
//! whoever is asked next. Spans are named by routes and by kinds of work.

use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{MatchedPath, Request};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::Response;
use omium_schemas::TraceContext;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{
    FutureExt as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId,
    TraceState, Tracer as _,
};
use opentelemetry::{Context, KeyValue, global};
use opentelemetry_http::{HeaderExtractor, HeaderInjector};
use opentelemetry_sdk::propagation::TraceContextPropagator;

/// The longest `tracestate` that is handed on: what the standard asks of everybody.
const TRACE_STATE: usize = 512;
/// Routes that are asked every few seconds, whose spans nobody looks for.
const PROBES: [&str; 3] = ["/health", "/ready", "/metrics"];

/// What marks the span of a request with a good key, until it is sent: others are not kept.
pub(crate) const KNOWN: &str = "omium.known";

/// The methods that a span may name. Others are whatever a stranger says, and may be any number.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// Where a span says how a request was answered.
pub(crate) const STATUS: &str = "http.response.status_code";

/// Whether spans are recorded here.
static RECORDS: AtomicBool = AtomicBool::new(false);

pub(crate) fn record() {
    RECORDS.store(true, Ordering::Relaxed);
}

fn records() -> bool {
    RECORDS.load(Ordering::Relaxed)
}

/// The trace that headers tell of.
fn told(headers: &HeaderMap) -> Option<Context> {
    headers.get("traceparent")?;
    let is_long = headers.get("tracestate").is_some_and(|state| state.len() > TRACE_STATE);
    let parent = if is_long {
        let mut headers = headers.clone();
        headers.remove("tracestate");
        TraceContextPropagator::new().extract_with_context(&Context::new(), &HeaderExtractor(&headers))
    } else {
        TraceContextPropagator::new().extract_with_context(&Context::new(), &HeaderExtractor(headers))
    };
    parent.span().span_context().is_valid().then_some(parent)
}

/// Takes a request's trace, and makes it current until there is an answer. Where spans are recorded it has one, named
/// by its route: paths and headers hold ids and tokens.
pub async fn in_request(request: Request, next: Next) -> Response {
    let parent = told(request.headers());
    if parent.is_none() && !records() {
        return next.run(request).await;
    }
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    if parent.is_none() && route.as_deref().is_some_and(|route| PROBES.contains(&route)) {
        return next.run(request).await;
    }
    let parent = parent.unwrap_or_default();
    let method = METHODS.into_iter().find(|method| *method == request.method().as_str());
    // What is not on the list is called so by OpenTelemetry's conventions.
    let (verb, method) = (method.unwrap_or("HTTP"), method.unwrap_or("_OTHER"));
    let name = match &route {
        Some(route) => format!("{verb} {route}"),
        None => verb.to_owned(),
    };
    let mut labels = vec![KeyValue::new("http.request.method", method)];
    labels.extend(route.map(|route| KeyValue::new("http.route", route)));
    let work = Work::below(&parent, name, SpanKind::Server, labels);
    let response = next.run(request).with_context(work.context()).await;
    work.note(KeyValue::new(STATUS, i64::from(response.status().as_u16())));
    if response.status().is_server_error() {
        work.failed("the node could not do it");
    }
    response
}

/// The current request has a good key: its span is kept.
pub fn caller_is_known() {
    Context::map_current(|current| current.span().set_attribute(KeyValue::new(KNOWN, true)));
}

/// The trace of what is worked on now, to be kept with it; nothing where it belongs to none.
pub fn carried() -> Option<SpanContext> {
    Context::map_current(|current| Some(current.span().span_context().clone()).filter(SpanContext::is_valid))
}

/// A trace as the log keeps it.
pub fn span_of(trace: &TraceContext) -> SpanContext {
    let flags = TraceFlags::new(trace.flags);
    let (id, span) = (TraceId::from_bytes(trace.trace), SpanId::from_bytes(trace.span));
    SpanContext::new(id, span, flags, true, TraceState::NONE)
}

/// A trace as headers tell it: `traceparent` and, where it is not empty, `tracestate`.
pub fn traceparent(span: &SpanContext) -> (String, Option<String>) {
    let (trace, id) = (span.trace_id(), span.span_id());
    let sampled = span.trace_flags() & TraceFlags::SAMPLED;
    let state = span.trace_state().header();
    (format!("00-{trace}-{id}-{:02x}", sampled.to_u8()), (!state.is_empty()).then_some(state))
}

/// A piece of work that belongs to a trace, as long as this lives. Where no trace is current and none is recorded it
/// costs nothing.
#[derive(Debug, Default)]
pub struct Work(Option<Context>);

impl Work {
    /// A call of somebody else, as a part of what is worked on now.
    pub fn call(name: &'static str) -> Work {
        let current = Context::current();
        if !current.span().span_context().is_valid() && !records() {
            return Work(None);
        }
        Work::below(&current, name.to_owned(), SpanKind::Client, Vec::new())
    }

    /// Work that goes on after a request has been answered: a part of the trace that was kept with it.
    pub fn of(kept: Option<&SpanContext>, name: &'static str, labels: Vec<KeyValue>) -> Work {
        let parent = match kept {
            Some(kept) => Context::new().with_remote_span_context(kept.clone()),
            None if !records() => return Work(None),
            None => Context::new(),
        };
        Work::below(&parent, name.to_owned(), SpanKind::Internal, labels)
    }

    fn below(parent: &Context, name: String, kind: SpanKind, labels: Vec<KeyValue>) -> Work {
        let tracer = global::tracer("omium");
        let span = tracer.span_builder(name).with_kind(kind).with_attributes(labels);
        let span = span.start_with_context(&tracer, parent);
        Work(Some(parent.with_span(span)))
    }

    /// Does something as a part of this work.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        match &self.0 {
            Some(context) => work.with_context(context.clone()).await,
            None => work.await,
        }
    }

    /// Tells whoever is asked which trace this belongs to, unless the headers say it already.
    pub fn hand_on(&self, headers: &mut HeaderMap) {
        if let Some(context) = &self.0
            && !headers.contains_key("traceparent")
        {
            TraceContextPropagator::new().inject_context(context, &mut HeaderInjector(headers));
        }
    }

    /// What whoever is asked is told, where no headers go along: `traceparent` and `tracestate`.
    pub fn told(&self) -> Option<(String, Option<String>)> {
        let span = self.0.as_ref()?.span().span_context().clone();
        span.is_valid().then(|| traceparent(&span))
    }

    /// Says something about it: a number, or a word of a fixed list.
    pub fn note(&self, label: KeyValue) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(label);
        }
    }

    /// Says that it failed, in words that hold nothing of what it was about.
    pub fn failed(&self, why: &'static str) {
        if let Some(context) = &self.0 {
            context.span().set_status(Status::error(why));
        }
    }

    fn context(&self) -> Context {
        self.0.clone().unwrap_or_default()
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // Others may still hold the context: what they begin is below it all the same.
        if let Some(context) = &self.0 {
            context.span().end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[tokio::test]
    async fn without_a_recorder_a_trace_is_handed_on_as_it_came() {
        let parent = told(&headers(&[("traceparent", PARENT), ("tracestate", "a=1")])).unwrap();
        let work = Work::below(&parent, "request".to_owned(), SpanKind::Server, Vec::new());
        let on = work
            .during(async {
                tokio::task::yield_now().await;
                let mut on = HeaderMap::new();
                Work::call("llm").hand_on(&mut on);
                assert_eq!(traceparent(&carried().unwrap()), (PARENT.to_owned(), Some("a=1".to_owned())));
                on
            })
            .await;
        assert_eq!(on["traceparent"], PARENT);
        assert_eq!(on["tracestate"], "a=1");
        let mut none = HeaderMap::new();
        Work::call("llm").hand_on(&mut none);
        assert!(none.is_empty() && carried().is_none(), "nothing is current any more");
    }

    #[test]
    fn what_is_no_trace_is_none_and_a_long_state_is_left_out() {
        for bad in ["", "00-0-0-00", "00-00000000000000000000000000000000-b7ad6b7169203331-01", "ff-x"] {
            assert!(told(&headers(&[("traceparent", bad)])).is_none(), "{bad}");
        }
        let long = format!("a={}", "x".repeat(250));
        let long = [long.as_str(), &long.replace('a', "b"), &long.replace('a', "c")].join(",");
        let parent = told(&headers(&[("traceparent", PARENT), ("tracestate", &long)])).unwrap();
        assert_eq!(traceparent(parent.span().span_context()), (PARENT.to_owned(), None));
    }
}
