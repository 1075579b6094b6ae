//! A node that is followed: what its receiver gets, what others are told of a caller's trace, and bad receivers.
#![allow(clippy::unwrap_used, reason = "tests")]

mod desk;
mod gate;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use desk::Dev;
use gate::{Program, Upstream, post, says};
use omium_api::proto::worker_item::Kind as Say;
use omium_api::proto::workers_client::WorkersClient;
use omium_api::proto::{Perform, Register, WorkerItem, WorkerMessage, engine_item};
use omium_telemetry::{Kind, LABELS, METRICS};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric::Data, number_data_point::Value as Number};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};
use prost::Message as _;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const NATIVE: &str = "
name: asks
agents: [{id: a, framework: native, prompt: 'what nobody else may read'}]
";
const WORKED: &str = "
name: worked
agents: [{id: a, framework: program}]
";
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A receiver of OTLP over HTTP.
#[derive(Clone)]
struct Receiver {
    url: String,
    got: Arc<watch::Sender<Got>>,
}

#[derive(Clone, Default)]
struct Got {
    spans: Vec<Span>,
    metrics: Vec<Metric>,
    resource: Vec<KeyValue>,
    keys: BTreeSet<String>,
}

impl Receiver {
    async fn start() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let receiver = Receiver { url, got: Arc::new(watch::Sender::new(Got::default())) };
        let router = Router::new().fallback(take).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        receiver
    }

    /// What it has got as soon as that is enough.
    async fn until(&self, enough: impl Fn(&Got) -> bool) -> Got {
        let mut got = self.got.subscribe();
        let enough = tokio::time::timeout(PATIENCE, got.wait_for(|got| enough(got))).await;
        let got = enough.map(|got| got.unwrap().clone());
        got.unwrap_or_else(|_| {
            let got = self.got.borrow();
            let spans: Vec<_> = got.spans.iter().map(|span| &span.name).collect();
            let metrics: BTreeSet<_> = got.metrics.iter().map(|metric| &metric.name).collect();
            panic!("it did not get what it waits for, but {spans:?} and {metrics:?}")
        })
    }
}

async fn take(State(receiver): State<Receiver>, uri: Uri, headers: HeaderMap, body: Bytes) {
    receiver.got.send_modify(|got| {
        got.keys.insert(headers["authorization"].to_str().unwrap().to_owned());
        match uri.path() {
            "/v1/traces" => {
                for resource in ExportTraceServiceRequest::decode(body).unwrap().resource_spans {
                    got.resource = resource.resource.unwrap().attributes;
                    got.spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
                }
            }
            "/v1/metrics" => {
                for resource in ExportMetricsServiceRequest::decode(body).unwrap().resource_metrics {
                    got.metrics.extend(resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics));
                }
            }
            other => panic!("nothing is sent to {other}"),
        }
    });
}

/// A node that exports to this address, and takes its models from this one.
async fn followed(receiver: &str, upstream: &str, more: &[(&'static str, &'static str)]) -> Dev {
    let (receiver, upstream, more) = (receiver.to_owned(), upstream.to_owned(), more.to_vec());
    let start = move || {
        let environment = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.as_str()),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20of-the-receiver"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "200"),
            ("OTEL_SERVICE_NAME", "node-7"),
        ];
        Dev::start_granting(
            &["dev", "--upstream", &upstream],
            "",
            &environment.into_iter().chain(more).collect::<Vec<_>>(),
        )
    };
    tokio::task::spawn_blocking(start).await.unwrap()
}

/// Publishes a workflow and starts it in the caller's trace.
async fn start(dev: &Dev, text: &str, name: &str) -> String {
    let file = dev.data.path().join(format!("{name}.yaml"));
    std::fs::write(&file, text).unwrap();
    dev.says(&["workflows", "publish", file.to_str().unwrap()]);
    let (url, key) = dev.address();
    let request = reqwest::Client::new().post(format!("{url}/api/v1/executions")).bearer_auth(key);
    let request = request.header("traceparent", PARENT).header("content-type", "application/json");
    let body = json!({ "workflow": name, "inputs": {} });
    let response = request.body(body.to_string()).send().await.unwrap();
    let started: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    started["id"].as_str().unwrap().to_owned()
}

fn of<'g>(got: &'g Got, name: &str) -> Vec<&'g Span> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    got.spans.iter().filter(|span| span.name == name && hex(&span.trace_id) == TRACE).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_trace_is_followed_through_the_node_to_the_model() {
    let (receiver, upstream) = (Receiver::start().await, Upstream::start(|_| says("an answer")).await);
    let dev = followed(&receiver.url, &upstream.url, &[]).await;
    let id = start(&dev, NATIVE, "asks").await;
    dev.says(&["logs", "--follow", &id]);
    let sent = upstream.headers(0)["traceparent"].to_str().unwrap().to_owned();
    assert!(sent.contains(TRACE) && sent != PARENT, "the model's caller is the node: {sent}");
    // A program's own trace goes through the gate with all that belongs to it.
    let program = Program::open(&dev, "off").await;
    let body = r#"{"model":"m","messages":[{"role":"user","content":"a question of nobody else"}]}"#;
    let request = program.client.post(format!("{}/v1/chat/completions", program.base));
    let request = request.header("traceparent", PARENT).header("tracestate", "vendor=1");
    assert_eq!(request.body(body).send().await.unwrap().status(), 200);
    assert!(upstream.headers(1)["traceparent"].to_str().unwrap().contains(TRACE));
    assert_eq!(upstream.headers(1)["tracestate"], "vendor=1");

    let got =
        receiver.until(|got| of(got, "omium.llm").len() == 2 && !of(got, "omium.step").is_empty()).await;
    let start = of(&got, "POST /api/v1/executions")[0];
    assert_eq!(start.parent_span_id, [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31]);
    let commands = of(&got, "omium.command");
    assert!(commands.iter().any(|command| command.parent_span_id == start.span_id));
    let step = of(&got, "omium.step")[0];
    assert_eq!(step.parent_span_id, start.span_id);
    let through = of(&got, "POST /x/{execution}/{token}/v1/{*path}")[0];
    let below: BTreeSet<_> = of(&got, "omium.llm").iter().map(|span| span.parent_span_id.clone()).collect();
    assert_eq!(below, BTreeSet::from([step.span_id.clone(), through.span_id.clone()]));
    assert!(format!("{:?}", got.resource).contains("node-7"));
    assert_eq!(got.keys, BTreeSet::from(["Bearer of-the-receiver".to_owned()]));
    let all = format!("{:?}", got.spans);
    let (_, key) = dev.address();
    for hidden in [&id, &program.id, &program.token, &key, "nobody else", "an answer"] {
        assert!(!all.contains(hidden), "{hidden} is in a span");
    }
}

/// What a metric was when it was last sent; less than nothing where it was not.
fn number(got: &Got, name: &str) -> f64 {
    let value = |value: Option<Number>| match value {
        Some(Number::AsInt(value)) => value as f64,
        Some(Number::AsDouble(value)) => value,
        None => 0.0,
    };
    let points = |metric: &Metric| match metric.data.clone() {
        Some(Data::Sum(sum)) => sum.data_points.iter().map(|point| value(point.value)).sum::<f64>(),
        Some(Data::Gauge(gauge)) => gauge.data_points.iter().map(|point| value(point.value)).sum::<f64>(),
        Some(Data::Histogram(histogram)) => {
            histogram.data_points.iter().map(|point| point.count as f64).sum::<f64>()
        }
        _ => 0.0,
    };
    got.metrics.iter().filter(|metric| metric.name == name).map(points).next_back().unwrap_or(-1.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_of_the_list_is_moved_by_what_it_measures() {
    let (receiver, upstream) = (Receiver::start().await, Upstream::start(|_| says("an answer")).await);
    let dev = followed(&receiver.url, &upstream.url, &[("OTEL_TRACES_EXPORTER", "none")]).await;
    dev.says(&["prices", "set", "m", "--input", "100", "--output", "100"]);
    let id = start(&dev, NATIVE, "asks").await;
    dev.says(&["logs", "--follow", &id]);
    // It waits for a worker, and can be gone back in meanwhile.
    let waits = start(&dev, WORKED, "worked").await;
    let (status, taken) =
        post(&dev, &format!("/executions/{waits}/checkpoints"), json!({ "name": "here" })).await;
    assert!((200..300).contains(&status), "{taken}");
    dev.says(&["rollback", &waits, "here", "--cancel-running"]);
    // An answer that is never right: each remedy is tried.
    dev.says(&["guard", "add", "--agent", "a", "--rule", "size(output) > 100"]);
    let program = Program::open(&dev, "auto").await;
    program.asks("a", r#"{"model":"m","messages":[]}"#).await;
    let tool = json!({ "caller": "b", "tool": "t", "effect": "read", "arguments": {} });
    Program::open(&dev, "off").await.tool("/tools", tool).await;

    // A receiver that takes everything loses nothing, and nothing is let go of within a day.
    const REST: &[&str] =
        &["omium_telemetry_dropped_total", "omium_log_dropped_records_total", "omium_blobs_removed_total"];
    let moved = METRICS.iter().map(|metric| metric.name).filter(|name| !REST.contains(name));
    let moved: Vec<&str> = moved.collect();
    let got = receiver.until(|got| moved.iter().all(|name| number(got, name) > 0.0)).await;
    let sent: BTreeSet<&str> = got.metrics.iter().map(|metric| metric.name.as_str()).collect();
    assert_eq!(sent, METRICS.iter().map(|metric| metric.name).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_without_a_good_key_have_no_span() {
    let (receiver, upstream) = (Receiver::start().await, Upstream::start(|_| says("an answer")).await);
    let dev = followed(&receiver.url, &upstream.url, &[("OTEL_METRICS_EXPORTER", "none")]).await;
    let ((url, key), client) = (dev.address(), reqwest::Client::new());
    let brew = Method::from_bytes(b"BREW").unwrap();
    let grpc = "/omium.v1.Checkpoints/List";
    for (method, path) in [
        (Method::GET, "/api/v1/executions"),
        (Method::GET, "/nowhere"),
        (Method::DELETE, "/api/v1/executions"),
        (Method::GET, "/ready"),
        (Method::POST, "/x/ex_1/omx_1/tools"),
        (Method::POST, grpc),
        (brew.clone(), "/api/v1/executions"),
    ] {
        let request = client.request(method, format!("{url}{path}")).header("traceparent", PARENT);
        request.header("content-type", "application/grpc").send().await.unwrap();
    }
    let known = client.post(format!("{url}{grpc}")).bearer_auth(key);
    known.header("content-type", "application/grpc").send().await.unwrap();
    let program = Program::open(&dev, "off").await;
    program.client.request(brew, format!("{}/tools", program.base)).send().await.unwrap();
    // Spans are sent in the order in which they end: this one is the last.
    let last = "HTTP /x/{execution}/{token}/tools";
    let got = receiver.until(|got| got.spans.iter().any(|span| span.name == last)).await;
    let requests: Vec<&Span> = got.spans.iter().filter(|span| span.kind() == SpanKind::Server).collect();
    let names: Vec<&str> = requests.iter().map(|span| span.name.as_str()).collect();
    let expected = [
        "POST /omium.v1.Checkpoints/{method}",
        "POST /api/v1/programs",
        "POST /api/v1/executions/{id}/attempts",
        last,
    ];
    assert_eq!(names, expected);
    let all = format!("{requests:?}");
    assert!(all.contains("_OTHER") && !all.contains("BREW") && !all.contains("omium.known"), "{all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receiver_gets_the_metrics_of_the_list_and_their_labels_hold_nobodys_secrets() {
    let (receiver, upstream) = (Receiver::start().await, Upstream::start(|_| says("an answer")).await);
    let dev = followed(&receiver.url, &upstream.url, &[("OTEL_TRACES_EXPORTER", "none")]).await;
    dev.says(&["prices", "set", "m", "--input", "100", "--output", "100"]);
    let id = start(&dev, NATIVE, "asks").await;
    dev.says(&["logs", "--follow", &id]);
    let tool = json!({ "caller": "a", "tool": "t", "effect": "read", "arguments": {} });
    let program = Program::open(&dev, "off").await;
    assert_eq!(program.asks("a", r#"{"model":"m","messages":[]}"#).await.0, 200);
    assert_eq!(program.tool("/tools", tool).await.0, 200);

    let counted = |got: &Got| {
        [
            "omium_llm_call_duration_seconds",
            "omium_llm_cost_usd_total",
            "omium_llm_tokens_total",
            "omium_steps_total",
            "omium_tool_calls_total",
            "omium_executions_started_total",
            "omium_execution_duration_seconds",
            "omium_shell_stage_seconds",
        ]
        .iter()
        .all(|name| number(got, name) > 0.0)
    };
    let got = receiver.until(|got| counted(got) && number(got, "omium_failures_detected_total") == 0.0).await;
    assert!(got.spans.is_empty());
    for metric in &got.metrics {
        let listed = METRICS.iter().find(|listed| listed.name == metric.name);
        let listed = listed.unwrap_or_else(|| panic!("{} is not on the list", metric.name));
        assert_eq!(metric.description, listed.help);
        if let (Some(Data::Histogram(histogram)), Kind::Histogram(bounds)) = (&metric.data, listed.kind) {
            assert!(
                histogram.data_points.iter().all(|point| point.explicit_bounds == bounds),
                "{}",
                metric.name
            );
        }
        let labels: Vec<KeyValue> = match metric.data.clone().unwrap() {
            Data::Gauge(gauge) => gauge.data_points.into_iter().flat_map(|point| point.attributes).collect(),
            Data::Sum(sum) => sum.data_points.into_iter().flat_map(|point| point.attributes).collect(),
            Data::Histogram(all) => all.data_points.into_iter().flat_map(|point| point.attributes).collect(),
            other => panic!("{other:?} is none of ours"),
        };
        for label in labels {
            assert!(LABELS.contains(&label.key.as_str()) && listed.labels.contains(&label.key.as_str()));
            let value = format!("{:?}", label.value);
            assert!(!value.contains("ex_") && !value.contains(&program.token), "{value}");
        }
    }
    // Whoever scrapes is told the same.
    let text = reqwest::get(format!("{}/metrics", dev.address().0)).await.unwrap().text().await.unwrap();
    for metric in METRICS {
        assert!(text.contains(&format!("# HELP {} {}\n", metric.name, metric.help)), "{}", metric.name);
    }
    assert!(text.contains("omium_tool_calls_total{outcome=\"started\"} 1\n"), "{text}");
}

/// The next step that a worker gets.
async fn performed(dev: &Dev) -> Perform {
    let (url, key) = dev.address();
    let channel = tonic::transport::Channel::from_shared(url).unwrap().connect().await.unwrap();
    let (say, said) = mpsc::channel(4);
    let mut request = tonic::Request::new(ReceiverStream::new(said));
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    let register = Register {
        name: "w".into(),
        session: "s".into(),
        frameworks: vec!["program".into()],
        capacity: 1,
        ..Register::default()
    };
    let items = vec![WorkerItem { no: 1, kind: Some(Say::Register(register)) }];
    say.send(WorkerMessage { items }).await.unwrap();
    let mut told = WorkersClient::new(channel).work(request).await.unwrap().into_inner();
    loop {
        let message = tokio::time::timeout(PATIENCE, told.message()).await.unwrap().unwrap().unwrap();
        for item in message.items {
            if let Some(engine_item::Kind::Perform(step)) = item.kind {
                return step;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_told_its_executions_trace_also_by_a_node_that_starts_again_and_exports_nothing() {
    let mut dev = tokio::task::spawn_blocking(Dev::start).await.unwrap();
    start(&dev, WORKED, "worked").await;
    assert_eq!(performed(&dev).await.traceparent, PARENT);
    dev.kill_and_start();
    assert_eq!(performed(&dev).await.traceparent, PARENT, "the log says it");
}

/// A value of `/metrics`.
async fn scraped(dev: &Dev, series: &str) -> f64 {
    let text = reqwest::get(format!("{}/metrics", dev.address().0)).await.unwrap().text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(series)).unwrap();
    line.trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_gone_or_never_answers_is_counted_and_holds_nothing_up() {
    let upstream = Upstream::start(|_| says("an answer")).await;
    // It takes connections and says nothing; the other one is not there.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = gone.local_addr().unwrap();
    for receiver in [silent.local_addr().unwrap(), gone] {
        let short = ("OTEL_EXPORTER_OTLP_TIMEOUT", "100");
        let dev = followed(&format!("http://{receiver}"), &upstream.url, &[short]).await;
        let program = Program::open(&dev, "off").await;
        assert_eq!(program.asks("a", r#"{"model":"m","messages":[]}"#).await.0, 200);
        let deadline = Instant::now() + PATIENCE;
        for signal in ["spans", "metrics"] {
            let series = format!("omium_telemetry_dropped_total{{signal=\"{signal}\"}} ");
            while scraped(&dev, &series).await == 0.0 {
                assert!(Instant::now() < deadline, "what is lost is counted");
                post(&dev, "/programs", json!({ "name": "more" })).await;
            }
        }
        let said = dev.stderr();
        let lines = said.lines().filter(|line| line.contains("omium_telemetry_dropped_total")).count();
        assert_eq!(lines, 2, "one for each signal: {said}");
        assert!(!said.contains("of-the-receiver"), "no key in any line");
    }
    let dev = followed(&format!("http://{}", silent.local_addr().unwrap()), &upstream.url, &[]).await;
    Program::open(&dev, "off").await;
    let began = Instant::now();
    tokio::task::spawn_blocking(move || dev.left()).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(10), "the end waits for a few seconds at most");
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let data = tempfile::tempdir().unwrap();
    let at = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317");
    for (name, value) in [("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), ("OTEL_TRACES_SAMPLER", "xray")] {
        let words = ["serve", "--port", "0"];
        let refused = desk::omium_with(data.path(), &words, &[at, (name, value)]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains(name), "{said}");
    }
}
