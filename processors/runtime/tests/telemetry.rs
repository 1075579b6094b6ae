//! What a node tells OpenTelemetry. The providers are global, so this is a program of its own.

use std::sync::Arc;

use omium_log::MemoryLog;
use omium_log::blobs::BlobDirectory;
use omium_processor::testkit::BankSuite;
use omium_runtime::{
    Answer, Config, Dispatch, Ended, MemoryVault, Node, NodeParts, Request, StreamKey, World,
};
use omium_schemas::catalogue::TopUpAccount;
use omium_schemas::{Money, Partition, StreamId, TenantId, TraceContext};
use omium_store::MemoryStore;
use opentelemetry::global;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};

struct Nobody;

impl World for Nobody {
    fn dispatch(&self, _: Dispatch) {}

    fn ended(&self, _: Partition, _: Ended) {}
}

async fn node(blobs: &std::path::Path) -> Node<BankSuite> {
    let parts = NodeParts {
        log: Arc::new(MemoryLog::new(1).expect("a thread")),
        store: Arc::new(MemoryStore::default()),
        blobs: Arc::new(BlobDirectory::open(blobs.join("blobs")).expect("a directory")),
        vault: Arc::new(MemoryVault::new([1; 32])),
        world: Arc::new(Nobody),
        config: Config { partitions: 1, ..Config::default() },
        under_way: None,
    };
    Node::open(parts).await.expect("a node")
}

fn request(flags: u8, span: u8) -> Request {
    let key = StreamKey::new(TenantId([1; 16]), StreamId::account());
    let trace = Some(TraceContext { trace: [7; 16], span: [span; 8], flags });
    Request { trace, ..Request::new(key, TopUpAccount { amount: Money::dollars(1) }) }
}

#[tokio::test]
async fn sampled_commands_have_a_span_below_their_callers_and_stages_have_metrics() {
    let spans = InMemorySpanExporter::default();
    global::set_tracer_provider(SdkTracerProvider::builder().with_simple_exporter(spans.clone()).build());
    let metrics = InMemoryMetricExporter::default();
    let meters =
        SdkMeterProvider::builder().with_reader(PeriodicReader::builder(metrics.clone()).build()).build();
    global::set_meter_provider(meters.clone());

    let dir = tempfile::tempdir().expect("a temporary directory");
    let node = node(dir.path()).await;
    for (flags, span) in [(1, 2), (0, 3)] {
        assert!(matches!(node.submit(request(flags, span)).await, Answer::Done(_)));
    }
    node.stop().await.expect("a store in memory");

    let spans = spans.get_finished_spans().expect("spans");
    assert_eq!(spans.len(), 1, "a span that nobody samples costs nothing");
    assert_eq!(spans[0].name, "omium.command");
    assert_eq!(spans[0].span_context.trace_id().to_bytes(), [7; 16]);
    assert_eq!(spans[0].parent_span_id.to_bytes(), [2; 8]);

    meters.force_flush().expect("an exporter in memory");
    let exported = metrics.get_finished_metrics().expect("metrics");
    let mut stages = Vec::new();
    let mut decided = 0;
    for metric in exported.iter().flat_map(|all| all.scope_metrics()).flat_map(|scope| scope.metrics()) {
        match (metric.name(), metric.data()) {
            ("omium_shell_stage_seconds", AggregatedMetrics::F64(MetricData::Histogram(histogram))) => {
                for point in histogram.data_points() {
                    let stage = point.attributes().find(|attribute| attribute.key.as_str() == "stage");
                    stages.push((stage.expect("a stage").value.to_string(), point.count()));
                }
            }
            ("omium_shell_commands_total", AggregatedMetrics::U64(MetricData::Sum(sum))) => {
                decided = sum.data_points().map(|point| point.value()).sum();
            }
            _ => {}
        }
    }
    for wanted in ["append", "flush", "fold"] {
        assert!(stages.iter().any(|(stage, count)| stage == wanted && *count > 0), "{wanted}: {stages:?}");
    }
    // The two, and the node's own that open the partition's book and teach the log its schemas.
    assert!(decided >= 4, "{decided}");
}
