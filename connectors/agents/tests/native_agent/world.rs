//! What a step needs around it: models that answer by a script, and a service that tools call.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use omium_agents::mock::{Script, Server, serve};
use omium_agents::native::{
    Failure, Grants, NativeTask, Outcome, PrivateHost, Programs, Secrets, Upstream, perform,
};
use omium_schemas::TraceContext;
use omium_telemetry::{Work, span_of};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::record::Record;

pub(crate) async fn models(rules: &str) -> Server {
    let script = Script::parse(&format!("rules:\n{rules}")).unwrap_or_else(|problems| panic!("{problems}"));
    serve(script, TcpListener::bind("127.0.0.1:0").await.unwrap()).await.unwrap()
}

/// A step of the agent `clerk`.
pub(crate) fn task(models: &Server, definition: Value, tools: Value) -> NativeTask {
    let input = json!({"amount": 700});
    NativeTask {
        agent: "clerk".to_owned(),
        caller: "clerk#0".to_owned(),
        definition,
        tools: serde_json::from_value::<BTreeMap<String, Value>>(tools).unwrap(),
        scope: json!({"inputs": input, "input": input, "outputs": {"before": {"mood": "fine"}}}),
        input,
        output_schema: None,
        upstream: Upstream {
            base_url: models.url(),
            key: Some("key-of-the-step".to_owned()),
            headers: vec![],
        },
        effect_key: "ex_1 step_1 branch_0".to_owned(),
        deadline: Duration::from_secs(20),
        grants: granted(),
    }
}

/// What `omium dev` grants, and one secret.
pub(crate) fn granted() -> Grants {
    Grants {
        programs: Programs::Any,
        private: PrivateHost::loopback(),
        secrets: Secrets::new(|name| (name == "TOKEN").then(|| "s3cr3t/value".to_owned())),
    }
}

pub(crate) async fn run(task: &NativeTask, record: &Record) -> Outcome {
    perform(task.clone(), record, &reqwest::Client::new()).await
}

/// The trace of [`in_a_trace`], as a header.
pub(crate) const PARENT: &str = "00-07070707070707070707070707070707-0202020202020202-01";

/// A step that belongs to somebody's trace, on a node that records none itself.
pub(crate) fn in_a_trace() -> Work {
    let trace = TraceContext { trace: [7; 16], span: [2; 8], flags: 1 };
    Work::of(Some(&span_of(&trace)), "step", Vec::new())
}

#[track_caller]
pub(crate) fn output(outcome: Outcome) -> Value {
    match outcome {
        Outcome::Completed { output, .. } => output,
        other => panic!("not completed: {other:?}"),
    }
}

#[track_caller]
pub(crate) fn failure(outcome: Outcome) -> Failure {
    match outcome {
        Outcome::Failed(failure) => failure,
        other => panic!("not failed: {other:?}"),
    }
}

/// One request to the service.
#[derive(Clone, Debug)]
pub(crate) struct Hit {
    pub(crate) line: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

/// A service on loopback that remembers what it was asked.
pub(crate) struct Service {
    pub(crate) url: String,
    pub(crate) port: u16,
    hits: Arc<Mutex<Vec<Hit>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Service {
    pub(crate) async fn start() -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let hits = Arc::new(Mutex::new(Vec::new()));
        let router = axum::Router::new().fallback(answer).with_state(hits.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Service { url: format!("http://127.0.0.1:{port}"), port, hits, task }
    }

    pub(crate) fn hits(&self) -> Vec<Hit> {
        self.hits.lock().unwrap().clone()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(hits): State<Arc<Mutex<Vec<Hit>>>>, request: Request) -> axum::response::Response {
    use axum::response::{IntoResponse, Redirect};
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let body = String::from_utf8_lossy(&body).into_owned();
    let line = format!("{} {}", parts.method, parts.uri);
    hits.lock().unwrap().push(Hit { line, headers: parts.headers.clone(), body: body.clone() });
    let query = parts.uri.query().unwrap_or_default().to_owned();
    match parts.uri.path() {
        "/rate" => axum::Json(json!({"rate": 5.2, "for": query})).into_response(),
        "/book" => axum::Json(json!({"booked": true})).into_response(),
        "/echo" => format!("{:?} {body}", parts.headers.get("authorization")).into_response(),
        "/moved" => Redirect::temporary(&query).into_response(),
        "/long" => "x".repeat(5_000).into_response(),
        "/gone" => (axum::http::StatusCode::GONE, "it is gone").into_response(),
        "/gateway" => (axum::http::StatusCode::BAD_GATEWAY, "lost").into_response(),
        "/hang" => std::future::pending().await,
        _ => axum::http::StatusCode::NOT_FOUND.into_response(),
    }
}
